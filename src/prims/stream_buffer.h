/* What a stream's reader has received and nobody has read yet.

   In asyncio that is a bytearray, which code outside looks at and changes.  Ours is a
   queue of the very bytes objects that came: who reads just what one of them holds
   gets it, and nothing is copied.  Who asks for the bytearray gets one, and from then
   on the data is in it and nowhere else. */
#ifndef FL_PRIMS_STREAM_BUFFER_H
#define FL_PRIMS_STREAM_BUFFER_H

#include "base/compat.h"

#define FL_STREAM_CHUNKS 4

struct fl_stream_buffer {
    PyObject **items; /* owned exact bytes; own, or malloc'ed */
    uint32_t head;    /* index of the first */
    uint32_t count;
    uint32_t size;     /* length of items */
    Py_ssize_t offset; /* how much of the first was read */
    Py_ssize_t total;  /* bytes */
    PyObject *shown;   /* owned bytearray: all data, once Python has it */
    PyObject *own[FL_STREAM_CHUNKS];
};

void fl_stream_buffer_init(struct fl_stream_buffer *b);

/* Forget everything, the bytearray too. */
void fl_stream_buffer_reset(struct fl_stream_buffer *b);

/* HOT: bytes in it */
static inline Py_ssize_t
fl_stream_buffer_size(const struct fl_stream_buffer *b)
{
    return FL_LIKELY(b->shown == NULL) ? b->total
                                       : PyByteArray_GET_SIZE(b->shown);
}

/* What follows returns 0 or -1 with an exception (MemoryError, or BufferError where
   somebody holds a view of the bytearray). */

/* Add data, exact bytes. */
int fl_stream_buffer_append(struct fl_stream_buffer *b, PyObject *data);

/* Take the first n bytes, or all if there are not so many, as bytes. */
PyObject *fl_stream_buffer_take(struct fl_stream_buffer *b, Py_ssize_t n);

/* Drop the first n bytes, or fewer if there are not so many. */
int fl_stream_buffer_drop(struct fl_stream_buffer *b, Py_ssize_t n);

/* Where sep (n > 0 bytes) first begins at or after from; -1: nowhere. */
Py_ssize_t fl_stream_buffer_find(const struct fl_stream_buffer *b,
                                 const char *sep, Py_ssize_t n,
                                 Py_ssize_t from);

/* The bytearray (a new reference), and another one in its place. */
PyObject *fl_stream_buffer_show(struct fl_stream_buffer *b);
void fl_stream_buffer_replace(struct fl_stream_buffer *b, PyObject *bytearray);

#endif
