/* fastloop.Future as Python sees it; Task shares most of it (task_type.c).

   The type does not inherit from asyncio.Future, whose layout is private, but
   isinstance() takes it for one: it falls back on __class__, and ours answers
   with asyncio's class. */
#include "base/args.h"
#include "core/context.h"
#include "core/future.h"
#include "core/report.h"

/* --- life ------------------------------------------------------------------ */

int
fl_future_traverse(FLFuture *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->dict);
    Py_VISIT(self->loop);
    Py_VISIT(self->result);
    if (self->rare != NULL) {
        Py_VISIT(self->rare->source_tb);
        Py_VISIT(self->rare->cancel_msg);
        Py_VISIT(self->rare->cancelled_exc);
        Py_VISIT(self->rare->exception_tb);
        Py_VISIT(self->rare->throw_exc);
        Py_VISIT(self->rare->awaited_by);
    }
    return fl_future_traverse_callbacks(self, visit, arg);
}

static void
free_rare(struct fl_future_rare *rare)
{
    if (rare->more != NULL) {
        fl_callbacks_free(rare->more); /* added while the rest was cleared */
    }
    Py_XDECREF(rare->source_tb);
    Py_XDECREF(rare->cancel_msg);
    Py_XDECREF(rare->cancelled_exc);
    Py_XDECREF(rare->exception_tb);
    Py_XDECREF(rare->throw_exc);
    Py_XDECREF(rare->awaited_by);
    PyMem_Free(rare);
}

int
fl_future_clear(FLFuture *self)
{
    fl_future_clear_callbacks(self);
    Py_CLEAR(self->dict);
    Py_CLEAR(self->result);
    struct fl_future_rare *rare = self->rare;
    self->rare = NULL;
    if (rare != NULL) {
        free_rare(rare);
    }
    self->native = false;
    Py_CLEAR(self->loop);
    return 0;
}

/* What the exception handler is told about the exception nobody asked for. */
static PyObject *
report_context(FLFuture *self, PyObject *message)
{
    PyObject *context =
        Py_BuildValue("{s:O,s:O,s:O}", "message", message, "exception",
                      self->result, "future", (PyObject *)self);
    if (context != NULL && self->rare != NULL && self->rare->source_tb != NULL
        && PyDict_SetItemString(context, "source_traceback",
                                self->rare->source_tb)
               < 0) {
        Py_CLEAR(context);
    }
    return context;
}

/* "exception was never retrieved" */
void
fl_future_finalize(FLFuture *self)
{
    if (!self->log_traceback || self->loop == NULL) {
        return;
    }
    self->log_traceback = false;
    PyObject *raised = fl_err_take();
    fl_state *st = fl_future_state(self);
    PyObject *message = PyUnicode_FromFormat(
        "%s exception was never retrieved", fl_type_name(Py_TYPE(self)));
    PyObject *context = message == NULL ? NULL : report_context(self, message);
    if (context == NULL) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    else {
        fl_report_to_handler(st, self->loop, context);
        Py_DECREF(context);
    }
    Py_XDECREF(message);
    fl_err_give(raised);
}

static void
future_dealloc(FLFuture *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (FL_UNLIKELY(self->log_traceback)
        && PyObject_CallFinalizerFromDealloc((PyObject *)self) < 0) {
        return;
    }
    PyObject_GC_UnTrack(self);
    FL_TRASHCAN_BEGIN(self, future_dealloc)
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    fl_state *st = self->native ? ((FLLoop *)self->loop)->st : NULL;
    fl_future_clear(self);
    bool kept = false;
    if (FL_LIKELY(st != NULL && type == st->FutureType)) {
        self->state = FL_FUTURE_PENDING;
        self->failed = false;
        self->blocking = false;
        kept = fl_freelist_put(&st->futures, (PyObject *)self);
    }
    if (!kept) {
        type->tp_free(self);
        Py_DECREF(type);
    }
    FL_TRASHCAN_END
}

