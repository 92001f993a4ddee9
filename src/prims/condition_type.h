/* Between the two files of Condition: its waiting and its type. */
#ifndef FL_PRIMS_CONDITION_TYPE_H
#define FL_PRIMS_CONDITION_TYPE_H

#include "prims/guard.h"

typedef struct {
    FLBound base;
    struct fl_waiters waiters;
    PyObject *lock; /* owned; NULL until __init__ */
} FLCondition;

/* _notify(n): ours; perhaps overridden; the same if the lock is held, else
   RuntimeError; and notify(as many as wait). */
int fl_condition_notify_some(FLCondition *self, PyObject *n);
int fl_condition_notify(FLCondition *self, PyObject *n);
int fl_condition_notify_locked(FLCondition *self, PyObject *n);
int fl_condition_notify_waiting(FLCondition *self);

PyObject *fl_condition_wait_coro(FLBound *self);
PyObject *fl_condition_wait_for_coro(FLBound *self, PyObject *predicate);

#endif
