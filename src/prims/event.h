/* Event: a flag to wait for. */
#ifndef FL_PRIMS_EVENT_H
#define FL_PRIMS_EVENT_H

#include "prims/guard.h"

typedef struct {
    FLBound base;
    struct fl_waiters waiters;
    bool value;
} FLEvent;

/* A new Event. */
FLEvent *fl_event_make(fl_state *st, bool value);

/* Set the flag and wake everybody.  0 or -1. */
int fl_event_set(FLEvent *self);

/* wait()'s coroutine. */
PyObject *fl_event_wait(FLEvent *self);

int fl_event_init_types(PyObject *module);

#endif
