/* Which of the loop's methods are overridden, in a subclass or by an attribute.

   What is not can be done in C without calling it.  Looked at when a run begins and
   when one of these attributes of the loop is set. */
#include "core/loop.h"

#define PLAIN_METHODS(X)                                                      \
    X(create_future) X(create_task) X(call_later) X(call_at) X(time)

/* Is loop.name a bound method of the C type?  1, 0 or -1. */
static int
is_ours(FLLoop *loop, PyObject *name)
{
    PyObject *ours = PyObject_GetAttr((PyObject *)loop->st->LoopType, name);
    PyObject *method =
        ours == NULL ? NULL : PyObject_GetAttr((PyObject *)loop, name);
    int same = method == NULL ? -1 : 0;
    if (method != NULL && PyCFunction_CheckExact(method)
        && Py_IS_TYPE(ours, &PyMethodDescr_Type)) {
        const PyMethodDef *def = ((PyMethodDescrObject *)ours)->d_method;
        same = ((PyCFunctionObject *)method)->m_ml == def
               && PyCFunction_GET_SELF(method) == (PyObject *)loop;
    }
    Py_XDECREF(method);
    Py_XDECREF(ours);
    return same;
}

int
fl_loop_update_overrides(FLLoop *loop)
{
    fl_state *st = loop->st;
    int same = is_ours(loop, st->str.call_soon);
    if (same < 0) {
        return -1;
    }
    loop->direct = same > 0;
#define X(name)                                                               \
    if (same > 0 && (same = is_ours(loop, st->str.name)) < 0) {               \
        return -1;                                                            \
    }
    PLAIN_METHODS(X)
#undef X
    loop->plain = same > 0;
    return 0;
}

int
fl_loop_attribute_set(FLLoop *loop, PyObject *name)
{
    const fl_state *st = loop->st;
    bool matters = PyUnicode_Compare(name, st->str.call_soon) == 0;
#define X(attribute)                                                          \
    matters = matters || PyUnicode_Compare(name, st->str.attribute) == 0;
    PLAIN_METHODS(X)
#undef X
    if (PyErr_Occurred()) {
        return -1;
    }
    return matters ? fl_loop_update_overrides(loop) : 0;
}
