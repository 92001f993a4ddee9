/* SockOp: what the sock_* methods return, to be awaited once.

   It behaves as the coroutine that asyncio's methods return: nothing happens before
   the first send(), the call is tried then, and only if it would block is there a
   future to wait for.  When the descriptor is ready the task is woken and the call
   made in its step, so that a cancelled task never loses data that was read. */
#ifndef FL_IO_SOCK_OP_H
#define FL_IO_SOCK_OP_H

#include "core/future.h"
#include "io/watch.h"

/* The order is that of the names in sock_op.c. */
enum fl_sock_call {
    FL_SOCK_RECV = 0,      /* size */
    FL_SOCK_RECV_INTO,     /* buffer */
    FL_SOCK_RECVFROM,      /* size */
    FL_SOCK_RECVFROM_INTO, /* buffer, size */
    FL_SOCK_SENDALL,       /* data */
    FL_SOCK_SENDTO,        /* data, address */
    FL_SOCK_ACCEPT,
    FL_SOCK_READABLE, /* no call: just wait until it would not block */
    FL_SOCK_WRITABLE,
};

enum fl_sock_phase {
    FL_SOCK_NEW = 0,
    FL_SOCK_RUNNING,
    FL_SOCK_WAITING,
    FL_SOCK_DONE,
};

typedef struct FLSockOp {
    PyObject_HEAD
    PyObject *weakrefs;
    FLLoop *loop;      /* owned */
    PyObject *sock;    /* owned; NULL once done, as the next two */
    PyObject *args[2]; /* owned; as listed above */
    PyObject *origin;  /* owned; where it was made, in debug mode, or NULL */
    FLFuture *waiter;  /* owned; while waiting */
    struct fl_watcher watcher;
    Py_buffer data;  /* sendall: what is sent, once it had to wait */
    size_t sent;     /* sendall: how much of it is */
    Py_ssize_t size; /* recv, recvfrom: how much to ask for */
    int fd;          /* what is watched while waiting */
    int family;      /* of the socket; 0: not asked */
    uint8_t call;    /* enum fl_sock_call */
    uint8_t phase;   /* enum fl_sock_phase */
    bool by_method;  /* sock's own method is called, not the kernel */
    bool waited;     /* sock_calls.c: has it been tried before? */
} FLSockOp;

/* args are borrowed; unused ones NULL. */
PyObject *fl_sock_op_new(FLLoop *loop, enum fl_sock_call call, PyObject *sock,
                         PyObject *first, PyObject *second);

static inline enum fl_direction
fl_sock_direction(const FLSockOp *op)
{
    switch ((enum fl_sock_call)op->call) {
        case FL_SOCK_SENDALL:
        case FL_SOCK_SENDTO:
        case FL_SOCK_WRITABLE:
            return FL_WRITE;
        default:
            return FL_READ;
    }
}

/* sock_calls.c, sock_transfer.c.  prepare: check the arguments; 0, or -1 with an exception.  try: 1
   done and *result is a new reference, 0 it would block, -1 exception. */
int fl_sock_prepare(FLSockOp *op);
int fl_sock_try(FLSockOp *op, PyObject **result);
/* The socket's descriptor, as it says itself; -1 with an exception on error, -1
   without one if it is closed. */
int fl_sock_fileno(FLSockOp *op);

int fl_sock_op_init_types(PyObject *module);

#endif
