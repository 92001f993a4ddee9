#include "core/throw.h"

/* The exception for throw(type, value). */
static PyObject *
instance_to_throw(PyObject *type, PyObject *value)
{
    if (PyExceptionInstance_Check(type)) {
        if (value != NULL && value != Py_None) {
            PyErr_SetString(
                PyExc_TypeError,
                "instance exception may not have a separate value");
            return NULL;
        }
        return Py_NewRef(type);
    }
    if (!PyExceptionClass_Check(type)) {
        PyErr_SetString(PyExc_TypeError,
                        "exceptions must be classes deriving BaseException "
                        "or instances of such a class");
        return NULL;
    }
    if (value == NULL || value == Py_None) {
        return PyObject_CallNoArgs(type);
    }
    if (PyObject_IsInstance(value, type) > 0) {
        return Py_NewRef(value);
    }
    if (PyErr_Occurred()) {
        return NULL;
    }
    return PyTuple_Check(value) ? PyObject_Call(type, value, NULL)
                                : PyObject_CallOneArg(type, value);
}

/* 0, or -1 with an exception */
static int
check_arguments(PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 1 || nargs > 3) {
        PyErr_Format(PyExc_TypeError,
                     "throw() takes from 1 to 3 arguments (%zd given)", nargs);
        return -1;
    }
#if FL_PY312
    if (nargs > 1
        && PyErr_WarnEx(PyExc_DeprecationWarning,
                        "the (type, exc, tb) signature of throw() is "
                        "deprecated, use the single-arg signature instead.",
                        1)
               < 0) {
        return -1;
    }
#endif
    if (nargs == 3 && args[2] != Py_None && !PyTraceBack_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError,
                        "throw() third argument must be a traceback");
        return -1;
    }
    return 0;
}

PyObject *
fl_exception_to_throw(PyObject *const *args, Py_ssize_t nargs)
{
    if (check_arguments(args, nargs) < 0) {
        return NULL;
    }
    PyObject *exc = instance_to_throw(args[0], nargs > 1 ? args[1] : NULL);
    if (exc != NULL && nargs == 3 && args[2] != Py_None
        && PyException_SetTraceback(exc, args[2]) < 0) {
        Py_CLEAR(exc);
    }
    return exc;
}
