/* StreamReader.  reader.c: what feeds it; reader_read.c: who reads from it;
   reader_type.c: what Python sees. */
#ifndef FL_PRIMS_READER_H
#define FL_PRIMS_READER_H

#include "prims/bound.h"
#include "prims/coro.h"
#include "prims/stream_buffer.h"
#include "prims/stream_own.h"

#define FL_STREAM_LIMIT 65536

typedef struct {
    FLBound base;
    struct fl_stream_buffer buffer;
    PyObject *given_limit;   /* owned; `_limit` as given, NULL: the default */
    Py_ssize_t limit;        /* the same as numbers of bytes */
    Py_ssize_t double_limit; /* more than this pauses the transport */
    PyObject *waiter;        /* owned; future of who waits for data, or NULL */
    PyObject *exception;     /* owned; or NULL */
    PyObject *transport;     /* owned; or NULL */
    PyObject *source_tb;     /* owned; debug mode, or NULL */
    bool eof;
    bool paused; /* we have paused the transport */
} FLReader;

/* A StreamReader of ours or of a subclass? */
static inline bool
fl_is_reader(const fl_state *st, PyObject *o)
{
    return Py_IS_TYPE(o, st->StreamReaderType)
           || PyType_IsSubtype(Py_TYPE(o), st->StreamReaderType);
}

/* reader.c: what the methods of these names do; 0 or -1. */
int fl_reader_feed_data(FLReader *self, PyObject *data);
int fl_reader_feed_eof(FLReader *self);
int fl_reader_set_exception(FLReader *self, PyObject *exc);
int fl_reader_set_transport(FLReader *self, PyObject *transport);
int fl_reader_wakeup(FLReader *self);
int fl_reader_maybe_resume(FLReader *self);

/* The same on anybody's reader, and as they are overridden. */
int fl_any_reader_feed_eof(fl_state *st, PyObject *reader);
int fl_any_reader_set_exception(fl_state *st, PyObject *reader, PyObject *exc);
int fl_any_reader_set_transport(fl_state *st, PyObject *reader,
                                PyObject *transport);
/* reader.exception(): a new reference, perhaps to None */
PyObject *fl_any_reader_exception(fl_state *st, PyObject *reader);

/* Feed exact bytes if that runs no Python code.  1: did, 0: did nothing, -1. */
int fl_reader_feed_directly(FLReader *self, PyObject *data);

/* Let the transport read on, which stands still for us. */
int fl_reader_resume_transport(FLReader *self);

/* -1 with TypeError or ValueError. */
int fl_reader_set_limit(FLReader *self, PyObject *limit);

/* reader_read.c: the coroutines. */
PyObject *fl_reader_read(FLReader *self, PyObject *n);
PyObject *fl_reader_readexactly(FLReader *self, PyObject *n);
PyObject *fl_reader_readuntil(FLReader *self, PyObject *separator);
PyObject *fl_reader_readline(FLReader *self);
PyObject *fl_reader_next(FLReader *self);
PyObject *fl_reader_wait_for_data(FLReader *self, PyObject *func_name);

int fl_reader_init_types(PyObject *module);

#endif
