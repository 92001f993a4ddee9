/* The attempts behind SockOp, for sock_calls.c and sock_transfer.c.

   Each returns 1 with a new reference in *result when done, 0 if it would block, -1
   with an exception. */
#ifndef FL_IO_SOCK_CALLS_H
#define FL_IO_SOCK_CALLS_H

#include "io/sock_op.h"
#include "io/sockaddr.h"

/* A system call has failed: 0 if it would block, else -1 with the OSError. */
int fl_sock_failed(void);

/* The socket's own method, name(first, second, third): NULL where there is none. */
int fl_sock_call_method(FLSockOp *op, PyObject *name, PyObject *first,
                        PyObject *second, PyObject *third, PyObject **result);

/* (first, address); first may be NULL with an exception. */
int fl_sock_with_address(FLSockOp *op, FL_STEALS(2) PyObject *first,
                         const struct fl_sockaddr *from, PyObject **result);

int fl_sock_try_recv(FLSockOp *op, int fd, PyObject **result);
int fl_sock_try_recv_into(FLSockOp *op, int fd, PyObject **result);
int fl_sock_try_recvfrom(FLSockOp *op, int fd, PyObject **result);
int fl_sock_try_recvfrom_into(FLSockOp *op, int fd, PyObject **result);
int fl_sock_try_sendall(FLSockOp *op, int fd, PyObject **result);
int fl_sock_try_sendto(FLSockOp *op, int fd, PyObject **result);

#endif
