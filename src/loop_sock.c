#include "loop_sock.h"

#include "base/args.h"
#include "io/datagram.h"
#include "io/sock_op.h"

/* Parse and make the op: sock and up to two arguments. */
static inline PyObject *
new_op(FLLoop *self, enum fl_sock_call call, const struct fl_signature *sig,
       PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *values[3] = {NULL, NULL, NULL};
    if (FL_UNLIKELY(self->phase == FL_LOOP_NEW)) {
        fl_loop_raise_not_open(self);
        return NULL;
    }
    if (fl_args_parse(self->st, sig, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    return fl_sock_op_new(self, call, values[0], values[1], values[2]);
}

#define SOCK_METHOD(name, call, required, count, ...)                         \
    static const struct fl_signature name##_signature = {                     \
        #name, required, count, 0, count, {FL_NAME(sock), __VA_ARGS__}};      \
                                                                              \
    PyObject *fl_loop_##name(FLLoop *self, PyObject *const *args,             \
                             Py_ssize_t nargs, PyObject *kwnames)             \
    {                                                                         \
        return new_op(self, call, &name##_signature, args, nargs, kwnames);   \
    }

/* --- receiving ------------------------------------------------------------------- */

const char fl_sock_recv_doc[] =
    "sock_recv($self, /, sock, n)\n--\n\n"
    "Receive up to n bytes from a non-blocking socket; await the bytes.\n"
    "Empty at the end of a stream.";

SOCK_METHOD(sock_recv, FL_SOCK_RECV, 2, 2, FL_NAME(n))

const char fl_sock_recv_into_doc[] =
    "sock_recv_into($self, /, sock, buf)\n--\n\n"
    "Receive into a writable buffer; await the number of bytes.";

SOCK_METHOD(sock_recv_into, FL_SOCK_RECV_INTO, 2, 2, FL_NAME(buf))

const char fl_sock_recvfrom_doc[] =
    "sock_recvfrom($self, /, sock, bufsize)\n--\n\n"
    "Receive a datagram of up to bufsize bytes; await (bytes, address).";

SOCK_METHOD(sock_recvfrom, FL_SOCK_RECVFROM, 2, 2, FL_NAME(bufsize))

const char fl_sock_recvfrom_into_doc[] =
    "sock_recvfrom_into($self, /, sock, buf, nbytes=0)\n--\n\n"
    "Receive a datagram of up to nbytes bytes (0: all that fits) into a\n"
    "writable buffer; await (number of bytes, address).";

SOCK_METHOD(sock_recvfrom_into, FL_SOCK_RECVFROM_INTO, 2, 3, FL_NAME(buf),
            FL_NAME(nbytes))

/* --- sending --------------------------------------------------------------------- */

const char fl_sock_sendall_doc[] =
    "sock_sendall($self, /, sock, data)\n--\n\n"
    "Send all of data; await None.  On error it cannot be told how much\n"
    "was sent.";

SOCK_METHOD(sock_sendall, FL_SOCK_SENDALL, 2, 2, FL_NAME(data))

const char fl_sock_sendto_doc[] =
    "sock_sendto($self, /, sock, data, address)\n--\n\n"
    "Send a datagram to address; await the number of bytes sent.";

SOCK_METHOD(sock_sendto, FL_SOCK_SENDTO, 3, 3, FL_NAME(data), FL_NAME(address))

/* --- connections ----------------------------------------------------------------- */

const char fl_sock_accept_doc[] =
    "sock_accept($self, /, sock)\n--\n\n"
    "Accept a connection; await (non-blocking socket, address of the peer).";

SOCK_METHOD(sock_accept, FL_SOCK_ACCEPT, 1, 1, 0)

const char fl_sock_writable_doc[] = "_sock_writable($self, sock, /)\n--\n\n"
                                    "Await that the socket can be written to.";

PyObject *
fl_loop_sock_writable(FLLoop *self, PyObject *sock)
{
    if (self->phase == FL_LOOP_NEW) {
        fl_loop_raise_not_open(self);
        return NULL;
    }
    return fl_sock_op_new(self, FL_SOCK_WRITABLE, sock, NULL, NULL);
}

const char fl_open_datagram_doc[] =
    "_open_datagram($self, sock, protocol, address, waiter, /)\n--\n\n"
    "Make a DatagramTransport of a socket, which belongs to it from now on.\n"
    "address is the one to send to, or None, waiter a future to finish after\n"
    "connection_made, or None.";

PyObject *
fl_loop_open_datagram(FLLoop *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 4) {
        PyErr_SetString(PyExc_TypeError, "_open_datagram() takes 4 arguments");
        return NULL;
    }
    return fl_datagram_open(self, args[0], args[1], args[2], args[3]);
}
