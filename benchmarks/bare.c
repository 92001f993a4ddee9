/* What CPython alone costs: the floor of the scheduling and task benchmarks.

   Callbacks called and coroutines stepped in plain loops in C, with no event loop
   around them. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* call(func, n, *args): call func(*args) n times. */
static PyObject *
call(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    (void)module;
    Py_ssize_t n = PyLong_AsSsize_t(args[1]);
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *result =
            PyObject_Vectorcall(args[0], args + 2, (size_t)(nargs - 2), NULL);
        if (result == NULL) {
            return NULL;
        }
        Py_DECREF(result);
    }
    Py_RETURN_NONE;
}

/* Step a coroutine once: 1 if it waits for more, 0 if it is done, -1 on error. */
static int
step(PyObject *coro)
{
    PyObject *result;
    PySendResult sent = PyIter_Send(coro, Py_None, &result);
    if (sent == PYGEN_ERROR) {
        return -1;
    }
    Py_DECREF(result);
    return sent == PYGEN_NEXT;
}

/* spawn(func, n): make n coroutines, one after the other, and run each to its end. */
static PyObject *
spawn(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    (void)module;
    (void)nargs;
    Py_ssize_t n = PyLong_AsSsize_t(args[1]);
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *coro = PyObject_CallNoArgs(args[0]);
        int more = 1;
        while (coro != NULL && more == 1) {
            more = step(coro);
        }
        Py_XDECREF(coro);
        if (coro == NULL || more < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

/* rounds(coros): step all coroutines of a list in turns, until the first is done. */
static PyObject *
rounds(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    (void)module;
    (void)nargs;
    for (;;) {
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(args[0]); i++) {
            int more = step(PyList_GET_ITEM(args[0], i));
            if (more < 0) {
                return NULL;
            }
            if (more == 0) {
                Py_RETURN_NONE;
            }
        }
    }
}

static PyMethodDef methods[] = {
    {"call", (PyCFunction)(void (*)(void))call, METH_FASTCALL, NULL},
    {"spawn", (PyCFunction)(void (*)(void))spawn, METH_FASTCALL, NULL},
    {"rounds", (PyCFunction)(void (*)(void))rounds, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "bare",
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit_bare(void)
{
    return PyModule_Create(&module);
}
