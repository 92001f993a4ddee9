/* The bytes objects that received data is given on as.

   A loop keeps the last one.  If nobody else has by the time of the next, which is
   so after an echo or when the data was parsed, that is the same object with new
   contents: memory of more than 512 bytes is malloc's, and costs a tenth of all the
   instructions of an echo. */
#ifndef FL_IO_RECEIVED_H
#define FL_IO_RECEIVED_H

#include "io/io.h"

/* A new reference; NULL with MemoryError. */
PyObject *fl_received_bytes(FLLoop *loop, const char *data, size_t size);

#endif
