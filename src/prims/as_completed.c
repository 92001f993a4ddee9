/* as_completed(): an iterator over coroutines, each of which waits for the next
   future that is done; or an asynchronous one over those futures.

   The futures are found and watched when it is made; up to 3.12, where asyncio has a
   generator, when iteration begins. */
#include "prims/as_completed.h"

#include "base/args.h"
#include "prims/awaited_by.h"
#include "prims/coro.h"
#include "prims/ensure.h"

typedef struct {
    PyObject_HEAD
    fl_state *st;      /* borrowed: our type holds the module */
    PyObject *given;   /* owned: the argument, until begun */
    PyObject *timeout; /* owned */
    PyObject *todo;    /* owned set; NULL until begun */
    PyObject *done;    /* owned list of futures; None: timed out */
    PyObject *getters; /* owned list of futures that wait for one of them */
    PyObject *timer;   /* owned handle, or NULL */
    PyObject *task;    /* owned: who made it, for the call graph, or NULL */
    Py_ssize_t done_head;
    Py_ssize_t getters_head;
    Py_ssize_t left; /* coroutines to hand out */
} FLAsCompleted;

/* --- the queue of what is done ------------------------------------------------------- */

static bool
is_empty(const FLAsCompleted *self)
{
    return self->done_head == PyList_GET_SIZE(self->done);
}

/* Wake the first getter that still waits. */
static int
wake_next(FLAsCompleted *self)
{
    while (self->getters_head < PyList_GET_SIZE(self->getters)) {
        PyObject *getter =
            Py_NewRef(PyList_GET_ITEM(self->getters, self->getters_head++));
        int done = fl_any_done(self->st, getter);
        if (done == 0 && fl_any_set_result(self->st, getter, Py_None) < 0) {
            done = -1;
        }
        Py_DECREF(getter);
        if (done <= 0) {
            return done;
        }
    }
    return 0;
}

static int
put(FLAsCompleted *self, PyObject *fut)
{
    return PyList_Append(self->done, fut) < 0 ? -1 : wake_next(self);
}

/* The queue must not be empty. */
static PyObject *
get(FLAsCompleted *self)
{
    PyObject *fut = PyList_GET_ITEM(self->done, self->done_head);
    Py_INCREF(fut);
    PyList_SetItem(self->done, self->done_head++, Py_NewRef(Py_None));
    return fut;
}

/* A cancelled getter is passed over; one that was woken passes it on. */
static int
forget_getter(FLAsCompleted *self, PyObject *getter)
{
    fl_state *st = self->st;
    if (fl_any_cancel(st, getter, NULL) < 0) {
        return -1;
    }
    for (Py_ssize_t i = self->getters_head; i < PyList_GET_SIZE(self->getters);
         i++) {
        if (PyList_GET_ITEM(self->getters, i) == getter) {
            if (PyList_SetSlice(self->getters, i, i + 1, NULL) < 0) {
                return -1;
            }
            break;
        }
    }
    int cancelled = fl_any_cancelled(st, getter);
    if (cancelled != 0 || is_empty(self)) {
        return cancelled < 0 ? -1 : 0;
    }
    return wake_next(self);
}

/* --- what happens to the futures -------------------------------------------------------- */

static int
cancel_timer(FLAsCompleted *self)
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
note_done(FLAsCompleted *self, PyObject *fut)
{
    if (self->todo == NULL || PySet_GET_SIZE(self->todo) == 0) {
        return 0; /* the timeout was first */
    }
    if (PySet_Discard(self->todo, fut) < 0
        || fl_discard_awaited_by(self->st, fut, self->task) < 0
        || put(self, fut) < 0) {
        return -1;
    }
    return PySet_GET_SIZE(self->todo) == 0 ? cancel_timer(self) : 0;
}

