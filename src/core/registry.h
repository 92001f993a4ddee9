/* What asyncio.current_task() and asyncio.all_tasks() see.

   The current task is written where the running Python looks for it: in the
   {loop: task} dictionary up to 3.13, in the thread state from 3.14.  It is
   written only when it changes: from one task's step to the next it is replaced,
   and it is taken away before a plain callback runs and when a batch ends. */
#ifndef FL_CORE_REGISTRY_H
#define FL_CORE_REGISTRY_H

#include "core/loop.h"

/* Cold half of fl_current_publish(). */
int fl_current_replace(FLLoop *loop, struct FLTask *task);

/* HOT: make task (NULL: none) the current one of the running loop.  0 or -1. */
static inline int
fl_current_publish(FLLoop *loop, struct FLTask *task)
{
    if (loop->current == task) {
        return 0;
    }
    return fl_current_replace(loop, task);
}

#if FL_PY314
/* HOT: the running loop of this thread, where asyncio keeps it; NULL if there is none
   or the place is not known (borrowed). */
FL_BORROWED static inline PyObject *
fl_running_loop_of_thread(const fl_state *st)
{
    if (FL_UNLIKELY(st->running_loop_offset == 0)) {
        return NULL;
    }
    char *ts = (char *)PyThreadState_GetUnchecked();
    return *(PyObject **)(void *)(ts + st->running_loop_offset);
}
#endif

/* The loop begins to run in this thread: find where to publish. */
void fl_current_begin(FLLoop *loop);

/* A list of all unfinished native tasks, of all loops (new references). */
PyObject *fl_registry_list_tasks(fl_state *st);

#if FL_PY314
/* asyncio.future_add_to_awaited_by() and its undoing for a native future.  1 done,
   0 not native, -1 error. */
int fl_registry_add_awaited_by(fl_state *st, PyObject *fut, PyObject *waiter);
int fl_registry_discard_awaited_by(fl_state *st, PyObject *fut,
                                   PyObject *waiter);
#endif

/* Find out how this Python keeps the current task.  0 or -1. */
int fl_registry_init(PyObject *module);

#endif
