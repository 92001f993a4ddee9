/* Semaphore and BoundedSemaphore.

   A release gives the permit to the first waiter at once: the value stays as it is
   and the waiter's future is done.  If that waiter is cancelled before its step, it
   puts the permit back and passes it on.

   The value is nearly always a small int; whatever else was given (asyncio takes all
   that can be compared and added to, as math.inf) is computed with as an object. */
#include "prims/semaphore.h"

#include "base/args.h"
#include "prims/bound_type.h"
#include "prims/common.h"

typedef struct {
    FLBound base;
    struct fl_waiters waiters;
    Py_ssize_t value;
    PyObject *odd;   /* owned; the value, if it is no small int; else NULL */
    PyObject *bound; /* owned; bounded only: the initial value */
    bool waited;     /* somebody waited once: _waiters is no longer None */
} FLSemaphore;

/* --- the value ------------------------------------------------------------------ */

static PyObject *
value_object(const FLSemaphore *self)
{
    return self->odd != NULL ? Py_NewRef(self->odd)
                             : PyLong_FromSsize_t(self->value);
}

static int
set_value(FLSemaphore *self, PyObject *value)
{
    if (PyLong_CheckExact(value)) {
        Py_ssize_t n = PyLong_AsSsize_t(value);
        if (n != -1 || !PyErr_Occurred()) {
            /* leave room to count in either direction */
            if (n > PY_SSIZE_T_MIN / 2 && n < PY_SSIZE_T_MAX / 2) {
                self->value = n;
                Py_CLEAR(self->odd);
                return 0;
            }
        }
        PyErr_Clear();
    }
    Py_XSETREF(self->odd, Py_NewRef(value));
    return 0;
}

static FL_COLD int
add_to_odd(FLSemaphore *self, long n)
{
    PyObject *value = Py_NewRef(self->odd);
    PyObject *term = PyLong_FromLong(n);
    PyObject *sum = term == NULL ? NULL : PyNumber_Add(value, term);
    Py_XDECREF(term);
    Py_DECREF(value);
    int status = sum == NULL ? -1 : set_value(self, sum);
    Py_XDECREF(sum);
    return status;
}

static inline int
add(FLSemaphore *self, int n)
{
    if (FL_UNLIKELY(self->odd != NULL)) {
        return add_to_odd(self, n);
    }
    self->value += n;
    return 0;
}

/* value <op> 0: 1, 0, -1 */
static FL_COLD int
compare_odd(const FLSemaphore *self, int op)
{
    PyObject *value = Py_NewRef(self->odd);
    PyObject *zero = PyLong_FromLong(0);
    int answer = zero == NULL ? -1 : PyObject_RichCompareBool(value, zero, op);
    Py_XDECREF(zero);
    Py_DECREF(value);
    return answer;
}

static inline int
is_zero(const FLSemaphore *self)
{
    return FL_UNLIKELY(self->odd != NULL) ? compare_odd(self, Py_EQ)
                                          : self->value == 0;
}

static inline int
is_positive(const FLSemaphore *self)
{
    return FL_UNLIKELY(self->odd != NULL) ? compare_odd(self, Py_GT)
                                          : self->value > 0;
}

/* --- acquiring and releasing ------------------------------------------------------- */

/* Must who comes wait?  Either there is no permit, or others came first.  1, 0, -1. */
static inline int
is_locked(FLSemaphore *self)
{
    int zero = is_zero(self);
    if (zero != 0 || FL_LIKELY(fl_waiters_empty(&self->waiters))) {
        return zero;
    }
    return fl_waiters_any(self->base.st, &self->waiters);
}

/* Give a permit to the first waiter.  1: did, 0: there is none, -1. */
static int
wake_next(FLSemaphore *self)
{
    fl_state *st = self->base.st;
    if (fl_waiters_empty(&self->waiters)) {
        return 0;
    }
    /* asyncio takes the permit before it wakes; undone if nobody takes it */
    if (add(self, -1) < 0) {
        return -1;
    }
    int woken = fl_waiters_wake(st, &self->waiters, Py_True);
    if (woken == 0 && add(self, 1) < 0) {
        return -1;
    }
    return woken;
}

