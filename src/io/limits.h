/* The marks of flow control, as set_write_buffer_limits() takes them. */
#ifndef FL_IO_LIMITS_H
#define FL_IO_LIMITS_H

#include "base/common.h"

/* high and low are NULL or None where not given; a missing one follows from the
   other, and both from high_default.  0, or -1 with ValueError, TypeError or
   OverflowError. */
int fl_parse_limits(PyObject *high, PyObject *low, Py_ssize_t high_default,
                    size_t *high_mark, size_t *low_mark);

#endif
