/* The life of a stream transport: open, made, lost, closed.

   Beware: every call into the protocol may close or abort the transport, set
   another protocol, or run the loop's exception handler.  Nothing is assumed to
   hold after such a call but that the transport itself is alive: the loop holds
   it until its close callback. */
#include "io/transport.h"

#include "base/errors.h"
#include "core/context.h"
#include "core/future.h"
#include "core/report.h"
#include "io/watch.h"

#include <sys/un.h>
#include <unistd.h>

/* --- calling the protocol ----------------------------------------------------------- */

static PyObject *
call_protocol(FLTransport *t, PyObject *name, PyObject *arg)
{
    PyObject *protocol = Py_NewRef(t->protocol);
    PyObject *args[] = {NULL, protocol, arg};
    PyObject *result = PyObject_VectorcallMethod(
        name, args + 1, (arg == NULL ? 1 : 2) | PY_VECTORCALL_ARGUMENTS_OFFSET,
        NULL);
    Py_DECREF(protocol);
    return result;
}

PyObject *
fl_transport_call(FLTransport *t, PyObject *name, PyObject *arg)
{
    if (FL_UNLIKELY(t->protocol == NULL)) {
        Py_RETURN_NONE;
    }
    FLLoop *loop = t->loop;
    PyObject *context = fl_context_enter(loop, &t->context);
    if (FL_UNLIKELY(context == NULL)) {
        return NULL;
    }
    PyObject *result = call_protocol(t, name, arg);
    if (FL_UNLIKELY(fl_context_exit(loop, &t->context, context) < 0)) {
        Py_CLEAR(result);
    }
    return result;
}

PyObject *
fl_transport_call_flow(FLTransport *t, PyObject *name)
{
    if (t->protocol == NULL) {
        Py_RETURN_NONE;
    }
    FLLoop *loop = t->loop;
    PyObject *context = fl_context_enter(loop, &t->context);
    if (context == NULL) {
        PyErr_Clear();
    }
    PyObject *result = call_protocol(t, name, NULL);
    if (context != NULL && fl_context_exit(loop, &t->context, context) < 0) {
        Py_CLEAR(result);
    }
    return result;
}

static void
send_for_filter(PyObject *transport, const char *data, size_t size)
{
    fl_transport_send((FLTransport *)transport, data, size);
}

int
fl_transport_set_protocol(FLTransport *t, PyObject *protocol)
{
    fl_state *st = t->loop->st;
    int buffered = fl_protocol_is_buffered(st, protocol);
    if (buffered < 0) {
        return -1;
    }
    struct fl_filter *filter = fl_filter_of(st, protocol);
    if (filter != NULL) {
        struct fl_below us = {send_for_filter, (PyObject *)t,
                              fl_context_get(&t->context)};
        if (us.context == NULL || fl_filter_attach(filter, &us) < 0) {
            return -1;
        }
    }
    t->filter = filter;
    t->buffered = buffered > 0;
    Py_XSETREF(t->protocol, Py_NewRef(protocol));
    return 0;
}

/* A protocol callback that asyncio would call through call_soon() has raised:
   report it as a failed callback.  Fatal ones are left to the loop. */
static int
report_failed_call(FLTransport *t, PyObject *name, PyObject *arg)
{
    PyObject *exc = fl_err_take();
    PyObject *method =
        t->protocol == NULL ? NULL : PyObject_GetAttr(t->protocol, name);
    if (method == NULL) {
        PyErr_Clear();
        method = Py_NewRef(t);
    }
    PyObject *context = fl_context_get(&t->context);
    if (context == NULL) {
        PyErr_Clear(); /* of memory: then it is reported in the current one */
    }
    fl_err_give(exc);
    int status = fl_report_callback(t->loop, method, &arg, 1, context);
    Py_DECREF(method);
    return status;
}

/* --- opening ----------------------------------------------------------------- */

static int
attached_traverse(struct fl_attached *attached, visitproc visit, void *arg)
{
    FLTransport *t = FL_CONTAINER_OF(attached, FLTransport, attached);
    Py_VISIT(t);
    return 0;
}