static int
wake_next_or_ask(FLSemaphore *self)
{
    if (FL_LIKELY(!(fl_bound_overrides(&self->base) & FL_OWN_WAKE))) {
        return wake_next(self);
    }
    return fl_bound_ask(&self->base, self->base.st->str._wake_up_next);
}

/* Permits that nobody could take while the first waiter had not run. */
static int
give_away(FLSemaphore *self)
{
    int more;
    while ((more = is_positive(self)) > 0) {
        int woken = wake_next_or_ask(self);
        if (woken <= 0) {
            return woken;
        }
    }
    return more;
}

/* The wait failed with raised: 0, or -1 with another exception raised. */
static FL_COLD int
put_back(FLSemaphore *self, FLCoro *coro, PyObject *raised)
{
    fl_state *st = self->base.st;
    if (!PyErr_GivenExceptionMatches(raised, st->imp.CancelledError)) {
        return 0;
    }
    PyObject *future = coro->slots[FL_WAIT_FUTURE];
    int done = fl_any_done(st, future);
    int cancelled = done > 0 ? fl_any_cancelled(st, future) : 0;
    if (done < 0 || cancelled < 0) {
        return -1;
    }
    return done && !cancelled ? add(self, 1) : 0;
}

static PySendResult
after_wait(FLSemaphore *sem, FLCoro *self, bool failed, PyObject **result)
{
    PyObject *raised = FL_UNLIKELY(failed) ? fl_err_take() : NULL;
    if (FL_UNLIKELY(fl_waiters_remove(&sem->waiters, self) < 0)
        || FL_UNLIKELY(raised != NULL && put_back(sem, self, raised) < 0)) {
        Py_XSETREF(raised, fl_err_take());
    }
    if (FL_UNLIKELY(give_away(sem) < 0)) {
        Py_XDECREF(raised);
        return PYGEN_ERROR;
    }
    if (FL_UNLIKELY(raised != NULL)) {
        fl_err_give(raised);
        return PYGEN_ERROR;
    }
    *result = Py_NewRef(Py_True);
    return PYGEN_RETURN;
}

/* HOT */
static PySendResult
acquire_run(FLCoro *self, PyObject *value, PyObject **result)
{
    FLSemaphore *sem = (FLSemaphore *)self->slots[FL_WAIT_OWNER];
    if (self->step == 1) {
        return after_wait(sem, self, value == NULL, result);
    }
    self->step = 1;
    bool own = fl_bound_overrides(&sem->base) & FL_OWN_LOCKED;
    int locked = FL_UNLIKELY(own)
                     ? fl_bound_ask(&sem->base, self->st->str.locked)
                     : is_locked(sem);
    if (locked < 0 || (!locked && add(sem, -1) < 0)) {
        return PYGEN_ERROR;
    }
    if (!locked) {
        *result = Py_NewRef(Py_True);
        return PYGEN_RETURN;
    }
    sem->waited = true;
    return fl_waiters_wait(&sem->waiters, self, result);
}

/* HOT: take a permit that nobody else has a claim to. */
static inline bool
take_free(FLSemaphore *self)
{
    if (self->value <= 0 || self->odd != NULL
        || !fl_waiters_empty(&self->waiters)
        || fl_bound_overrides(&self->base)) {
        return false;
    }
    self->value--;
    return true;
}

static PyObject *
acquire_at_once(FLCoro *self)
{
    return take_free((FLSemaphore *)self->slots[FL_WAIT_OWNER])
               ? Py_NewRef(Py_True)
               : NULL;
}

/* HOT */
static PyObject *
enter_at_once(FLCoro *self)
{
    return take_free((FLSemaphore *)self->slots[FL_WAIT_OWNER])
               ? Py_NewRef(Py_None)
               : NULL;
}

static PySendResult
enter_run(FLCoro *self, PyObject *value, PyObject **result)
{
    return fl_guard_entered(acquire_run(self, value, result), result);
}

