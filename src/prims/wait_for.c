/* wait_for(): the awaitable in a Timeout.

   Python 3.11 wraps the awaitable in a task of its own and waits for that. */
#include "prims/wait_for.h"

#include "base/args.h"
#include "prims/awaited_by.h"
#include "prims/ensure.h"
#include "prims/timeout.h"

enum { FUT, TIMEOUT, WAITER, TIMER, TASK, EXC }; /* slots */

enum {
    START,
    AWAITING, /* in the Timeout (3.12) */
    WAITING,  /* for the task or the timer (3.11) */
    ENDING,   /* the task was cancelled: wait for its end */
    GIVING_UP /* the same, and then raise what is in EXC (3.11) */
};

/* --- waiting for the end of what was cancelled --------------------------------------- */

/* A new waiter that the future's end releases.  0 or -1. */
static int
begin_to_listen(FLCoro *self, PyObject *loop)
{
    fl_state *st = self->st;
    Py_XSETREF(self->slots[WAITER], fl_loop_create_future(st, loop));
    return self->slots[WAITER] == NULL
               ? -1
               : fl_any_listen(st, self->slots[FUT], &fl_release_def,
                               self->slots[WAITER]);
}

static int
unlisten(FLCoro *self)
{
    return fl_any_unlisten(self->st, self->slots[FUT], &fl_release_def,
                           self->slots[WAITER]);
}

/* Cancel the future and wait until it is done.  It is not awaited itself, so that
   the waiting can be cancelled in turn. */
static PySendResult
cancel_and_wait(FLCoro *self, uint8_t step, PyObject **result)
{
    fl_state *st = self->st;
    PyObject *loop = fl_running_loop(st);
    int status = loop == NULL ? -1 : begin_to_listen(self, loop);
#if FL_PY314
    if (status == 0) {
        self->slots[TASK] = fl_current_task(st, loop);
        if (self->slots[TASK] == Py_None) {
            Py_CLEAR(self->slots[TASK]);
        }
        status = fl_add_awaited_by(st, self->slots[FUT], self->slots[TASK]);
    }
#endif
    Py_XDECREF(loop);
    if (status < 0) {
        return PYGEN_ERROR;
    }
    self->step = step;
    PyObject *fut = Py_NewRef(self->slots[FUT]);
    status = fl_any_cancel(st, fut, NULL);
    Py_DECREF(fut);
    if (status < 0) {
        return PYGEN_ERROR;
    }
    return fl_coro_wait(self, self->slots[WAITER], result);
}

/* The future's result; TimeoutError if it was cancelled. */
static PySendResult
result_or_timeout(FLCoro *self, PyObject **result)
{
    fl_state *st = self->st;
    *result = fl_any_result(st, self->slots[FUT]);
    if (*result != NULL) {
        return PYGEN_RETURN;
    }
    if (PyErr_ExceptionMatches(st->imp.CancelledError)) {
        PyObject *exc = fl_err_take();
        PyObject *timeout = PyObject_CallNoArgs(PyExc_TimeoutError);
        if (timeout == NULL) {
            Py_DECREF(exc);
            return PYGEN_ERROR;
        }
        PyException_SetContext(timeout, Py_NewRef(exc));
        PyException_SetCause(timeout, exc);
        fl_err_give(timeout);
    }
    return PYGEN_ERROR;
}

