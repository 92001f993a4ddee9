/* The contextvars.Context of a callback or a task, made as late as can be.

   asyncio copies the current context for each.  Where no context variable is set, that
   copy is an empty context, and no other whenever it is made: a slot that is NULL stands
   for it.  For as long as the callback or the step runs, the loop lends it an empty
   context.  What has been put into that, or referred to by anyone, stays in the slot;
   else the loop takes it back.  Most programs set no context variables: they need one
   context for all of their callbacks and tasks. */
#ifndef FL_CORE_CONTEXT_H
#define FL_CORE_CONTEXT_H

#include "core/loop.h"

static inline bool
fl_context_is_empty(PyObject *context)
{
    return PyContext_Type.tp_as_mapping->mp_length(context) == 0;
}

/* Fill a slot with what a copy of the current context would hold.  0 or -1. */
static inline int
fl_context_capture(PyObject **slot)
{
    PyObject *current = PyThreadState_Get()->context; /* borrowed */
    *slot = NULL;
    if (FL_LIKELY(current == NULL || fl_context_is_empty(current))) {
        return 0;
    }
    *slot = PyContext_CopyCurrent();
    return *slot == NULL ? -1 : 0;
}

/* The slot's context as an object, which is in it from then on: a borrowed reference,
   or NULL with an exception. */
static inline PyObject *
fl_context_get(PyObject **slot)
{
    if (*slot == NULL) {
        *slot = PyContext_New();
    }
    return *slot;
}

/* Enter the slot's context.  Returns it, borrowed; NULL with an exception. */
static inline PyObject *
fl_context_enter(FLLoop *loop, PyObject **slot)
{
    if (*slot == NULL) {
        *slot = loop->blank_context;
        loop->blank_context = NULL;
        if (FL_UNLIKELY(fl_context_get(slot) == NULL)) {
            return NULL;
        }
    }
    PyObject *context = *slot;
    return FL_LIKELY(PyContext_Enter(context) == 0) ? context : NULL;
}

/* Exit the context that fl_context_enter() has returned.  0 or -1. */
static inline int
fl_context_exit(FLLoop *loop, PyObject **slot, PyObject *context)
{
    if (FL_UNLIKELY(PyContext_Exit(context) < 0)) {
        return -1;
    }
    if (*slot == context && Py_REFCNT(context) == 1
        && fl_context_is_empty(context)) {
        *slot = NULL;
        if (FL_LIKELY(loop->blank_context == NULL)) {
            loop->blank_context = context;
        }
        else {
            Py_DECREF(context); /* one that was needed inside of another */
        }
    }
    return 0;
}

#endif
