/* What asyncio.iscoroutine() takes for a kind of coroutines, in place of
   collections.abc.Coroutine.

   An abstract class asks twice about an object whose __class__ is not its type, as
   that of our futures is not, and both times in Python; asyncio.wait() puts the
   question for each future that it is given.  This one knows the native futures, and
   leaves the others to the abstract class. */
#include "core/coroutine_kind.h"

#include "base/errors.h"
#include "core/future.h"

static PyObject *
kind_instancecheck(PyObject *self, PyObject *object)
{
    fl_state *st = fl_state_of_type(Py_TYPE(self));
    if (fl_future_is_native(st, object)) {
        Py_RETURN_FALSE;
    }
    int status = PyObject_IsInstance(object, st->imp.abc_Coroutine);
    return status < 0 ? NULL : PyBool_FromLong(status);
}

static PyObject *
kind_subclasscheck(PyObject *self, PyObject *type)
{
    fl_state *st = fl_state_of_type(Py_TYPE(self));
    int status = PyObject_IsSubclass(type, st->imp.abc_Coroutine);
    return status < 0 ? NULL : PyBool_FromLong(status);
}

static int
kind_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static void
kind_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    type->tp_free(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(kind_doc,
             "What isinstance() takes for collections.abc.Coroutine: "
             "quicker to say no to\nnative futures.");

static PyMethodDef kind_methods[] = {
    {"__instancecheck__", kind_instancecheck, METH_O, NULL},
    {"__subclasscheck__", kind_subclasscheck, METH_O, NULL},
    {"__reduce__", fl_refuse_pickle, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot kind_slots[] = {
    {Py_tp_doc, (void *)kind_doc},
    {Py_tp_dealloc, kind_dealloc},
    {Py_tp_traverse, kind_traverse},
    {Py_tp_methods, kind_methods},
    {0, NULL},
};

static PyType_Spec kind_spec = {
    .name = "fastloop._core.CoroutineKind",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = kind_slots,
};

int
fl_coroutine_kind_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    if (fl_state_add_type(module, &st->CoroutineKindType, &kind_spec, NULL)
        < 0) {
        return -1;
    }
    PyTypeObject *type = st->CoroutineKindType;
    PyObject *kind = type->tp_alloc(type, 0);
    int status = PyModule_AddObjectRef(module, "coroutine_kind", kind);
    Py_XDECREF(kind);
    return status;
}
