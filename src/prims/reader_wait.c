#include "prims/reader_wait.h"

#include "prims/stream_type.h"

/* --- waiting ----------------------------------------------------------------------- */

/* Let the body be called again when there is data: what it returns. */
static PySendResult
wait_natively(FLReader *reader, FLCoro *self, const char *function,
              PyObject **result)
{
    if (FL_UNLIKELY(reader->waiter != NULL)) {
        PyErr_Format(PyExc_RuntimeError,
                     "%s() called while another coroutine is already waiting "
                     "for incoming data",
                     function);
        return PYGEN_ERROR;
    }
    if (FL_UNLIKELY(reader->eof)) {
        PyErr_SetString(PyExc_AssertionError, "_wait_for_data after EOF");
        return PYGEN_ERROR;
    }
    if (FL_UNLIKELY(reader->base.loop == NULL)) {
        PyErr_SetString(PyExc_RuntimeError, "the reader has no event loop");
        return PYGEN_ERROR;
    }
    if (reader->paused && fl_reader_resume_transport(reader) < 0) {
        return PYGEN_ERROR;
    }
    PyObject *future = fl_stream_create_future(&reader->base);
    if (future == NULL) {
        return PYGEN_ERROR;
    }
    self->step = FL_READ_WAITED;
    Py_XSETREF(reader->waiter, Py_NewRef(future));
    PySendResult status = fl_coro_wait(self, future, result);
    Py_DECREF(future);
    return status;
}

static FL_COLD PySendResult
wait_as_overridden(FLReader *reader, FLCoro *self, const char *function,
                   PyObject **result)
{
    PyObject *name = PyUnicode_FromString(function);
    PyObject *wait =
        name == NULL
            ? NULL
            : fl_bound_call(&reader->base, self->st->str._wait_for_data, name);
    Py_XDECREF(name);
    if (wait == NULL) {
        return PYGEN_ERROR;
    }
    self->step = FL_READ_FOREIGN;
    PySendResult status = fl_coro_await(self, wait, result);
    Py_DECREF(wait);
    return status;
}

PySendResult
fl_reader_wait(FLReader *reader, FLCoro *self, const char *function,
               PyObject **result)
{
    return FL_LIKELY(
               !(fl_bound_overrides(&reader->base) & FL_OWN_WAIT_FOR_DATA))
               ? wait_natively(reader, self, function, result)
               : wait_as_overridden(reader, self, function, result);
}

/* The wait is over: nobody waits.  -1: with an exception. */
int
fl_reader_waited(FLReader *reader, const FLCoro *self, const PyObject *value)
{
    PyObject *waiter = self->step == FL_READ_WAITED ? reader->waiter : NULL;
    if (waiter != NULL) {
        reader->waiter = NULL;
        if (FL_UNLIKELY(value == NULL)) {
            PyObject *raised = fl_err_take();
            Py_DECREF(waiter);
            fl_err_give(raised);
        }
        else {
            Py_DECREF(waiter);
        }
    }
    return value == NULL ? -1 : 0;
}

static PySendResult
wait_run(FLCoro *self, PyObject *value, PyObject **result)
{
    FLReader *reader = (FLReader *)self->slots[FL_WAIT_OWNER];
    if (self->step == FL_READ_START && value != NULL) {
        const char *function = PyUnicode_AsUTF8(self->slots[FL_READ_ARGUMENT]);
        return function == NULL
                   ? PYGEN_ERROR
                   : wait_natively(reader, self, function, result);
    }
    return fl_reader_waited(reader, self, value) < 0
               ? PYGEN_ERROR
               : fl_coro_return_none(result);
}

static const struct fl_coro_kind wait_kind = {
    "_wait_for_data", "StreamReader._wait_for_data", wait_run, NULL};

PyObject *
fl_reader_wait_for_data(FLReader *self, PyObject *func_name)
{
    FLCoro *coro = fl_bound_coro(&self->base, &wait_kind);
    if (coro != NULL) {
        coro->slots[FL_READ_ARGUMENT] = Py_NewRef(func_name);
    }
    return (PyObject *)coro;
}

/* --- what all of them do --------------------------------------------------------------- */

/* Is an exception to be raised?  Then it is. */
bool
fl_reader_raise(const FLReader *reader)
{
    if (FL_LIKELY(reader->exception == NULL)) {
        return false;
    }
    PyObject *exc = Py_NewRef(reader->exception);
    fl_stream_raise(exc);
    Py_DECREF(exc);
    return true;
}

/* self._maybe_resume_transport() */
int
fl_reader_maybe_resume_any(FLReader *reader)
{
    if (FL_LIKELY(!(fl_bound_overrides(&reader->base) & FL_OWN_RESUME))) {
        return fl_reader_maybe_resume(reader);
    }
    PyObject *done = fl_bound_call(
        &reader->base, reader->base.st->str._maybe_resume_transport, NULL);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Give the first n bytes. */
PySendResult
fl_reader_give(FLReader *reader, Py_ssize_t n, PyObject **result)
{
    PyObject *data = fl_stream_buffer_take(&reader->buffer, n);
    if (FL_UNLIKELY(data == NULL || fl_reader_maybe_resume_any(reader) < 0)) {
        Py_XDECREF(data);
        return PYGEN_ERROR;
    }
    *result = data;
    return PYGEN_RETURN;
}

/* The end came before enough data: all there is, in an IncompleteReadError. */
FL_COLD PySendResult
fl_reader_raise_incomplete(FLReader *reader, PyObject *expected)
{
    PyObject *partial = fl_stream_buffer_take(
        &reader->buffer, fl_stream_buffer_size(&reader->buffer));
    PyObject *exc = partial == NULL
                        ? NULL
                        : PyObject_CallFunctionObjArgs(
                              reader->base.st->imp.IncompleteReadError,
                              partial, expected, NULL);
    Py_XDECREF(partial);
    if (exc != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
        Py_DECREF(exc);
    }
    return PYGEN_ERROR;
}
