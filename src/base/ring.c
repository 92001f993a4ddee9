#include "base/ring.h"

int
fl_ring_grow(struct fl_ring *ring)
{
    uint32_t count = fl_ring_count(ring);
    uint32_t size = ring->size ? ring->size * 2 : FL_RING_INITIAL;
    uintptr_t *items = NULL;
    if (size > ring->size) {
        items = PyMem_Malloc((size_t)size * sizeof(uintptr_t));
    }
    if (items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        items[i] = fl_ring_peek(ring, i);
    }
    PyMem_Free(ring->items);
    ring->items = items;
    ring->size = size;
    ring->head = 0;
    ring->tail = count;
    return 0;
}

void
fl_ring_free(struct fl_ring *ring)
{
    FL_ASSERT(fl_ring_count(ring) == 0);
    PyMem_Free(ring->items);
    *ring = (struct fl_ring){0};
}
