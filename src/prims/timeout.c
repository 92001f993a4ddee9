/* Timeout: a timer that cancels the task, and the bookkeeping that tells its
   cancellation from others'. */
#include "prims/timeout.h"

#include "base/args.h"
#include "core/timer.h"
#include "prims/coro.h"
#include "prims/done.h"

#include <math.h>

enum state { CREATED, ENTERED, EXPIRING, EXPIRED, EXITED };

static const char *const state_names[] = {"created", "active", "expiring",
                                          "expired", "finished"};

struct FLTimeout {
    PyObject_HEAD
    fl_state *st; /* borrowed: our type holds the module */
    PyObject *weakrefs;
    PyObject *dict;
    PyObject *when; /* owned: seconds or None; NULL until __init__ */
    double made_at; /* the loop's time when timeout() made it; NaN: unknown */
    PyObject *handle; /* owned: the timer while it is set, or NULL */
    PyObject *task;   /* owned: whom to cancel; NULL until entered */
    long cancelling;  /* the task's count when it entered */
    uint8_t state;
};

/* --- the timer -------------------------------------------------------------------- */

static PyObject *
on_timeout(PyObject *owner, PyObject *Py_UNUSED(ignored))
{
    FLTimeout *self = (FLTimeout *)owner;
    if (self->state != ENTERED || self->task == NULL) {
        PyErr_SetNone(PyExc_AssertionError);
        return NULL;
    }
    fl_state *st = self->st;
    PyObject *task = Py_NewRef(self->task);
    int status = fl_any_cancel(st, task, NULL);
    Py_DECREF(task);
    if (status < 0) {
        return NULL;
    }
    self->state = EXPIRING;
    Py_CLEAR(self->handle);
    Py_RETURN_NONE;
}

static PyMethodDef on_timeout_def = {"_on_timeout", on_timeout, METH_NOARGS,
                                     NULL};

static int
cancel_timer(FLTimeout *self, fl_state *st)
{
    PyObject *handle = self->handle;
    if (handle == NULL) {
        return 0;
    }
    self->handle = NULL;
    int status = fl_cancel_handle(st, handle);
    Py_DECREF(handle);
    return status;
}

/* What timeout() set so far ahead cannot have passed before it is entered, unless the
   program took its time: the clock is not read again. */
#define FAR_S 0.1

