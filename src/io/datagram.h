/* A datagram transport: a socket, the protocol that it feeds, and what the kernel has
   not taken yet.

   The descriptor is owned as a stream transport's: the Python socket is held and
   kept from closing by itself, and is detached right before the transport closes
   the number.  libuv only polls it.  The loop owns a reference from open until the
   close callback. */
#ifndef FL_IO_DATAGRAM_H
#define FL_IO_DATAGRAM_H

#include "io/io.h"

#define FL_DATAGRAM_HIGH_WATER (64 * 1024)

enum fl_datagram_phase {
    FL_DATAGRAM_NEW = 0, /* tp_new only: inert */
    FL_DATAGRAM_OPENING, /* connection_made is queued */
    FL_DATAGRAM_OPEN,
    FL_DATAGRAM_CLOSING, /* close() or abort() was called */
    FL_DATAGRAM_CLOSED, /* connection_lost was called, the handle is closing */
};

struct fl_datagram {
    PyObject *data;    /* owned bytes */
    PyObject *address; /* owned; None: the peer */
};

typedef struct FLDatagram {
    PyObject_HEAD
    PyObject *base_slots[4]; /* those of asyncio's classes */
    PyObject *dict;
    PyObject *weakrefs;
    FLLoop *loop;        /* owned; NULL before open */
    PyObject *protocol;  /* owned; NULL once connection_lost was called */
    PyObject *context;   /* owned; every callback runs in it */
    PyObject *waiter;    /* owned; future to finish when made */
    PyObject *held;      /* owned; TransportSocket that keeps sock open */
    PyObject *sock;      /* owned; Python's socket */
    PyObject *address;   /* owned; where everything goes to, or NULL */
    PyObject *extra;     /* owned dict */
    PyObject *lost_with; /* owned; exception for connection_lost, or NULL */

    struct fl_attached attached;
    struct fl_job ready_job;
    struct fl_job made_job;
    struct fl_job lost_job;

    /* what the kernel has not taken: a ring of a power of two, or of none */
    struct fl_datagram *queue;
    uint32_t head;
    uint32_t tail;
    uint32_t size;
    size_t unsent; /* bytes, as get_write_buffer_size() counts */
    size_t high_water;
    size_t low_water;

    int fd;        /* -1 once closed */
    int family;    /* if its addresses are converted here, else 0 */
    int events;    /* what is polled for: UV_READABLE, UV_WRITABLE */
    int ready;     /* for what ready_job is queued */
    uint8_t phase; /* enum fl_datagram_phase */
    uint8_t
        single; /* reads in a row that found one datagram, see read_ready() */
    bool burst : 1; /* the last read found more than one */
    bool paused : 1;
    bool peer : 1; /* connected: send() without an address */
    bool lost : 1; /* connection_lost is queued */
    bool protocol_paused : 1;
    uint32_t writes_after_loss;
    uv_poll_t poll;
} FLDatagram;

/* datagram.c: life ---------------------------------------------------------------- */

/* Take over sock, on success only; address and waiter may be None. */
PyObject *fl_datagram_open(FLLoop *loop, PyObject *sock, PyObject *protocol,
                           PyObject *address, PyObject *waiter);

/* Close once all is sent. */
void fl_datagram_close(FLDatagram *t);

/* Close now; connection_lost(exc). */
void fl_datagram_abort(FLDatagram *t, PyObject *exc);

/* Queue connection_lost, once. */
void fl_datagram_lose(FLDatagram *t, PyObject *exc);

/* protocol.name(first, second) in the transport's context, which may be entered
   already; arguments may be NULL. */
PyObject *fl_datagram_call(FLDatagram *t, PyObject *name, PyObject *first,
                           PyObject *second);

/* The exception that is set ends the transport.  -1 if it is a fatal one and still
   set, else 0. */
int fl_datagram_fatal_error(FLDatagram *t, const char *message);

/* A callback of the protocol has raised inside a libuv callback: report it. */
void fl_datagram_callback_failed(FLDatagram *t, PyObject *name,
                                 PyObject *first, PyObject *second);

/* Poll for what is wanted now. */
void fl_datagram_update_poll(FLDatagram *t);

/* datagram_io.c: receiving and sending -------------------------------------------- */
void fl_datagram_read_ready(FLDatagram *t);
void fl_datagram_write_ready(FLDatagram *t);
/* 0, or -1 with an exception. */
int fl_datagram_sendto(FLDatagram *t, PyObject *data, PyObject *address);
void fl_datagram_check_high_water(FLDatagram *t);
void fl_datagram_drop_queue(FLDatagram *t);

static inline bool
fl_datagram_queue_empty(const FLDatagram *t)
{
    return t->head == t->tail;
}

int fl_datagram_init_types(PyObject *module);

#endif