static int connection_made_job(struct fl_job *job);
static int connection_lost_job(struct fl_job *job);
static void loop_closes(struct fl_attached *attached);

static void
run_flush(struct fl_flush *flush)
{
    FLTransport *t = FL_CONTAINER_OF(flush, FLTransport, flush);
    Py_INCREF(t);
    fl_transport_flush(t);
    Py_DECREF(t);
}

static void
close_cb(uv_handle_t *handle)
{
    FLTransport *t = handle->data;
    fl_loop_take_gil(t->loop);
    t->phase = FL_TRANSPORT_CLOSED;
    fl_list_unlink(&t->attached.node);
    Py_DECREF(t); /* the loop's */
}

/* The connection is the parent's: whatever is done to ours sends nothing. */
static void
loop_forked(struct fl_attached *attached)
{
    FLTransport *t = FL_CONTAINER_OF(attached, FLTransport, attached);
    t->lost = true;
    t->phase = FL_TRANSPORT_CLOSING;
}

static const struct fl_attached_ops attached_ops = {attached_traverse,
                                                    loop_closes, loop_forked};

/* From here on the loop owns a reference, until the close callback. */
static void
attach(FLTransport *t, FLLoop *loop)
{
    t->uv.handle.data = t;
    t->attached.ops = &attached_ops;
    fl_list_append(&loop->attached, &t->attached.node);
    Py_INCREF(t);
}

/* An unattached transport whose uv handle is initialised. */
static FLTransport *
new_transport(FLLoop *loop, bool is_unix, PyObject *context)
{
    PyTypeObject *type = loop->st->TCPTransportType;
    if (fl_loop_open_uv(loop) < 0) {
        return NULL;
    }
    FLTransport *t = (FLTransport *)type->tp_alloc(type, 0);
    if (t == NULL) {
        return NULL;
    }
    int rc = uv_tcp_init(&loop->uv, &t->uv.tcp);
    if (rc < 0) {
        Py_DECREF(t);
        fl_raise_uv(rc);
        return NULL;
    }
    t->fd = -1;
    t->is_unix = is_unix;
    t->loop = (FLLoop *)Py_NewRef(loop);
    t->context = Py_XNewRef(context);
    fl_list_init(&t->in_server);
    fl_list_init(&t->attached.node);
    fl_list_init(&t->flush.node);
    t->flush.run = run_flush;
    t->made_job = (struct fl_job){connection_made_job, (PyObject *)t};
    t->lost_job = (struct fl_job){connection_lost_job, (PyObject *)t};
    fl_transport_init_writing(t);
    return t;
}

/* --- names --------------------------------------------------------------------- */

#define UNIX_UNNAMED ((socklen_t)offsetof(struct sockaddr_un, sun_path))

/* Keep the name of a Unix socket, whose length has no bound worth its room in
   every transport.  Most connections have a side without a name. */
static void
remember_unix_name(FLTransport *t, const char *which,
                   const struct sockaddr *address, socklen_t size)
{
    PyObject *name = fl_unix_name_to_python(address, size);
    if (name == NULL || fl_transport_remember(t, which, name) < 0) {
        PyErr_Clear(); /* of memory: then it has no name */
    }
    Py_XDECREF(name);
}

/* False: there is no peer. */
static bool
set_name(FLTransport *t, const char *which, struct sockaddr_in6 *raw,
         const struct sockaddr *address, socklen_t size)
{
    if (t->is_unix && size > UNIX_UNNAMED) {
        remember_unix_name(t, which, address, size);
        return false;
    }
    if (size > sizeof(*raw)) {
        return false;
    }
    memcpy(raw, address, size);
    if (t->is_unix) {
        raw->sin6_family = AF_UNIX; /* some systems report no family */
    }
    return true;
}

void
fl_transport_take_sockname(FLTransport *t)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);
    int fd = fl_transport_fd(t);
    struct sockaddr_in6 raw;
    if (t->sockname == NULL && fd >= 0
        && getsockname(fd, (struct sockaddr *)&address, &size) == 0
        && set_name(t, "sockname", &raw, (struct sockaddr *)&address, size)) {
        t->sockname = PyMem_Malloc(sizeof(raw));
        if (t->sockname != NULL) {
            *t->sockname = raw;
        }
    }
}

