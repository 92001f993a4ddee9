/* wait_for() */
#ifndef FL_PRIMS_WAIT_FOR_H
#define FL_PRIMS_WAIT_FOR_H

#include "prims/coro.h"

PyObject *fl_wait_for(PyObject *module, PyObject *const *args,
                      Py_ssize_t nargs, PyObject *kwnames);
extern const char fl_wait_for_doc[];

#endif
