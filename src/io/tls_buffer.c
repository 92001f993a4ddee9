#include "io/tls_buffer.h"

#define SMALLEST (4 * 1024)
/* what a loop keeps for the next one; larger memory goes back to the system */
#define LARGEST_KEPT (1024 * 1024)

/* Keep the two largest. */
static void
give_memory(FLLoop *loop, char *data, size_t size)
{
    struct fl_io *io = loop == NULL ? NULL : loop->io;
    struct fl_memory given = {data, size};
    if (io != NULL && size <= LARGEST_KEPT) {
        for (int i = 0; i < 2; i++) {
            if (given.size > io->spare[i].size) {
                struct fl_memory other = io->spare[i];
                io->spare[i] = given;
                given = other;
            }
        }
    }
    PyMem_RawFree(given.data);
}

/* The smaller one if it will do. */
static void
take_memory(FLLoop *loop, struct fl_tls_buffer *b, size_t needed)
{
    struct fl_io *io = loop == NULL ? NULL : loop->io;
    if (io == NULL) {
        return;
    }
    struct fl_memory taken = io->spare[1];
    if (taken.size == 0 || taken.size < needed) {
        taken = io->spare[0];
        io->spare[0] = io->spare[1];
    }
    io->spare[1] = (struct fl_memory){NULL, 0};
    b->data = taken.data;
    b->size = taken.size;
}

static FL_COLD int
grow(struct fl_tls_buffer *b, size_t needed)
{
    size_t size = b->size < SMALLEST ? SMALLEST : b->size;
    while (size < needed) {
        if (size > SIZE_MAX / 2) {
            return -1;
        }
        size *= 2;
    }
    char *data = PyMem_RawRealloc(b->data, size);
    if (data == NULL) {
        return -1;
    }
    b->data = data;
    b->size = size;
    return 0;
}

/* HOT */
int
fl_tls_buffer_append(FLLoop *loop, struct fl_tls_buffer *b, const char *data,
                     size_t size)
{
    if (b->data == NULL) {
        take_memory(loop, b, size);
    }
    if (FL_UNLIKELY(b->size - b->end < size)) {
        size_t used = fl_tls_buffer_used(b);
        if (b->start > 0) {
            memmove(b->data, b->data + b->start, used);
            b->start = 0;
            b->end = used;
        }
        if (size > SIZE_MAX - used
            || (b->size < used + size && grow(b, used + size) < 0)) {
            return -1;
        }
    }
    if (size > 0) {
        memcpy(b->data + b->end, data, size);
    }
    b->end += size;
    return 0;
}

void
fl_tls_buffer_clear(FLLoop *loop, struct fl_tls_buffer *b)
{
    if (b->data != NULL) {
        give_memory(loop, b->data, b->size);
    }
    *b = (struct fl_tls_buffer){NULL, 0, 0, 0};
}

void
fl_tls_buffer_consume(FLLoop *loop, struct fl_tls_buffer *b, size_t size)
{
    FL_ASSERT(size <= fl_tls_buffer_used(b));
    b->start += size;
    if (b->start == b->end) {
        fl_tls_buffer_clear(loop, b);
    }
}

/* Layers of TLS are inside one another's callbacks: each has a scratch buffer. */
char *
fl_tls_scratch_take(FLLoop *loop)
{
    struct fl_io *io = loop->io;
    if (FL_LIKELY(io != NULL && io->plain != NULL)) {
        char *scratch = io->plain;
        io->plain = NULL;
        return scratch;
    }
    return PyMem_RawMalloc(FL_SCRATCH_SIZE);
}

void
fl_tls_scratch_give(FLLoop *loop, char *scratch)
{
    struct fl_io *io = loop->io;
    if (FL_LIKELY(io != NULL && io->plain == NULL)) {
        io->plain = scratch;
        return;
    }
    PyMem_RawFree(scratch);
}
