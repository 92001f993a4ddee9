/* Coroutines whose body is C: what Python sees of them, and what drives them.

   `await coro` iterates the very object: its __await__ returns self.

   Beware: a body, an awaited iterator and every release may run code that does
   anything to the coroutine, except enter its body: phase guards that. */
#include "prims/coro.h"

#include "core/stop_iteration.h"
#include "core/throw.h"
#include "prims/awaited.h"

/* --- life ------------------------------------------------------------------ */

/* Most coroutines are over before another is made.  So the one made last, while it has
   not waited, is unknown to the garbage collector: only from then on can it be part of
   a cycle that somebody forgets. */
static void
track_young(fl_state *st)
{
    PyObject *young = st->young_coro;
    if (young != NULL) {
        st->young_coro = NULL;
        PyObject_GC_Track(young);
    }
}

static int
coro_traverse(FLCoro *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->awaiting);
    for (int i = 0; i < FL_CORO_SLOTS; i++) {
        Py_VISIT(self->slots[i]);
    }
    return 0;
}

void
fl_coro_unlink(FLCoro *self)
{
    if (fl_list_linked(&self->node)) {
        fl_list_unlink(&self->node);
        Py_DECREF(self->slots[FL_WAIT_FUTURE]); /* the list's */
    }
}

/* HOT: emptied, it cannot run any more.  Most use one or two slots. */
static int
coro_clear(FLCoro *self)
{
    self->phase = FL_CORO_CLOSED;
    fl_coro_unlink(self);
    Py_CLEAR(self->awaiting);
    Py_CLEAR(self->slots[0]);
    Py_CLEAR(self->slots[1]);
    uintptr_t more = 0;
    for (int i = 2; i < FL_CORO_SLOTS; i++) {
        more |= (uintptr_t)self->slots[i];
    }
    if (more != 0) {
        for (int i = 2; i < FL_CORO_SLOTS; i++) {
            Py_CLEAR(self->slots[i]);
        }
    }
    return 0;
}

static void
warn_unawaited(FLCoro *self)
{
    if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                         "coroutine '%s' was never awaited",
                         self->kind->qualname)
        < 0) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
}

static PyObject *coro_close(FLCoro *self, PyObject *ignored);

static void
coro_finalize(FLCoro *self)
{
    self->finalized = true;
    if (self->phase == FL_CORO_CLOSED) {
        return;
    }
    PyObject *raised = fl_err_take();
    if (self->phase == FL_CORO_CREATED) {
        warn_unawaited(self);
    }
    PyObject *result = coro_close(self, NULL);
    if (result == NULL) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    Py_XDECREF(result);
    fl_err_give(raised);
}

/* The state, or NULL if the type has lost its module: then there is none any more. */
FL_BORROWED static inline fl_state *
state_of(const FLCoro *self)
{
    return ((PyHeapTypeObject *)Py_TYPE(self))->ht_module == NULL ? NULL
                                                                  : self->st;
}

/* HOT: what is over holds nothing. */
static inline void
free_closed(FLCoro *self, fl_state *st)
{
    FL_ASSERT(self->awaiting == NULL && self->slots[0] == NULL);
    PyTypeObject *type = Py_TYPE(self);
    if (FL_UNLIKELY(st == NULL || self->finalized)
        || !fl_freelist_put_fresh(&st->coros, (PyObject *)self)) {
        PyObject_GC_Del(self);
        Py_DECREF(type);
    }
}

static void coro_dealloc(FLCoro *self);

/* It was never awaited, or never ended, or somebody has a weak reference to it. */
static FL_COLD void
dealloc_slowly(FLCoro *self)
{
    if (self->phase != FL_CORO_CLOSED
        && PyObject_CallFinalizerFromDealloc((PyObject *)self) < 0) {
        return;
    }
    PyObject_GC_UnTrack(self);
    FL_TRASHCAN_BEGIN(self, coro_dealloc)
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    if (self->phase != FL_CORO_CLOSED) {
        coro_clear(self); /* it ignored GeneratorExit */
    }
    free_closed(self, state_of(self));
    FL_TRASHCAN_END
}

