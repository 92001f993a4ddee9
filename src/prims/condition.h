/* Condition: wait to be notified by who holds the same lock. */
#ifndef FL_PRIMS_CONDITION_H
#define FL_PRIMS_CONDITION_H

#include "prims/guard.h"

/* A new Condition with a lock of its own. */
FLBound *fl_condition_make(fl_state *st);

/* self.wait(), directly where nobody overrides it. */
PyObject *fl_condition_wait(FLBound *self);

int fl_condition_init_types(PyObject *module);

#endif
