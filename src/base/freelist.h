/* A bounded stack of dead objects of one exact type, to be used again.

   A recycled object costs about a third of a fresh one, and does not count as
   an allocation for the garbage collector.  The one rule: an object whose
   finaliser ran is never kept, because the collector remembers that in the
   object's header and would not run it again.

   The type's reference that the dead object holds stays with it.  Freelists are
   off under sanitizers and in debug builds, so that these see real frees, and
   in free-threaded builds, where a list would need a lock. */
#ifndef FL_BASE_FREELIST_H
#define FL_BASE_FREELIST_H

#include "base/common.h"

#if defined(FL_DEBUG) || defined(Py_GIL_DISABLED)
#  define FL_NO_FREELISTS 1
#endif

/* Up to KEEP stay for good.  More, up to MAX, are there for the next burst of as many;
   they go bit by bit whenever the loop has nothing to do. */
#define FL_FREELIST_KEEP 8192
#define FL_FREELIST_MAX  65536

struct fl_freelist {
    int count;
    int size;         /* of items */
    PyObject **items; /* untracked, refcount 0 */
};

/* Cold: make room for more.  False if the list is as long as it may be. */
bool fl_freelist_grow(struct fl_freelist *list);

/* Really free all that is kept. */
void fl_freelist_drain(struct fl_freelist *list);

/* Free some of what is kept beyond KEEP. */
void fl_freelist_trim(struct fl_freelist *list);

/* A live, untracked object with a reference count of one, every field as the
   last owner left it; NULL when there is none to recycle. */
static inline PyObject *
fl_freelist_get(struct fl_freelist *list)
{
#ifdef FL_NO_FREELISTS
    (void)list;
    return NULL;
#else
    if (list->count == 0) {
        return NULL;
    }
    PyObject *o = list->items[--list->count];
#  if defined(Py_REF_DEBUG) || defined(Py_TRACE_REFS)
    _Py_NewReference(o);
#  else
    Py_SET_REFCNT(o, 1); /* to tracers of references it has never been away */
#  endif
    return o;
#endif
}

/* True if the list took the untracked object, whose finaliser never ran: its type
   has none, or remembers. */
static inline bool
fl_freelist_put_fresh(struct fl_freelist *list, PyObject *o)
{
#ifdef FL_NO_FREELISTS
    (void)list;
    (void)o;
    return false;
#else
    FL_ASSERT(!PyObject_GC_IsFinalized(o));
    if (FL_UNLIKELY(list->count == list->size) && !fl_freelist_grow(list)) {
        return false;
    }
    list->items[list->count++] = o;
    return true;
#endif
}

/* The same for one whose finaliser may have run. */
static inline bool
fl_freelist_put(struct fl_freelist *list, PyObject *o)
{
    return !PyObject_GC_IsFinalized(o) && fl_freelist_put_fresh(list, o);
}

#endif
