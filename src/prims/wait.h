/* wait() */
#ifndef FL_PRIMS_WAIT_H
#define FL_PRIMS_WAIT_H

#include "prims/common.h"

PyObject *fl_wait(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames);
extern const char fl_wait_doc[];

int fl_wait_init_types(PyObject *module);

#endif
