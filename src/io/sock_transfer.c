/* Receiving and sending: one attempt of each call, without blocking. */
#include "io/received.h"
#include "io/sock_calls.h"

#include <errno.h>

#ifdef MSG_NOSIGNAL
#  define SEND_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL)
#else
#  define SEND_FLAGS MSG_DONTWAIT
#endif

/* Up to this many bytes are asked for with a bytes object of that size, which is
   then shrunk; more go through the loop's buffer, unless even that is small. */
#define DIRECT_SIZE 4096

/* --- receiving ------------------------------------------------------------------- */

/* Receive up to op->size bytes as a bytes object, and from whom if asked. */
static int
receive(FLSockOp *op, int fd, struct fl_sockaddr *from, PyObject **result)
{
    PyObject *bytes = NULL;
    struct fl_io *io = fl_io_of(op->loop);
    char *buffer = NULL;
    if (io == NULL) {
        return -1;
    }
    if (op->size > DIRECT_SIZE && op->size <= FL_SCRATCH_SIZE) {
        buffer = fl_io_scratch(op->loop);
    }
    if (buffer == NULL) {
        bytes = PyBytes_FromStringAndSize(NULL, op->size);
        if (bytes == NULL) {
            return -1;
        }
        buffer = PyBytes_AS_STRING(bytes);
    }
    ssize_t n;
    if (from == NULL) {
        n = recv(fd, buffer, (size_t)op->size, MSG_DONTWAIT);
    }
    else {
        from->size = sizeof(from->u);
        n = recvfrom(fd, buffer, (size_t)op->size, MSG_DONTWAIT, &from->u.any,
                     &from->size);
    }
    if (n < 0) {
        Py_XDECREF(bytes);
        return fl_sock_failed();
    }
    if (bytes == NULL) {
        bytes = fl_received_bytes(op->loop, buffer, (size_t)n);
    }
    else {
        _PyBytes_Resize(&bytes, n); /* leaves NULL on failure */
    }
    *result = bytes;
    return bytes == NULL ? -1 : 1;
}

int
fl_sock_try_recv(FLSockOp *op, int fd, PyObject **result)
{
    if (op->by_method) {
        return fl_sock_call_method(op, op->loop->st->str.recv, op->args[0],
                                   NULL, NULL, result);
    }
    if (op->size == 0) {
        *result = PyBytes_FromStringAndSize(NULL, 0);
        return *result == NULL ? -1 : 1;
    }
    return receive(op, fd, NULL, result);
}

int
fl_sock_try_recvfrom(FLSockOp *op, int fd, PyObject **result)
{
    if (op->by_method) {
        return fl_sock_call_method(op, op->loop->st->str.recvfrom, op->args[0],
                                   NULL, NULL, result);
    }
    struct fl_sockaddr from;
    PyObject *bytes = NULL;
    int done = receive(op, fd, &from, &bytes);
    return done > 0 ? fl_sock_with_address(op, bytes, &from, result) : done;
}

/* The buffer to receive into; false, with no exception, if the method has to say
   what is wrong with it. */
static bool
writable_buffer(FLSockOp *op, Py_buffer *view)
{
    if (PyObject_GetBuffer(op->args[0], view, PyBUF_WRITABLE) < 0) {
        PyErr_Clear();
        return false;
    }
    return true;
}

int
fl_sock_try_recv_into(FLSockOp *op, int fd, PyObject **result)
{
    Py_buffer view;
    if (op->by_method || !writable_buffer(op, &view)) {
        return fl_sock_call_method(op, op->loop->st->str.recv_into,
                                   op->args[0], NULL, NULL, result);
    }
    ssize_t n = 0;
    if (view.len > 0) {
        n = recv(fd, view.buf, (size_t)view.len, MSG_DONTWAIT);
    }
    int error = errno;
    PyBuffer_Release(&view);
    if (n < 0) {
        errno = error;
        return fl_sock_failed();
    }
    *result = PyLong_FromSsize_t(n);
    return *result == NULL ? -1 : 1;
}

