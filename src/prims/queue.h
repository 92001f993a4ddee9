/* Queue, LifoQueue, PriorityQueue.  queue.c: what is in it; queue_wait.c: who waits
   for it; queue_type.c: what Python sees. */
#ifndef FL_PRIMS_QUEUE_H
#define FL_PRIMS_QUEUE_H

#include "base/ring.h"
#include "prims/event.h"

typedef struct {
    FLBound base;
    struct fl_ring items; /* owned objects; only while container is NULL */
    PyObject *container;  /* owned; `_queue`, where Python has seen or set it:
                             a deque, or always the list of the other orders */
    PyObject *maxsize;    /* owned; as given */
    Py_ssize_t limit;     /* that as a number, 0 for no limit; -1: no int */
    struct fl_waiters getters;
    struct fl_waiters putters;
    Py_ssize_t unfinished;
    PyObject *finished;    /* owned; `_finished`: an Event, made when needed */
    bool finished_unasked; /* its flag as long as there is none */
    bool shutdown;
} FLQueue;

/* queue.c.  The container; -1 with an exception. */
int fl_queue_init_container(FLQueue *self);
int fl_queue_plain_put(FLQueue *self, PyObject *item);
PyObject *fl_queue_plain_get(FLQueue *self);
Py_ssize_t fl_queue_plain_size(const FLQueue *self);
int fl_queue_plain_empty(const FLQueue *self); /* 1, 0, -1 */
int fl_queue_plain_full(FLQueue *self);        /* 1, 0, -1 */
PyObject *fl_queue_show(FLQueue *self);        /* `_queue` */
void fl_queue_replace(FLQueue *self, PyObject *container);
void fl_queue_drop_items(FLQueue *self);
void fl_queue_set_maxsize(FLQueue *self, PyObject *maxsize);

/* The same as overridden. */
int fl_queue_empty(FLQueue *self);
int fl_queue_full(FLQueue *self);

/* What the methods of these names do; with `any` as they are overridden. */
int fl_queue_put_nowait(FLQueue *self, PyObject *item);
int fl_queue_put_nowait_any(FLQueue *self, PyObject *item);
PyObject *fl_queue_get_nowait(FLQueue *self);
PyObject *fl_queue_get_nowait_any(FLQueue *self);
int fl_queue_task_done(FLQueue *self);
int fl_queue_shutdown(FLQueue *self, bool immediate);

/* HOT: put() and get() where nothing is overridden and nobody has to wait.  The long
   way: 0, and NULL with no exception. */
int fl_queue_try_put(FLQueue *self, PyObject *item); /* 1: done; -1 */
PyObject *fl_queue_try_get(FLQueue *self);

/* Wake the next of getters or putters, perhaps through _wakeup_next(). */
int fl_queue_wake(FLQueue *self, struct fl_waiters *waiters);

/* `_finished`, made if need be (a new reference). */
PyObject *fl_queue_finished(FLQueue *self);

/* queue_wait.c: the coroutines. */
PyObject *fl_queue_get(FLQueue *self);
PyObject *fl_queue_put(FLQueue *self, PyObject *item);
PyObject *fl_queue_join(FLQueue *self);

int fl_queue_init_types(PyObject *module);

#endif