/* Whose socket is it?  Fills address if peer is not known yet. */
static const struct sockaddr *
find_peer(int fd, struct sockaddr_storage *address, socklen_t *size,
          bool *is_unix)
{
    struct sockaddr *found = (struct sockaddr *)address;
    *size = sizeof(*address);
    if (getpeername(fd, found, size) == 0) {
        *is_unix = found->sa_family == AF_UNIX;
        return found;
    }
    *size = sizeof(*address);
    *is_unix =
        getsockname(fd, found, size) == 0 && found->sa_family == AF_UNIX;
    return NULL;
}

/* --- opening, continued ------------------------------------------------------- */

FLTransport *
fl_transport_open(FLLoop *loop, int fd, PyObject *context,
                  const struct sockaddr *peer, socklen_t size)
{
    /* the entry of fd is made first: nothing can fail once uv owns fd */
    if (fl_loop_check_open(loop) < 0 || fl_loop_check_process(loop) < 0
        || fl_watch_set_transport(loop, fd, NULL) < 0) {
        return NULL;
    }
    struct sockaddr_storage asked;
    bool is_unix = peer != NULL && peer->sa_family == AF_UNIX;
    if (peer == NULL) {
        peer = find_peer(fd, &asked, &size, &is_unix);
    }
    FLTransport *t = new_transport(loop, is_unix, context);
    if (t == NULL) {
        return NULL;
    }
    attach(t, loop);
    int rc = uv_tcp_open(&t->uv.tcp, fd);
    if (rc < 0) {
        t->phase = FL_TRANSPORT_CLOSING;
        t->lost = true;
        uv_close(&t->uv.handle, close_cb);
        Py_DECREF(t);
        fl_raise_uv(rc);
        return NULL;
    }
    t->fd = fd;
    t->phase = FL_TRANSPORT_OPENING;
    fl_watch_set_transport(loop, fd, (PyObject *)t);
    t->has_peername =
        peer != NULL && set_name(t, "peername", &t->peername, peer, size);
    if (!is_unix) {
        uv_tcp_nodelay(&t->uv.tcp, 1); /* fails on what is not TCP: no harm */
    }
    return t;
}

int
fl_transport_fd(const FLTransport *t)
{
    return t->phase == FL_TRANSPORT_NEW ? -1 : t->fd;
}

/* --- closing the handle -------------------------------------------------------------- */

/* Close the descriptor, through its one owner. */
static void
close_handle(FLTransport *t)
{
    FL_ASSERT(!uv_is_closing(&t->uv.handle));
    int fd = fl_transport_fd(t);
    if (fl_watch_transport(t->loop, fd) == (PyObject *)t) {
        fl_watch_set_transport(t->loop, fd, NULL);
    }
    fl_transport_take_sockname(t);
    fl_list_unlink(&t->flush.node);
    fl_transport_drop_pending(t);
    if (t->sock != NULL) {
        /* the Python socket forgets the descriptor before it is closed */
        PyObject *result =
            PyObject_CallOneArg(t->loop->st->sup.release_socket, t->sock);
        if (result == NULL) {
            PyErr_WriteUnraisable((PyObject *)t);
        }
        Py_XDECREF(result);
    }
    fl_watch_closing(t->loop, fd); /* sendfile() may wait for it */
    t->fd = -1;
    uv_close(&t->uv.handle, close_cb);
}

static void
detach_from_server(FLTransport *t)
{
    FLServer *server = t->server;
    t->server = NULL;
    if (server != NULL) {
        fl_server_detach(server, &t->in_server);
        Py_DECREF(server);
    }
}

/* --- connection made ------------------------------------------------------------ */

int
fl_transport_start(FLTransport *t)
{
    return fl_loop_push_job(t->loop, &t->made_job);
}

/* An accepted connection has no protocol yet.  asyncio reports a failing factory
   in debug mode only, and drops the connection. */
