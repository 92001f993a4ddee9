/* Feeding a StreamReader: from a protocol, or straight from a transport. */
#include "prims/reader.h"

#include "core/stream.h"
#include "prims/common.h"

/* --- the transport ---------------------------------------------------------------- */

/* self._transport.name() */
static int
tell_transport(FLReader *self, PyObject *name)
{
    PyObject *transport =
        Py_NewRef(self->transport == NULL ? Py_None : self->transport);
    PyObject *done = PyObject_CallMethodNoArgs(transport, name);
    Py_DECREF(transport);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static const struct fl_stream_transport *
native_transport(FLReader *self)
{
    return self->transport == NULL
               ? NULL
               : fl_stream_transport_of(self->base.st, self->transport);
}

static int
call_native(FLReader *self, int (*function)(PyObject *transport))
{
    PyObject *transport = Py_NewRef(self->transport);
    int status = function(transport);
    Py_DECREF(transport);
    return status;
}

int
fl_reader_resume_transport(FLReader *self)
{
    self->paused = false;
    const struct fl_stream_transport *native = native_transport(self);
    return FL_LIKELY(native != NULL)
               ? call_native(self, native->resume_reading)
               : tell_transport(self, self->base.st->str.resume_reading);
}

/* HOT: after something was taken */
int
fl_reader_maybe_resume(FLReader *self)
{
    if (FL_LIKELY(!self->paused)
        || fl_stream_buffer_size(&self->buffer) > self->limit) {
        return 0;
    }
    return fl_reader_resume_transport(self);
}

static FL_COLD int
pause_transport(FLReader *self)
{
    const struct fl_stream_transport *native = native_transport(self);
    int status = native != NULL
                     ? call_native(self, native->pause_reading)
                     : tell_transport(self, self->base.st->str.pause_reading);
    if (status == 0) {
        self->paused = true;
        return 0;
    }
    if (!PyErr_ExceptionMatches(PyExc_NotImplementedError)) {
        return -1;
    }
    /* it cannot be paused: it is not asked again */
    PyErr_Clear();
    Py_CLEAR(self->transport);
    return 0;
}

int
fl_reader_set_transport(FLReader *self, PyObject *transport)
{
    if (self->transport != NULL) {
        PyErr_SetString(PyExc_AssertionError, "Transport already set");
        return -1;
    }
    self->transport = transport == Py_None ? NULL : Py_NewRef(transport);
    return 0;
}

/* --- the limit --------------------------------------------------------------------- */

/* factor * limit as the largest number of bytes that is not more, -1 if it is negative;
   also on error, with an exception. */
static Py_ssize_t
whole_bytes(PyObject *limit, int factor)
{
    if (PyFloat_Check(limit)) {
        double bytes = PyFloat_AS_DOUBLE(limit) * factor;
        if (bytes < 0.0) {
            return -1;
        }
        /* not for NaN, either */
        return bytes < 1e18 ? (Py_ssize_t)bytes : PY_SSIZE_T_MAX;
    }
    Py_ssize_t bytes = PyNumber_AsSsize_t(limit, NULL);
    if (bytes < 0) {
        return -1;
    }
    return bytes > PY_SSIZE_T_MAX / factor ? PY_SSIZE_T_MAX : bytes * factor;
}

int
fl_reader_set_limit(FLReader *self, PyObject *limit)
{
    Py_ssize_t once = whole_bytes(limit, 1);
    if (PyErr_Occurred()) {
        return -1;
    }
    self->limit = once;
    self->double_limit = whole_bytes(limit, 2);
    Py_XSETREF(self->given_limit, Py_NewRef(limit));
    return PyErr_Occurred() ? -1 : 0;
}

/* --- who waits --------------------------------------------------------------------- */

/* Let who waits go on, with exc or, if that is NULL, with None.  0 or -1. */
static int
end_wait(FLReader *self, PyObject *exc)
{
    PyObject *waiter = self->waiter;
    if (waiter == NULL) {
        return 0;
    }
    self->waiter = NULL;
    fl_state *st = self->base.st;
    int status = fl_any_cancelled(st, waiter);
    if (status == 0) {
        status = exc == NULL ? fl_any_set_result(st, waiter, Py_None)
                             : fl_any_set_exception(st, waiter, exc);
    }
    Py_DECREF(waiter);
    return status < 0 ? -1 : 0;
}

int
fl_reader_wakeup(FLReader *self)
{
    return end_wait(self, NULL);
}

/* As it is overridden. */
static inline int
wakeup(FLReader *self)
{
    if (FL_LIKELY(!(fl_bound_overrides(&self->base) & FL_OWN_WAKEUP))) {
        return fl_reader_wakeup(self);
    }
    PyObject *done =
        fl_bound_call(&self->base, self->base.st->str._wakeup_waiter, NULL);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* --- data -------------------------------------------------------------------------- */

/* Anything that a bytearray can be extended by, as bytes. */
static FL_COLD PyObject *
as_bytes(PyObject *data)
{
    PyObject *all = PyByteArray_FromStringAndSize(NULL, 0);
    PyObject *done =
        all == NULL ? NULL : PyObject_CallMethod(all, "extend", "O", data);
    PyObject *bytes =
        done == NULL ? NULL
                     : PyBytes_FromStringAndSize(PyByteArray_AS_STRING(all),
                                                 PyByteArray_GET_SIZE(all));
    Py_XDECREF(done);
    Py_XDECREF(all);
    return bytes;
}

/* Add bytes, wake who waits, and stop the transport if it is too much. */
static inline int
feed(FLReader *self, PyObject *bytes)
{
    if (fl_stream_buffer_append(&self->buffer, bytes) < 0
        || wakeup(self) < 0) {
        return -1;
    }
    if (FL_UNLIKELY(fl_stream_buffer_size(&self->buffer) > self->double_limit)
        && self->transport != NULL && !self->paused) {
        return pause_transport(self);
    }
    return 0;
}

int
fl_reader_feed_data(FLReader *self, PyObject *data)
{
    if (self->eof) {
        PyErr_SetString(PyExc_AssertionError, "feed_data after feed_eof");
        return -1;
    }
    if (FL_LIKELY(PyBytes_CheckExact(data))) {
        return PyBytes_GET_SIZE(data) == 0 ? 0 : feed(self, data);
    }
    int some = PyObject_IsTrue(data);
    if (some <= 0) {
        return some;
    }
    PyObject *bytes = as_bytes(data);
    int status = bytes == NULL ? -1 : feed(self, bytes);
    Py_XDECREF(bytes);
    return status;
}

/* Is there nobody to wake, or a task on our own loop? */
static inline bool
wakes_directly(const FLReader *self)
{
    const FLFuture *waiter = (FLFuture *)self->waiter;
    return waiter == NULL
           || (Py_IS_TYPE(self->waiter, self->base.st->FutureType)
               && fl_future_direct_loop(waiter) != NULL
               && waiter->state != FL_FUTURE_FINISHED);
}

/* HOT */
int
fl_reader_feed_directly(FLReader *self, PyObject *data)
{
    if (FL_UNLIKELY(self->eof || fl_bound_overrides(&self->base) != 0)
        || FL_UNLIKELY(!wakes_directly(self))) {
        return 0;
    }
    Py_ssize_t size = fl_stream_buffer_size(&self->buffer);
    if (FL_UNLIKELY(size > self->double_limit - PyBytes_GET_SIZE(data))
        && self->transport != NULL && !self->paused
        && native_transport(self) == NULL) {
        return 0;
    }
    return feed(self, data) < 0 ? -1 : 1;
}

int
fl_reader_feed_eof(FLReader *self)
{
    self->eof = true;
    return wakeup(self);
}

int
fl_reader_set_exception(FLReader *self, PyObject *exc)
{
    Py_XSETREF(self->exception, exc == Py_None ? NULL : Py_NewRef(exc));
    return end_wait(self, exc);
}

/* --- anybody's reader ---------------------------------------------------------------- */

/* Is it one of ours, whose method of this bit is ours, too? */
static inline bool
is_own(fl_state *st, PyObject *reader, uint32_t bit)
{
    return fl_is_reader(st, reader)
           && !(fl_bound_overrides((FLBound *)reader) & bit);
}

/* reader.name([argument]) */
static int
tell(PyObject *reader, PyObject *name, PyObject *argument)
{
    PyObject *done = argument == NULL
                         ? PyObject_CallMethodNoArgs(reader, name)
                         : PyObject_CallMethodOneArg(reader, name, argument);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

int
fl_any_reader_feed_eof(fl_state *st, PyObject *reader)
{
    return is_own(st, reader, FL_OWN_FEED_EOF)
               ? fl_reader_feed_eof((FLReader *)reader)
               : tell(reader, st->str.feed_eof, NULL);
}

int
fl_any_reader_set_exception(fl_state *st, PyObject *reader, PyObject *exc)
{
    return is_own(st, reader, FL_OWN_SET_EXCEPTION)
               ? fl_reader_set_exception((FLReader *)reader, exc)
               : tell(reader, st->str.set_exception, exc);
}

int
fl_any_reader_set_transport(fl_state *st, PyObject *reader,
                            PyObject *transport)
{
    return is_own(st, reader, FL_OWN_SET_TRANSPORT)
               ? fl_reader_set_transport((FLReader *)reader, transport)
               : tell(reader, st->str.set_transport, transport);
}

PyObject *
fl_any_reader_exception(fl_state *st, PyObject *reader)
{
    if (FL_LIKELY(is_own(st, reader, FL_OWN_EXCEPTION))) {
        PyObject *exc = ((FLReader *)reader)->exception;
        return Py_NewRef(exc == NULL ? Py_None : exc);
    }
    return PyObject_CallMethodNoArgs(reader, st->str.exception);
}
