/* Event.  Who waits stays in the list until its own step; set() makes all futures
   done, in order. */
#include "prims/event.h"

#include "base/args.h"
#include "prims/bound_type.h"

/* --- waiting ----------------------------------------------------------------- */

static PySendResult
wait_run(FLCoro *self, PyObject *value, PyObject **result)
{
    FLEvent *event = (FLEvent *)self->slots[FL_WAIT_OWNER];
    if (self->step == 0) {
        self->step = 1;
        if (!event->value) {
            return fl_waiters_wait(&event->waiters, self, result);
        }
    }
    else {
        PyObject *raised = value == NULL ? fl_err_take() : NULL;
        if (FL_UNLIKELY(fl_waiters_remove(&event->waiters, self) < 0)) {
            Py_XDECREF(raised);
            return PYGEN_ERROR;
        }
        if (FL_UNLIKELY(raised != NULL)) {
            fl_err_give(raised);
            return PYGEN_ERROR;
        }
    }
    *result = Py_NewRef(Py_True);
    return PYGEN_RETURN;
}

static const struct fl_coro_kind wait_kind = {"wait", "Event.wait", wait_run,
                                              NULL};

PyObject *
fl_event_wait(FLEvent *self)
{
    return (PyObject *)fl_bound_coro(&self->base, &wait_kind);
}

int
fl_event_set(FLEvent *self)
{
    if (self->value) {
        return 0;
    }
    self->value = true;
    return fl_waiters_empty(&self->waiters)
               ? 0
               : fl_waiters_wake_many(self->base.st, &self->waiters,
                                      PY_SSIZE_T_MAX, Py_True);
}

/* --- life ------------------------------------------------------------------ */

static PyObject *
event_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
          PyObject *Py_UNUSED(kwargs))
{
    FLEvent *self = (FLEvent *)fl_bound_new(type, FL_EVENT);
    if (self != NULL) {
        fl_waiters_init(&self->waiters);
    }
    return (PyObject *)self;
}

FLEvent *
fl_event_make(fl_state *st, bool value)
{
    FLEvent *self = (FLEvent *)event_new(st->EventType, NULL, NULL);
    if (self != NULL) {
        self->value = value;
    }
    return self;
}

static const struct fl_signature init_signature = {
    "Event.__init__", 0, 0, 0, 0, {0}};

static int
event_init(FLEvent *self, PyObject *args, PyObject *kwargs)
{
    if (fl_args_parse_tuple(self->base.st, &init_signature, args, kwargs, NULL)
        < 0) {
        return -1;
    }
    fl_waiters_reset(&self->waiters);
    self->value = false;
    return 0;
}

static int
event_traverse(FLEvent *self, visitproc visit, void *arg)
{
    FL_VISIT_WAITERS(&self->waiters);
    return fl_bound_traverse(&self->base, visit, arg);
}

static int
event_clear(FLEvent *self)
{
    fl_waiters_reset(&self->waiters);
    fl_bound_clear(&self->base);
    return 0;
}

static void
event_dealloc(FLEvent *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->base.weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    event_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* --- methods ------------------------------------------------------------------ */

PyDoc_STRVAR(
    event_doc,
    "Event()\n--\n\n"
    "A flag that tasks wait for.\n\n"
    "It is unset at first.  Works on any event loop; not thread-safe.\n"
    "See asyncio.Event.");

PyDoc_STRVAR(is_set_doc, "is_set($self, /)\n--\n\n"
                         "Return True if the flag is set.");

static PyObject *
event_is_set(FLEvent *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(self->value);
}

PyDoc_STRVAR(set_doc, "set($self, /)\n--\n\n"
                      "Set the flag and wake all who wait for it.");

static PyObject *
event_set(FLEvent *self, PyObject *Py_UNUSED(ignored))
{
    if (fl_event_set(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(clear_doc, "clear($self, /)\n--\n\n"
                        "Unset the flag: wait() waits again.");

static PyObject *
event_unset(FLEvent *self, PyObject *Py_UNUSED(ignored))
{
    self->value = false;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(wait_doc, "wait($self, /)\n--\n\n"
                       "Wait until the flag is set; return True.");

static PyObject *
event_wait(FLEvent *self, PyObject *Py_UNUSED(ignored))
{
    return fl_event_wait(self);
}

static PyObject *
event_repr(FLEvent *self)
{
    const char *state = self->value ? "set" : "unset";
    Py_ssize_t n = fl_waiters_count(self->base.st, &self->waiters);
    if (n < 0) {
        return NULL;
    }
    PyObject *what = n == 0
                         ? PyUnicode_FromString(state)
                         : PyUnicode_FromFormat("%s, waiters:%zd", state, n);
    return fl_bound_repr(&self->base, what);
}

static PyObject *
get_waiters(FLEvent *self, void *Py_UNUSED(closure))
{
    return fl_waiters_show(self->base.st, &self->waiters);
}

static int
set_waiters(FLEvent *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (value == NULL) {
        fl_waiters_reset(&self->waiters);
    }
    else {
        fl_waiters_replace(&self->waiters, value);
    }
    return 0;
}

static PyObject *
get_value(FLEvent *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->value);
}

static int
set_value(FLEvent *self, PyObject *value, void *Py_UNUSED(closure))
{
    int truth = value == NULL ? 0 : PyObject_IsTrue(value);
    self->value = truth > 0;
    return truth < 0 ? -1 : 0;
}

static PyMethodDef event_methods[] = {
    {"is_set", (PyCFunction)event_is_set, METH_NOARGS, is_set_doc},
    {"set", (PyCFunction)event_set, METH_NOARGS, set_doc},
    {"clear", (PyCFunction)event_unset, METH_NOARGS, clear_doc},
    {"wait", (PyCFunction)event_wait, METH_NOARGS, wait_doc},
    FL_BOUND_METHOD,
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef event_getset[] = {
    {"_waiters", (getter)get_waiters, (setter)set_waiters, NULL, NULL},
    {"_value", (getter)get_value, (setter)set_value, NULL, NULL},
    FL_BOUND_GETSET,
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef event_members[] = {
    FL_BOUND_MEMBERS,
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot event_slots[] = {
    {Py_tp_doc, (void *)event_doc},
    {Py_tp_new, event_new},
    {Py_tp_init, event_init},
    {Py_tp_dealloc, event_dealloc},
    {Py_tp_traverse, event_traverse},
    {Py_tp_clear, event_clear},
    {Py_tp_setattro, fl_bound_setattro},
    {Py_tp_repr, event_repr},
    {Py_tp_methods, event_methods},
    {Py_tp_members, event_members},
    {Py_tp_getset, event_getset},
    {0, NULL},
};

static PyType_Spec event_spec = {
    .name = "fastloop.Event",
    .basicsize = sizeof(FLEvent),
    .flags = FL_BOUND_FLAGS,
    .slots = event_slots,
};

int
fl_event_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    return fl_bound_add_type(module, &st->EventType, &event_spec, NULL);
}
