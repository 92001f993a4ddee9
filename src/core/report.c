#include "core/report.h"

#include "base/errors.h"

/* Take the exception that is set; NULL if it is fatal and was left alone. */
static PyObject *
take_unless_fatal(void)
{
    PyObject *exc = fl_err_take();
    FL_ASSERT(exc != NULL);
    if (fl_exception_is_fatal(exc)) {
        fl_err_give(exc);
        return NULL;
    }
    return exc;
}

FL_COLD int
fl_report_handle(FLHandle *handle)
{
    PyObject *exc = take_unless_fatal();
    if (exc == NULL) {
        return -1;
    }
    FLLoop *loop = handle->loop;
    PyObject *args[] = {(PyObject *)loop, (PyObject *)handle, exc};
    PyObject *result =
        PyObject_Vectorcall(loop->st->sup.callback_failed, args, 3, NULL);
    Py_DECREF(exc);
    if (result != NULL) {
        Py_DECREF(result);
        return 0;
    }
    exc = take_unless_fatal();
    if (exc == NULL) {
        return -1;
    }
    fl_err_give(exc);
    PyErr_WriteUnraisable((PyObject *)loop);
    return 0;
}

FL_COLD int
fl_report_callback(FLLoop *loop, PyObject *callback, PyObject *const *args,
                   Py_ssize_t nargs, PyObject *context)
{
    PyObject *exc = take_unless_fatal();
    if (exc == NULL) {
        return -1;
    }
    FLHandle *handle = fl_handle_new(loop, callback, args, nargs, context);
    if (handle == NULL) {
        PyErr_WriteUnraisable((PyObject *)loop);
        fl_err_give(exc);
        PyErr_WriteUnraisable(callback);
        return 0;
    }
    fl_err_give(exc);
    int status = fl_report_handle(handle);
    Py_DECREF(handle);
    return status;
}

FL_COLD void
fl_report_to_handler(fl_state *st, PyObject *loop, PyObject *context)
{
    PyObject *result = PyObject_CallMethodOneArg(
        loop, st->str.call_exception_handler, context);
    if (result == NULL) {
        PyErr_WriteUnraisable(loop);
        return;
    }
    Py_DECREF(result);
}
