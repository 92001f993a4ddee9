/* A pipe transport: the read end or the write end of a pipe, a FIFO, a socket or a
   character device.

   Who owns the descriptor: the Python object that was passed in, from first to
   last.  It is watched like any of the user's descriptors, and the object's close()
   is called once, after connection_lost().

   The life of a transport: OPEN until close(), write_eof(), the end of the data or
   an error, CLOSING until connection_lost() was called, then CLOSED.  The loop owns
   a reference from open until then. */
#ifndef FL_IO_PIPE_H
#define FL_IO_PIPE_H

#include "io/io.h"
#include "io/watch.h"

enum fl_pipe_phase {
    FL_PIPE_NEW = 0, /* tp_alloc only: inert */
    FL_PIPE_OPEN,
    FL_PIPE_CLOSING,
    FL_PIPE_CLOSED,
};

/* What the kernel has not taken yet: bytes objects in order. */
struct fl_pipe_queue {
    PyObject **items; /* owned, as is each */
    uint32_t first;   /* index of the oldest */
    uint32_t count;
    uint32_t size;
    size_t offset; /* how much of the oldest is written */
    size_t bytes;  /* how much is left in all */
};

typedef struct FLPipe {
    PyObject_HEAD
    PyObject *base_slots[4]; /* asyncio's transports'; see pipe_type.c */
    PyObject *dict;
    PyObject *weakrefs;
    FLLoop *loop;        /* owned; NULL before open */
    PyObject *pipe;      /* owned; the user's object */
    PyObject *protocol;  /* owned; NULL once connection_lost was called */
    PyObject *context;   /* owned; every callback runs in it */
    PyObject *waiter;    /* owned; future to finish when connected, or NULL */
    PyObject *lost_with; /* owned; exception for connection_lost, or NULL */

    struct fl_attached attached;
    struct fl_job made_job;
    struct fl_job lost_job;
    struct fl_watcher readable;
    struct fl_watcher writable;
    struct fl_pipe_queue queue;
    size_t high_water;
    size_t low_water;
    int fd;

    uint8_t phase; /* enum fl_pipe_phase */
    bool for_writing : 1;
    bool detects_close : 1; /* a write end that tells when its reader goes */
    bool watches_read : 1;  /* readable is registered */
    bool watches_write : 1; /* writable is registered */
    bool paused : 1;        /* pause_reading() was called */
    bool ended : 1;         /* the end of the data was read */
    bool lost : 1;          /* connection_lost is queued */
    bool protocol_paused : 1;
    uint32_t writes_after_loss;
    uint32_t
        expected; /* size of a read worth a bytes object of its own, or 0 */
} FLPipe;

/* pipe.c: life ------------------------------------------------------------------ */

/* A transport of the open pipe object, with connection_made queued.  waiter may be
   None.  ValueError for what is no pipe; the pipe stays the caller's then. */
FLPipe *fl_pipe_open(FLLoop *loop, bool for_writing, PyObject *pipe,
                     PyObject *protocol, PyObject *waiter);

/* Close now and drop what is not written; connection_lost(exc), exc may be NULL. */
void fl_pipe_abort(FLPipe *p, PyObject *exc);

/* The exception that is set broke the pipe: report it as asyncio does and abort
   with it.  A fatal one goes to the loop. */
void fl_pipe_fatal_error(FLPipe *p, const char *message);

/* protocol.name(arg) in the transport's context; arg may be NULL. */
PyObject *fl_pipe_call(FLPipe *p, PyObject *name, PyObject *arg);

/* protocol.name(arg) has raised inside libuv's poll: report it and go on. */
void fl_pipe_call_failed(FLPipe *p, PyObject *name, PyObject *arg);

/* Register or forget a watcher.  0, or -1 with OSError. */
int fl_pipe_watch(FLPipe *p, enum fl_direction direction);
void fl_pipe_unwatch(FLPipe *p, enum fl_direction direction);

/* pipe_read.c ------------------------------------------------------------------- */
void fl_pipe_read_ready(struct fl_watcher *watcher);

/* pipe_write.c ------------------------------------------------------------------ */
void fl_pipe_peer_closed(struct fl_watcher *watcher);
void fl_pipe_write_ready(struct fl_watcher *watcher);
/* 0, or -1 with an exception. */
int fl_pipe_write(FLPipe *p, PyObject *data);
/* Close once all is written. */
void fl_pipe_write_eof(FLPipe *p);
/* Call pause_writing() if the mark was passed. */
void fl_pipe_check_high_water(FLPipe *p);
void fl_pipe_drop_queue(FLPipe *p);

/* pipe_type.c */
int fl_pipe_init_types(PyObject *module);

#endif
