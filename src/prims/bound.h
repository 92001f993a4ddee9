/* What Lock, Event, Queue and the other primitives have in common: they are bound
   to the loop they first wait on, and a user's subclass may override what they do.

   asyncio's primitives are Python classes, whose methods call one another by name,
   so that a subclass, a patched class or a patched instance has its say.  Ours look
   whether anybody has one (fl_bound_overrides(), two comparisons), and call each
   other in C where not. */
#ifndef FL_PRIMS_BOUND_H
#define FL_PRIMS_BOUND_H

#include "core/future.h"

/* Which of our types an object is of, subclasses included. */
enum fl_bound_kind {
    FL_LOCK,
    FL_EVENT,
    FL_CONDITION,
    FL_SEMAPHORE,
    FL_BOUNDED_SEMAPHORE,
    FL_BARRIER,
    FL_QUEUE,
    FL_LIFO_QUEUE,
    FL_PRIORITY_QUEUE,
    FL_STREAM_READER,
    FL_STREAM_PROTOCOL,
    FL_STREAM_WRITER,
};
_Static_assert(FL_STREAM_WRITER + 1 == FL_STATE_METHODS, "one for each kind");

/* The overridable methods, one bit each. */
enum fl_own {
    FL_OWN_GET_LOOP = 1 << 0,
    FL_OWN_ACQUIRE = 1 << 1, /* Lock, Semaphore */
    FL_OWN_RELEASE = 1 << 2,
    FL_OWN_WAKE = 1 << 3,   /* Lock._wake_up_first, Semaphore._wake_up_next,
                                Condition._notify, Queue._wakeup_next */
    FL_OWN_LOCKED = 1 << 4, /* Semaphore */
    FL_OWN_WAIT = 1 << 5,   /* Condition, Barrier */
    FL_OWN_NOTIFY = 1 << 6, /* Condition */
    FL_OWN_EMPTY = 1 << 7,  /* Queue, from here on */
    FL_OWN_FULL = 1 << 8,
    FL_OWN_QSIZE = 1 << 9,
    FL_OWN_GET = 1 << 10,
    FL_OWN_PUT = 1 << 11,
    FL_OWN_GET_NOWAIT = 1 << 12,
    FL_OWN_PUT_NOWAIT = 1 << 13,
    FL_OWN_INIT = 1 << 14,
};

typedef struct FLBound {
    PyObject_HEAD
    fl_state *st; /* borrowed: our type holds the module */
    PyObject *dict;
    PyObject *weakrefs;
    PyObject *loop; /* owned; NULL: not bound yet */
    uint8_t kind;   /* enum fl_bound_kind */
    bool native;    /* loop is an FLLoop */
    bool patched;   /* an overridable name was set on the instance */
} FLBound;

FL_COLD uint32_t fl_bound_find_overrides(FLBound *self);

/* HOT: which of the methods are not ours (a set of enum fl_own). */
static inline uint32_t
fl_bound_overrides(FLBound *self)
{
    unsigned int version = Py_TYPE(self)->tp_version_tag;
    if (FL_LIKELY(version == self->st->methods[self->kind].plain
                  && version != 0 && !self->patched)) {
        return 0;
    }
    return fl_bound_find_overrides(self);
}

/* fl_state_add_type() for a primitive.  Its C name is cut to what a class in Python
   would have, for messages. */
int fl_bound_add_type(PyObject *module, PyTypeObject **slot, PyType_Spec *spec,
                      PyObject *base);

/* tp_new's work: an inert object, whatever the arguments. */
FLBound *fl_bound_new(PyTypeObject *type, enum fl_bound_kind kind);

int fl_bound_traverse(FLBound *self, visitproc visit, void *arg);
void fl_bound_clear(FLBound *self);
int fl_bound_setattro(FLBound *self, PyObject *name, PyObject *value);

/* The running loop, to which self is bound from now on (a new reference; None if
   none runs).  RuntimeError if self is bound to another. */
PyObject *fl_bound_get_loop(FLBound *self);

/* A future of that loop to wait for, asking _get_loop() and create_future() where
   somebody overrides them. */
PyObject *fl_bound_create_future(FLBound *self);

/* "<fastloop.Lock object at 0x...>" with [what] appended.  Steals what. */
PyObject *fl_bound_repr(FLBound *self, FL_STEALS(2) PyObject *what);

/* self.name(), its truth, and self.name(argument) */
PyObject *fl_bound_call(FLBound *self, PyObject *name, PyObject *argument);
int fl_bound_ask(FLBound *self, PyObject *name);

#endif
