/* The io layer's part of a loop: made at the first use, freed with the loop. */
#ifndef FL_IO_IO_H
#define FL_IO_IO_H

#include "core/loop.h"

#define FL_SCRATCH_SIZE (256 * 1024)

struct fl_peers;
struct fl_watchers;

struct fl_memory {
    char *data;
    size_t size; /* 0: there is none */
};

struct fl_io {
    struct fl_attached attached;
    FLLoop *loop;                 /* borrowed: contains the pointer to us */
    struct fl_watchers *watchers; /* owned; see watch.h */
    char *scratch;                /* owned; what streams read into */
    char *plain; /* owned; FL_SCRATCH_SIZE bytes, what TLS decrypts into */
    struct fl_memory spare[2]; /* owned; the larger first; see tls_buffer.h */
    PyObject *received;        /* owned; see received.h */
    size_t received_room;
    struct fl_peers *peers; /* owned; see sockaddr.h; NULL: none yet */
};

/* NULL with an exception if it cannot be made. */
struct fl_io *fl_io_of(FLLoop *loop);

/* A buffer of FL_SCRATCH_SIZE bytes, or NULL (no exception: the GIL may not be held).
   What is in it lasts until code of the user runs, which may receive, too. */
char *fl_io_scratch(FLLoop *loop);

/* Is the protocol to be read into its own buffer?  1, 0, or -1 with an exception. */
int fl_protocol_is_buffered(fl_state *st, PyObject *protocol);

/* Was the loop made before a fork?  Then its epoll sets are shared with the parent,
   and nothing may be taken out of them. */
static inline bool
fl_io_is_parents(const FLLoop *loop)
{
    return loop->fork_generation != loop->st->fork_generation;
}

int fl_io_init_types(PyObject *module);

#endif
