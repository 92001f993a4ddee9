#include "core/debug.h"

FL_COLD PyObject *
fl_debug_stack(fl_state *st)
{
    return PyObject_CallNoArgs(st->sup.extract_stack);
}

FL_COLD int
fl_debug_check_thread(const FLLoop *loop)
{
    if (loop->thread_id == 0
        || loop->thread_id == PyThread_get_thread_ident()) {
        return 0;
    }
    PyErr_SetString(PyExc_RuntimeError,
                    "Non-thread-safe operation invoked on an event loop "
                    "other than the current one");
    return -1;
}

FL_COLD int
fl_debug_check_callback(FLLoop *loop, PyObject *callback, const char *method)
{
    PyObject *result = PyObject_CallFunction(loop->st->sup.check_callback,
                                             "Os", callback, method);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

FL_COLD void
fl_debug_check_slow(FLLoop *loop, PyObject *what, int64_t began_ns)
{
    int64_t took = fl_clock_ns() - began_ns;
    PyObject *raised = fl_err_take();
    PyObject *result = PyObject_CallFunction(loop->st->sup.log_slow, "OOd",
                                             loop, what, fl_seconds(took));
    if (result == NULL) {
        PyErr_WriteUnraisable((PyObject *)loop);
    }
    Py_XDECREF(result);
    fl_err_give(raised);
}
