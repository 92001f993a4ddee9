/* Lock.

   A release wakes the first waiter and leaves the lock free; the waiter takes it
   when its turn comes.  Until then nobody else can: who comes finds a waiter that
   was not cancelled.  A waiter that is cancelled although it was woken wakes the
   next. */
#include "prims/lock.h"

#include "base/args.h"
#include "prims/bound_type.h"

typedef struct {
    FLBound base;
    struct fl_waiters waiters;
    bool locked;
    bool waited; /* somebody waited once: _waiters is no longer None */
} FLLock;

/* --- acquiring and releasing ------------------------------------------------------ */

static int
wake_first(FLLock *self)
{
    if (FL_LIKELY(!(fl_bound_overrides(&self->base) & FL_OWN_WAKE))) {
        return fl_waiters_wake_head(self->base.st, &self->waiters);
    }
    PyObject *done =
        fl_bound_call(&self->base, self->base.st->str._wake_up_first, NULL);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* The wait is over, with an exception raised if it failed. */
static PySendResult
after_wait(FLLock *lock, FLCoro *self, bool failed, PyObject **result)
{
    PyObject *raised = FL_UNLIKELY(failed) ? fl_err_take() : NULL;
    if (FL_UNLIKELY(fl_waiters_remove(&lock->waiters, self) < 0)) {
        Py_XDECREF(raised);
        return PYGEN_ERROR;
    }
    if (FL_LIKELY(raised == NULL)) {
        lock->locked = true;
        *result = Py_NewRef(Py_True);
        return PYGEN_RETURN;
    }
    if (!lock->locked
        && PyErr_GivenExceptionMatches(raised, self->st->imp.CancelledError)
        && wake_first(lock) < 0) {
        Py_DECREF(raised);
        return PYGEN_ERROR;
    }
    fl_err_give(raised);
    return PYGEN_ERROR;
}

/* HOT */
static PySendResult
acquire_run(FLCoro *self, PyObject *value, PyObject **result)
{
    FLLock *lock = (FLLock *)self->slots[FL_WAIT_OWNER];
    if (self->step == 1) {
        return after_wait(lock, self, value == NULL, result);
    }
    self->step = 1;
    if (!lock->locked) {
        int taken = fl_waiters_any(self->st, &lock->waiters);
        if (taken < 0) {
            return PYGEN_ERROR;
        }
        if (FL_LIKELY(!taken)) {
            lock->locked = true;
            *result = Py_NewRef(Py_True);
            return PYGEN_RETURN;
        }
    }
    lock->waited = true;
    return fl_waiters_wait(&lock->waiters, self, result);
}

/* HOT: take it if it is free and nobody else has a claim to it. */
static inline bool
take_free(FLLock *self)
{
    if (self->locked || !fl_waiters_empty(&self->waiters)) {
        return false;
    }
    self->locked = true;
    return true;
}

static PyObject *
acquire_at_once(FLCoro *self)
{
    return take_free((FLLock *)self->slots[FL_WAIT_OWNER]) ? Py_NewRef(Py_True)
                                                           : NULL;
}

/* HOT */
static PyObject *
enter_at_once(FLCoro *self)
{
    return take_free((FLLock *)self->slots[FL_WAIT_OWNER]) ? Py_NewRef(Py_None)
                                                           : NULL;
}

static PySendResult
enter_run(FLCoro *self, PyObject *value, PyObject **result)
{
    return fl_guard_entered(acquire_run(self, value, result), result);
}

/* HOT: 0, or -1 with RuntimeError when nobody holds it */
static int
release(FLLock *self)
{
    if (FL_UNLIKELY(!self->locked)) {
        PyErr_SetString(PyExc_RuntimeError, "Lock is not acquired.");
        return -1;
    }
    self->locked = false;
    return FL_LIKELY(fl_waiters_empty(&self->waiters)
                     && !fl_bound_overrides(&self->base))
               ? 0
               : wake_first(self);
}

static const struct fl_coro_kind acquire_kind = {"acquire", "Lock.acquire",
                                                 acquire_run, acquire_at_once};
static const struct fl_coro_kind enter_kind = {"__aenter__", FL_GUARD_ENTER,
                                               enter_run, enter_at_once};

/* --- life ------------------------------------------------------------------ */

static PyObject *
lock_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
         PyObject *Py_UNUSED(kwargs))
{
    FLLock *self = (FLLock *)fl_bound_new(type, FL_LOCK);
    if (self != NULL) {
        fl_waiters_init(&self->waiters);
    }
    return (PyObject *)self;
}

PyObject *
fl_lock_make(fl_state *st)
{
    return lock_new(st->LockType, NULL, NULL);
}

static const struct fl_signature init_signature = {
    "Lock.__init__", 0, 0, 0, 0, {0}};

static int
lock_init(FLLock *self, PyObject *args, PyObject *kwargs)
{
    if (fl_args_parse_tuple(self->base.st, &init_signature, args, kwargs, NULL)
        < 0) {
        return -1;
    }
    fl_waiters_reset(&self->waiters);
    self->locked = false;
    self->waited = false;
    return 0;
}

static int
lock_traverse(FLLock *self, visitproc visit, void *arg)
{
    FL_VISIT_WAITERS(&self->waiters);
    return fl_bound_traverse(&self->base, visit, arg);
}

static int
lock_clear(FLLock *self)
{
    fl_waiters_reset(&self->waiters);
    fl_bound_clear(&self->base);
    return 0;
}

