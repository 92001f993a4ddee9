/* StreamReaderProtocol: data goes to the reader, flow control to who drains.

   The reader is referenced weakly, as in asyncio: dropping it is what ends a stream
   that nobody reads. */
#include "prims/stream_protocol.h"

#include "core/stream.h"
#include "prims/common.h"
#include "prims/guard.h"
#include "prims/reader.h"
#include "prims/writer.h"

/* --- the reader ---------------------------------------------------------------------- */

static int
dereference(PyObject *ref, PyObject **target)
{
    if (FL_LIKELY(PyWeakref_CheckRefExact(ref))) {
        return fl_weakref_get(ref, target);
    }
    /* whatever somebody has put in its place */
    *target = PyObject_CallNoArgs(ref);
    if (*target == Py_None) {
        Py_CLEAR(*target);
        return 0;
    }
    return *target == NULL ? -1 : 1;
}

int
fl_protocol_reader(FLStreamProtocol *self, PyObject **reader)
{
    fl_state *st = self->base.st;
    *reader = NULL;
    if (FL_LIKELY(Py_IS_TYPE(self, st->StreamProtocolType))) {
        return self->reader_wr == NULL ? 0
                                       : dereference(self->reader_wr, reader);
    }
    /* a subclass may override the property */
    *reader = PyObject_GetAttr((PyObject *)self, st->str._stream_reader);
    if (*reader == Py_None) {
        Py_CLEAR(*reader);
        return 0;
    }
    return *reader == NULL ? -1 : 1;
}

/* HOT */
int
fl_protocol_feed(fl_state *st, PyObject *protocol, PyObject *data)
{
    FLStreamProtocol *self = (FLStreamProtocol *)protocol;
    if (FL_UNLIKELY((fl_bound_overrides(&self->base) & FL_OWN_DATA_RECEIVED)
                    || self->reader_wr == NULL
                    || !PyWeakref_CheckRefExact(self->reader_wr))) {
        return 0;
    }
    PyObject *reader;
    if (fl_weakref_get(self->reader_wr, &reader) <= 0) {
        return PyErr_Occurred() ? -1 : 0;
    }
    int fed = FL_LIKELY(fl_is_reader(st, reader))
                  ? fl_reader_feed_directly((FLReader *)reader, data)
                  : 0;
    Py_DECREF(reader);
    return fed;
}

static inline bool
feeds_natively(fl_state *st, PyObject *reader)
{
    return fl_is_reader(st, reader)
           && !(fl_bound_overrides((FLBound *)reader) & FL_OWN_FEED_DATA);
}

int
fl_protocol_data_received(FLStreamProtocol *self, PyObject *data)
{
    fl_state *st = self->base.st;
    PyObject *reader;
    int status = fl_protocol_reader(self, &reader);
    if (status <= 0) {
        return status;
    }
    if (FL_LIKELY(feeds_natively(st, reader))) {
        status = fl_reader_feed_data((FLReader *)reader, data);
    }
    else {
        PyObject *done =
            PyObject_CallMethodOneArg(reader, st->str.feed_data, data);
        Py_XDECREF(done);
        status = done == NULL ? -1 : 0;
    }
    Py_DECREF(reader);
    return status;
}

int
fl_protocol_eof_received(FLStreamProtocol *self)
{
    PyObject *reader;
    int status = fl_protocol_reader(self, &reader);
    if (status > 0) {
        status = fl_any_reader_feed_eof(self->base.st, reader);
        Py_DECREF(reader);
    }
    return status < 0 ? -1 : 0;
}

/* --- connected ----------------------------------------------------------------------- */

static int
look_for_ssl(FLStreamProtocol *self, PyObject *transport)
{
    PyObject *context = PyObject_CallMethod(transport, "get_extra_info", "O",
                                            self->base.st->str.sslcontext);
    if (context == NULL) {
        return -1;
    }
    self->over_ssl = context != Py_None;
    Py_DECREF(context);
    return 0;
}

static inline void
set_transport(FLStreamProtocol *self, PyObject *transport)
{
    Py_XSETREF(self->transport,
               transport == Py_None ? NULL : Py_NewRef(transport));
}

