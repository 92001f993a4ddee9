/* Semaphore and BoundedSemaphore: so many at a time, first come first served. */
#ifndef FL_PRIMS_SEMAPHORE_H
#define FL_PRIMS_SEMAPHORE_H

#include "prims/guard.h"

int fl_semaphore_init_types(PyObject *module);

#endif
