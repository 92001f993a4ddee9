/* The memory of TLS connections.

   A connection holds a buffer only while there is something in it.  Buffers move:
   each loop keeps two that are free, one for each side of OpenSSL; whoever needs
   memory takes one as it is and gives it back when it is empty.  Without a loop (NULL) memory is malloc()'s; that
   needs no GIL. */
#ifndef FL_IO_TLS_BUFFER_H
#define FL_IO_TLS_BUFFER_H

#include "io/io.h"

struct fl_tls_buffer {
    char *data; /* owned; NULL: no memory */
    size_t start;
    size_t end;
    size_t size;
};

static inline size_t
fl_tls_buffer_used(const struct fl_tls_buffer *b)
{
    return b->end - b->start;
}

static inline const char *
fl_tls_buffer_data(const struct fl_tls_buffer *b)
{
    return b->data + b->start;
}

/* Append; -1 if out of memory (no exception: the GIL may not be held). */
int fl_tls_buffer_append(FLLoop *loop, struct fl_tls_buffer *b,
                         const char *data, size_t size);

/* Drop the first bytes; an emptied buffer loses its memory. */
void fl_tls_buffer_consume(FLLoop *loop, struct fl_tls_buffer *b, size_t size);

/* Drop everything. */
void fl_tls_buffer_clear(FLLoop *loop, struct fl_tls_buffer *b);

/* FL_SCRATCH_SIZE bytes to decrypt into, or NULL (no exception); to be given back. */
char *fl_tls_scratch_take(FLLoop *loop);
void fl_tls_scratch_give(FLLoop *loop, char *scratch);

#endif