static void
coro_dealloc(FLCoro *self)
{
    fl_state *st = state_of(self);
    bool young = st != NULL && st->young_coro == (PyObject *)self;
    if (FL_UNLIKELY(self->phase != FL_CORO_CLOSED || self->weakrefs != NULL)) {
        if (young) {
            track_young(st);
        }
        dealloc_slowly(self);
        return;
    }
    if (FL_LIKELY(young)) {
        st->young_coro = NULL;
    }
    else {
        PyObject_GC_UnTrack(self);
    }
    free_closed(self, st);
}

/* HOT */
FLCoro *
fl_coro_new(fl_state *st, const struct fl_coro_kind *kind)
{
    FLCoro *self = (FLCoro *)fl_freelist_get(&st->coros);
    if (self == NULL) {
        self = PyObject_GC_New(FLCoro, st->CoroType);
        if (self == NULL) {
            return NULL;
        }
        self->st = st;
        self->weakrefs = NULL;
        self->awaiting = NULL;
        memset(self->slots, 0, sizeof(self->slots));
        fl_list_init(&self->node);
    }
    self->kind = kind;
    self->count = 0;
    self->step = 0;
    self->option = 0;
    self->phase = FL_CORO_CREATED;
    self->finalized = false;
    track_young(st);
    st->young_coro = (PyObject *)self;
    return self;
}

/* --- what the body may await ------------------------------------------------- */

/* A future of ours whose await does nothing unusual. */
static inline bool
is_native(const FLCoro *self, PyObject *o)
{
    return fl_future_is_native(self->st, o);
}

PySendResult
fl_coro_wait(FLCoro *self, PyObject *future, PyObject **result)
{
    if (FL_LIKELY(is_native(self, future))) {
        FL_ASSERT(self->awaiting == NULL);
        self->awaiting = Py_NewRef(future);
        *result = NULL;
        return PYGEN_NEXT;
    }
    return fl_coro_await(self, future, result);
}

PySendResult
fl_coro_await(FLCoro *self, PyObject *awaitable, PyObject **result)
{
    FL_ASSERT(self->awaiting == NULL);
    *result = NULL;
    if (is_native(self, awaitable)) {
        if (fl_future_check_initialised((FLFuture *)awaitable) == 0) {
            self->awaiting = Py_NewRef(awaitable);
        }
        return PYGEN_NEXT;
    }
    self->awaiting = fl_awaited_iterator(self->st, awaitable);
    /* failed: drive() calls the body with the exception */
    return PYGEN_NEXT;
}

/* --- driving ------------------------------------------------------------------- */

/* Advance what is awaited.  PYGEN_NEXT: it yielded *result; PYGEN_RETURN: it gave
   *result; PYGEN_ERROR: it raised.  In the latter two cases it is let go. */
static PySendResult
advance_awaited(FLCoro *self, PyObject *sent, PyObject **result)
{
    PyObject *awaited = self->awaiting;
    if (FL_LIKELY(is_native(self, awaited))) {
        FLFuture *fut = (FLFuture *)awaited;
        if (!fl_future_done(fut)) {
            if (FL_LIKELY(!fut->blocking)) {
                fut->blocking = true;
                *result = Py_NewRef(fut);
                return PYGEN_NEXT;
            }
            PyErr_SetString(PyExc_RuntimeError,
                            "await wasn't used with future");
            *result = NULL;
        }
        else {
            *result = fl_future_get_result(fut);
        }
        self->awaiting = NULL;
        Py_DECREF(fut);
        return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
    }
    Py_INCREF(awaited);
    PySendResult status = PyIter_Send(awaited, sent, result);
    Py_DECREF(awaited);
    if (status != PYGEN_NEXT) {
        Py_CLEAR(self->awaiting);
    }
    return status;
}

/* StopIteration cannot leave a coroutine as itself. */
static FL_COLD void
replace_stop_iteration(void)
{
    PyObject *stop = fl_err_take();
    PyErr_SetString(PyExc_RuntimeError, "coroutine raised StopIteration");
    PyObject *exc = fl_err_take();
    PyException_SetCause(exc, Py_NewRef(stop));
    PyException_SetContext(exc, stop);
    fl_err_give(exc);
}

/* It waits, perhaps for ever. */
static inline PySendResult
suspend(FLCoro *self)
{
    self->phase = FL_CORO_SUSPENDED;
    if (self->st->young_coro == (PyObject *)self) {
        track_young(self->st);
    }
    return PYGEN_NEXT;
}

