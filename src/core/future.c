/* Future: its states and outcomes. */
#include "core/future.h"

#include "core/debug.h"

FL_COLD struct fl_future_rare *
fl_future_rare(FLFuture *fut)
{
    if (fut->rare == NULL) {
        fut->rare = PyMem_Calloc(1, sizeof(struct fl_future_rare));
        if (fut->rare == NULL) {
            PyErr_NoMemory();
        }
    }
    return fut->rare;
}

/* --- construction ------------------------------------------------------------- */

static FL_COLD int
record_source(FLFuture *fut, fl_state *st)
{
    if (fl_interpreter_finalizing()) {
        return 0; /* traceback may be gone already */
    }
    struct fl_future_rare *rare = fl_future_rare(fut);
    if (rare == NULL) {
        return -1;
    }
    rare->source_tb = fl_debug_stack(st);
    return rare->source_tb == NULL ? -1 : 0;
}

/* Does a loop that is not ours run in debug mode?  1, 0, or -1 on error. */
static int
foreign_debug(fl_state *st, PyObject *loop)
{
    PyObject *debug = PyObject_CallMethodNoArgs(loop, st->str.get_debug);
    if (debug == NULL) {
        return -1;
    }
    int status = PyObject_IsTrue(debug);
    Py_DECREF(debug);
    return status;
}

static inline void
bind_native(FLFuture *fut, FLLoop *loop)
{
    fut->loop = Py_NewRef(loop);
    fut->native = true;
}

int
fl_future_setup(FLFuture *fut, fl_state *st, PyObject *loop)
{
    if (fut->loop != NULL) {
        PyErr_Format(PyExc_RuntimeError, "%s object is already initialized",
                     Py_TYPE(fut)->tp_name);
        return -1;
    }
    if (loop == NULL || loop == Py_None) {
        loop = PyObject_CallNoArgs(st->imp.get_event_loop);
        if (loop == NULL) {
            return -1;
        }
    }
    else {
        Py_INCREF(loop);
    }
    int debug;
    if (fl_is_loop(st, loop) && ((FLLoop *)loop)->st != NULL) {
        bind_native(fut, (FLLoop *)loop);
        debug = ((FLLoop *)loop)->debug;
        Py_DECREF(loop);
    }
    else {
        fut->loop = loop; /* our reference */
        debug = foreign_debug(st, loop);
    }
    return debug > 0 ? record_source(fut, st) : debug;
}

/* HOT */
FLFuture *
fl_future_new(FLLoop *loop)
{
    fl_state *st = loop->st;
    FLFuture *fut = (FLFuture *)fl_freelist_get(&st->futures);
    if (fut == NULL) {
        fut = (FLFuture *)PyType_GenericAlloc(st->FutureType, 0);
        if (fut == NULL) {
            return NULL;
        }
    }
    else {
        PyObject_GC_Track(fut);
    }
    bind_native(fut, loop);
    if (FL_UNLIKELY(loop->debug) && record_source(fut, st) < 0) {
        Py_DECREF(fut);
        return NULL;
    }
    return fut;
}

int
fl_future_check_initialised(const FLFuture *fut)
{
    if (FL_LIKELY(fut->loop != NULL)) {
        return 0;
    }
    PyErr_SetString(PyExc_RuntimeError, "Future object is not initialized.");
    return -1;
}

/* --- outcomes ----------------------------------------------------------------- */

static FL_COLD int
invalid_state(FLFuture *fut, const char *message)
{
    PyErr_SetString(fl_future_state(fut)->imp.InvalidStateError, message);
    return -1;
}

/* HOT */
int
fl_future_set_result(FLFuture *fut, PyObject *result)
{
    if (FL_UNLIKELY(fl_future_done(fut))) {
        return invalid_state(fut, "invalid state");
    }
    PyObject *waited_for = fut->result; /* by a task finished from outside */
    fut->result = Py_NewRef(result);
    fut->state = FL_FUTURE_FINISHED;
    Py_XDECREF(waited_for);
    return fl_future_schedule_callbacks(fut);
}

/* StopIteration cannot pass through a coroutine.  A new reference to what to
   store in its place; NULL where it is refused (before 3.12.2). */
static FL_COLD PyObject *
replace_stop_iteration(PyObject *exc)
{
    static const char message[] =
        "StopIteration interacts badly with generators and cannot be raised "
        "into a Future";
    if (Py_Version < 0x030c02f0) {
        PyErr_SetString(PyExc_TypeError, message);
        return NULL;
    }
    PyObject *replacement =
        PyObject_CallFunction(PyExc_RuntimeError, "s", message);
    if (replacement != NULL) {
        PyException_SetCause(replacement, Py_NewRef(exc));
        PyException_SetContext(replacement, Py_NewRef(exc));
    }
    return replacement;
}

