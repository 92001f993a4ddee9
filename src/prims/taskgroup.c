/* TaskGroup: its children, and what becomes of their failures. */
#include "prims/taskgroup.h"

#include "base/args.h"
#include "core/report.h"
#include "core/task.h"
#include "prims/awaited_by.h"
#include "prims/coro.h"
#include "prims/ensure.h"

bool
fl_taskgroup_is_base_error(PyObject *exc)
{
    return PyErr_GivenExceptionMatches(exc, PyExc_SystemExit)
           || PyErr_GivenExceptionMatches(exc, PyExc_KeyboardInterrupt);
}

/* --- children ------------------------------------------------------------------------ */

int
fl_taskgroup_abort(FLTaskGroup *self, fl_state *st)
{
    self->aborting = true;
    /* Beware: cancelling runs code that may change the set: walk a list. */
    PyObject *tasks = PySequence_List(self->tasks);
    int status = tasks == NULL ? -1 : 0;
    for (Py_ssize_t i = 0; status >= 0 && i < PyList_GET_SIZE(tasks); i++) {
        PyObject *task = PyList_GET_ITEM(tasks, i);
        status = fl_any_done(st, task);
        if (status == 0) {
            status = fl_any_cancel(st, task, NULL);
        }
    }
    Py_XDECREF(tasks);
    return status < 0 ? -1 : 0;
}

