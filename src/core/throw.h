/* The arguments of throw(), in all the forms that generators take. */
#ifndef FL_CORE_THROW_H
#define FL_CORE_THROW_H

#include "base/compat.h"

/* The exception that throw(*args) has to raise, with its traceback set. */
PyObject *fl_exception_to_throw(PyObject *const *args, Py_ssize_t nargs);

#endif
