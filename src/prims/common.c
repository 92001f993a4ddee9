#include "prims/common.h"

#include "core/registry.h"
#include "core/task.h"
#include "core/timer.h"

/* --- the loop ------------------------------------------------------------------ */

PyObject *
fl_running_loop(fl_state *st)
{
#if FL_PY314
    PyObject *published = fl_running_loop_of_thread(st);
    if (FL_LIKELY(published != NULL)) {
        return Py_NewRef(published);
    }
#endif
    PyObject *loop = PyObject_CallNoArgs(st->imp.get_running_loop);
    if (FL_UNLIKELY(loop == Py_None)) {
        Py_DECREF(loop);
        PyErr_SetString(PyExc_RuntimeError, "no running event loop");
        return NULL;
    }
    return loop;
}

PyObject *
fl_current_task(fl_state *st, PyObject *loop)
{
#if FL_PY314
    if (FL_LIKELY(loop != Py_None && fl_is_loop(st, loop))) {
        const FLLoop *native = (FLLoop *)loop;
        if (native->running_slot != NULL && native->running
            && native->thread_id == PyThread_get_thread_ident()) {
            PyObject *task = *native->running_slot;
            return Py_NewRef(task == NULL ? Py_None : task);
        }
    }
    return PyObject_CallOneArg(st->imp.current_task, loop);
#else
    PyObject *task = PyDict_GetItemWithError(st->current_tasks, loop);
    if (task == NULL) {
        if (PyErr_Occurred()) {
            return NULL;
        }
        task = Py_None;
    }
    return Py_NewRef(task);
#endif
}

PyObject *
fl_loop_create_future(fl_state *st, PyObject *loop)
{
    FLLoop *native = fl_plain_loop(st, loop);
    return FL_LIKELY(native != NULL)
               ? (PyObject *)fl_future_new(native)
               : PyObject_CallMethodNoArgs(loop, st->str.create_future);
}

double
fl_loop_time(fl_state *st, PyObject *loop)
{
    if (FL_LIKELY(fl_plain_loop(st, loop) != NULL)) {
        return fl_seconds(fl_clock_ns());
    }
    PyObject *time = PyObject_CallMethodNoArgs(loop, st->str.time);
    if (time == NULL) {
        return -1.0;
    }
    double seconds = PyFloat_AsDouble(time);
    Py_DECREF(time);
    return seconds;
}

/* --- releasing ----------------------------------------------------------------- */

/* A method of a future, of any type. */
static PyObject *
release(PyObject *owner, PyObject *Py_UNUSED(ignored))
{
    PyObject *module = PyType_GetModuleByDef(Py_TYPE(owner), &fl_module_def);
    if (FL_LIKELY(module != NULL)) {
        if (fl_any_release(fl_state_of_module(module), owner, Py_None) < 0) {
            return NULL;
        }
        Py_RETURN_NONE;
    }
    PyErr_Clear();
    PyObject *answer = PyObject_CallMethod(owner, "done", NULL);
    int done = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    if (done != 0) {
        return done < 0 ? NULL : Py_NewRef(Py_None);
    }
    return PyObject_CallMethod(owner, "set_result", "O", Py_None);
}

static PyMethodDef release_def = {"_release_waiter", release, METH_NOARGS,
                                  NULL};

/* The task that waits for the future, if it is one of ours. */
static PyObject *
released_task(PyObject *owner)
{
    PyObject *module = PyType_GetModuleByDef(Py_TYPE(owner), &fl_module_def);
    if (module == NULL) {
        PyErr_Clear();
        return NULL;
    }
    const FLFuture *fut = (FLFuture *)owner;
    return fut->first.context == NULL ? fut->first.call : NULL;
}

struct fl_listener fl_release_def = {
    {"_release_waiter", release, METH_O, NULL}, released_task};

/* --- timers -------------------------------------------------------------------- */

