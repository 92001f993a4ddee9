/* fastloop._core.LoopBase: the part of the event loop that is C.  Arguments and
   docstrings here, the work one call down.  fastloop/loop.py adds what runs once
   per connection or per loop, and makes it an asyncio.AbstractEventLoop. */
#include "loop_type.h"

#include "base/args.h"
#include "core/debug.h"
#include "core/future.h"
#include "core/task.h"
#include "core/timer.h"
#include "loop_io.h"
#include "loop_sock.h"

/* --- life ------------------------------------------------------------------ */

static PyObject *
loop_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
         PyObject *Py_UNUSED(kwargs))
{
    FLLoop *self = (FLLoop *)type->tp_alloc(type, 0);
    if (self != NULL) {
        fl_loop_prepare(self, fl_state_of_type(type));
    }
    return (PyObject *)self;
}

static int
loop_init(FLLoop *self, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) > 0
        || (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0)) {
        PyErr_SetString(PyExc_TypeError, "Loop() takes no arguments");
        return -1;
    }
    if (self->phase != FL_LOOP_NEW) {
        PyErr_SetString(PyExc_RuntimeError,
                        "Loop object is already initialized");
        return -1;
    }
    self->slow_duration = PyFloat_FromDouble(0.1);
    if (self->slow_duration == NULL || fl_loop_init(self) < 0) {
        return -1;
    }
    return fl_loop_update_overrides(self);
}

static int
loop_setattro(FLLoop *self, PyObject *name, PyObject *value)
{
    int status = PyObject_GenericSetAttr((PyObject *)self, name, value);
    if (status < 0 || self->phase == FL_LOOP_NEW) {
        return status;
    }
    return fl_loop_attribute_set(self, name);
}

static int
loop_traverse(FLLoop *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return fl_loop_traverse(self, visit, arg);
}

static int
loop_clear(FLLoop *self)
{
    /* transports and loop hold each other until it is closed; its finalizer has
       done so, unless a subclass has another */
    if (self->phase == FL_LOOP_OPEN && !self->running) {
        PyObject *raised = fl_err_take();
        fl_loop_close(self);
        fl_err_give(raised);
    }
    Py_CLEAR(self->task_factory);
    Py_CLEAR(self->slow_duration);
    Py_CLEAR(self->fatal);
    Py_CLEAR(self->running_handle);
    Py_CLEAR(self->blank_context);
    fl_loop_drop_scheduled(self);
    return 0;
}

static void
loop_dealloc(FLLoop *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    fl_loop_dealloc(self);
    loop_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* --- scheduling callbacks ---------------------------------------------------------- */

/* callback, *args and context of a call_ method; all borrowed */
struct call {
    PyObject *time;
    PyObject *callback;
    PyObject *const *args;
    Py_ssize_t nargs;
    PyObject *context;
};

/* Keywords other than a lone context=: asyncio's methods are Python functions, so
   their parameters may be named. */
static FL_COLD int
parse_keywords(FLLoop *self, const char *method, const char *time_name,
               PyObject *const *values, PyObject *kwnames, struct call *call)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(kwnames); i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        PyObject **slot = NULL;
        if (PyUnicode_Compare(name, self->st->str.context) == 0) {
            slot = &call->context;
        }
        else if (PyUnicode_CompareWithASCIIString(name, "callback") == 0) {
            slot = &call->callback;
        }
        else if (time_name != NULL
                 && PyUnicode_CompareWithASCIIString(name, time_name) == 0) {
            slot = &call->time;
        }
        if (slot == NULL) {
            PyErr_Format(PyExc_TypeError,
                         "%s() got an unexpected keyword argument '%U'",
                         method, name);
            return -1;
        }
        if (*slot != NULL) {
            PyErr_Format(PyExc_TypeError,
                         "%s() got multiple values for argument '%U'", method,
                         name);
            return -1;
        }
        *slot = values[i];
    }
    return 0;
}

