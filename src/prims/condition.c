/* Condition: its waiting.

   The lock may be anything with acquire(), release() and locked(), which asyncio
   puts on the condition itself; so these are always looked up there. */
#include "prims/condition.h"

#include "prims/condition_type.h"

/* Slots of wait()'s coroutine after the owner and the future. */
#define OUTCOME   2 /* the exception that ended the wait, if any */
#define CANCELLED 3 /* the last CancelledError while reacquiring the lock */
/* Slot of wait_for()'s. */
#define PREDICATE 1

enum wait_step {
    WAIT_START,
    WAIT_NOTIFIED,
    WAIT_REACQUIRED,
};

static int
is_locked(FLBound *self)
{
    return fl_bound_ask(self, self->st->str.locked);
}

/* --- notifying ------------------------------------------------------------------ */

/* n is whatever can be compared with an int. */
int
fl_condition_notify_some(FLCondition *self, PyObject *n)
{
    fl_state *st = self->base.st;
    if (fl_waiters_empty(&self->waiters)) {
        return 0;
    }
    if (PyLong_Check(n)) {
        int overflow;
        long long many = PyLong_AsLongLongAndOverflow(n, &overflow);
        if (many == -1 && overflow == 0 && PyErr_Occurred()) {
            return -1;
        }
        Py_ssize_t count = overflow > 0   ? PY_SSIZE_T_MAX
                           : overflow < 0 ? 0
                                          : (Py_ssize_t)many;
        return fl_waiters_wake_many(st, &self->waiters, count, Py_False);
    }
    for (long given = 0;; given++) {
        PyObject *index = PyLong_FromLong(given);
        int enough =
            index == NULL ? -1 : PyObject_RichCompareBool(index, n, Py_GE);
        Py_XDECREF(index);
        if (enough != 0) {
            return enough < 0 ? -1 : 0;
        }
        int woken = fl_waiters_wake(st, &self->waiters, Py_False);
        if (woken <= 0) {
            return woken;
        }
    }
}

int
fl_condition_notify(FLCondition *self, PyObject *n)
{
    fl_state *st = self->base.st;
    if (!(fl_bound_overrides(&self->base) & FL_OWN_WAKE)) {
        return fl_condition_notify_some(self, n);
    }
    PyObject *done = fl_bound_call(&self->base, st->str._notify, n);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

int
fl_condition_notify_locked(FLCondition *self, PyObject *n)
{
    int locked = is_locked(&self->base);
    if (locked == 0) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot notify on un-acquired lock");
    }
    return locked <= 0 ? -1 : fl_condition_notify(self, n);
}

int
fl_condition_notify_waiting(FLCondition *self)
{
    fl_state *st = self->base.st;
    Py_ssize_t count = fl_waiters_count(st, &self->waiters);
    PyObject *n = count < 0 ? NULL : PyLong_FromSsize_t(count);
    if (n == NULL) {
        return -1;
    }
    int status;
    if (!(fl_bound_overrides(&self->base) & FL_OWN_NOTIFY)) {
        status = fl_condition_notify_locked(self, n);
    }
    else {
        PyObject *done = fl_bound_call(&self->base, st->str.notify, n);
        status = done == NULL ? -1 : 0;
        Py_XDECREF(done);
    }
    Py_DECREF(n);
    return status;
}

/* --- wait() -------------------------------------------------------------------------- */

/* An error out of wait() may hide a notification: pass it to somebody else, for whom
   it may be a false alarm.  The exception is raised. */
static PySendResult
fail(FLCondition *cond)
{
    PyObject *raised = fl_err_take();
    PyObject *one = PyLong_FromLong(1);
    int status = one == NULL ? -1 : fl_condition_notify(cond, one);
    Py_XDECREF(one);
    if (status < 0) {
        Py_DECREF(raised);
    }
    else {
        fl_err_give(raised);
    }
    return PYGEN_ERROR;
}

static PySendResult
reacquire(FLCondition *cond, FLCoro *self, PyObject **result)
{
    self->step = WAIT_REACQUIRED;
    PyObject *acquire =
        fl_bound_call(&cond->base, self->st->str.acquire, NULL);
    if (acquire == NULL) {
        return fail(cond);
    }
    PySendResult status = fl_coro_await(self, acquire, result);
    Py_DECREF(acquire);
    return status;
}