static void
lock_dealloc(FLLock *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->base.weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    lock_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* --- methods ------------------------------------------------------------------ */

PyDoc_STRVAR(
    lock_doc,
    "Lock()\n--\n\n"
    "A lock for tasks: one holds it, the others wait in a queue.\n\n"
    "`async with lock:` acquires and releases it.  Works on any event\n"
    "loop; not thread-safe.  See asyncio.Lock.");

PyDoc_STRVAR(acquire_doc,
             "acquire($self, /)\n--\n\n"
             "Wait until the lock is free, take it, return True.");

static PyObject *
lock_acquire(FLLock *self, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)fl_bound_coro(&self->base, &acquire_kind);
}

PyDoc_STRVAR(release_doc,
             "release($self, /)\n--\n\n"
             "Give the lock back and wake the first who waits for it.\n\n"
             "Raises RuntimeError if nobody holds it.");

static PyObject *
lock_release(FLLock *self, PyObject *Py_UNUSED(ignored))
{
    if (release(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(locked_doc, "locked($self, /)\n--\n\n"
                         "Return True if somebody holds the lock.");

static PyObject *
lock_locked(FLLock *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(self->locked);
}

PyDoc_STRVAR(wake_up_first_doc, "_wake_up_first($self, /)\n--\n\n"
                                "Wake the first waiter, unless it is woken.");

static PyObject *
lock_wake_up_first(FLLock *self, PyObject *Py_UNUSED(ignored))
{
    if (fl_waiters_wake_head(self->base.st, &self->waiters) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
lock_aenter(FLLock *self, PyObject *Py_UNUSED(ignored))
{
    if (FL_UNLIKELY(fl_bound_overrides(&self->base) & FL_OWN_ACQUIRE)) {
        return fl_guard_enter(&self->base);
    }
    return (PyObject *)fl_bound_coro(&self->base, &enter_kind);
}

static PyObject *
lock_aexit(FLLock *self, PyObject *const *Py_UNUSED(args), Py_ssize_t nargs)
{
    if (fl_guard_check_exit(nargs) < 0) {
        return NULL;
    }
    if (FL_UNLIKELY(fl_bound_overrides(&self->base) & FL_OWN_RELEASE)) {
        return fl_guard_exit(&self->base);
    }
    return fl_guard_exited(self->base.st, release(self));
}

static PyObject *
lock_repr(FLLock *self)
{
    const char *state = self->locked ? "locked" : "unlocked";
    Py_ssize_t n = fl_waiters_count(self->base.st, &self->waiters);
    if (n < 0) {
        return NULL;
    }
    PyObject *what = n == 0
                         ? PyUnicode_FromString(state)
                         : PyUnicode_FromFormat("%s, waiters:%zd", state, n);
    return fl_bound_repr(&self->base, what);
}

/* --- attributes that libraries read ------------------------------------------------ */

static PyObject *
get_waiters(FLLock *self, void *Py_UNUSED(closure))
{
    if (!self->waited && self->waiters.shown == NULL) {
        Py_RETURN_NONE;
    }
    return fl_waiters_show(self->base.st, &self->waiters);
}

static int
set_waiters(FLLock *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (value == NULL || value == Py_None) {
        fl_waiters_reset(&self->waiters);
        self->waited = false;
    }
    else {
        fl_waiters_replace(&self->waiters, value);
    }
    return 0;
}

static PyObject *
get_locked(FLLock *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->locked);
}

static int
set_locked(FLLock *self, PyObject *value, void *Py_UNUSED(closure))
{
    int truth = value == NULL ? 0 : PyObject_IsTrue(value);
    self->locked = truth > 0;
    return truth < 0 ? -1 : 0;
}

static PyMethodDef lock_methods[] = {
    {"acquire", (PyCFunction)lock_acquire, METH_NOARGS, acquire_doc},
    {"release", (PyCFunction)lock_release, METH_NOARGS, release_doc},
    {"locked", (PyCFunction)lock_locked, METH_NOARGS, locked_doc},
    {"_wake_up_first", (PyCFunction)lock_wake_up_first, METH_NOARGS,
     wake_up_first_doc},
    {"__aenter__", (PyCFunction)lock_aenter, METH_NOARGS, fl_guard_enter_doc},
    {"__aexit__", FL_METHOD(lock_aexit), METH_FASTCALL, fl_guard_exit_doc},
    FL_BOUND_METHOD,
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef lock_getset[] = {
    {"_waiters", (getter)get_waiters, (setter)set_waiters, NULL, NULL},
    {"_locked", (getter)get_locked, (setter)set_locked, NULL, NULL},
    FL_BOUND_GETSET,
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef lock_members[] = {
    FL_BOUND_MEMBERS,
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot lock_slots[] = {
    {Py_tp_doc, (void *)lock_doc},
    {Py_tp_new, lock_new},
    {Py_tp_init, lock_init},
    {Py_tp_dealloc, lock_dealloc},
    {Py_tp_traverse, lock_traverse},
    {Py_tp_clear, lock_clear},
    {Py_tp_setattro, fl_bound_setattro},
    {Py_tp_repr, lock_repr},
    {Py_tp_methods, lock_methods},
    {Py_tp_members, lock_members},
    {Py_tp_getset, lock_getset},
    {0, NULL},
};

static PyType_Spec lock_spec = {
    .name = "fastloop.Lock",
    .basicsize = sizeof(FLLock),
    .flags = FL_BOUND_FLAGS,
    .slots = lock_slots,
};

int
fl_lock_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    return fl_bound_add_type(module, &st->LockType, &lock_spec, NULL);
}