static FL_COLD int
missing(const char *method, const char *name)
{
    PyErr_Format(PyExc_TypeError, "%s() missing required argument: '%s'",
                 method, name);
    return -1;
}

/* time_name: "delay" or "when" if the method takes one first, else NULL */
static inline int
parse_call(FLLoop *self, const char *method, const char *time_name,
           PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
           struct call *call)
{
    PyObject *const *end = args + nargs;
    *call = (struct call){0};
    if (time_name != NULL && args < end) {
        call->time = *args++;
    }
    if (args < end) {
        call->callback = *args++;
    }
    call->args = args;
    call->nargs = end - args;
    if (kwnames != NULL) {
        if (FL_LIKELY(PyTuple_GET_SIZE(kwnames) == 1
                      && PyTuple_GET_ITEM(kwnames, 0)
                             == self->st->str.context)) {
            call->context = *end;
        }
        else if (parse_keywords(self, method, time_name, end, kwnames, call)
                 < 0) {
            return -1;
        }
        if (call->context == Py_None) {
            call->context = NULL;
        }
    }
    if (FL_UNLIKELY(time_name != NULL && call->time == NULL)) {
        return missing(method, time_name);
    }
    if (FL_UNLIKELY(call->callback == NULL)) {
        return missing(method, "callback");
    }
    return 0;
}

static FL_COLD int
check_in_debug(FLLoop *self, PyObject *callback, const char *method,
               bool any_thread)
{
    if (!any_thread && fl_debug_check_thread(self) < 0) {
        return -1;
    }
    return fl_debug_check_callback(self, callback, method);
}

PyDoc_STRVAR(
    call_soon_doc,
    "call_soon($self, callback, /, *args, context=None)\n--\n\n"
    "Schedule callback(*args) for the next turn of the loop; return a Handle.\n"
    "\ncontext is the contextvars.Context to run it in, by default a copy of\n"
    "the current one.  See asyncio.loop.call_soon.");

/* HOT */
static PyObject *
loop_call_soon(FLLoop *self, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    struct call call;
    if (fl_loop_check_open(self) < 0
        || parse_call(self, "call_soon", NULL, args, nargs, kwnames, &call)
               < 0) {
        return NULL;
    }
    if (FL_UNLIKELY(self->debug)
        && check_in_debug(self, call.callback, "call_soon", false) < 0) {
        return NULL;
    }
    FLHandle *handle = fl_handle_new(self, call.callback, call.args,
                                     call.nargs, call.context);
    if (handle == NULL
        || fl_loop_push(self, FL_READY_HANDLE, Py_NewRef(handle)) < 0) {
        Py_XDECREF(handle);
        return NULL;
    }
    return (PyObject *)handle;
}

PyDoc_STRVAR(
    call_soon_threadsafe_doc,
    "call_soon_threadsafe($self, callback, /, *args, context=None)\n--\n\n"
    "call_soon() for other threads: the loop is woken if it sleeps.");

/* HOT */
static PyObject *
loop_call_soon_threadsafe(FLLoop *self, PyObject *const *args,
                          Py_ssize_t nargs, PyObject *kwnames)
{
    struct call call;
    if (fl_loop_check_open(self) < 0
        || parse_call(self, "call_soon_threadsafe", NULL, args, nargs, kwnames,
                      &call)
               < 0) {
        return NULL;
    }
    if (FL_UNLIKELY(self->debug)
        && check_in_debug(self, call.callback, "call_soon_threadsafe", true)
               < 0) {
        return NULL;
    }
    FLHandle *handle = fl_handle_new(self, call.callback, call.args,
                                     call.nargs, call.context);
    if (handle == NULL
        || fl_loop_push(self, FL_READY_HANDLE, Py_NewRef(handle)) < 0) {
        Py_XDECREF(handle);
        return NULL;
    }
    fl_loop_wake(self);
    return (PyObject *)handle;
}