static PySendResult
result_now(FLCoro *self, PyObject **result)
{
    *result = fl_any_result(self->st, self->slots[FUT]);
    return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

/* The end of cancel_and_wait(). */
static PySendResult
ended(FLCoro *self, PyObject *value, PyObject **result)
{
    PyObject *raised = value == NULL ? fl_err_take() : NULL;
    int status = unlisten(self);
    if (status == 0) {
        status = fl_discard_awaited_by(self->st, self->slots[FUT],
                                       self->slots[TASK]);
    }
    if (raised != NULL) {
        if (status < 0) {
            PyErr_Clear();
        }
        fl_err_give(raised);
        return PYGEN_ERROR;
    }
    if (status < 0) {
        return PYGEN_ERROR;
    }
    if (self->step == GIVING_UP) {
        fl_err_give(Py_NewRef(self->slots[EXC]));
        return PYGEN_ERROR;
    }
    return result_or_timeout(self, result);
}

/* --- no time at all ------------------------------------------------------------------ */

static PySendResult
start_without_time(FLCoro *self, PyObject *loop, PyObject **result)
{
    fl_state *st = self->st;
    PyObject *fut = fl_ensure_future_on(st, self->slots[FUT], loop);
    if (fut == NULL) {
        return PYGEN_ERROR;
    }
    Py_SETREF(self->slots[FUT], fut);
    int done = fl_any_done(st, fut);
    if (done != 0) {
        return done < 0 ? PYGEN_ERROR : result_now(self, result);
    }
    return cancel_and_wait(self, ENDING, result);
}

static int
without_time(PyObject *timeout)
{
    return timeout == Py_None ? 0 : fl_is_no_time(timeout);
}

#if FL_PY312

/* --- in a Timeout --------------------------------------------------------------------- */

static PySendResult
start(FLCoro *self, PyObject **result)
{
    int none = without_time(self->slots[TIMEOUT]);
    if (none != 0) {
        return none < 0 ? PYGEN_ERROR : start_without_time(self, NULL, result);
    }
    FLTimeout *timeout = fl_timeout_new(self->st, self->slots[TIMEOUT]);
    if (timeout == NULL) {
        return PYGEN_ERROR;
    }
    Py_SETREF(self->slots[TIMEOUT], (PyObject *)timeout);
    if (fl_timeout_enter(timeout) < 0) {
        return PYGEN_ERROR;
    }
    self->step = AWAITING;
    return fl_coro_await(self, self->slots[FUT], result);
}

/* The awaitable is done. */
static PySendResult
leave(FLCoro *self, PyObject *value, PyObject **result)
{
    PyObject *raised = value == NULL ? fl_err_take() : NULL;
    if (fl_timeout_exit((FLTimeout *)self->slots[TIMEOUT], raised) < 0) {
        Py_XDECREF(raised);
        return PYGEN_ERROR;
    }
    if (raised != NULL) {
        fl_err_give(raised);
        return PYGEN_ERROR;
    }
    *result = Py_NewRef(value);
    return PYGEN_RETURN;
}

#else

/* --- with a task ----------------------------------------------------------------------- */

static PySendResult
start(FLCoro *self, PyObject **result)
{
    fl_state *st = self->st;
    PyObject *loop = fl_running_loop(st);
    if (loop == NULL) {
        return PYGEN_ERROR;
    }
    if (self->slots[TIMEOUT] == Py_None) {
        Py_DECREF(loop);
        self->step = AWAITING;
        return fl_coro_await(self, self->slots[FUT], result);
    }
    int none = without_time(self->slots[TIMEOUT]);
    if (none != 0) {
        PySendResult status =
            none < 0 ? PYGEN_ERROR : start_without_time(self, loop, result);
        Py_DECREF(loop);
        return status;
    }
    int status = -1;
    self->slots[WAITER] = fl_loop_create_future(st, loop);
    if (self->slots[WAITER] != NULL) {
        self->slots[TIMER] = fl_loop_release_later(
            st, loop, self->slots[TIMEOUT], self->slots[WAITER]);
    }
    if (self->slots[TIMER] != NULL) {
        PyObject *fut = fl_ensure_future_on(st, self->slots[FUT], loop);
        if (fut != NULL) {
            Py_SETREF(self->slots[FUT], fut);
            status =
                fl_any_listen(st, fut, &fl_release_def, self->slots[WAITER]);
        }
    }
    Py_DECREF(loop);
    if (status < 0) {
        return PYGEN_ERROR;
    }
    self->step = WAITING;
    return fl_coro_wait(self, self->slots[WAITER], result);
}

/* Released by the future or the timer, or cancelled. */
static PySendResult
leave(FLCoro *self, PyObject *value, PyObject **result)
{
    if (self->step == AWAITING) {
        *result = Py_XNewRef(value);
        return value == NULL ? PYGEN_ERROR : PYGEN_RETURN;
    }
    fl_state *st = self->st;
    PyObject *raised = value == NULL ? fl_err_take() : NULL;
    if (raised != NULL
        && !PyErr_GivenExceptionMatches(raised, st->imp.CancelledError)) {
        fl_err_give(raised);
        return PYGEN_ERROR;
    }
    int done = fl_any_done(st, self->slots[FUT]);
    if (done != 0) {
        Py_XDECREF(raised);
        return done < 0 ? PYGEN_ERROR : result_now(self, result);
    }
    Py_XSETREF(self->slots[EXC], raised);
    if (unlisten(self) < 0) {
        return PYGEN_ERROR;
    }
    return cancel_and_wait(self, raised == NULL ? ENDING : GIVING_UP, result);
}

#endif

/* --- the coroutine ------------------------------------------------------------------------ */

static PySendResult
run(FLCoro *self, PyObject *value, PyObject **result)
{
    switch (self->step) {
        case START:
            return start(self, result);
        case ENDING:
        case GIVING_UP:
            return ended(self, value, result);
        default:
            return leave(self, value, result);
    }
}

static PySendResult
wait_for_run(FLCoro *self, PyObject *value, PyObject **result)
{
    PySendResult status = run(self, value, result);
    if (status != PYGEN_NEXT && self->slots[TIMER] != NULL) {
        PyObject *raised = fl_err_take();
        if (fl_cancel_handle(self->st, self->slots[TIMER]) < 0) {
            PyErr_Clear();
        }
        fl_err_give(raised);
    }
    return status;
}

static const struct fl_coro_kind wait_for_kind = {"wait_for", "wait_for",
                                                  wait_for_run, NULL};

const char fl_wait_for_doc[] =
    "wait_for(fut, timeout)\n--\n\n"
    "Await fut for at most timeout seconds (None: for ever).\n\n"
    "After that fut is cancelled and TimeoutError raised.  See\n"
    "asyncio.wait_for.";

static const struct fl_signature wait_for_signature = {
    "wait_for", 2, 2, 0, 2, {FL_NAME(fut), FL_NAME(timeout)}};

/* HOT */
PyObject *
fl_wait_for(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
            PyObject *kwnames)
{
    fl_state *st = fl_state_of_module(module);
    PyObject *values[2];
    if (fl_args_parse(st, &wait_for_signature, args, nargs, kwnames, values)
        < 0) {
        return NULL;
    }
    FLCoro *self = fl_coro_new(st, &wait_for_kind);
    if (self != NULL) {
        self->slots[FUT] = Py_NewRef(values[0]);
        self->slots[TIMEOUT] = Py_NewRef(values[1]);
    }
    return (PyObject *)self;
}
