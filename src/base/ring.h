/* A first-in first-out queue of tagged pointers in one power-of-two array.

   What an entry means and who owns it is the user's matter: the ring moves
   words.  head and tail run freely and wrap by themselves; the number of
   entries is their difference.  Growth doubles, so a push is O(1) amortised. */
#ifndef FL_BASE_RING_H
#define FL_BASE_RING_H

#include "base/common.h"

#ifdef FL_DEBUG
#  define FL_RING_INITIAL 4u
#else
#  define FL_RING_INITIAL 256u
#endif

struct fl_ring {
    uintptr_t *items; /* NULL until the first push */
    uint32_t head;    /* next to pop */
    uint32_t tail;    /* next free */
    uint32_t size;    /* length of items, a power of two, or 0 */
};

static inline uint32_t
fl_ring_count(const struct fl_ring *ring)
{
    return ring->tail - ring->head;
}

/* Cold: double the array.  0, or -1 with MemoryError set. */
int fl_ring_grow(struct fl_ring *ring);

void fl_ring_free(struct fl_ring *ring);

/* HOT */
static inline int
fl_ring_push(struct fl_ring *ring, uintptr_t item)
{
    if (FL_UNLIKELY(fl_ring_count(ring) == ring->size)) {
        if (fl_ring_grow(ring) < 0) {
            return -1;
        }
    }
    ring->items[ring->tail++ & (ring->size - 1)] = item;
    return 0;
}

/* HOT: the ring must not be empty */
static inline uintptr_t
fl_ring_pop(struct fl_ring *ring)
{
    FL_ASSERT(fl_ring_count(ring) > 0);
    return ring->items[ring->head++ & (ring->size - 1)];
}

/* Put back in front what was popped.  0, or -1 with MemoryError set. */
static inline int
fl_ring_unpop(struct fl_ring *ring, uintptr_t item)
{
    if (fl_ring_count(ring) == ring->size && fl_ring_grow(ring) < 0) {
        return -1;
    }
    ring->items[--ring->head & (ring->size - 1)] = item;
    return 0;
}

/* The i-th entry from the front, for traversal. */
static inline uintptr_t
fl_ring_peek(const struct fl_ring *ring, uint32_t i)
{
    return ring->items[(ring->head + i) & (ring->size - 1)];
}

#endif
