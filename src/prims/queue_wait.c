/* Waiting for a queue.

   Who is woken looks again, for somebody else may have been faster, and goes to the
   end of the line if so.  Who is woken and cancelled before its step wakes the next. */
#include "prims/queue.h"

#include "prims/common.h"

/* Slot of put()'s coroutine after the owner and the future. */
#define ITEM 2

/* --- get() and put() --------------------------------------------------------------- */

/* One of the two, as seen from the waiting. */
struct side {
    size_t waiters;                   /* offset in FLQueue */
    int (*must_wait)(FLQueue *queue); /* 1, 0, -1 */
};

static const struct side getting = {offsetof(FLQueue, getters),
                                    fl_queue_empty};
static const struct side putting = {offsetof(FLQueue, putters), fl_queue_full};

static inline struct fl_waiters *
waiters_of(FLQueue *queue, const struct side *side)
{
    return (struct fl_waiters *)(void *)((char *)queue + side->waiters);
}

/* Take the coroutine out of the line, where it need not be any more.  0 or -1. */
static int
leave_line(FLQueue *queue, const struct side *side, FLCoro *self)
{
    if (fl_waiters_remove(waiters_of(queue, side), self) == 0) {
        return 0;
    }
    if (!PyErr_ExceptionMatches(PyExc_ValueError)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

/* The wait was cut short by an exception: it stays raised unless another comes. */
static FL_COLD PySendResult
give_up(FLQueue *queue, const struct side *side, FLCoro *self)
{
    fl_state *st = self->st;
    PyObject *raised = fl_err_take();
    PyObject *future = self->slots[FL_WAIT_FUTURE];
    int status = fl_any_cancel(st, future, NULL);
    if (status >= 0) {
        status = leave_line(queue, side, self);
    }
    if (status == 0) {
        int wait = side->must_wait(queue);
        int cancelled = wait == 0 ? fl_any_cancelled(st, future) : 1;
        status = wait < 0 || cancelled < 0 ? -1 : 0;
        if (status == 0 && !wait && !cancelled) {
            status = fl_queue_wake(queue, waiters_of(queue, side));
        }
    }
    if (status < 0) {
        Py_DECREF(raised);
    }
    else {
        fl_err_give(raised);
    }
    return PYGEN_ERROR;
}

/* PYGEN_RETURN: go ahead; else what the body returns. */
static inline PySendResult
until_ready(FLQueue *queue, const struct side *side, FLCoro *self,
            PyObject *value, PyObject **result)
{
    if (FL_UNLIKELY(value == NULL)) {
        return give_up(queue, side, self);
    }
    int wait = side->must_wait(queue);
    if (FL_LIKELY(wait == 0)) {
        return PYGEN_RETURN;
    }
    if (wait > 0 && FL_UNLIKELY(queue->shutdown)) {
        PyErr_SetNone(self->st->sup.QueueShutDown);
        return PYGEN_ERROR;
    }
    return wait < 0 ? PYGEN_ERROR
                    : fl_waiters_wait(waiters_of(queue, side), self, result);
}

/* HOT */
static PySendResult
get_run(FLCoro *self, PyObject *value, PyObject **result)
{
    FLQueue *queue = (FLQueue *)self->slots[FL_WAIT_OWNER];
    if (FL_LIKELY(value != NULL)) {
        *result = fl_queue_try_get(queue);
        if (FL_LIKELY(*result != NULL)) {
            return PYGEN_RETURN;
        }
        if (PyErr_Occurred()) {
            return PYGEN_ERROR;
        }
    }
    PySendResult status = until_ready(queue, &getting, self, value, result);
    if (status != PYGEN_RETURN) {
        return status;
    }
    *result = fl_queue_get_nowait_any(queue);
    return FL_LIKELY(*result != NULL) ? PYGEN_RETURN : PYGEN_ERROR;
}

/* HOT */
static PyObject *
get_at_once(FLCoro *self)
{
    FLQueue *queue = (FLQueue *)self->slots[FL_WAIT_OWNER];
    return fl_waiters_empty(&queue->putters) ? fl_queue_try_get(queue) : NULL;
}

/* HOT */
static PyObject *
put_at_once(FLCoro *self)
{
    FLQueue *queue = (FLQueue *)self->slots[FL_WAIT_OWNER];
    if (!fl_waiters_empty(&queue->getters)
        || (queue->finished != NULL
            && !Py_IS_TYPE(queue->finished, self->st->EventType))) {
        return NULL;
    }
    int done = fl_queue_try_put(queue, self->slots[ITEM]);
    if (FL_UNLIKELY(done <= 0)) {
        PyErr_Clear(); /* of memory: put_run() tries again */
        return NULL;
    }
    Py_CLEAR(self->slots[ITEM]); /* the queue has one, too */
    return Py_NewRef(Py_None);
}

/* HOT */
static PySendResult
put_run(FLCoro *self, PyObject *value, PyObject **result)
{
    FLQueue *queue = (FLQueue *)self->slots[FL_WAIT_OWNER];
    if (FL_LIKELY(value != NULL)) {
        int done = fl_queue_try_put(queue, self->slots[ITEM]);
        if (FL_LIKELY(done > 0)) {
            return fl_coro_return_none(result);
        }
        if (done < 0) {
            return PYGEN_ERROR;
        }
    }
    PySendResult status = until_ready(queue, &putting, self, value, result);
    if (status != PYGEN_RETURN) {
        return status;
    }
    if (fl_queue_put_nowait_any(queue, self->slots[ITEM]) < 0) {
        return PYGEN_ERROR;
    }
    return fl_coro_return_none(result);
}

static const struct fl_coro_kind get_kind = {"get", "Queue.get", get_run,
                                             get_at_once};
static const struct fl_coro_kind put_kind = {"put", "Queue.put", put_run,
                                             put_at_once};

PyObject *
fl_queue_get(FLQueue *self)
{
    return (PyObject *)fl_bound_coro(&self->base, &get_kind);
}

PyObject *
fl_queue_put(FLQueue *self, PyObject *item)
{
    FLCoro *coro = fl_bound_coro(&self->base, &put_kind);
    if (coro != NULL) {
        coro->slots[ITEM] = Py_NewRef(item);
    }
    return (PyObject *)coro;
}

/* --- join() -------------------------------------------------------------------------- */

static PySendResult
join_run(FLCoro *self, PyObject *value, PyObject **result)
{
    FLQueue *queue = (FLQueue *)self->slots[FL_WAIT_OWNER];
    if (value == NULL) {
        return PYGEN_ERROR;
    }
    if (self->step == 1 || queue->unfinished <= 0) {
        return fl_coro_return_none(result);
    }
    self->step = 1;
    PyObject *finished = fl_queue_finished(queue);
    PyObject *wait = NULL;
    if (finished != NULL) {
        wait = Py_IS_TYPE(finished, self->st->EventType)
                   ? fl_event_wait((FLEvent *)finished)
                   : PyObject_CallMethodNoArgs(finished, self->st->str.wait);
        Py_DECREF(finished);
    }
    if (wait == NULL) {
        return PYGEN_ERROR;
    }
    PySendResult status = fl_coro_await(self, wait, result);
    Py_DECREF(wait);
    return status;
}

static const struct fl_coro_kind join_kind = {"join", "Queue.join", join_run,
                                              NULL};

PyObject *
fl_queue_join(FLQueue *self)
{
    return (PyObject *)fl_bound_coro(&self->base, &join_kind);
}