static PyObject *
future_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
           PyObject *Py_UNUSED(kwargs))
{
    fl_state *st = fl_state_of_type(type);
    PyObject *self =
        type == st->FutureType ? fl_freelist_get(&st->futures) : NULL;
    if (self == NULL) {
        return type->tp_alloc(type, 0);
    }
    PyObject_GC_Track(self);
    return self;
}

PyDoc_STRVAR(
    future_doc,
    "Future(*, loop=None)\n--\n\n"
    "The result of something that is not done yet.\n\n"
    "loop is the event loop it belongs to; by default the current one.  Works\n"
    "on any event loop.  See asyncio.Future.");

static const struct fl_signature init_signature = {"Future",       0, 0, 0, 1,
                                                   {FL_NAME(loop)}};

static int
future_init(FLFuture *self, PyObject *args, PyObject *kwargs)
{
    fl_state *st = fl_state_of_type(Py_TYPE(self));
    PyObject *loop;
    if (fl_args_parse_tuple(st, &init_signature, args, kwargs, &loop) < 0) {
        return -1;
    }
    return fl_future_setup(self, st, loop);
}

/* --- methods ------------------------------------------------------------------ */

PyDoc_STRVAR(
    result_doc,
    "result($self, /)\n--\n\n"
    "Return the result.\n\n"
    "Raises the exception that was set, CancelledError if the future\n"
    "was cancelled, InvalidStateError if it is not done.");

static PyObject *
future_result(FLFuture *self, PyObject *Py_UNUSED(ignored))
{
    if (self->loop == NULL) {
        PyErr_SetString(fl_state_of_type(Py_TYPE(self))->imp.InvalidStateError,
                        "Future object is not initialized.");
        return NULL;
    }
    return fl_future_get_result(self);
}

PyDoc_STRVAR(exception_doc,
             "exception($self, /)\n--\n\n"
             "Return the exception that was set, or None.\n\n"
             "Raises CancelledError if the future was cancelled,\n"
             "InvalidStateError if it is not done.");

static PyObject *
future_exception(FLFuture *self, PyObject *Py_UNUSED(ignored))
{
    if (self->loop != NULL && self->state == FL_FUTURE_CANCELLED) {
        PyObject *exc = fl_future_make_cancelled_error(self);
        if (exc != NULL) {
            PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
            Py_DECREF(exc);
        }
        return NULL;
    }
    if (self->loop == NULL || self->state != FL_FUTURE_FINISHED) {
        PyErr_SetString(fl_state_of_type(Py_TYPE(self))->imp.InvalidStateError,
                        self->loop == NULL
                            ? "Future object is not initialized."
                            : "Exception is not set.");
        return NULL;
    }
    self->log_traceback = false;
    return Py_NewRef(self->failed ? self->result : Py_None);
}

PyDoc_STRVAR(set_result_doc,
             "set_result($self, result, /)\n--\n\n"
             "Mark the future done with a result and schedule its callbacks.\n"
             "\nRaises InvalidStateError if it is done already.");

