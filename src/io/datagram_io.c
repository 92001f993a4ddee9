/* Receiving and sending datagrams.

   Receiving takes one recvfrom() for each datagram, and so leaves in the kernel what
   a protocol that pauses, closes or stops the loop has not seen.  (recvmmsg() saves
   4 % of the kernel's time where sixteen are waiting and costs 12 % where there is
   one.)  Whether a second one waits is only asked where that is likely.

   Sending is tried at once; what the kernel refuses is queued, and counts as
   asyncio counts it: from Python 3.13 on with a header of eight bytes. */
#include "base/errors.h"
#include "core/report.h"
#include "io/datagram.h"
#include "io/received.h"
#include "io/sockaddr.h"

#include <errno.h>
#include <sys/socket.h>

#define BURST_MAX         32 /* received in one go: other sockets wait too */
#define PROBE_EVERY       8  /* single datagrams until a second is asked for */
#define WARN_AFTER_WRITES 5

#if FL_PY313
#  define HEADER_SIZE 8
#else
#  define HEADER_SIZE 0
#endif

#ifdef MSG_NOSIGNAL
#  define SEND_FLAGS MSG_NOSIGNAL
#else
#  define SEND_FLAGS 0
#endif

static bool
would_block(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

/* --- receiving ------------------------------------------------------------------- */

/* The exception that is set is an OSError of a call: tell the protocol.  0, or -1
   with what error_received() has raised. */
static FL_COLD int
tell_error(FLDatagram *t)
{
    PyObject *exc = fl_err_take();
    PyObject *result =
        fl_datagram_call(t, t->loop->st->str.error_received, exc, NULL);
    Py_DECREF(exc);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static FL_COLD void
read_failed(FLDatagram *t)
{
    if (PyErr_ExceptionMatches(PyExc_OSError)) {
        PyObject *exc = fl_err_take();
        fl_err_give(Py_NewRef(exc));
        if (tell_error(t) < 0) {
            fl_datagram_callback_failed(t, t->loop->st->str.error_received,
                                        exc, NULL);
        }
        Py_DECREF(exc);
    }
    else if (fl_datagram_fatal_error(t,
                                     "Fatal read error on datagram transport")
             < 0) {
        fl_loop_set_fatal(t->loop);
    }
}

/* sock.recvfrom() for addresses of other families: 1, 0 nothing there, -1. */
static int
receive_by_method(FLDatagram *t, PyObject **data, PyObject **address)
{
    PyObject *pair =
        PyObject_CallMethod(t->sock, "recvfrom", "i", FL_SCRATCH_SIZE);
    if (pair == NULL) {
        if (PyErr_ExceptionMatches(PyExc_BlockingIOError)
            || PyErr_ExceptionMatches(PyExc_InterruptedError)) {
            PyErr_Clear();
            return 0;
        }
        return -1;
    }
    int parsed = PyArg_ParseTuple(pair, "OO", data, address);
    if (parsed) {
        Py_INCREF(*data);
        Py_INCREF(*address);
    }
    Py_DECREF(pair);
    return parsed ? 1 : -1;
}

/* One datagram: 1, 0 nothing there, -1 with an exception. */
static inline int
receive(FLDatagram *t, PyObject **data, PyObject **address)
{
    if (FL_UNLIKELY(t->family == 0)) {
        return receive_by_method(t, data, address);
    }
    char *buffer = fl_io_scratch(t->loop);
    if (FL_UNLIKELY(buffer == NULL)) {
        PyErr_NoMemory();
        return -1;
    }
    struct fl_sockaddr from;
    from.size = sizeof(from.u);
    ssize_t n =
        recvfrom(t->fd, buffer, FL_SCRATCH_SIZE, 0, &from.u.any, &from.size);
    if (FL_UNLIKELY(n < 0)) {
        if (would_block(errno)) {
            return 0;
        }
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    *data = fl_received_bytes(t->loop, buffer, (size_t)n);
    *address =
        *data == NULL ? NULL : fl_sockaddr_remembered(t->loop->io, &from);
    if (FL_UNLIKELY(*address == NULL)) {
        Py_XDECREF(*data);
        return -1;
    }
    return 1;
}

/* HOT: receive one and deliver it; false if there is no more to do now. */
static bool
read_one(FLDatagram *t)
{
    PyObject *data, *address;
    int status = receive(t, &data, &address);
    if (FL_UNLIKELY(status <= 0)) {
        if (status < 0) {
            read_failed(t);
        }
        return false;
    }
    PyObject *name = t->loop->st->str.datagram_received;
    PyObject *result = fl_datagram_call(t, name, data, address);
    if (FL_LIKELY(result != NULL)) {
        Py_DECREF(result);
    }
    else {
        fl_datagram_callback_failed(t, name, data, address);
    }
    Py_DECREF(data);
    Py_DECREF(address);
    return true;
}

/* May the protocol be told of another one in this turn? */
static inline bool
goes_on(const FLDatagram *t)
{
    return t->phase == FL_DATAGRAM_OPEN && !t->paused && !t->loop->stopping
           && t->loop->fatal == NULL;
}

/* HOT */
void
fl_datagram_read_ready(FLDatagram *t)
{
    int count = 0;
    while (read_one(t)) {
        count++;
        if (count == BURST_MAX || !goes_on(t)) {
            break;
        }
        if (count == 1 && !t->burst && ++t->single % PROBE_EVERY != 0) {
            return;
        }
    }
    t->burst = count > 1;
}

/* --- the queue ------------------------------------------------------------------- */

static struct fl_datagram *
first(FLDatagram *t)
{
    return &t->queue[t->head & (t->size - 1)];
}

static FL_COLD int
grow(FLDatagram *t)
{
    uint32_t size = t->size == 0 ? 8 : 2 * t->size;
    struct fl_datagram *queue =
        PyMem_Malloc(size * sizeof(struct fl_datagram));
    if (queue == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    uint32_t count = t->tail - t->head;
    for (uint32_t i = 0; i < count; i++) {
        queue[i] = t->queue[(t->head + i) & (t->size - 1)];
    }
    PyMem_Free(t->queue);
    t->queue = queue;
    t->size = size;
    t->head = 0;
    t->tail = count;
    return 0;
}

/* Queue a copy of data, unless it is bytes. */
static int
enqueue(FLDatagram *t, PyObject *data, PyObject *address)
{
    if (t->tail - t->head == t->size && grow(t) < 0) {
        return -1;
    }
    PyObject *bytes = PyBytes_FromObject(data);
    if (bytes == NULL) {
        return -1;
    }
    t->queue[t->tail++ & (t->size - 1)] =
        (struct fl_datagram){bytes, Py_NewRef(address)};
    t->unsent += (size_t)PyBytes_GET_SIZE(bytes) + HEADER_SIZE;
    return 0;
}

/* Take the first one out: the references become the caller's. */
static struct fl_datagram
dequeue(FLDatagram *t)
{
    struct fl_datagram taken = *first(t);
    t->head++;
    t->unsent -= (size_t)PyBytes_GET_SIZE(taken.data) + HEADER_SIZE;
    return taken;
}

static void
release(struct fl_datagram datagram)
{
    Py_DECREF(datagram.data);
    Py_DECREF(datagram.address);
}

void
fl_datagram_drop_queue(FLDatagram *t)
{
    while (!fl_datagram_queue_empty(t)) {
        release(dequeue(t));
    }
    PyMem_Free(t->queue);
    t->queue = NULL;
    t->head = t->tail = t->size = 0;
}

/* --- flow control ---------------------------------------------------------------- */

static void
tell_flow(FLDatagram *t, PyObject *name, const char *message)
{
    PyObject *result = fl_datagram_call(t, name, NULL, NULL);
    if (FL_LIKELY(result != NULL)) {
        Py_DECREF(result);
        return;
    }
    PyObject *exc = fl_err_take();
    if (fl_exception_is_fatal(exc)) {
        fl_err_give(exc);
        fl_loop_set_fatal(t->loop);
        return;
    }
    PyObject *context = Py_BuildValue(
        "{s:s,s:O,s:O,s:O}", "message", message, "exception", exc, "transport",
        t, "protocol", t->protocol == NULL ? Py_None : t->protocol);
    Py_DECREF(exc);
    if (context == NULL) {
        PyErr_WriteUnraisable((PyObject *)t);
        return;
    }
    fl_report_to_handler(t->loop->st, (PyObject *)t->loop, context);
    Py_DECREF(context);
}

void
fl_datagram_check_high_water(FLDatagram *t)
{
    if (t->unsent > t->high_water && !t->protocol_paused) {
        t->protocol_paused = true;
        tell_flow(t, t->loop->st->str.pause_writing,
                  "protocol.pause_writing() failed");
    }
}

static void
check_low_water(FLDatagram *t)
{
    if (t->protocol_paused && t->unsent <= t->low_water) {
        t->protocol_paused = false;
        tell_flow(t, t->loop->st->str.resume_writing,
                  "protocol.resume_writing() failed");
    }
}

/* --- sending --------------------------------------------------------------------- */

/* The socket's own method, for names to resolve, other families and errors: 1, 0
   it would block, -1. */
static FL_COLD int
send_by_method(FLDatagram *t, PyObject *data, PyObject *address)
{
    PyObject *sock = Py_NewRef(t->sock);
    PyObject *result;
    if (t->peer) {
        result = PyObject_CallMethod(sock, "send", "O", data);
    }
    else if (address == Py_None) {
        result = PyObject_CallFunctionObjArgs(t->loop->st->sup.send_to_nobody,
                                              sock, data, NULL);
    }
    else {
        result = PyObject_CallMethod(sock, "sendto", "OO", data, address);
    }
    Py_DECREF(sock);
    if (result != NULL) {
        Py_DECREF(result);
        return 1;
    }
    if (PyErr_ExceptionMatches(PyExc_BlockingIOError)
        || PyErr_ExceptionMatches(PyExc_InterruptedError)) {
        PyErr_Clear();
        return 0;
    }
    return -1;
}

/* HOT: the same, in the kernel where address is plain. */
static int
send_now(FLDatagram *t, PyObject *data, PyObject *address)
{
    struct fl_sockaddr to;
    if (FL_UNLIKELY(t->family == 0)
        || (!t->peer
            && !fl_sockaddr_from_python(t->loop->io, t->family, address,
                                        &to))) {
        return send_by_method(t, data, address);
    }
    if (!t->peer
        && FL_UNLIKELY(PySys_Audit("socket.sendto", "OO", t->sock, address)
                       < 0)) {
        return -1;
    }
    Py_buffer view = {0};
    const void *bytes;
    size_t size;
    if (FL_LIKELY(PyBytes_CheckExact(data))) {
        bytes = PyBytes_AS_STRING(data);
        size = (size_t)PyBytes_GET_SIZE(data);
    }
    else {
        if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
            return -1;
        }
        bytes = view.buf;
        size = (size_t)view.len;
    }
    ssize_t n =
        t->peer ? send(t->fd, bytes, size, SEND_FLAGS)
                : sendto(t->fd, bytes, size, SEND_FLAGS, &to.u.any, to.size);
    int error = errno;
    if (view.obj != NULL) {
        PyBuffer_Release(&view);
    }
    if (FL_LIKELY(n >= 0)) {
        return 1;
    }
    if (would_block(error)) {
        return 0;
    }
    errno = error;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

/* Sending has failed.  0, or -1 with an exception for the caller. */
static FL_COLD int
send_failed(FLDatagram *t)
{
    if (PyErr_ExceptionMatches(PyExc_OSError)) {
        return tell_error(t);
    }
    return fl_datagram_fatal_error(t,
                                   "Fatal write error on datagram transport");
}

void
fl_datagram_write_ready(FLDatagram *t)
{
    while (!fl_datagram_queue_empty(t) && t->fd >= 0) {
        /* Beware: a method of the socket may run anything: own the two */
        struct fl_datagram next = *first(t);
        Py_INCREF(next.data);
        Py_INCREF(next.address);
        int status = send_now(t, next.data, next.address);
        if (status != 0 && !fl_datagram_queue_empty(t)
            && first(t)->data == next.data) {
            release(dequeue(t));
        }
        release(next);
        if (status == 0) {
            break;
        }
        if (FL_UNLIKELY(status < 0)) {
            if (send_failed(t) < 0) {
                fl_datagram_callback_failed(t, t->loop->st->str.error_received,
                                            NULL, NULL);
            }
            if (t->lost) {
                return;
            }
        }
    }
    check_low_water(t);
    if (fl_datagram_queue_empty(t) && t->phase == FL_DATAGRAM_CLOSING) {
        fl_datagram_lose(t, NULL);
    }
}

/* The address to use: new reference, or NULL with ValueError. */
static PyObject *
address_for(FLDatagram *t, PyObject *address)
{
    if (t->address == NULL) {
        return Py_NewRef(address);
    }
    if (address != Py_None) {
        int same = PyObject_RichCompareBool(address, t->address, Py_EQ);
        if (same < 0) {
            return NULL;
        }
        if (!same) {
            PyErr_Format(PyExc_ValueError,
                         "Invalid address: must be None or %S", t->address);
            return NULL;
        }
    }
    return Py_NewRef(t->address);
}

static FL_COLD int
drop_write(FLDatagram *t)
{
    int status = 0;
    if (t->writes_after_loss >= WARN_AFTER_WRITES) {
        PyObject *result =
            PyObject_CallNoArgs(t->loop->st->sup.warn_send_failed);
        status = result == NULL ? -1 : 0;
        Py_XDECREF(result);
    }
    t->writes_after_loss++;
    return status;
}

/* HOT */
int
fl_datagram_sendto(FLDatagram *t, PyObject *data, PyObject *address)
{
    if (FL_UNLIKELY(!PyBytes_Check(data) && !PyByteArray_Check(data)
                    && !PyMemoryView_Check(data))) {
        PyErr_Format(PyExc_TypeError,
                     "data argument must be a bytes-like object, not '%s'",
                     fl_type_name(Py_TYPE(data)));
        return -1;
    }
#if !FL_PY313
    int anything = PyObject_IsTrue(data);
    if (anything <= 0) {
        return anything;
    }
#endif
    address = address_for(t, address);
    if (FL_UNLIKELY(address == NULL)) {
        return -1;
    }
    if (FL_UNLIKELY(t->lost && (t->address != NULL || t->fd < 0))) {
        Py_DECREF(address);
        return drop_write(t);
    }
    int status = 0;
    if (FL_LIKELY(fl_datagram_queue_empty(t))) {
        status = send_now(t, data, address);
        if (FL_UNLIKELY(status < 0)) {
            Py_DECREF(address);
            return send_failed(t);
        }
    }
    if (FL_UNLIKELY(status == 0) && !t->lost) {
        status = enqueue(t, data, address);
        fl_datagram_update_poll(t);
        if (status == 0) {
            fl_datagram_check_high_water(t);
        }
    }
    Py_DECREF(address);
    return status < 0 ? -1 : 0;
}
