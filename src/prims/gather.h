/* gather() */
#ifndef FL_PRIMS_GATHER_H
#define FL_PRIMS_GATHER_H

#include "prims/common.h"

PyObject *fl_gather(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames);
extern const char fl_gather_doc[];

int fl_gather_init_types(PyObject *module);

#endif
