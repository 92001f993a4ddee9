/* wait(): a future that is set when enough of the others are done. */
#include "prims/wait.h"

#include "base/args.h"
#include "prims/awaited_by.h"
#include "prims/coro.h"
#include "prims/ensure.h"

enum { FUTURES, TIMEOUT, RETURN_WHEN, COUNTER };          /* slots */
enum { START, WAITING };                                  /* steps */
enum { ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION }; /* options */

/* What the futures tell: not the coroutine, which they would keep alive. */
typedef struct {
    PyObject_HEAD
    fl_state *st;     /* borrowed: our type holds the module */
    PyObject *waiter; /* owned */
    PyObject *timer;  /* owned handle, or NULL */
    PyObject *task;   /* owned: who waits, for the call graph, or NULL */
    Py_ssize_t left;
    uint8_t option;
} FLCounter;

/* --- while waiting ------------------------------------------------------------------- */

static int
cancel_timer(FLCounter *self)
{
    PyObject *timer = self->timer;
    if (timer == NULL) {
        return 0;
    }
    self->timer = NULL;
    int status = fl_cancel_handle(self->st, timer);
    Py_DECREF(timer);
    return status;
}

static int
release(FLCounter *self)
{
    if (self->waiter == NULL) {
        return 0; /* cleared by the garbage collector */
    }
    PyObject *waiter = Py_NewRef(self->waiter);
    int status = cancel_timer(self);
    if (status == 0) {
        status = fl_any_release(self->st, waiter, Py_None);
    }
    Py_DECREF(waiter);
    return status;
}

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
note_done(FLCounter *self, PyObject *fut)
{
    int enough = --self->left <= 0 || self->option == FIRST_COMPLETED;
    if (!enough && self->option == FIRST_EXCEPTION) {
        enough = has_failed(self->st, fut);
    }
    if (enough < 0 || (enough && release(self) < 0)) {
        return -1;
    }
    return fl_discard_awaited_by(self->st, fut, self->task);
}

static PyObject *
future_done(PyObject *owner, PyObject *fut)
{
    if (note_done((FLCounter *)owner, fut) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
waiting_task(PyObject *owner)
{
    return ((FLCounter *)owner)->task;
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

static FLCounter *
make_counter(FLCoro *self, PyObject *loop)
{
    fl_state *st = self->st;
    FLCounter *counter =
        (FLCounter *)PyType_GenericAlloc(st->WaitCounterType, 0);
    if (counter == NULL) {
        return NULL;
    }
    counter->st = st;
    counter->option = self->option;
    counter->left = PyTuple_GET_SIZE(self->slots[FUTURES]);
    counter->waiter = fl_loop_create_future(st, loop);
    if (counter->waiter != NULL && self->slots[TIMEOUT] != Py_None) {
        counter->timer = fl_loop_release_later(st, loop, self->slots[TIMEOUT],
                                               counter->waiter);
    }
#if FL_PY314
    if (!PyErr_Occurred()) {
        counter->task = fl_current_task(st, loop);
        if (counter->task == Py_None) {
            Py_CLEAR(counter->task);
        }
    }
#endif
    if (PyErr_Occurred()) {
        Py_CLEAR(counter);
    }
    return counter;
}

/* A counter, and a listener for each future; it may fail half-way and is undone by
   stop(). */
static int
listen_to_all(FLCoro *self, PyObject *loop)
{
    fl_state *st = self->st;
    PyObject *list = self->slots[FUTURES];
    FLCounter *counter = make_counter(self, loop);
    if (counter == NULL) {
        return -1;
    }
    self->slots[COUNTER] = (PyObject *)counter;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(list); i++) {
        PyObject *fut = PyTuple_GET_ITEM(list, i);
        if (fl_any_listen(st, fut, &future_done_def, (PyObject *)counter) < 0
            || fl_add_awaited_by(st, fut, counter->task) < 0) {
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
    if (status < 0) {
        return PYGEN_ERROR;
    }
    return fl_coro_wait(self, ((FLCounter *)self->slots[COUNTER])->waiter,
                        result);
}

/* --- the end --------------------------------------------------------------------------- */

/* Stop listening; the exception that is raised, if any, stays. */
static int
stop(FLCoro *self)
{
    fl_state *st = self->st;
    PyObject *raised = fl_err_take();
    PyObject *list = self->slots[FUTURES];
    FLCounter *counter = (FLCounter *)self->slots[COUNTER];
    int status = counter == NULL ? 0 : cancel_timer(counter);
    for (Py_ssize_t i = 0;
         counter != NULL && status == 0 && i < PyTuple_GET_SIZE(list); i++) {
        PyObject *fut = PyTuple_GET_ITEM(list, i);
        status =
            fl_any_unlisten(st, fut, &future_done_def, (PyObject *)counter);
        if (status == 0) {
            status = fl_discard_awaited_by(st, fut, counter->task);
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

static const struct fl_coro_kind wait_kind = {"wait", "wait", wait_run, NULL};

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

/* --- the type of the counter ------------------------------------------------------------ */

static int
counter_traverse(FLCounter *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->waiter);
    Py_VISIT(self->timer);
    Py_VISIT(self->task);
    return 0;
}

static int
counter_clear(FLCounter *self)
{
    Py_CLEAR(self->waiter);
    Py_CLEAR(self->timer);
    Py_CLEAR(self->task);
    return 0;
}

static void
counter_dealloc(FLCounter *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    counter_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot counter_slots[] = {
    {Py_tp_dealloc, counter_dealloc},
    {Py_tp_traverse, counter_traverse},
    {Py_tp_clear, counter_clear},
    {Py_tp_doc, "Counts the futures that wait() waits for."},
    {0, NULL},
};

static PyType_Spec counter_spec = {
    .name = "fastloop._core.WaitCounter",
    .basicsize = sizeof(FLCounter),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = counter_slots,
};

int
fl_wait_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    return fl_state_add_type(module, &st->WaitCounterType, &counter_spec,
                             NULL);
}
