/* The methods of LoopBase that concern descriptors. */
#ifndef FL_LOOP_IO_H
#define FL_LOOP_IO_H

#include "core/loop.h"
#include "io/tls.h"

extern const char fl_add_reader_doc[];
extern const char fl_add_writer_doc[];
extern const char fl_add_writer_handle_doc[];
extern const char fl_remove_reader_doc[];
extern const char fl_remove_writer_doc[];
extern const char fl_open_transport_doc[];
extern const char fl_open_read_pipe_doc[];
extern const char fl_open_write_pipe_doc[];

PyObject *fl_loop_add_reader(FLLoop *self, PyObject *const *args,
                             Py_ssize_t nargs);
PyObject *fl_loop_add_writer(FLLoop *self, PyObject *const *args,
                             Py_ssize_t nargs);
PyObject *fl_loop_add_writer_handle(FLLoop *self, PyObject *const *args,
                                    Py_ssize_t nargs);
PyObject *fl_loop_remove_reader(FLLoop *self, PyObject *file);
PyObject *fl_loop_remove_writer(FLLoop *self, PyObject *file);
PyObject *fl_loop_open_transport(FLLoop *self, PyObject *const *args,
                                 Py_ssize_t nargs);
PyObject *fl_loop_open_read_pipe(FLLoop *self, PyObject *const *args,
                                 Py_ssize_t nargs);
PyObject *fl_loop_open_write_pipe(FLLoop *self, PyObject *const *args,
                                  Py_ssize_t nargs);

#define FL_LOOP_IO_METHODS                                                    \
    {"add_reader", FL_METHOD(fl_loop_add_reader), METH_FASTCALL,              \
     fl_add_reader_doc},                                                      \
        {"add_writer", FL_METHOD(fl_loop_add_writer), METH_FASTCALL,          \
         fl_add_writer_doc},                                                  \
        {"_add_writer", FL_METHOD(fl_loop_add_writer_handle), METH_FASTCALL,  \
         fl_add_writer_handle_doc},                                           \
        {"remove_reader", (PyCFunction)fl_loop_remove_reader, METH_O,         \
         fl_remove_reader_doc},                                               \
        {"remove_writer", (PyCFunction)fl_loop_remove_writer, METH_O,         \
         fl_remove_writer_doc},                                               \
        {"_open_transport", FL_METHOD(fl_loop_open_transport), METH_FASTCALL, \
         fl_open_transport_doc},                                              \
        {"_open_read_pipe", FL_METHOD(fl_loop_open_read_pipe), METH_FASTCALL, \
         fl_open_read_pipe_doc},                                              \
        {"_make_tls", FL_METHOD(fl_tls_make), METH_FASTCALL,                  \
         fl_tls_make_doc},                                                    \
    {                                                                         \
        "_open_write_pipe", FL_METHOD(fl_loop_open_write_pipe),               \
            METH_FASTCALL, fl_open_write_pipe_doc                             \
    }

#endif
