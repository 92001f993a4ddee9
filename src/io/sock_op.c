#include "io/sock_op.h"

#include "core/stop_iteration.h"
#include "core/throw.h"

/* --- life ------------------------------------------------------------------ */

static void
unwatch(FLSockOp *self)
{
    if (self->fd >= 0) {
        int fd = self->fd;
        self->fd = -1;
        fl_watch_remove_native(self->loop, fd, fl_sock_direction(self),
                               &self->watcher);
    }
}

static int
op_traverse(FLSockOp *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->loop);
    Py_VISIT(self->sock);
    Py_VISIT(self->args[0]);
    Py_VISIT(self->args[1]);
    Py_VISIT(self->origin);
    Py_VISIT(self->waiter);
    Py_VISIT(self->data.obj);
    return 0;
}

/* Give up all but the loop. */
static void
drop_fields(FLSockOp *self)
{
    Py_CLEAR(self->sock);
    Py_CLEAR(self->args[0]);
    Py_CLEAR(self->args[1]);
    Py_CLEAR(self->origin);
    Py_CLEAR(self->waiter);
    if (self->data.obj != NULL) {
        PyBuffer_Release(&self->data);
    }
}

/* It has returned or raised: from now on it is an exhausted coroutine. */
static void
finish(FLSockOp *self)
{
    self->phase = FL_SOCK_DONE;
    unwatch(self);
    drop_fields(self);
}

static int
op_gc_clear(FLSockOp *self)
{
    finish(self);
    return 0;
}

/* A coroutine that nobody has awaited is warned of. */
static void
op_finalize(FLSockOp *self)
{
    if (self->phase != FL_SOCK_NEW || self->sock == NULL) {
        return;
    }
    PyObject *raised = fl_err_take();
    fl_state *st = self->loop->st;
    PyObject *result =
        PyObject_CallOneArg(st->sup.warn_unawaited, (PyObject *)self);
    if (result == NULL) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    Py_XDECREF(result);
    fl_err_give(raised);
}

