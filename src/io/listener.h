/* Listener: accepts the connections of one listening socket of a server. */
#ifndef FL_IO_LISTENER_H
#define FL_IO_LISTENER_H

#include "io/server.h"
#include "io/watch.h"

typedef struct {
    PyObject_HEAD
    FLLoop *loop;      /* owned */
    FLServer *server;  /* owned */
    PyObject *sock;    /* owned; Python's socket, which owns the descriptor */
    PyObject *factory; /* owned; protocol factory */
    PyObject *context; /* owned; copied for connections; NULL: empty */
    struct fl_attached attached; /* linked while listening */
    struct fl_watcher watcher;
    int fd;
    int backlog;
} FLListener;

int fl_listener_init_types(PyObject *module);

#endif
