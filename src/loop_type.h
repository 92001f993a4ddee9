/* LoopBase, the C part of fastloop.Loop. */
#ifndef FL_LOOP_TYPE_H
#define FL_LOOP_TYPE_H

#include "core/loop.h"

int fl_loop_init_types(PyObject *module);

#endif