/* A child failed although its parent is gone: nobody else can tell. */
static FL_COLD int
report_orphan(FLTaskGroup *self, fl_state *st, PyObject *task, PyObject *exc)
{
    PyObject *message = PyUnicode_FromFormat(
        "Task %R has errored out but its parent task %R is already completed",
        task, self->parent);
    PyObject *context =
        message == NULL ? NULL
                        : Py_BuildValue("{s:O,s:O,s:O}", "message", message,
                                        "exception", exc, "task", task);
    Py_XDECREF(message);
    if (context == NULL) {
        return -1;
    }
    PyObject *done = PyObject_CallMethodOneArg(
        self->loop, st->str.call_exception_handler, context);
    Py_DECREF(context);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static FL_COLD int
note_failure(FLTaskGroup *self, fl_state *st, PyObject *task, PyObject *exc)
{
    if (self->errors == NULL || self->parent == NULL) {
        return 0; /* the block was left by force */
    }
    if (PyList_Append(self->errors, exc) < 0) {
        return -1;
    }
    if (self->base_error == NULL && fl_taskgroup_is_base_error(exc)) {
        self->base_error = Py_NewRef(exc);
    }
    int done = fl_any_done(st, self->parent);
    if (done != 0) {
        return done < 0 ? -1 : report_orphan(self, st, task, exc);
    }
    if (self->aborting || self->parent_cancel_requested) {
        return 0;
    }
    /* the parent is in the block, or waits at its end: get it out */
    if (fl_taskgroup_abort(self, st) < 0) {
        return -1;
    }
    self->parent_cancel_requested = true;
    PyObject *parent = Py_NewRef(self->parent);
    int status = fl_any_cancel(st, parent, NULL);
    Py_DECREF(parent);
    return status < 0 ? -1 : 0;
}

/* HOT */
static int
note_done(FLTaskGroup *self, fl_state *st, PyObject *task)
{
    if (PySet_Discard(self->tasks, task) < 0
        || fl_discard_awaited_by(st, task, self->parent) < 0) {
        return -1;
    }
    if (self->completed != NULL && PySet_GET_SIZE(self->tasks) == 0
        && fl_any_release(st, self->completed, Py_True) < 0) {
        return -1;
    }
    const FLFuture *native = (FLFuture *)task;
    if (FL_LIKELY(fl_future_is_native(st, task)
                  && native->state == FL_FUTURE_FINISHED && !native->failed)) {
        return 0;
    }
    int cancelled = fl_any_cancelled(st, task);
    if (cancelled != 0) {
        return cancelled < 0 ? -1 : 0;
    }
    PyObject *exc = fl_any_exception(st, task);
    int status = exc == NULL ? -1 : 0;
    if (exc != NULL && exc != Py_None) {
        status = note_failure(self, st, task, exc);
    }
    Py_XDECREF(exc);
    return status;
}

static PyObject *
task_done(PyObject *owner, PyObject *task)
{
    if (note_done((FLTaskGroup *)owner, fl_state_of_type(Py_TYPE(owner)), task)
        < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
parent_of(PyObject *owner)
{
    return ((FLTaskGroup *)owner)->parent;
}

static struct fl_listener task_done_def = {
    {"_on_task_done", task_done, METH_O, NULL}, parent_of};

static int
adopt(FLTaskGroup *self, fl_state *st, PyObject *task)
{
#if FL_PY312 && !FL_PY314
    /* an eager start may have finished it */
    int done = fl_any_done(st, task);
    if (done != 0) {
        return done < 0 ? -1 : note_done(self, st, task);
    }
#endif
    if (fl_add_awaited_by(st, task, self->parent) < 0
        || PySet_Add(self->tasks, task) < 0
        || fl_any_listen(st, task, &task_done_def, (PyObject *)self) < 0) {
        return -1;
    }
#if FL_PY315
    if (FL_UNLIKELY(self->aborting)) {
        /* an eager task cancelled the group before it was in it */
        int ended = fl_any_done(st, task);
        return ended != 0 ? ended : fl_any_cancel(st, task, NULL);
    }
#endif
    return 0;
}

static const char *
why_not(const FLTaskGroup *self)
{
    if (!self->entered || self->loop == NULL) {
        return "TaskGroup %R has not been entered";
    }
    if (self->exiting && PySet_GET_SIZE(self->tasks) == 0) {
        return "TaskGroup %R is finished";
    }
    return self->aborting ? "TaskGroup %R is shutting down" : NULL;
}

static FL_COLD PyObject *
refuse(FLTaskGroup *self, PyObject *coro, const char *why)
{
#if FL_PY313
    PyObject *closed = PyObject_CallMethod(coro, "close", NULL);
    if (closed == NULL) {
        return NULL;
    }
    Py_DECREF(closed);
#else
    (void)coro;
#endif
    PyErr_Format(PyExc_RuntimeError, why, self);
    return NULL;
}

#if FL_PY314
PyDoc_STRVAR(
    create_task_doc,
    "create_task($self, coro, **kwargs)\n--\n\n"
    "Start a task in the group and return it; the keywords are those\n"
    "of create_task().");
#else
PyDoc_STRVAR(
    create_task_doc,
    "create_task($self, coro, *, name=None, context=None)\n--\n\n"
    "Start a task in the group and return it; the keywords are those\n"
    "of create_task().");
#endif

/* HOT */
static PyObject *
group_create_task(FLTaskGroup *self, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    fl_state *st = fl_state_of_type(Py_TYPE(self));
    if (FL_UNLIKELY(nargs != 1)) {
        PyObject *method = PyObject_GetAttr((PyObject *)st->TaskGroupType,
                                            st->str.create_task);
        PyObject *named =
            method == NULL
                ? NULL
                : fl_create_task_by_name(st, method, (PyObject *)self, args,
                                         nargs, kwnames);
        Py_XDECREF(method);
        return named;
    }
    PyObject *coro = args[0];
    const char *why = why_not(self);
    if (FL_UNLIKELY(why != NULL)) {
        return refuse(self, coro, why);
    }
    PyObject *task =
        fl_create_task_on(st, self->loop, coro, args + 1, kwnames);
    if (task != NULL && adopt(self, st, task) < 0) {
        Py_CLEAR(task);
    }
    return task;
}

PyDoc_STRVAR(
    cancel_doc,
    "cancel($self, /)\n--\n\n"
    "Cancel all tasks of the group and its block, which then ends\n"
    "without CancelledError; before it is entered, as soon as it is.\n"
    "Does nothing once the block was left.");

static int
cancel_group(FLTaskGroup *self, fl_state *st)
{
    self->cancel_called = true;
    if (!self->entered) {
        self->cancel_on_enter = true;
        return 0;
    }
    if ((self->exiting && PySet_GET_SIZE(self->tasks) == 0)
        || self->aborting) {
        return 0;
    }
    if (fl_taskgroup_abort(self, st) < 0) {
        return -1;
    }
    if (self->parent == NULL || self->parent_cancel_requested) {
        return 0;
    }
    self->parent_cancel_requested = true;
    PyObject *parent = Py_NewRef(self->parent);
    int status = fl_any_cancel(st, parent, NULL);
    Py_DECREF(parent);
    return status < 0 ? -1 : 0;
}

static PyObject *
group_cancel(FLTaskGroup *self, PyObject *Py_UNUSED(ignored))
{
    if (cancel_group(self, fl_state_of_type(Py_TYPE(self))) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* --- async with ----------------------------------------------------------------------- */

static PySendResult
enter_run(FLCoro *coro, PyObject *Py_UNUSED(value), PyObject **result)
{
    FLTaskGroup *self = (FLTaskGroup *)coro->slots[0];
    fl_state *st = coro->st;
    if (self->entered) {
        PyErr_Format(PyExc_RuntimeError,
                     "TaskGroup %R has already been entered", self);
        return PYGEN_ERROR;
    }
    if (self->loop == NULL) {
        PyObject *loop = fl_running_loop(st);
        if (loop == NULL) {
            return PYGEN_ERROR;
        }
        Py_XSETREF(self->loop, loop);
    }
    PyObject *task = fl_current_task(st, self->loop);
    if (task == NULL) {
        return PYGEN_ERROR;
    }
    if (task == Py_None) {
        Py_DECREF(task);
        PyErr_Format(PyExc_RuntimeError,
                     "TaskGroup %R cannot determine the parent task", self);
        return PYGEN_ERROR;
    }
    Py_XSETREF(self->parent, task);
    self->entered = true;
    if (self->cancel_on_enter && cancel_group(self, st) < 0) {
        return PYGEN_ERROR;
    }
    *result = Py_NewRef(self);
    return PYGEN_RETURN;
}

static const struct fl_coro_kind enter_kind = {
    "__aenter__", "TaskGroup.__aenter__", enter_run, NULL};

PyDoc_STRVAR(aenter_doc, "__aenter__($self, /)\n--\n\nEnter the block.");

static PyObject *
group_aenter(FLTaskGroup *self, PyObject *Py_UNUSED(ignored))
{
    FLCoro *coro = fl_coro_new(fl_state_of_type(Py_TYPE(self)), &enter_kind);
    if (coro != NULL) {
        coro->slots[0] = Py_NewRef(self);
    }
    return (PyObject *)coro;
}

PyDoc_STRVAR(
    aexit_doc,
    "__aexit__($self, et, exc, tb, /)\n--\n\n"
    "Wait for all tasks; raise what went wrong as an ExceptionGroup.");

static PyObject *
group_aexit(FLTaskGroup *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 3) {
        PyErr_Format(PyExc_TypeError,
                     "__aexit__() takes 3 arguments (%zd given)", nargs);
        return NULL;
    }
    return fl_taskgroup_exit(self, args[0], args[1]);
}

/* --- the type --------------------------------------------------------------------------- */

static PyObject *
group_repr(FLTaskGroup *self)
{
    const char *state = self->aborting  ? " cancelling"
                        : self->entered ? " entered"
                                        : "";
    char tasks[40] = "", errors[40] = "";
    Py_ssize_t n = PySet_GET_SIZE(self->tasks);
    if (n > 0) {
        PyOS_snprintf(tasks, sizeof(tasks), " tasks=%zd", n);
    }
    n = self->errors == NULL ? 0 : PyList_GET_SIZE(self->errors);
    if (n > 0) {
        PyOS_snprintf(errors, sizeof(errors), " errors=%zd", n);
    }
    return PyUnicode_FromFormat("<TaskGroup%s%s%s>", tasks, errors, state);
}

static PyObject *
group_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
          PyObject *Py_UNUSED(kwargs))
{
    FLTaskGroup *self = (FLTaskGroup *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->tasks = PySet_New(NULL);
        self->errors = PyList_New(0);
        if (self->tasks == NULL || self->errors == NULL) {
            Py_CLEAR(self);
        }
    }
    return (PyObject *)self;
}

static int
group_init(FLTaskGroup *Py_UNUSED(self), PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) > 0
        || (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0)) {
        PyErr_SetString(PyExc_TypeError, "TaskGroup() takes no arguments");
        return -1;
    }
    return 0;
}

static int
group_traverse(FLTaskGroup *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->dict);
    Py_VISIT(self->loop);
    Py_VISIT(self->parent);
    Py_VISIT(self->tasks);
    Py_VISIT(self->errors);
    Py_VISIT(self->base_error);
    Py_VISIT(self->completed);
    return 0;
}

