/* gather(): a future that counts its children.

   Each child tells it directly, when its callbacks run.  The children lie in an
   array, in the order of the arguments; what was given twice is in it twice. */
#include "prims/gather.h"

#include "core/task.h"
#include "prims/awaited_by.h"
#include "prims/ensure.h"

typedef struct {
    FLFuture fut;
    PyObject **children; /* owned, n of them; NULL: none */
    Py_ssize_t n;
    Py_ssize_t distinct;
    Py_ssize_t finished;
    PyObject *task; /* owned; who called gather(), for the call graph */
    bool return_exceptions;
    bool cancel_requested;
} FLGathering;

_Static_assert(offsetof(FLGathering, fut) == 0, "a gathering is a future");

/* --- a child is done ------------------------------------------------------------- */

static PyObject *
make_cancelled_error(fl_state *st, PyObject *child)
{
    return fl_future_is_native(st, child)
               ? fl_future_make_cancelled_error((FLFuture *)child)
               : PyObject_CallMethod(child, "_make_cancelled_error", NULL);
}

/* A CancelledError for the list of results. */
static PyObject *
cancelled_result(fl_state *st, PyObject *child)
{
    PyObject *msg = PyObject_GetAttrString(child, "_cancel_message");
    if (msg == NULL) {
        return NULL;
    }
    PyObject *exc =
        msg == Py_None ? PyObject_CallFunction(st->imp.CancelledError, "s", "")
                       : PyObject_CallOneArg(st->imp.CancelledError, msg);
    Py_DECREF(msg);
    return exc;
}

/* The child's place in the list of results. */
static PyObject *
child_result(fl_state *st, PyObject *child)
{
    const FLFuture *native = (FLFuture *)child;
    if (FL_LIKELY(fl_future_is_native(st, child)
                  && native->state == FL_FUTURE_FINISHED && !native->failed)) {
        return Py_NewRef(native->result);
    }
    int cancelled = fl_any_cancelled(st, child);
    if (cancelled != 0) {
        return cancelled < 0 ? NULL : cancelled_result(st, child);
    }
    PyObject *exc = fl_any_exception(st, child);
    if (exc != Py_None) {
        return exc;
    }
    Py_DECREF(exc);
    return fl_any_result(st, child);
}

/* A child that goes on is not awaited by the caller any more. */
static int
discard_awaited_by(FLGathering *self, fl_state *st)
{
    int status = 0;
    for (Py_ssize_t i = 0; self->task != NULL && status == 0 && i < self->n;
         i++) {
        status = fl_discard_awaited_by(st, self->children[i], self->task);
    }
    (void)st;
    return status;
}

static int
set_exception(FLGathering *self, fl_state *st, FL_STEALS(3) PyObject *exc)
{
    if (exc == NULL) {
        return -1;
    }
    int status = fl_future_set_exception(&self->fut, exc);
    Py_DECREF(exc);
    return status < 0 ? -1 : discard_awaited_by(self, st);
}

/* All are done. */
static int
finish(FLGathering *self, fl_state *st)
{
    PyObject *results = PyList_New(self->n);
    if (results == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < self->n; i++) {
        PyObject *result = child_result(st, self->children[i]);
        if (result == NULL) {
            Py_DECREF(results);
            return -1;
        }
        PyList_SET_ITEM(results, i, result);
    }
    int status;
    if (FL_UNLIKELY(self->cancel_requested)) {
        status = set_exception(
            self, st, make_cancelled_error(st, self->children[self->n - 1]));
    }
    else {
        status = fl_future_set_result(&self->fut, results);
    }
    Py_DECREF(results);
    return status;
}

/* Nobody is interested any more: the exception counts as seen. */
static int
mark_retrieved(fl_state *st, PyObject *child)
{
    int cancelled = fl_any_cancelled(st, child);
    if (cancelled != 0) {
        return cancelled < 0 ? -1 : 0;
    }
    PyObject *exc = fl_any_exception(st, child);
    Py_XDECREF(exc);
    return exc == NULL ? -1 : 0;
}

/* 1: the child's failure was passed on, 0: it did not fail, -1 error */
static int
pass_on_failure(FLGathering *self, fl_state *st, PyObject *child)
{
    const FLFuture *native = (FLFuture *)child;
    if (FL_LIKELY(fl_future_is_native(st, child)
                  && native->state == FL_FUTURE_FINISHED && !native->failed)) {
        return 0;
    }
    int cancelled = fl_any_cancelled(st, child);
    if (cancelled < 0) {
        return -1;
    }
    PyObject *exc = cancelled ? make_cancelled_error(st, child)
                              : fl_any_exception(st, child);
    if (exc == Py_None) {
        Py_DECREF(exc);
        return 0;
    }
    return set_exception(self, st, exc) < 0 ? -1 : 1;
}

