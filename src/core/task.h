/* Task: a coroutine driven by the loop, and a future for its result.

   A task is scheduled by putting it on the ready ring itself, and waits for a
   future by being linked from it: no handle, method object or tuple is made.
   On a loop that is not ours it goes through that loop's call_soon(). */
#ifndef FL_CORE_TASK_H
#define FL_CORE_TASK_H

#include "core/future.h"

typedef struct FLTask {
    FLFuture fut;
    PyObject *coro;      /* owned; NULL until __init__ */
    PyObject *context;   /* owned */
    PyObject *name;      /* owned str, or an odd word: the N of "Task-N" */
    struct fl_list node; /* in a registry while unfinished; see registry.h */
} FLTask;

_Static_assert(offsetof(FLTask, fut) == 0, "a task is a future");

struct fl_task_options {
    PyObject *name;    /* borrowed; NULL or None: Task-N */
    PyObject *context; /* borrowed; NULL or None: a copy of the current one */
    bool eager_start;
};

/* A native task of our exact type on our loop. */
FLTask *fl_task_new(FLLoop *loop, PyObject *coro,
                    const struct fl_task_options *options);

/* Make a zeroed task run coro on loop (None: the current one). */
int fl_task_setup(FLTask *task, fl_state *st, PyObject *loop, PyObject *coro,
                  const struct fl_task_options *options);

/* The name, formatted if need be (a new reference). */
PyObject *fl_task_get_name(FLTask *task);

/* 1: will be cancelled, 0: is done already, -1: error.  msg may be NULL. */
int fl_task_cancel(FLTask *task, PyObject *msg);

/* Take back one request to cancel; how many are left. */
int32_t fl_task_uncancel(FLTask *task);

/* Cancel what the task waits for.  1: done, 0: refused, -1: error. */
int fl_task_cancel_waiter(FLTask *task, PyObject *msg);

/* What the task waits for (borrowed), or NULL. */
static inline PyObject *
fl_task_waiter(const FLTask *task)
{
    return FL_UNLIKELY(fl_future_done(&task->fut)) ? NULL : task->fut.result;
}

static inline bool
fl_task_waits_for(const FLTask *task, const FLFuture *fut)
{
    return fl_task_waiter(task) == (const PyObject *)fut;
}

/* Queue the task whose future is done.  Steals task, also on failure. */
static inline int
fl_task_push_wake(FLLoop *loop, FL_STEALS(2) FLTask *task)
{
    return fl_loop_push(loop, FL_READY_WAKE, task);
}

/* task_step.c.  step and wake run in a turn of our loop; -1: a fatal exception is
   raised. */
int fl_task_step(FLLoop *loop, FLTask *task);
int fl_task_wake(FLLoop *loop, FLTask *task);
int fl_task_step_soon(FLTask *task);
int fl_task_wake_soon(FLTask *task, FLFuture *fut);
int fl_task_start_eagerly(FLTask *task);
PyObject *fl_task_wakeup_method(FLTask *task);

int fl_task_init_types(PyObject *module);

#endif
