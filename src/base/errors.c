#include "base/errors.h"

PyObject *
fl_uv_error(int rc)
{
    FL_ASSERT(rc < 0);
    int number = -rc;
    /* codes that libuv made up (UV_EOF, UV_EAI_*) have no errno */
    const char *text = number < 3000 ? strerror(number) : uv_strerror(rc);
    return PyObject_CallFunction(PyExc_OSError, "is", number, text);
}

PyObject *
fl_raise_uv(int rc)
{
    PyObject *exc = fl_uv_error(rc);
    if (exc != NULL) {
        fl_err_give(exc);
    }
    return NULL;
}

bool
fl_exception_is_fatal(PyObject *exc)
{
    return PyErr_GivenExceptionMatches(exc, PyExc_KeyboardInterrupt)
           || PyErr_GivenExceptionMatches(exc, PyExc_SystemExit);
}

PyObject *
fl_refuse_pickle(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyErr_Format(PyExc_TypeError, "cannot pickle '%s' object",
                        Py_TYPE(self)->tp_name);
}

#if !FL_PY312
PyObject *
fl_err_take(void)
{
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    if (type == NULL) {
        return NULL;
    }
    PyErr_NormalizeException(&type, &value, &tb);
    if (tb != NULL) {
        PyException_SetTraceback(value, tb);
        Py_DECREF(tb);
    }
    Py_DECREF(type);
    return value;
}

void
fl_err_give(PyObject *exc)
{
    if (exc == NULL) {
        PyErr_Clear();
        return;
    }
    PyErr_Restore(Py_NewRef(Py_TYPE(exc)), exc, PyException_GetTraceback(exc));
}
#endif