static PyObject *
future_done(PyObject *owner, PyObject *fut)
{
    if (note_done((FLAsCompleted *)owner, fut) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
iterating_task(PyObject *owner)
{
    return ((FLAsCompleted *)owner)->task;
}

static struct fl_listener future_done_def = {
    {"_handle_completion", future_done, METH_O, NULL}, iterating_task};

static int
time_out(FLAsCompleted *self)
{
    fl_state *st = self->st;
    PyObject *todo = PySequence_List(self->todo);
    int status = todo == NULL ? -1 : PySet_Clear(self->todo);
    for (Py_ssize_t i = 0; status == 0 && i < PyList_GET_SIZE(todo); i++) {
        PyObject *fut = PyList_GET_ITEM(todo, i);
        status = fl_any_unlisten(st, fut, &future_done_def, (PyObject *)self);
        if (status == 0) {
            status = fl_discard_awaited_by(st, fut, self->task);
        }
        if (status == 0) {
            status = put(self, Py_None);
        }
    }
    Py_XDECREF(todo);
    return status;
}

static PyObject *
on_timeout(PyObject *owner, PyObject *Py_UNUSED(ignored))
{
    FLAsCompleted *self = (FLAsCompleted *)owner;
    if (self->todo != NULL && time_out(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef timer_def = {"_handle_timeout", on_timeout, METH_NOARGS,
                                NULL};

/* --- the beginning --------------------------------------------------------------------- */

/* {ensure_future(f, loop=loop) for f in set(given)} */
static PyObject *
make_futures(fl_state *st, PyObject *given, PyObject *loop)
{
    PyObject *set = PySet_New(given);
    PyObject *list = set == NULL ? NULL : PySequence_Tuple(set);
    PyObject *todo = list == NULL ? NULL : PySet_New(NULL);
    for (Py_ssize_t i = 0; todo != NULL && i < PyTuple_GET_SIZE(list); i++) {
        PyObject *fut =
            fl_ensure_future_on(st, PyTuple_GET_ITEM(list, i), loop);
        if (fut == NULL || PySet_Add(todo, fut) < 0) {
            Py_CLEAR(todo);
        }
        Py_XDECREF(fut);
    }
    Py_XDECREF(list);
    Py_XDECREF(set);
    return todo;
}

static int
watch(FLAsCompleted *self, PyObject *todo, PyObject *loop)
{
    fl_state *st = self->st;
    PyObject *list = PySequence_Tuple(todo);
    if (list == NULL) {
        return -1;
    }
    int status = 0;
    for (Py_ssize_t i = 0; status == 0 && i < PyTuple_GET_SIZE(list); i++) {
        PyObject *fut = PyTuple_GET_ITEM(list, i);
        status = fl_any_listen(st, fut, &future_done_def, (PyObject *)self);
        if (status == 0) {
            status = fl_add_awaited_by(st, fut, self->task);
        }
    }
    if (status == 0 && PyTuple_GET_SIZE(list) > 0
        && self->timeout != Py_None) {
        self->timer = fl_loop_call_later(st, loop, self->timeout, &timer_def,
                                         (PyObject *)self);
        status = self->timer == NULL ? -1 : 0;
    }
    Py_DECREF(list);
    return status;
}

/* 0 if fs may be iterated over, -1 with asyncio's TypeError */
static int
check_argument(fl_state *st, PyObject *fs)
{
#if FL_PY313
    PyObject *answer = PyObject_CallOneArg(st->imp.isawaitable, fs);
    int wrong = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    const char *message = "expects an iterable of awaitables, not %s";
#else
    int wrong = fl_isfuture(st, fs);
    if (wrong == 0) {
        wrong = fl_iscoroutine(st, fs);
    }
    const char *message = "expect an iterable of futures, not %s";
#endif
    if (wrong > 0) {
        PyErr_Format(PyExc_TypeError, message, fl_type_name(Py_TYPE(fs)));
    }
    return wrong != 0 ? -1 : 0;
}

static int
begin(FLAsCompleted *self)
{
    fl_state *st = self->st;
    PyObject *given = self->given;
    if (given == NULL) {
        return 0;
    }
    self->given = NULL;
    if (check_argument(st, given) < 0) {
        Py_DECREF(given);
        return -1;
    }
    PyObject *loop = PyObject_CallNoArgs(st->imp.get_event_loop);
    PyObject *todo = NULL;
    int status = -1;
#if FL_PY314
    if (loop != NULL) {
        PyObject *running = PyObject_CallNoArgs(st->imp.get_running_loop);
        if (running != NULL && running != Py_None) {
            self->task = fl_current_task(st, running);
        }
        Py_XDECREF(running);
        if (self->task == Py_None) {
            Py_CLEAR(self->task);
        }
    }
#endif
    if (loop != NULL && !PyErr_Occurred()) {
        todo = make_futures(st, given, loop);
    }
    if (todo != NULL) {
        status = watch(self, todo, loop);
        self->left = PySet_GET_SIZE(todo);
        Py_XSETREF(self->todo, todo);
    }
    Py_XDECREF(loop);
    Py_DECREF(given);
    return status;
}

/* --- the coroutines -------------------------------------------------------------------- */

enum { ITERATOR, GETTER }; /* slots */
enum { START, WAITING };   /* steps */
enum {
    RESOLVE,
    FUTURE,
    NEXT
}; /* options: the result, the future, or the next
                                     of an asynchronous iteration */

static PySendResult
take(FLCoro *coro, FLAsCompleted *self, PyObject **result)
{
    PyObject *fut = get(self);
    if (fut == Py_None) {
        Py_DECREF(fut);
        PyErr_SetNone(PyExc_TimeoutError);
        return PYGEN_ERROR;
    }
    if (coro->option == RESOLVE) {
        Py_SETREF(fut, fl_any_result(self->st, fut));
    }
    *result = fut;
    return fut == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

static PySendResult
wait_for_one(FLCoro *coro, FLAsCompleted *self, PyObject **result)
{
    if (!is_empty(self)) {
        return take(coro, self, result);
    }
    PyObject *loop = fl_running_loop(self->st);
    PyObject *getter =
        loop == NULL ? NULL : fl_loop_create_future(self->st, loop);
    Py_XDECREF(loop);
    if (getter == NULL) {
        return PYGEN_ERROR;
    }
    Py_XSETREF(coro->slots[GETTER], getter);
    if (PyList_Append(self->getters, getter) < 0) {
        return PYGEN_ERROR;
    }
    coro->step = WAITING;
    return fl_coro_wait(coro, getter, result);
}

static PySendResult
one_run(FLCoro *coro, PyObject *value, PyObject **result)
{
    FLAsCompleted *self = (FLAsCompleted *)coro->slots[ITERATOR];
    if (FL_UNLIKELY(value == NULL)) {
        PyObject *raised = fl_err_take();
        if (forget_getter(self, coro->slots[GETTER]) < 0) {
            PyErr_Clear();
        }
        fl_err_give(raised);
        return PYGEN_ERROR;
    }
    if (coro->step == START && coro->option == NEXT) {
        if (begin(self) < 0) {
            return PYGEN_ERROR;
        }
        if (self->left == 0) {
            PyErr_SetNone(PyExc_StopAsyncIteration);
            return PYGEN_ERROR;
        }
        self->left--;
    }
    return wait_for_one(coro, self, result);
}

static const struct fl_coro_kind one_kind = {
    "_wait_for_one",
    FL_PY313 ? "_AsCompletedIterator._wait_for_one"
             : "as_completed.<locals>._wait_for_one",
    one_run, NULL};
static const struct fl_coro_kind next_kind = {
    "__anext__", "_AsCompletedIterator.__anext__", one_run, NULL};

static PyObject *
make_coro(FLAsCompleted *self, const struct fl_coro_kind *kind, uint8_t option)
{
    FLCoro *coro = fl_coro_new(self->st, kind);
    if (coro != NULL) {
        coro->slots[ITERATOR] = Py_NewRef(self);
        coro->option = option;
    }
    return (PyObject *)coro;
}

static PyObject *
iterator_next(FLAsCompleted *self)
{
    if (begin(self) < 0 || self->left == 0) {
        return NULL;
    }
    self->left--;
    return make_coro(self, &one_kind, RESOLVE);
}

static PyObject *
iterator_anext(FLAsCompleted *self)
{
    return make_coro(self, &next_kind, NEXT);
}

/* --- the function ---------------------------------------------------------------------- */

const char fl_as_completed_doc[] =
    "as_completed(fs, *, timeout=None)\n--\n\n"
    "Return an iterator over awaitables in the order in which they complete.\n"
    "\n`for` gives coroutines, each for the next result; `async for` gives the\n"
    "futures themselves.  After timeout seconds they raise TimeoutError.  See\n"
    "asyncio.as_completed.";

static const struct fl_signature as_completed_signature = {
    "as_completed", 1, 1, 0, 2, {FL_NAME(fs), FL_NAME(timeout)}};

PyObject *
fl_as_completed(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    fl_state *st = fl_state_of_module(module);
    PyObject *values[2];
    if (fl_args_parse(st, &as_completed_signature, args, nargs, kwnames,
                      values)
        < 0) {
        return NULL;
    }
    FLAsCompleted *self =
        (FLAsCompleted *)PyType_GenericAlloc(st->AsCompletedType, 0);
    if (self == NULL) {
        return NULL;
    }
    self->st = st;
    self->given = Py_NewRef(values[0]);
    self->timeout = Py_NewRef(values[1] == NULL ? Py_None : values[1]);
    self->done = PyList_New(0);
    self->getters = PyList_New(0);
    if (self->done == NULL || self->getters == NULL
        || (FL_PY313 && begin(self) < 0)) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

/* --- the type -------------------------------------------------------------------------- */

static int
iterator_traverse(FLAsCompleted *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->given);
    Py_VISIT(self->timeout);
    Py_VISIT(self->todo);
    Py_VISIT(self->done);
    Py_VISIT(self->getters);
    Py_VISIT(self->timer);
    Py_VISIT(self->task);
    return 0;
}

/* The lists stay: coroutines count on them. */
static int
iterator_clear(FLAsCompleted *self)
{
    Py_CLEAR(self->given);
    Py_CLEAR(self->todo);
    Py_CLEAR(self->timer);
    Py_CLEAR(self->task);
    return 0;
}

static void
iterator_dealloc(FLAsCompleted *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    iterator_clear(self);
    Py_CLEAR(self->timeout);
    Py_CLEAR(self->done);
    Py_CLEAR(self->getters);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot iterator_slots[] = {
    {Py_tp_dealloc, iterator_dealloc},
    {Py_tp_traverse, iterator_traverse},
    {Py_tp_clear, iterator_clear},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, iterator_next},
    {Py_am_aiter, PyObject_SelfIter},
    {Py_am_anext, iterator_anext},
    {Py_tp_doc, "What as_completed() returns."},
    {0, NULL},
};

static PyType_Spec iterator_spec = {
    .name = "fastloop._core._AsCompletedIterator",
    .basicsize = sizeof(FLAsCompleted),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = iterator_slots,
};

int
fl_as_completed_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    return fl_state_add_type(module, &st->AsCompletedType, &iterator_spec,
                             NULL);
}