/* One without a body is driven only when something is thrown into it. */
static inline PySendResult
run_body(FLCoro *self, PyObject *value, PyObject **result)
{
    return FL_LIKELY(self->kind->run != NULL)
               ? self->kind->run(self, value, result)
               : PYGEN_ERROR;
}

/* Run the body with value (NULL: an exception is raised) until it waits for
   something pending, or ends.  Steals value. */
static PySendResult
drive(FLCoro *self, FL_STEALS(2) PyObject *value, PyObject **result)
{
    self->phase = FL_CORO_RUNNING;
    for (;;) {
        *result = NULL;
        PySendResult status = run_body(self, value, result);
        Py_XDECREF(value);
        if (status != PYGEN_NEXT) {
            FL_ASSERT((*result == NULL) == (PyErr_Occurred() != NULL));
            if (FL_UNLIKELY(status == PYGEN_ERROR)) {
                PyObject *raised = fl_err_take();
                coro_clear(self);
                fl_err_give(raised);
                if (PyErr_ExceptionMatches(PyExc_StopIteration)) {
                    replace_stop_iteration();
                }
            }
            else {
                coro_clear(self);
            }
            return status;
        }
        if (*result != NULL) { /* a bare yield */
            return suspend(self);
        }
        if (FL_UNLIKELY(self->awaiting == NULL)) {
            value = NULL; /* fl_coro_await() failed */
            continue;
        }
        status = advance_awaited(self, Py_None, result);
        if (status == PYGEN_NEXT) {
            return suspend(self);
        }
        value = *result;
    }
}

/* May the coroutine be sent to or thrown into?  0 or -1. */
static FL_COLD int
refuse(const FLCoro *self)
{
    if (self->phase == FL_CORO_RUNNING) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
    }
    else {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot reuse already awaited coroutine");
    }
    return -1;
}

static inline int
check_resumable(const FLCoro *self)
{
    if (FL_LIKELY(self->phase == FL_CORO_CREATED
                  || self->phase == FL_CORO_SUSPENDED)) {
        return 0;
    }
    return refuse(self);
}

/* HOT: one without a body.  It holds nothing, so the garbage collector need not know
   it. */
static inline PySendResult
yield_once(FLCoro *self, PyObject **result)
{
    *result = Py_NewRef(Py_None);
    if (self->phase == FL_CORO_CREATED) {
        self->phase = FL_CORO_SUSPENDED;
        return PYGEN_NEXT;
    }
    self->phase = FL_CORO_CLOSED;
    return PYGEN_RETURN;
}

/* HOT: the result, if it is over without having waited; else NULL. */
static inline PyObject *
try_at_once(FLCoro *self)
{
    if (self->phase != FL_CORO_CREATED || self->kind->at_once == NULL) {
        return NULL;
    }
    PyObject *result = self->kind->at_once(self);
    if (result != NULL) {
        FL_ASSERT(self->awaiting == NULL && !fl_list_linked(&self->node));
        self->phase = FL_CORO_CLOSED;
        Py_CLEAR(self->slots[0]); /* beware: this may free self */
    }
    return result;
}

/* HOT */
static PySendResult
coro_am_send(FLCoro *self, PyObject *sent, PyObject **result)
{
    *result = NULL;
    if (check_resumable(self) < 0) {
        return PYGEN_ERROR;
    }
    if (FL_UNLIKELY(self->phase == FL_CORO_CREATED && sent != Py_None)) {
        PyErr_SetString(
            PyExc_TypeError,
            "can't send non-None value to a just-started coroutine");
        return PYGEN_ERROR;
    }
    if (self->kind->run == NULL) {
        return yield_once(self, result);
    }
    *result = try_at_once(self);
    if (*result != NULL) {
        return PYGEN_RETURN;
    }
    Py_INCREF(self);
    PySendResult status;
    if (self->awaiting != NULL) {
        self->phase = FL_CORO_RUNNING;
        status = advance_awaited(self, sent, result);
        if (status == PYGEN_NEXT) {
            self->phase = FL_CORO_SUSPENDED;
        }
        else {
            status = drive(self, *result, result);
        }
    }
    else {
        status = drive(self, Py_NewRef(Py_None), result);
    }
    Py_DECREF(self);
    return status;
}

