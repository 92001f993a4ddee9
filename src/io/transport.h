/* A stream transport: a connected socket, the protocol it feeds, and what is
   still to be written.

   Who owns the descriptor: from fl_transport_open() on the uv handle, and it
   alone; uv_close() is the one place that closes it.  A Python socket that was
   handed over, or was made for get_extra_info("socket"), is held and kept from
   closing by itself, and is detached right before uv_close().

   The life of a transport: OPENING until its connection_made has run, then OPEN;
   CLOSING once close() or abort() was called or the connection broke; CLOSED when
   connection_lost has been called and the handle is closing.  The loop owns a
   reference from open until the close callback. */
#ifndef FL_IO_TRANSPORT_H
#define FL_IO_TRANSPORT_H

#include "io/address.h"
#include "io/filter.h"
#include "io/io.h"
#include "io/server.h"

#include <sys/socket.h>

/* Written data of less than this is collected until the turn ends.  Not more of it: the
   reader would get to work later, and one call with much costs more than two with half. */
#define FL_WRITE_COLLECT (64 * 1024)
#define FL_CHUNKS_INLINE 2

/* A piece of a bytes object still to be written. */
struct fl_chunk {
    PyObject *bytes; /* owned; exact bytes */
    const char *data;
    size_t size;
};

struct fl_chunks {
    struct fl_chunk *items; /* own, or a malloc'ed array once it is full */
    uint32_t count;
    uint32_t size;
    size_t bytes; /* sum of the sizes */
    struct fl_chunk own[FL_CHUNKS_INLINE];
};

enum fl_transport_phase {
    FL_TRANSPORT_NEW = 0, /* tp_new only: inert */
    FL_TRANSPORT_OPENING,
    FL_TRANSPORT_OPEN,
    FL_TRANSPORT_CLOSING,
    FL_TRANSPORT_CLOSED,
};

typedef struct FLTransport {
    PyObject_HEAD
    PyObject *base_slots[2]; /* asyncio.Transport's; see transport_type.c */
    PyObject *dict;
    PyObject *weakrefs;
    FLLoop *loop;             /* owned; NULL before open */
    PyObject *protocol;       /* owned; NULL once connection_lost was called */
    struct fl_filter *filter; /* borrowed: protocol, if that is a filter */
    PyObject *factory;        /* owned; makes the protocol when accepted */
    PyObject *context;        /* owned; of all callbacks; NULL: empty */
    PyObject *waiter;         /* owned; future to finish when connected */
    PyObject *sock;           /* owned; TransportSocket, pinned, or NULL */
    PyObject *extra;          /* owned dict; what the maker passed, or NULL */
    PyObject *lost_with;    /* owned; exception for connection_lost, or NULL */
    PyObject *empty_waiter; /* owned; set while sendfile() is at work */
    FLServer *server;       /* owned; whose list we are in, or NULL */
    struct fl_list in_server;

    struct fl_attached attached;
    struct fl_job made_job;
    struct fl_job lost_job;
    struct fl_flush flush;

    struct fl_chunks pending; /* written in this turn */
    size_t high_water;
    size_t low_water;

    uint8_t phase;         /* enum fl_transport_phase */
    bool buffered : 1;     /* a BufferedProtocol */
    bool reading : 1;      /* data is wanted */
    bool watched : 1;      /* libuv says when there is data */
    bool paused : 1;       /* pause_reading() was called */
    bool eof_written : 1;  /* write_eof() was called */
    bool write_closed : 1; /* shutdown(SHUT_WR) was done */
    bool protocol_paused : 1;
    bool lost : 1; /* connection_lost is queued: what is written is dropped */
    bool has_peername : 1;
    bool is_unix : 1;
    uint8_t writes_after_loss; /* up to those that are warned of */
    uint32_t expected; /* bytes, if the next read is worth an object, or 0 */
    int fd;            /* uv's; -1 once that is closing */

    struct sockaddr_in6 peername; /* raw; names of Unix sockets: in extra */
    /* owned; taken when the descriptor closes */
    struct sockaddr_in6 *sockname;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp; /* for a Unix socket, too: once open they are the same */
    } uv;
} FLTransport;

/* transport.c: life ----------------------------------------------------------- */

/* Take over fd, a connected stream socket.  The descriptor passes to the
   transport on success only.  The protocol is called in context (NULL: in one of its
   own that is empty).  peer is its address if known (size bytes), else NULL. */
FLTransport *fl_transport_open(FLLoop *loop, int fd, PyObject *context,
                               const struct sockaddr *peer, socklen_t size);

/* Queue connection_made, the start of reading and the waiter's result. */
int fl_transport_start(FLTransport *t);

/* Close when what was written is sent; connection_lost(None). */
int fl_transport_close(FLTransport *t);

/* Close now and drop what the kernel has not taken; connection_lost(exc). */
void fl_transport_abort(FLTransport *t, PyObject *exc);

/* The exception that is set came from a callback or the kernel: report it as
   asyncio does and abort with it.  A fatal one goes to the loop. */
void fl_transport_fatal_error(FLTransport *t, const char *message);

/* pause_writing() or resume_writing() has raised: report it, and go on. */
void fl_transport_flow_failed(FLTransport *t, const char *message);

/* Queue connection_lost, once. */
void fl_transport_lose(FLTransport *t, PyObject *exc);

/* protocol.name(arg) in the transport's context; arg may be NULL. */
PyObject *fl_transport_call(FLTransport *t, PyObject *name, PyObject *arg);

/* The same for pause_writing() and resume_writing(), which write() may call from
   inside another callback of this protocol: the context is entered already then. */
PyObject *fl_transport_call_flow(FLTransport *t, PyObject *name);

int fl_transport_set_protocol(FLTransport *t, PyObject *protocol);

int fl_transport_fd(const FLTransport *t);

/* Let get_extra_info(name) answer value for ever, unless it has an answer. */
int fl_transport_remember(FLTransport *t, const char *name, PyObject *value);

/* Our own address into t->sockname, while the descriptor is open.  Where memory lacks
   for it, we have none. */
void fl_transport_take_sockname(FLTransport *t);

/* The transport of a uv callback, with the GIL taken; borrowed. */
static inline FLTransport *
fl_transport_of(const uv_stream_t *stream)
{
    return (FLTransport *)stream->data;
}

/* stream_read.c ------------------------------------------------------------------ */
void fl_transport_start_reading(FLTransport *t);
void fl_transport_stop_reading(FLTransport *t);
/* Stop, maybe not for long. */
void fl_transport_pause_reading(FLTransport *t);

/* stream_write.c ----------------------------------------------------------------- */
void fl_transport_init_writing(FLTransport *t);
/* 0, or -1 with TypeError or RuntimeError. */
int fl_transport_write(FLTransport *t, PyObject *data);
int fl_transport_write_eof(FLTransport *t);
/* Send now and copy the rest: what a filter writes. */
void fl_transport_send(FLTransport *t, const char *data, size_t size);
/* Hand what was written in this turn to the kernel. */
void fl_transport_flush(FLTransport *t);
size_t fl_transport_unsent(const FLTransport *t);
/* Call pause_writing() or resume_writing() if a mark was passed. */
void fl_transport_check_high_water(FLTransport *t);
void fl_transport_drop_pending(FLTransport *t);
/* Tell sendfile() if all is sent. */
void fl_transport_check_empty(FLTransport *t);

int fl_transport_init_types(PyObject *module);

#endif