static int
make_protocol(FLTransport *t)
{
    PyObject *factory = t->factory;
    t->factory = NULL;
    PyObject *protocol = NULL;
    PyObject *context = fl_context_enter(t->loop, &t->context);
    if (context != NULL) {
        protocol = PyObject_CallNoArgs(factory);
        if (fl_context_exit(t->loop, &t->context, context) < 0) {
            Py_CLEAR(protocol);
        }
    }
    Py_DECREF(factory);
    int status =
        protocol == NULL ? -1 : fl_transport_set_protocol(t, protocol);
    Py_XDECREF(protocol);
    return status;
}

static FL_COLD int
accept_failed(FLTransport *t)
{
    PyObject *exc = fl_err_take();
    t->lost = true;
    t->phase = FL_TRANSPORT_CLOSING;
    close_handle(t);
    detach_from_server(t);
    if (fl_exception_is_fatal(exc)) {
        fl_err_give(exc);
        return -1;
    }
    if (t->loop->debug) {
        PyObject *context = Py_BuildValue(
            "{s:s,s:O}", "message",
            "Error on transport creation for incoming connection", "exception",
            exc);
        if (context == NULL) {
            PyErr_WriteUnraisable((PyObject *)t);
        }
        else {
            fl_report_to_handler(t->loop->st, (PyObject *)t->loop, context);
            Py_DECREF(context);
        }
    }
    Py_DECREF(exc);
    return 0;
}

/* futures._set_result_unless_cancelled(waiter, None) */
static int
finish_waiter(FLTransport *t)
{
    PyObject *waiter = t->waiter;
    t->waiter = NULL;
    if (waiter == NULL) {
        return 0;
    }
    int status = 0;
    if (PyObject_TypeCheck(waiter, t->loop->st->FutureType)) {
        FLFuture *fut = (FLFuture *)waiter;
        status = fl_future_done(fut) ? 0 : fl_future_set_result(fut, Py_None);
    }
    else {
        PyObject *result = PyObject_CallOneArg(
            t->loop->st->sup.set_result_unless_done, waiter);
        status = result == NULL ? -1 : 0;
        Py_XDECREF(result);
    }
    Py_DECREF(waiter);
    return status;
}