/* The exception instance to store for what set_exception() was given. */
static PyObject *
exception_to_store(PyObject *given)
{
    PyObject *exc;
    if (PyExceptionClass_Check(given)) {
        exc = PyObject_CallNoArgs(given);
        if (exc == NULL) {
            return NULL;
        }
    }
    else {
        exc = Py_NewRef(given);
    }
    if (!PyExceptionInstance_Check(exc)) {
        Py_DECREF(exc);
        PyErr_SetString(PyExc_TypeError, "invalid exception object");
        return NULL;
    }
    if (FL_UNLIKELY(PyErr_GivenExceptionMatches(exc, PyExc_StopIteration))) {
        Py_SETREF(exc, replace_stop_iteration(exc));
    }
    return exc;
}

static int
keep_traceback(FLFuture *fut, PyObject *exc)
{
    PyObject *tb = PyException_GetTraceback(exc);
    if (tb == NULL) {
        return 0;
    }
    struct fl_future_rare *rare = fl_future_rare(fut);
    if (rare == NULL) {
        Py_DECREF(tb);
        return -1;
    }
    Py_XSETREF(rare->exception_tb, tb);
    return 0;
}

int
fl_future_set_exception(FLFuture *fut, PyObject *given)
{
    if (fl_future_done(fut)) {
        return invalid_state(fut, "invalid state");
    }
    PyObject *exc = exception_to_store(given);
    if (exc == NULL) {
        return -1;
    }
    /* the exception's constructor may have finished the future */
    if (fl_future_done(fut)) {
        Py_DECREF(exc);
        return invalid_state(fut, "invalid state");
    }
    if (keep_traceback(fut, exc) < 0) {
        Py_DECREF(exc);
        return -1;
    }
    PyObject *waited_for = fut->result;
    fut->result = exc;
    fut->failed = true;
    fut->state = FL_FUTURE_FINISHED;
    Py_XDECREF(waited_for);
    if (fl_future_schedule_callbacks(fut) < 0) {
        return -1;
    }
    fut->log_traceback = true;
    return 0;
}

int
fl_future_cancel(FLFuture *fut, PyObject *msg)
{
    fut->log_traceback = false;
    if (fl_future_done(fut)) {
        return 0;
    }
    if (msg == Py_None) {
        msg = NULL;
    }
    if (msg != NULL || fut->rare != NULL) {
        struct fl_future_rare *rare = fl_future_rare(fut);
        if (rare == NULL) {
            return -1;
        }
        Py_XSETREF(rare->cancel_msg, Py_XNewRef(msg));
    }
    fut->state = FL_FUTURE_CANCELLED;
    return fl_future_schedule_callbacks(fut) < 0 ? -1 : 1;
}

PyObject *
fl_future_make_cancelled_error(FLFuture *fut)
{
    PyObject *type = fl_future_state(fut)->imp.CancelledError;
    struct fl_future_rare *rare = fut->rare;
    if (rare != NULL && rare->cancelled_exc != NULL) {
        PyObject *exc = rare->cancelled_exc;
        rare->cancelled_exc = NULL;
        return exc;
    }
    if (rare == NULL || rare->cancel_msg == NULL
        || rare->cancel_msg == Py_None) {
        return PyObject_CallNoArgs(type);
    }
    return PyObject_CallOneArg(type, rare->cancel_msg);
}

/* The stored exception with the traceback it had when it was set: raising it
   twice must not make the traceback grow. */
static PyObject *
stored_exception(FLFuture *fut)
{
    PyObject *tb = NULL;
    if (fut->rare != NULL) {
        tb = fut->rare->exception_tb;
        fut->rare->exception_tb = NULL;
    }
    int status = PyException_SetTraceback(fut->result, tb ? tb : Py_None);
    Py_XDECREF(tb);
    return status < 0 ? NULL : Py_NewRef(fut->result);
}

int
fl_future_get_failure(FLFuture *fut, PyObject **exc)
{
    *exc = NULL;
    if (fut->state == FL_FUTURE_CANCELLED) {
        *exc = fl_future_make_cancelled_error(fut);
    }
    else if (fut->state != FL_FUTURE_FINISHED) {
        return invalid_state(fut, "Result is not set.");
    }
    else {
        fut->log_traceback = false;
        if (FL_LIKELY(!fut->failed)) {
            return 0;
        }
        *exc = stored_exception(fut);
    }
    return *exc == NULL ? -1 : 1;
}

PyObject *
fl_future_get_result(FLFuture *fut)
{
    PyObject *exc;
    if (FL_LIKELY(fl_future_get_failure(fut, &exc) == 0)) {
        return Py_NewRef(fut->result);
    }
    if (exc != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
        Py_DECREF(exc);
    }
    return NULL;
}
