/* One step of a task: run its coroutine up to the next await.

   step and wake are the brackets for a turn of our own loop: they publish the
   current task and enter its context.  The methods at the end are the brackets
   for a handle: on other loops, and wherever a future that is not ours wakes the
   task.  advance is the body of both: send or throw, then act on what came out.

   Beware: everything the coroutine does may change the task: what it waits for,
   its cancellation, its callbacks.  Fields are taken out before code is run, and
   looked at anew after. */
#include "core/task.h"

#include "base/errors.h"
#include "core/context.h"
#include "core/debug.h"
#include "core/registry.h"
#include "core/report.h"
#include "core/stop_iteration.h"

/* --- scheduling ------------------------------------------------------------------ */

static PyObject *step_method(FLTask *task, PyObject *ignored);
static PyObject *wakeup_method(FLTask *task, PyObject *future);

static PyMethodDef step_def = {"task_step", (PyCFunction)step_method,
                               METH_NOARGS, NULL};
static PyMethodDef wakeup_def = {"task_wakeup", (PyCFunction)wakeup_method,
                                 METH_O, NULL};

PyObject *
fl_task_wakeup_method(FLTask *task)
{
    return PyCFunction_New(&wakeup_def, (PyObject *)task);
}

/* loop.call_soon(method, *arg, context=task's) */
static FL_COLD int
call_soon(FLTask *task, PyMethodDef *def, PyObject *arg)
{
    fl_state *st = fl_future_state(&task->fut);
    PyObject *method = PyCFunction_New(def, (PyObject *)task);
    if (method == NULL) {
        return -1;
    }
    /* Beware: call_soon() may be Python code that drops the task's context. */
    PyObject *context = Py_XNewRef(fl_context_get(&task->context));
    if (context == NULL) {
        Py_DECREF(method);
        return -1;
    }
    PyObject *stack[] = {NULL, task->fut.loop, method, context, NULL};
    size_t nargs = 2;
    if (arg != NULL) {
        stack[3] = arg;
        stack[4] = context;
        nargs = 3;
    }
    PyObject *handle = PyObject_VectorcallMethod(
        st->str.call_soon, stack + 1, nargs | PY_VECTORCALL_ARGUMENTS_OFFSET,
        st->context_kwnames);
    Py_DECREF(context);
    Py_DECREF(method);
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 0;
}

/* HOT */
int
fl_task_step_soon(FLTask *task)
{
    FLLoop *loop = fl_future_direct_loop(&task->fut);
    if (FL_UNLIKELY(loop == NULL)) {
        return call_soon(task, &step_def, NULL);
    }
    if (fl_debug_check_schedule(loop) < 0) {
        return -1;
    }
    return fl_loop_push(loop, FL_READY_STEP, Py_NewRef(task));
}

int
fl_task_wake_soon(FLTask *task, FLFuture *fut)
{
    return call_soon(task, &wakeup_def, (PyObject *)fut);
}

/* Let the next step throw type(message) into the coroutine. */
static FL_COLD int
throw_soon(FLTask *task, PyObject *type, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    PyObject *message = PyUnicode_FromFormatV(format, args);
    va_end(args);
    PyObject *exc =
        message == NULL ? NULL : PyObject_CallOneArg(type, message);
    Py_XDECREF(message);
    struct fl_future_rare *rare =
        exc == NULL ? NULL : fl_future_rare(&task->fut);
    if (rare == NULL) {
        Py_XDECREF(exc);
        return -1;
    }
    Py_XSETREF(rare->throw_exc, exc);
    return fl_task_step_soon(task);
}

/* What the next step has to throw, or NULL (a new reference). */
static inline PyObject *
take_throw(FLTask *task)
{
    if (FL_LIKELY(task->fut.rare == NULL)) {
        return NULL;
    }
    PyObject *exc = task->fut.rare->throw_exc;
    task->fut.rare->throw_exc = NULL;
    return exc;
}

/* --- what came out: a yield --------------------------------------------------------- */