/* BoundedSemaphore: 0, or -1 with ValueError at the initial value. */
static int
check_bound(const FLSemaphore *self)
{
    PyObject *value = value_object(self);
    PyObject *bound = Py_NewRef(self->bound);
    int full =
        value == NULL ? -1 : PyObject_RichCompareBool(value, bound, Py_GE);
    Py_DECREF(bound);
    Py_XDECREF(value);
    if (full > 0) {
        PyErr_SetString(PyExc_ValueError,
                        "BoundedSemaphore released too many times");
    }
    return full == 0 ? 0 : -1;
}

/* HOT */
static int
release(FLSemaphore *self, bool bounded)
{
    if (bounded && self->bound != NULL && check_bound(self) < 0) {
        return -1;
    }
    if (add(self, 1) < 0) {
        return -1;
    }
    if (FL_LIKELY(fl_waiters_empty(&self->waiters)
                  && !fl_bound_overrides(&self->base))) {
        return 0;
    }
    return wake_next_or_ask(self) < 0 ? -1 : 0;
}

static const struct fl_coro_kind acquire_kind = {
    "acquire", "Semaphore.acquire", acquire_run, acquire_at_once};
static const struct fl_coro_kind enter_kind = {"__aenter__", FL_GUARD_ENTER,
                                               enter_run, enter_at_once};

/* --- life ------------------------------------------------------------------ */

static PyObject *
new_of_kind(PyTypeObject *type, enum fl_bound_kind kind)
{
    FLSemaphore *self = (FLSemaphore *)fl_bound_new(type, kind);
    if (self != NULL) {
        fl_waiters_init(&self->waiters);
        self->value = 1;
    }
    return (PyObject *)self;
}

static PyObject *
semaphore_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
              PyObject *Py_UNUSED(kwargs))
{
    return new_of_kind(type, FL_SEMAPHORE);
}

static PyObject *
bounded_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
            PyObject *Py_UNUSED(kwargs))
{
    return new_of_kind(type, FL_BOUNDED_SEMAPHORE);
}

/* value < 0? */
static int
check_initial(PyObject *value)
{
    PyObject *zero = PyLong_FromLong(0);
    int negative =
        zero == NULL ? -1 : PyObject_RichCompareBool(value, zero, Py_LT);
    Py_XDECREF(zero);
    if (negative > 0) {
        PyErr_SetString(PyExc_ValueError,
                        "Semaphore initial value must be >= 0");
    }
    return negative == 0 ? 0 : -1;
}

static int
start_with(FLSemaphore *self, PyObject *value)
{
    if (check_initial(value) < 0) {
        return -1;
    }
    fl_waiters_reset(&self->waiters);
    self->waited = false;
    return set_value(self, value);
}

static const struct fl_signature init_signature = {
    "Semaphore.__init__", 0, 1, 0, 1, {FL_NAME(value)}};
static const struct fl_signature bounded_init_signature = {
    "BoundedSemaphore.__init__", 0, 1, 0, 1, {FL_NAME(value)}};

static int
init(FLSemaphore *self, const struct fl_signature *signature, PyObject *args,
     PyObject *kwargs)
{
    PyObject *value;
    if (fl_args_parse_tuple(self->base.st, signature, args, kwargs, &value)
        < 0) {
        return -1;
    }
    value = value == NULL ? PyLong_FromLong(1) : Py_NewRef(value);
    if (value == NULL) {
        return -1;
    }
    if (signature == &bounded_init_signature) {
        Py_XSETREF(self->bound, Py_NewRef(value));
    }
    int status = start_with(self, value);
    Py_DECREF(value);
    return status;
}

static int
semaphore_init(FLSemaphore *self, PyObject *args, PyObject *kwargs)
{
    return init(self, &init_signature, args, kwargs);
}

static int
bounded_init(FLSemaphore *self, PyObject *args, PyObject *kwargs)
{
    return init(self, &bounded_init_signature, args, kwargs);
}

static int
semaphore_traverse(FLSemaphore *self, visitproc visit, void *arg)
{
    FL_VISIT_WAITERS(&self->waiters);
    Py_VISIT(self->odd);
    Py_VISIT(self->bound);
    return fl_bound_traverse(&self->base, visit, arg);
}

static int
semaphore_clear(FLSemaphore *self)
{
    fl_waiters_reset(&self->waiters);
    Py_CLEAR(self->odd);
    Py_CLEAR(self->bound);
    fl_bound_clear(&self->base);
    return 0;
}

