/* The interpreter's SEND instruction reads the result of an await from a
   StopIteration.  Constructing one in the usual way costs more than all the rest
   of the await, so ours is a subclass whose instances are recycled.  It differs
   from its base in nothing else, name included.  Nearly all are gone before another is
   made: so the youngest is unknown to the garbage collector.

   Python 3.11 takes the value from the error indicator unwrapped, for free. */
#include "core/stop_iteration.h"

#include "base/errors.h"

#if FL_PY312

/* A tuple of one that nobody else has seen serves again, with the next value. */
static void
empty_args(PyStopIterationObject *self)
{
    PyObject *args = self->args;
    if (args != NULL && PyTuple_CheckExact(args) && PyTuple_GET_SIZE(args) == 1
        && Py_REFCNT(args) == 1) {
        PyObject *value = PyTuple_GET_ITEM(args, 0);
        PyTuple_SET_ITEM(args, 0, Py_None);
        Py_DECREF(value);
        return;
    }
    Py_CLEAR(self->args);
}

static int
fill_args(PyStopIterationObject *self, PyObject *value)
{
    if (FL_LIKELY(self->args != NULL)) {
        FL_ASSERT(PyTuple_GET_ITEM(self->args, 0) == Py_None);
        PyTuple_SET_ITEM(self->args, 0, Py_NewRef(value));
        if (FL_UNLIKELY(!PyObject_GC_IsTracked(self->args))) {
            PyObject_GC_Track(
                self->args); /* its last item was a number, say */
        }
        return 0;
    }
    self->args = PyTuple_Pack(1, value);
    return self->args == NULL ? -1 : 0;
}

/* Has somebody caught it, or thrown it? */
static inline bool
is_adorned(const PyStopIterationObject *self)
{
    uintptr_t any = (uintptr_t)self->dict | (uintptr_t)self->notes
                    | (uintptr_t)self->traceback | (uintptr_t)self->context
                    | (uintptr_t)self->cause;
    return any != 0 || self->suppress_context;
}

static void
stop_dealloc(PyStopIterationObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject *module = ((PyHeapTypeObject *)type)->ht_module;
    fl_state *st = module == NULL ? NULL : fl_state_of_module(module);
    if (FL_LIKELY(st != NULL && st->young_stop == (PyObject *)self)) {
        st->young_stop = NULL;
    }
    else {
        PyObject_GC_UnTrack(self);
    }
    if (FL_UNLIKELY(is_adorned(self))) {
        Py_CLEAR(self->dict);
        Py_CLEAR(self->notes);
        Py_CLEAR(self->traceback);
        Py_CLEAR(self->context);
        Py_CLEAR(self->cause);
        self->suppress_context = 0;
    }
    empty_args(self);
    Py_CLEAR(self->value);
    if (st != NULL && type == st->StopIterationType
        && st->stop_iterations.count < FL_FREELIST_KEEP
        && fl_freelist_put_fresh(&st->stop_iterations, (PyObject *)self)) {
        return;
    }
    Py_CLEAR(self->args);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

/* HOT */
PyObject *
fl_stop_iteration(fl_state *st, PyObject *value)
{
    if (value == Py_None) {
        return NULL; /* None is immortal */
    }
    PyObject *exc = fl_freelist_get(&st->stop_iterations);
    PyObject *young = st->young_stop;
    st->young_stop = exc;
    if (FL_UNLIKELY(young != NULL)) {
        PyObject_GC_Track(young);
    }
    if (FL_UNLIKELY(exc == NULL)) { /* a new one is tracked from the start */
        exc = PyType_GenericAlloc(st->StopIterationType, 0);
    }
    if (exc == NULL || fill_args((PyStopIterationObject *)exc, value) < 0) {
        Py_XDECREF(exc);
        Py_DECREF(value);
        return NULL;
    }
    ((PyStopIterationObject *)exc)->value = value;
    PyErr_SetRaisedException(exc);
    return NULL;
}

static int
stop_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return ((PyTypeObject *)PyExc_StopIteration)
        ->tp_traverse(self, visit, arg);
}

static PyType_Slot stop_slots[] = {
    {Py_tp_dealloc, stop_dealloc},
    {Py_tp_traverse, stop_traverse},
    {0, NULL},
};

static PyType_Spec stop_spec = {
    .name = "builtins.StopIteration",
    .basicsize = sizeof(PyStopIterationObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = stop_slots,
};

int
fl_stop_iteration_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    st->StopIterationType = (PyTypeObject *)PyType_FromModuleAndSpec(
        module, &stop_spec, PyExc_StopIteration);
    return st->StopIterationType == NULL ? -1 : 0;
}

#else

PyObject *
fl_stop_iteration(fl_state *Py_UNUSED(st), PyObject *value)
{
    if (value == Py_None) {
        Py_DECREF(value);
    }
    else if (!PyTuple_Check(value) && !PyExceptionInstance_Check(value)) {
        PyErr_Restore(Py_NewRef(PyExc_StopIteration), value, NULL);
    }
    else {
        PyObject *exc = PyObject_CallOneArg(PyExc_StopIteration, value);
        Py_DECREF(value);
        if (exc != NULL) {
            PyErr_SetObject(PyExc_StopIteration, exc);
            Py_DECREF(exc);
        }
    }
    return NULL;
}

int
fl_stop_iteration_init_types(PyObject *Py_UNUSED(module))
{
    return 0;
}

#endif

/* --- the other side: what an iteration has come to ------------------------------- */

PySendResult
fl_iteration_end(PyObject **result)
{
    if (!PyErr_Occurred()) {
        *result = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        return PYGEN_ERROR;
    }
    PyObject *stop = fl_err_take();
    PyObject *value = ((PyStopIterationObject *)stop)->value;
    *result = Py_NewRef(value == NULL ? Py_None : value);
    Py_DECREF(stop);
    return PYGEN_RETURN;
}
