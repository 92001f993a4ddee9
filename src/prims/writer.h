/* StreamWriter: what a stream sends. */
#ifndef FL_PRIMS_WRITER_H
#define FL_PRIMS_WRITER_H

#include "prims/bound.h"

int fl_writer_init_types(PyObject *module);

#endif
