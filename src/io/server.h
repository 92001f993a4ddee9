/* ServerBase: counts the connections of a server, over all its sockets.

   Each transport is in its server's list from accept to connection_lost; when the
   last one has gone the Python side is told. */
#ifndef FL_IO_SERVER_H
#define FL_IO_SERVER_H

#include "core/loop.h"

typedef struct {
    PyObject_HEAD
    PyObject *weakrefs;
    struct fl_list transports; /* FLTransport.in_server, borrowed */
    Py_ssize_t active;
} FLServer;

/* The connection is gone.  Calls _connections_gone() after the last. */
void fl_server_detach(FLServer *server, struct fl_list *in_server);
void fl_server_attach(FLServer *server, struct fl_list *in_server);

int fl_server_init_types(PyObject *module);

#endif
