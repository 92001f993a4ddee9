/* TimerHandle and the heap of deadlines.

   A deadline is compared as the very double that call_at() was given, with the
   very double that loop.time() would return: so a callback never runs before
   `loop.time() >= when` holds, whatever the rounding.  A NaN would order nothing
   and is taken as due. */
#include "core/timer.h"

#include <math.h>

/* --- scheduling ------------------------------------------------------------- */

static inline FLTimer *
allocate(FLLoop *loop, double when)
{
    fl_state *st = loop->st;
    FLTimer *self = (FLTimer *)fl_freelist_get(&st->timers);
    if (self == NULL) {
        self = PyObject_GC_New(FLTimer, st->TimerHandleType);
        if (self == NULL) {
            return NULL;
        }
    }
    self->node.index = FL_HEAP_OUT;
    self->when = when;
    return self;
}

/* A deadline that is further away need not make the next turn read the clock. */
#define FAR_S 0.1

/* Put the timer into the heap, which takes a reference.  0, or -1. */
static inline int
schedule(FLLoop *loop, FLTimer *self, bool far)
{
    double key = FL_UNLIKELY(isnan(self->when)) ? -HUGE_VAL : self->when;
    if (FL_UNLIKELY(fl_heap_push(&loop->timers, &self->node, key) < 0)) {
        return -1;
    }
    if (self->node.index == 0 && !far) {
        loop->timers_changed = true;
    }
    Py_INCREF(self);
    return 0;
}

/* HOT */
FLTimer *
fl_timer_new(FLLoop *loop, double when, PyObject *callback,
             PyObject *const *args, Py_ssize_t nargs, PyObject *context)
{
    FLTimer *self = allocate(loop, when);
    if (self == NULL) {
        return NULL;
    }
    int status =
        fl_handle_setup(&self->base, loop, callback, args, nargs, context);
    PyObject_GC_Track(self);
    if (FL_UNLIKELY(status < 0 || schedule(loop, self, false) < 0)) {
        Py_CLEAR(self);
    }
    return self;
}

/* HOT */
FLTimer *
fl_timer_new_native(FLLoop *loop, double now, double when, PyMethodDef *method,
                    PyObject *owner)
{
    FLTimer *self = allocate(loop, when);
    if (self == NULL) {
        return NULL;
    }
    fl_handle_setup_native(&self->base, loop, method, owner);
    PyObject_GC_Track(self);
    if (FL_UNLIKELY(schedule(loop, self, when - now >= FAR_S) < 0)) {
        Py_CLEAR(self);
    }
    return self;
}

/* Move the first n, which are in order, to the ready ring. */
static int
fire_many(FLLoop *loop, uint32_t n)
{
    uint32_t i = 0;
    while (i < n) {
        FLTimer *timer = fl_timer_of_node(loop->timers.items[i].node);
        if (fl_ring_push(&loop->ready, (uintptr_t)timer | FL_READY_HANDLE)
            < 0) {
            break;
        }
        fl_heap_take(&loop->timers, i++);
    }
    fl_heap_drop_first(&loop->timers, i);
    return i < n ? -1 : 0;
}

/* HOT */
int
fl_timers_fire(FLLoop *loop, double now)
{
    struct fl_heap *timers = &loop->timers;
    if (fl_heap_empty(timers) || fl_heap_first_key(timers) > now) {
        return 0;
    }
    uint32_t many = fl_heap_sort_up_to(timers, now);
    if (many > 0) {
        return fire_many(loop, many);
    }
    while (!fl_heap_empty(timers) && fl_heap_first_key(timers) <= now) {
        struct fl_heap_node *node = fl_heap_first(timers);
        fl_heap_remove(timers, node);
        FLTimer *timer = fl_timer_of_node(node);
        if (fl_loop_push(loop, FL_READY_HANDLE, timer) < 0) {
            return -1;
        }
    }
    return 0;
}

int
fl_timer_cancel(FLTimer *self)
{
    bool scheduled =
        self->node.index != FL_HEAP_OUT && self->base.loop != NULL;
    if (scheduled) {
        fl_heap_remove(&self->base.loop->timers, &self->node);
    }
    int status = fl_handle_cancel(&self->base);
    if (scheduled) {
        Py_DECREF(self); /* the heap's; the caller holds another */
    }
    return status;
}

PyDoc_STRVAR(cancel_doc,
             "cancel($self, /)\n--\n\n"
             "Cancel the callback; it leaves the loop's heap at once.");

