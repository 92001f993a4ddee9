#include "prims/awaited.h"

#include "base/compat.h"
#include "base/errors.h"
#include "core/stop_iteration.h"

/* A coroutine that nobody else awaits yet, or a generator that passes for one: to
   be iterated itself.  1 yes, 0 no, -1 error. */
static int
iterates_itself(fl_state *st, PyObject *awaitable)
{
    if (PyCoro_CheckExact(awaitable)) {
        PyObject *other = PyObject_GetAttr(awaitable, st->str.cr_await);
        if (other == NULL) {
            return -1;
        }
        Py_DECREF(other);
        if (other != Py_None) {
            PyErr_SetString(PyExc_RuntimeError,
                            "coroutine is being awaited already");
            return -1;
        }
        return 1;
    }
    if (!PyGen_CheckExact(awaitable)) {
        return 0;
    }
    PyObject *code = PyObject_GetAttrString(awaitable, "gi_code");
    if (code == NULL) {
        return -1;
    }
    bool coroutine = ((PyCodeObject *)code)->co_flags & CO_ITERABLE_COROUTINE;
    Py_DECREF(code);
    return coroutine;
}

PyObject *
fl_awaited_iterator(fl_state *st, PyObject *awaitable)
{
    int itself = iterates_itself(st, awaitable);
    if (itself != 0) {
        return itself < 0 ? NULL : Py_NewRef(awaitable);
    }
    const PyAsyncMethods *methods = Py_TYPE(awaitable)->tp_as_async;
    if (methods == NULL || methods->am_await == NULL) {
        PyErr_Format(PyExc_TypeError,
                     FL_PY314
                         ? "'%.100s' object can't be awaited"
                         : "object %.100s can't be used in 'await' expression",
                     Py_TYPE(awaitable)->tp_name);
        return NULL;
    }
    PyObject *iterator = methods->am_await(awaitable);
    if (iterator == NULL) {
        return NULL;
    }
    if (PyCoro_CheckExact(iterator) || !PyIter_Check(iterator)) {
        PyErr_Format(
            PyExc_TypeError,
            PyCoro_CheckExact(iterator)
                ? "__await__() returned a coroutine"
                : "__await__() returned non-iterator of type '%.100s'",
            Py_TYPE(iterator)->tp_name);
        Py_CLEAR(iterator);
    }
    return iterator;
}

/* Close it, as a coroutine does.  0, or -1. */
static int
close_iterator(PyObject *iterator)
{
    if (!PyObject_HasAttrString(iterator, "close")) {
        return 0;
    }
    PyObject *close = PyObject_CallMethod(iterator, "close", NULL);
    Py_XDECREF(close);
    return close == NULL ? -1 : 0;
}

PySendResult
fl_awaited_throw(fl_state *st, PyObject *iterator, PyObject *exc,
                 PyObject **result)
{
    *result = NULL;
    if (PyErr_GivenExceptionMatches(exc, PyExc_GeneratorExit)) {
        if (close_iterator(iterator) == 0) {
            fl_err_give(Py_NewRef(exc));
        }
        return PYGEN_ERROR;
    }
    PyObject *method = NULL;
    int found = fl_getattr_optional(iterator, st->str.throw, &method);
    if (found == 0) {
        fl_err_give(Py_NewRef(exc));
    }
    if (found > 0) {
        *result = PyObject_CallOneArg(method, exc);
        Py_DECREF(method);
    }
    return *result != NULL ? PYGEN_NEXT : fl_iteration_end(result);
}
