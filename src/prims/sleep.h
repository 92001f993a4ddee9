/* sleep() */
#ifndef FL_PRIMS_SLEEP_H
#define FL_PRIMS_SLEEP_H

#include "prims/coro.h"

PyObject *fl_sleep(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames);
extern const char fl_sleep_doc[];

#endif
