/* The calls behind SockOp: one attempt each, never blocking.

   For a plain socket.socket the kernel is called at once.  A subclass may have
   methods of its own, and arguments that are not the plain ones have errors of
   their own: then the socket's method is called, as asyncio does, and
   BlockingIOError means that it would block.

   MSG_DONTWAIT makes a socket that was left blocking wait in the loop, too. */
#include "base/errors.h"
#include "io/sock_calls.h"
#include "io/sockaddr.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

/* --- what the calls share -------------------------------------------------------- */

int
fl_sock_fileno(FLSockOp *op)
{
    fl_state *st = op->loop->st;
    PyObject *number = PyObject_CallMethodNoArgs(op->sock, st->str.fileno);
    if (number == NULL) {
        return -1;
    }
    long fd = PyLong_AsLong(number);
    Py_DECREF(number);
    return fd < -1 || fd > INT_MAX ? -1 : (int)fd;
}

int
fl_sock_failed(void)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) {
        return 0;
    }
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

/* The method has raised: 0 if it would block, else -1. */
static int
method_failed(void)
{
    if (PyErr_ExceptionMatches(PyExc_BlockingIOError)
        || PyErr_ExceptionMatches(PyExc_InterruptedError)) {
        PyErr_Clear();
        return 0;
    }
    return -1;
}

int
fl_sock_call_method(FLSockOp *op, PyObject *name, PyObject *first,
                    PyObject *second, PyObject *third, PyObject **result)
{
    PyObject *sock = Py_NewRef(op->sock);
    PyObject *stack[] = {NULL, sock, first, second, third};
    size_t n = 1u + (first != NULL) + (second != NULL) + (third != NULL);
    *result = PyObject_VectorcallMethod(
        name, stack + 1, n | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(sock);
    return *result == NULL ? method_failed() : 1;
}

int
fl_sock_with_address(FLSockOp *op, FL_STEALS(2) PyObject *first,
                     const struct fl_sockaddr *from, PyObject **result)
{
    PyObject *address = fl_sockaddr_remembered(op->loop->io, from);
    *result = first == NULL || address == NULL
                  ? NULL
                  : PyTuple_Pack(2, first, address);
    Py_XDECREF(address);
    Py_XDECREF(first);
    return *result == NULL ? -1 : 1;
}

/* --- preparing ------------------------------------------------------------------- */

static FL_COLD int
check_blocking(FLSockOp *op)
{
    fl_state *st = op->loop->st;
    PyObject *timeout =
        PyObject_CallMethodNoArgs(op->sock, st->str.gettimeout);
    if (timeout == NULL) {
        return -1;
    }
    PyObject *zero = PyLong_FromLong(0);
    int blocks =
        zero == NULL ? -1 : PyObject_RichCompareBool(timeout, zero, Py_NE);
    Py_XDECREF(zero);
    Py_DECREF(timeout);
    if (blocks > 0) {
        PyErr_SetString(PyExc_ValueError, "the socket must be non-blocking");
    }
    return blocks == 0 ? 0 : -1;
}

/* recv(n): n as a size, if it is a plain one. */
static bool
plain_size(PyObject *o, Py_ssize_t *size)
{
    if (!PyLong_CheckExact(o)) {
        return false;
    }
    *size = PyLong_AsSsize_t(o);
    if (*size == -1 && PyErr_Occurred()) {
        PyErr_Clear();
    }
    return *size >= 0;
}

/* The family of the socket, if its addresses are converted here; else 0. */
static int
known_family(FLSockOp *op)
{
    PyObject *descriptor = op->loop->st->sup.socket_family;
    PyObject *number = Py_TYPE(descriptor)
                           ->tp_descr_get(descriptor, op->sock,
                                          (PyObject *)Py_TYPE(op->sock));
    long family = number == NULL ? -1 : PyLong_AsLong(number);
    Py_XDECREF(number);
    if (family == -1) {
        PyErr_Clear();
    }
    return family > 0 && fl_sockaddr_known((int)family) ? (int)family : 0;
}

/* recvfrom_into(buf, nbytes): 0 stands for all of it. */
static int
default_nbytes(FLSockOp *op)
{
    int given = op->args[1] == NULL ? 0 : PyObject_IsTrue(op->args[1]);
    if (given != 0) {
        return given < 0 ? -1 : 0;
    }
    Py_ssize_t length = PyObject_Length(op->args[0]);
    PyObject *nbytes = length < 0 ? NULL : PyLong_FromSsize_t(length);
    if (nbytes == NULL) {
        return -1;
    }
    Py_XSETREF(op->args[1], nbytes);
    return 0;
}

static int
prepare_by_call(FLSockOp *op)
{
    switch ((enum fl_sock_call)op->call) {
        case FL_SOCK_RECV:
            op->by_method |= !plain_size(op->args[0], &op->size);
            return 0;
        case FL_SOCK_RECVFROM:
            op->by_method |= !plain_size(op->args[0], &op->size);
            break;
        case FL_SOCK_RECVFROM_INTO:
            if (default_nbytes(op) < 0) {
                return -1;
            }
            op->by_method |= !plain_size(op->args[1], &op->size);
            break;
        case FL_SOCK_SENDTO:
            break;
        default:
            return 0;
    }
    if (!op->by_method) {
        op->family = known_family(op);
        op->by_method = op->family == 0;
    }
    return 0;
}

int
fl_sock_prepare(FLSockOp *op)
{
    fl_state *st = op->loop->st;
    if (op->call >= FL_SOCK_READABLE) {
        return 0; /* the caller has checked */
    }
    if (FL_UNLIKELY((PyObject *)Py_TYPE(op->sock) != st->sup.socket_type)) {
        PyObject *checked =
            PyObject_CallOneArg(st->sup.check_socket, op->sock);
        if (checked == NULL) {
            return -1;
        }
        Py_DECREF(checked);
        op->by_method = true;
    }
    if (FL_UNLIKELY(op->loop->debug) && check_blocking(op) < 0) {
        return -1;
    }
    return prepare_by_call(op);
}

/* --- accepting ------------------------------------------------------------------- */

static int
accept_by_method(FLSockOp *op, PyObject **result)
{
    fl_state *st = op->loop->st;
    int done =
        fl_sock_call_method(op, st->str.accept, NULL, NULL, NULL, result);
    if (done <= 0) {
        return done;
    }
    PyObject *sock = PySequence_GetItem(*result, 0);
    PyObject *set =
        sock == NULL
            ? NULL
            : PyObject_CallMethodOneArg(sock, st->str.setblocking, Py_False);
    Py_XDECREF(sock);
    if (set == NULL) {
        Py_CLEAR(*result);
        return -1;
    }
    Py_DECREF(set);
    return 1;
}

static int
accept_connection(int fd, struct fl_sockaddr *peer)
{
    peer->size = sizeof(peer->u);
#if defined(__linux__)
    return accept4(fd, &peer->u.any, &peer->size,
                   SOCK_NONBLOCK | SOCK_CLOEXEC);
#else
    int accepted = accept(fd, &peer->u.any, &peer->size);
    if (accepted >= 0) {
        fcntl(accepted, F_SETFD, FD_CLOEXEC);
    }
    return accepted;
#endif
}

/* A listening socket that blocks would block accept(), which has no flag for it. */
static bool
would_block(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && !(flags & O_NONBLOCK)) {
        struct pollfd pollfd = {.fd = fd, .events = POLLIN};
        return poll(&pollfd, 1, 0) == 0;
    }
    return false;
}

