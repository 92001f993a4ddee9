/* fastloop.Task as Python sees it. */
#include "base/args.h"
#include "core/context.h"
#include "core/report.h"
#include "core/task.h"

/* --- life ------------------------------------------------------------------ */

static bool
name_is_object(const FLTask *self)
{
    return self->name != NULL && ((uintptr_t)self->name & 1) == 0;
}

static int
task_traverse(FLTask *self, visitproc visit, void *arg)
{
    Py_VISIT(self->coro);
    Py_VISIT(self->context);
    if (name_is_object(self)) {
        Py_VISIT(self->name);
    }
    return fl_future_traverse(&self->fut, visit, arg);
}

static int
task_clear(FLTask *self)
{
    fl_list_unlink(&self->node);
    PyObject *name = name_is_object(self) ? self->name : NULL;
    self->name = NULL;
    Py_XDECREF(name);
    Py_CLEAR(self->coro);
    Py_CLEAR(self->context);
    return fl_future_clear(&self->fut);
}

static bool
destroyed_pending(const FLTask *self)
{
    return self->fut.state == FL_FUTURE_PENDING
           && self->fut.log_destroy_pending && self->fut.loop != NULL;
}

static void
report_destroyed(FLTask *self)
{
    PyObject *raised = fl_err_take();
    /* whoever keeps the report keeps the task: it is not one of all_tasks() */
    fl_list_unlink(&self->node);
    PyObject *context =
        Py_BuildValue("{s:s,s:O}", "message",
                      "Task was destroyed but it is pending!", "task", self);
    if (context != NULL && self->fut.rare != NULL
        && self->fut.rare->source_tb != NULL
        && PyDict_SetItemString(context, "source_traceback",
                                self->fut.rare->source_tb)
               < 0) {
        Py_CLEAR(context);
    }
    if (context == NULL) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    else {
        fl_report_to_handler(fl_future_state(&self->fut), self->fut.loop,
                             context);
        Py_DECREF(context);
    }
    fl_err_give(raised);
}

static void
task_finalize(FLTask *self)
{
    if (destroyed_pending(self)) {
        report_destroyed(self);
    }
    fl_future_finalize(&self->fut);
}

/* Make the dead task look like one fresh from tp_new. */
static void
reset(FLTask *self)
{
    self->fut.state = FL_FUTURE_PENDING;
    self->fut.failed = false;
    self->fut.blocking = false;
    self->fut.must_cancel = false;
    self->fut.log_destroy_pending = false;
    self->fut.cancel_requests = 0;
}

static void
task_dealloc(FLTask *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (FL_UNLIKELY(self->fut.log_traceback || destroyed_pending(self))
        && PyObject_CallFinalizerFromDealloc((PyObject *)self) < 0) {
        return;
    }
    PyObject_GC_UnTrack(self);
    FL_TRASHCAN_BEGIN(self, task_dealloc)
    /* before code can run that looks at all_tasks(): it must not see this one */
    fl_list_unlink(&self->node);
    if (self->fut.weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    fl_state *st = self->fut.native ? ((FLLoop *)self->fut.loop)->st : NULL;
    task_clear(self);
    bool kept = false;
    if (FL_LIKELY(st != NULL && type == st->TaskType)) {
        reset(self);
        kept = fl_freelist_put(&st->tasks, (PyObject *)self);
    }
    if (!kept) {
        type->tp_free(self);
        Py_DECREF(type);
    }
    FL_TRASHCAN_END
}

static PyObject *
task_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
         PyObject *Py_UNUSED(kwargs))
{
    fl_state *st = fl_state_of_type(type);
    FLTask *self = NULL;
    if (type == st->TaskType) {
        self = (FLTask *)fl_freelist_get(&st->tasks);
    }
    if (self != NULL) {
        PyObject_GC_Track(self);
        return (PyObject *)self;
    }
    self = (FLTask *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->fut.is_task = true;
        fl_list_init(&self->node);
    }
    return (PyObject *)self;
}

#if FL_PY312
PyDoc_STRVAR(
    task_doc,
    "Task(coro, *, loop=None, name=None, context=None, eager_start=False)\n"
    "--\n\n"
    "A coroutine that runs on an event loop, and a future for its result.\n\n"
    "loop is any event loop, by default the current one; name a str, by\n"
    "default Task-N; context the contextvars.Context to run in, by default a\n"
    "copy of the current one.  With eager_start the first step runs at once if\n"
    "the loop is running.  See asyncio.Task.");
#  define OPTIONS 5
#else
PyDoc_STRVAR(
    task_doc,
    "Task(coro, *, loop=None, name=None, context=None)\n--\n\n"
    "A coroutine that runs on an event loop, and a future for its result.\n\n"
    "loop is any event loop, by default the current one; name a str, by\n"
    "default Task-N; context the contextvars.Context to run in, by default a\n"
    "copy of the current one.  See asyncio.Task.");
#  define OPTIONS 4
#endif