/* HOT */
static int
note_done(FLGathering *self, PyObject *child)
{
    fl_state *st = fl_future_state(&self->fut);
    self->finished++;
    if (fl_discard_awaited_by(st, child, self->task) < 0) {
        return -1;
    }
    if (FL_UNLIKELY(fl_future_done(&self->fut) || self->fut.loop == NULL)) {
        return mark_retrieved(st, child);
    }
    if (!self->return_exceptions) {
        int failed = pass_on_failure(self, st, child);
        if (failed != 0) {
            return failed < 0 ? -1 : 0;
        }
    }
    return self->finished == self->distinct ? finish(self, st) : 0;
}

static PyObject *
child_done(PyObject *self, PyObject *child)
{
    if (note_done((FLGathering *)self, child) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
waiter(PyObject *self)
{
    FLGathering *outer = (FLGathering *)self;
    return fl_future_done(&outer->fut) ? NULL : outer->task;
}

static struct fl_listener child_done_def = {
    {"_done_callback", child_done, METH_O, NULL}, waiter};

/* --- gathering --------------------------------------------------------------------- */

/* Finds arguments that were given before.  Objects without an equality of their own
   are looked up by address, in a table of indices; others in a dictionary. */
struct seen {
    uint32_t *table; /* index + 1 into the arguments; 0: free */
    size_t mask;
    PyObject *dict; /* argument: index; NULL: not needed yet */
};

static bool
compared_by_identity(PyObject *o)
{
    const PyTypeObject *type = Py_TYPE(o);
    return type->tp_hash == PyBaseObject_Type.tp_hash
           && type->tp_richcompare == PyBaseObject_Type.tp_richcompare;
}

/* The index of an equal argument before i; -1 if there is none; -2 on error. */
static Py_ssize_t
seen_before(struct seen *seen, PyObject *const *args, Py_ssize_t i)
{
    PyObject *arg = args[i];
    if (FL_LIKELY(compared_by_identity(arg))) {
        size_t at = ((uintptr_t)arg >> 4) * 0x9E3779B97F4A7C15u >> 20;
        for (;; at++) {
            uint32_t *slot = &seen->table[at & seen->mask];
            if (*slot == 0) {
                *slot = (uint32_t)i + 1;
                return -1;
            }
            if (args[*slot - 1] == arg) {
                return (Py_ssize_t)*slot - 1;
            }
        }
    }
    if (seen->dict == NULL && (seen->dict = PyDict_New()) == NULL) {
        return -2;
    }
    PyObject *index = PyDict_GetItemWithError(seen->dict, arg);
    if (index != NULL) {
        return PyLong_AsSsize_t(index);
    }
    if (PyErr_Occurred() || (index = PyLong_FromSsize_t(i)) == NULL) {
        return -2;
    }
    int status = PyDict_SetItem(seen->dict, arg, index);
    Py_DECREF(index);
    return status < 0 ? -2 : -1;
}

/* The caller cannot see the task: it shall not be told if it dies pending. */
static int
forget_destroy_pending(fl_state *st, PyObject *task)
{
    if (FL_LIKELY(Py_IS_TYPE(task, st->TaskType))) {
        ((FLFuture *)task)->log_destroy_pending = false;
        return 0;
    }
    return PyObject_SetAttrString(task, "_log_destroy_pending", Py_False);
}

/* Make the child for a new argument and listen to it.  1: it is done already and
   to be noted later, 0, or -1. */
static int
adopt(FLGathering *self, fl_state *st, PyObject *arg, PyObject **loop,
      Py_ssize_t i)
{
    PyObject *child = fl_ensure_future_on(st, arg, *loop);
    if (child == NULL) {
        return -1;
    }
    self->children[i] = child;
    self->n = i + 1;
    if (*loop == NULL && (*loop = fl_any_loop(st, child)) == NULL) {
        return -1;
    }
    if (child != arg && forget_destroy_pending(st, child) < 0) {
        return -1;
    }
    self->distinct++;
#if FL_PY312
    int done = fl_any_done(st, child);
    if (done != 0) {
        return done;
    }
#endif
    if (fl_add_awaited_by(st, child, self->task) < 0) {
        return -1;
    }
    return fl_any_listen(st, child, &child_done_def, (PyObject *)self);
}

struct gather_work {
    FLGathering *outer;
    fl_state *st;
    PyObject *loop; /* owned; NULL: not known yet */
    struct seen seen;
    Py_ssize_t *done; /* indices of children that were done at once */
    Py_ssize_t ndone;
};

static int
adopt_all(struct gather_work *work, PyObject *const *args, Py_ssize_t n)
{
    FLGathering *outer = work->outer;
    for (Py_ssize_t i = 0; i < n; i++) {
        Py_ssize_t before = seen_before(&work->seen, args, i);
        if (before < -1) {
            return -1;
        }
        if (before >= 0) {
            outer->children[i] = Py_NewRef(outer->children[before]);
            outer->n = i + 1;
        }
        else {
            int done = adopt(outer, work->st, args[i], &work->loop, i);
            if (done < 0) {
                return -1;
            }
            if (done) {
                work->done[work->ndone++] = i;
            }
        }
    }
    return 0;
}

/* The outer future gets its loop only when all children are there: until then, and
   if one of them could not be made, it only marks what it hears of. */
static int
complete(struct gather_work *work)
{
    FLGathering *outer = work->outer;
    if (fl_future_setup(&outer->fut, work->st, work->loop) < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < work->ndone; i++) {
        if (note_done(outer, outer->children[work->done[i]]) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The running loop, if this Python's gather() begins with it.  0 or -1. */
static int
find_loop(struct gather_work *work)
{
#if FL_PY314
    PyObject *loop = PyObject_CallNoArgs(work->st->imp.get_running_loop);
    if (loop == NULL) {
        return -1;
    }
    if (loop == Py_None) {
        Py_DECREF(loop);
        return 0;
    }
    work->loop = loop;
    work->outer->task = fl_current_task(work->st, loop);
    if (work->outer->task == Py_None) {
        Py_CLEAR(work->outer->task);
    }
    else if (work->outer->task == NULL) {
        return -1;
    }
#else
    (void)work;
#endif
    return 0;
}

#define ON_STACK 64

static PyObject *
gather(fl_state *st, PyObject *const *args, Py_ssize_t n,
       bool return_exceptions)
{
    struct gather_work work = {.st = st};
    uint32_t table[ON_STACK * 2] = {0};
    Py_ssize_t done[ON_STACK];
    size_t size = ON_STACK * 2;
    FLGathering *outer =
        (FLGathering *)PyType_GenericAlloc(st->GatheringFutureType, 0);
    if (outer == NULL) {
        return NULL;
    }
    work.outer = outer;
    outer->return_exceptions = return_exceptions;
    outer->children = PyMem_Calloc((size_t)n, sizeof(PyObject *));
    work.seen.table = table;
    work.done = done;
    if (n > ON_STACK) {
        while (size < (size_t)n * 2) {
            size *= 2;
        }
        work.seen.table = PyMem_Calloc(size, sizeof(uint32_t));
        work.done = PyMem_Calloc((size_t)n, sizeof(Py_ssize_t));
    }
    work.seen.mask = size - 1;
    int status = -1;
    if (outer->children == NULL || work.seen.table == NULL
        || work.done == NULL) {
        PyErr_NoMemory();
    }
    else if (find_loop(&work) == 0 && adopt_all(&work, args, n) == 0) {
        status = complete(&work);
    }
    if (work.seen.table != table) {
        PyMem_Free(work.seen.table);
    }
    if (work.done != done) {
        PyMem_Free(work.done);
    }
    Py_XDECREF(work.seen.dict);
    Py_XDECREF(work.loop);
    if (status < 0) {
        Py_CLEAR(outer);
    }
    return (PyObject *)outer;
}

static PyObject *
gather_nothing(fl_state *st)
{
    PyObject *loop = PyObject_CallNoArgs(st->imp.get_event_loop);
    PyObject *fut = loop == NULL ? NULL : fl_loop_create_future(st, loop);
    PyObject *results = fut == NULL ? NULL : PyList_New(0);
    if (results == NULL || fl_any_set_result(st, fut, results) < 0) {
        Py_CLEAR(fut);
    }
    Py_XDECREF(results);
    Py_XDECREF(loop);
    return fut;
}

const char fl_gather_doc[] =
    "gather(*coros_or_futures, return_exceptions=False)\n--\n\n"
    "Run awaitables concurrently; return a future for the list of results.\n\n"
    "The first exception is passed on at once, and the others go on; with\n"
    "return_exceptions, exceptions are results.  Cancelling the future\n"
    "cancels all that are not done.  See asyncio.gather.";

/* HOT */
PyObject *
fl_gather(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
          PyObject *kwnames)
{
    fl_state *st = fl_state_of_module(module);
    int return_exceptions = 0;
    for (Py_ssize_t i = 0; kwnames != NULL && i < PyTuple_GET_SIZE(kwnames);
         i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        if (PyUnicode_Compare(name, st->str.return_exceptions) != 0) {
            PyErr_Format(PyExc_TypeError,
                         "gather() got an unexpected keyword argument '%U'",
                         name);
            return NULL;
        }
        return_exceptions = PyObject_IsTrue(args[nargs + i]);
        if (return_exceptions < 0) {
            return NULL;
        }
    }
    return nargs == 0 ? gather_nothing(st)
                      : gather(st, args, nargs, return_exceptions);
}

/* --- the type ----------------------------------------------------------------------- */

static int
gathering_traverse(FLGathering *self, visitproc visit, void *arg)
{
    for (Py_ssize_t i = 0; i < self->n; i++) {
        Py_VISIT(self->children[i]);
    }
    Py_VISIT(self->task);
    return fl_future_traverse(&self->fut, visit, arg);
}

static int
gathering_clear(FLGathering *self)
{
    PyObject **children = self->children;
    Py_ssize_t n = self->n;
    self->children = NULL;
    self->n = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        Py_DECREF(children[i]);
    }
    PyMem_Free(children);
    Py_CLEAR(self->task);
    return fl_future_clear(&self->fut);
}

static void
gathering_dealloc(FLGathering *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (FL_UNLIKELY(self->fut.log_traceback)
        && PyObject_CallFinalizerFromDealloc((PyObject *)self) < 0) {
        return;
    }
    PyObject_GC_UnTrack(self);
    FL_TRASHCAN_BEGIN(self, gathering_dealloc)
    if (self->fut.weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    gathering_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    FL_TRASHCAN_END
}

PyDoc_STRVAR(cancel_doc,
             "cancel($self, /, msg=None)\n--\n\n"
             "Cancel all children that are not done; the future ends when\n"
             "they have.  Returns False if none could be cancelled.");

static int
cancel_children(FLGathering *self, fl_state *st, PyObject *msg)
{
    int cancelled = 0;
    for (Py_ssize_t i = 0; i < self->n; i++) {
        /* Beware: cancelling may run code of the user. */
        PyObject *child = Py_NewRef(self->children[i]);
        int status = fl_any_cancel(st, child, msg == NULL ? Py_None : msg);
        Py_DECREF(child);
        if (status < 0) {
            return -1;
        }
        cancelled |= status;
    }
    if (cancelled) {
        self->cancel_requested = true;
    }
    return cancelled;
}

static PyObject *
gathering_cancel(FLGathering *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    fl_state *st = fl_state_of_type(Py_TYPE(self));
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    if (nargs + nkw > 1
        || (nkw == 1
            && PyUnicode_Compare(PyTuple_GET_ITEM(kwnames, 0), st->str.msg)
                   != 0)) {
        PyErr_SetString(PyExc_TypeError, "cancel() takes one argument, msg");
        return NULL;
    }
    if (fl_future_done(&self->fut)) {
        Py_RETURN_FALSE;
    }
    int status = cancel_children(self, st, nargs + nkw ? args[0] : NULL);
    return status < 0 ? NULL : PyBool_FromLong(status);
}

static PyObject *
get_children(FLGathering *self, void *Py_UNUSED(closure))
{
    PyObject *list = PyList_New(self->n);
    for (Py_ssize_t i = 0; list != NULL && i < self->n; i++) {
        PyList_SET_ITEM(list, i, Py_NewRef(self->children[i]));
    }
    return list;
}

static PyObject *
get_cancel_requested(FLGathering *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->cancel_requested);
}

static PyObject *
get_class(FLGathering *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(
        fl_state_of_type(Py_TYPE(self))->imp.asyncio_GatheringFuture);
}

static PyGetSetDef gathering_getset[] = {
    {"__class__", (getter)get_class, NULL, NULL, NULL},
    {"_children", (getter)get_children, NULL, NULL, NULL},
    {"_cancel_requested", (getter)get_cancel_requested, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef gathering_methods[] = {
    {"cancel", FL_METHOD(gathering_cancel), METH_FASTCALL | METH_KEYWORDS,
     cancel_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot gathering_slots[] = {
    {Py_tp_dealloc, gathering_dealloc},
    {Py_tp_traverse, gathering_traverse},
    {Py_tp_clear, gathering_clear},
    {Py_tp_methods, gathering_methods},
    {Py_tp_getset, gathering_getset},
    {Py_tp_doc, "What gather() returns."},
    {0, NULL},
};

static PyType_Spec gathering_spec = {
    .name = "fastloop._core._GatheringFuture",
    .basicsize = sizeof(FLGathering),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = gathering_slots,
};

int
fl_gather_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    return fl_state_add_type(module, &st->GatheringFutureType, &gathering_spec,
                             (PyObject *)st->FutureType);
}
