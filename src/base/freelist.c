#include "base/freelist.h"

#define INITIAL 256
#define TRIM_STEP                                                             \
    4096 /* at a time: freeing them takes some tenths of a millisecond */

static bool
resize(struct fl_freelist *list, int size)
{
    PyObject **items =
        PyMem_Realloc(list->items, (size_t)size * sizeof(*items));
    if (items == NULL) {
        return false;
    }
    list->items = items;
    list->size = size;
    return true;
}

bool
fl_freelist_grow(struct fl_freelist *list)
{
    if (list->size == FL_FREELIST_MAX) {
        return false;
    }
    return resize(list, list->size == 0 ? INITIAL : list->size * 2);
}

static void
free_last(struct fl_freelist *list, int n)
{
    while (n-- > 0) {
        PyObject *o = list->items[--list->count];
        PyTypeObject *type = Py_TYPE(o);
        PyObject_GC_Del(o);
        Py_DECREF(type);
    }
}

void
fl_freelist_drain(struct fl_freelist *list)
{
    free_last(list, list->count);
    PyMem_Free(list->items);
    *list = (struct fl_freelist){0};
}

void
fl_freelist_trim(struct fl_freelist *list)
{
    int excess = list->count - FL_FREELIST_KEEP;
    if (excess > 0) {
        free_last(list, excess < TRIM_STEP ? excess : TRIM_STEP);
    }
    else if (list->size > FL_FREELIST_KEEP) {
        resize(list, FL_FREELIST_KEEP);
    }
}