/* The task has begun to wait while its cancellation was pending. */
static FL_COLD int
cancel_at_once(FLTask *task)
{
    PyObject *msg = task->fut.rare ? task->fut.rare->cancel_msg : NULL;
    int status = fl_task_cancel_waiter(task, msg);
    if (status > 0) {
        task->fut.must_cancel = false;
    }
    return status < 0 ? -1 : 0;
}

/* HOT: wait for a future of our exact type.  Steals fut. */
static int
wait_for_native(FLTask *task, FL_STEALS(2) FLFuture *fut)
{
    int status = 0;
    if (FL_UNLIKELY(fut == &task->fut)) {
        status = throw_soon(task, PyExc_RuntimeError,
                            "Task cannot await on itself: %R", task);
    }
    else if (FL_UNLIKELY(fut->loop != task->fut.loop)) {
        status = throw_soon(
            task, PyExc_RuntimeError,
            "Task %R got Future %R attached to a different loop", task, fut);
    }
    else if (FL_UNLIKELY(!fut->blocking)) {
        status = throw_soon(task, PyExc_RuntimeError,
                            "yield was used instead of yield from in task %R "
                            "with %R",
                            task, fut);
    }
    else {
        fut->blocking = false;
        if (FL_UNLIKELY(fl_future_done(fut))) {
            Py_XSETREF(task->fut.result, (PyObject *)fut);
            FLLoop *loop = fl_future_direct_loop(&task->fut);
            return loop == NULL
                       ? fl_task_wake_soon(task, fut)
                       : fl_task_push_wake(loop, (FLTask *)Py_NewRef(task));
        }
        if (FL_LIKELY(fl_future_add_waiter(fut, task) == 0)) {
            FL_ASSERT(task->fut.result == NULL);
            task->fut.result = (PyObject *)fut;
            return FL_UNLIKELY(task->fut.must_cancel) ? cancel_at_once(task)
                                                      : 0;
        }
        status = -1;
    }
    Py_DECREF(fut);
    return status;
}

/* The loop of any future: get_loop(), or for old ones _loop. */
static PyObject *
loop_of(fl_state *st, PyObject *future)
{
    PyObject *get_loop;
    int found = fl_getattr_optional(future, st->str.get_loop, &get_loop);
    if (found < 0) {
        return NULL;
    }
    if (found == 0) {
        return PyObject_GetAttr(future, st->str._loop);
    }
    PyObject *loop = PyObject_CallNoArgs(get_loop);
    Py_DECREF(get_loop);
    return loop;
}

