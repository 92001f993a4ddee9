/* Socket addresses of any length, to Python and back, and a memory of recent ones.

   Python makes an address a tuple, and so do we; but a server answers the same
   few peers again and again, so the tuples are kept and given out again. */
#ifndef FL_IO_SOCKADDR_H
#define FL_IO_SOCKADDR_H

#include "base/compat.h"

#include <sys/socket.h>

struct fl_io;

struct fl_sockaddr {
    socklen_t size; /* 0: no address */
    union {
        struct sockaddr any;
        struct sockaddr_storage storage;
    } u;
};

/* Are addresses of this family converted here? */
bool fl_sockaddr_known(int family);

/* What Python's socket module makes of an address of a known family: a tuple, a
   path, or None for no address.  A new reference. */
PyObject *fl_sockaddr_to_python(const struct fl_sockaddr *address);

/* The same, out of the memory. */
PyObject *fl_sockaddr_remembered(struct fl_io *io,
                                 const struct fl_sockaddr *address);

/* The reverse for a plain tuple with a numeric host.  false, with no exception, for
   whatever else Python may understand. */
bool fl_sockaddr_from_python(struct fl_io *io, int family, PyObject *tuple,
                             struct fl_sockaddr *address);

void fl_sockaddr_forget(struct fl_io *io);

#endif
