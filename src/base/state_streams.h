/* What of the module's state belongs to streams; see state.h. */
#ifndef FL_BASE_STATE_STREAMS_H
#define FL_BASE_STATE_STREAMS_H

#include "base/common.h"

#define FL_STATE_STREAM_TYPES(X)                                              \
    X(StreamProtocolType)                                                     \
    X(StreamReaderType)                                                       \
    X(StreamWriterType)

#define FL_STATE_STREAM_STRINGS(X)                                            \
    X(_buffer)                                                                \
    X(_client_connected_cb)                                                   \
    X(_drain_helper)                                                          \
    X(_eof)                                                                   \
    X(_get_close_waiter)                                                      \
    X(_limit)                                                                 \
    X(_maybe_resume_transport)                                                \
    X(_paused)                                                                \
    X(_source_traceback)                                                      \
    X(_stream_reader)                                                         \
    X(_stream_reader_wr)                                                      \
    X(_transport)                                                             \
    X(_wait_for_data)                                                         \
    X(_waiter)                                                                \
    X(_wakeup_waiter)                                                         \
    X(abort)                                                                  \
    X(can_write_eof)                                                          \
    X(client_connected_cb)                                                    \
    X(exc)                                                                    \
    X(feed_data)                                                              \
    X(feed_eof)                                                               \
    X(func_name)                                                              \
    X(is_closed)                                                              \
    X(limit)                                                                  \
    X(pause_reading)                                                          \
    X(protocol)                                                               \
    X(reader)                                                                 \
    X(readexactly)                                                            \
    X(readline)                                                               \
    X(readuntil)                                                              \
    X(separator)                                                              \
    X(server_hostname)                                                        \
    X(set_transport)                                                          \
    X(ssl_handshake_timeout)                                                  \
    X(ssl_shutdown_timeout)                                                   \
    X(sslcontext)                                                             \
    X(stream)                                                                 \
    X(stream_reader)                                                          \
    X(transport)                                                              \
    X(write_eof)                                                              \
    X(writelines)                                                             \
    X(writer)

#define FL_STATE_STREAM_IMPORTS(X)                                            \
    X(IncompleteReadError, "asyncio.exceptions", "IncompleteReadError")       \
    X(LimitOverrunError, "asyncio.exceptions", "LimitOverrunError")           \
    X(asyncio_Protocol, "asyncio.protocols", "Protocol")                      \
    X(asyncio_StreamReader, "asyncio.streams", "StreamReader")                \
    X(asyncio_StreamReaderProtocol, "asyncio.streams",                        \
      "StreamReaderProtocol")                                                 \
    X(asyncio_StreamWriter, "asyncio.streams", "StreamWriter")

#define FL_STATE_STREAM_SUPPORT(X)                                            \
    X(stream_client_connected)                                                \
    X(stream_debug)                                                           \
    X(stream_reader_repr)                                                     \
    X(stream_rejected)                                                        \
    X(stream_separators)                                                      \
    X(stream_start_tls)                                                       \
    X(stream_stock_methods)                                                   \
    X(stream_unclosed)                                                        \
    X(stream_writer_repr)

/* Version tags of asyncio's own classes while nobody patched them. */
struct fl_stream_stock {
    unsigned int protocol;
    unsigned int reader;
};

struct fl_state;
struct fl_stream_transport;

/* A transport's type that streams may call in C: core/stream.h. */
#define FL_STREAM_TRANSPORTS 4
struct fl_stream_link {
    PyTypeObject *type;   /* borrowed: the state has it */
    unsigned int version; /* of the type while nobody patched it */
    const struct fl_stream_transport *ops;
};

/* A protocol's type that transports may feed in C: core/stream.h. */
#define FL_STREAM_PROTOCOLS 2
struct fl_stream_feed_link {
    PyTypeObject *type; /* borrowed: the state has it */
    int (*feed)(struct fl_state *st, PyObject *protocol, PyObject *data);
    /* NULL if its reader keeps the objects it is fed */
    int (*fill)(struct fl_state *st, PyObject *protocol, size_t size,
                Py_ssize_t (*source)(void *from, char *place, size_t size),
                void *from, Py_ssize_t *got);
};

#endif
