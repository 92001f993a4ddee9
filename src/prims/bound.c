#include "prims/bound.h"

#include "base/args.h"
#include "prims/bound_type.h"
#include "prims/common.h"
#include "prims/stream_own.h"

/* --- who overrides what --------------------------------------------------------- */

struct overridable {
    uint16_t name; /* offset in fl_state; 0 ends the list */
    uint16_t bit;  /* enum fl_own */
};

static const struct overridable lock_names[] = {
    {FL_NAME(_get_loop), FL_OWN_GET_LOOP},
    {FL_NAME(acquire), FL_OWN_ACQUIRE},
    {FL_NAME(release), FL_OWN_RELEASE},
    {FL_NAME(_wake_up_first), FL_OWN_WAKE},
    {0, 0},
};
static const struct overridable event_names[] = {
    {FL_NAME(_get_loop), FL_OWN_GET_LOOP},
    {0, 0},
};
/* acquire, release and locked of a condition are always looked up */
static const struct overridable condition_names[] = {
    {FL_NAME(_get_loop), FL_OWN_GET_LOOP},
    {FL_NAME(_notify), FL_OWN_WAKE},
    {FL_NAME(wait), FL_OWN_WAIT},
    {FL_NAME(notify), FL_OWN_NOTIFY},
    {0, 0},
};
static const struct overridable semaphore_names[] = {
    {FL_NAME(_get_loop), FL_OWN_GET_LOOP},
    {FL_NAME(acquire), FL_OWN_ACQUIRE},
    {FL_NAME(release), FL_OWN_RELEASE},
    {FL_NAME(_wake_up_next), FL_OWN_WAKE},
    {FL_NAME(locked), FL_OWN_LOCKED},
    {0, 0},
};
static const struct overridable barrier_names[] = {
    {FL_NAME(wait), FL_OWN_WAIT},
    {0, 0},
};
static const struct overridable queue_names[] = {
    {FL_NAME(_get_loop), FL_OWN_GET_LOOP},
    {FL_NAME(_wakeup_next), FL_OWN_WAKE},
    {FL_NAME(empty), FL_OWN_EMPTY},
    {FL_NAME(full), FL_OWN_FULL},
    {FL_NAME(qsize), FL_OWN_QSIZE},
    {FL_NAME(_get), FL_OWN_GET},
    {FL_NAME(_put), FL_OWN_PUT},
    {FL_NAME(get_nowait), FL_OWN_GET_NOWAIT},
    {FL_NAME(put_nowait), FL_OWN_PUT_NOWAIT},
    {FL_NAME(_init), FL_OWN_INIT},
    {0, 0},
};

static const struct overridable reader_names[] = {
    {FL_NAME(read), FL_OWN_READ},
    {FL_NAME(readline), FL_OWN_READLINE},
    {FL_NAME(readuntil), FL_OWN_READUNTIL},
    {FL_NAME(feed_data), FL_OWN_FEED_DATA},
    {FL_NAME(feed_eof), FL_OWN_FEED_EOF},
    {FL_NAME(exception), FL_OWN_EXCEPTION},
    {FL_NAME(set_exception), FL_OWN_SET_EXCEPTION},
    {FL_NAME(set_transport), FL_OWN_SET_TRANSPORT},
    {FL_NAME(_wait_for_data), FL_OWN_WAIT_FOR_DATA},
    {FL_NAME(_wakeup_waiter), FL_OWN_WAKEUP},
    {FL_NAME(_maybe_resume_transport), FL_OWN_RESUME},
    {0, 0},
};
static const struct overridable protocol_names[] = {
    {FL_NAME(data_received), FL_OWN_DATA_RECEIVED},
    {FL_NAME(_drain_helper), FL_OWN_DRAIN_HELPER},
    {FL_NAME(_get_close_waiter), FL_OWN_CLOSE_WAITER},
    {0, 0},
};
/* all that a writer calls is called on its transport and protocol */
static const struct overridable writer_names[] = {
    {0, 0},
};

