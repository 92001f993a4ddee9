/* What the primitives share: the running loop, futures and timers on any loop.

   On a loop of ours whose methods nobody overrides all is done in C; on any other
   through the loop's methods. */
#ifndef FL_PRIMS_COMMON_H
#define FL_PRIMS_COMMON_H

#include "core/future.h"

/* The loop, if it is ours and plain; else NULL. */
static inline FLLoop *
fl_plain_loop(fl_state *st, PyObject *loop)
{
    if (FL_LIKELY(loop != Py_None && fl_is_loop(st, loop)
                  && ((FLLoop *)loop)->plain)) {
        return (FLLoop *)loop;
    }
    return NULL;
}

/* asyncio.get_running_loop() (a new reference); RuntimeError if there is none. */
PyObject *fl_running_loop(fl_state *st);

/* asyncio.current_task(loop): a new reference, perhaps to None. */
PyObject *fl_current_task(fl_state *st, PyObject *loop);

/* loop.create_future() */
PyObject *fl_loop_create_future(fl_state *st, PyObject *loop);

/* loop.time(); -1.0 with an exception on error. */
double fl_loop_time(fl_state *st, PyObject *loop);

/* loop.call_later(delay, owner.method) and loop.call_at(when, owner.method); the
   method is METH_NOARGS and runs in no particular context.  now is the loop's time
   or a little less. */
PyObject *fl_loop_call_later(fl_state *st, PyObject *loop, PyObject *delay,
                             PyMethodDef *method, PyObject *owner);
PyObject *fl_loop_call_at(fl_state *st, PyObject *loop, double now,
                          PyObject *when, PyMethodDef *method,
                          PyObject *owner);
/* loop.call_soon(owner.method) */
PyObject *fl_loop_call_soon(fl_state *st, PyObject *loop, PyMethodDef *method,
                            PyObject *owner);
/* loop.call_later(delay, release, fut): see fl_any_release() */
PyObject *fl_loop_release_later(fl_state *st, PyObject *loop, PyObject *delay,
                                PyObject *fut);
/* seconds <= 0; 1, 0 or -1. */
int fl_is_no_time(PyObject *seconds);
/* handle.cancel(); 0 or -1. */
int fl_cancel_handle(fl_state *st, PyObject *handle);

/* Futures of any type.  Errors are -1. */
int fl_isfuture(fl_state *st, PyObject *o); /* 1 or 0 */
int fl_any_done(fl_state *st, PyObject *fut);
int fl_any_cancelled(fl_state *st, PyObject *fut);
/* fut.exception(): a new reference, None if there is none */
PyObject *fl_any_exception(fl_state *st, PyObject *fut);
PyObject *fl_any_result(fl_state *st, PyObject *fut);
PyObject *fl_any_loop(fl_state *st, PyObject *fut);
/* fut.cancel(msg=msg), msg may be NULL; 1 or 0 */
int fl_any_cancel(fl_state *st, PyObject *fut, PyObject *msg);
int fl_any_set_result(fl_state *st, PyObject *fut, PyObject *result);
int fl_any_set_exception(fl_state *st, PyObject *fut, PyObject *exc);
/* fut.add_done_callback(owner.method) and its undoing */
int fl_any_listen(fl_state *st, PyObject *fut, struct fl_listener *listener,
                  PyObject *owner);
int fl_any_unlisten(fl_state *st, PyObject *fut, struct fl_listener *listener,
                    PyObject *owner);

/* task.cancelling() and task.uncancel() of any task; -1 on error */
long fl_any_cancelling(fl_state *st, PyObject *task);
long fl_any_uncancel(fl_state *st, PyObject *task);

/* set_result(result) unless the future is done: what wakes a waiter.  0 or -1. */
int fl_any_release(fl_state *st, PyObject *fut, PyObject *result);

/* Releases its owner, a future, when another one is done.  A coroutine never is the
   owner itself: it would stay alive, and not be closed, while that is pending. */
extern struct fl_listener fl_release_def;

#endif
