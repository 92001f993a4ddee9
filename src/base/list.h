/* An intrusive doubly linked ring, with a head that is a node itself.

   An unlinked node points to itself, so unlinking twice is harmless, and a node
   knows by itself whether it is in a list.  Everything is O(1). */
#ifndef FL_BASE_LIST_H
#define FL_BASE_LIST_H

#include "base/common.h"

struct fl_list {
    struct fl_list *next;
    struct fl_list *prev;
};

static inline void
fl_list_init(struct fl_list *node)
{
    node->next = node;
    node->prev = node;
}

static inline bool
fl_list_empty(const struct fl_list *head)
{
    return head->next == head;
}

static inline bool
fl_list_linked(const struct fl_list *node)
{
    return node->next != node;
}

static inline void
fl_list_append(struct fl_list *head, struct fl_list *node)
{
    FL_ASSERT(!fl_list_linked(node));
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

static inline void
fl_list_unlink(struct fl_list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    fl_list_init(node);
}

/* Move all nodes of from to the end of to: what is about to be iterated goes to
   a local head first, so that callbacks may change the original freely. */
static inline void
fl_list_take(struct fl_list *to, struct fl_list *from)
{
    if (fl_list_empty(from)) {
        return;
    }
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    fl_list_init(from);
}

#endif
