/* The life of a datagram transport.

   Beware: every call into the protocol may close or abort the transport, set another
   protocol or run the loop's exception handler.  The loop's reference keeps the
   transport alive until its close callback. */
#include "io/datagram.h"

#include "base/errors.h"
#include "core/future.h"
#include "core/report.h"
#include "io/sockaddr.h"
#include "io/watch.h"

#include <unistd.h>

/* --- calling the protocol -------------------------------------------------------- */

/* HOT */
PyObject *
fl_datagram_call(FLDatagram *t, PyObject *name, PyObject *first,
                 PyObject *second)
{
    if (FL_UNLIKELY(t->protocol == NULL)) {
        Py_RETURN_NONE;
    }
    bool entered = PyContext_Enter(t->context) == 0;
    if (FL_UNLIKELY(!entered)) {
        PyErr_Clear(); /* called back from inside a callback */
    }
    PyObject *protocol = Py_NewRef(t->protocol);
    PyObject *args[] = {NULL, protocol, first, second};
    size_t n = 1u + (first != NULL) + (second != NULL);
    PyObject *result = PyObject_VectorcallMethod(
        name, args + 1, n | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(protocol);
    if (FL_UNLIKELY(entered && PyContext_Exit(t->context) < 0)) {
        Py_CLEAR(result);
    }
    return result;
}

/* Report what a callback has raised as asyncio reports a failed Handle.  0, or -1
   for a fatal exception, which stays set. */
static FL_COLD int
report_failed_call(FLDatagram *t, PyObject *name, PyObject *first,
                   PyObject *second)
{
    PyObject *exc = fl_err_take();
    PyObject *method =
        t->protocol == NULL ? NULL : PyObject_GetAttr(t->protocol, name);
    if (method == NULL) {
        PyErr_Clear();
        method = Py_NewRef(t);
    }
    fl_err_give(exc);
    PyObject *args[] = {first, second};
    Py_ssize_t n = (first != NULL) + (second != NULL);
    int status = fl_report_callback(t->loop, method, args, n, t->context);
    Py_DECREF(method);
    return status;
}

FL_COLD void
fl_datagram_callback_failed(FLDatagram *t, PyObject *name, PyObject *first,
                            PyObject *second)
{
    if (report_failed_call(t, name, first, second) < 0) {
        fl_loop_set_fatal(t->loop);
    }
}

FL_COLD int
fl_datagram_fatal_error(FLDatagram *t, const char *message)
{
    PyObject *exc = fl_err_take();
    FL_ASSERT(exc != NULL);
    if (fl_exception_is_fatal(exc)) {
        fl_err_give(exc);
        return -1;
    }
    PyObject *result = PyObject_CallFunction(
        t->loop->st->sup.transport_fatal_error, "OOsO", t, exc, message,
        t->protocol == NULL ? Py_None : t->protocol);
    fl_datagram_abort(t, exc);
    Py_DECREF(exc);
    if (result == NULL) {
        exc = fl_err_take();
        bool fatal = fl_exception_is_fatal(exc);
        fl_err_give(exc);
        if (fatal) {
            return -1;
        }
        PyErr_WriteUnraisable((PyObject *)t);
    }
    Py_XDECREF(result);
    return 0;
}

/* --- polling --------------------------------------------------------------------- */

/* The socket is ready.  As in asyncio this runs behind what was scheduled before, and
   not inside the poll: a program may count on what it has scheduled being there when
   the datagram comes. */
static int
ready_job(struct fl_job *job)
{
    FLDatagram *t = FL_CONTAINER_OF(job, FLDatagram, ready_job);
    int events = t->ready;
    t->ready = 0;
    if (FL_UNLIKELY(events & UV_WRITABLE) && !fl_datagram_queue_empty(t)) {
        fl_datagram_write_ready(t);
    }
    if (FL_LIKELY(events & UV_READABLE) && t->phase == FL_DATAGRAM_OPEN
        && !t->paused) {
        fl_datagram_read_ready(t);
    }
    fl_datagram_update_poll(t);
    PyObject *fatal = t->loop->fatal;
    if (FL_LIKELY(fatal == NULL)) {
        return 0;
    }
    t->loop->fatal = NULL;
    fl_err_give(fatal);
    return -1;
}

static void
poll_cb(uv_poll_t *poll, int status, int events)
{
    FLDatagram *t = poll->data;
    fl_loop_take_gil(t->loop);
    if (FL_UNLIKELY(status < 0)) {
        /* an error waits at the socket, say an ICMP message: libuv has stopped
           polling, receiving tells which one it is */
        t->events = 0;
        events = UV_READABLE | UV_WRITABLE;
    }
    if (t->ready == 0 && fl_loop_push_job(t->loop, &t->ready_job) < 0) {
        fl_loop_set_fatal(t->loop);
        return;
    }
    t->ready |= events;
}

void
fl_datagram_update_poll(FLDatagram *t)
{
    int wanted = 0;
    if (t->phase == FL_DATAGRAM_OPEN && !t->paused) {
        wanted |= UV_READABLE;
    }
    if (!fl_datagram_queue_empty(t) && !t->lost) {
        wanted |= UV_WRITABLE;
    }
    if (FL_LIKELY(wanted == t->events) || t->fd < 0
        || fl_io_is_parents(t->loop)) {
        return;
    }
    t->events = wanted;
    if (wanted == 0) {
        uv_poll_stop(&t->poll);
    }
    else {
        uv_poll_start(&t->poll, wanted, poll_cb); /* fails on closing ones */
    }
}

/* --- closing the descriptor ------------------------------------------------------ */

static void
close_cb(uv_handle_t *handle)
{
    FLDatagram *t = handle->data;
    fl_loop_take_gil(t->loop);
    fl_list_unlink(&t->attached.node);
    Py_DECREF(t); /* the loop's */
}

/* The Python socket lets go of the number, which is closed right after: it is -1 if
   somebody has closed the socket in spite of us. */
static void
close_descriptor(FLDatagram *t)
{
    if (fl_watch_transport(t->loop, t->fd) == (PyObject *)t) {
        fl_watch_set_transport(t->loop, t->fd, NULL);
    }
    t->fd = -1;
    t->phase = FL_DATAGRAM_CLOSED;
    fl_datagram_drop_queue(t);
    PyObject *number =
        PyObject_CallOneArg(t->loop->st->sup.detach_socket, t->held);
    uv_close((uv_handle_t *)&t->poll, close_cb);
    long fd = number == NULL ? -1 : PyLong_AsLong(number);
    if (PyErr_Occurred()) {
        PyErr_WriteUnraisable((PyObject *)t);
    }
    Py_XDECREF(number);
    if (fd >= 0) {
        close((int)fd);
    }
}

/* --- connection made and lost ---------------------------------------------------- */

/* futures._set_result_unless_cancelled(waiter, None) */
static int
finish_waiter(FLDatagram *t)
{
    PyObject *waiter = t->waiter;
    t->waiter = NULL;
    if (waiter == NULL) {
        return 0;
    }
    PyObject *result =
        PyObject_CallOneArg(t->loop->st->sup.set_result_unless_done, waiter);
    Py_DECREF(waiter);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
connection_made_job(struct fl_job *job)
{
    FLDatagram *t = FL_CONTAINER_OF(job, FLDatagram, made_job);
    PyObject *name = t->loop->st->str.connection_made;
    if (t->phase == FL_DATAGRAM_OPENING) {
        t->phase = FL_DATAGRAM_OPEN;
    }
    PyObject *result = fl_datagram_call(t, name, (PyObject *)t, NULL);
    int status = 0;
    if (FL_UNLIKELY(result == NULL)) {
        status = report_failed_call(t, name, (PyObject *)t, NULL);
    }
    Py_XDECREF(result);
    fl_datagram_update_poll(t);
    if (status < 0) {
        return -1;
    }
    return finish_waiter(t);
}

static int
connection_lost_job(struct fl_job *job)
{
    FLDatagram *t = FL_CONTAINER_OF(job, FLDatagram, lost_job);
    PyObject *name = t->loop->st->str.connection_lost;
    PyObject *exc = t->lost_with;
    t->lost_with = NULL;
    PyObject *arg = exc == NULL ? Py_None : exc;
    PyObject *result = fl_datagram_call(t, name, arg, NULL);
    int status = 0;
    if (FL_UNLIKELY(result == NULL)) {
        status = report_failed_call(t, name, arg, NULL);
    }
    Py_XDECREF(result);
    Py_XDECREF(exc);
    PyObject *raised = fl_err_take();
    if (t->fd >= 0) {
        close_descriptor(t);
    }
    Py_CLEAR(t->protocol);
    Py_CLEAR(t->waiter);
    fl_err_give(raised);
    return status;
}

void
fl_datagram_lose(FLDatagram *t, PyObject *exc)
{
    if (t->lost) {
        return;
    }
    t->lost = true;
    t->phase = FL_DATAGRAM_CLOSING;
    t->writes_after_loss = 1;
    Py_XSETREF(t->lost_with, Py_XNewRef(exc));
    fl_datagram_update_poll(t);
    if (fl_loop_push_job(t->loop, &t->lost_job) < 0) {
        PyErr_WriteUnraisable((PyObject *)t);
    }
}

void
fl_datagram_close(FLDatagram *t)
{
    if (t->phase == FL_DATAGRAM_NEW || t->phase >= FL_DATAGRAM_CLOSING) {
        return;
    }
    t->phase = FL_DATAGRAM_CLOSING;
    if (fl_datagram_queue_empty(t)) {
        fl_datagram_lose(t, NULL);
    }
    else {
        fl_datagram_update_poll(t);
    }
}

void
fl_datagram_abort(FLDatagram *t, PyObject *exc)
{
    if (t->phase == FL_DATAGRAM_NEW || t->lost) {
        return;
    }
    fl_datagram_lose(t, exc);
    fl_datagram_drop_queue(t);
}

/* The protocol is not told, as with asyncio; an open transport is warned of. */
static void
loop_closes(struct fl_attached *attached)
{
    FLDatagram *t = FL_CONTAINER_OF(attached, FLDatagram, attached);
    if (t->fd < 0) {
        return;
    }
    Py_INCREF(t);
    if (!t->lost) {
        PyObject *result =
            PyObject_CallOneArg(t->loop->st->sup.warn_unclosed, (PyObject *)t);
        if (result == NULL) {
            PyErr_WriteUnraisable((PyObject *)t);
        }
        Py_XDECREF(result);
    }
    t->lost = true;
    close_descriptor(t);
    Py_DECREF(t);
}

/* --- opening --------------------------------------------------------------------- */

static int
attached_traverse(struct fl_attached *attached, visitproc visit, void *arg)
{
    FLDatagram *t = FL_CONTAINER_OF(attached, FLDatagram, attached);
    Py_VISIT(t);
    return 0;
}

static const struct fl_attached_ops attached_ops = {attached_traverse,
                                                    loop_closes, NULL};

/* Ask the Python socket, once, what get_extra_info() will tell. */
static int
ask_socket(FLDatagram *t, PyObject *sock)
{
    fl_state *st = t->loop->st;
    t->extra = PyObject_CallOneArg(st->sup.datagram_extra, sock);
    if (t->extra == NULL) {
        return -1;
    }
    PyObject *peername = PyDict_GetItemString(t->extra, "peername");
    int connected = peername == NULL ? 0 : PyObject_IsTrue(peername);
    if (connected < 0) {
        return -1;
    }
    t->peer = connected > 0;
    if ((PyObject *)Py_TYPE(sock) != st->sup.socket_type) {
        return 0; /* a subclass: its methods are called */
    }
    PyObject *descriptor = st->sup.socket_family;
    PyObject *number =
        Py_TYPE(descriptor)
            ->tp_descr_get(descriptor, sock, (PyObject *)Py_TYPE(sock));
    long family = number == NULL ? -1 : PyLong_AsLong(number);
    Py_XDECREF(number);
    if (family == -1 && PyErr_Occurred()) {
        return -1;
    }
    t->family = fl_sockaddr_known((int)family) ? (int)family : 0;
    return 0;
}

static FLDatagram *
new_datagram(FLLoop *loop, PyObject *sock, PyObject *protocol)
{
    PyTypeObject *type = loop->st->DatagramTransportType;
    FLDatagram *t = (FLDatagram *)type->tp_alloc(type, 0);
    if (t == NULL) {
        return NULL;
    }
    t->fd = -1;
    t->loop = (FLLoop *)Py_NewRef(loop);
    t->protocol = Py_NewRef(protocol);
    t->sock = Py_NewRef(sock);
    t->high_water = FL_DATAGRAM_HIGH_WATER;
    t->low_water = FL_DATAGRAM_HIGH_WATER / 4;
    fl_list_init(&t->attached.node);
    t->attached.ops = &attached_ops;
    t->ready_job = (struct fl_job){ready_job, (PyObject *)t};
    t->made_job = (struct fl_job){connection_made_job, (PyObject *)t};
    t->lost_job = (struct fl_job){connection_lost_job, (PyObject *)t};
    t->context = PyContext_CopyCurrent();
    if (t->context == NULL || ask_socket(t, sock) < 0) {
        Py_DECREF(t);
        return NULL;
    }
    return t;
}

/* Give sock back to its owner.  Keeps the exception that is set. */
static void
give_back(FLDatagram *t)
{
    PyObject *exc = fl_err_take();
    PyObject *result =
        PyObject_CallOneArg(t->loop->st->sup.unhold_socket, t->held);
    if (result == NULL) {
        PyErr_WriteUnraisable((PyObject *)t);
    }
    Py_XDECREF(result);
    fl_err_give(exc);
}

/* The socket becomes the transport's, or nothing has changed. */
static int
take_socket(FLDatagram *t, int fd)
{
    FLLoop *loop = t->loop;
    t->held = PyObject_CallOneArg(loop->st->sup.hold_socket, t->sock);
    if (t->held == NULL
        || PyDict_SetItemString(t->extra, "socket", t->held) < 0) {
        if (t->held != NULL) {
            give_back(t);
        }
        return -1;
    }
    if (fl_loop_push_job(loop, &t->made_job) < 0) {
        give_back(t);
        return -1;
    }
    int rc = uv_poll_init(&loop->uv, &t->poll, fd);
    if (rc < 0) {
        t->phase = FL_DATAGRAM_CLOSED; /* the job does nothing */
        Py_CLEAR(t->protocol);
        Py_CLEAR(t->waiter);
        fl_raise_uv(rc);
        give_back(t);
        return -1;
    }
    t->poll.data = t;
    t->fd = fd;
    t->phase = FL_DATAGRAM_OPENING;
    fl_list_append(&loop->attached, &t->attached.node);
    Py_INCREF(t); /* the loop's, until close_cb() */
    fl_watch_set_transport(loop, fd, (PyObject *)t);
    return 0;
}

PyObject *
fl_datagram_open(FLLoop *loop, PyObject *sock, PyObject *protocol,
                 PyObject *address, PyObject *waiter)
{
    int fd = PyObject_AsFileDescriptor(sock);
    /* the entry of fd is made first: nothing can fail once it is ours */
    if (fd < 0 || fl_loop_check_open(loop) < 0
        || fl_loop_check_process(loop) < 0
        || fl_watch_check_free(loop, fd, sock) < 0
        || fl_watch_set_transport(loop, fd, NULL) < 0) {
        return NULL;
    }
    FLDatagram *t = new_datagram(loop, sock, protocol);
    if (t == NULL) {
        return NULL;
    }
    t->address = address == Py_None ? NULL : Py_NewRef(address);
    t->waiter = waiter == Py_None ? NULL : Py_NewRef(waiter);
    if (take_socket(t, fd) < 0) {
        Py_DECREF(t);
        return NULL;
    }
    return (PyObject *)t;
}