static PyObject *
timer_cancel(FLTimer *self, PyObject *Py_UNUSED(ignored))
{
    if (fl_timer_cancel(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* --- life ------------------------------------------------------------------ */

static void
timer_dealloc(FLTimer *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    FL_ASSERT(self->node.index == FL_HEAP_OUT);
    fl_state *st = self->base.loop == NULL ? NULL : self->base.loop->st;
    if (self->base.weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    fl_handle_clear(&self->base);
    if (st != NULL && type == st->TimerHandleType
        && fl_freelist_put_fresh(&st->timers, (PyObject *)self)) {
        return;
    }
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

/* --- what Python sees --------------------------------------------------------- */

static int
is_timer(FLTimer *self, PyObject *other)
{
    return PyObject_IsInstance(other,
                               self->base.loop->st->imp.asyncio_TimerHandle);
}

static int
same_attribute(PyObject *a, PyObject *b, const char *name)
{
    PyObject *x = PyObject_GetAttrString(a, name);
    PyObject *y = x == NULL ? NULL : PyObject_GetAttrString(b, name);
    int same = y == NULL ? -1 : PyObject_RichCompareBool(x, y, Py_EQ);
    Py_XDECREF(x);
    Py_XDECREF(y);
    return same;
}

/* asyncio's rule: same deadline, callback, arguments and cancellation */
static int
timers_equal(PyObject *a, PyObject *b)
{
    static const char *const names[] = {"_when", "_callback", "_args",
                                        "_cancelled"};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        int same = same_attribute(a, b, names[i]);
        if (same <= 0) {
            return same;
        }
    }
    return 1;
}

static PyObject *
timer_richcompare(FLTimer *self, PyObject *other, int op)
{
    int status = is_timer(self, other);
    if (status < 0) {
        return NULL;
    }
    if (status == 0) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    PyObject *when = PyObject_GetAttrString(other, "_when");
    if (when == NULL) {
        return NULL;
    }
    double theirs = PyFloat_AsDouble(when);
    Py_DECREF(when);
    if (theirs == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    if (op == Py_LT || (op == Py_LE && self->when < theirs)) {
        return PyBool_FromLong(self->when < theirs);
    }
    if (op == Py_GT || (op == Py_GE && self->when > theirs)) {
        return PyBool_FromLong(self->when > theirs);
    }
    int same = timers_equal((PyObject *)self, other);
    return same < 0 ? NULL : PyBool_FromLong(op == Py_NE ? !same : same);
}

static Py_hash_t
timer_hash(FLTimer *self)
{
    PyObject *when = PyFloat_FromDouble(self->when);
    if (when == NULL) {
        return -1;
    }
    Py_hash_t hash = PyObject_Hash(when);
    Py_DECREF(when);
    return hash;
}

PyDoc_STRVAR(when_doc, "when($self, /)\n--\n\n"
                       "Return the deadline as a float: seconds on the clock "
                       "of Loop.time().");

static PyObject *
timer_when(FLTimer *self, PyObject *Py_UNUSED(ignored))
{
    return PyFloat_FromDouble(self->when);
}

static PyObject *
get_when(FLTimer *self, void *Py_UNUSED(closure))
{
    return PyFloat_FromDouble(self->when);
}

static PyObject *
get_scheduled(FLTimer *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->node.index != FL_HEAP_OUT);
}

static PyMethodDef timer_methods[] = {
    {"cancel", (PyCFunction)timer_cancel, METH_NOARGS, cancel_doc},
    {"when", (PyCFunction)timer_when, METH_NOARGS, when_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef timer_getset[] = {
    {"_when", (getter)get_when, NULL, NULL, NULL},
    {"_scheduled", (getter)get_scheduled, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(timer_doc, "A callback scheduled for a time, returned by "
                        "Loop.call_later() and Loop.call_at().\n\n"
                        "See asyncio.TimerHandle.");

static PyType_Slot timer_slots[] = {
    {Py_tp_doc, (void *)timer_doc},
    {Py_tp_dealloc, timer_dealloc},
    {Py_tp_traverse, fl_handle_traverse},
    {Py_tp_clear, fl_handle_clear},
    {Py_tp_richcompare, timer_richcompare},
    {Py_tp_hash, timer_hash},
    {Py_tp_methods, timer_methods},
    {Py_tp_getset, timer_getset},
    {0, NULL},
};

static PyType_Spec timer_spec = {
    .name = "fastloop.TimerHandle",
    .basicsize = sizeof(FLTimer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE
             | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = timer_slots,
};

int
fl_timer_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    return fl_state_add_type(module, &st->TimerHandleType, &timer_spec,
                             (PyObject *)st->HandleType);
}