/* Nobody has waited for the connection: report that, and end it. */
static FL_COLD int
reject(FLStreamProtocol *self, PyObject *transport)
{
    PyObject *done = PyObject_CallFunctionObjArgs(
        self->base.st->sup.stream_rejected, self, transport, NULL);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* client_connected_cb(reader, writer), and its coroutine in a task */
static int
call_server(FLStreamProtocol *self, PyObject *transport, PyObject *reader)
{
    fl_state *st = self->base.st;
    PyObject *loop = Py_XNewRef(self->base.loop);
    PyObject *writer = PyObject_CallFunctionObjArgs(
        (PyObject *)st->StreamWriterType, transport, self,
        reader == NULL ? Py_None : reader, loop == NULL ? Py_None : loop,
        NULL);
    Py_XDECREF(loop);
    PyObject *done =
        writer == NULL ? NULL
                       : PyObject_CallFunctionObjArgs(
                             st->sup.stream_client_connected, self, transport,
                             reader == NULL ? Py_None : reader, writer, NULL);
    Py_XDECREF(writer);
    Py_XDECREF(done);
    if (done == NULL) {
        return -1;
    }
    Py_CLEAR(self->strong_reader);
    return 0;
}

int
fl_protocol_connection_made(FLStreamProtocol *self, PyObject *transport)
{
    if (self->reject) {
        return reject(self, transport);
    }
    set_transport(self, transport);
    PyObject *reader;
    int status = fl_protocol_reader(self, &reader);
    if (status > 0) {
        status = fl_any_reader_set_transport(self->base.st, reader, transport);
    }
    if (status >= 0) {
        status = look_for_ssl(self, transport);
    }
    if (status >= 0 && self->connected != NULL) {
        status = call_server(self, transport, reader);
    }
    Py_XDECREF(reader);
    return status < 0 ? -1 : 0;
}

int
fl_protocol_replace_transport(FLStreamProtocol *self, PyObject *transport)
{
    set_transport(self, transport);
    if (look_for_ssl(self, transport) < 0) {
        return -1;
    }
    PyObject *reader;
    int status = fl_protocol_reader(self, &reader);
    if (status > 0) {
        PyObject *done = NULL;
        if (!fl_is_reader(self->base.st, reader)
            && !PyObject_HasAttrString(reader, "_replace_transport")) {
            done = Py_NewRef(Py_None); /* asyncio's own, before 3.14 */
        }
        else {
            done = PyObject_CallMethod(reader, "_replace_transport", "O",
                                       transport);
        }
        status = done == NULL ? -1 : 0;
        Py_XDECREF(done);
        Py_DECREF(reader);
    }
    return status < 0 ? -1 : 0;
}

/* --- lost ---------------------------------------------------------------------------- */

static int
end_reader(FLStreamProtocol *self, PyObject *exc)
{
    fl_state *st = self->base.st;
    PyObject *reader;
    int status = fl_protocol_reader(self, &reader);
    if (status > 0) {
        status = exc == Py_None ? fl_any_reader_feed_eof(st, reader)
                                : fl_any_reader_set_exception(st, reader, exc);
        Py_DECREF(reader);
    }
    return status < 0 ? -1 : 0;
}

/* Make a future done: with the exception, or None. */
static int
finish(fl_state *st, PyObject *future, PyObject *exc)
{
    int done = fl_any_done(st, future);
    if (done != 0) {
        return done < 0 ? -1 : 0;
    }
    return exc == Py_None ? fl_any_set_result(st, future, Py_None)
                          : fl_any_set_exception(st, future, exc);
}

static FL_COLD int
fail_drains(FLStreamProtocol *self, PyObject *exc)
{
    fl_state *st = self->base.st;
    PyObject *deque = fl_waiters_show(st, &self->drains);
    PyObject *futures = deque == NULL ? NULL : PySequence_List(deque);
    Py_XDECREF(deque);
    int status = futures == NULL ? -1 : 0;
    for (Py_ssize_t i = 0; status == 0 && i < PyList_GET_SIZE(futures); i++) {
        status = finish(st, PyList_GET_ITEM(futures, i), exc);
    }
    Py_XDECREF(futures);
    return status;
}

static int
wake_drains(FLStreamProtocol *self)
{
    return fl_waiters_empty(&self->drains)
               ? 0
               : fl_waiters_wake_many(self->base.st, &self->drains,
                                      PY_SSIZE_T_MAX, Py_None);
}

int
fl_protocol_connection_lost(FLStreamProtocol *self, PyObject *exc)
{
    fl_state *st = self->base.st;
    if (end_reader(self, exc) < 0) {
        return -1;
    }
    PyObject *closed = Py_XNewRef(self->closed);
    int status = closed == NULL ? 0 : finish(st, closed, exc);
    Py_XDECREF(closed);
    if (status < 0) {
        return -1;
    }
    self->lost = true;
    if (self->paused && !fl_waiters_empty(&self->drains)
        && (exc == Py_None ? wake_drains(self) : fail_drains(self, exc)) < 0) {
        return -1;
    }
    Py_CLEAR(self->reader_wr);
    Py_CLEAR(self->writer);
    Py_CLEAR(self->task);
    Py_CLEAR(self->transport);
    return 0;
}

/* What went wrong is nobody's business who has let go of the stream. */
void
fl_protocol_finalize(FLStreamProtocol *self)
{
    PyObject *closed = self->closed;
    if (closed == NULL) {
        return;
    }
    fl_state *st = self->base.st;
    if (FL_LIKELY(Py_IS_TYPE(closed, st->FutureType))) {
        ((FLFuture *)closed)->log_traceback = false;
        return;
    }
    PyObject *raised = fl_err_take();
    Py_INCREF(closed);
    int done = fl_any_done(st, closed);
    int cancelled = done > 0 ? fl_any_cancelled(st, closed) : 0;
    PyObject *exc =
        done > 0 && cancelled == 0 ? fl_any_exception(st, closed) : NULL;
    Py_XDECREF(exc);
    if (PyErr_Occurred()) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    Py_DECREF(closed);
    fl_err_give(raised);
}

/* --- flow control of writing ------------------------------------------------------------ */

int
fl_protocol_resume_writing(FLStreamProtocol *self)
{
    self->paused = false;
    return wake_drains(self);
}

PySendResult
fl_protocol_drain(FLStreamProtocol *self, FLCoro *coro, PyObject **result)
{
    if (FL_UNLIKELY(self->lost)) {
        PyErr_SetString(PyExc_ConnectionResetError, "Connection lost");
        return PYGEN_ERROR;
    }
    if (FL_LIKELY(!self->paused)) {
        return PYGEN_RETURN;
    }
    PyObject *loop =
        Py_NewRef(self->base.loop == NULL ? Py_None : self->base.loop);
    PyObject *future = fl_loop_create_future(self->base.st, loop);
    Py_DECREF(loop);
    if (future == NULL) {
        return PYGEN_ERROR;
    }
    Py_XSETREF(coro->slots[FL_WAIT_FUTURE], future);
    return fl_waiters_add(&self->drains, coro) < 0
               ? PYGEN_ERROR
               : fl_coro_wait(coro, coro->slots[FL_WAIT_FUTURE], result);
}

int
fl_protocol_drained(FLStreamProtocol *self, FLCoro *coro,
                    const PyObject *value)
{
    PyObject *raised = value == NULL ? fl_err_take() : NULL;
    if (fl_waiters_remove(&self->drains, coro) < 0) {
        Py_XDECREF(raised);
        return -1;
    }
    if (raised != NULL) {
        fl_err_give(raised);
        return -1;
    }
    return 0;
}

static PySendResult
helper_run(FLCoro *self, PyObject *value, PyObject **result)
{
    FLStreamProtocol *protocol =
        (FLStreamProtocol *)self->slots[FL_WAIT_OWNER];
    if (self->step == 0) {
        self->step = 1;
        PySendResult status = value == NULL
                                  ? PYGEN_ERROR
                                  : fl_protocol_drain(protocol, self, result);
        if (status != PYGEN_RETURN) {
            return status;
        }
    }
    else if (fl_protocol_drained(protocol, self, value) < 0) {
        return PYGEN_ERROR;
    }
    return fl_coro_return_none(result);
}

static const struct fl_coro_kind helper_kind = {
    "_drain_helper", "FlowControlMixin._drain_helper", helper_run, NULL};

PyObject *
fl_protocol_drain_helper(FLStreamProtocol *self)
{
    return (PyObject *)fl_bound_coro(&self->base, &helper_kind);
}