static int
try_accept(FLSockOp *op, int fd, PyObject **result)
{
    if (op->by_method) {
        return accept_by_method(op, result);
    }
    if (fl_io_of(op->loop) == NULL) {
        return -1;
    }
    if (would_block(fd)) {
        return 0;
    }
    struct fl_sockaddr peer;
    int accepted = accept_connection(fd, &peer);
    if (accepted < 0) {
        return fl_sock_failed();
    }
    PyObject *sock = PyObject_CallFunction(op->loop->st->sup.accepted_socket,
                                           "Oi", op->sock, accepted);
    if (sock == NULL) {
        close(accepted);
        return -1;
    }
    if (peer.size > 0 && !fl_sockaddr_known(peer.u.any.sa_family)) {
        PyObject *address = PyObject_CallMethod(sock, "getpeername", NULL);
        *result = address == NULL ? NULL : PyTuple_Pack(2, sock, address);
        Py_XDECREF(address);
        Py_DECREF(sock);
        return *result == NULL ? -1 : 1;
    }
    return fl_sock_with_address(op, sock, &peer, result);
}

/* --- which one ------------------------------------------------------------------- */

/* HOT */
int
fl_sock_try(FLSockOp *op, PyObject **result)
{
    int fd = -1;
    *result = NULL;
    if (op->call < FL_SOCK_READABLE && !op->by_method) {
        fd = fl_sock_fileno(op);
        if (FL_UNLIKELY(fd < 0 && PyErr_Occurred())) {
            return -1;
        }
    }
    int done;
    switch ((enum fl_sock_call)op->call) {
        case FL_SOCK_RECV:
            done = fl_sock_try_recv(op, fd, result);
            break;
        case FL_SOCK_RECV_INTO:
            done = fl_sock_try_recv_into(op, fd, result);
            break;
        case FL_SOCK_RECVFROM:
            done = fl_sock_try_recvfrom(op, fd, result);
            break;
        case FL_SOCK_RECVFROM_INTO:
            done = fl_sock_try_recvfrom_into(op, fd, result);
            break;
        case FL_SOCK_SENDALL:
            done = fl_sock_try_sendall(op, fd, result);
            break;
        case FL_SOCK_SENDTO:
            done = fl_sock_try_sendto(op, fd, result);
            break;
        case FL_SOCK_ACCEPT:
            done = try_accept(op, fd, result);
            break;
        case FL_SOCK_READABLE:
        case FL_SOCK_WRITABLE:
            done = op->waited;
            *result = done ? Py_NewRef(Py_None) : NULL;
            break;
        default:
            FL_UNREACHABLE();
            done = -1;
    }
    op->waited = true;
    return done;
}
