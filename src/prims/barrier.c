/* Barrier, on a Condition as in asyncio.

   It fills until as many tasks as wanted are there, then drains: the tasks leave one
   after another, as each gets the condition's lock.  Who comes while it drains waits
   for the next round.  All of wait() but its waiting happens with the lock held. */
#include "prims/barrier.h"

#include "base/args.h"
#include "prims/bound_type.h"
#include "prims/condition.h"

enum barrier_state {
    FILLING,
    DRAINING,
    RESETTING,
    BROKEN,
};

static const char *const state_names[] = {"FILLING", "DRAINING", "RESETTING",
                                          "BROKEN"};
static const char *const state_values[] = {"filling", "draining", "resetting",
                                           "broken"};

typedef struct {
    FLBound base;
    FLBound *cond;     /* owned; NULL until __init__ */
    PyObject *parties; /* owned; as given; NULL until __init__ */
    Py_ssize_t wanted; /* parties as a number */
    Py_ssize_t count;  /* how many are in it */
    uint8_t state;     /* enum barrier_state */
} FLBarrier;

/* --- the pieces of wait() ------------------------------------------------------------ */

/* Slot of a coroutine: the condition it entered, which it leaves whatever becomes of
   the barrier meanwhile. */
#define ENTERED 1

static int
call_condition(PyObject *cond, PyObject *name)
{
    FLBound *held = (FLBound *)Py_NewRef(cond);
    PyObject *done = fl_bound_call(held, name, NULL);
    Py_DECREF(held);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static int
notify_all(FLBarrier *self)
{
    return call_condition((PyObject *)self->cond,
                          self->base.st->str.notify_all);
}

static void
raise_broken(FLBarrier *self, const char *message)
{
    PyErr_SetString(self->base.st->imp.BrokenBarrierError, message);
}

/* What `finally` and the end of `async with` do: release the lock, keeping what is
   raised unless that fails. */
static PySendResult
release_lock(FLCoro *self, PySendResult status, PyObject **result)
{
    PyObject *raised = status == PYGEN_ERROR ? fl_err_take() : NULL;
    if (call_condition(self->slots[ENTERED], self->st->str.release) < 0) {
        Py_XDECREF(raised);
        Py_CLEAR(*result);
        return PYGEN_ERROR;
    }
    if (raised != NULL) {
        fl_err_give(raised);
    }
    return status;
}

/* One less in the barrier; the last one opens it for those who wait outside.  The
   status is what wait() comes to. */
static PySendResult
leave(FLBarrier *barrier, FLCoro *self, PySendResult status, PyObject **result)
{
    PyObject *raised = status == PYGEN_ERROR ? fl_err_take() : NULL;
    barrier->count--;
    if (barrier->count == 0) {
        if (barrier->state == RESETTING || barrier->state == DRAINING) {
            barrier->state = FILLING;
        }
        if (notify_all(barrier) < 0) {
            Py_CLEAR(raised);
            Py_CLEAR(*result);
            return release_lock(self, PYGEN_ERROR, result);
        }
    }
    if (raised != NULL) {
        fl_err_give(raised);
    }
    return release_lock(self, status, result);
}

/* --- wait() ------------------------------------------------------------------------------ */

enum wait_step {
    WAIT_START,
    WAIT_LOCKED,  /* the lock was asked for */
    WAIT_OUTSIDE, /* until the barrier has drained */
    WAIT_INSIDE,  /* until it has filled */
};

/* await cond.wait(), going on at step; PYGEN_ERROR if that cannot be. */
static PySendResult
wait_for_change(FLBarrier *barrier, FLCoro *self, enum wait_step step,
                PyObject **result)
{
    PyObject *wait = fl_condition_wait(barrier->cond);
    if (wait == NULL) {
        return PYGEN_ERROR;
    }
    self->step = (uint8_t)step;
    PySendResult status = fl_coro_await(self, wait, result);
    Py_DECREF(wait);
    return status;
}

static PySendResult
start(FLBarrier *barrier, FLCoro *self, PyObject **result)
{
    if (barrier->cond == NULL) {
        PyErr_SetString(PyExc_AttributeError,
                        "the barrier is not initialized");
        return PYGEN_ERROR;
    }
    self->step = WAIT_LOCKED;
    self->slots[ENTERED] = Py_NewRef(barrier->cond);
    PyObject *acquire = fl_bound_call((FLBound *)self->slots[ENTERED],
                                      self->st->str.acquire, NULL);
    if (acquire == NULL) {
        return PYGEN_ERROR;
    }
    PySendResult status = fl_coro_await(self, acquire, result);
    Py_DECREF(acquire);
    return status;
}

/* In the barrier: the last to come opens it, the others wait for that. */
static PySendResult
inside(FLBarrier *barrier, FLCoro *self, PyObject **result)
{
    PySendResult status = PYGEN_RETURN;
    if (barrier->state == FILLING) {
        status = wait_for_change(barrier, self, WAIT_INSIDE, result);
        if (status == PYGEN_NEXT) {
            return status;
        }
    }
    else if (barrier->state == BROKEN || barrier->state == RESETTING) {
        raise_broken(barrier, "Abort or reset of barrier");
        status = PYGEN_ERROR;
    }
    if (status == PYGEN_RETURN) {
        *result = PyLong_FromLong(self->count);
        status = *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
    }
    return leave(barrier, self, status, result);
}

/* Through the door: the index is how many are in already. */
static PySendResult
enter(FLBarrier *barrier, FLCoro *self, PyObject **result)
{
    self->count = (int32_t)barrier->count;
    barrier->count++;
    if (barrier->count != barrier->wanted) {
        return inside(barrier, self, result);
    }
    barrier->state = DRAINING;
    PySendResult status = PYGEN_ERROR;
    if (notify_all(barrier) == 0) {
        *result = PyLong_FromLong(self->count);
        status = *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
    }
    return leave(barrier, self, status, result);
}

/* With the lock held, before the door. */
static PySendResult
outside(FLBarrier *barrier, FLCoro *self, PyObject **result)
{
    if (barrier->state == DRAINING || barrier->state == RESETTING) {
        PySendResult status =
            wait_for_change(barrier, self, WAIT_OUTSIDE, result);
        return status == PYGEN_NEXT ? status
                                    : release_lock(self, status, result);
    }
    if (barrier->state == BROKEN) {
        raise_broken(barrier, "Barrier aborted");
        return release_lock(self, PYGEN_ERROR, result);
    }
    return enter(barrier, self, result);
}

static PySendResult
wait_run(FLCoro *self, PyObject *value, PyObject **result)
{
    FLBarrier *barrier = (FLBarrier *)self->slots[FL_WAIT_OWNER];
    switch ((enum wait_step)self->step) {
        case WAIT_START:
            return start(barrier, self, result);
        case WAIT_LOCKED:
            return value == NULL ? PYGEN_ERROR
                                 : outside(barrier, self, result);
        case WAIT_OUTSIDE:
            return value == NULL ? release_lock(self, PYGEN_ERROR, result)
                                 : outside(barrier, self, result);
        case WAIT_INSIDE:
            break;
    }
    return value == NULL ? leave(barrier, self, PYGEN_ERROR, result)
                         : inside(barrier, self, result);
}

/* --- reset() and abort() ------------------------------------------------------------- */

/* Change the state with the lock held. */
static PySendResult
change_run(FLCoro *self, PyObject *value, PyObject **result,
           void (*change)(FLBarrier *barrier))
{
    FLBarrier *barrier = (FLBarrier *)self->slots[FL_WAIT_OWNER];
    if (self->step == WAIT_START) {
        return start(barrier, self, result);
    }
    if (value == NULL) {
        return PYGEN_ERROR;
    }
    change(barrier);
    PySendResult status = PYGEN_ERROR;
    if (notify_all(barrier) == 0) {
        status = fl_coro_return_none(result);
    }
    return release_lock(self, status, result);
}

static void
reset(FLBarrier *barrier)
{
    barrier->state = barrier->count > 0 ? RESETTING : FILLING;
}

static PySendResult
reset_run(FLCoro *self, PyObject *value, PyObject **result)
{
    return change_run(self, value, result, reset);
}

static void
abort_(FLBarrier *barrier)
{
    barrier->state = BROKEN;
}

static PySendResult
abort_run(FLCoro *self, PyObject *value, PyObject **result)
{
    return change_run(self, value, result, abort_);
}

static PySendResult
aenter_run(FLCoro *self, PyObject *value, PyObject **result)
{
    if (self->step == 1) {
        *result = Py_XNewRef(value);
        return value == NULL ? PYGEN_ERROR : PYGEN_RETURN;
    }
    self->step = 1;
    FLBound *barrier = (FLBound *)self->slots[FL_WAIT_OWNER];
    PyObject *wait = fl_bound_call(barrier, self->st->str.wait, NULL);
    if (wait == NULL) {
        return PYGEN_ERROR;
    }
    PySendResult status = fl_coro_await(self, wait, result);
    Py_DECREF(wait);
    return status;
}

static PySendResult
aexit_run(FLCoro *Py_UNUSED(self), PyObject *Py_UNUSED(value),
          PyObject **result)
{
    return fl_coro_return_none(result);
}

static const struct fl_coro_kind wait_kind = {"wait", "Barrier.wait", wait_run,
                                              NULL};
static const struct fl_coro_kind reset_kind = {"reset", "Barrier.reset",
                                               reset_run, NULL};
static const struct fl_coro_kind abort_kind = {"abort", "Barrier.abort",
                                               abort_run, NULL};
static const struct fl_coro_kind aenter_kind = {
    "__aenter__", "Barrier.__aenter__", aenter_run, NULL};
static const struct fl_coro_kind aexit_kind = {
    "__aexit__", "Barrier.__aexit__", aexit_run, NULL};

/* --- life ------------------------------------------------------------------ */

static PyObject *
barrier_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
            PyObject *Py_UNUSED(kwargs))
{
    return (PyObject *)fl_bound_new(type, FL_BARRIER);
}

