/* A coroutine that is over as soon as it is awaited, with None: one object for all,
   for what does its work before it is awaited. */
#ifndef FL_PRIMS_DONE_H
#define FL_PRIMS_DONE_H

#include "base/state.h"

/* It, a new reference. */
static inline PyObject *
fl_done_coro(fl_state *st)
{
    return Py_NewRef(st->done_coro);
}

int fl_done_init_types(PyObject *module);

#endif