static void
op_dealloc(FLSockOp *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (FL_UNLIKELY(self->phase == FL_SOCK_NEW)
        && PyObject_CallFinalizerFromDealloc((PyObject *)self) < 0) {
        return; /* somebody keeps it */
    }
    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    /* a watched one is kept alive by the table, unless its entry was replaced */
    finish(self);
    Py_CLEAR(self->loop);
    PyObject *module = ((PyHeapTypeObject *)type)->ht_module;
    fl_state *st = module == NULL ? NULL : fl_state_of_module(module);
    if (st != NULL && type == st->SockOpType
        && fl_freelist_put(&st->sock_ops, (PyObject *)self)) {
        return;
    }
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static void ready(struct fl_watcher *watcher);

/* HOT */
PyObject *
fl_sock_op_new(FLLoop *loop, enum fl_sock_call call, PyObject *sock,
               PyObject *first, PyObject *second)
{
    fl_state *st = loop->st;
    PyObject *origin = NULL;
    int depth = PyThreadState_Get()->coroutine_origin_tracking_depth;
    if (FL_UNLIKELY(depth > 0)) {
        origin = PyObject_CallFunction(st->sup.coroutine_origin, "i", depth);
        if (origin == NULL) {
            return NULL;
        }
    }
    FLSockOp *self = (FLSockOp *)fl_freelist_get(&st->sock_ops);
    if (self == NULL) {
        self = PyObject_GC_New(FLSockOp, st->SockOpType);
        if (self == NULL) {
            Py_XDECREF(origin);
            return NULL;
        }
    }
    memset((char *)self + sizeof(PyObject), 0,
           sizeof(FLSockOp) - sizeof(PyObject));
    self->loop = (FLLoop *)Py_NewRef(loop);
    self->sock = Py_NewRef(sock);
    self->args[0] = Py_XNewRef(first);
    self->args[1] = Py_XNewRef(second);
    self->origin = origin;
    self->watcher = (struct fl_watcher){ready, (PyObject *)self};
    self->call = (uint8_t)call;
    self->fd = -1;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

/* --- waiting ----------------------------------------------------------------- */

/* The descriptor is ready: let the call be tried again in a step of the task. */
static void
ready(struct fl_watcher *watcher)
{
    FLSockOp *self = FL_CONTAINER_OF(watcher, FLSockOp, watcher);
    self->fd = -1; /* told once: it is watched no more */
    FLFuture *waiter = self->waiter;
    if (waiter == NULL || fl_future_done(waiter)) {
        return; /* cancelled: throw() is under way */
    }
    Py_INCREF(waiter);
    if (fl_future_set_result(waiter, Py_None) < 0) {
        fl_loop_set_fatal(self->loop);
    }
    Py_DECREF(waiter);
}

/* Begin to wait; 0 or -1. */
static int
begin_wait(FLSockOp *self)
{
    int fd = fl_sock_fileno(self);
    if (fd < 0) {
        if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %d", fd);
        }
        return -1;
    }
    if (FL_UNLIKELY(fl_watch_transport(self->loop, fd) != NULL)) {
        PyObject *number = PyLong_FromLong(fd);
        int status =
            number == NULL ? -1 : fl_watch_check_free(self->loop, fd, number);
        Py_XDECREF(number);
        if (status < 0) {
            return -1;
        }
    }
    FLFuture *waiter = fl_future_new(self->loop);
    if (waiter == NULL) {
        return -1;
    }
    waiter->blocking = true;
    Py_XSETREF(self->waiter, waiter);
    self->fd = fd;
    if (fl_watch_set_once(self->loop, fd, fl_sock_direction(self),
                          &self->watcher)
        < 0) {
        self->fd = -1;
        return -1;
    }
    return 0;
}

/* The waiter has an outcome.  0, or -1 with what it failed with. */
static int
end_wait(FLSockOp *self)
{
    unwatch(self); /* somebody else may have set the outcome */
    FLFuture *waiter = self->waiter;
    self->waiter = NULL;
    PyObject *exc;
    int status = fl_future_get_failure(waiter, &exc);
    Py_DECREF(waiter);
    if (status > 0) {
        fl_err_give(exc);
    }
    return status == 0 ? 0 : -1;
}

/* --- the coroutine -------------------------------------------------------------- */

/* Resumed while it waits: 1 yield again, 0 go on, -1 error. */
static int
resume_waiting(FLSockOp *self)
{
    if (FL_UNLIKELY(!fl_future_done(self->waiter))) {
        if (self->waiter->blocking) {
            PyErr_SetString(PyExc_RuntimeError,
                            "await wasn't used with future");
            return -1;
        }
        self->waiter->blocking = true;
        return 1;
    }
    self->phase = FL_SOCK_RUNNING;
    return end_wait(self);
}

/* Begin, or go on: as resume_waiting(); *alive tells whether an error ends it. */
static int
resume(FLSockOp *self, PyObject *value, bool *alive)
{
    *alive = false;
    switch ((enum fl_sock_phase)self->phase) {
        case FL_SOCK_WAITING:
            return resume_waiting(self);
        case FL_SOCK_NEW:
            if (value != Py_None) {
                *alive = true;
                PyErr_SetString(PyExc_TypeError,
                                "can't send non-None value to a just-started "
                                "coroutine");
                return -1;
            }
            self->phase = FL_SOCK_RUNNING;
            return fl_sock_prepare(self);
        case FL_SOCK_RUNNING:
            *alive = true;
            PyErr_SetString(PyExc_ValueError, "coroutine already executing");
            return -1;
        default:
            PyErr_SetString(PyExc_RuntimeError,
                            "cannot reuse already awaited coroutine");
            return -1;
    }
}

/* HOT */
static PySendResult
op_am_send(FLSockOp *self, PyObject *value, PyObject **result)
{
    bool alive;
    *result = NULL;
    int status = resume(self, value, &alive);
    if (FL_LIKELY(status == 0)) {
        int done = fl_sock_try(self, result);
        if (FL_LIKELY(done > 0)) {
            finish(self);
            return PYGEN_RETURN;
        }
        status = done < 0 || begin_wait(self) < 0 ? -1 : 1;
    }
    if (FL_LIKELY(status > 0)) {
        self->phase = FL_SOCK_WAITING;
        *result = Py_NewRef(self->waiter);
        return PYGEN_NEXT;
    }
    if (!alive) {
        PyObject *exc = fl_err_take();
        finish(self);
        fl_err_give(exc);
    }
    return PYGEN_ERROR;
}

/* HOT: what `await` calls */
static PyObject *
op_next(FLSockOp *self)
{
    fl_state *st = self->loop->st;
    PyObject *result;
    if (op_am_send(self, Py_None, &result) == PYGEN_RETURN) {
        return fl_stop_iteration(st, result);
    }
    return result;
}

PyDoc_STRVAR(send_doc, "send($self, value, /)\n--\n\n"
                       "Try the call; yield a future if it would block.");

static PyObject *
op_send(FLSockOp *self, PyObject *value)
{
    fl_state *st = self->loop->st;
    PyObject *result;
    if (op_am_send(self, value, &result) != PYGEN_RETURN) {
        return result;
    }
    result = fl_stop_iteration(st, result);
    if (!PyErr_Occurred()) {
        PyErr_SetNone(PyExc_StopIteration);
    }
    return result;
}

PyDoc_STRVAR(throw_doc, "throw($self, type, value=None, traceback=None, /)"
                        "\n--\n\nRaise the exception; the wait is over.");

static PyObject *
op_throw(FLSockOp *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (self->phase == FL_SOCK_RUNNING) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return NULL;
    }
    PyObject *exc = fl_exception_to_throw(args, nargs);
    if (exc == NULL) {
        return NULL;
    }
    if (self->phase == FL_SOCK_DONE) {
        Py_DECREF(exc);
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot reuse already awaited coroutine");
        return NULL;
    }
    finish(self);
    fl_err_give(exc);
    return NULL;
}