/* asyncio's text for less than one party, which 3.14 has changed. */
#if FL_PY314
#  define TOO_FEW "parties must be >= 1"
#else
#  define TOO_FEW "parties must be > 0"
#endif

static int
start_with(FLBarrier *self, PyObject *parties)
{
    PyObject *one = PyLong_FromLong(1);
    int few = one == NULL ? -1 : PyObject_RichCompareBool(parties, one, Py_LT);
    Py_XDECREF(one);
    if (few > 0) {
        PyErr_SetString(PyExc_ValueError, TOO_FEW);
    }
    if (few != 0) {
        return -1;
    }
    /* a number that is never reached is one, too */
    double number = PyFloat_AsDouble(parties);
    if (number == -1.0 && PyErr_Occurred()) {
        PyErr_Clear();
    }
    Py_ssize_t wanted =
        number >= 1 && number <= INT32_MAX && number == (double)(int32_t)number
            ? (Py_ssize_t)number
            : PY_SSIZE_T_MAX;
    FLBound *cond = fl_condition_make(self->base.st);
    if (cond == NULL) {
        return -1;
    }
    Py_XSETREF(self->cond, cond);
    Py_XSETREF(self->parties, Py_NewRef(parties));
    self->wanted = wanted;
    self->state = FILLING;
    self->count = 0;
    return 0;
}

