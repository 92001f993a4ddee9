/* Handle: a callback, its arguments and its context.

   Up to three arguments lie in the handle itself, preceded by a scratch slot, so
   that the callback is called with a vectorcall straight from the handle: no
   tuple, no copy.  While a run is under way the fields must not move: cancel()
   then only sets the flag, and the fields go when the run ends.

   asyncio's Handle is a Python class; isinstance() finds it through __class__. */
#include "core/handle.h"

#include "base/errors.h"
#include "core/context.h"
#include "core/debug.h"
#include "core/report.h"

/* --- life ------------------------------------------------------------------ */

int
fl_handle_traverse(FLHandle *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->loop);
    Py_VISIT(self->callback);
    Py_VISIT(self->context);
    Py_VISIT(self->source_tb);
    for (int i = 0; i < FL_HANDLE_INLINE; i++) {
        Py_VISIT(self->args[i]);
    }
    return 0;
}

static void
clear_call(FLHandle *self)
{
    self->nargs = 0;
    Py_CLEAR(self->callback);
    for (int i = 0; i < FL_HANDLE_INLINE; i++) {
        Py_CLEAR(self->args[i]);
    }
}

int
fl_handle_clear(FLHandle *self)
{
    self->cancelled = true; /* whoever still holds it cannot run it */
    clear_call(self);
    Py_CLEAR(self->context);
    Py_CLEAR(self->source_tb);
    Py_CLEAR(self->loop);
    return 0;
}