/* The set stays: methods count on it. */
static int
group_clear(FLTaskGroup *self)
{
    Py_CLEAR(self->dict);
    Py_CLEAR(self->loop);
    Py_CLEAR(self->parent);
    if (self->tasks != NULL && PySet_Clear(self->tasks) < 0) {
        PyErr_Clear();
    }
    Py_CLEAR(self->errors);
    Py_CLEAR(self->base_error);
    Py_CLEAR(self->completed);
    return 0;
}

static void
group_dealloc(FLTaskGroup *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    group_clear(self);
    Py_CLEAR(self->tasks);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
get_object(FLTaskGroup *self, void *offset)
{
    PyObject *o = *(PyObject **)(void *)((char *)self + (uintptr_t)offset);
    return Py_NewRef(o == NULL ? Py_None : o);
}

static PyObject *
get_flag(FLTaskGroup *self, void *offset)
{
    return PyBool_FromLong(*(bool *)((char *)self + (uintptr_t)offset));
}

#define PRIVATE(name, get, field)                                             \
    {name, (getter)get, NULL, NULL, (void *)offsetof(FLTaskGroup, field)}

static PyGetSetDef group_getset[] = {
    PRIVATE("_loop", get_object, loop),
    PRIVATE("_parent_task", get_object, parent),
    PRIVATE("_tasks", get_object, tasks),
    PRIVATE("_errors", get_object, errors),
    PRIVATE("_base_error", get_object, base_error),
    PRIVATE("_on_completed_fut", get_object, completed),
    PRIVATE("_entered", get_flag, entered),
    PRIVATE("_exiting", get_flag, exiting),
    PRIVATE("_aborting", get_flag, aborting),
    PRIVATE("_parent_cancel_requested", get_flag, parent_cancel_requested),
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef group_methods[] = {
    {"create_task", FL_METHOD(group_create_task),
     METH_FASTCALL | METH_KEYWORDS, create_task_doc},
    {"cancel", (PyCFunction)group_cancel, METH_NOARGS, cancel_doc},
    {"__aenter__", (PyCFunction)group_aenter, METH_NOARGS, aenter_doc},
    {"__aexit__", FL_METHOD(group_aexit), METH_FASTCALL, aexit_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef group_members[] = {
    {"__dictoffset__", Py_T_PYSSIZET, offsetof(FLTaskGroup, dict), Py_READONLY,
     NULL},
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(FLTaskGroup, weakrefs),
     Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(type_doc,
             "TaskGroup()\n--\n\n"
             "An asynchronous context manager that waits for its tasks.\n\n"
             "If one fails, the others and the block are cancelled, and the\n"
             "failures are raised together as an ExceptionGroup.  See\n"
             "asyncio.TaskGroup.");

static PyType_Slot group_slots[] = {
    {Py_tp_doc, (void *)type_doc},
    {Py_tp_new, group_new},
    {Py_tp_init, group_init},
    {Py_tp_dealloc, group_dealloc},
    {Py_tp_traverse, group_traverse},
    {Py_tp_clear, group_clear},
    {Py_tp_repr, group_repr},
    {Py_tp_methods, group_methods},
    {Py_tp_members, group_members},
    {Py_tp_getset, group_getset},
    {0, NULL},
};

static PyType_Spec group_spec = {
    .name = "fastloop.TaskGroup",
    .basicsize = sizeof(FLTaskGroup),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = group_slots,
};

int
fl_taskgroup_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    return fl_state_add_type(module, &st->TaskGroupType, &group_spec, NULL);
}
