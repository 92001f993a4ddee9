/* The methods of LoopBase that work on the user's own sockets, and the one that makes
   a datagram transport. */
#ifndef FL_LOOP_SOCK_H
#define FL_LOOP_SOCK_H

#include "core/loop.h"

extern const char fl_sock_recv_doc[];
extern const char fl_sock_recv_into_doc[];
extern const char fl_sock_recvfrom_doc[];
extern const char fl_sock_recvfrom_into_doc[];
extern const char fl_sock_sendall_doc[];
extern const char fl_sock_sendto_doc[];
extern const char fl_sock_accept_doc[];
extern const char fl_sock_writable_doc[];
extern const char fl_open_datagram_doc[];

PyObject *fl_loop_sock_recv(FLLoop *self, PyObject *const *args,
                            Py_ssize_t nargs, PyObject *kwnames);
PyObject *fl_loop_sock_recv_into(FLLoop *self, PyObject *const *args,
                                 Py_ssize_t nargs, PyObject *kwnames);
PyObject *fl_loop_sock_recvfrom(FLLoop *self, PyObject *const *args,
                                Py_ssize_t nargs, PyObject *kwnames);
PyObject *fl_loop_sock_recvfrom_into(FLLoop *self, PyObject *const *args,
                                     Py_ssize_t nargs, PyObject *kwnames);
PyObject *fl_loop_sock_sendall(FLLoop *self, PyObject *const *args,
                               Py_ssize_t nargs, PyObject *kwnames);
PyObject *fl_loop_sock_sendto(FLLoop *self, PyObject *const *args,
                              Py_ssize_t nargs, PyObject *kwnames);
PyObject *fl_loop_sock_accept(FLLoop *self, PyObject *const *args,
                              Py_ssize_t nargs, PyObject *kwnames);
PyObject *fl_loop_sock_writable(FLLoop *self, PyObject *sock);
PyObject *fl_loop_open_datagram(FLLoop *self, PyObject *const *args,
                                Py_ssize_t nargs);

#define FL_LOOP_SOCK_METHOD(name)                                             \
    {#name, FL_METHOD(fl_loop_##name), METH_FASTCALL | METH_KEYWORDS,         \
     fl_##name##_doc}

#define FL_LOOP_SOCK_METHODS                                                  \
    FL_LOOP_SOCK_METHOD(sock_recv), FL_LOOP_SOCK_METHOD(sock_recv_into),      \
        FL_LOOP_SOCK_METHOD(sock_recvfrom),                                   \
        FL_LOOP_SOCK_METHOD(sock_recvfrom_into),                              \
        FL_LOOP_SOCK_METHOD(sock_sendall), FL_LOOP_SOCK_METHOD(sock_sendto),  \
        FL_LOOP_SOCK_METHOD(sock_accept),                                     \
        {"_sock_writable", (PyCFunction)fl_loop_sock_writable, METH_O,        \
         fl_sock_writable_doc},                                               \
    {                                                                         \
        "_open_datagram", FL_METHOD(fl_loop_open_datagram), METH_FASTCALL,    \
            fl_open_datagram_doc                                              \
    }

#endif
