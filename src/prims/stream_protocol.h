/* StreamReaderProtocol: between a transport and a reader.  stream_protocol.c: what it
   does; stream_protocol_type.c: what Python sees. */
#ifndef FL_PRIMS_STREAM_PROTOCOL_H
#define FL_PRIMS_STREAM_PROTOCOL_H

#include "prims/stream_own.h"
#include "prims/waiters.h"

typedef struct {
    FLBound base;
    PyObject *reader_wr;     /* owned; `_stream_reader_wr`, or NULL */
    PyObject *strong_reader; /* owned; a server's, until it is connected */
    PyObject *connected;     /* owned; `_client_connected_cb`, or NULL */
    PyObject *transport;     /* owned; or NULL */
    PyObject *closed;        /* owned; future of the end, or NULL */
    PyObject *task;          /* owned; what connected() has started, or NULL */
    PyObject *writer;        /* owned; `_stream_writer` (3.11, 3.12) or NULL */
    PyObject *source_tb;     /* owned; debug mode, or NULL */
    struct fl_waiters drains; /* who waits in drain() */
    bool paused;              /* writing */
    bool lost;                /* connection_lost() was called */
    bool over_ssl;
    bool reject;
} FLStreamProtocol;

/* One of ours or of a subclass? */
static inline bool
fl_is_stream_protocol(const fl_state *st, PyObject *o)
{
    return Py_IS_TYPE(o, st->StreamProtocolType)
           || PyType_IsSubtype(Py_TYPE(o), st->StreamProtocolType);
}

/* `_stream_reader`: 1 *reader is a new reference, 0 there is none (NULL), -1. */
int fl_protocol_reader(FLStreamProtocol *self, PyObject **reader);

/* What the methods of these names do; 0 or -1. */
int fl_protocol_connection_made(FLStreamProtocol *self, PyObject *transport);
int fl_protocol_connection_lost(FLStreamProtocol *self, PyObject *exc);
int fl_protocol_data_received(FLStreamProtocol *self, PyObject *data);
int fl_protocol_eof_received(FLStreamProtocol *self);
int fl_protocol_resume_writing(FLStreamProtocol *self);
int fl_protocol_replace_transport(FLStreamProtocol *self, PyObject *transport);
void fl_protocol_finalize(FLStreamProtocol *self);

/* A fl_stream_feed, see core/stream.h. */
int fl_protocol_feed(fl_state *st, PyObject *protocol, PyObject *data);

/* `_drain_helper()` as a coroutine, and as part of another one: what a body returns,
   PYGEN_RETURN (without a result) if there is nothing to wait for.  Afterwards
   fl_protocol_drained(): -1 if value is NULL, with its exception. */
PyObject *fl_protocol_drain_helper(FLStreamProtocol *self);
PySendResult fl_protocol_drain(FLStreamProtocol *self, FLCoro *coro,
                               PyObject **result);
int fl_protocol_drained(FLStreamProtocol *self, FLCoro *coro,
                        const PyObject *value);

int fl_stream_protocol_init_types(PyObject *module);

#endif