static void
handle_dealloc(FLHandle *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    fl_state *st = self->loop == NULL ? NULL : self->loop->st;
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    fl_handle_clear(self);
    if (st != NULL && type == st->HandleType
        && fl_freelist_put_fresh(&st->handles, (PyObject *)self)) {
        return;
    }
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

void
fl_handle_setup_native(FLHandle *self, FLLoop *loop, PyMethodDef *method,
                       PyObject *callback)
{
    self->loop = (FLLoop *)Py_NewRef(loop);
    self->callback = Py_NewRef(callback);
    self->native = method;
    self->context = NULL;
    self->weakrefs = NULL;
    self->source_tb = NULL;
    self->cancelled = false;
    self->has_repr = false;
    self->describing = false;
    self->running = 0;
    self->nargs = 0;
    self->args[0] = self->args[1] = self->args[2] = NULL;
}

int
fl_handle_setup(FLHandle *self, FLLoop *loop, PyObject *callback,
                PyObject *const *args, Py_ssize_t nargs, PyObject *context)
{
    fl_handle_setup_native(self, loop, NULL, callback);
    if (context != NULL) {
        self->context = Py_NewRef(context);
    }
    else if (FL_UNLIKELY(fl_context_capture(&self->context) < 0)) {
        return -1;
    }
    if (FL_LIKELY(nargs <= FL_HANDLE_INLINE)) {
        for (Py_ssize_t i = 0; i < nargs; i++) {
            self->args[i] = Py_NewRef(args[i]);
        }
        self->nargs = (uint8_t)nargs;
    }
    else {
        PyObject *tuple = PyTuple_New(nargs);
        if (tuple == NULL) {
            return -1;
        }
        for (Py_ssize_t i = 0; i < nargs; i++) {
            PyTuple_SET_ITEM(tuple, i, Py_NewRef(args[i]));
        }
        self->args[0] = tuple;
        self->nargs = FL_HANDLE_TUPLE;
    }
    if (FL_UNLIKELY(loop->debug)) {
        self->source_tb = fl_debug_stack(loop->st);
        return self->source_tb == NULL ? -1 : 0;
    }
    return 0;
}

static inline FLHandle *
allocate(fl_state *st)
{
    FLHandle *self = (FLHandle *)fl_freelist_get(&st->handles);
    return self != NULL ? self : PyObject_GC_New(FLHandle, st->HandleType);
}

FLHandle *
fl_handle_new_native(FLLoop *loop, PyMethodDef *method, PyObject *owner)
{
    FLHandle *self = allocate(loop->st);
    if (self != NULL) {
        fl_handle_setup_native(self, loop, method, owner);
        PyObject_GC_Track(self);
    }
    return self;
}

/* HOT */
FLHandle *
fl_handle_new(FLLoop *loop, PyObject *callback, PyObject *const *args,
              Py_ssize_t nargs, PyObject *context)
{
    FLHandle *self = allocate(loop->st);
    if (self == NULL) {
        return NULL;
    }
    int status = fl_handle_setup(self, loop, callback, args, nargs, context);
    PyObject_GC_Track(self);
    if (FL_UNLIKELY(status < 0)) {
        Py_DECREF(self);
        return NULL;
    }
    return self;
}

/* --- running and cancelling -------------------------------------------------- */

/* The call is dropped, but in debug mode, as in asyncio's, the log must still
   tell what was cancelled: keep the repr in its place. */
static int
settle_cancelled(FLHandle *self)
{
    PyObject *repr = NULL;
    if (self->loop != NULL && FL_UNLIKELY(self->loop->debug)) {
        repr = PyObject_Repr((PyObject *)self);
        if (repr == NULL) {
            return -1;
        }
    }
    /* Beware: a repr runs user code, which may have begun a run. */
    if (self->running == 0) {
        clear_call(self);
        self->args[0] = repr;
        self->has_repr = repr != NULL;
    }
    else {
        Py_XDECREF(repr);
    }
    return 0;
}

static FL_COLD void
settle_after_run(FLHandle *self)
{
    PyObject *raised = fl_err_take();
    if (settle_cancelled(self) < 0) {
        PyErr_Clear();
        clear_call(self);
    }
    fl_err_give(raised);
}

static inline PyObject *
call(FLHandle *self)
{
    if (FL_UNLIKELY(self->nargs == FL_HANDLE_TUPLE)) {
        return PyObject_Call(self->callback, self->args[0], NULL);
    }
    return PyObject_Vectorcall(
        self->callback, self->args,
        (size_t)self->nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
}

/* HOT */
int
fl_handle_run(FLHandle *self)
{
    if (self->cancelled) {
        return 0;
    }
    self->running++;
    PyObject *result = NULL;
    if (self->native != NULL) {
        result = self->native->ml_meth(self->callback, NULL);
    }
    else {
        FLLoop *loop = self->loop;
        PyObject *context = fl_context_enter(loop, &self->context);
        if (FL_LIKELY(context != NULL)) {
            result = call(self);
            if (FL_UNLIKELY(fl_context_exit(loop, &self->context, context)
                            < 0)) {
                Py_CLEAR(result);
            }
        }
    }
    int status = 0;
    if (FL_LIKELY(result != NULL)) {
        Py_DECREF(result);
    }
    else {
        status = fl_report_handle(self);
    }
    self->running--;
    if (FL_UNLIKELY(self->cancelled && self->running == 0)) {
        settle_after_run(self);
    }
    return status;
}

int
fl_handle_cancel(FLHandle *self)
{
    if (self->cancelled) {
        return 0;
    }
    self->cancelled = true;
    return self->running > 0 ? 0 : settle_cancelled(self);
}

/* --- what Python sees --------------------------------------------------------- */

/* A cancelled handle shows no call, except to its own repr in debug mode. */
static bool
hides_call(const FLHandle *self)
{
    return self->callback == NULL || (self->cancelled && !self->describing);
}

PyObject *
fl_handle_args(FLHandle *self)
{
    if (hides_call(self)) {
        Py_RETURN_NONE;
    }
    if (self->nargs == FL_HANDLE_TUPLE) {
        return Py_NewRef(self->args[0]);
    }
    PyObject *tuple = PyTuple_New(self->nargs);
    if (tuple == NULL) {
        return NULL;
    }
    for (int i = 0; i < self->nargs; i++) {
        PyTuple_SET_ITEM(tuple, i, Py_NewRef(self->args[i]));
    }
    return tuple;
}

static PyObject *
or_none(PyObject *o)
{
    return Py_NewRef(o == NULL ? Py_None : o);
}

/* A handle that runs C code, or was cleared, has none. */
static PyObject *
context_of(FLHandle *self)
{
    if (self->native != NULL || self->loop == NULL) {
        Py_RETURN_NONE;
    }
    return Py_XNewRef(fl_context_get(&self->context));
}

PyDoc_STRVAR(cancel_doc, "cancel($self, /)\n--\n\n"
                         "Cancel the callback; does nothing if it was "
                         "cancelled or has run.");

static PyObject *
handle_cancel(FLHandle *self, PyObject *Py_UNUSED(ignored))
{
    if (fl_handle_cancel(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(cancelled_doc, "cancelled($self, /)\n--\n\n"
                            "Return True if the callback was cancelled.");

static PyObject *
handle_cancelled(FLHandle *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(self->cancelled);
}

PyDoc_STRVAR(get_context_doc,
             "get_context($self, /)\n--\n\n"
             "Return the contextvars.Context the callback runs in.");

static PyObject *
handle_get_context(FLHandle *self, PyObject *Py_UNUSED(ignored))
{
    return context_of(self);
}

static PyObject *
handle_run(FLHandle *self, PyObject *Py_UNUSED(ignored))
{
    Py_INCREF(self);
    int status = fl_handle_run(self);
    Py_DECREF(self);
    if (status < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
handle_repr(FLHandle *self)
{
    if (self->has_repr) {
        return Py_NewRef(self->args[0]);
    }
    if (self->loop == NULL) {
        return PyUnicode_FromFormat("<%s>", Py_TYPE(self)->tp_name);
    }
    bool nested = self->describing;
    self->describing = self->loop->debug;
    PyObject *repr =
        PyObject_CallOneArg(self->loop->st->sup.handle_repr, (PyObject *)self);
    self->describing = nested;
    return repr;
}

static PyObject *
get_class(FLHandle *self, void *Py_UNUSED(closure))
{
    PyTypeObject *type = Py_TYPE(self);
    if (self->loop == NULL) {
        return Py_NewRef(type);
    }
    fl_state *st = self->loop->st;
    return Py_NewRef(type == st->TimerHandleType ? st->imp.asyncio_TimerHandle
                                                 : st->imp.asyncio_Handle);
}

static PyObject *
get_callback(FLHandle *self, void *Py_UNUSED(closure))
{
    if (self->native != NULL && !hides_call(self)) {
        return PyCFunction_New(self->native, self->callback);
    }
    return or_none(hides_call(self) ? NULL : self->callback);
}

static PyObject *
get_args(FLHandle *self, void *Py_UNUSED(closure))
{
    return fl_handle_args(self);
}

static PyObject *
get_cancelled(FLHandle *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->cancelled);
}

static PyObject *
get_repr(FLHandle *self, void *Py_UNUSED(closure))
{
    return or_none(self->has_repr ? self->args[0] : NULL);
}

static PyObject *
get_loop(FLHandle *self, void *Py_UNUSED(closure))
{
    return or_none((PyObject *)self->loop);
}

static PyObject *
get_context(FLHandle *self, void *Py_UNUSED(closure))
{
    return context_of(self);
}

static PyObject *
get_source_tb(FLHandle *self, void *Py_UNUSED(closure))
{
    return or_none(self->source_tb);
}

#define HANDLE_GETSETS                                                        \
    {"__class__", (getter)get_class, NULL, NULL, NULL},                       \
        {"_callback", (getter)get_callback, NULL, NULL, NULL},                \
        {"_args", (getter)get_args, NULL, NULL, NULL},                        \
        {"_cancelled", (getter)get_cancelled, NULL, NULL, NULL},              \
        {"_loop", (getter)get_loop, NULL, NULL, NULL},                        \
        {"_context", (getter)get_context, NULL, NULL, NULL},                  \
        {"_repr", (getter)get_repr, NULL, NULL, NULL},                        \
        {"_source_traceback", (getter)get_source_tb, NULL, NULL, NULL},       \
    {                                                                         \
        NULL, NULL, NULL, NULL, NULL                                          \
    }

static PyGetSetDef handle_getset[] = {HANDLE_GETSETS};

static PyMethodDef handle_methods[] = {
    {"cancel", (PyCFunction)handle_cancel, METH_NOARGS, cancel_doc},
    {"cancelled", (PyCFunction)handle_cancelled, METH_NOARGS, cancelled_doc},
    {"get_context", (PyCFunction)handle_get_context, METH_NOARGS,
     get_context_doc},
    {"_run", (PyCFunction)handle_run, METH_NOARGS, NULL},
    {"__reduce__", fl_refuse_pickle, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef handle_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(FLHandle, weakrefs),
     Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(handle_doc,
             "A scheduled callback, returned by Loop.call_soon().\n\n"
             "See asyncio.Handle.");

static PyType_Slot handle_slots[] = {
    {Py_tp_doc, (void *)handle_doc},
    {Py_tp_dealloc, handle_dealloc},
    {Py_tp_traverse, fl_handle_traverse},
    {Py_tp_clear, fl_handle_clear},
    {Py_tp_repr, handle_repr},
    {Py_tp_methods, handle_methods},
    {Py_tp_members, handle_members},
    {Py_tp_getset, handle_getset},
    {0, NULL},
};

static PyType_Spec handle_spec = {
    .name = "fastloop.Handle",
    .basicsize = sizeof(FLHandle),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE
             | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = handle_slots,
};

int
fl_handle_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    return fl_state_add_type(module, &st->HandleType, &handle_spec, NULL);
}