static const struct fl_signature init_signature = {
    "Task",
    1,
    1,
    0,
    OPTIONS,
    {FL_NAME(coro), FL_NAME(loop), FL_NAME(name), FL_NAME(context),
     FL_NAME(eager_start)}};

static int
task_init(FLTask *self, PyObject *args, PyObject *kwargs)
{
    fl_state *st = fl_state_of_type(Py_TYPE(self));
    PyObject *values[5] = {NULL, NULL, NULL, NULL, NULL};
    if (fl_args_parse_tuple(st, &init_signature, args, kwargs, values) < 0) {
        return -1;
    }
    int eager = values[4] == NULL ? 0 : PyObject_IsTrue(values[4]);
    if (eager < 0) {
        return -1;
    }
    struct fl_task_options options = {values[2], values[3], eager > 0};
    return fl_task_setup(self, st, values[1], values[0], &options);
}

/* --- methods ------------------------------------------------------------------ */

PyDoc_STRVAR(
    cancel_doc,
    "cancel($self, /, msg=None)\n--\n\n"
    "Ask the task to cancel itself: CancelledError(msg) is thrown into its\n"
    "coroutine at the next opportunity.  Returns False if it is done already.");

static const struct fl_signature cancel_signature = {"cancel",      0, 1, 0, 1,
                                                     {FL_NAME(msg)}};

static PyObject *
task_cancel(FLTask *self, PyObject *const *args, Py_ssize_t nargs,
            PyObject *kwnames)
{
    PyObject *msg;
    if (fl_future_check_initialised(&self->fut) < 0
        || fl_args_parse(fl_future_state(&self->fut), &cancel_signature, args,
                         nargs, kwnames, &msg)
               < 0) {
        return NULL;
    }
    int status = fl_task_cancel(self, msg == Py_None ? NULL : msg);
    return status < 0 ? NULL : PyBool_FromLong(status);
}

PyDoc_STRVAR(cancelling_doc,
             "cancelling($self, /)\n--\n\n"
             "Return how many cancellations are pending: calls of cancel()\n"
             "less calls of uncancel().");

static PyObject *
task_cancelling(FLTask *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(self->fut.cancel_requests);
}

PyDoc_STRVAR(uncancel_doc,
             "uncancel($self, /)\n--\n\n"
             "Take back one cancellation; return how many are left.");

static PyObject *
task_uncancel(FLTask *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(fl_task_uncancel(self));
}

PyDoc_STRVAR(get_stack_doc,
             "get_stack($self, /, *, limit=None)\n--\n\n"
             "Return the frames of the coroutine, oldest first: where it is\n"
             "suspended, or the traceback of the exception that ended it.");

static PyObject *
call_support(PyObject *function, FLTask *self, PyObject *const *args,
             Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs > 0) {
        PyErr_SetString(PyExc_TypeError, "takes keyword arguments only");
        return NULL;
    }
    PyObject *stack[4] = {NULL, (PyObject *)self, NULL, NULL};
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    if (nkw > 2) {
        PyErr_SetString(PyExc_TypeError, "too many keyword arguments");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < nkw; i++) {
        stack[2 + i] = args[i];
    }
    return PyObject_Vectorcall(function, stack + 1,
                               1 | PY_VECTORCALL_ARGUMENTS_OFFSET, kwnames);
}

static PyObject *
task_get_stack(FLTask *self, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    fl_state *st = fl_future_state(&self->fut);
    return call_support(st->sup.task_get_stack, self, args, nargs, kwnames);
}

PyDoc_STRVAR(print_stack_doc,
             "print_stack($self, /, *, limit=None, file=None)\n--\n\n"
             "Print the stack or traceback of the coroutine to file, by\n"
             "default sys.stderr.");

static PyObject *
task_print_stack(FLTask *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    fl_state *st = fl_future_state(&self->fut);
    return call_support(st->sup.task_print_stack, self, args, nargs, kwnames);
}

PyDoc_STRVAR(set_result_doc, "set_result($self, result, /)\n--\n\n"
                             "Raises RuntimeError: a task's result is what "
                             "its coroutine returns.");

static PyObject *
task_set_result(FLTask *Py_UNUSED(self), PyObject *Py_UNUSED(result))
{
    PyErr_SetString(PyExc_RuntimeError,
                    "Task does not support set_result operation");
    return NULL;
}

PyDoc_STRVAR(set_exception_doc, "set_exception($self, exception, /)\n--\n\n"
                                "Raises RuntimeError: a task's exception is "
                                "what its coroutine raises.");

static PyObject *
task_set_exception(FLTask *Py_UNUSED(self), PyObject *Py_UNUSED(exc))
{
    PyErr_SetString(PyExc_RuntimeError,
                    "Task does not support set_exception operation");
    return NULL;
}

PyDoc_STRVAR(get_coro_doc, "get_coro($self, /)\n--\n\n"
                           "Return the coroutine; None if an eager start has "
                           "finished it.");

static PyObject *
task_get_coro(FLTask *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(self->coro == NULL ? Py_None : self->coro);
}