PyDoc_STRVAR(new_handle_doc,
             "_new_handle($self, callback, /, *args)\n--\n\n"
             "Return a Handle that is not scheduled; see _add_callback().");

static PyObject *
loop_new_handle(FLLoop *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 1) {
        missing("_new_handle", "callback");
        return NULL;
    }
    if (fl_loop_check_open(self) < 0) {
        return NULL;
    }
    return (PyObject *)fl_handle_new(self, args[0], args + 1, nargs - 1, NULL);
}

PyDoc_STRVAR(add_callback_doc,
             "_add_callback($self, handle, /)\n--\n\n"
             "Let a Handle of _new_handle() run in the next turn, once more.");

static PyObject *
loop_add_callback(FLLoop *self, PyObject *handle)
{
    if (fl_loop_check_open(self) < 0) {
        return NULL;
    }
    if (!Py_IS_TYPE(handle, self->st->HandleType)) {
        PyErr_SetString(PyExc_TypeError, "a native Handle was expected");
        return NULL;
    }
    if (fl_loop_push(self, FL_READY_HANDLE, Py_NewRef(handle)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
schedule_at(FLLoop *self, double when, const struct call *call,
            const char *method)
{
    if (FL_UNLIKELY(self->debug)
        && check_in_debug(self, call->callback, method, false) < 0) {
        return NULL;
    }
    return (PyObject *)fl_timer_new(self, when, call->callback, call->args,
                                    call->nargs, call->context);
}

PyDoc_STRVAR(
    call_later_doc,
    "call_later($self, delay, callback, /, *args, context=None)\n--\n\n"
    "Schedule callback(*args) in delay seconds (int or float); return a\n"
    "TimerHandle.  It never runs early.  See asyncio.loop.call_later.");

/* HOT */
static PyObject *
loop_call_later(FLLoop *self, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    struct call call;
    if (parse_call(self, "call_later", "delay", args, nargs, kwnames, &call)
        < 0) {
        return NULL;
    }
    if (FL_UNLIKELY(call.time == Py_None)) {
        PyErr_SetString(PyExc_TypeError, "delay must not be None");
        return NULL;
    }
    double delay = PyFloat_AsDouble(call.time);
    if ((delay == -1.0 && PyErr_Occurred()) || fl_loop_check_open(self) < 0) {
        return NULL;
    }
    return schedule_at(self, fl_seconds(fl_clock_ns()) + delay, &call,
                       "call_later");
}

PyDoc_STRVAR(
    call_at_doc,
    "call_at($self, when, callback, /, *args, context=None)\n--\n\n"
    "Schedule callback(*args) at when, seconds on the clock of time(); return\n"
    "a TimerHandle.  It never runs early.  See asyncio.loop.call_at.");

/* HOT */
static PyObject *
loop_call_at(FLLoop *self, PyObject *const *args, Py_ssize_t nargs,
             PyObject *kwnames)
{
    struct call call;
    if (parse_call(self, "call_at", "when", args, nargs, kwnames, &call) < 0) {
        return NULL;
    }
    if (FL_UNLIKELY(call.time == Py_None)) {
        PyErr_SetString(PyExc_TypeError, "when cannot be None");
        return NULL;
    }
    double when = PyFloat_AsDouble(call.time);
    if ((when == -1.0 && PyErr_Occurred()) || fl_loop_check_open(self) < 0) {
        return NULL;
    }
    return schedule_at(self, when, &call, "call_at");
}

PyDoc_STRVAR(time_doc, "time($self, /)\n--\n\n"
                       "Return the time on the loop's clock: seconds, the\n"
                       "same as time.monotonic().");

static PyObject *
loop_time(FLLoop *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    return PyFloat_FromDouble(fl_seconds(fl_clock_ns()));
}

/* --- futures and tasks --------------------------------------------------------------- */

static int
check_initialised(FLLoop *self)
{
    if (FL_UNLIKELY(self->phase == FL_LOOP_NEW)) {
        fl_loop_raise_not_open(self);
        return -1;
    }
    return 0;
}

PyDoc_STRVAR(create_future_doc, "create_future($self, /)\n--\n\n"
                                "Return a new Future of this loop.");

/* HOT */
static PyObject *
loop_create_future(FLLoop *self, PyObject *Py_UNUSED(ignored))
{
    if (check_initialised(self) < 0) {
        return NULL;
    }
    return (PyObject *)fl_future_new(self);
}

PyDoc_STRVAR(
    create_task_doc,
    "create_task($self, coro, /, **kwargs)\n--\n\n"
    "Schedule the coroutine and return its Task.\n\n"
    "The keywords are name, context and (from Python 3.12) eager_start, see\n"
    "Task; a task factory may take more.");

#if FL_PY312
#  define CREATE_TASK_OPTIONS 4
#else
#  define CREATE_TASK_OPTIONS 3
#endif

static const struct fl_signature create_task_signature = {
    "create_task",
    1,
    1,
    0,
    CREATE_TASK_OPTIONS,
    {FL_NAME(coro), FL_NAME(name), FL_NAME(context), FL_NAME(eager_start)}};

static FL_COLD PyObject *
create_task_by_factory(FLLoop *self, PyObject *const *args, Py_ssize_t nargs,
                       PyObject *kwnames)
{
    PyObject *coro = nargs > 0 ? args[0] : NULL;
    PyObject *kwargs = PyDict_New();
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; kwargs != NULL && i < nkw; i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        if (coro == NULL && PyUnicode_Compare(name, self->st->str.coro) == 0) {
            coro = args[nargs + i];
        }
        else if (PyDict_SetItem(kwargs, name, args[nargs + i]) < 0) {
            Py_CLEAR(kwargs);
        }
    }
    PyObject *task = NULL;
    if (kwargs != NULL && (coro == NULL || nargs > 1)) {
        PyErr_SetString(PyExc_TypeError,
                        "create_task() takes one positional argument, coro");
    }
    else if (kwargs != NULL) {
        PyObject *stack[] = {(PyObject *)self, self->task_factory, coro,
                             kwargs};
        task = PyObject_Vectorcall(self->st->sup.create_task_by_factory, stack,
                                   4, NULL);
    }
    Py_XDECREF(kwargs);
    return task;
}

/* HOT */
static PyObject *
loop_create_task(FLLoop *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    if (fl_loop_check_open(self) < 0) {
        return NULL;
    }
    if (FL_UNLIKELY(self->task_factory != NULL)) {
        return create_task_by_factory(self, args, nargs, kwnames);
    }
    PyObject *values[4] = {NULL, NULL, NULL, NULL};
    if (fl_args_parse(self->st, &create_task_signature, args, nargs, kwnames,
                      values)
        < 0) {
        return NULL;
    }
    int eager = values[3] == NULL ? 0 : PyObject_IsTrue(values[3]);
    if (eager < 0) {
        return NULL;
    }
    struct fl_task_options options = {values[1], values[2], eager > 0};
    return (PyObject *)fl_task_new(self, values[0], &options);
}

PyDoc_STRVAR(set_task_factory_doc,
             "set_task_factory($self, factory, /)\n--\n\n"
             "Let create_task() call factory(loop, coro, **kwargs); None\n"
             "restores native tasks.");

static PyObject *
loop_set_task_factory(FLLoop *self, PyObject *factory)
{
    if (factory != Py_None && !PyCallable_Check(factory)) {
        PyErr_SetString(PyExc_TypeError,
                        "task factory must be a callable or None");
        return NULL;
    }
    Py_XSETREF(self->task_factory,
               factory == Py_None ? NULL : Py_NewRef(factory));
    Py_RETURN_NONE;
}

PyDoc_STRVAR(get_task_factory_doc,
             "get_task_factory($self, /)\n--\n\n"
             "Return the task factory, or None if tasks are native.");

static PyObject *
loop_get_task_factory(FLLoop *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(self->task_factory == NULL ? Py_None
                                                : self->task_factory);
}

/* --- state ------------------------------------------------------------------------- */

PyDoc_STRVAR(
    run_doc,
    "_run($self, before_sleep=None, /)\n--\n\n"
    "Run turns until stop(); raise what ended the run.  before_sleep()\n"
    "(or None) is called once, before the loop sleeps.");

static PyObject *
loop_run(FLLoop *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs > 1) {
        PyErr_Format(PyExc_TypeError,
                     "_run() takes at most 1 argument (%zd given)", nargs);
        return NULL;
    }
    if (self->running) {
        PyErr_SetString(PyExc_RuntimeError,
                        "This event loop is already running");
        return NULL;
    }
    /* call_soon may have been set on the class since */
    PyObject *before_sleep = nargs == 0 || args[0] == Py_None ? NULL : args[0];
    if (fl_loop_update_overrides(self) < 0
        || fl_loop_run(self, before_sleep) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(stop_doc, "stop($self, /)\n--\n\n"
                       "Let run_forever() return after the current turn.");

static PyObject *
loop_stop(FLLoop *self, PyObject *Py_UNUSED(ignored))
{
    self->stopping = true;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(close_doc, "_close($self, /)\n--\n\n"
                        "Drop what is scheduled, close what is open.");

static PyObject *
loop_close(FLLoop *self, PyObject *Py_UNUSED(ignored))
{
    if (self->running) {
        PyErr_SetString(PyExc_RuntimeError,
                        "Cannot close a running event loop");
        return NULL;
    }
    fl_loop_close(self);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(is_running_doc, "is_running($self, /)\n--\n\n"
                             "Return True while the loop runs.");

static PyObject *
loop_is_running(FLLoop *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(self->running);
}

PyDoc_STRVAR(is_closed_doc, "is_closed($self, /)\n--\n\n"
                            "Return True if the loop was closed.");

static PyObject *
loop_is_closed(FLLoop *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(self->phase != FL_LOOP_OPEN);
}

PyDoc_STRVAR(get_debug_doc, "get_debug($self, /)\n--\n\n"
                            "Return True in debug mode.");

static PyObject *
loop_get_debug(FLLoop *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(self->debug);
}

PyDoc_STRVAR(set_debug_doc, "_set_debug($self, enabled, /)\n--\n\n"
                            "Switch the C side of debug mode.");

static PyObject *
loop_set_debug(FLLoop *self, PyObject *enabled)
{
    int truth = PyObject_IsTrue(enabled);
    if (truth < 0) {
        return NULL;
    }
    self->debug = truth > 0;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(check_closed_doc, "_check_closed($self, /)\n--\n\n"
                               "Raise RuntimeError if the loop is closed.");

static PyObject *
loop_check_closed(FLLoop *self, PyObject *Py_UNUSED(ignored))
{
    if (fl_loop_check_open(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
get_slow_duration(FLLoop *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->slow_duration == NULL ? Py_None
                                                 : self->slow_duration);
}

static int
set_slow_duration(FLLoop *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
        return -1;
    }
    Py_XSETREF(self->slow_duration, Py_NewRef(value));
    return 0;
}

static PyObject *
get_spin_duration(FLLoop *self, void *Py_UNUSED(closure))
{
    return PyFloat_FromDouble(fl_seconds(self->spin.limit));
}

static int
set_spin_duration(FLLoop *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
        return -1;
    }
    double seconds = PyFloat_AsDouble(value);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (!(seconds >= 0.0 && seconds <= fl_seconds(FL_SPIN_MOST_NS))) {
        PyErr_Format(PyExc_ValueError,
                     "spin_duration must be from 0 to 0.001 seconds, not %R",
                     value);
        return -1;
    }
    self->spin = (struct fl_spin){.limit = (int64_t)(seconds * 1e9)};
    return 0;
}

static PyObject *
get_running_handle(FLLoop *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->running_handle == NULL ? Py_None
                                                  : self->running_handle);
}

static PyGetSetDef loop_getset[] = {
    {"_current_handle", (getter)get_running_handle, NULL,
     PyDoc_STR("In debug mode, the Handle whose callback runs; or None."),
     NULL},
    {"slow_callback_duration", (getter)get_slow_duration,
     (setter)set_slow_duration,
     PyDoc_STR("Seconds after which debug mode reports a callback as slow."),
     NULL},
    {"spin_duration", (getter)get_spin_duration, (setter)set_spin_duration,
     PyDoc_STR(
         "Seconds for which to look for events before sleeping, where they\n"
         "mostly come that soon; from 0 (sleep at once) to 0.001.  The\n"
         "environment variable FASTLOOP_SPIN sets it for new loops."),
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define FAST (METH_FASTCALL | METH_KEYWORDS)

static PyMethodDef loop_methods[] = {
    {"call_soon", FL_METHOD(loop_call_soon), FAST, call_soon_doc},
    {"call_soon_threadsafe", FL_METHOD(loop_call_soon_threadsafe), FAST,
     call_soon_threadsafe_doc},
    {"_new_handle", FL_METHOD(loop_new_handle), METH_FASTCALL, new_handle_doc},
    {"_add_callback", (PyCFunction)loop_add_callback, METH_O,
     add_callback_doc},
    {"call_later", FL_METHOD(loop_call_later), FAST, call_later_doc},
    {"call_at", FL_METHOD(loop_call_at), FAST, call_at_doc},
    {"time", (PyCFunction)loop_time, METH_NOARGS, time_doc},
    {"create_future", (PyCFunction)loop_create_future, METH_NOARGS,
     create_future_doc},
    {"create_task", FL_METHOD(loop_create_task), FAST, create_task_doc},
    {"set_task_factory", (PyCFunction)loop_set_task_factory, METH_O,
     set_task_factory_doc},
    {"get_task_factory", (PyCFunction)loop_get_task_factory, METH_NOARGS,
     get_task_factory_doc},
    {"stop", (PyCFunction)loop_stop, METH_NOARGS, stop_doc},
    {"is_running", (PyCFunction)loop_is_running, METH_NOARGS, is_running_doc},
    {"is_closed", (PyCFunction)loop_is_closed, METH_NOARGS, is_closed_doc},
    {"get_debug", (PyCFunction)loop_get_debug, METH_NOARGS, get_debug_doc},
    {"_set_debug", (PyCFunction)loop_set_debug, METH_O, set_debug_doc},
    {"_run", FL_METHOD(loop_run), METH_FASTCALL, run_doc},
    {"_close", (PyCFunction)loop_close, METH_NOARGS, close_doc},
    {"_check_closed", (PyCFunction)loop_check_closed, METH_NOARGS,
     check_closed_doc},
    FL_LOOP_IO_METHODS,
    FL_LOOP_SOCK_METHODS,
    {NULL, NULL, 0, NULL},
};

static PyMemberDef loop_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(FLLoop, weakrefs),
     Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(loop_doc, "The C part of fastloop.Loop.");

static PyType_Slot loop_slots[] = {
    {Py_tp_doc, (void *)loop_doc},
    {Py_tp_new, loop_new},
    {Py_tp_init, loop_init},
    {Py_tp_dealloc, loop_dealloc},
    {Py_tp_traverse, loop_traverse},
    {Py_tp_clear, loop_clear},
    {Py_tp_setattro, loop_setattro},
    {Py_tp_methods, loop_methods},
    {Py_tp_members, loop_members},
    {Py_tp_getset, loop_getset},
    {0, NULL},
};

static PyType_Spec loop_spec = {
    .name = "fastloop._core.LoopBase",
    .basicsize = sizeof(FLLoop),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = loop_slots,
};

int
fl_loop_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    return fl_state_add_type(module, &st->LoopType, &loop_spec, NULL);
}
