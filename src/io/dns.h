/* Names that need no resolver. */
#ifndef FL_IO_DNS_H
#define FL_IO_DNS_H

#include "base/compat.h"
#include "base/state.h"

/* getaddrinfo_numeric(host, port, family, type, proto, flags): the list that
   socket.getaddrinfo() would return if host is a numeric address and port a
   number; None if that takes a resolver. */
PyObject *fl_getaddrinfo_numeric(PyObject *module, PyObject *const *args,
                                 Py_ssize_t nargs);

#endif