static PyObject *
future_set_result(FLFuture *self, PyObject *result)
{
    if (fl_future_check_initialised(self) < 0) {
        return NULL;
    }
    if (fl_future_set_result(self, result) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    set_exception_doc,
    "set_exception($self, exception, /)\n--\n\n"
    "Mark the future done with an exception (an instance or a class)\n"
    "and schedule its callbacks.\n\n"
    "Raises InvalidStateError if it is done already.");

static PyObject *
future_set_exception(FLFuture *self, PyObject *exc)
{
    if (fl_future_check_initialised(self) < 0) {
        return NULL;
    }
    if (fl_future_set_exception(self, exc) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(add_done_callback_doc,
             "add_done_callback($self, fn, /, *, context=None)\n--\n\n"
             "Call fn(future) through the loop once the future is done.\n\n"
             "context is the contextvars.Context to run it in; by default a\n"
             "copy of the current one.");

static const struct fl_signature add_signature = {
    "add_done_callback", 1, 1, 1, 2, {FL_NAME(args), FL_NAME(context)}};

static PyObject *
future_add_done_callback(FLFuture *self, PyObject *const *args,
                         Py_ssize_t nargs, PyObject *kwnames)
{
    if (fl_future_check_initialised(self) < 0) {
        return NULL;
    }
    PyObject *values[2];
    if (fl_args_parse(fl_future_state(self), &add_signature, args, nargs,
                      kwnames, values)
        < 0) {
        return NULL;
    }
    PyObject *context = NULL;
    if (values[1] != NULL && values[1] != Py_None) {
        context = Py_NewRef(values[1]);
    }
    else if (fl_context_capture(&context) < 0) {
        return NULL;
    }
    int status = fl_future_add_callback(self, values[0], context);
    Py_XDECREF(context);
    if (status < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(remove_done_callback_doc,
             "remove_done_callback($self, fn, /)\n--\n\n"
             "Remove all callbacks equal to fn; return how many there were.");

static PyObject *
future_remove_done_callback(FLFuture *self, PyObject *fn)
{
    if (fl_future_check_initialised(self) < 0) {
        return NULL;
    }
    Py_ssize_t removed = fl_future_remove_callback(self, fn);
    return removed < 0 ? NULL : PyLong_FromSsize_t(removed);
}

PyDoc_STRVAR(cancel_doc,
             "cancel($self, /, msg=None)\n--\n\n"
             "Cancel the future and schedule its callbacks.\n\n"
             "Returns False if it is done already.  msg is passed to the\n"
             "CancelledError that awaiting it raises.");

static const struct fl_signature cancel_signature = {"cancel",      0, 1, 0, 1,
                                                     {FL_NAME(msg)}};

static PyObject *
future_cancel(FLFuture *self, PyObject *const *args, Py_ssize_t nargs,
              PyObject *kwnames)
{
    if (fl_future_check_initialised(self) < 0) {
        return NULL;
    }
    PyObject *msg;
    if (fl_args_parse(fl_future_state(self), &cancel_signature, args, nargs,
                      kwnames, &msg)
        < 0) {
        return NULL;
    }
    int status = fl_future_cancel(self, msg);
    return status < 0 ? NULL : PyBool_FromLong(status);
}

PyDoc_STRVAR(cancelled_doc, "cancelled($self, /)\n--\n\n"
                            "Return True if the future was cancelled.");

static PyObject *
future_cancelled(FLFuture *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(self->loop != NULL
                           && self->state == FL_FUTURE_CANCELLED);
}

PyDoc_STRVAR(done_doc, "done($self, /)\n--\n\n"
                       "Return True if the future has a result or an "
                       "exception, or was cancelled.");

static PyObject *
future_done(FLFuture *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(self->loop != NULL && fl_future_done(self));
}

PyDoc_STRVAR(get_loop_doc, "get_loop($self, /)\n--\n\n"
                           "Return the event loop the future belongs to.");

static PyObject *
future_get_loop(FLFuture *self, PyObject *Py_UNUSED(ignored))
{
    if (fl_future_check_initialised(self) < 0) {
        return NULL;
    }
    return Py_NewRef(self->loop);
}

PyDoc_STRVAR(make_cancelled_error_doc,
             "_make_cancelled_error($self, /)\n--\n\n"
             "Create the CancelledError to raise for a cancelled future.");

static PyObject *
future_make_cancelled_error(FLFuture *self, PyObject *Py_UNUSED(ignored))
{
    return fl_future_make_cancelled_error(self);
}

static PyObject *
future_repr(FLFuture *self)
{
    if (fl_future_check_initialised(self) < 0) {
        return NULL;
    }
    return PyObject_CallOneArg(fl_future_state(self)->sup.future_repr,
                               (PyObject *)self);
}

static PyObject *
future_await(FLFuture *self)
{
    return fl_future_iter(self);
}

/* --- attributes ----------------------------------------------------------------- */

static PyObject *
get_class(FLFuture *self, void *Py_UNUSED(closure))
{
    fl_state *st = fl_state_of_type(Py_TYPE(self));
    if (Py_IS_TYPE(self, st->FutureType)) {
        return Py_NewRef(st->imp.asyncio_Future);
    }
    if (Py_IS_TYPE(self, st->TaskType)) {
        return Py_NewRef(st->imp.asyncio_Task);
    }
    return PyObject_CallOneArg(st->sup.class_for_isinstance,
                               (PyObject *)Py_TYPE(self));
}

static PyObject *
get_state(FLFuture *self, void *Py_UNUSED(closure))
{
    static const char *const names[] = {"PENDING", "CANCELLED", "FINISHED"};
    if (fl_future_check_initialised(self) < 0) {
        return NULL;
    }
    return PyUnicode_InternFromString(names[self->state]);
}

static PyObject *
get_blocking(FLFuture *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->loop != NULL && self->blocking);
}

/* The truth of an assigned value; -1 with an exception, also on deletion. */
static int
assigned_truth(PyObject *value)
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
        return -1;
    }
    return PyObject_IsTrue(value);
}

static int
set_blocking(FLFuture *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (fl_future_check_initialised(self) < 0) {
        return -1;
    }
    int truth = assigned_truth(value);
    if (truth < 0) {
        return -1;
    }
    self->blocking = truth > 0;
    return 0;
}

static PyObject *
get_loop(FLFuture *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->loop == NULL ? Py_None : self->loop);
}

static PyObject *
get_callbacks(FLFuture *self, void *Py_UNUSED(closure))
{
    if (fl_future_check_initialised(self) < 0) {
        return NULL;
    }
    return fl_future_list_callbacks(self);
}

static PyObject *
get_result(FLFuture *self, void *Py_UNUSED(closure))
{
    if (fl_future_check_initialised(self) < 0) {
        return NULL;
    }
    bool there = self->state == FL_FUTURE_FINISHED && !self->failed;
    PyObject *result = there ? self->result : NULL;
    return Py_NewRef(result == NULL ? Py_None : result);
}

static PyObject *
get_exception(FLFuture *self, void *Py_UNUSED(closure))
{
    if (fl_future_check_initialised(self) < 0) {
        return NULL;
    }
    return Py_NewRef(self->failed ? self->result : Py_None);
}

static PyObject *
get_log_traceback(FLFuture *self, void *Py_UNUSED(closure))
{
    if (fl_future_check_initialised(self) < 0) {
        return NULL;
    }
    return PyBool_FromLong(self->log_traceback);
}

static int
set_log_traceback(FLFuture *self, PyObject *value, void *Py_UNUSED(closure))
{
    int truth = assigned_truth(value);
    if (truth < 0) {
        return -1;
    }
    if (truth) {
        PyErr_SetString(PyExc_ValueError,
                        "_log_traceback can only be set to False");
        return -1;
    }
    self->log_traceback = false;
    return 0;
}

static PyObject *
get_source_tb(FLFuture *self, void *Py_UNUSED(closure))
{
    PyObject *tb = self->rare == NULL ? NULL : self->rare->source_tb;
    return Py_NewRef(tb == NULL ? Py_None : tb);
}

static PyObject *
get_cancel_message(FLFuture *self, void *Py_UNUSED(closure))
{
    PyObject *msg = self->rare == NULL ? NULL : self->rare->cancel_msg;
    return Py_NewRef(msg == NULL ? Py_None : msg);
}

static int
set_cancel_message(FLFuture *self, PyObject *msg, void *Py_UNUSED(closure))
{
    if (msg == NULL) {
        PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
        return -1;
    }
    struct fl_future_rare *rare = fl_future_rare(self);
    if (rare == NULL) {
        return -1;
    }
    Py_XSETREF(rare->cancel_msg, Py_NewRef(msg));
    return 0;
}

#if FL_PY314
/* Who awaits the future: what was recorded, and the tasks that wait now. */
static PyObject *
get_awaited_by(FLFuture *self, void *Py_UNUSED(closure))
{
    if (fl_future_check_initialised(self) < 0) {
        return NULL;
    }
    PyObject *recorded = self->rare == NULL ? NULL : self->rare->awaited_by;
    bool several = recorded != NULL && PySet_CheckExact(recorded);
    PyObject *set = PySet_New(several ? recorded : NULL);
    if (set == NULL
        || (recorded != NULL && !several && PySet_Add(set, recorded) < 0)
        || fl_future_add_waiting_tasks(self, set) < 0) {
        Py_XDECREF(set);
        return NULL;
    }
    PyObject *result = NULL;
    if (PySet_GET_SIZE(set) > 0) {
        result = PyFrozenSet_New(set);
    }
    else {
        result = Py_NewRef(Py_None);
    }
    Py_DECREF(set);
    return result;
}
#endif

PyGetSetDef fl_future_getset[] = {
    {"__class__", (getter)get_class, NULL, NULL, NULL},
    {"_state", (getter)get_state, NULL, NULL, NULL},
    {"_asyncio_future_blocking", (getter)get_blocking, (setter)set_blocking,
     NULL, NULL},
    {"_loop", (getter)get_loop, NULL, NULL, NULL},
    {"_callbacks", (getter)get_callbacks, NULL, NULL, NULL},
    {"_result", (getter)get_result, NULL, NULL, NULL},
    {"_exception", (getter)get_exception, NULL, NULL, NULL},
    {"_log_traceback", (getter)get_log_traceback, (setter)set_log_traceback,
     NULL, NULL},
    {"_source_traceback", (getter)get_source_tb, NULL, NULL, NULL},
    {"_cancel_message", (getter)get_cancel_message, (setter)set_cancel_message,
     NULL, NULL},
#if FL_PY314
    {"_asyncio_awaited_by", (getter)get_awaited_by, NULL, NULL, NULL},
#endif
    {NULL, NULL, NULL, NULL, NULL},
};

PyMethodDef fl_future_methods[] = {
    {"result", (PyCFunction)future_result, METH_NOARGS, result_doc},
    {"exception", (PyCFunction)future_exception, METH_NOARGS, exception_doc},
    {"set_result", (PyCFunction)future_set_result, METH_O, set_result_doc},
    {"set_exception", (PyCFunction)future_set_exception, METH_O,
     set_exception_doc},
    {"add_done_callback", FL_METHOD(future_add_done_callback),
     METH_FASTCALL | METH_KEYWORDS, add_done_callback_doc},
    {"remove_done_callback", (PyCFunction)future_remove_done_callback, METH_O,
     remove_done_callback_doc},
    {"cancel", FL_METHOD(future_cancel), METH_FASTCALL | METH_KEYWORDS,
     cancel_doc},
    {"cancelled", (PyCFunction)future_cancelled, METH_NOARGS, cancelled_doc},
    {"done", (PyCFunction)future_done, METH_NOARGS, done_doc},
    {"get_loop", (PyCFunction)future_get_loop, METH_NOARGS, get_loop_doc},
    {"_make_cancelled_error", (PyCFunction)future_make_cancelled_error,
     METH_NOARGS, make_cancelled_error_doc},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS,
     PyDoc_STR("Generic over the type of the result.")},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef future_members[] = {
    {"__dictoffset__", Py_T_PYSSIZET, offsetof(FLFuture, dict), Py_READONLY,
     NULL},
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(FLFuture, weakrefs),
     Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot future_slots[] = {
    {Py_tp_doc, (void *)future_doc},
    {Py_tp_new, future_new},
    {Py_tp_init, future_init},
    {Py_tp_dealloc, future_dealloc},
    {Py_tp_finalize, fl_future_finalize},
    {Py_tp_traverse, fl_future_traverse},
    {Py_tp_clear, fl_future_clear},
    {Py_tp_repr, future_repr},
    {Py_tp_iter, future_await},
    {Py_am_await, future_await},
    {Py_tp_methods, fl_future_methods},
    {Py_tp_members, future_members},
    {Py_tp_getset, fl_future_getset},
    {0, NULL},
};

static PyType_Spec future_spec = {
    .name = "fastloop.Future",
    .basicsize = sizeof(FLFuture),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = future_slots,
};

int
fl_future_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    return fl_state_add_type(module, &st->FutureType, &future_spec, NULL);
}
