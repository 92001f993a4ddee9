/* What is in a queue, and what can be done to it without waiting.

   Items are in a ring until somebody looks at `_queue`: then they move to a deque,
   which is used from there on.  The other orders keep theirs in a list from the start,
   as asyncio does.

   Beware: the methods of a container that is not ours, comparisons of items and
   everything overridden may do anything to the queue. */
#include "prims/queue.h"

#include "prims/common.h"

#define FIRST_SIZE 8u    /* entries of a new ring */
#define KEPT_SIZE  1024u /* an empty ring that is larger is given back */

/* --- the ring ------------------------------------------------------------------- */

static inline bool
uses_ring(const FLQueue *self)
{
    return self->container == NULL;
}

static FL_COLD int
start_ring(struct fl_ring *ring)
{
    ring->items = PyMem_Malloc(FIRST_SIZE * sizeof(uintptr_t));
    if (ring->items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    ring->size = FIRST_SIZE;
    return 0;
}

static inline int
ring_put(struct fl_ring *ring, PyObject *item)
{
    if (FL_UNLIKELY(ring->size == 0) && start_ring(ring) < 0) {
        return -1;
    }
    if (fl_ring_push(ring, (uintptr_t)item) < 0) {
        return -1;
    }
    Py_INCREF(item);
    return 0;
}

static inline PyObject *
ring_get(struct fl_ring *ring)
{
    PyObject *item = (PyObject *)fl_ring_pop(ring);
    if (FL_UNLIKELY(ring->size > KEPT_SIZE) && fl_ring_count(ring) == 0) {
        fl_ring_free(ring);
    }
    return item;
}

void
fl_queue_drop_items(FLQueue *self)
{
    while (fl_ring_count(&self->items) > 0) {
        Py_DECREF((PyObject *)fl_ring_pop(&self->items));
    }
    fl_ring_free(&self->items);
}

/* --- the container ---------------------------------------------------------------- */

int
fl_queue_init_container(FLQueue *self)
{
    PyObject *list = NULL;
    if (self->base.kind != FL_QUEUE) {
        list = PyList_New(0);
        if (list == NULL) {
            return -1;
        }
    }
    fl_queue_replace(self, list);
    Py_XDECREF(list);
    return 0;
}

void
fl_queue_replace(FLQueue *self, PyObject *container)
{
    PyObject *old = self->container;
    self->container = Py_XNewRef(container);
    Py_XDECREF(old);
    fl_queue_drop_items(self);
}

/* Items move one by one, so that at no time any is in neither place. */
PyObject *
fl_queue_show(FLQueue *self)
{
    fl_state *st = self->base.st;
    PyObject *deque =
        uses_ring(self) ? PyObject_CallNoArgs(st->imp.deque) : NULL;
    if (!uses_ring(self)) { /* also if making it has run code that asked */
        Py_XDECREF(deque);
        return Py_NewRef(self->container);
    }
    if (deque == NULL) {
        return NULL;
    }
    self->container = Py_NewRef(deque);
    while (fl_ring_count(&self->items) > 0) {
        PyObject *item = (PyObject *)fl_ring_pop(&self->items);
        PyObject *done =
            PyObject_CallMethodOneArg(deque, st->str.append, item);
        Py_DECREF(item);
        if (done == NULL) {
            Py_DECREF(deque);
            return NULL;
        }
        Py_DECREF(done);
    }
    fl_ring_free(&self->items);
    return deque;
}

/* container.name(), container.name(item) */
static PyObject *
call_container(FLQueue *self, PyObject *name, PyObject *item)
{
    PyObject *container = Py_NewRef(self->container);
    PyObject *args[] = {container, item};
    PyObject *result =
        PyObject_VectorcallMethod(name, args, item == NULL ? 1 : 2, NULL);
    Py_DECREF(container);
    return result;
}

static int
put_in_container(FLQueue *self, PyObject *item)
{
    fl_state *st = self->base.st;
    PyObject *container = Py_NewRef(self->container);
    int status = -1;
    if (self->base.kind == FL_PRIORITY_QUEUE) {
        PyObject *args[] = {container, item};
        PyObject *done = PyObject_Vectorcall(st->imp.heappush, args, 2, NULL);
        Py_XDECREF(done);
        status = done == NULL ? -1 : 0;
    }
    else if (PyList_CheckExact(container)) {
        status = PyList_Append(container, item);
    }
    else {
        PyObject *done = call_container(self, st->str.append, item);
        Py_XDECREF(done);
        status = done == NULL ? -1 : 0;
    }
    Py_DECREF(container);
    return status;
}

static PyObject *
get_from_container(FLQueue *self)
{
    fl_state *st = self->base.st;
    if (self->base.kind == FL_QUEUE) {
        return call_container(self, st->str.popleft, NULL);
    }
    if (self->base.kind == FL_LIFO_QUEUE) {
        return call_container(self, st->str.pop, NULL);
    }
    PyObject *container = Py_NewRef(self->container);
    PyObject *item = PyObject_CallOneArg(st->imp.heappop, container);
    Py_DECREF(container);
    return item;
}

int
fl_queue_plain_put(FLQueue *self, PyObject *item)
{
    return FL_LIKELY(uses_ring(self)) ? ring_put(&self->items, item)
                                      : put_in_container(self, item);
}

PyObject *
fl_queue_plain_get(FLQueue *self)
{
    if (FL_UNLIKELY(!uses_ring(self))) {
        return get_from_container(self);
    }
    if (FL_UNLIKELY(fl_ring_count(&self->items) == 0)) {
        PyErr_SetString(PyExc_IndexError, "pop from an empty deque");
        return NULL;
    }
    return ring_get(&self->items);
}

Py_ssize_t
fl_queue_plain_size(const FLQueue *self)
{
    if (FL_LIKELY(uses_ring(self))) {
        return (Py_ssize_t)fl_ring_count(&self->items);
    }
    if (PyList_CheckExact(self->container)) {
        return PyList_GET_SIZE(self->container);
    }
    PyObject *container = Py_NewRef(self->container);
    Py_ssize_t size = PyObject_Size(container);
    Py_DECREF(container);
    return size;
}

int
fl_queue_plain_empty(const FLQueue *self)
{
    if (FL_LIKELY(uses_ring(self))) {
        return fl_ring_count(&self->items) == 0;
    }
    PyObject *container = Py_NewRef(self->container);
    int empty = PyObject_Not(container);
    Py_DECREF(container);
    return empty;
}

/* --- its size ------------------------------------------------------------------------ */

void
fl_queue_set_maxsize(FLQueue *self, PyObject *maxsize)
{
    self->limit = -1;
    if (PyLong_CheckExact(maxsize)) {
        int overflow;
        long long limit = PyLong_AsLongLongAndOverflow(maxsize, &overflow);
        self->limit = overflow > 0                ? PY_SSIZE_T_MAX
                      : overflow < 0 || limit < 0 ? 0
                                                  : (Py_ssize_t)limit;
    }
    Py_XSETREF(self->maxsize, Py_NewRef(maxsize));
}

/* maxsize is no int but, say, math.inf: compare as Python would. */
static FL_COLD int
reaches_odd_limit(FLQueue *self)
{
    PyObject *maxsize = Py_NewRef(self->maxsize);
    PyObject *number = PyLong_FromLong(0);
    int unlimited =
        number == NULL ? -1 : PyObject_RichCompareBool(maxsize, number, Py_LE);
    Py_XDECREF(number);
    int full = unlimited < 0 ? -1 : 0;
    if (unlimited == 0) {
        number = fl_bound_call(&self->base, self->base.st->str.qsize, NULL);
        full = number == NULL
                   ? -1
                   : PyObject_RichCompareBool(number, maxsize, Py_GE);
        Py_XDECREF(number);
    }
    Py_DECREF(maxsize);
    return full;
}

/* qsize(), as overridden, against the limit. */
static FL_COLD int
own_size_reaches(FLQueue *self)
{
    PyObject *size =
        fl_bound_call(&self->base, self->base.st->str.qsize, NULL);
    PyObject *limit = PyLong_FromSsize_t(self->limit);
    int full = size == NULL || limit == NULL
                   ? -1
                   : PyObject_RichCompareBool(size, limit, Py_GE);
    Py_XDECREF(size);
    Py_XDECREF(limit);
    return full;
}

int
fl_queue_plain_full(FLQueue *self)
{
    if (FL_UNLIKELY(self->limit < 0)) {
        return reaches_odd_limit(self);
    }
    if (self->limit == 0) {
        return 0;
    }
    if (FL_UNLIKELY(fl_bound_overrides(&self->base) & FL_OWN_QSIZE)) {
        return own_size_reaches(self);
    }
    Py_ssize_t size = fl_queue_plain_size(self);
    return size < 0 ? -1 : size >= self->limit;
}

int
fl_queue_empty(FLQueue *self)
{
    if (FL_LIKELY(!(fl_bound_overrides(&self->base) & FL_OWN_EMPTY))) {
        return fl_queue_plain_empty(self);
    }
    return fl_bound_ask(&self->base, self->base.st->str.empty);
}

int
fl_queue_full(FLQueue *self)
{
    if (FL_LIKELY(!(fl_bound_overrides(&self->base) & FL_OWN_FULL))) {
        return fl_queue_plain_full(self);
    }
    return fl_bound_ask(&self->base, self->base.st->str.full);
}

/* --- putting and getting ---------------------------------------------------------------- */

int
fl_queue_wake(FLQueue *self, struct fl_waiters *waiters)
{
    fl_state *st = self->base.st;
    if (FL_LIKELY(!(fl_bound_overrides(&self->base) & FL_OWN_WAKE))) {
        return fl_waiters_empty(waiters) ? 0
                                         : fl_waiters_pop(st, waiters, false);
    }
    PyObject *deque = fl_waiters_show(st, waiters);
    PyObject *done =
        deque == NULL
            ? NULL
            : fl_bound_call(&self->base, st->str._wakeup_next, deque);
    Py_XDECREF(deque);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static int
call_put(FLQueue *self, PyObject *item)
{
    if (FL_LIKELY(!(fl_bound_overrides(&self->base) & FL_OWN_PUT))) {
        return fl_queue_plain_put(self, item);
    }
    PyObject *done = fl_bound_call(&self->base, self->base.st->str._put, item);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static PyObject *
call_get(FLQueue *self)
{
    if (FL_LIKELY(!(fl_bound_overrides(&self->base) & FL_OWN_GET))) {
        return fl_queue_plain_get(self);
    }
    return fl_bound_call(&self->base, self->base.st->str._get, NULL);
}

/* _finished.clear() and _finished.set() */
static int
set_finished(FLQueue *self, bool value)
{
    fl_state *st = self->base.st;
    PyObject *finished = self->finished;
    if (FL_LIKELY(finished == NULL)) {
        self->finished_unasked = value;
        return 0;
    }
    if (FL_LIKELY(Py_IS_TYPE(finished, st->EventType))) {
        Py_INCREF(finished);
        int status = 0;
        if (value) {
            status = fl_event_set((FLEvent *)finished);
        }
        else {
            ((FLEvent *)finished)->value = false;
        }
        Py_DECREF(finished);
        return status;
    }
    Py_INCREF(finished);
    PyObject *done = PyObject_CallMethodNoArgs(
        finished, value ? st->str.set : st->str.clear);
    Py_DECREF(finished);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

PyObject *
fl_queue_finished(FLQueue *self)
{
    if (self->finished == NULL) {
        FLEvent *event = fl_event_make(self->base.st, self->finished_unasked);
        if (event == NULL) {
            return NULL;
        }
        if (self->finished != NULL) { /* made meanwhile, by a finaliser */
            Py_DECREF(event);
        }
        else {
            event->value = self->finished_unasked;
            self->finished = (PyObject *)event;
        }
    }
    return Py_NewRef(self->finished);
}

/* HOT */
int
fl_queue_put_nowait(FLQueue *self, PyObject *item)
{
    fl_state *st = self->base.st;
    if (FL_UNLIKELY(self->shutdown)) {
        PyErr_SetNone(st->sup.QueueShutDown);
        return -1;
    }
    int full = fl_queue_full(self);
    if (FL_UNLIKELY(full != 0)) {
        if (full > 0) {
            PyErr_SetNone(st->imp.QueueFull);
        }
        return -1;
    }
    if (call_put(self, item) < 0) {
        return -1;
    }
    self->unfinished++;
    if (set_finished(self, false) < 0) {
        return -1;
    }
    return fl_queue_wake(self, &self->getters);
}

static inline bool
is_plain(FLQueue *self)
{
    return uses_ring(self) && fl_bound_overrides(&self->base) == 0;
}

/* fl_queue_wake() of a plain queue */
static inline int
wake_plain(FLQueue *self, struct fl_waiters *waiters)
{
    return FL_LIKELY(fl_waiters_empty(waiters))
               ? 0
               : fl_waiters_pop(self->base.st, waiters, false);
}

int
fl_queue_try_put(FLQueue *self, PyObject *item)
{
    Py_ssize_t count = (Py_ssize_t)fl_ring_count(&self->items);
    if (FL_UNLIKELY(!is_plain(self) || self->shutdown
                    || (count >= self->limit && self->limit != 0))) {
        return 0;
    }
    if (ring_put(&self->items, item) < 0) {
        return -1;
    }
    self->unfinished++;
    if (set_finished(self, false) < 0) {
        return -1;
    }
    return wake_plain(self, &self->getters) < 0 ? -1 : 1;
}

PyObject *
fl_queue_try_get(FLQueue *self)
{
    if (FL_UNLIKELY(!is_plain(self) || fl_ring_count(&self->items) == 0)) {
        return NULL;
    }
    PyObject *item = ring_get(&self->items);
    if (wake_plain(self, &self->putters) < 0) {
        Py_CLEAR(item);
    }
    return item;
}

int
fl_queue_put_nowait_any(FLQueue *self, PyObject *item)
{
    if (FL_LIKELY(!(fl_bound_overrides(&self->base) & FL_OWN_PUT_NOWAIT))) {
        return fl_queue_put_nowait(self, item);
    }
    PyObject *done =
        fl_bound_call(&self->base, self->base.st->str.put_nowait, item);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* HOT */
PyObject *
fl_queue_get_nowait(FLQueue *self)
{
    fl_state *st = self->base.st;
    int empty = fl_queue_empty(self);
    if (FL_UNLIKELY(empty != 0)) {
        if (empty > 0) {
            PyErr_SetNone(self->shutdown ? st->sup.QueueShutDown
                                         : st->imp.QueueEmpty);
        }
        return NULL;
    }
    PyObject *item = call_get(self);
    if (item != NULL && fl_queue_wake(self, &self->putters) < 0) {
        Py_CLEAR(item);
    }
    return item;
}

PyObject *
fl_queue_get_nowait_any(FLQueue *self)
{
    if (FL_LIKELY(!(fl_bound_overrides(&self->base) & FL_OWN_GET_NOWAIT))) {
        return fl_queue_get_nowait(self);
    }
    return fl_bound_call(&self->base, self->base.st->str.get_nowait, NULL);
}

int
fl_queue_task_done(FLQueue *self)
{
    if (self->unfinished <= 0) {
        PyErr_SetString(PyExc_ValueError, "task_done() called too many times");
        return -1;
    }
    self->unfinished--;
    return self->unfinished == 0 ? set_finished(self, true) : 0;
}

/* --- shutting down --------------------------------------------------------------------- */

static int
drain(FLQueue *self)
{
    int empty;
    while ((empty = fl_queue_empty(self)) == 0) {
        PyObject *item = call_get(self);
        if (item == NULL) {
            return -1;
        }
        Py_DECREF(item);
        if (self->unfinished > 0) {
            self->unfinished--;
        }
    }
    if (empty < 0) {
        return -1;
    }
    return self->unfinished == 0 ? set_finished(self, true) : 0;
}

int
fl_queue_shutdown(FLQueue *self, bool immediate)
{
    fl_state *st = self->base.st;
    self->shutdown = true;
    if (immediate && drain(self) < 0) {
        return -1;
    }
    if (fl_waiters_pop(st, &self->getters, true) < 0) {
        return -1;
    }
    return fl_waiters_pop(st, &self->putters, true);
}
