/* A 4-ary min-heap of (key, order) with an index kept in each element.

   The keys lie in the array itself, so comparing touches one or two cache
   lines a level and never the elements.  Equal keys leave in the order they
   came: order is a running number.  Because an element knows its place, removal
   from the middle is O(log n) and leaves nothing behind; the last pushed is
   usually a leaf, which makes schedule-then-cancel nearly O(1). */
#ifndef FL_BASE_HEAP_H
#define FL_BASE_HEAP_H

#include "base/common.h"

#define FL_HEAP_OUT UINT32_MAX /* index of an element that is in no heap */

struct fl_heap_node {
    uint32_t index; /* place in heap->items, FL_HEAP_OUT when out */
};

struct fl_heap_item {
    double key;
    uint64_t order;
    struct fl_heap_node *node;
};

struct fl_heap {
    struct fl_heap_item *items;
    uint32_t count;
    uint32_t size;
    uint64_t pushed; /* running number of pushes */
};

/* 0, or -1 with MemoryError set */
int fl_heap_push(struct fl_heap *heap, struct fl_heap_node *node, double key);

/* The node must be in the heap. */
void fl_heap_remove(struct fl_heap *heap, struct fl_heap_node *node);

/* If most of the elements have keys up to `last`, sort all: the array is then in
   order, and those come first.  How many they are; 0: too few to be worth it.

   The nodes do not know their places until fl_heap_drop_first() has been called,
   which forgets the first n; these the caller has taken. */
uint32_t fl_heap_sort_up_to(struct fl_heap *heap, double last);
void fl_heap_drop_first(struct fl_heap *heap, uint32_t n);

void fl_heap_free(struct fl_heap *heap);

/* Does every parent come before its children, and does every node know its
   place?  Looks at the first `limit` only.  For assertions. */
bool fl_heap_consistent(const struct fl_heap *heap, uint32_t limit);

static inline bool
fl_heap_empty(const struct fl_heap *heap)
{
    return heap->count == 0;
}

/* The heap must not be empty. */
static inline double
fl_heap_first_key(const struct fl_heap *heap)
{
    return heap->items[0].key;
}

/* Let the i-th go, after fl_heap_sort_up_to(). */
static inline struct fl_heap_node *
fl_heap_take(struct fl_heap *heap, uint32_t i)
{
    struct fl_heap_node *node = heap->items[i].node;
    node->index = FL_HEAP_OUT;
    return node;
}

static inline struct fl_heap_node *
fl_heap_first(const struct fl_heap *heap)
{
    return heap->items[0].node;
}

#endif
