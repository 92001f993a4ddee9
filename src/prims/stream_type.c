#include "prims/stream_type.h"

#include "prims/bound_type.h"

int
fl_stream_take_loop(FLBound *self, PyObject *loop)
{
    if (loop != NULL && loop != Py_None) {
        return fl_bound_loop_setter(self, loop, NULL);
    }
    loop = PyObject_CallNoArgs(self->st->imp.get_event_loop);
    if (loop == NULL) {
        return -1;
    }
    int status = fl_bound_loop_setter(self, loop, NULL);
    Py_DECREF(loop);
    return status;
}

FL_COLD void
fl_stream_raise(PyObject *exc)
{
    if (PyExceptionInstance_Check(exc)) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    }
    else if (PyExceptionClass_Check(exc)) {
        PyErr_SetNone(exc);
    }
    else {
        PyErr_SetString(PyExc_TypeError,
                        "exceptions must derive from BaseException");
    }
}

int
fl_stream_debug(FLBound *self)
{
    PyObject *answer =
        PyObject_CallMethodNoArgs(self->loop, self->st->str.get_debug);
    int debug = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return debug;
}

PyObject *
fl_stream_class(PyObject *self, const PyTypeObject *native, PyObject *stock)
{
    PyTypeObject *type = Py_TYPE(self);
    if (type == native) {
        return Py_NewRef(stock);
    }
    return PyObject_CallOneArg(((FLBound *)self)->st->sup.class_for_isinstance,
                               (PyObject *)type);
}

int
fl_stream_refuse_deletion(PyObject *value)
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
        return -1;
    }
    return 0;
}

int
fl_stream_truth(PyObject *value)
{
    return fl_stream_refuse_deletion(value) < 0 ? -1 : PyObject_IsTrue(value);
}

static inline PyObject **
field_at(PyObject *self, void *offset)
{
    return (PyObject **)(void *)((char *)self + (size_t)offset);
}

PyObject *
fl_stream_get_field(PyObject *self, void *offset)
{
    PyObject *value = *field_at(self, offset);
    return Py_NewRef(value == NULL ? Py_None : value);
}

int
fl_stream_set_field(PyObject *self, PyObject *value, void *offset)
{
    if (fl_stream_refuse_deletion(value) < 0) {
        return -1;
    }
    PyObject **field = field_at(self, offset);
    Py_XSETREF(*field, value == Py_None ? NULL : Py_NewRef(value));
    return 0;
}
