/* wait(): a future that is set when enough of the others are done. */
#include "prims/wait.h"

#include "base/args.h"
#include "prims/awaited_by.h"
#include "prims/coro.h"
#include "prims/ensure.h"

enum { FUTURES, TIMEOUT, RETURN_WHEN, WAITER, TIMER, TASK }; /* slots */
enum { START, WAITING };                                     /* steps */
enum { ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION };    /* options */

/* --- while waiting ------------------------------------------------------------------- */

static int
cancel_timer(FLCoro *self)
{
    PyObject *timer = self->slots[TIMER];
    if (timer == NULL) {
        return 0;
    }
    self->slots[TIMER] = NULL;
    int status = fl_cancel_handle(self->st, timer);
    Py_DECREF(timer);
    return status;
}

static int
release(FLCoro *self)
{
    PyObject *waiter = self->slots[WAITER];
    if (waiter == NULL) {
        return 0; /* the wait has ended */
    }
    Py_INCREF(waiter);
    int status = fl_any_release(self->st, waiter, Py_None);
    Py_DECREF(waiter);
    return status;
}

static PyObject *
on_timeout(PyObject *owner, PyObject *Py_UNUSED(ignored))
{
    if (release((FLCoro *)owner) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef timer_def = {"_release_waiter", on_timeout, METH_NOARGS,
                                NULL};

/* Did it end with an exception (which then counts as seen)?  1, 0 or -1. */
static int
has_failed(fl_state *st, PyObject *fut)
{
    int cancelled = fl_any_cancelled(st, fut);
    if (cancelled != 0) {
        return cancelled < 0 ? -1 : 0;
    }
    PyObject *exc = fl_any_exception(st, fut);
    Py_XDECREF(exc);
    return exc == NULL ? -1 : exc != Py_None;
}

/* HOT */
static int
note_done(FLCoro *self, PyObject *fut)
{
    int enough = --self->count <= 0 || self->option == FIRST_COMPLETED;
    if (!enough && self->option == FIRST_EXCEPTION) {
        enough = has_failed(self->st, fut);
    }
    if (enough < 0
        || (enough && (cancel_timer(self) < 0 || release(self) < 0))) {
        return -1;
    }
    return fl_discard_awaited_by(self->st, fut, self->slots[TASK]);
}

static PyObject *
future_done(PyObject *owner, PyObject *fut)
{
    if (note_done((FLCoro *)owner, fut) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
waiting_task(PyObject *owner)
{
    return ((FLCoro *)owner)->slots[TASK];
}

static struct fl_listener future_done_def = {
    {"_on_completion", future_done, METH_O, NULL}, waiting_task};

/* --- the beginning ------------------------------------------------------------------- */

static int
find_option(fl_state *st, PyObject *value, uint8_t *option)
{
    PyObject *const names[] = {st->str.ALL_COMPLETED, st->str.FIRST_COMPLETED,
                               st->str.FIRST_EXCEPTION};
    for (int i = 0; i < 3; i++) {
        int same = value == names[i]
                       ? 1
                       : PyObject_RichCompareBool(value, names[i], Py_EQ);
        if (same < 0) {
            return -1;
        }
        if (same) {
            *option = (uint8_t)i;
            return 0;
        }
    }
    PyErr_Format(PyExc_ValueError, "Invalid return_when value: %S", value);
    return -1;
}

/* The futures as a set: what was given is checked as asyncio does. */
static PyObject *
make_set(FLCoro *self)
{
    fl_state *st = self->st;
    PyObject *given = self->slots[FUTURES];
    int wrong = fl_isfuture(st, given);
    if (wrong == 0) {
        wrong = fl_iscoroutine(st, given);
    }
    if (wrong > 0) {
        PyErr_Format(PyExc_TypeError, "expect a list of futures, not %s",
                     fl_type_name(Py_TYPE(given)));
    }
    int some = wrong != 0 ? -1 : PyObject_IsTrue(given);
    if (some == 0) {
        PyErr_SetString(PyExc_ValueError, "Set of Tasks/Futures is empty.");
    }
    if (some <= 0
        || find_option(st, self->slots[RETURN_WHEN], &self->option) < 0) {
        return NULL;
    }
    return PySet_New(given);
}

static int
check_no_coroutines(fl_state *st, PyObject *list)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(list); i++) {
        int coroutine = fl_iscoroutine(st, PyTuple_GET_ITEM(list, i));
        if (coroutine > 0) {
            PyErr_SetString(PyExc_TypeError,
                            "Passing coroutines is forbidden, use tasks "
                            "explicitly.");
        }
        if (coroutine != 0) {
            return -1;
        }
    }
    return 0;
}

/* A waiter, a timer, and a listener for each future; all of it may fail half-way and
   is undone by finish(). */
static int
listen_to_all(FLCoro *self, PyObject *loop)
{
    fl_state *st = self->st;
    PyObject *list = self->slots[FUTURES];
    self->slots[WAITER] = fl_loop_create_future(st, loop);
    if (self->slots[WAITER] == NULL) {
        return -1;
    }
    if (self->slots[TIMEOUT] != Py_None) {
        self->slots[TIMER] = fl_loop_call_later(st, loop, self->slots[TIMEOUT],
                                                &timer_def, (PyObject *)self);
        if (self->slots[TIMER] == NULL) {
            return -1;
        }
    }
#if FL_PY314
    self->slots[TASK] = fl_current_task(st, loop);
    if (self->slots[TASK] == Py_None) {
        Py_CLEAR(self->slots[TASK]);
    }
#endif
    self->count = (int32_t)PyTuple_GET_SIZE(list);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(list); i++) {
        PyObject *fut = PyTuple_GET_ITEM(list, i);
        if (fl_any_listen(st, fut, &future_done_def, (PyObject *)self) < 0
            || fl_add_awaited_by(st, fut, self->slots[TASK]) < 0) {
            return -1;
        }
    }
    return 0;
}

static PySendResult
begin(FLCoro *self, PyObject **result)
{
    PyObject *set = make_set(self);
    PyObject *list = set == NULL ? NULL : PySequence_Tuple(set);
    Py_XDECREF(set);
    if (list == NULL) {
        return PYGEN_ERROR;
    }
    Py_SETREF(self->slots[FUTURES], list);
    if (check_no_coroutines(self->st, list) < 0) {
        return PYGEN_ERROR;
    }
    PyObject *loop = fl_running_loop(self->st);
    if (loop == NULL) {
        return PYGEN_ERROR;
    }
    self->step = WAITING;
    int status = listen_to_all(self, loop);
    Py_DECREF(loop);
    return status < 0 ? PYGEN_ERROR
                      : fl_coro_wait(self, self->slots[WAITER], result);
}

/* --- the end --------------------------------------------------------------------------- */

/* Stop listening; the exception that is raised, if any, stays. */
static int
stop(FLCoro *self)
{
    fl_state *st = self->st;
    PyObject *raised = fl_err_take();
    PyObject *list = self->slots[FUTURES];
    int status = cancel_timer(self);
    for (Py_ssize_t i = 0; status == 0 && i < PyTuple_GET_SIZE(list); i++) {
        PyObject *fut = PyTuple_GET_ITEM(list, i);
        status = fl_any_unlisten(st, fut, &future_done_def, (PyObject *)self);
        if (status == 0) {
            status = fl_discard_awaited_by(st, fut, self->slots[TASK]);
        }
    }
    if (raised != NULL) {
        if (status < 0) {
            PyErr_Clear();
        }
        fl_err_give(raised);
        return -1;
    }
    return status;
}

static PySendResult
done_and_pending(FLCoro *self, PyObject **result)
{
    PyObject *list = self->slots[FUTURES];
    PyObject *sets[2] = {PySet_New(NULL), PySet_New(NULL)};
    int status = sets[0] == NULL || sets[1] == NULL ? -1 : 0;
    for (Py_ssize_t i = 0; status == 0 && i < PyTuple_GET_SIZE(list); i++) {
        PyObject *fut = PyTuple_GET_ITEM(list, i);
        int done = fl_any_done(self->st, fut);
        status = done < 0 ? -1 : PySet_Add(sets[!done], fut);
    }
    if (status == 0) {
        *result = PyTuple_Pack(2, sets[0], sets[1]);
    }
    Py_XDECREF(sets[0]);
    Py_XDECREF(sets[1]);
    return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

static PySendResult
wait_run(FLCoro *self, PyObject *Py_UNUSED(value), PyObject **result)
{
    if (self->step == START) {
        PySendResult status = begin(self, result);
        if (status == PYGEN_ERROR && self->step == WAITING) {
            stop(self);
        }
        return status;
    }
    return stop(self) < 0 ? PYGEN_ERROR : done_and_pending(self, result);
}

static const struct fl_coro_kind wait_kind = {"wait", "wait", wait_run};

const char fl_wait_doc[] =
    "wait(fs, *, timeout=None, return_when='ALL_COMPLETED')\n--\n\n"
    "Wait for futures and tasks; give the sets (done, pending).\n\n"
    "timeout is in seconds; after it the wait just ends.  return_when is\n"
    "FIRST_COMPLETED, FIRST_EXCEPTION or ALL_COMPLETED.  See asyncio.wait.";

static const struct fl_signature wait_signature = {
    "wait", 1, 1, 0, 3, {FL_NAME(fs), FL_NAME(timeout), FL_NAME(return_when)}};

PyObject *
fl_wait(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
        PyObject *kwnames)
{
    fl_state *st = fl_state_of_module(module);
    PyObject *values[3];
    if (fl_args_parse(st, &wait_signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    FLCoro *self = fl_coro_new(st, &wait_kind);
    if (self != NULL) {
        self->slots[FUTURES] = Py_NewRef(values[0]);
        self->slots[TIMEOUT] =
            Py_NewRef(values[1] == NULL ? Py_None : values[1]);
        self->slots[RETURN_WHEN] =
            Py_NewRef(values[2] == NULL ? st->str.ALL_COMPLETED : values[2]);
    }
    return (PyObject *)self;
}
