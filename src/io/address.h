/* Socket addresses as Python's socket module writes them. */
#ifndef FL_IO_ADDRESS_H
#define FL_IO_ADDRESS_H

#include "base/common.h"

#include <sys/socket.h>

/* Of an IPv4 or IPv6 address; None for others. */
PyObject *fl_address_to_python(const struct sockaddr *address);

/* Of a Unix socket, size bytes: a path is text, an abstract name bytes, no name the
   empty text. */
PyObject *fl_unix_name_to_python(const struct sockaddr *address,
                                 socklen_t size);

#endif
