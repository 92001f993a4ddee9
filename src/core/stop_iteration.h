/* Returning a value from a C iterator that a coroutine awaits. */
#ifndef FL_CORE_STOP_ITERATION_H
#define FL_CORE_STOP_ITERATION_H

#include "base/compat.h"
#include "base/state.h"

/* For tp_iternext: end the iteration with value.  Always returns NULL, with no
   exception set when value is None.  Steals value. */
PyObject *fl_stop_iteration(fl_state *st, FL_STEALS(2) PyObject *value);

/* An iterator has given NULL: PYGEN_RETURN with its value, which StopIteration may
   carry, in *result, or PYGEN_ERROR with another exception left raised. */
FL_COLD PySendResult fl_iteration_end(PyObject **result);

int fl_stop_iteration_init_types(PyObject *module);

#endif