static const struct fl_signature init_signature = {
    "Barrier.__init__", 1, 1, 0, 1, {FL_NAME(parties)}};

static int
barrier_init(FLBarrier *self, PyObject *args, PyObject *kwargs)
{
    PyObject *parties;
    if (fl_args_parse_tuple(self->base.st, &init_signature, args, kwargs,
                            &parties)
        < 0) {
        return -1;
    }
    return start_with(self, parties);
}

static int
barrier_traverse(FLBarrier *self, visitproc visit, void *arg)
{
    Py_VISIT(self->cond);
    Py_VISIT(self->parties);
    return fl_bound_traverse(&self->base, visit, arg);
}

static int
barrier_clear(FLBarrier *self)
{
    Py_CLEAR(self->cond);
    Py_CLEAR(self->parties);
    fl_bound_clear(&self->base);
    return 0;
}

static void
barrier_dealloc(FLBarrier *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->base.weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    barrier_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* --- methods ------------------------------------------------------------------ */

PyDoc_STRVAR(
    barrier_doc,
    "Barrier(parties)\n--\n\n"
    "Lets tasks go on once so many of them have come.\n\n"
    "parties is how many; ValueError if that is less than one.  `async\n"
    "with barrier as index:` waits.  Works on any event loop; not\n"
    "thread-safe.  See asyncio.Barrier.");

PyDoc_STRVAR(
    wait_doc,
    "wait($self, /)\n--\n\n"
    "Wait until all parties are there.\n\n"
    "Returns a number from 0 to parties - 1, another for each.  Raises\n"
    "BrokenBarrierError if the barrier is or gets broken or reset.");

static PyObject *
barrier_wait(FLBound *self, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)fl_bound_coro(self, &wait_kind);
}

PyDoc_STRVAR(reset_doc,
             "reset($self, /)\n--\n\n"
             "Make the barrier as new; who waits gets BrokenBarrierError.");

static PyObject *
barrier_reset(FLBound *self, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)fl_bound_coro(self, &reset_kind);
}

