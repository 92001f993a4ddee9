#include "prims/done.h"

#include "core/throw.h"
#include "prims/coro.h"

static int
done_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static void
done_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

/* HOT: over, with None */
static PyObject *
done_next(PyObject *Py_UNUSED(self))
{
    return NULL;
}

static PySendResult
done_am_send(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(value),
             PyObject **result)
{
    *result = Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

static PyObject *
done_await(PyObject *self)
{
    return Py_NewRef(self);
}

PyDoc_STRVAR(send_doc, "send($self, value, /)\n--\n\nIt is over.");

static PyObject *
done_send(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(value))
{
    PyErr_SetNone(PyExc_StopIteration);
    return NULL;
}

PyDoc_STRVAR(throw_doc, "throw($self, type, value=None, traceback=None, /)"
                        "\n--\n\nRaise the exception.");

static PyObject *
done_throw(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *exc = fl_exception_to_throw(args, nargs);
    if (exc != NULL) {
        fl_err_give(exc);
    }
    return NULL;
}

PyDoc_STRVAR(close_doc, "close($self, /)\n--\n\nDo nothing.");

static PyObject *
done_close(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_NONE;
}

static PyMethodDef done_methods[] = {
    {"send", done_send, METH_O, send_doc},
    {"throw", FL_METHOD(done_throw), METH_FASTCALL, throw_doc},
    {"close", done_close, METH_NOARGS, close_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot done_slots[] = {
    {Py_tp_dealloc, done_dealloc},
    {Py_tp_traverse, done_traverse},
    {Py_tp_iternext, done_next},
    {Py_am_await, done_await},
    {Py_am_send, done_am_send},
    {Py_tp_methods, done_methods},
    {0, NULL},
};

static PyType_Spec done_spec = {
    .name = "fastloop._core.DoneCoroutine",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = done_slots,
};

int
fl_done_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    if (fl_state_add_type(module, &st->DoneCoroType, &done_spec, NULL) < 0
        || fl_coro_register(st->DoneCoroType) < 0) {
        return -1;
    }
    st->done_coro = (PyObject *)PyObject_GC_New(PyObject, st->DoneCoroType);
    return st->done_coro == NULL ? -1 : 0;
}
