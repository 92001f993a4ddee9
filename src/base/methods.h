/* Inherited methods made a type's own.

   CPython calls a C method straight from its bytecode only where the object is of the
   very type that the method's descriptor was made for.  An inherited method takes the
   long way: half as many instructions more for Task.done(). */
#ifndef FL_BASE_METHODS_H
#define FL_BASE_METHODS_H

#include "base/compat.h"

/* Give a type that nobody uses yet descriptors of its own for the C methods of its bases,
   but for those of Python's own types.  0, or -1 with an exception. */
int fl_own_methods(PyTypeObject *type);

#endif