static const struct {
    size_t type; /* offset in fl_state */
    const struct overridable *names;
} kinds[] = {
    [FL_LOCK] = {offsetof(fl_state, LockType), lock_names},
    [FL_EVENT] = {offsetof(fl_state, EventType), event_names},
    [FL_CONDITION] = {offsetof(fl_state, ConditionType), condition_names},
    [FL_SEMAPHORE] = {offsetof(fl_state, SemaphoreType), semaphore_names},
    [FL_BOUNDED_SEMAPHORE] = {offsetof(fl_state, BoundedSemaphoreType),
                              semaphore_names},
    [FL_BARRIER] = {offsetof(fl_state, BarrierType), barrier_names},
    [FL_QUEUE] = {offsetof(fl_state, QueueType), queue_names},
    [FL_LIFO_QUEUE] = {offsetof(fl_state, LifoQueueType), queue_names},
    [FL_PRIORITY_QUEUE] = {offsetof(fl_state, PriorityQueueType), queue_names},
    [FL_STREAM_READER] = {offsetof(fl_state, StreamReaderType), reader_names},
    [FL_STREAM_PROTOCOL] = {offsetof(fl_state, StreamProtocolType),
                            protocol_names},
    [FL_STREAM_WRITER] = {offsetof(fl_state, StreamWriterType), writer_names},
};

static PyObject *
name_at(fl_state *st, uint16_t offset)
{
    return *(PyObject **)(void *)((char *)st + offset);
}

static PyTypeObject *
native_type(fl_state *st, uint8_t kind)
{
    return *(PyTypeObject **)(void *)((char *)st + kinds[kind].type);
}

/* The C module that made a type, or NULL (borrowed). */
static const PyObject *
module_of(PyTypeObject *type)
{
    return PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE)
               ? ((PyHeapTypeObject *)type)->ht_module
               : NULL;
}

/* Is the method that type has under this name the one that we gave to native? */
static bool
is_ours(PyTypeObject *type, PyTypeObject *native, PyObject *name)
{
    PyObject *method = PyObject_GetAttr((PyObject *)type, name);
    PyObject *base =
        method == NULL ? NULL : PyObject_GetAttr((PyObject *)native, name);
    bool ours = false;
    if (base == NULL) {
        PyErr_Clear();
    }
    else if (method == base && Py_IS_TYPE(method, &PyMethodDescr_Type)) {
        ours = module_of(PyDescr_TYPE(method)) == module_of(native)
               && PyUnicode_Compare(PyDescr_NAME(method), name) == 0;
    }
    Py_XDECREF(method);
    Py_XDECREF(base);
    return ours;
}

/* The tag of a type changes with each change to its methods or its bases'. */
FL_COLD uint32_t
fl_bound_find_overrides(FLBound *self)
{
    if (self->patched) {
        return UINT32_MAX;
    }
    fl_state *st = self->st;
    PyTypeObject *type = Py_TYPE(self);
    PyTypeObject *native = native_type(st, self->kind);
    struct fl_methods *known = &st->methods[self->kind];
    if (type->tp_version_tag != 0 && type->tp_version_tag == known->checked) {
        return known->overridden;
    }
    uint32_t overridden = 0;
    const struct overridable *o = kinds[self->kind].names;
    for (; o->name != 0; o++) {
        if (!is_ours(type, native, name_at(st, o->name))) {
            overridden |= o->bit;
        }
    }
    /* looking them up has given the type a tag */
    if (type == native && overridden == 0) {
        known->plain = type->tp_version_tag;
    }
    else {
        known->checked = type->tp_version_tag;
        known->overridden = overridden;
    }
    return overridden;
}

/* A method put on the instance itself overrides, too. */
int
fl_bound_setattro(FLBound *self, PyObject *name, PyObject *value)
{
    if (PyObject_GenericSetAttr((PyObject *)self, name, value) < 0) {
        return -1;
    }
    const struct overridable *o = kinds[self->kind].names;
    for (; o->name != 0 && !self->patched; o++) {
        int same = PyUnicode_Compare(name, name_at(self->st, o->name));
        if (same == -1 && PyErr_Occurred()) {
            return -1;
        }
        self->patched = same == 0;
    }
    return 0;
}

PyObject *
fl_bound_call(FLBound *self, PyObject *name, PyObject *argument)
{
    PyObject *args[] = {(PyObject *)self, argument};
    return PyObject_VectorcallMethod(name, args, argument == NULL ? 1 : 2,
                                     NULL);
}

int
fl_bound_ask(FLBound *self, PyObject *name)
{
    PyObject *answer = fl_bound_call(self, name, NULL);
    int truth = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return truth;
}

/* --- life ------------------------------------------------------------------ */

