/* as_completed() */
#ifndef FL_PRIMS_AS_COMPLETED_H
#define FL_PRIMS_AS_COMPLETED_H

#include "prims/common.h"

PyObject *fl_as_completed(PyObject *module, PyObject *const *args,
                          Py_ssize_t nargs, PyObject *kwnames);
extern const char fl_as_completed_doc[];

int fl_as_completed_init_types(PyObject *module);

#endif