PyDoc_STRVAR(close_doc, "close($self, /)\n--\n\n"
                        "End the wait, or never begin.");

static PyObject *
op_close(FLSockOp *self, PyObject *Py_UNUSED(ignored))
{
    if (self->phase == FL_SOCK_RUNNING) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return NULL;
    }
    finish(self);
    Py_RETURN_NONE;
}

static PyObject *
op_await(FLSockOp *self)
{
    if (FL_UNLIKELY(self->phase == FL_SOCK_WAITING)) {
        PyErr_SetString(PyExc_RuntimeError,
                        "coroutine is being awaited already");
        return NULL;
    }
    return Py_NewRef(self);
}

/* --- what coroutines tell --------------------------------------------------------- */

static const char *const names[] = {
    "sock_recv",          "sock_recv_into", "sock_recvfrom",
    "sock_recvfrom_into", "sock_sendall",   "sock_sendto",
    "sock_accept",        "_sock_readable", "_sock_writable",
};

static PyObject *
get_name(FLSockOp *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(names[self->call]);
}

static PyObject *
get_qualname(FLSockOp *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromFormat("Loop.%s", names[self->call]);
}

static PyObject *
get_running(FLSockOp *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->phase == FL_SOCK_RUNNING);
}

static PyObject *
get_suspended(FLSockOp *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->phase == FL_SOCK_WAITING);
}

static PyObject *
get_origin(FLSockOp *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->origin == NULL ? Py_None : self->origin);
}

static PyObject *
op_repr(FLSockOp *self)
{
    return PyUnicode_FromFormat("<coroutine object Loop.%s at %p>",
                                names[self->call], (void *)self);
}

/* --- type ------------------------------------------------------------------------ */

static PyMethodDef op_methods[] = {
    {"send", (PyCFunction)op_send, METH_O, send_doc},
    {"throw", FL_METHOD(op_throw), METH_FASTCALL, throw_doc},
    {"close", (PyCFunction)op_close, METH_NOARGS, close_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef op_getset[] = {
    {"__name__", (getter)get_name, NULL, NULL, NULL},
    {"__qualname__", (getter)get_qualname, NULL, NULL, NULL},
    {"cr_running", (getter)get_running, NULL, NULL, NULL},
    {"cr_suspended", (getter)get_suspended, NULL, NULL, NULL},
    {"cr_origin", (getter)get_origin, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef op_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(FLSockOp, weakrefs),
     Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(op_doc, "What the sock_* methods of a loop return, to be awaited "
                     "once.");

static PyType_Slot op_slots[] = {
    {Py_tp_doc, (void *)op_doc},
    {Py_tp_dealloc, op_dealloc},
    {Py_tp_traverse, op_traverse},
    {Py_tp_clear, op_gc_clear},
    {Py_tp_finalize, op_finalize},
    {Py_tp_repr, op_repr},
    {Py_tp_iternext, op_next},
    {Py_am_await, op_await},
    {Py_am_send, op_am_send},
    {Py_tp_methods, op_methods},
    {Py_tp_members, op_members},
    {Py_tp_getset, op_getset},
    {0, NULL},
};

static PyType_Spec op_spec = {
    .name = "fastloop._core.SockOp",
    .basicsize = sizeof(FLSockOp),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = op_slots,
};

int
fl_sock_op_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    return fl_state_add_type(module, &st->SockOpType, &op_spec, NULL);
}
