#include "prims/waiters.h"

#include "prims/common.h"

/* --- the list ------------------------------------------------------------------------ */

static inline FLCoro *
coro_of(struct fl_list *node)
{
    return FL_CONTAINER_OF(node, FLCoro, node);
}

static inline PyObject *
future_of(const FLCoro *coro)
{
    return coro->slots[FL_WAIT_FUTURE];
}

void
fl_waiters_init(struct fl_waiters *w)
{
    fl_list_init(&w->coros);
    w->shown = NULL;
}

int
fl_waiters_traverse(const struct fl_waiters *w, visitproc visit, void *arg)
{
    Py_VISIT(w->shown);
    for (struct fl_list *i = w->coros.next; i != &w->coros; i = i->next) {
        Py_VISIT(future_of(coro_of(i)));
    }
    return 0;
}

static void
unlink_all(struct fl_waiters *w)
{
    while (!fl_list_empty(&w->coros)) {
        fl_coro_unlink(coro_of(w->coros.next));
    }
}

void
fl_waiters_reset(struct fl_waiters *w)
{
    unlink_all(w);
    Py_CLEAR(w->shown);
}

int
fl_waiters_make_future(FLCoro *coro)
{
    FLBound *owner = (FLBound *)coro->slots[FL_WAIT_OWNER];
    PyObject *future = fl_bound_create_future(owner);
    if (future == NULL) {
        return -1;
    }
    Py_XSETREF(coro->slots[FL_WAIT_FUTURE], future);
    return 0;
}

