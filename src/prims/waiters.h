/* Who waits for a primitive, in the order they came.

   In asyncio that is a deque of futures, which code outside looks at and tests even
   change.  Ours is a list linked through the coroutines that wait, each with its
   future in slots[FL_WAIT_FUTURE].  Who asks for the deque gets one, and from then
   on the futures are kept in it and nowhere else: what Python has seen stays true.

   Beware: making a future done may run code (a foreign loop's call_soon(), a
   finaliser), as does everything done to the deque.  Functions that go on afterwards
   hold the coroutine they are at, and look at the list anew. */
#ifndef FL_PRIMS_WAITERS_H
#define FL_PRIMS_WAITERS_H

#include "prims/bound.h"
#include "prims/coro.h"

struct fl_waiters {
    struct fl_list coros; /* FLCoro.node, borrowed; owns their futures */
    PyObject *shown; /* owned; what holds the futures once Python has it */
};

void fl_waiters_init(struct fl_waiters *w);

/* Part of tp_traverse: the futures belong to the list. */
int fl_waiters_traverse(const struct fl_waiters *w, visitproc visit,
                        void *arg);

#define FL_VISIT_WAITERS(w)                                                   \
    do {                                                                      \
        int fl_status = fl_waiters_traverse(w, visit, arg);                   \
        if (fl_status != 0) {                                                 \
            return fl_status;                                                 \
        }                                                                     \
    } while (0)

/* Forget everybody. */
void fl_waiters_reset(struct fl_waiters *w);

/* Let coro wait for a new future of the primitive in slots[FL_WAIT_OWNER], at the
   end of w: what its body returns.  w may be NULL to wait apart from any list. */
PySendResult fl_waiters_wait(struct fl_waiters *w, FLCoro *coro,
                             PyObject **result);

/* The two halves of that. */
int fl_waiters_make_future(FLCoro *coro);
int fl_waiters_add(struct fl_waiters *w, FLCoro *coro);

/* coro waits no more.  -1: the deque raised (ValueError: it is not there). */
int fl_waiters_remove(struct fl_waiters *w, FLCoro *coro);

/* HOT */
static inline bool
fl_waiters_empty(const struct fl_waiters *w)
{
    return w->shown == NULL && fl_list_empty(&w->coros);
}

/* How many there are; -1 on error. */
Py_ssize_t fl_waiters_count(fl_state *st, const struct fl_waiters *w);

/* Is anybody there whose future was not cancelled?  1, 0, -1. */
int fl_waiters_any(fl_state *st, struct fl_waiters *w);

/* Give value to the first that is not done.  1: did, 0: there is none, -1. */
int fl_waiters_wake(fl_state *st, struct fl_waiters *w, PyObject *value);

/* Give value to the first n that are not done.  0 or -1. */
int fl_waiters_wake_many(fl_state *st, struct fl_waiters *w, Py_ssize_t n,
                         PyObject *value);

/* Give True to the first, unless it is done.  0 or -1. */
int fl_waiters_wake_head(fl_state *st, struct fl_waiters *w);

/* Remove from the left up to and with the first that is not done, which gets None
   (all: go on to the end).  0 or -1. */
int fl_waiters_pop(fl_state *st, struct fl_waiters *w, bool all);
int fl_waiters_pop_shown(fl_state *st, PyObject *deque, bool all);

/* The deque (a new reference), and another one in its place. */
PyObject *fl_waiters_show(fl_state *st, struct fl_waiters *w);
void fl_waiters_replace(struct fl_waiters *w, PyObject *deque);

#endif
