/* What `await future` iterates: yields the future once, then returns its
   result. */
#include "core/future.h"

#include "base/errors.h"
#include "core/stop_iteration.h"
#include "core/throw.h"

typedef struct {
    PyObject_HEAD
    FLFuture *future; /* owned; NULL once exhausted */
} FLFutureIter;

/* --- life ------------------------------------------------------------------ */

static int
iter_traverse(FLFutureIter *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->future);
    return 0;
}

static int
iter_clear(FLFutureIter *self)
{
    Py_CLEAR(self->future);
    return 0;
}

static void
iter_dealloc(FLFutureIter *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->future);
    PyObject *module = ((PyHeapTypeObject *)type)->ht_module;
    fl_state *st = module == NULL ? NULL : fl_state_of_module(module);
    if (st != NULL && type == st->FutureIterType
        && fl_freelist_put_fresh(&st->future_iters, (PyObject *)self)) {
        return;
    }
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

/* HOT */
PyObject *
fl_future_iter(FLFuture *fut)
{
    if (fl_future_check_initialised(fut) < 0) {
        return NULL;
    }
    fl_state *st = fl_future_state(fut);
    FLFutureIter *self = (FLFutureIter *)fl_freelist_get(&st->future_iters);
    if (self == NULL) {
        self = PyObject_GC_New(FLFutureIter, st->FutureIterType);
        if (self == NULL) {
            return NULL;
        }
    }
    self->future = (FLFuture *)Py_NewRef(fut);
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

/* --- iteration ---------------------------------------------------------------- */

/* HOT */
static PySendResult
iter_am_send(FLFutureIter *self, PyObject *Py_UNUSED(value), PyObject **result)
{
    FLFuture *fut = self->future;
    if (FL_UNLIKELY(fut == NULL)) {
        *result = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    *result = NULL;
    if (!fl_future_done(fut)) {
        if (FL_UNLIKELY(fut->blocking)) {
            PyErr_SetString(PyExc_RuntimeError,
                            "await wasn't used with future");
            return PYGEN_ERROR;
        }
        fut->blocking = true;
        *result = Py_NewRef(fut);
        return PYGEN_NEXT;
    }
    self->future = NULL;
    *result = fl_future_get_result(fut);
    Py_DECREF(fut);
    return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

/* HOT */
static PyObject *
iter_next(FLFutureIter *self)
{
    if (self->future == NULL) {
        return NULL;
    }
    fl_state *st = fl_future_state(self->future);
    PyObject *result;
    PySendResult status = iter_am_send(self, Py_None, &result);
    if (status == PYGEN_RETURN) {
        return fl_stop_iteration(st, result);
    }
    return result; /* NULL when an exception is raised or all is exhausted */
}

PyDoc_STRVAR(send_doc, "send($self, value, /)\n--\n\n"
                       "Like next(); the value is ignored.");

static PyObject *
iter_send(FLFutureIter *self, PyObject *Py_UNUSED(value))
{
    PyObject *result = iter_next(self);
    if (result == NULL && !PyErr_Occurred()) {
        PyErr_SetNone(PyExc_StopIteration);
    }
    return result;
}

PyDoc_STRVAR(throw_doc, "throw($self, type, value=None, traceback=None, /)"
                        "\n--\n\nRaise the exception; the wait is over.");

static PyObject *
iter_throw(FLFutureIter *self, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *exc = fl_exception_to_throw(args, nargs);
    if (exc == NULL) {
        return NULL;
    }
    Py_CLEAR(self->future);
    fl_err_give(exc);
    return NULL;
}

PyDoc_STRVAR(close_doc, "close($self, /)\n--\n\nEnd the wait.");

static PyObject *
iter_close(FLFutureIter *self, PyObject *Py_UNUSED(ignored))
{
    Py_CLEAR(self->future);
    Py_RETURN_NONE;
}

static PyMethodDef iter_methods[] = {
    {"send", (PyCFunction)iter_send, METH_O, send_doc},
    {"throw", FL_METHOD(iter_throw), METH_FASTCALL, throw_doc},
    {"close", (PyCFunction)iter_close, METH_NOARGS, close_doc},
    {"__reduce__", fl_refuse_pickle, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot iter_slots[] = {
    {Py_tp_dealloc, iter_dealloc}, {Py_tp_traverse, iter_traverse},
    {Py_tp_clear, iter_clear},     {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, iter_next},   {Py_am_send, iter_am_send},
    {Py_tp_methods, iter_methods}, {0, NULL},
};

static PyType_Spec iter_spec = {
    .name = "fastloop._core.FutureIter",
    .basicsize = sizeof(FLFutureIter),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = iter_slots,
};

int
fl_future_iter_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    return fl_state_add_type(module, &st->FutureIterType, &iter_spec, NULL);
}
