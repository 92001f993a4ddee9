/* shield(): a future between a task and what it must not cancel. */
#include "prims/shield.h"

#include "base/args.h"
#include "prims/awaited_by.h"
#include "prims/ensure.h"

/* What links the two futures: each one's callbacks own it. */
typedef struct {
    PyObject_HEAD
    fl_state *st;    /* borrowed: our type holds the module */
    PyObject *inner; /* owned */
    PyObject *outer; /* owned */
    PyObject
        *task; /* owned: who called shield(), for the call graph, or NULL */
} FLShield;

/* --- the callbacks ------------------------------------------------------------------- */

/* Nobody awaits the outer future any more. */
static int
drop_result(fl_state *st, PyObject *inner)
{
#if FL_PY314
    (void)st;
    (void)inner;
#else
    int cancelled = fl_any_cancelled(st, inner);
    if (cancelled != 0) {
        return cancelled < 0 ? -1 : 0;
    }
    PyObject *exc = fl_any_exception(st, inner);
    Py_XDECREF(exc);
    if (exc == NULL) {
        return -1;
    }
#endif
    return 0;
}

static int
pass_on(FLShield *self, PyObject *inner)
{
    fl_state *st = self->st;
    int cancelled = fl_any_cancelled(st, self->outer);
    if (cancelled != 0) {
        return cancelled < 0 ? -1 : drop_result(st, inner);
    }
    cancelled = fl_any_cancelled(st, inner);
    if (cancelled != 0) {
        return cancelled < 0 || fl_any_cancel(st, self->outer, NULL) < 0 ? -1
                                                                         : 0;
    }
    PyObject *value = fl_any_exception(st, inner);
    if (value == NULL) {
        return -1;
    }
    int status;
    if (value != Py_None) {
        status = fl_any_set_exception(st, self->outer, value);
    }
    else {
        Py_SETREF(value, fl_any_result(st, inner));
        status =
            value == NULL ? -1 : fl_any_set_result(st, self->outer, value);
    }
    Py_XDECREF(value);
    return status;
}

static PyObject *
inner_done(PyObject *owner, PyObject *inner)
{
    FLShield *self = (FLShield *)owner;
    if (fl_discard_awaited_by(self->st, inner, self->task) < 0
        || self->outer == NULL || pass_on(self, inner) < 0) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    Py_RETURN_NONE;
}

static PyObject *
shielding_task(PyObject *owner)
{
    return ((FLShield *)owner)->task;
}

static struct fl_listener inner_done_def = {
    {"_inner_done_callback", inner_done, METH_O, NULL}, shielding_task};

/* The inner future's exception will have nobody to tell: asyncio's function logs
   it, once, however many shields there were.  From 3.14 on. */
static int
log_later(FLShield *self)
{
#if FL_PY314
    fl_state *st = self->st;
    PyObject *log = st->imp.log_on_exception;
    PyObject *removed = PyObject_CallMethodOneArg(
        self->inner, st->str.remove_done_callback, log);
    PyObject *added = removed == NULL
                          ? NULL
                          : PyObject_CallMethodOneArg(
                                self->inner, st->str.add_done_callback, log);
    Py_XDECREF(removed);
    Py_XDECREF(added);
    return added == NULL ? -1
                         : fl_discard_awaited_by(st, self->inner, self->task);
#else
    (void)self;
    return 0;
#endif
}

static PyObject *
outer_done(PyObject *owner, PyObject *Py_UNUSED(outer))
{
    FLShield *self = (FLShield *)owner;
    PyObject *inner = self->inner;
    int done = inner == NULL ? 1 : fl_any_done(self->st, inner);
    if (done == 0
        && (fl_any_unlisten(self->st, inner, &inner_done_def, owner) < 0
            || log_later(self) < 0)) {
        done = -1;
    }
    return done < 0 ? NULL : Py_NewRef(Py_None);
}

static struct fl_listener outer_done_def = {
    {"_outer_done_callback", outer_done, METH_O, NULL}, NULL};

/* --- the function ---------------------------------------------------------------------- */

static int
link_futures(FLShield *self, PyObject *loop)
{
    fl_state *st = self->st;
#if FL_PY314
    self->task = fl_current_task(st, loop);
    if (self->task == Py_None) {
        Py_CLEAR(self->task);
    }
    else if (self->task == NULL) {
        return -1;
    }
#else
    (void)loop;
#endif
    if (fl_add_awaited_by(st, self->inner, self->task) < 0
        || fl_any_listen(st, self->inner, &inner_done_def, (PyObject *)self)
               < 0) {
        return -1;
    }
    return fl_any_listen(st, self->outer, &outer_done_def, (PyObject *)self);
}

static PyObject *
shield(fl_state *st, PyObject *inner)
{
    PyObject *loop = fl_any_loop(st, inner);
    PyObject *outer = loop == NULL ? NULL : fl_loop_create_future(st, loop);
    FLShield *self =
        outer == NULL ? NULL : PyObject_GC_New(FLShield, st->ShieldType);
    if (self == NULL) {
        Py_CLEAR(outer);
    }
    else {
        self->st = st;
        self->inner = Py_NewRef(inner);
        self->outer = Py_NewRef(outer);
        self->task = NULL;
        PyObject_GC_Track(self);
        if (link_futures(self, loop) < 0) {
            Py_CLEAR(outer);
        }
        Py_DECREF(self);
    }
    Py_XDECREF(loop);
    return outer;
}

const char fl_shield_doc[] =
    "shield(arg)\n--\n\n"
    "Return a future for the awaitable's result that may be cancelled alone.\n"
    "\nIf it is done already it is returned itself.  See asyncio.shield.";

static const struct fl_signature shield_signature = {"shield",      1, 1, 0, 1,
                                                     {FL_NAME(arg)}};

PyObject *
fl_shield(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
          PyObject *kwnames)
{
    fl_state *st = fl_state_of_module(module);
    PyObject *arg;
    if (fl_args_parse(st, &shield_signature, args, nargs, kwnames, &arg) < 0) {
        return NULL;
    }
    PyObject *inner = fl_ensure_future_on(st, arg, NULL);
    if (inner == NULL) {
        return NULL;
    }
    int done = fl_any_done(st, inner);
    if (done == 0) {
        Py_SETREF(inner, shield(st, inner));
    }
    else if (done < 0) {
        Py_CLEAR(inner);
    }
    return inner;
}

/* --- the type -------------------------------------------------------------------------- */

static int
shield_traverse(FLShield *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->inner);
    Py_VISIT(self->outer);
    Py_VISIT(self->task);
    return 0;
}

static int
shield_clear(FLShield *self)
{
    Py_CLEAR(self->inner);
    Py_CLEAR(self->outer);
    Py_CLEAR(self->task);
    return 0;
}

static void
shield_dealloc(FLShield *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    FL_TRASHCAN_BEGIN(self, shield_dealloc)
    shield_clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
    FL_TRASHCAN_END
}

static PyType_Slot shield_slots[] = {
    {Py_tp_dealloc, shield_dealloc},
    {Py_tp_traverse, shield_traverse},
    {Py_tp_clear, shield_clear},
    {Py_tp_doc, "What links the futures of shield()."},
    {0, NULL},
};

static PyType_Spec shield_spec = {
    .name = "fastloop._core.Shield",
    .basicsize = sizeof(FLShield),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = shield_slots,
};

int
fl_shield_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    return fl_state_add_type(module, &st->ShieldType, &shield_spec, NULL);
}
