#include "prims/guard.h"

const char fl_guard_enter_doc[] = "__aenter__($self, /)\n--\n\nAcquire it.";
const char fl_guard_exit_doc[] =
    "__aexit__($self, exc_type, exc, tb, /)\n--\n\nRelease it.";

FLCoro *
fl_bound_coro(FLBound *self, const struct fl_coro_kind *kind)
{
    FLCoro *coro = fl_coro_new(self->st, kind);
    if (coro != NULL) {
        coro->slots[FL_WAIT_OWNER] = Py_NewRef(self);
    }
    return coro;
}

static PySendResult
enter_run(FLCoro *self, PyObject *value, PyObject **result)
{
    if (value == NULL) {
        return PYGEN_ERROR;
    }
    if (self->step == 1) {
        return fl_coro_return_none(result);
    }
    self->step = 1;
    FLBound *owner = (FLBound *)self->slots[FL_WAIT_OWNER];
    PyObject *acquire = fl_bound_call(owner, self->st->str.acquire, NULL);
    if (acquire == NULL) {
        return PYGEN_ERROR;
    }
    PySendResult status = fl_coro_await(self, acquire, result);
    Py_DECREF(acquire);
    return status;
}

static PySendResult
exit_run(FLCoro *self, PyObject *Py_UNUSED(value), PyObject **result)
{
    FLBound *owner = (FLBound *)self->slots[FL_WAIT_OWNER];
    PyObject *done = fl_bound_call(owner, self->st->str.release, NULL);
    if (done == NULL) {
        return PYGEN_ERROR;
    }
    Py_DECREF(done);
    return fl_coro_return_none(result);
}

static const struct fl_coro_kind enter_kind = {"__aenter__", FL_GUARD_ENTER,
                                               enter_run, NULL};
static const struct fl_coro_kind exit_kind = {
    "__aexit__", "_ContextManagerMixin.__aexit__", exit_run, NULL};

PyObject *
fl_guard_enter(FLBound *self)
{
    return (PyObject *)fl_bound_coro(self, &enter_kind);
}

PyObject *
fl_guard_exit(FLBound *self)
{
    return (PyObject *)fl_bound_coro(self, &exit_kind);
}