PyDoc_STRVAR(get_context_doc,
             "get_context($self, /)\n--\n\n"
             "Return the contextvars.Context the coroutine runs in.");

static PyObject *
task_get_context(FLTask *self, PyObject *Py_UNUSED(ignored))
{
    if (self->fut.loop == NULL) { /* not initialised */
        Py_RETURN_NONE;
    }
    return Py_XNewRef(fl_context_get(&self->context));
}

PyDoc_STRVAR(get_name_doc, "get_name($self, /)\n--\n\nReturn the name.");

static PyObject *
task_get_name(FLTask *self, PyObject *Py_UNUSED(ignored))
{
    return fl_task_get_name(self);
}

PyDoc_STRVAR(set_name_doc, "set_name($self, value, /)\n--\n\n"
                           "Set the name to str(value).");

static PyObject *
task_set_name(FLTask *self, PyObject *value)
{
    PyObject *name =
        PyUnicode_CheckExact(value) ? Py_NewRef(value) : PyObject_Str(value);
    if (name == NULL) {
        return NULL;
    }
    PyObject *old = name_is_object(self) ? self->name : NULL;
    self->name = name;
    Py_XDECREF(old);
    Py_RETURN_NONE;
}

static PyObject *
task_repr(FLTask *self)
{
    if (fl_future_check_initialised(&self->fut) < 0) {
        return NULL;
    }
    return PyObject_CallOneArg(fl_future_state(&self->fut)->sup.task_repr,
                               (PyObject *)self);
}

/* --- attributes ----------------------------------------------------------------- */

static PyObject *
get_coro(FLTask *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->coro == NULL ? Py_None : self->coro);
}

static PyObject *
get_fut_waiter(FLTask *self, void *Py_UNUSED(closure))
{
    PyObject *waiter = fl_task_waiter(self);
    return Py_NewRef(waiter == NULL ? Py_None : waiter);
}

static PyObject *
get_must_cancel(FLTask *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->fut.must_cancel);
}

static PyObject *
get_cancel_requests(FLTask *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(self->fut.cancel_requests);
}

static PyObject *
get_log_destroy_pending(FLTask *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->fut.log_destroy_pending);
}

static int
set_log_destroy_pending(FLTask *self, PyObject *value,
                        void *Py_UNUSED(closure))
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
        return -1;
    }
    int truth = PyObject_IsTrue(value);
    if (truth < 0) {
        return -1;
    }
    self->fut.log_destroy_pending = truth > 0;
    return 0;
}

static PyGetSetDef task_getset[] = {
    {"_coro", (getter)get_coro, NULL, NULL, NULL},
    {"_fut_waiter", (getter)get_fut_waiter, NULL, NULL, NULL},
    {"_must_cancel", (getter)get_must_cancel, NULL, NULL, NULL},
    {"_num_cancels_requested", (getter)get_cancel_requests, NULL, NULL, NULL},
    {"_log_destroy_pending", (getter)get_log_destroy_pending,
     (setter)set_log_destroy_pending, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef task_methods[] = {
    {"cancel", FL_METHOD(task_cancel), METH_FASTCALL | METH_KEYWORDS,
     cancel_doc},
    {"cancelling", (PyCFunction)task_cancelling, METH_NOARGS, cancelling_doc},
    {"uncancel", (PyCFunction)task_uncancel, METH_NOARGS, uncancel_doc},
    {"get_stack", FL_METHOD(task_get_stack), METH_FASTCALL | METH_KEYWORDS,
     get_stack_doc},
    {"print_stack", FL_METHOD(task_print_stack), METH_FASTCALL | METH_KEYWORDS,
     print_stack_doc},
    {"set_result", (PyCFunction)task_set_result, METH_O, set_result_doc},
    {"set_exception", (PyCFunction)task_set_exception, METH_O,
     set_exception_doc},
    {"get_coro", (PyCFunction)task_get_coro, METH_NOARGS, get_coro_doc},
    {"get_context", (PyCFunction)task_get_context, METH_NOARGS,
     get_context_doc},
    {"get_name", (PyCFunction)task_get_name, METH_NOARGS, get_name_doc},
    {"set_name", (PyCFunction)task_set_name, METH_O, set_name_doc},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS,
     PyDoc_STR("Generic over the type of what the coroutine returns.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot task_slots[] = {
    {Py_tp_doc, (void *)task_doc},
    {Py_tp_new, task_new},
    {Py_tp_init, task_init},
    {Py_tp_dealloc, task_dealloc},
    {Py_tp_finalize, task_finalize},
    {Py_tp_traverse, task_traverse},
    {Py_tp_clear, task_clear},
    {Py_tp_repr, task_repr},
    {Py_tp_methods, task_methods},
    {Py_tp_getset, task_getset},
    {0, NULL},
};

static PyType_Spec task_spec = {
    .name = "fastloop.Task",
    .basicsize = sizeof(FLTask),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = task_slots,
};

int
fl_task_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    return fl_state_add_type(module, &st->TaskType, &task_spec,
                             (PyObject *)st->FutureType);
}