/* when <= loop.time(); 1, 0 or -1.  *now is that time, or a little less. */
static int
is_due(fl_state *st, PyObject *loop, PyObject *when, double *now)
{
    if (FL_LIKELY(PyFloat_CheckExact(when)
                  && PyFloat_AS_DOUBLE(when) - *now >= FAR_S)) {
        return 0;
    }
    *now = fl_loop_time(st, loop);
    if (*now == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (FL_LIKELY(PyFloat_CheckExact(when))) {
        return PyFloat_AS_DOUBLE(when) <= *now;
    }
    PyObject *time = PyFloat_FromDouble(*now);
    int due = time == NULL ? -1 : PyObject_RichCompareBool(when, time, Py_LE);
    Py_XDECREF(time);
    return due;
}

static int
set_timer(FLTimeout *self, fl_state *st, PyObject *loop)
{
    PyObject *when = Py_NewRef(self->when);
    double now = self->made_at;
    self->made_at = NAN;
    int due = is_due(st, loop, when, &now);
    PyObject *handle = NULL;
    if (due == 0) {
        handle = fl_loop_call_at(st, loop, now, when, &on_timeout_def,
                                 (PyObject *)self);
    }
    else if (due > 0) {
        handle =
            fl_loop_call_soon(st, loop, &on_timeout_def, (PyObject *)self);
    }
    Py_DECREF(when);
    if (handle == NULL) {
        return -1;
    }
    Py_XSETREF(self->handle, handle);
    return 0;
}

/* --- making --------------------------------------------------------------------------- */

/* One with only its deadline missing. */
static FLTimeout *
allocate(fl_state *st)
{
    FLTimeout *self = (FLTimeout *)fl_freelist_get(&st->timeouts);
    if (self == NULL) {
        self = (FLTimeout *)PyType_GenericAlloc(st->TimeoutType, 0);
        if (self == NULL) {
            return NULL;
        }
        self->st = st;
    }
    else {
        PyObject_GC_Track(self);
    }
    self->state = CREATED;
    self->made_at = NAN;
    return self;
}

/* --- entering and leaving ------------------------------------------------------------ */

FLTimeout *
fl_timeout_new(fl_state *st, PyObject *delay)
{
    PyObject *loop = fl_running_loop(st);
    if (loop == NULL) {
        return NULL;
    }
    PyObject *when = NULL;
    double now = NAN;
    if (delay == Py_None) {
        when = Py_NewRef(Py_None);
    }
    else {
        now = fl_loop_time(st, loop);
        double seconds = PyFloat_CheckExact(delay)  ? PyFloat_AS_DOUBLE(delay)
                         : PyLong_CheckExact(delay) ? PyLong_AsDouble(delay)
                                                    : -1.0;
        if (FL_LIKELY(seconds > 0)) {
            when = PyFloat_FromDouble(now + seconds);
        }
        else if (!PyErr_Occurred()) {
            PyObject *time = PyFloat_FromDouble(now);
            when = time == NULL ? NULL : PyNumber_Add(time, delay);
            Py_XDECREF(time);
        }
    }
    FLTimeout *self = NULL;
    if (when != NULL && !(now == -1.0 && PyErr_Occurred())) {
        self = allocate(st);
    }
    if (self == NULL) {
        Py_XDECREF(when);
    }
    else {
        self->when = when;
        if (fl_plain_loop(st, loop) != NULL) {
            self->made_at = now;
        }
    }
    Py_DECREF(loop);
    return self;
}

int
fl_timeout_enter(FLTimeout *self)
{
    fl_state *st = self->st;
    if (self->state != CREATED || self->when == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "Timeout has already been entered");
        return -1;
    }
    PyObject *loop = fl_running_loop(st);
    PyObject *task = loop == NULL ? NULL : fl_current_task(st, loop);
    int status = -1;
    if (task == Py_None) {
        PyErr_SetString(PyExc_RuntimeError,
                        "Timeout should be used inside a task");
    }
    else if (task != NULL) {
        self->cancelling = fl_any_cancelling(st, task);
        if (!(self->cancelling < 0 && PyErr_Occurred())) {
            self->state = ENTERED;
            Py_XSETREF(self->task, Py_NewRef(task));
            status = self->when == Py_None ? 0 : set_timer(self, st, loop);
        }
    }
    Py_XDECREF(task);
    Py_XDECREF(loop);
    return status;
}

/* Raise TimeoutError from exc.  Always -1. */
static FL_COLD int
raise_timeout(PyObject *exc)
{
    PyObject *timeout = PyObject_CallNoArgs(PyExc_TimeoutError);
    if (timeout != NULL) {
        PyException_SetContext(timeout, Py_NewRef(exc));
        PyException_SetCause(timeout, Py_NewRef(exc));
        fl_err_give(timeout);
    }
    return -1;
}

#if FL_PY313
/* Where a CancelledError of ours is the context of another exception, show the
   TimeoutError between them. */
static FL_COLD int
insert_timeout(fl_state *st, PyObject *exc)
{
    Py_INCREF(exc);
    for (;;) {
        PyObject *context = PyException_GetContext(exc);
        if (context == NULL) {
            Py_DECREF(exc);
            return 0;
        }
        if (PyErr_GivenExceptionMatches(context, st->imp.CancelledError)) {
            PyObject *timeout = PyObject_CallNoArgs(PyExc_TimeoutError);
            if (timeout == NULL) {
                Py_DECREF(context);
                Py_DECREF(exc);
                return -1;
            }
            PyException_SetContext(timeout, Py_NewRef(context));
            PyException_SetCause(timeout, context);
            PyException_SetContext(exc, timeout);
            Py_DECREF(exc);
            return 0;
        }
        Py_SETREF(exc, context);
    }
}