/* future.add_done_callback(wakeup, context=task's) */
static int
add_wakeup(FLTask *task, fl_state *st, PyObject *future)
{
    PyObject *wakeup = fl_task_wakeup_method(task);
    if (wakeup == NULL) {
        return -1;
    }
    PyObject *context = Py_XNewRef(fl_context_get(&task->context));
    if (context == NULL) {
        Py_DECREF(wakeup);
        return -1;
    }
    PyObject *stack[] = {NULL, future, wakeup, context};
    PyObject *result = PyObject_VectorcallMethod(
        st->str.add_done_callback, stack + 1,
        2 | PY_VECTORCALL_ARGUMENTS_OFFSET, st->context_kwnames);
    Py_DECREF(context);
    Py_DECREF(wakeup);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Wait for something that has _asyncio_future_blocking: asyncio's futures, third
   parties', subclasses of ours. */
static FL_COLD int
wait_for_future_like(FLTask *task, fl_state *st, PyObject *future,
                     PyObject *blocking)
{
    int is_blocking = PyObject_IsTrue(blocking);
    if (is_blocking < 0) {
        return -1;
    }
    if (future == (PyObject *)task) {
        return throw_soon(task, PyExc_RuntimeError,
                          "Task cannot await on itself: %R", task);
    }
    PyObject *loop = loop_of(st, future);
    if (loop == NULL) {
        return -1;
    }
    bool same_loop = loop == task->fut.loop;
    Py_DECREF(loop);
    if (!same_loop) {
        return throw_soon(task, PyExc_RuntimeError,
                          "Task %R got Future %R attached to a different loop",
                          task, future);
    }
    if (!is_blocking) {
        return throw_soon(task, PyExc_RuntimeError,
                          "yield was used instead of yield from in task %R "
                          "with %R",
                          task, future);
    }
    if (PyObject_SetAttr(future, st->str._asyncio_future_blocking, Py_False)
            < 0
        || add_wakeup(task, st, future) < 0) {
        return -1;
    }
    Py_XSETREF(task->fut.result, Py_NewRef(future));
    return task->fut.must_cancel ? cancel_at_once(task) : 0;
}

/* Anything but one of our futures or None.  Steals yielded. */
static FL_COLD int
handle_other_yield(FLTask *task, fl_state *st, FL_STEALS(3) PyObject *yielded)
{
    PyObject *blocking;
    int status = fl_getattr_optional(yielded, st->str._asyncio_future_blocking,
                                     &blocking);
    if (status > 0 && blocking != Py_None) {
        status = wait_for_future_like(task, st, yielded, blocking);
    }
    else if (status >= 0 && PyGen_Check(yielded)) {
        status = throw_soon(task, PyExc_RuntimeError,
                            "yield was used instead of yield from for "
                            "generator in task %R with %R",
                            task, yielded);
    }
    else if (status >= 0) {
        status = throw_soon(task, PyExc_RuntimeError, "Task got bad yield: %R",
                            yielded);
    }
    Py_XDECREF(blocking);
    Py_DECREF(yielded);
    return status;
}

/* --- what came out: the end ----------------------------------------------------------- */

/* The coroutine returned.  Steals result. */
static int
finish(FLTask *task, FL_STEALS(2) PyObject *result)
{
    int status;
    if (FL_UNLIKELY(task->fut.must_cancel)) {
        /* cancelled right before the coroutine returned */
        task->fut.must_cancel = false;
        PyObject *msg = task->fut.rare ? task->fut.rare->cancel_msg : NULL;
        Py_XINCREF(msg);
        status = fl_future_cancel(&task->fut, msg) < 0 ? -1 : 0;
        Py_XDECREF(msg);
    }
    else {
        status = fl_future_set_result(&task->fut, result);
    }
    Py_DECREF(result);
    return status;
}

/* The coroutine raised. */
static FL_COLD int
fail(FLTask *task, fl_state *st)
{
    PyObject *exc = fl_err_take();
    FL_ASSERT(exc != NULL);
    int status;
    if (PyErr_GivenExceptionMatches(exc, st->imp.CancelledError)) {
        struct fl_future_rare *rare = fl_future_rare(&task->fut);
        if (rare == NULL) {
            Py_DECREF(exc);
            return -1;
        }
        Py_XSETREF(rare->cancelled_exc, exc);
        return fl_future_cancel(&task->fut, NULL) < 0 ? -1 : 0;
    }
    status = fl_future_set_exception(&task->fut, exc);
    if (status == 0 && fl_exception_is_fatal(exc)) {
        fl_err_give(exc);
        return -1;
    }
    Py_DECREF(exc);
    return status;
}

/* --- the step itself ------------------------------------------------------------------ */

/* coro.throw(exc), told apart like PyIter_Send() does */
static FL_COLD PySendResult
throw_in(fl_state *st, PyObject *coro, PyObject *exc, PyObject **result)
{
    *result = PyObject_CallMethodOneArg(coro, st->str.throw, exc);
    return *result != NULL ? PYGEN_NEXT : fl_iteration_end(result);
}

/* A pending cancellation turns what is to be thrown into CancelledError.  Steals
   exc; NULL on error. */
static FL_COLD PyObject *
exception_for_cancel(FLTask *task, fl_state *st, FL_STEALS(3) PyObject *exc)
{
    task->fut.must_cancel = false;
    if (exc != NULL
        && PyErr_GivenExceptionMatches(exc, st->imp.CancelledError)) {
        return exc;
    }
    Py_XDECREF(exc);
    return fl_future_make_cancelled_error(&task->fut);
}

/* Run the coroutine up to its next yield; exc (may be NULL) is thrown in.  -1
   with an exception: a fatal one out of the coroutine, or a broken step.  Steals
   exc. */
static inline int
advance(FLTask *task, fl_state *st, FL_STEALS(3) PyObject *exc)
{
    if (FL_UNLIKELY(task->fut.must_cancel)) {
        exc = exception_for_cancel(task, st, exc);
        if (exc == NULL) {
            return -1;
        }
    }
    FL_ASSERT(!fl_future_done(&task->fut));
    Py_CLEAR(task->fut.result);
    PyObject *result;
    PySendResult outcome;
    if (FL_LIKELY(exc == NULL)) {
        outcome = PyCoro_CheckExact(task->coro)
                      ? PyCoro_Type.tp_as_async->am_send(task->coro, Py_None,
                                                         &result)
                      : PyIter_Send(task->coro, Py_None, &result);
    }
    else {
        outcome = throw_in(st, task->coro, exc, &result);
        Py_DECREF(exc);
    }
    if (FL_LIKELY(outcome == PYGEN_NEXT)) {
        if (FL_LIKELY(fl_future_is_native(st, result))) {
            return wait_for_native(task, (FLFuture *)result);
        }
        if (result == Py_None) {
            Py_DECREF(result);
            return fl_task_step_soon(task);
        }
        return handle_other_yield(task, st, result);
    }
    fl_list_unlink(&task->node);
    return outcome == PYGEN_RETURN ? finish(task, result) : fail(task, st);
}

static FL_COLD int
already_done(FLTask *task, fl_state *st, FL_STEALS(3) PyObject *exc)
{
    PyErr_Format(st->imp.InvalidStateError, "_step(): already done: %R %R",
                 task, exc == NULL ? Py_None : exc);
    Py_XDECREF(exc);
    return -1;
}

/* advance() for a caller that is not sure of the task. */
static int
advance_checked(FLTask *task, fl_state *st, FL_STEALS(3) PyObject *exc)
{
    if (FL_UNLIKELY(fl_future_done(&task->fut))) {
        return already_done(task, st, exc);
    }
    if (FL_UNLIKELY(task->coro == NULL)) {
        Py_XDECREF(exc);
        PyErr_SetString(PyExc_RuntimeError, "uninitialized Task object");
        return -1;
    }
    return advance(task, st, exc);
}

/* --- brackets: our loop ------------------------------------------------------------------ */

static FL_COLD int
report(FLLoop *loop, FLTask *task)
{
    PyObject *method = PyCFunction_New(&step_def, (PyObject *)task);
    if (method == NULL) {
        return -1;
    }
    PyObject *context = fl_context_get(&task->context);
    int status = context == NULL
                     ? -1
                     : fl_report_callback(loop, method, NULL, 0, context);
    Py_DECREF(method);
    return status;
}

/* HOT.  Steals exc. */
static int
step(FLLoop *loop, FLTask *task, FL_STEALS(3) PyObject *exc)
{
    int64_t began = FL_UNLIKELY(loop->debug) ? fl_clock_ns() : 0;
    int status = fl_current_publish(loop, task);
    PyObject *context = FL_UNLIKELY(status < 0)
                            ? NULL
                            : fl_context_enter(loop, &task->context);
    if (FL_UNLIKELY(context == NULL)) {
        Py_XDECREF(exc);
        return report(loop, task);
    }
    status = advance_checked(task, loop->st, exc);
    if (FL_UNLIKELY(fl_context_exit(loop, &task->context, context) < 0)) {
        status = -1;
    }
    if (FL_UNLIKELY(loop->debug)) {
        fl_debug_check_slow(loop, (PyObject *)task, began);
    }
    return FL_UNLIKELY(status < 0) ? report(loop, task) : 0;
}

/* HOT */
int
fl_task_step(FLLoop *loop, FLTask *task)
{
    return step(loop, task, take_throw(task));
}

/* HOT */
int
fl_task_wake(FLLoop *loop, FLTask *task)
{
    FLFuture *fut = (FLFuture *)fl_task_waiter(task);
    if (FL_UNLIKELY(fut == NULL
                    || !fl_future_is_native(loop->st, (PyObject *)fut)
                    || !fl_future_done(fut))) {
        return 0; /* woken by other means already */
    }
    PyObject *exc;
    if (FL_UNLIKELY(fl_future_get_failure(fut, &exc) < 0)) {
        exc = fl_err_take();
    }
    return step(loop, task, exc);
}

int
fl_task_start_eagerly(FLTask *task)
{
    fl_state *st = fl_future_state(&task->fut);
    PyObject *args[] = {task->fut.loop, (PyObject *)task};
    PyObject *previous =
        PyObject_Vectorcall(st->sup.swap_current_task, args, 2, NULL);
    if (previous == NULL) {
        return -1;
    }
    int status = -1;
    PyObject *context = fl_context_get(&task->context);
    if (context != NULL && PyContext_Enter(context) == 0) {
        status = advance_checked(task, st, NULL);
        if (PyContext_Exit(context) < 0) {
            status = -1;
        }
    }
    PyObject *raised = fl_err_take();
    args[1] = previous;
    PyObject *ours =
        PyObject_Vectorcall(st->sup.swap_current_task, args, 2, NULL);
    Py_DECREF(previous);
    if (ours == NULL) {
        Py_XDECREF(raised);
        return -1;
    }
    Py_DECREF(ours);
    if (raised != NULL) {
        fl_err_give(raised);
    }
    if (fl_future_done(&task->fut)) {
        Py_CLEAR(task->coro);
    }
    return status;
}

/* --- brackets: handles ---------------------------------------------------------------------- */

/* Is the step called by a handle of our own loop, in its own thread?  Then the
   current task can be published without asyncio's functions. */
static bool
runs_on_our_loop(const FLTask *task)
{
    const FLLoop *loop = (FLLoop *)task->fut.loop;
    return task->fut.native && loop->running && loop->current == NULL
           && loop->thread_id == PyThread_get_thread_ident();
}

static int
enter(FLTask *task, fl_state *st, bool ours)
{
    if (ours) {
        return fl_current_publish((FLLoop *)task->fut.loop, task);
    }
    PyObject *args[] = {task->fut.loop, (PyObject *)task};
    PyObject *result = PyObject_Vectorcall(st->imp.enter_task, args, 2, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
leave(FLTask *task, fl_state *st, bool ours)
{
    if (ours) {
        return fl_current_publish((FLLoop *)task->fut.loop, NULL);
    }
    PyObject *args[] = {task->fut.loop, (PyObject *)task};
    PyObject *result = PyObject_Vectorcall(st->imp.leave_task, args, 2, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* A step called by a handle, which has entered the task's context. */
static PyObject *
step_in_handle(FLTask *task, FL_STEALS(2) PyObject *exc)
{
    if (fl_future_check_initialised(&task->fut) < 0) {
        Py_XDECREF(exc);
        return NULL;
    }
    fl_state *st = fl_future_state(&task->fut);
    bool ours = runs_on_our_loop(task);
    if (enter(task, st, ours) < 0) {
        Py_XDECREF(exc);
        return NULL;
    }
    int status = advance_checked(task, st, exc);
    PyObject *raised = status < 0 ? fl_err_take() : NULL;
    if (leave(task, st, ours) < 0) {
        if (raised != NULL) {
            PyObject *second = fl_err_take();
            PyException_SetContext(second, raised);
            fl_err_give(second);
        }
        return NULL;
    }
    if (raised != NULL) {
        fl_err_give(raised);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
step_method(FLTask *task, PyObject *Py_UNUSED(ignored))
{
    return step_in_handle(task, take_throw(task));
}

static PyObject *
wakeup_method(FLTask *task, PyObject *future)
{
    fl_state *st = fl_future_state(&task->fut);
    PyObject *exc = NULL;
    if (fl_future_is_native(st, future)) {
        if (fl_future_get_failure((FLFuture *)future, &exc) < 0) {
            exc = fl_err_take();
        }
    }
    else {
        PyObject *result = PyObject_CallMethodNoArgs(future, st->str.result);
        if (result == NULL) {
            exc = fl_err_take();
        }
        Py_XDECREF(result);
    }
    return step_in_handle(task, exc);
}