PyDoc_STRVAR(
    abort_doc,
    "abort($self, /)\n--\n\n"
    "Break the barrier: who waits or will wait gets BrokenBarrierError.");

static PyObject *
barrier_abort(FLBound *self, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)fl_bound_coro(self, &abort_kind);
}

PyDoc_STRVAR(aenter_doc,
             "__aenter__($self, /)\n--\n\nWait; return the index.");

static PyObject *
barrier_aenter(FLBound *self, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)fl_bound_coro(self, &aenter_kind);
}

PyDoc_STRVAR(aexit_doc, "__aexit__($self, /, *args)\n--\n\nDo nothing.");

static PyObject *
barrier_aexit(FLBound *self, PyObject *Py_UNUSED(args))
{
    return (PyObject *)fl_bound_coro(self, &aexit_kind);
}

static PyObject *
barrier_repr(FLBarrier *self)
{
    Py_ssize_t waiting = self->state == FILLING ? self->count : 0;
    PyObject *parties = self->parties == NULL ? Py_None : self->parties;
    const char *state = state_values[self->state];
    PyObject *what = self->state == BROKEN
                         ? PyUnicode_FromString(state)
                         : PyUnicode_FromFormat("%s, waiters:%zd/%S", state,
                                                waiting, parties);
    return fl_bound_repr(&self->base, what);
}

/* --- attributes ------------------------------------------------------------------ */

static PyObject *
get_parties(FLBarrier *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->parties == NULL ? Py_None : self->parties);
}

static PyObject *
get_n_waiting(FLBarrier *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSsize_t(self->state == FILLING ? self->count : 0);
}

static PyObject *
get_broken(FLBarrier *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->state == BROKEN);
}

static PyObject *
get_state(FLBarrier *self, void *Py_UNUSED(closure))
{
    return PyObject_GetAttrString(self->base.st->imp.BarrierState,
                                  state_names[self->state]);
}

static PyObject *
get_count(FLBarrier *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSsize_t(self->count);
}

static PyObject *
get_cond(FLBarrier *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->cond == NULL ? Py_None : (PyObject *)self->cond);
}

static PyMethodDef barrier_methods[] = {
    {"wait", (PyCFunction)barrier_wait, METH_NOARGS, wait_doc},
    {"reset", (PyCFunction)barrier_reset, METH_NOARGS, reset_doc},
    {"abort", (PyCFunction)barrier_abort, METH_NOARGS, abort_doc},
    {"__aenter__", (PyCFunction)barrier_aenter, METH_NOARGS, aenter_doc},
    {"__aexit__", (PyCFunction)barrier_aexit, METH_VARARGS, aexit_doc},
    FL_BOUND_METHOD,
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef barrier_getset[] = {
    {"parties", (getter)get_parties, NULL,
     PyDoc_STR("How many tasks have to come (an int)."), NULL},
    {"n_waiting", (getter)get_n_waiting, NULL,
     PyDoc_STR("How many tasks wait for the others (an int)."), NULL},
    {"broken", (getter)get_broken, NULL,
     PyDoc_STR("True if the barrier was aborted."), NULL},
    {"_parties", (getter)get_parties, NULL, NULL, NULL},
    {"_state", (getter)get_state, NULL, NULL, NULL},
    {"_count", (getter)get_count, NULL, NULL, NULL},
    {"_cond", (getter)get_cond, NULL, NULL, NULL},
    FL_BOUND_GETSET,
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef barrier_members[] = {
    FL_BOUND_MEMBERS,
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot barrier_slots[] = {
    {Py_tp_doc, (void *)barrier_doc},    {Py_tp_new, barrier_new},
    {Py_tp_init, barrier_init},          {Py_tp_dealloc, barrier_dealloc},
    {Py_tp_traverse, barrier_traverse},  {Py_tp_clear, barrier_clear},
    {Py_tp_setattro, fl_bound_setattro}, {Py_tp_repr, barrier_repr},
    {Py_tp_methods, barrier_methods},    {Py_tp_members, barrier_members},
    {Py_tp_getset, barrier_getset},      {0, NULL},
};

static PyType_Spec barrier_spec = {
    .name = "fastloop.Barrier",
    .basicsize = sizeof(FLBarrier),
    .flags = FL_BOUND_FLAGS,
    .slots = barrier_slots,
};

int
fl_barrier_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    return fl_bound_add_type(module, &st->BarrierType, &barrier_spec, NULL);
}