static FL_COLD int
insert_timeouts(fl_state *st, PyObject *exc)
{
    if (insert_timeout(st, exc) < 0) {
        return -1;
    }
    int group = PyObject_IsInstance(exc, st->imp.ExceptionGroup);
    if (group <= 0) {
        return group;
    }
    PyObject *inner = PyObject_GetAttrString(exc, "exceptions");
    PyObject *list = inner == NULL ? NULL : PySequence_Tuple(inner);
    Py_XDECREF(inner);
    int status = list == NULL ? -1 : 0;
    for (Py_ssize_t i = 0; status == 0 && i < PyTuple_GET_SIZE(list); i++) {
        status = insert_timeout(st, PyTuple_GET_ITEM(list, i));
    }
    Py_XDECREF(list);
    return status;
}
#endif

static FL_COLD int
exit_expired(FLTimeout *self, fl_state *st, PyObject *exc)
{
    self->state = EXPIRED;
    if (self->task == NULL) {
        return 0; /* cleared by the garbage collector */
    }
    long left = fl_any_uncancel(st, self->task);
    if (left < 0 && PyErr_Occurred()) {
        return -1;
    }
    if (left > self->cancelling || exc == NULL) {
        return 0;
    }
#if FL_PY313
    if (!PyErr_GivenExceptionMatches(exc, st->imp.CancelledError)) {
        return insert_timeouts(st, exc);
    }
#else
    if ((PyObject *)Py_TYPE(exc) != st->imp.CancelledError) {
        return 0;
    }
#endif
    return raise_timeout(exc);
}

int
fl_timeout_exit(FLTimeout *self, PyObject *exc)
{
    fl_state *st = self->st;
    if (self->state != ENTERED && self->state != EXPIRING) {
        PyErr_SetNone(PyExc_AssertionError);
        return -1;
    }
    if (cancel_timer(self, st) < 0) {
        return -1;
    }
    if (FL_UNLIKELY(self->state == EXPIRING)) {
        return exit_expired(self, st, exc);
    }
    self->state = EXITED;
    return 0;
}

/* --- the coroutines of async with ------------------------------------------------------- */

static PySendResult
enter_run(FLCoro *coro, PyObject *Py_UNUSED(value), PyObject **result)
{
    FLTimeout *self = (FLTimeout *)coro->slots[0];
    if (fl_timeout_enter(self) < 0) {
        return PYGEN_ERROR;
    }
    *result = Py_NewRef(self);
    return PYGEN_RETURN;
}

static PySendResult
exit_run(FLCoro *coro, PyObject *Py_UNUSED(value), PyObject **result)
{
    FLTimeout *self = (FLTimeout *)coro->slots[0];
    if (fl_timeout_exit(self, coro->slots[1]) < 0) {
        return PYGEN_ERROR;
    }
    return fl_coro_return_none(result);
}

static const struct fl_coro_kind enter_kind = {
    "__aenter__", "Timeout.__aenter__", enter_run, NULL};
static const struct fl_coro_kind exit_kind = {"__aexit__", "Timeout.__aexit__",
                                              exit_run, NULL};

PyDoc_STRVAR(aenter_doc, "__aenter__($self, /)\n--\n\nSet the timer.");

static PyObject *
timeout_aenter(FLTimeout *self, PyObject *Py_UNUSED(ignored))
{
    FLCoro *coro = fl_coro_new(self->st, &enter_kind);
    if (coro != NULL) {
        coro->slots[0] = Py_NewRef(self);
    }
    return (PyObject *)coro;
}

PyDoc_STRVAR(aexit_doc,
             "__aexit__($self, exc_type, exc_val, exc_tb, /)\n--\n\n"
             "Cancel the timer; raise TimeoutError if it ended the block.");

static PyObject *
timeout_aexit(FLTimeout *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 3) {
        PyErr_Format(PyExc_TypeError,
                     "__aexit__() takes 3 arguments (%zd given)", nargs);
        return NULL;
    }
    /* `async with` awaits at once what is returned: save a coroutine */
    if (FL_LIKELY(args[1] == Py_None && self->state == ENTERED)) {
        return fl_timeout_exit(self, NULL) < 0 ? NULL : fl_done_coro(self->st);
    }
    FLCoro *coro = fl_coro_new(self->st, &exit_kind);
    if (coro != NULL) {
        coro->slots[0] = Py_NewRef(self);
        coro->slots[1] = args[1] == Py_None ? NULL : Py_NewRef(args[1]);
    }
    return (PyObject *)coro;
}

