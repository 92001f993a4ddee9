/* Task: making and cancelling one; task_step.c drives it. */
#include "core/task.h"

#include "core/context.h"

/* --- names ---------------------------------------------------------------------- */

/* Most names are never asked for: only the number is kept, in an odd word that
   no object's address can be. */
static PyObject *
number_to_name(uint64_t number)
{
    return (PyObject *)(uintptr_t)((number << 1) | 1);
}

PyObject *
fl_task_get_name(FLTask *task)
{
    if (task->name == NULL) {
        Py_RETURN_NONE;
    }
    uintptr_t word = (uintptr_t)task->name;
    if (word & 1) {
        PyObject *name =
            PyUnicode_FromFormat("Task-%llu", (unsigned long long)(word >> 1));
        if (name == NULL) {
            return NULL;
        }
        task->name = name;
    }
    return Py_NewRef(task->name);
}

static int
set_name(FLTask *task, fl_state *st, PyObject *name)
{
    if (name == NULL || name == Py_None) {
        task->name = number_to_name(++st->task_names);
        return 0;
    }
    task->name =
        PyUnicode_CheckExact(name) ? Py_NewRef(name) : PyObject_Str(name);
    return task->name == NULL ? -1 : 0;
}

/* --- construction ------------------------------------------------------------------ */

static FL_COLD int
check_coroutine_slowly(fl_state *st, PyObject *coro)
{
    int known = PySet_Contains(st->coroutine_types, (PyObject *)Py_TYPE(coro));
    if (known != 0) {
        return known < 0 ? -1 : 0;
    }
    PyObject *answer = PyObject_CallOneArg(st->sup.iscoroutine, coro);
    int is_coroutine = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    if (is_coroutine == 0) {
        PyErr_Format(PyExc_TypeError, "a coroutine was expected, got %R",
                     coro);
    }
    if (is_coroutine <= 0) {
        return -1;
    }
    /* a program has few such types: Cython's, a decorator's */
    if (PySet_GET_SIZE(st->coroutine_types) >= 100) {
        return 0;
    }
    return PySet_Add(st->coroutine_types, (PyObject *)Py_TYPE(coro));
}

static inline int
set_context(FLTask *task, PyObject *context)
{
    if (context == NULL || context == Py_None) {
        return fl_context_capture(&task->context);
    }
    if (!PyContext_CheckExact(context)) {
        PyErr_Format(PyExc_TypeError,
                     "a contextvars.Context was expected, got %s",
                     fl_type_name(Py_TYPE(context)));
        return -1;
    }
    task->context = Py_NewRef(context);
    return 0;
}

static int
is_running(FLTask *task, fl_state *st)
{
    if (task->fut.native) {
        return ((FLLoop *)task->fut.loop)->running;
    }
    PyObject *answer =
        PyObject_CallMethodNoArgs(task->fut.loop, st->str.is_running);
    int status = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return status;
}

/* The future part is set up: the rest. */
static int
begin(FLTask *task, fl_state *st, PyObject *coro,
      const struct fl_task_options *options)
{
    if (FL_UNLIKELY(!PyCoro_CheckExact(coro)
                    && !Py_IS_TYPE(coro, st->CoroType))
        && check_coroutine_slowly(st, coro) < 0) {
        return -1;
    }
    if (set_context(task, options->context) < 0
        || set_name(task, st, options->name) < 0) {
        return -1;
    }
    task->coro = Py_NewRef(coro);
    task->fut.log_destroy_pending = true;
    fl_list_append(task->fut.native ? &((FLLoop *)task->fut.loop)->tasks
                                    : &st->foreign_tasks,
                   &task->node);
    int eager = options->eager_start ? is_running(task, st) : 0;
    if (FL_LIKELY(eager == 0)) {
        return fl_task_step_soon(task);
    }
    if (eager < 0 || fl_task_start_eagerly(task) < 0) {
        task->fut.log_destroy_pending = false;
        return -1;
    }
    return 0;
}