/* HOT */
static PyObject *
coro_next(FLCoro *self)
{
    fl_state *st = self->st;
    PyObject *result = try_at_once(self);
    if (result != NULL) {
        return fl_stop_iteration(st, result);
    }
    if (self->kind->run == NULL && check_resumable(self) == 0) {
        return yield_once(self, &result) == PYGEN_NEXT ? result : NULL;
    }
    return coro_am_send(self, Py_None, &result) == PYGEN_RETURN
               ? fl_stop_iteration(st, result)
               : result;
}

/* --- throwing --------------------------------------------------------------------- */

static PySendResult
throw_in(FLCoro *self, PyObject *exc, PyObject **result)
{
    *result = NULL;
    if (check_resumable(self) < 0) {
        return PYGEN_ERROR;
    }
    Py_INCREF(self);
    PySendResult status;
    if (self->phase == FL_CORO_CREATED) {
        coro_clear(self);
        fl_err_give(Py_NewRef(exc));
        status = PYGEN_ERROR;
    }
    else if (self->awaiting != NULL && !is_native(self, self->awaiting)) {
        self->phase = FL_CORO_RUNNING;
        PyObject *awaited = Py_NewRef(self->awaiting);
        status = fl_awaited_throw(self->st, awaited, exc, result);
        Py_DECREF(awaited);
        if (status == PYGEN_NEXT) {
            self->phase = FL_CORO_SUSPENDED;
        }
        else {
            Py_CLEAR(self->awaiting);
            status = drive(self, *result, result);
        }
    }
    else {
        self->phase = FL_CORO_RUNNING;
        Py_CLEAR(self->awaiting);
        fl_err_give(Py_NewRef(exc));
        status = drive(self, NULL, result);
    }
    Py_DECREF(self);
    return status;
}

PyDoc_STRVAR(send_doc, "send($self, value, /)\n--\n\n"
                       "Run to the next yield or the end.");

static PyObject *
give(FLCoro *self, PySendResult status, PyObject *result)
{
    if (status == PYGEN_RETURN) {
        result = fl_stop_iteration(self->st, result);
        if (result == NULL && !PyErr_Occurred()) {
            PyErr_SetNone(PyExc_StopIteration);
        }
    }
    return result;
}

static PyObject *
coro_send(FLCoro *self, PyObject *value)
{
    PyObject *result;
    PySendResult status = coro_am_send(self, value, &result);
    return give(self, status, result);
}

PyDoc_STRVAR(throw_doc,
             "throw($self, type, value=None, traceback=None, /)\n--\n\n"
             "Raise an exception in the coroutine, where it waits.");

static PyObject *
coro_throw(FLCoro *self, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *exc = fl_exception_to_throw(args, nargs);
    if (exc == NULL) {
        return NULL;
    }
    PyObject *result;
    PySendResult status = throw_in(self, exc, &result);
    Py_DECREF(exc);
    return give(self, status, result);
}

PyDoc_STRVAR(close_doc, "close($self, /)\n--\n\n"
                        "Raise GeneratorExit in the coroutine; it must end.");

static PyObject *
coro_close(FLCoro *self, PyObject *Py_UNUSED(ignored))
{
    if (self->phase == FL_CORO_RUNNING) {
        refuse(self);
        return NULL;
    }
    if (self->phase == FL_CORO_CREATED) {
        coro_clear(self);
    }
    if (self->phase == FL_CORO_CLOSED) {
        Py_RETURN_NONE;
    }
    PyObject *exc = PyObject_CallNoArgs(PyExc_GeneratorExit);
    if (exc == NULL) {
        return NULL;
    }
    PyObject *result;
    PySendResult status = throw_in(self, exc, &result);
    Py_DECREF(exc);
    Py_XDECREF(result);
    if (status == PYGEN_NEXT) {
        PyErr_SetString(PyExc_RuntimeError, "coroutine ignored GeneratorExit");
        return NULL;
    }
    if (status == PYGEN_ERROR) {
        if (!PyErr_ExceptionMatches(PyExc_GeneratorExit)) {
            return NULL;
        }
        PyErr_Clear();
    }
    Py_RETURN_NONE;
}

/* --- what Python sees ----------------------------------------------------------- */

