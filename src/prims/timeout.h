/* timeout(), timeout_at(), Timeout */
#ifndef FL_PRIMS_TIMEOUT_H
#define FL_PRIMS_TIMEOUT_H

#include "prims/common.h"

typedef struct FLTimeout FLTimeout;

/* A Timeout that is not entered, for delay seconds from now on; delay may be None. */
FLTimeout *fl_timeout_new(fl_state *st, PyObject *delay);

/* What `async with` does.  enter: 0 or -1.  exit: with the exception that ends the
   block, or NULL; 0, or -1 with another one raised. */
int fl_timeout_enter(FLTimeout *timeout);
int fl_timeout_exit(FLTimeout *timeout, PyObject *exc);

PyObject *fl_timeout(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                     PyObject *kwnames);
PyObject *fl_timeout_at(PyObject *module, PyObject *const *args,
                        Py_ssize_t nargs, PyObject *kwnames);
extern const char fl_timeout_doc[];
extern const char fl_timeout_at_doc[];

int fl_timeout_init_types(PyObject *module);

#endif
