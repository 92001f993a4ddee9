/* Lock: one at a time, first come first served. */
#ifndef FL_PRIMS_LOCK_H
#define FL_PRIMS_LOCK_H

#include "prims/guard.h"

/* A new Lock. */
PyObject *fl_lock_make(fl_state *st);

int fl_lock_init_types(PyObject *module);

#endif
