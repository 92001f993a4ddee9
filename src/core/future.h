/* Future: a result to come, and who waits for it.

   A done-callback is stored as a pair.  With a context it is what
   add_done_callback() was given; without one it is a native task that waits, and
   is woken through the ready ring with no callback object in between; with a
   listener, a C method of the object is called.

   The first pair lies in the future, the others in an array.  That, and what else a
   future rarely has, is in a struct of its own, allocated when needed. */
#ifndef FL_CORE_FUTURE_H
#define FL_CORE_FUTURE_H

#include "core/loop.h"

enum fl_future_state {
    FL_FUTURE_PENDING = 0,
    FL_FUTURE_CANCELLED,
    FL_FUTURE_FINISHED,
};

/* A method owner.m(future) that is called as a done-callback, in C. */
struct fl_listener {
    PyMethodDef method; /* METH_O */
    /* borrowed: the task that waits through owner, or NULL */
    PyObject *(*waiter)(PyObject *owner);
};

struct fl_callback {
    PyObject *call;    /* owned; NULL: empty */
    PyObject *context; /* owned, or a word that tells the kind of entry: see
                     future_callbacks.c */
};

struct fl_callbacks {
    Py_ssize_t count;
    Py_ssize_t size;
    Py_ssize_t next; /* how many have been run, once the future is done */
    struct fl_callback items[];
};

struct fl_future_rare {
    struct fl_callbacks *more; /* owned; the callbacks after the first */
    PyObject *source_tb;       /* owned; debug mode */
    PyObject *cancel_msg;      /* owned */
    PyObject *cancelled_exc;   /* owned; to be raised once */
    PyObject *exception_tb; /* owned; restored when the exception is raised */
    PyObject *throw_exc;    /* owned; task: to be thrown by the next step */
    PyObject *awaited_by; /* owned; who asyncio's gather() and others say waits
                               (3.14): one waiter, a set of several, or NULL */
};

typedef struct FLFuture {
    PyObject_HEAD
    PyObject *dict;
    PyObject *weakrefs;
    PyObject *loop; /* owned; NULL until __init__ */
    PyObject
        *result; /* owned; the exception if failed; of a pending task: what
                         it waits for */
    struct fl_callback first;
    struct fl_future_rare *rare; /* owned; NULL: all of it empty */
    uint8_t state;               /* enum fl_future_state */
    bool failed : 1;             /* finished with an exception */
    bool native : 1;             /* loop is an FLLoop */
    bool log_traceback : 1;      /* failed, and nobody has asked yet */
    bool blocking : 1;           /* yielded by `await`, not by a bare yield */
    /* tasks only */
    bool is_task : 1;
    bool must_cancel : 1;
    bool log_destroy_pending : 1;
    bool queued : 1; /* a step or wakeup is in the ready ring */
    int32_t cancel_requests;
} FLFuture;

static inline bool
fl_future_done(const FLFuture *fut)
{
    return fut->state != FL_FUTURE_PENDING;
}

/* A future of a type of ours, whose await does nothing unusual?  (A subclass of the
   user's may override anything.) */
static inline bool
fl_future_is_native(const fl_state *st, PyObject *o)
{
    const PyTypeObject *type = Py_TYPE(o);
    return type == st->FutureType || type == st->TaskType
           || type == st->GatheringFutureType;
}

/* The loop, if it is ours and futures may use its ring; else NULL. */
static inline FLLoop *
fl_future_direct_loop(const FLFuture *fut)
{
    FLLoop *loop = (FLLoop *)fut->loop;
    return FL_LIKELY(fut->native && loop->direct) ? loop : NULL;
}

static inline fl_state *
fl_future_state(const FLFuture *fut)
{
    return FL_LIKELY(fut->native) ? ((FLLoop *)fut->loop)->st
                                  : fl_state_of_type(Py_TYPE(fut));
}

/* The rare fields, allocated; NULL with MemoryError. */
struct fl_future_rare *fl_future_rare(FLFuture *fut);

/* A pending future of our exact type. */
FLFuture *fl_future_new(FLLoop *loop);

/* Bind a zeroed future to loop (None: asyncio's current one). */
int fl_future_setup(FLFuture *fut, fl_state *st, PyObject *loop);

/* 0, or -1 with RuntimeError if __init__ was never called */
int fl_future_check_initialised(const FLFuture *fut);

/* Outcomes.  -1: InvalidStateError, or what scheduling the callbacks raised. */
int fl_future_set_result(FLFuture *fut, PyObject *result);
int fl_future_set_exception(FLFuture *fut, PyObject *exc);
/* 1: cancelled now, 0: was done already, -1: error.  msg may be NULL. */
int fl_future_cancel(FLFuture *fut, PyObject *msg);

/* The result (a new reference), or NULL with the exception raised. */
PyObject *fl_future_get_result(FLFuture *fut);

/* For a waiter: 0 has a result, 1 failed or cancelled (*exc, a new reference,
   is what to throw), -1 error. */
int fl_future_get_failure(FLFuture *fut, PyObject **exc);

/* The CancelledError to raise for a cancelled future. */
PyObject *fl_future_make_cancelled_error(FLFuture *fut);

/* callbacks.c */
int fl_future_add_callback(FLFuture *fut, PyObject *call, PyObject *context);
int fl_future_add_waiter(FLFuture *fut, struct FLTask *task);
int fl_future_add_listener(FLFuture *fut, struct fl_listener *listener,
                           PyObject *owner);
bool fl_future_remove_listener(FLFuture *fut,
                               const struct fl_listener *listener,
                               const PyObject *owner);
Py_ssize_t fl_future_remove_callback(FLFuture *fut, PyObject *call);
int fl_future_schedule_callbacks(FLFuture *fut);
/* Run what a done future has in store.  -1: a fatal exception is raised and the
   rest is still there. */
int fl_future_run_callbacks(FLLoop *loop, FLFuture *fut);
PyObject *fl_future_list_callbacks(FLFuture *fut);
#if FL_PY314
/* Add to set the tasks that wait for fut. */
int fl_future_add_waiting_tasks(FLFuture *fut, PyObject *set);
#endif
void fl_callbacks_free(struct fl_callbacks *more);
void fl_future_clear_callbacks(FLFuture *fut);
int fl_future_traverse_callbacks(FLFuture *fut, visitproc visit, void *arg);

/* future_iter.c: what `await future` iterates */
PyObject *fl_future_iter(FLFuture *fut);
int fl_future_iter_init_types(PyObject *module);

/* future_type.c: shared with Task, which is a future to Python too */
extern PyGetSetDef fl_future_getset[];
extern PyMethodDef fl_future_methods[];
int fl_future_traverse(FLFuture *fut, visitproc visit, void *arg);
int fl_future_clear(FLFuture *fut);
void fl_future_finalize(FLFuture *fut);
int fl_future_init_types(PyObject *module);

#endif