int
fl_bound_add_type(PyObject *module, PyTypeObject **slot, PyType_Spec *spec,
                  PyObject *base)
{
    if (fl_state_add_type(module, slot, spec, base) < 0) {
        return -1;
    }
    (*slot)->tp_name = fl_type_name(*slot); /* the end of the same string */
    return 0;
}

FLBound *
fl_bound_new(PyTypeObject *type, enum fl_bound_kind kind)
{
    FLBound *self = (FLBound *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->st = fl_state_of_type(type);
        self->kind = (uint8_t)kind;
    }
    return self;
}

int
fl_bound_traverse(FLBound *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->dict);
    Py_VISIT(self->loop);
    return 0;
}

void
fl_bound_clear(FLBound *self)
{
    Py_CLEAR(self->dict);
    self->native = false;
    Py_CLEAR(self->loop);
}

PyObject *
fl_bound_repr(FLBound *self, PyObject *what)
{
    if (what == NULL) {
        return NULL;
    }
    PyObject *plain = PyBaseObject_Type.tp_repr((PyObject *)self);
    PyObject *result = NULL;
    if (plain != NULL) {
        PyObject *start =
            PyUnicode_Substring(plain, 0, PyUnicode_GET_LENGTH(plain) - 1);
        if (start != NULL) {
            result = PyUnicode_FromFormat("%U [%U]>", start, what);
            Py_DECREF(start);
        }
        Py_DECREF(plain);
    }
    Py_DECREF(what);
    return result;
}

/* --- the loop ---------------------------------------------------------------- */

static void
bind_to(FLBound *self, PyObject *loop)
{
    Py_XSETREF(self->loop, Py_XNewRef(loop));
    self->native = loop != NULL && fl_is_loop(self->st, loop)
                   && ((FLLoop *)loop)->phase != FL_LOOP_NEW;
}

/* Is self bound to a loop of ours that runs in this thread?  Then it is the
   running one. */
static inline bool
is_at_home(const FLBound *self)
{
    const FLLoop *loop = (FLLoop *)self->loop;
    return self->native && loop->running
           && loop->thread_id == PyThread_get_thread_ident();
}

PyObject *
fl_bound_get_loop(FLBound *self)
{
    if (FL_LIKELY(is_at_home(self))) {
        return Py_NewRef(self->loop);
    }
    PyObject *loop = PyObject_CallNoArgs(self->st->imp.get_running_loop);
    if (loop == NULL) {
        return NULL;
    }
    if (self->loop == NULL || self->loop == Py_None) {
        bind_to(self, loop);
    }
    if (FL_UNLIKELY(loop != self->loop)) {
        Py_DECREF(loop);
        PyErr_Format(PyExc_RuntimeError,
                     "%R is bound to a different event loop", self);
        return NULL;
    }
    return loop;
}

/* Is the future that we would make the one that the loop would? */
static inline bool
makes_native(const FLBound *self, PyObject *loop)
{
    return loop == self->loop && self->native && ((FLLoop *)loop)->plain;
}

/* HOT */
PyObject *
fl_bound_create_future(FLBound *self)
{
    bool own = fl_bound_overrides(self) & FL_OWN_GET_LOOP;
    PyObject *loop = FL_UNLIKELY(own)
                         ? fl_bound_call(self, self->st->str._get_loop, NULL)
                         : fl_bound_get_loop(self);
    if (loop == NULL) {
        return NULL;
    }
    PyObject *future = FL_LIKELY(makes_native(self, loop))
                           ? (PyObject *)fl_future_new((FLLoop *)loop)
                           : fl_loop_create_future(self->st, loop);
    Py_DECREF(loop);
    return future;
}

/* --- what Python sees ---------------------------------------------------------- */

const char fl_bound_get_loop_doc[] =
    "_get_loop($self, /)\n--\n\n"
    "Return the running loop; bind to it, or raise RuntimeError if bound to\n"
    "another.";

PyObject *
fl_bound_get_loop_method(FLBound *self, PyObject *Py_UNUSED(ignored))
{
    return fl_bound_get_loop(self);
}

PyObject *
fl_bound_loop_getter(FLBound *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->loop == NULL ? Py_None : self->loop);
}

int
fl_bound_loop_setter(FLBound *self, PyObject *value, void *Py_UNUSED(closure))
{
    bind_to(self, value);
    return 0;
}
