/* Condition as Python sees it. */
#include "prims/condition_type.h"

#include "base/args.h"
#include "prims/bound_type.h"
#include "prims/condition.h"
#include "prims/lock.h"

/* --- life ------------------------------------------------------------------ */

static PyObject *
condition_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
              PyObject *Py_UNUSED(kwargs))
{
    FLCondition *self = (FLCondition *)fl_bound_new(type, FL_CONDITION);
    if (self != NULL) {
        fl_waiters_init(&self->waiters);
    }
    return (PyObject *)self;
}

/* The lock's methods become the condition's, as attributes of the instance. */
static int
take_methods(FLCondition *self, PyObject *lock)
{
    fl_state *st = self->base.st;
    PyObject *const names[] = {st->str.locked, st->str.acquire,
                               st->str.release};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        PyObject *method = PyObject_GetAttr(lock, names[i]);
        int status = method == NULL ? -1
                                    : PyObject_SetAttr((PyObject *)self,
                                                       names[i], method);
        Py_XDECREF(method);
        if (status < 0) {
            return -1;
        }
    }
    return 0;
}

static int
start_with(FLCondition *self, PyObject *lock)
{
    Py_XSETREF(self->lock, Py_NewRef(lock));
    if (take_methods(self, lock) < 0) {
        return -1;
    }
    fl_waiters_reset(&self->waiters);
    return 0;
}

static const struct fl_signature init_signature = {
    "Condition.__init__", 0, 1, 0, 1, {FL_NAME(lock)}};

static int
condition_init(FLCondition *self, PyObject *args, PyObject *kwargs)
{
    fl_state *st = self->base.st;
    PyObject *lock;
    if (fl_args_parse_tuple(st, &init_signature, args, kwargs, &lock) < 0) {
        return -1;
    }
    lock =
        lock == NULL || lock == Py_None ? fl_lock_make(st) : Py_NewRef(lock);
    int status = lock == NULL ? -1 : start_with(self, lock);
    Py_XDECREF(lock);
    return status;
}

FLBound *
fl_condition_make(fl_state *st)
{
    PyObject *lock = fl_lock_make(st);
    PyObject *self =
        lock == NULL ? NULL : condition_new(st->ConditionType, NULL, NULL);
    if (self != NULL && start_with((FLCondition *)self, lock) < 0) {
        Py_CLEAR(self);
    }
    Py_XDECREF(lock);
    return (FLBound *)self;
}

static int
condition_traverse(FLCondition *self, visitproc visit, void *arg)
{
    FL_VISIT_WAITERS(&self->waiters);
    Py_VISIT(self->lock);
    return fl_bound_traverse(&self->base, visit, arg);
}

static int
condition_clear(FLCondition *self)
{
    fl_waiters_reset(&self->waiters);
    Py_CLEAR(self->lock);
    fl_bound_clear(&self->base);
    return 0;
}