/* loop.name([time, ]owner.method) */
static PyObject *
schedule_foreign(PyObject *loop, PyObject *name, PyObject *time,
                 PyMethodDef *method, PyObject *owner)
{
    PyObject *bound = PyCFunction_New(method, owner);
    if (bound == NULL) {
        return NULL;
    }
    PyObject *stack[] = {NULL, loop, time, bound};
    size_t nargs = 3;
    if (time == NULL) {
        stack[2] = bound;
        nargs = 2;
    }
    PyObject *handle = PyObject_VectorcallMethod(
        name, stack + 1, nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(bound);
    return handle;
}

/* The time as a double for a timer of our own; -1 with an exception. */
static int
check_time(FLLoop *loop, PyObject *time, double *seconds)
{
    *seconds = PyFloat_AsDouble(time);
    if (*seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    return fl_loop_check_open(loop);
}

PyObject *
fl_loop_call_later(fl_state *st, PyObject *loop, PyObject *delay,
                   PyMethodDef *method, PyObject *owner)
{
    FLLoop *native = fl_plain_loop(st, loop);
    if (FL_UNLIKELY(native == NULL)) {
        return schedule_foreign(loop, st->str.call_later, delay, method,
                                owner);
    }
    double seconds;
    if (check_time(native, delay, &seconds) < 0) {
        return NULL;
    }
    double now = fl_seconds(fl_clock_ns());
    return (PyObject *)fl_timer_new_native(native, now, now + seconds, method,
                                           owner);
}

PyObject *
fl_loop_call_at(fl_state *st, PyObject *loop, double now, PyObject *when,
                PyMethodDef *method, PyObject *owner)
{
    FLLoop *native = fl_plain_loop(st, loop);
    if (FL_UNLIKELY(native == NULL)) {
        return schedule_foreign(loop, st->str.call_at, when, method, owner);
    }
    double seconds;
    if (check_time(native, when, &seconds) < 0) {
        return NULL;
    }
    return (PyObject *)fl_timer_new_native(native, now, seconds, method,
                                           owner);
}

PyObject *
fl_loop_call_soon(fl_state *st, PyObject *loop, PyMethodDef *method,
                  PyObject *owner)
{
    FLLoop *native = fl_plain_loop(st, loop);
    if (FL_UNLIKELY(native == NULL)) {
        return schedule_foreign(loop, st->str.call_soon, NULL, method, owner);
    }
    if (fl_loop_check_open(native) < 0) {
        return NULL;
    }
    FLHandle *handle = fl_handle_new_native(native, method, owner);
    if (handle == NULL
        || fl_loop_push(native, FL_READY_HANDLE, Py_NewRef(handle)) < 0) {
        Py_XDECREF(handle);
        return NULL;
    }
    return (PyObject *)handle;
}

PyObject *
fl_loop_release_later(fl_state *st, PyObject *loop, PyObject *delay,
                      PyObject *fut)
{
    if (FL_LIKELY(fl_plain_loop(st, loop) != NULL)) {
        return fl_loop_call_later(st, loop, delay, &release_def, fut);
    }
    PyObject *stack[] = {NULL, loop, delay, st->sup.set_result_unless_done,
                         fut};
    return PyObject_VectorcallMethod(st->str.call_later, stack + 1,
                                     4 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
}

/* HOT */
int
fl_is_no_time(PyObject *seconds)
{
    if (PyFloat_CheckExact(seconds)) {
        return PyFloat_AS_DOUBLE(seconds) <= 0;
    }
    if (FL_LIKELY(PyLong_CheckExact(seconds))) {
        int overflow;
        long value = PyLong_AsLongAndOverflow(seconds, &overflow);
        return overflow != 0 ? overflow < 0 : value <= 0;
    }
    PyObject *zero = PyLong_FromLong(0);
    int none =
        zero == NULL ? -1 : PyObject_RichCompareBool(seconds, zero, Py_LE);
    Py_XDECREF(zero);
    return none;
}

int
fl_cancel_handle(fl_state *st, PyObject *handle)
{
    if (Py_IS_TYPE(handle, st->TimerHandleType)) {
        return fl_timer_cancel((FLTimer *)handle);
    }
    if (Py_IS_TYPE(handle, st->HandleType)) {
        return fl_handle_cancel((FLHandle *)handle);
    }
    PyObject *result = PyObject_CallMethodNoArgs(handle, st->str.cancel);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* --- futures of any type --------------------------------------------------------- */

/* The truth of o.name(); -1 on error. */
static int
ask(PyObject *o, PyObject *name)
{
    PyObject *answer = PyObject_CallMethodNoArgs(o, name);
    int truth = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return truth;
}

/* Is it a class's attribute, and not None?  asyncio.isfuture() */
int
fl_isfuture(fl_state *st, PyObject *o)
{
    if (FL_LIKELY(fl_future_is_native(st, o))) {
        return 1;
    }
    if (PyCoro_CheckExact(o) || Py_IS_TYPE(o, st->CoroType)) {
        return 0;
    }
    PyObject *answer = PyObject_CallOneArg(st->imp.isfuture, o);
    int truth = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return truth;
}

int
fl_any_done(fl_state *st, PyObject *fut)
{
    return FL_LIKELY(fl_future_is_native(st, fut))
               ? fl_future_done((FLFuture *)fut)
               : ask(fut, st->str.done);
}

int
fl_any_cancelled(fl_state *st, PyObject *fut)
{
    return FL_LIKELY(fl_future_is_native(st, fut))
               ? ((FLFuture *)fut)->state == FL_FUTURE_CANCELLED
               : ask(fut, st->str.cancelled);
}

PyObject *
fl_any_exception(fl_state *st, PyObject *fut)
{
    FLFuture *native = (FLFuture *)fut;
    if (FL_LIKELY(fl_future_is_native(st, fut)
                  && native->state == FL_FUTURE_FINISHED)) {
        native->log_traceback = false;
        return Py_NewRef(native->failed ? native->result : Py_None);
    }
    return PyObject_CallMethodNoArgs(fut, st->str.exception);
}

PyObject *
fl_any_result(fl_state *st, PyObject *fut)
{
    return FL_LIKELY(fl_future_is_native(st, fut))
               ? fl_future_get_result((FLFuture *)fut)
               : PyObject_CallMethodNoArgs(fut, st->str.result);
}

PyObject *
fl_any_loop(fl_state *st, PyObject *fut)
{
    if (FL_LIKELY(fl_future_is_native(st, fut)
                  && ((FLFuture *)fut)->loop != NULL)) {
        return Py_NewRef(((FLFuture *)fut)->loop);
    }
    PyObject *get_loop;
    int found = fl_getattr_optional(fut, st->str.get_loop, &get_loop);
    if (found < 0) {
        return NULL;
    }
    if (found == 0) {
        return PyObject_GetAttr(fut, st->str._loop);
    }
    PyObject *loop = PyObject_CallNoArgs(get_loop);
    Py_DECREF(get_loop);
    return loop;
}

/* fut.cancel(), or fut.cancel(msg=msg) */
static int
cancel_foreign(fl_state *st, PyObject *fut, PyObject *msg)
{
    PyObject *stack[] = {NULL, fut, msg};
    PyObject *answer = PyObject_VectorcallMethod(
        st->str.cancel, stack + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET,
        msg == NULL ? NULL : st->msg_kwnames);
    int truth = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return truth;
}

int
fl_any_cancel(fl_state *st, PyObject *fut, PyObject *msg)
{
    if (Py_IS_TYPE(fut, st->TaskType) && ((FLFuture *)fut)->loop != NULL) {
        return fl_task_cancel((FLTask *)fut, msg == Py_None ? NULL : msg);
    }
    if (Py_IS_TYPE(fut, st->FutureType) && ((FLFuture *)fut)->loop != NULL) {
        return fl_future_cancel((FLFuture *)fut, msg);
    }
    return cancel_foreign(st, fut, msg);
}

int
fl_any_set_result(fl_state *st, PyObject *fut, PyObject *result)
{
    if (FL_LIKELY(Py_IS_TYPE(fut, st->FutureType))) {
        return fl_future_set_result((FLFuture *)fut, result);
    }
    PyObject *done =
        PyObject_CallMethodOneArg(fut, st->str.set_result, result);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

int
fl_any_set_exception(fl_state *st, PyObject *fut, PyObject *exc)
{
    if (FL_LIKELY(Py_IS_TYPE(fut, st->FutureType))) {
        return fl_future_set_exception((FLFuture *)fut, exc);
    }
    PyObject *done =
        PyObject_CallMethodOneArg(fut, st->str.set_exception, exc);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

int
fl_any_release(fl_state *st, PyObject *fut, PyObject *result)
{
    int done = fl_any_done(st, fut);
    return done != 0 ? (done < 0 ? -1 : 0)
                     : fl_any_set_result(st, fut, result);
}

/* fut.name(owner.method) */
static int
call_with_method(PyObject *fut, PyObject *name, struct fl_listener *listener,
                 PyObject *owner)
{
    PyObject *method = PyCFunction_New(&listener->method, owner);
    PyObject *result =
        method == NULL ? NULL : PyObject_CallMethodOneArg(fut, name, method);
    Py_XDECREF(method);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
fl_any_listen(fl_state *st, PyObject *fut, struct fl_listener *listener,
              PyObject *owner)
{
    if (FL_LIKELY(fl_future_is_native(st, fut))) {
        return fl_future_check_initialised((FLFuture *)fut) < 0
                   ? -1
                   : fl_future_add_listener((FLFuture *)fut, listener, owner);
    }
    return call_with_method(fut, st->str.add_done_callback, listener, owner);
}

int
fl_any_unlisten(fl_state *st, PyObject *fut, struct fl_listener *listener,
                PyObject *owner)
{
    if (FL_LIKELY(fl_future_is_native(st, fut))) {
        fl_future_remove_listener((FLFuture *)fut, listener, owner);
        return 0;
    }
    return call_with_method(fut, st->str.remove_done_callback, listener,
                            owner);
}

static long
ask_number(PyObject *o, PyObject *name)
{
    PyObject *answer = PyObject_CallMethodNoArgs(o, name);
    long number = answer == NULL ? -1 : PyLong_AsLong(answer);
    Py_XDECREF(answer);
    return number;
}

long
fl_any_cancelling(fl_state *st, PyObject *task)
{
    return FL_LIKELY(Py_IS_TYPE(task, st->TaskType))
               ? ((FLFuture *)task)->cancel_requests
               : ask_number(task, st->str.cancelling);
}

long
fl_any_uncancel(fl_state *st, PyObject *task)
{
    return FL_LIKELY(Py_IS_TYPE(task, st->TaskType))
               ? fl_task_uncancel((FLTask *)task)
               : ask_number(task, st->str.uncancel);
}
