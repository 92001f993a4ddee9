/* shield() */
#ifndef FL_PRIMS_SHIELD_H
#define FL_PRIMS_SHIELD_H

#include "prims/common.h"

PyObject *fl_shield(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames);
extern const char fl_shield_doc[];

int fl_shield_init_types(PyObject *module);

#endif