/* Release the lock and wait in the queue. */
static PySendResult
start_wait(FLCondition *cond, FLCoro *self, PyObject **result)
{
    int locked = is_locked(&cond->base);
    if (locked == 0) {
        PyErr_SetString(PyExc_RuntimeError, "cannot wait on un-acquired lock");
    }
    if (locked <= 0 || fl_waiters_make_future(self) < 0) {
        return PYGEN_ERROR;
    }
    PyObject *done = fl_bound_call(&cond->base, self->st->str.release, NULL);
    if (done == NULL) {
        return PYGEN_ERROR;
    }
    Py_DECREF(done);
    self->step = WAIT_NOTIFIED;
    if (FL_UNLIKELY(fl_waiters_add(&cond->waiters, self) < 0)) {
        self->slots[OUTCOME] = fl_err_take();
        return reacquire(cond, self, result);
    }
    return fl_coro_wait(self, self->slots[FL_WAIT_FUTURE], result);
}

/* The future is done, or an exception came. */
static PySendResult
after_wait(FLCondition *cond, FLCoro *self, bool failed, PyObject **result)
{
    PyObject *raised = failed ? fl_err_take() : NULL;
    if (fl_waiters_remove(&cond->waiters, self) < 0) {
        Py_XSETREF(raised, fl_err_take());
    }
    Py_XSETREF(self->slots[OUTCOME], raised);
    return reacquire(cond, self, result);
}

/* CancelledError does not keep us from getting the lock back. */
static PySendResult
cancelled_again(FLCondition *cond, FLCoro *self, PyObject **result)
{
    PyObject *raised = fl_err_take();
    PyObject *outcome = self->slots[OUTCOME];
    PyObject *context = PyException_GetContext(raised);
    if (context == NULL && outcome != NULL && outcome != raised) {
        PyException_SetContext(raised, Py_NewRef(outcome));
    }
    Py_XDECREF(context);
    Py_XSETREF(self->slots[CANCELLED], raised);
    return reacquire(cond, self, result);
}

static PySendResult
after_reacquire(FLCondition *cond, FLCoro *self, bool failed,
                PyObject **result)
{
    if (FL_UNLIKELY(failed)) {
        return fl_raised_cancelled(self->st)
                   ? cancelled_again(cond, self, result)
                   : fail(cond);
    }
    int slot = self->slots[CANCELLED] != NULL ? CANCELLED : OUTCOME;
    PyObject *raised = self->slots[slot];
    if (raised != NULL) {
        self->slots[slot] = NULL;
        fl_err_give(raised);
        return fail(cond);
    }
    *result = Py_NewRef(Py_True);
    return PYGEN_RETURN;
}

static PySendResult
wait_run(FLCoro *self, PyObject *value, PyObject **result)
{
    FLCondition *cond = (FLCondition *)self->slots[FL_WAIT_OWNER];
    switch ((enum wait_step)self->step) {
        case WAIT_START:
            return start_wait(cond, self, result);
        case WAIT_NOTIFIED:
            return after_wait(cond, self, value == NULL, result);
        case WAIT_REACQUIRED:
            break;
    }
    return after_reacquire(cond, self, value == NULL, result);
}

static const struct fl_coro_kind wait_kind = {"wait", "Condition.wait",
                                              wait_run, NULL};

PyObject *
fl_condition_wait_coro(FLBound *self)
{
    return (PyObject *)fl_bound_coro(self, &wait_kind);
}

PyObject *
fl_condition_wait(FLBound *self)
{
    if (self->kind == FL_CONDITION
        && !(fl_bound_overrides(self) & FL_OWN_WAIT)) {
        return fl_condition_wait_coro(self);
    }
    return fl_bound_call(self, self->st->str.wait, NULL);
}

/* --- wait_for() -------------------------------------------------------------------------- */

static PySendResult
wait_for_run(FLCoro *self, PyObject *value, PyObject **result)
{
    if (value == NULL) {
        return PYGEN_ERROR;
    }
    PyObject *answer = PyObject_CallNoArgs(self->slots[PREDICATE]);
    int truth = answer == NULL ? -1 : PyObject_IsTrue(answer);
    if (truth != 0) {
        if (truth < 0) {
            Py_XDECREF(answer);
            return PYGEN_ERROR;
        }
        *result = answer;
        return PYGEN_RETURN;
    }
    Py_DECREF(answer);
    PyObject *wait = fl_condition_wait((FLBound *)self->slots[FL_WAIT_OWNER]);
    if (wait == NULL) {
        return PYGEN_ERROR;
    }
    PySendResult status = fl_coro_await(self, wait, result);
    Py_DECREF(wait);
    return status;
}

static const struct fl_coro_kind wait_for_kind = {
    "wait_for", "Condition.wait_for", wait_for_run, NULL};

PyObject *
fl_condition_wait_for_coro(FLBound *self, PyObject *predicate)
{
    FLCoro *coro = fl_bound_coro(self, &wait_for_kind);
    if (coro != NULL) {
        coro->slots[PREDICATE] = Py_NewRef(predicate);
    }
    return (PyObject *)coro;
}