int
fl_sock_try_recvfrom_into(FLSockOp *op, int fd, PyObject **result)
{
    Py_buffer view = {0};
    bool plain = !op->by_method && writable_buffer(op, &view);
    if (!plain || op->size > view.len) {
        if (plain) {
            PyBuffer_Release(&view);
        }
        return fl_sock_call_method(op, op->loop->st->str.recvfrom_into,
                                   op->args[0], op->args[1], NULL, result);
    }
    struct fl_sockaddr from = {.size = sizeof(from.u)};
    ssize_t n = recvfrom(fd, view.buf, (size_t)op->size, MSG_DONTWAIT,
                         &from.u.any, &from.size);
    int error = errno;
    PyBuffer_Release(&view);
    if (n < 0) {
        errno = error;
        return fl_sock_failed();
    }
    if (fl_io_of(op->loop) == NULL) {
        return -1;
    }
    return fl_sock_with_address(op, PyLong_FromSsize_t(n), &from, result);
}

/* --- sending --------------------------------------------------------------------- */

/* The first attempt has not sent all: keep the data, which must not be resized
   meanwhile. */
static int
hold_data(FLSockOp *op)
{
    return op->data.obj != NULL
               ? 0
               : PyObject_GetBuffer(op->args[0], &op->data, PyBUF_SIMPLE);
}

/* How much of the data the socket's method took: 1, or as fl_sock_call_method(). */
static int
send_by_method(FLSockOp *op, Py_buffer *view, size_t *sent)
{
    PyObject *rest = op->args[0];
    if (op->sent > 0 || op->waited) {
        PyObject *whole = PyMemoryView_FromObject(op->args[0]);
        PyObject *flat = whole == NULL
                             ? NULL
                             : PyObject_CallMethod(whole, "cast", "s", "B");
        Py_XDECREF(whole);
        rest = flat == NULL ? NULL
                            : PySequence_GetSlice(flat, (Py_ssize_t)op->sent,
                                                  view->len);
        Py_XDECREF(flat);
        if (rest == NULL) {
            return -1;
        }
    }
    else {
        Py_INCREF(rest);
    }
    PyObject *count;
    int done = fl_sock_call_method(op, op->loop->st->str.send, rest, NULL,
                                   NULL, &count);
    Py_DECREF(rest);
    if (done <= 0) {
        return done;
    }
    Py_ssize_t n = PyNumber_AsSsize_t(count, PyExc_OverflowError);
    Py_DECREF(count);
    if (n < 0 && PyErr_Occurred()) {
        return -1;
    }
    *sent = n < 0 ? 0 : (size_t)n;
    return 1;
}

static int
send_rest(FLSockOp *op, int fd, Py_buffer *view, size_t *sent)
{
    if (op->by_method) {
        return send_by_method(op, view, sent);
    }
    ssize_t n = send(fd, (char *)view->buf + op->sent,
                     (size_t)view->len - op->sent, SEND_FLAGS);
    if (n < 0) {
        return fl_sock_failed();
    }
    *sent = (size_t)n;
    return 1;
}

int
fl_sock_try_sendall(FLSockOp *op, int fd, PyObject **result)
{
    Py_buffer own = {0};
    Py_buffer *view = &op->data;
    if (op->data.obj == NULL) {
        view = &own;
        if (PyObject_GetBuffer(op->args[0], view, PyBUF_SIMPLE) < 0) {
            return -1;
        }
    }
    size_t sent = 0;
    int done = send_rest(op, fd, view, &sent);
    op->sent += sent;
    bool all = done > 0 && op->sent >= (size_t)view->len;
    if (done >= 0 && !all && hold_data(op) < 0) {
        done = -1;
    }
    if (view == &own) {
        PyBuffer_Release(&own);
    }
    if (done < 0 || !all) {
        return done < 0 ? -1 : 0;
    }
    *result = Py_NewRef(Py_None);
    return 1;
}

int
fl_sock_try_sendto(FLSockOp *op, int fd, PyObject **result)
{
    fl_state *st = op->loop->st;
    struct fl_io *io = fl_io_of(op->loop);
    struct fl_sockaddr to;
    Py_buffer view;
    if (io == NULL) {
        return -1;
    }
    if (op->by_method
        || !fl_sockaddr_from_python(io, op->family, op->args[1], &to)) {
        return fl_sock_call_method(op, st->str.sendto, op->args[0],
                                   op->args[1], NULL, result);
    }
    if (PySys_Audit("socket.sendto", "OO", op->sock, op->args[1]) < 0
        || PyObject_GetBuffer(op->args[0], &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    ssize_t n =
        sendto(fd, view.buf, (size_t)view.len, SEND_FLAGS, &to.u.any, to.size);
    int error = errno;
    PyBuffer_Release(&view);
    if (n < 0) {
        errno = error;
        return fl_sock_failed();
    }
    *result = PyLong_FromSsize_t(n);
    return *result == NULL ? -1 : 1;
}