int
fl_task_setup(FLTask *task, fl_state *st, PyObject *loop, PyObject *coro,
              const struct fl_task_options *options)
{
    if (fl_future_setup(&task->fut, st, loop) < 0) {
        return -1;
    }
    return begin(task, st, coro, options);
}

/* HOT */
FLTask *
fl_task_new(FLLoop *loop, PyObject *coro,
            const struct fl_task_options *options)
{
    fl_state *st = loop->st;
    FLTask *task = (FLTask *)fl_freelist_get(&st->tasks);
    if (FL_LIKELY(task != NULL)) {
        PyObject_GC_Track(task);
    }
    else {
        task = (FLTask *)st->TaskType->tp_new(st->TaskType, NULL, NULL);
        if (task == NULL) {
            return NULL;
        }
    }
    if (FL_UNLIKELY(loop->debug)) {
        if (fl_task_setup(task, st, (PyObject *)loop, coro, options) < 0) {
            Py_CLEAR(task);
        }
        return task;
    }
    task->fut.loop = Py_NewRef(loop);
    task->fut.native = true;
    if (begin(task, st, coro, options) < 0) {
        Py_CLEAR(task);
    }
    return task;
}

/* --- cancellation ------------------------------------------------------------------- */

/* Cancel a future that is not one of our tasks.  1 done, 0 refused, -1 error. */
static int
cancel_future(fl_state *st, PyObject *future, PyObject *msg)
{
    if (Py_IS_TYPE(future, st->FutureType)) {
        return fl_future_cancel((FLFuture *)future, msg);
    }
    PyObject *answer = PyObject_CallMethodOneArg(future, st->str.cancel,
                                                 msg == NULL ? Py_None : msg);
    int status = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return status;
}

/* Let the next step throw CancelledError(msg). */
static int
cancel_at_next_step(FLTask *task, PyObject *msg)
{
    task->fut.must_cancel = true;
    if (msg != NULL || task->fut.rare != NULL) {
        struct fl_future_rare *rare = fl_future_rare(&task->fut);
        if (rare == NULL) {
            return -1;
        }
        Py_XSETREF(rare->cancel_msg, Py_XNewRef(msg));
    }
    return 1;
}

int
fl_task_cancel_waiter(FLTask *task, PyObject *msg)
{
    /* Beware: cancel() may run code that makes the task wait for something
       else, or nothing: hold what we cancel. */
    PyObject *waiter = Py_NewRef(task->fut.result);
    Py_XINCREF(msg);
    fl_state *st = fl_future_state(&task->fut);
    int status = Py_IS_TYPE(waiter, st->TaskType)
                     ? fl_task_cancel((FLTask *)waiter, msg)
                     : cancel_future(st, waiter, msg);
    Py_XDECREF(msg);
    Py_DECREF(waiter);
    return status;
}

/* A task that waits for a task passes its cancellation on.  The chain may be as
   long as there are tasks, so it is walked, not descended by recursion; until its
   end is reached no code of the user runs. */
int
fl_task_cancel(FLTask *task, PyObject *msg)
{
    fl_state *st = fl_future_state(&task->fut);
    FLTask *parent = NULL;
    for (;;) {
        task->fut.log_traceback = false;
        if (fl_future_done(&task->fut)) {
            return parent == NULL ? 0 : cancel_at_next_step(parent, msg);
        }
        task->fut.cancel_requests++;
        PyObject *waiter = fl_task_waiter(task);
        if (waiter == NULL || !Py_IS_TYPE(waiter, st->TaskType)) {
            break;
        }
        parent = task;
        task = (FLTask *)waiter;
    }
    Py_INCREF(task);
    int status =
        fl_task_waiter(task) == NULL ? 0 : fl_task_cancel_waiter(task, msg);
    if (status == 0) {
        status = cancel_at_next_step(task, msg);
    }
    Py_DECREF(task);
    return status;
}

int32_t
fl_task_uncancel(FLTask *task)
{
    if (task->fut.cancel_requests > 0 && --task->fut.cancel_requests == 0) {
#if FL_PY313
        task->fut.must_cancel = false;
#endif
    }
    return task->fut.cancel_requests;
}
