/* The one place where a libuv code becomes a Python exception. */
#ifndef FL_BASE_ERRORS_H
#define FL_BASE_ERRORS_H

#include "base/compat.h"

/* A new OSError (the subclass that belongs to the errno) for rc < 0, worded as
   Python words it; NULL with an exception set when that fails. */
PyObject *fl_uv_error(int rc);

/* Raise it; returns NULL for `return fl_raise_uv(rc);`. */
PyObject *fl_raise_uv(int rc);

/* Is it an exception that must not be swallowed by a callback's handler?
   (KeyboardInterrupt and SystemExit leave run_forever, as in asyncio.) */
bool fl_exception_is_fatal(PyObject *exc);

/* __reduce__ of what has no __new__: without it, protocols 0 and 1 would pickle an
   empty shell.  Always raises TypeError. */
PyObject *fl_refuse_pickle(PyObject *self, PyObject *ignored);

#endif