static int
tell_made(FLTransport *t)
{
    if (t->filter != NULL) {
        PyObject *protocol = Py_NewRef(t->protocol);
        int status = t->filter->ops->made(t->filter);
        Py_DECREF(protocol);
        return status;
    }
    PyObject *result =
        fl_transport_call(t, t->loop->st->str.connection_made, (PyObject *)t);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
connection_made_job(struct fl_job *job)
{
    FLTransport *t = FL_CONTAINER_OF(job, FLTransport, made_job);
    fl_state *st = t->loop->st;
    if (t->factory != NULL && make_protocol(t) < 0) {
        return accept_failed(t);
    }
    if (t->phase == FL_TRANSPORT_OPENING) {
        t->phase = FL_TRANSPORT_OPEN;
    }
    int status = tell_made(t);
    if (FL_UNLIKELY(status < 0)) {
        status = report_failed_call(t, st->str.connection_made, (PyObject *)t);
    }
    if (t->phase == FL_TRANSPORT_OPEN && !t->paused) {
        fl_transport_start_reading(t);
    }
    int finished = finish_waiter(t);
    return status < 0 ? status : finished;
}

/* --- losing the connection ---------------------------------------------------------- */

/* sendfile() waits for what will not be sent any more. */
static FL_COLD void
fail_empty_waiter(FLTransport *t, PyObject *exc)
{
    FLFuture *waiter = (FLFuture *)t->empty_waiter;
    if (fl_future_done(waiter)) {
        return;
    }
    PyObject *made = NULL;
    if (exc == NULL) {
        made = PyObject_CallFunction(PyExc_ConnectionError, "s",
                                     "Connection is closed by peer");
        exc = made;
    }
    if (exc == NULL || fl_future_set_exception(waiter, exc) < 0) {
        PyErr_WriteUnraisable((PyObject *)t);
    }
    Py_XDECREF(made);
}

static int
tell_lost(FLTransport *t, PyObject *exc)
{
    if (t->filter != NULL) {
        PyObject *protocol = Py_NewRef(t->protocol);
        int status = t->filter->ops->lost(t->filter, exc);
        Py_DECREF(protocol);
        return status;
    }
    PyObject *result =
        fl_transport_call(t, t->loop->st->str.connection_lost, exc);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
connection_lost_job(struct fl_job *job)
{
    FLTransport *t = FL_CONTAINER_OF(job, FLTransport, lost_job);
    fl_state *st = t->loop->st;
    PyObject *exc = t->lost_with;
    t->lost_with = NULL;
    PyObject *arg = exc == NULL ? Py_None : exc;
    int status = tell_lost(t, arg);
    if (FL_UNLIKELY(status < 0)) {
        status = report_failed_call(t, st->str.connection_lost, arg);
    }
    PyObject *raised = fl_err_take();
    if (FL_UNLIKELY(t->empty_waiter != NULL)) {
        fail_empty_waiter(t, exc);
    }
    Py_XDECREF(exc);
    if (!uv_is_closing(&t->uv.handle)) {
        close_handle(t);
    }
    t->filter = NULL;
    Py_CLEAR(t->protocol);
    Py_CLEAR(t->waiter);
    detach_from_server(t);
    fl_err_give(raised);
    return status;
}

void
fl_transport_lose(FLTransport *t, PyObject *exc)
{
    if (t->lost) {
        return;
    }
    t->lost = true;
    if (t->phase < FL_TRANSPORT_CLOSING) {
        t->phase = FL_TRANSPORT_CLOSING;
    }
    fl_transport_stop_reading(t);
    t->writes_after_loss = 1;
    Py_XSETREF(t->lost_with, Py_XNewRef(exc));
    if (fl_loop_push_job(t->loop, &t->lost_job) < 0) {
        PyErr_WriteUnraisable((PyObject *)t);
    }
}

int
fl_transport_close(FLTransport *t)
{
    if (t->phase == FL_TRANSPORT_NEW || t->phase >= FL_TRANSPORT_CLOSING) {
        return 0;
    }
    t->phase = FL_TRANSPORT_CLOSING;
    fl_transport_stop_reading(t);
    fl_transport_flush(t); /* loses the connection once all is sent */
    return 0;
}

void
fl_transport_abort(FLTransport *t, PyObject *exc)
{
    if (t->phase == FL_TRANSPORT_NEW || t->lost) {
        return;
    }
    if (t->phase < FL_TRANSPORT_CLOSING) {
        t->phase = FL_TRANSPORT_CLOSING;
    }
    if (t->pending.count > 0 && exc == NULL) {
        /* asyncio's write() would have sent it already */
        fl_transport_flush(t);
    }
    fl_transport_drop_pending(t);
    fl_transport_lose(t, exc);
}

FL_COLD void
fl_transport_fatal_error(FLTransport *t, const char *message)
{
    PyObject *exc = fl_err_take();
    FL_ASSERT(exc != NULL);
    if (fl_exception_is_fatal(exc)) {
        fl_err_give(exc);
        fl_loop_set_fatal(t->loop);
        return;
    }
    PyObject *result = PyObject_CallFunction(
        t->loop->st->sup.transport_fatal_error, "OOsO", t, exc, message,
        t->protocol == NULL ? Py_None : t->protocol);
    fl_transport_abort(t, exc);
    Py_DECREF(exc);
    if (result == NULL) {
        exc = fl_err_take();
        bool fatal = fl_exception_is_fatal(exc);
        fl_err_give(exc);
        if (fatal) {
            fl_loop_set_fatal(t->loop);
        }
        else {
            PyErr_WriteUnraisable((PyObject *)t);
        }
    }
    Py_XDECREF(result);
}

FL_COLD void
fl_transport_flow_failed(FLTransport *t, const char *message)
{
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

/* --- the loop closes -------------------------------------------------------------- */

/* The protocol is not told, as with asyncio; an open transport is warned of. */
static void
loop_closes(struct fl_attached *attached)
{
    FLTransport *t = FL_CONTAINER_OF(attached, FLTransport, attached);
    if (uv_is_closing(&t->uv.handle)) {
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
    t->phase = FL_TRANSPORT_CLOSING;
    close_handle(t);
    detach_from_server(t);
    Py_DECREF(t);
}