/* --- methods ------------------------------------------------------------------------ */

PyDoc_STRVAR(when_doc,
             "when($self, /)\n--\n\n"
             "Return the deadline in seconds on the loop's clock, or None.");

static PyObject *
timeout_when(FLTimeout *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(self->when == NULL ? Py_None : self->when);
}

PyDoc_STRVAR(reschedule_doc,
             "reschedule($self, /, when)\n--\n\n"
             "Move the deadline to when; None: wait for ever.");

static const struct fl_signature reschedule_signature = {
    "reschedule", 1, 1, 0, 1, {FL_NAME(when)}};

static PyObject *
timeout_reschedule(FLTimeout *self, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    fl_state *st = self->st;
    PyObject *when;
    if (fl_args_parse(st, &reschedule_signature, args, nargs, kwnames, &when)
        < 0) {
        return NULL;
    }
    if (self->state == CREATED) {
        PyErr_SetString(PyExc_RuntimeError, "Timeout has not been entered");
        return NULL;
    }
    if (self->state != ENTERED) {
        PyErr_Format(PyExc_RuntimeError, "Cannot change state of %s Timeout",
                     state_names[self->state]);
        return NULL;
    }
    Py_XSETREF(self->when, Py_NewRef(when));
    if (cancel_timer(self, st) < 0) {
        return NULL;
    }
    if (when != Py_None) {
        PyObject *loop = fl_running_loop(st);
        int status = loop == NULL ? -1 : set_timer(self, st, loop);
        Py_XDECREF(loop);
        if (status < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(expired_doc, "expired($self, /)\n--\n\n"
                          "Return True if the deadline passed in the block.");

static PyObject *
timeout_expired(FLTimeout *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(self->state == EXPIRING || self->state == EXPIRED);
}

static PyObject *
timeout_repr(FLTimeout *self)
{
    const char *state = state_names[self->state];
    if (self->state != ENTERED) {
        return PyUnicode_FromFormat("<Timeout [%s]>", state);
    }
    PyObject *when = Py_NewRef(self->when);
    if (when != Py_None) {
        Py_SETREF(when, PyObject_CallMethod(when, "__round__", "i", 3));
        if (when == NULL) {
            return NULL;
        }
    }
    PyObject *repr =
        PyUnicode_FromFormat("<Timeout [%s] when=%S>", state, when);
    Py_DECREF(when);
    return repr;
}

/* --- life -------------------------------------------------------------------------- */

static const struct fl_signature init_signature = {"Timeout",      1, 1, 0, 1,
                                                   {FL_NAME(when)}};

static int
timeout_init(FLTimeout *self, PyObject *args, PyObject *kwargs)
{
    PyObject *when;
    fl_state *st = self->st;
    if (fl_args_parse_tuple(st, &init_signature, args, kwargs, &when) < 0) {
        return -1;
    }
    if (self->state != CREATED) {
        PyErr_SetString(PyExc_RuntimeError,
                        "Timeout has already been entered");
        return -1;
    }
    Py_XSETREF(self->when, Py_NewRef(when));
    return 0;
}

static int
timeout_traverse(FLTimeout *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->dict);
    Py_VISIT(self->when);
    Py_VISIT(self->handle);
    Py_VISIT(self->task);
    return 0;
}

static int
timeout_clear(FLTimeout *self)
{
    Py_CLEAR(self->dict);
    Py_CLEAR(self->handle);
    Py_CLEAR(self->task);
    return 0;
}

static void
timeout_dealloc(FLTimeout *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    timeout_clear(self);
    Py_CLEAR(self->when);
    PyObject *module = ((PyHeapTypeObject *)type)->ht_module;
    fl_state *st = module == NULL ? NULL : fl_state_of_module(module);
    if (st == NULL || type != st->TimeoutType
        || !fl_freelist_put_fresh(&st->timeouts, (PyObject *)self)) {
        type->tp_free(self);
        Py_DECREF(type);
    }
}

static PyObject *
timeout_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
            PyObject *Py_UNUSED(kwargs))
{
    FLTimeout *self = (FLTimeout *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->st = fl_state_of_type(type);
        self->made_at = NAN;
    }
    return (PyObject *)self;
}

static PyMethodDef timeout_methods[] = {
    {"when", (PyCFunction)timeout_when, METH_NOARGS, when_doc},
    {"reschedule", FL_METHOD(timeout_reschedule),
     METH_FASTCALL | METH_KEYWORDS, reschedule_doc},
    {"expired", (PyCFunction)timeout_expired, METH_NOARGS, expired_doc},
    {"__aenter__", (PyCFunction)timeout_aenter, METH_NOARGS, aenter_doc},
    {"__aexit__", FL_METHOD(timeout_aexit), METH_FASTCALL, aexit_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef timeout_members[] = {
    {"__dictoffset__", Py_T_PYSSIZET, offsetof(FLTimeout, dict), Py_READONLY,
     NULL},
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(FLTimeout, weakrefs),
     Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(
    type_doc,
    "Timeout(when)\n--\n\n"
    "An asynchronous context manager that cancels what takes too long.\n"
    "\nwhen is the deadline in seconds on the loop's clock, or None.  "
    "Made by\ntimeout() and timeout_at().  See asyncio.Timeout.");

static PyType_Slot timeout_slots[] = {
    {Py_tp_doc, (void *)type_doc},      {Py_tp_new, timeout_new},
    {Py_tp_init, timeout_init},         {Py_tp_dealloc, timeout_dealloc},
    {Py_tp_traverse, timeout_traverse}, {Py_tp_clear, timeout_clear},
    {Py_tp_repr, timeout_repr},         {Py_tp_methods, timeout_methods},
    {Py_tp_members, timeout_members},   {0, NULL},
};

static PyType_Spec timeout_spec = {
    .name = "fastloop.Timeout",
    .basicsize = sizeof(FLTimeout),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = timeout_slots,
};

int
fl_timeout_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    return fl_state_add_type(module, &st->TimeoutType, &timeout_spec, NULL);
}

/* --- functions --------------------------------------------------------------------- */

const char fl_timeout_doc[] =
    "timeout(delay)\n--\n\n"
    "Return a Timeout that cancels its block after delay seconds.\n\n"
    "The block ends with TimeoutError.  delay may be None, for no limit, and be\n"
    "set later with reschedule().  See asyncio.timeout.";

static const struct fl_signature timeout_signature = {
    "timeout", 1, 1, 0, 1, {FL_NAME(delay)}};

/* HOT */
PyObject *
fl_timeout(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
           PyObject *kwnames)
{
    fl_state *st = fl_state_of_module(module);
    PyObject *delay = nargs > 0 ? args[0] : NULL;
    if (FL_UNLIKELY(nargs != 1 || kwnames != NULL)
        && fl_args_parse(st, &timeout_signature, args, nargs, kwnames, &delay)
               < 0) {
        return NULL;
    }
    return (PyObject *)fl_timeout_new(st, delay);
}

const char fl_timeout_at_doc[] =
    "timeout_at(when)\n--\n\n"
    "Return a Timeout for a deadline in seconds on the loop's clock, or None.\n"
    "\nSee timeout() and asyncio.timeout_at.";

static const struct fl_signature timeout_at_signature = {
    "timeout_at", 1, 1, 0, 1, {FL_NAME(when)}};

PyObject *
fl_timeout_at(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
              PyObject *kwnames)
{
    fl_state *st = fl_state_of_module(module);
    PyObject *when;
    if (fl_args_parse(st, &timeout_at_signature, args, nargs, kwnames, &when)
        < 0) {
        return NULL;
    }
    FLTimeout *self = allocate(st);
    if (self != NULL) {
        self->when = Py_NewRef(when);
    }
    return (PyObject *)self;
}
