/* The layer's types and functions, for module.c. */
#ifndef FL_PRIMS_PRIMS_H
#define FL_PRIMS_PRIMS_H

#include "base/state.h"

int fl_prims_init(PyObject *module);

#endif
