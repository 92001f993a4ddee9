/* What a coroutine in C awaits and is no future of ours: the iterators behind it. */
#ifndef FL_PRIMS_AWAITED_H
#define FL_PRIMS_AWAITED_H

#include "base/state.h"

/* What `await awaitable` iterates (a new reference). */
PyObject *fl_awaited_iterator(fl_state *st, PyObject *awaitable);

/* Throw exc into it.  PYGEN_NEXT: it yielded *result; PYGEN_RETURN: it gave *result;
   PYGEN_ERROR: it raised. */
PySendResult fl_awaited_throw(fl_state *st, PyObject *iterator, PyObject *exc,
                              PyObject **result);

#endif