static PyObject *
coro_await(FLCoro *self)
{
    if (FL_UNLIKELY(self->phase == FL_CORO_SUSPENDED)) {
        PyErr_SetString(PyExc_RuntimeError,
                        "coroutine is being awaited already");
        return NULL;
    }
    return Py_NewRef(self);
}

/* `await` takes the slot above.  Who calls __await__() by name gets an iterator that
   is none of a coroutine's other things. */
PyDoc_STRVAR(await_doc, "__await__($self, /)\n--\n\n"
                        "Return an iterator to be used in await expression.");

static PyObject *
coro_await_method(FLCoro *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *wrapper =
        PyObject_CallOneArg(self->st->sup.wrap_awaitable, (PyObject *)self);
    if (wrapper == NULL) {
        return NULL;
    }
    PyObject *iterator = PyObject_CallMethod(wrapper, "__await__", NULL);
    Py_DECREF(wrapper);
    return iterator;
}

static PyObject *
coro_repr(FLCoro *self)
{
    return PyUnicode_FromFormat("<coroutine object %s at %p>",
                                self->kind->qualname, self);
}

static PyObject *
get_name(FLCoro *self, void *Py_UNUSED(closure))
{
    return PyUnicode_InternFromString(self->kind->name);
}

static PyObject *
get_qualname(FLCoro *self, void *Py_UNUSED(closure))
{
    return PyUnicode_InternFromString(self->kind->qualname);
}

static PyObject *
get_running(FLCoro *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->phase == FL_CORO_RUNNING);
}

static PyObject *
get_suspended(FLCoro *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->phase == FL_CORO_SUSPENDED);
}

static PyObject *
get_nothing(FLCoro *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    Py_RETURN_NONE;
}

/* No cr_await: tools that find one take the frame beside it, and C has none. */
static PyGetSetDef coro_getset[] = {
    {"__name__", (getter)get_name, NULL, NULL, NULL},
    {"__qualname__", (getter)get_qualname, NULL, NULL, NULL},
    {"cr_running", (getter)get_running, NULL, NULL, NULL},
    {"cr_suspended", (getter)get_suspended, NULL, NULL, NULL},
    {"cr_code", (getter)get_nothing, NULL, NULL, NULL},
    {"cr_frame", (getter)get_nothing, NULL, NULL, NULL},
    {"cr_origin", (getter)get_nothing, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef coro_methods[] = {
    {"send", (PyCFunction)coro_send, METH_O, send_doc},
    {"throw", FL_METHOD(coro_throw), METH_FASTCALL, throw_doc},
    {"close", (PyCFunction)coro_close, METH_NOARGS, close_doc},
    {"__await__", (PyCFunction)coro_await_method, METH_NOARGS | METH_COEXIST,
     await_doc},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS,
     PyDoc_STR("Generic as collections.abc.Coroutine is.")},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef coro_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(FLCoro, weakrefs),
     Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot coro_slots[] = {
    {Py_tp_dealloc, coro_dealloc},   {Py_tp_finalize, coro_finalize},
    {Py_tp_traverse, coro_traverse}, {Py_tp_clear, coro_clear},
    {Py_tp_repr, coro_repr},         {Py_tp_iternext, coro_next},
    {Py_am_await, coro_await},       {Py_am_send, coro_am_send},
    {Py_tp_methods, coro_methods},   {Py_tp_members, coro_members},
    {Py_tp_getset, coro_getset},     {0, NULL},
};

static PyType_Spec coro_spec = {
    .name = "fastloop._core.Coroutine",
    .basicsize = sizeof(FLCoro),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = coro_slots,
};

/* collections.abc.Coroutine.register(type): isinstance() and asyncio.iscoroutine()
   then accept it. */
int
fl_coro_register(PyTypeObject *type)
{
    PyObject *abc = PyImport_ImportModule("collections.abc");
    PyObject *base =
        abc == NULL ? NULL : PyObject_GetAttrString(abc, "Coroutine");
    PyObject *done =
        base == NULL ? NULL : PyObject_CallMethod(base, "register", "O", type);
    Py_XDECREF(done);
    Py_XDECREF(base);
    Py_XDECREF(abc);
    return done == NULL ? -1 : 0;
}

int
fl_coro_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    if (fl_state_add_type(module, &st->CoroType, &coro_spec, NULL) < 0) {
        return -1;
    }
    return fl_coro_register(st->CoroType);
}
