#include "base/heap.h"

#define ARITY 4u

#ifdef FL_DEBUG
#  define INITIAL 4u
#else
#  define INITIAL 64u
#endif

static inline bool
before(const struct fl_heap_item *a, const struct fl_heap_item *b)
{
    return a->key < b->key || (a->key == b->key && a->order < b->order);
}

static inline void
place(struct fl_heap *heap, uint32_t i, struct fl_heap_item item)
{
    heap->items[i] = item;
    item.node->index = i;
}

/* Move the hole at i up until item fits, then fill it. */
static void
sift_up(struct fl_heap *heap, uint32_t i, struct fl_heap_item item)
{
    while (i > 0) {
        uint32_t parent = (i - 1) / ARITY;
        if (!before(&item, &heap->items[parent])) {
            break;
        }
        place(heap, i, heap->items[parent]);
        i = parent;
    }
    place(heap, i, item);
}

/* Move the hole at i down until item fits, then fill it. */
static void
sift_down(struct fl_heap *heap, uint32_t i, struct fl_heap_item item)
{
    for (;;) {
        uint64_t first = (uint64_t)i * ARITY + 1;
        if (first >= heap->count) {
            break;
        }
        uint32_t best = (uint32_t)first;
        uint64_t end = first + ARITY;
        if (end > heap->count) {
            end = heap->count;
        }
        for (uint32_t c = best + 1; c < end; c++) {
            if (before(&heap->items[c], &heap->items[best])) {
                best = c;
            }
        }
        if (!before(&heap->items[best], &item)) {
            break;
        }
        place(heap, i, heap->items[best]);
        i = best;
    }
    place(heap, i, item);
}

static int
grow(struct fl_heap *heap)
{
    uint32_t size = heap->size ? heap->size * 2 : INITIAL;
    struct fl_heap_item *items = NULL;
    if (size > heap->size && size < FL_HEAP_OUT) {
        items = PyMem_Realloc(heap->items,
                              (size_t)size * sizeof(struct fl_heap_item));
    }
    if (items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    heap->items = items;
    heap->size = size;
    return 0;
}

int
fl_heap_push(struct fl_heap *heap, struct fl_heap_node *node, double key)
{
    FL_ASSERT(node->index == FL_HEAP_OUT);
    if (heap->count == heap->size && grow(heap) < 0) {
        return -1;
    }
    struct fl_heap_item item = {key, heap->pushed++, node};
    sift_up(heap, heap->count++, item);
    return 0;
}

void
fl_heap_remove(struct fl_heap *heap, struct fl_heap_node *node)
{
    uint32_t i = node->index;
    FL_ASSERT(i < heap->count && heap->items[i].node == node);
    node->index = FL_HEAP_OUT;
    struct fl_heap_item last = heap->items[--heap->count];
    if (last.node == node) {
        return;
    }
    if (i > 0 && before(&last, &heap->items[(i - 1) / ARITY])) {
        sift_up(heap, i, last);
    }
    else {
        sift_down(heap, i, last);
    }
}

/* --- many at once ------------------------------------------------------------- */

#ifdef FL_DEBUG
#  define WORTH_SORTING 4u
#  define FEW           2u
#else
#  define WORTH_SORTING 64u
#  define FEW           12u
#endif

/* Count those up to `last` at and below i; looks only at these and at their
   children, and at no more than about `limit`. */
static uint32_t
count_up_to(const struct fl_heap *heap, uint32_t i, double last,
            uint32_t limit)
{
    if (heap->items[i].key > last) {
        return 0;
    }
    uint32_t found = 1;
    uint64_t first = (uint64_t)i * ARITY + 1;
    for (uint64_t c = first; c < first + ARITY && c < heap->count; c++) {
        if (found >= limit) {
            break;
        }
        found += count_up_to(heap, (uint32_t)c, last, limit - found);
    }
    return found;
}

static void
sort_few(struct fl_heap_item *items, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        struct fl_heap_item item = items[i];
        uint32_t k = i;
        for (; k > 0 && before(&item, &items[k - 1]); k--) {
            items[k] = items[k - 1];
        }
        items[k] = item;
    }
}

/* Merge sort; spare has room for half of the items.  What is in order already, as
   timers with equal delays are, costs a comparison. */
static void
sort(struct fl_heap_item *items, uint32_t n, struct fl_heap_item *spare)
{
    if (n <= FEW) {
        sort_few(items, n);
        return;
    }
    uint32_t half = n / 2;
    sort(items, half, spare);
    sort(items + half, n - half, spare);
    if (before(&items[half - 1], &items[half])) {
        return;
    }
    memcpy(spare, items, half * sizeof(*items));
    uint32_t left = 0, right = half, to = 0;
    while (left < half && right < n) {
        items[to++] = before(&items[right], &spare[left]) ? items[right++]
                                                          : spare[left++];
    }
    memcpy(items + to, spare + left, (half - left) * sizeof(*items));
}

static bool
is_sorted(const struct fl_heap *heap)
{
    for (uint32_t i = 1; i < heap->count; i++) {
        if (before(&heap->items[i], &heap->items[i - 1])) {
            return false;
        }
    }
    return true;
}

/* A sorted array is a heap: what is not taken need not be put in order again. */
uint32_t
fl_heap_sort_up_to(struct fl_heap *heap, double last)
{
    uint32_t half = heap->count / 2 + 1;
    if (heap->count < WORTH_SORTING
        || count_up_to(heap, 0, last, half) < half) {
        return 0;
    }
    if (!is_sorted(heap)) {
        size_t bytes = (size_t)half * sizeof(struct fl_heap_item);
        struct fl_heap_item *spare = PyMem_Malloc(bytes);
        if (spare == NULL) {
            return 0; /* they can still leave one by one */
        }
        sort(heap->items, heap->count, spare);
        PyMem_Free(spare);
    }
    uint32_t n = half;
    while (n < heap->count && heap->items[n].key <= last) {
        n++;
    }
    return n;
}

void
fl_heap_drop_first(struct fl_heap *heap, uint32_t n)
{
    FL_ASSERT(n <= heap->count);
    heap->count -= n;
    for (uint32_t i = 0; i < heap->count; i++) {
        place(heap, i, heap->items[i + n]);
    }
}

void
fl_heap_free(struct fl_heap *heap)
{
    FL_ASSERT(heap->count == 0);
    PyMem_Free(heap->items);
    heap->items = NULL;
    heap->size = 0;
}

bool
fl_heap_consistent(const struct fl_heap *heap, uint32_t limit)
{
    for (uint32_t i = 0; i < heap->count && i < limit; i++) {
        if (heap->items[i].node->index != i) {
            return false;
        }
        if (i > 0 && before(&heap->items[i], &heap->items[(i - 1) / ARITY])) {
            return false;
        }
    }
    return true;
}