static void
semaphore_dealloc(FLSemaphore *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->base.weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    semaphore_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* --- methods ------------------------------------------------------------------ */

PyDoc_STRVAR(
    semaphore_doc,
    "Semaphore(value=1)\n--\n\n"
    "Lets so many tasks pass at a time; the others wait in a queue.\n\n"
    "value is how many; ValueError if it is negative.  `async with\n"
    "semaphore:` acquires and releases it.  Works on any event loop;\n"
    "not thread-safe.  See asyncio.Semaphore.");

PyDoc_STRVAR(
    bounded_doc,
    "BoundedSemaphore(value=1)\n--\n\n"
    "A Semaphore that cannot be released more often than acquired.\n\n"
    "release() raises ValueError then.");

PyDoc_STRVAR(acquire_doc, "acquire($self, /)\n--\n\n"
                          "Wait for a permit, take it, return True.");

static PyObject *
semaphore_acquire(FLSemaphore *self, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)fl_bound_coro(&self->base, &acquire_kind);
}

PyDoc_STRVAR(release_doc,
             "release($self, /)\n--\n\n"
             "Give a permit back, to the first who waits for one.");

static PyObject *
semaphore_release(FLSemaphore *self, PyObject *Py_UNUSED(ignored))
{
    if (release(self, false) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(bounded_release_doc,
             "release($self, /)\n--\n\n"
             "Give a permit back, to the first who waits for one.\n\n"
             "Raises ValueError if all are back already.");

static PyObject *
bounded_release(FLSemaphore *self, PyObject *Py_UNUSED(ignored))
{
    if (release(self, true) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(locked_doc, "locked($self, /)\n--\n\n"
                         "Return True if acquire() would have to wait.");

static PyObject *
semaphore_locked(FLSemaphore *self, PyObject *Py_UNUSED(ignored))
{
    int locked = is_locked(self);
    return locked < 0 ? NULL : PyBool_FromLong(locked);
}

PyDoc_STRVAR(wake_up_next_doc,
             "_wake_up_next($self, /)\n--\n\n"
             "Give a permit to the first waiter; False if nobody waits.");

static PyObject *
semaphore_wake_up_next(FLSemaphore *self, PyObject *Py_UNUSED(ignored))
{
    int woken = wake_next(self);
    return woken < 0 ? NULL : PyBool_FromLong(woken);
}

static PyObject *
semaphore_aenter(FLSemaphore *self, PyObject *Py_UNUSED(ignored))
{
    if (FL_UNLIKELY(fl_bound_overrides(&self->base) & FL_OWN_ACQUIRE)) {
        return fl_guard_enter(&self->base);
    }
    return (PyObject *)fl_bound_coro(&self->base, &enter_kind);
}

static PyObject *
semaphore_aexit(FLSemaphore *self, PyObject *const *Py_UNUSED(args),
                Py_ssize_t nargs)
{
    if (fl_guard_check_exit(nargs) < 0) {
        return NULL;
    }
    if (FL_UNLIKELY(fl_bound_overrides(&self->base) & FL_OWN_RELEASE)) {
        return fl_guard_exit(&self->base);
    }
    return fl_guard_exited(
        self->base.st, release(self, self->base.kind == FL_BOUNDED_SEMAPHORE));
}

static PyObject *
semaphore_repr(FLSemaphore *self)
{
    int locked = fl_bound_ask(&self->base, self->base.st->str.locked);
    Py_ssize_t n = fl_waiters_count(self->base.st, &self->waiters);
    if (locked < 0 || n < 0) {
        return NULL;
    }
    PyObject *what = NULL;
    PyObject *value = value_object(self);
    if (value != NULL) {
        what = locked ? PyUnicode_FromString("locked")
                      : PyUnicode_FromFormat("unlocked, value:%S", value);
        Py_DECREF(value);
    }
    if (what != NULL && n > 0) {
        Py_SETREF(what, PyUnicode_FromFormat("%U, waiters:%zd", what, n));
    }
    return fl_bound_repr(&self->base, what);
}

/* --- attributes that libraries read --------------------------------------------------- */

static PyObject *
get_waiters(FLSemaphore *self, void *Py_UNUSED(closure))
{
    if (!self->waited && self->waiters.shown == NULL) {
        Py_RETURN_NONE;
    }
    return fl_waiters_show(self->base.st, &self->waiters);
}

static int
set_waiters(FLSemaphore *self, PyObject *value, void *Py_UNUSED(closure))
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
get_value(FLSemaphore *self, void *Py_UNUSED(closure))
{
    return value_object(self);
}

static int
assign_value(FLSemaphore *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
        return -1;
    }
    return set_value(self, value);
}

static PyObject *
get_bound(FLSemaphore *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->bound == NULL ? Py_None : self->bound);
}

static int
set_bound(FLSemaphore *self, PyObject *value, void *Py_UNUSED(closure))
{
    Py_XSETREF(self->bound, Py_XNewRef(value));
    return 0;
}

static PyMethodDef semaphore_methods[] = {
    {"acquire", (PyCFunction)semaphore_acquire, METH_NOARGS, acquire_doc},
    {"release", (PyCFunction)semaphore_release, METH_NOARGS, release_doc},
    {"locked", (PyCFunction)semaphore_locked, METH_NOARGS, locked_doc},
    {"_wake_up_next", (PyCFunction)semaphore_wake_up_next, METH_NOARGS,
     wake_up_next_doc},
    {"__aenter__", (PyCFunction)semaphore_aenter, METH_NOARGS,
     fl_guard_enter_doc},
    {"__aexit__", FL_METHOD(semaphore_aexit), METH_FASTCALL,
     fl_guard_exit_doc},
    FL_BOUND_METHOD,
    {NULL, NULL, 0, NULL},
};

static PyMethodDef bounded_methods[] = {
    {"release", (PyCFunction)bounded_release, METH_NOARGS,
     bounded_release_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef semaphore_getset[] = {
    {"_waiters", (getter)get_waiters, (setter)set_waiters, NULL, NULL},
    {"_value", (getter)get_value, (setter)assign_value, NULL, NULL},
    FL_BOUND_GETSET,
    {NULL, NULL, NULL, NULL, NULL},
};

static PyGetSetDef bounded_getset[] = {
    {"_bound_value", (getter)get_bound, (setter)set_bound, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef semaphore_members[] = {
    FL_BOUND_MEMBERS,
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot semaphore_slots[] = {
    {Py_tp_doc, (void *)semaphore_doc},   {Py_tp_new, semaphore_new},
    {Py_tp_init, semaphore_init},         {Py_tp_dealloc, semaphore_dealloc},
    {Py_tp_traverse, semaphore_traverse}, {Py_tp_clear, semaphore_clear},
    {Py_tp_setattro, fl_bound_setattro},  {Py_tp_repr, semaphore_repr},
    {Py_tp_methods, semaphore_methods},   {Py_tp_members, semaphore_members},
    {Py_tp_getset, semaphore_getset},     {0, NULL},
};

static PyType_Slot bounded_slots[] = {
    {Py_tp_doc, (void *)bounded_doc},
    {Py_tp_new, bounded_new},
    {Py_tp_init, bounded_init},
    {Py_tp_traverse, semaphore_traverse},
    {Py_tp_clear, semaphore_clear},
    {Py_tp_dealloc, semaphore_dealloc},
    {Py_tp_methods, bounded_methods},
    {Py_tp_getset, bounded_getset},
    {0, NULL},
};

static PyType_Spec semaphore_spec = {
    .name = "fastloop.Semaphore",
    .basicsize = sizeof(FLSemaphore),
    .flags = FL_BOUND_FLAGS,
    .slots = semaphore_slots,
};

static PyType_Spec bounded_spec = {
    .name = "fastloop.BoundedSemaphore",
    .basicsize = sizeof(FLSemaphore),
    .flags = FL_BOUND_FLAGS,
    .slots = bounded_slots,
};

int
fl_semaphore_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    if (fl_bound_add_type(module, &st->SemaphoreType, &semaphore_spec, NULL)
        < 0) {
        return -1;
    }
    return fl_bound_add_type(module, &st->BoundedSemaphoreType, &bounded_spec,
                             (PyObject *)st->SemaphoreType);
}
