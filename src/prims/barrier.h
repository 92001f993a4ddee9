/* Barrier: so many tasks meet, then all go on. */
#ifndef FL_PRIMS_BARRIER_H
#define FL_PRIMS_BARRIER_H

#include "base/state.h"

int fl_barrier_init_types(PyObject *module);

#endif