static void
condition_dealloc(FLCondition *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->base.weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    condition_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* --- methods ------------------------------------------------------------------ */

PyDoc_STRVAR(
    condition_doc,
    "Condition(lock=None)\n--\n\n"
    "Lets tasks wait until another notifies them.\n\n"
    "lock guards what they wait for: a Lock or whatever has acquire(),\n"
    "release() and locked(); by default a new Lock.  These methods are\n"
    "the condition's, too, and so is `async with`.  Works on any event\n"
    "loop; not thread-safe.  See asyncio.Condition.");

PyDoc_STRVAR(
    wait_doc,
    "wait($self, /)\n--\n\n"
    "Release the lock, wait to be notified, take the lock again.\n\n"
    "Returns True.  It may return without a notification: check what\n"
    "you wait for.  Raises RuntimeError if nobody holds the lock.");

static PyObject *
condition_wait(FLBound *self, PyObject *Py_UNUSED(ignored))
{
    return fl_condition_wait_coro(self);
}

PyDoc_STRVAR(wait_for_doc,
             "wait_for($self, /, predicate)\n--\n\n"
             "wait() until predicate() is true, and return what it returned.");

static const struct fl_signature wait_for_signature = {
    "wait_for", 1, 1, 0, 1, {FL_NAME(predicate)}};

static PyObject *
condition_wait_for(FLBound *self, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    PyObject *predicate;
    if (fl_args_parse(self->st, &wait_for_signature, args, nargs, kwnames,
                      &predicate)
        < 0) {
        return NULL;
    }
    return fl_condition_wait_for_coro(self, predicate);
}

static const struct fl_signature notify_signature = {"notify",    0, 1, 0, 1,
                                                     {FL_NAME(n)}};

typedef int (*notify_function)(FLCondition *self, PyObject *n);

static PyObject *
notify(FLCondition *self, PyObject *const *args, Py_ssize_t nargs,
       PyObject *kwnames, notify_function function)
{
    PyObject *n;
    if (fl_args_parse(self->base.st, &notify_signature, args, nargs, kwnames,
                      &n)
        < 0) {
        return NULL;
    }
    n = n == NULL ? PyLong_FromLong(1) : Py_NewRef(n);
    int status = n == NULL ? -1 : function(self, n);
    Py_XDECREF(n);
    if (status < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    notify_doc,
    "notify($self, /, n=1)\n--\n\n"
    "Wake the first n who wait, or all if there are fewer.\n\n"
    "They go on when they get the lock, which the caller has to release.\n"
    "Raises RuntimeError if nobody holds the lock.");

static PyObject *
condition_notify(FLCondition *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    return notify(self, args, nargs, kwnames, fl_condition_notify_locked);
}

PyDoc_STRVAR(plain_notify_doc, "_notify($self, n, /)\n--\n\n"
                               "notify() that does not ask for the lock.");

static PyObject *
condition_plain_notify(FLCondition *self, PyObject *n)
{
    if (fl_condition_notify_some(self, n) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    notify_all_doc,
    "notify_all($self, /)\n--\n\n"
    "Wake all who wait.  Raises RuntimeError if nobody holds the lock.");

static PyObject *
condition_notify_all(FLCondition *self, PyObject *Py_UNUSED(ignored))
{
    if (fl_condition_notify_waiting(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
condition_aenter(FLBound *self, PyObject *Py_UNUSED(ignored))
{
    return fl_guard_enter(self);
}

static PyObject *
condition_aexit(FLBound *self, PyObject *const *Py_UNUSED(args),
                Py_ssize_t nargs)
{
    if (fl_guard_check_exit(nargs) < 0) {
        return NULL;
    }
    PyObject *done = fl_bound_call(self, self->st->str.release, NULL);
    Py_XDECREF(done);
    return fl_guard_exited(self->st, done == NULL ? -1 : 0);
}

static PyObject *
condition_repr(FLCondition *self)
{
    int locked = fl_bound_ask(&self->base, self->base.st->str.locked);
    Py_ssize_t n = fl_waiters_count(self->base.st, &self->waiters);
    if (locked < 0 || n < 0) {
        return NULL;
    }
    const char *state = locked ? "locked" : "unlocked";
    PyObject *what = n == 0
                         ? PyUnicode_FromString(state)
                         : PyUnicode_FromFormat("%s, waiters:%zd", state, n);
    return fl_bound_repr(&self->base, what);
}

/* --- attributes that libraries read ---------------------------------------------- */

static PyObject *
get_waiters(FLCondition *self, void *Py_UNUSED(closure))
{
    return fl_waiters_show(self->base.st, &self->waiters);
}

static int
set_waiters(FLCondition *self, PyObject *value, void *Py_UNUSED(closure))
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
get_lock(FLCondition *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->lock == NULL ? Py_None : self->lock);
}

static int
set_lock(FLCondition *self, PyObject *value, void *Py_UNUSED(closure))
{
    Py_XSETREF(self->lock, Py_XNewRef(value));
    return 0;
}

static PyMethodDef condition_methods[] = {
    {"wait", (PyCFunction)condition_wait, METH_NOARGS, wait_doc},
    {"wait_for", FL_METHOD(condition_wait_for), METH_FASTCALL | METH_KEYWORDS,
     wait_for_doc},
    {"notify", FL_METHOD(condition_notify), METH_FASTCALL | METH_KEYWORDS,
     notify_doc},
    {"_notify", (PyCFunction)condition_plain_notify, METH_O, plain_notify_doc},
    {"notify_all", (PyCFunction)condition_notify_all, METH_NOARGS,
     notify_all_doc},
    {"__aenter__", (PyCFunction)condition_aenter, METH_NOARGS,
     fl_guard_enter_doc},
    {"__aexit__", FL_METHOD(condition_aexit), METH_FASTCALL,
     fl_guard_exit_doc},
    FL_BOUND_METHOD,
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef condition_getset[] = {
    {"_waiters", (getter)get_waiters, (setter)set_waiters, NULL, NULL},
    {"_lock", (getter)get_lock, (setter)set_lock, NULL, NULL},
    FL_BOUND_GETSET,
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef condition_members[] = {
    FL_BOUND_MEMBERS,
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot condition_slots[] = {
    {Py_tp_doc, (void *)condition_doc},   {Py_tp_new, condition_new},
    {Py_tp_init, condition_init},         {Py_tp_dealloc, condition_dealloc},
    {Py_tp_traverse, condition_traverse}, {Py_tp_clear, condition_clear},
    {Py_tp_setattro, fl_bound_setattro},  {Py_tp_repr, condition_repr},
    {Py_tp_methods, condition_methods},   {Py_tp_members, condition_members},
    {Py_tp_getset, condition_getset},     {0, NULL},
};

static PyType_Spec condition_spec = {
    .name = "fastloop.Condition",
    .basicsize = sizeof(FLCondition),
    .flags = FL_BOUND_FLAGS,
    .slots = condition_slots,
};

int
fl_condition_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    return fl_bound_add_type(module, &st->ConditionType, &condition_spec,
                             NULL);
}