/* deque.name(future) */
static int
tell(PyObject *deque, PyObject *name, PyObject *future)
{
    Py_INCREF(deque);
    PyObject *done = PyObject_CallMethodOneArg(deque, name, future);
    Py_DECREF(deque);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

int
fl_waiters_add(struct fl_waiters *w, FLCoro *coro)
{
    if (FL_UNLIKELY(w->shown != NULL)) {
        return tell(w->shown, coro->st->str.append, future_of(coro));
    }
    /* As in asyncio, a task that waits lives as long as what it waits for. */
    Py_INCREF(future_of(coro));
    fl_list_append(&w->coros, &coro->node);
    return 0;
}

/* HOT */
PySendResult
fl_waiters_wait(struct fl_waiters *w, FLCoro *coro, PyObject **result)
{
    if (fl_waiters_make_future(coro) < 0 || fl_waiters_add(w, coro) < 0) {
        return PYGEN_ERROR;
    }
    return fl_coro_wait(coro, future_of(coro), result);
}

int
fl_waiters_remove(struct fl_waiters *w, FLCoro *coro)
{
    fl_coro_unlink(coro);
    if (FL_LIKELY(w->shown == NULL)) {
        return 0;
    }
    return tell(w->shown, coro->st->str.remove, future_of(coro));
}

Py_ssize_t
fl_waiters_count(fl_state *Py_UNUSED(st), const struct fl_waiters *w)
{
    if (w->shown != NULL) {
        return PyObject_Size(w->shown);
    }
    Py_ssize_t n = 0;
    for (struct fl_list *i = w->coros.next; i != &w->coros; i = i->next) {
        n++;
    }
    return n;
}

/* --- over the list, over the deque ----------------------------------------------------- */

/* What to do with each future: 1 stop, 0 go on, -1 error. */
typedef int (*visit_future)(fl_state *st, PyObject *future, void *arg);

static FL_COLD int
each_shown(fl_state *st, PyObject *deque, visit_future visit, void *arg)
{
    PyObject *iterator = PyObject_GetIter(deque);
    if (iterator == NULL) {
        return -1;
    }
    int status = 0;
    PyObject *future;
    while (status == 0 && (future = PyIter_Next(iterator)) != NULL) {
        status = visit(st, future, arg);
        Py_DECREF(future);
    }
    Py_DECREF(iterator);
    return status == 0 && PyErr_Occurred() ? -1 : status;
}

/* Visits hand over hand: the coroutine in hand is held, and if it has left the list
   meanwhile, all begins anew (which finds those done that were visited). */
static int
each(fl_state *st, struct fl_waiters *w, visit_future visit, void *arg)
{
    if (FL_UNLIKELY(w->shown != NULL)) {
        return each_shown(st, w->shown, visit, arg);
    }
    int status = 0;
    struct fl_list *node = w->coros.next;
    while (status == 0 && node != &w->coros) {
        FLCoro *coro = (FLCoro *)Py_NewRef(coro_of(node));
        PyObject *future = Py_NewRef(future_of(coro));
        status = visit(st, future, arg);
        FLCoro *next = NULL;
        if (FL_UNLIKELY(w->shown != NULL)) {
            node = &w->coros; /* somebody looked: the rest is in the deque */
            if (status == 0) {
                status = each_shown(st, w->shown, visit, arg);
            }
        }
        else {
            node =
                FL_LIKELY(fl_list_linked(node)) ? node->next : w->coros.next;
            if (node != &w->coros) {
                next = (FLCoro *)Py_NewRef(coro_of(node));
            }
        }
        Py_DECREF(future);
        Py_DECREF(coro);
        if (next != NULL && FL_UNLIKELY(!fl_list_linked(&next->node))) {
            node = w->coros.next;
        }
        Py_XDECREF(next);
    }
    return status;
}

static int
is_live(fl_state *st, PyObject *future, void *Py_UNUSED(arg))
{
    int cancelled = fl_any_cancelled(st, future);
    return cancelled < 0 ? -1 : !cancelled;
}

int
fl_waiters_any(fl_state *st, struct fl_waiters *w)
{
    return fl_waiters_empty(w) ? 0 : each(st, w, is_live, NULL);
}

struct gift {
    PyObject *value;
    Py_ssize_t left;
};

static int
give_one(fl_state *st, PyObject *future, void *arg)
{
    struct gift *gift = arg;
    if (gift->left <= 0) {
        return 1;
    }
    int done = fl_any_done(st, future);
    if (done != 0) {
        return done < 0 ? -1 : 0;
    }
    gift->left--;
    return fl_any_set_result(st, future, gift->value) < 0 ? -1 : 0;
}

int
fl_waiters_wake_many(fl_state *st, struct fl_waiters *w, Py_ssize_t n,
                     PyObject *value)
{
    struct gift gift = {value, n};
    return each(st, w, give_one, &gift) < 0 ? -1 : 0;
}

static int
give_first(fl_state *st, PyObject *future, void *arg)
{
    int done = fl_any_done(st, future);
    if (done != 0) {
        return done < 0 ? -1 : 0;
    }
    return fl_any_set_result(st, future, arg) < 0 ? -1 : 1;
}

int
fl_waiters_wake(fl_state *st, struct fl_waiters *w, PyObject *value)
{
    return fl_waiters_empty(w) ? 0 : each(st, w, give_first, value);
}

static int
give_head(fl_state *st, PyObject *future, void *arg)
{
    int status = give_first(st, future, arg);
    return status < 0 ? -1 : 1;
}

int
fl_waiters_wake_head(fl_state *st, struct fl_waiters *w)
{
    if (fl_waiters_empty(w)) {
        return 0;
    }
    return each(st, w, give_head, Py_True) < 0 ? -1 : 0;
}

/* --- taking from the left (queues) ------------------------------------------------------- */

int
fl_waiters_pop_shown(fl_state *st, PyObject *deque, bool all)
{
    Py_INCREF(deque);
    int status = 0;
    while (status == 0) {
        int some = PyObject_IsTrue(deque);
        if (some <= 0) {
            status = some;
            break;
        }
        PyObject *future = PyObject_CallMethodNoArgs(deque, st->str.popleft);
        if (future == NULL) {
            status = -1;
            break;
        }
        status = give_first(st, future, Py_None);
        Py_DECREF(future);
        if (all && status > 0) {
            status = 0;
        }
    }
    Py_DECREF(deque);
    return status < 0 ? -1 : 0;
}

/* HOT */
int
fl_waiters_pop(fl_state *st, struct fl_waiters *w, bool all)
{
    while (w->shown == NULL && !fl_list_empty(&w->coros)) {
        FLCoro *coro = coro_of(w->coros.next);
        PyObject *future = Py_NewRef(future_of(coro));
        fl_coro_unlink(coro);
        int status = give_first(st, future, Py_None);
        Py_DECREF(future);
        if (status < 0) {
            return -1;
        }
        if (status > 0 && !all) {
            return 0;
        }
    }
    if (FL_UNLIKELY(w->shown != NULL)) {
        return fl_waiters_pop_shown(st, w->shown, all);
    }
    return 0;
}

/* --- what Python sees ------------------------------------------------------------------ */

/* The futures move one by one, so that at no time any is in neither place. */
PyObject *
fl_waiters_show(fl_state *st, struct fl_waiters *w)
{
    if (w->shown != NULL) {
        return Py_NewRef(w->shown);
    }
    PyObject *deque = PyObject_CallNoArgs(st->imp.deque);
    if (deque == NULL) {
        return NULL;
    }
    if (w->shown != NULL) { /* making it has run code that asked, too */
        Py_DECREF(deque);
        return Py_NewRef(w->shown);
    }
    w->shown = Py_NewRef(deque);
    while (!fl_list_empty(&w->coros)) {
        FLCoro *coro = coro_of(w->coros.next);
        PyObject *future = Py_NewRef(future_of(coro));
        fl_coro_unlink(coro);
        int status = tell(deque, st->str.append, future);
        Py_DECREF(future);
        if (status < 0) {
            Py_DECREF(deque);
            return NULL;
        }
    }
    return deque;
}

void
fl_waiters_replace(struct fl_waiters *w, PyObject *deque)
{
    unlink_all(w);
    Py_XSETREF(w->shown, Py_NewRef(deque));
}
