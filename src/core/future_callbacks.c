/* Who is told when a future is done.

   On our loop, a single waiting task goes straight to the ready ring; anything
   else queues the future itself once, and its callbacks run in order when its
   turn comes, which is where asyncio would have put them one by one.  On any
   other loop each callback is handed to loop.call_soon().

   Beware: comparing callbacks, calling them, and a foreign call_soon() all run
   code that may add or remove callbacks of this very future. */
#include "core/future.h"

#include "core/context.h"
#include "core/debug.h"
#include "core/registry.h"
#include "core/report.h"
#include "core/task.h"

/* --- the kinds of entries ---------------------------------------------------------- */

/* A callback that somebody has added has a context.  In its place stands NULL if `call` is
   an FLTask that waits; an odd word, of an fl_listener, if it is the listener's owner; or
   this, where nobody has needed the empty context yet (see context.h). */
#define EMPTY ((PyObject *)(uintptr_t)2)

static inline struct fl_listener *
listener_of(const struct fl_callback *callback)
{
    uintptr_t word = (uintptr_t)callback->context;
    return word & 1 ? (struct fl_listener *)(void *)(word - 1) : NULL;
}

static inline PyObject *
tagged(const struct fl_listener *listener)
{
    return (PyObject *)(void *)((uintptr_t)listener | 1);
}

/* A callback that somebody has added, neither a task nor a listener? */
static inline bool
is_plain(const struct fl_callback *callback)
{
    return callback->context != NULL && listener_of(callback) == NULL;
}

/* The context as an object; NULL if there is none. */
static inline PyObject *
context_of(const struct fl_callback *callback)
{
    return listener_of(callback) != NULL || callback->context == EMPTY
               ? NULL
               : callback->context;
}

/* For others to use: a new reference, or NULL with an exception. */
static PyObject *
make_context(const struct fl_callback *callback)
{
    return callback->context == EMPTY ? PyContext_New()
                                      : Py_NewRef(callback->context);
}

/* --- the list ----------------------------------------------------------------- */

/* The callbacks after the first. */
static inline struct fl_callbacks *
more_of(const FLFuture *fut)
{
    return FL_LIKELY(fut->rare == NULL) ? NULL : fut->rare->more;
}

/* They are somebody else's now. */
static inline struct fl_callbacks *
take_more(FLFuture *fut)
{
    struct fl_callbacks *more = more_of(fut);
    if (more != NULL) {
        fut->rare->more = NULL;
    }
    return more;
}

static Py_ssize_t
count(const FLFuture *fut)
{
    const struct fl_callbacks *more = more_of(fut);
    return (fut->first.call != NULL) + (more ? more->count : 0);
}

static struct fl_callback *
entry(FLFuture *fut, Py_ssize_t i)
{
    if (fut->first.call != NULL) {
        return i == 0 ? &fut->first : &fut->rare->more->items[i - 1];
    }
    return &fut->rare->more->items[i];
}

/* Room for one more; NULL with MemoryError. */
static FL_COLD struct fl_callbacks *
reserve(FLFuture *fut)
{
    struct fl_future_rare *rare = fl_future_rare(fut);
    if (rare == NULL) {
        return NULL;
    }
    Py_ssize_t size = rare->more ? rare->more->size * 2 : 4;
    size_t bytes = sizeof(struct fl_callbacks)
                   + (size_t)size * sizeof(struct fl_callback);
    struct fl_callbacks *more = PyMem_Realloc(rare->more, bytes);
    if (more == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    if (rare->more == NULL) {
        more->count = 0;
        more->next = 0;
    }
    more->size = size;
    rare->more = more;
    return more;
}

/* A free entry at the end, to be filled in at once; NULL with MemoryError. */
static struct fl_callback *
append(FLFuture *fut)
{
    struct fl_callback *slot = &fut->first;
    struct fl_callbacks *more = more_of(fut);
    if (slot->call != NULL || more != NULL) {
        if (more == NULL || more->count == more->size) {
            more = reserve(fut);
            if (more == NULL) {
                return NULL;
            }
        }
        slot = &more->items[more->count++];
    }
    return slot;
}

/* Take entry i out; the references pass to the caller. */
static struct fl_callback
take(FLFuture *fut, Py_ssize_t i)
{
    struct fl_callback *slot = entry(fut, i);
    struct fl_callback taken = *slot;
    if (slot == &fut->first) {
        fut->first = (struct fl_callback){NULL, NULL};
        return taken;
    }
    struct fl_callbacks *more = fut->rare->more;
    Py_ssize_t at = slot - more->items;
    more->count--;
    for (Py_ssize_t k = at; k < more->count; k++) {
        more->items[k] = more->items[k + 1];
    }
    if (more->count == 0) {
        fut->rare->more = NULL;
        PyMem_Free(more);
    }
    return taken;
}

static void
release(struct fl_callback *callback)
{
    PyObject *context = context_of(callback);
    callback->context = NULL;
    Py_CLEAR(callback->call);
    Py_XDECREF(context);
}

void
fl_callbacks_free(struct fl_callbacks *more)
{
    for (Py_ssize_t i = more->next; i < more->count; i++) {
        release(&more->items[i]);
    }
    PyMem_Free(more);
}

void
fl_future_clear_callbacks(FLFuture *fut)
{
    struct fl_callbacks *more = take_more(fut);
    release(&fut->first);
    if (more != NULL) {
        fl_callbacks_free(more);
    }
}

int
fl_future_traverse_callbacks(FLFuture *fut, visitproc visit, void *arg)
{
    Py_VISIT(fut->first.call);
    Py_VISIT(context_of(&fut->first));
    const struct fl_callbacks *more = more_of(fut);
    for (Py_ssize_t i = more ? more->next : 0; more != NULL && i < more->count;
         i++) {
        Py_VISIT(more->items[i].call);
        Py_VISIT(context_of(&more->items[i]));
    }
    return 0;
}

/* --- adding and removing --------------------------------------------------------- */

/* loop.call_soon(call, *args, context=context) on a loop that is not ours, or
   on ours through its public door. */
static int
call_soon(FLFuture *fut, PyObject *call, PyObject *arg, PyObject *context)
{
    fl_state *st = fl_future_state(fut);
    PyObject *stack[] = {NULL, fut->loop, call, arg, context};
    size_t nargs = 3;
    if (arg == NULL) {
        stack[3] = context;
        nargs = 2;
    }
    PyObject *handle = PyObject_VectorcallMethod(
        st->str.call_soon, stack + 1, nargs | PY_VECTORCALL_ARGUMENTS_OFFSET,
        st->context_kwnames);
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 0;
}

static FL_COLD int
schedule_listener(FLFuture *fut, struct fl_listener *listener, PyObject *owner)
{
    PyObject *method = PyCFunction_New(&listener->method, owner);
    PyObject *context = method == NULL ? NULL : PyContext_CopyCurrent();
    int status = context == NULL
                     ? -1
                     : call_soon(fut, method, (PyObject *)fut, context);
    Py_XDECREF(context);
    Py_XDECREF(method);
    return status;
}

/* Schedule one callback of a future that is done, by itself. */
static int
schedule(FLFuture *fut, const struct fl_callback *callback)
{
    if (callback->context == NULL) {
        FLTask *task = (FLTask *)callback->call;
        FLLoop *loop = fl_future_direct_loop(fut);
        if (loop == NULL) {
            return fl_task_wake_soon(task, fut);
        }
        return fl_debug_check_schedule(loop) < 0
                   ? -1
                   : fl_task_push_wake(loop, (FLTask *)Py_NewRef(task));
    }
    struct fl_listener *listener = listener_of(callback);
    if (listener != NULL) {
        return schedule_listener(fut, listener, callback->call);
    }
    PyObject *context = make_context(callback);
    if (context == NULL) {
        return -1;
    }
    int status = call_soon(fut, callback->call, (PyObject *)fut, context);
    Py_DECREF(context);
    return status;
}

int
fl_future_add_callback(FLFuture *fut, PyObject *call, PyObject *context)
{
    struct fl_callback late, *slot = &late;
    if (!fl_future_done(fut) && (slot = append(fut)) == NULL) {
        return -1;
    }
    slot->call = Py_NewRef(call);
    slot->context = context == NULL ? EMPTY : Py_NewRef(context);
    if (slot != &late) {
        return 0;
    }
    int status = schedule(fut, &late);
    release(&late);
    return status;
}

/* HOT */
int
fl_future_add_listener(FLFuture *fut, struct fl_listener *listener,
                       PyObject *owner)
{
    if (FL_UNLIKELY(fl_future_done(fut))) {
        return schedule_listener(fut, listener, owner);
    }
    struct fl_callback *slot = append(fut);
    if (slot == NULL) {
        return -1;
    }
    slot->call = Py_NewRef(owner);
    slot->context = tagged(listener);
    return 0;
}

bool
fl_future_remove_listener(FLFuture *fut, const struct fl_listener *listener,
                          const PyObject *owner)
{
    Py_ssize_t n = fl_future_done(fut) ? 0 : count(fut);
    for (Py_ssize_t i = 0; i < n; i++) {
        const struct fl_callback *slot = entry(fut, i);
        if (slot->call == owner && slot->context == tagged(listener)) {
            struct fl_callback taken = take(fut, i);
            release(&taken);
            return true;
        }
    }
    return false;
}

/* HOT */
int
fl_future_add_waiter(FLFuture *fut, struct FLTask *task)
{
    FL_ASSERT(!fl_future_done(fut));
    struct fl_callback *slot = append(fut);
    if (slot == NULL) {
        return -1;
    }
    slot->call = Py_NewRef(task);
    slot->context = NULL;
    return 0;
}

Py_ssize_t
fl_future_remove_callback(FLFuture *fut, PyObject *call)
{
    Py_ssize_t removed = 0;
    Py_ssize_t i = 0;
    while (!fl_future_done(fut) && i < count(fut)) {
        struct fl_callback *slot = entry(fut, i);
        if (!is_plain(slot)) {
            i++;
            continue;
        }
        PyObject *candidate = Py_NewRef(slot->call);
        int same = PyObject_RichCompareBool(candidate, call, Py_EQ);
        Py_DECREF(candidate);
        if (same < 0) {
            return -1;
        }
        /* Beware: the comparison may have changed the list. */
        if (same && !fl_future_done(fut) && i < count(fut)
            && entry(fut, i)->call == candidate) {
            struct fl_callback taken = take(fut, i);
            release(&taken);
            removed++;
            continue;
        }
        i++;
    }
    return removed;
}

/* The pair that asyncio would have in its list. */
static PyObject *
describe(struct fl_callback *slot)
{
    struct fl_listener *listener = listener_of(slot);
    PyObject *method, *context;
    if (is_plain(slot)) {
        method = Py_NewRef(slot->call);
        context = make_context(slot);
    }
    else if (listener != NULL) {
        method = PyCFunction_New(&listener->method, slot->call);
        context = PyContext_CopyCurrent();
    }
    else {
        method = fl_task_wakeup_method((FLTask *)slot->call);
        context = Py_XNewRef(fl_context_get(&((FLTask *)slot->call)->context));
    }
    PyObject *pair = method == NULL || context == NULL
                         ? NULL
                         : PyTuple_Pack(2, method, context);
    Py_XDECREF(method);
    Py_XDECREF(context);
    return pair;
}

PyObject *
fl_future_list_callbacks(FLFuture *fut)
{
    Py_ssize_t n = fl_future_done(fut) ? 0 : count(fut);
    if (n == 0) {
        Py_RETURN_NONE;
    }
    PyObject *list = PyList_New(n);
    if (list == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        struct fl_callback *slot = entry(fut, i);
        PyObject *pair = describe(slot);
        if (pair == NULL) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SET_ITEM(list, i, pair);
    }
    return list;
}

#if FL_PY314
/* The task behind a callback, if it is one that waits: ours, or the bound
   task_wakeup that asyncio's own tasks use. */
static PyObject *
waiting_task(fl_state *st, const struct fl_callback *callback)
{
    if (callback->context == NULL) {
        return callback->call;
    }
    struct fl_listener *listener = listener_of(callback);
    if (listener != NULL) {
        return listener->waiter == NULL ? NULL
                                        : listener->waiter(callback->call);
    }
    if (!PyCFunction_Check(callback->call)) {
        return NULL;
    }
    PyObject *self = PyCFunction_GET_SELF(callback->call);
    bool is_task = self != NULL
                   && PyType_IsSubtype(Py_TYPE(self),
                                       (PyTypeObject *)st->imp.asyncio_Task);
    return is_task ? self : NULL;
}

int
fl_future_add_waiting_tasks(FLFuture *fut, PyObject *set)
{
    fl_state *st = fl_future_state(fut);
    Py_ssize_t n = fl_future_done(fut) ? 0 : count(fut);
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *task = waiting_task(st, entry(fut, i));
        if (task != NULL && PySet_Add(set, task) < 0) {
            return -1;
        }
    }
    return 0;
}
#endif

/* --- when the future is done -------------------------------------------------------- */

/* Not our loop, or debug mode, which wants a handle for each: every callback
   through call_soon(), in order.  After an error the rest is dropped, as asyncio
   does. */
static FL_COLD int
schedule_each(FLFuture *fut)
{
    /* Beware: call_soon() may do anything to fut: detach the list first. */
    struct fl_callback first = fut->first;
    struct fl_callbacks *more = take_more(fut);
    fut->first = (struct fl_callback){NULL, NULL};
    int status = first.call == NULL ? 0 : schedule(fut, &first);
    release(&first);
    for (Py_ssize_t i = 0; more != NULL && status == 0 && i < more->count;
         i++) {
        status = schedule(fut, &more->items[i]);
    }
    if (more != NULL) {
        fl_callbacks_free(more);
    }
    return status;
}

/* HOT */
int
fl_future_schedule_callbacks(FLFuture *fut)
{
    const struct fl_callbacks *others = more_of(fut);
    if (fut->first.call == NULL && others == NULL) {
        return 0;
    }
    FLLoop *loop = fl_future_direct_loop(fut);
    if (FL_UNLIKELY(loop == NULL || loop->debug)) {
        return schedule_each(fut);
    }
    if (FL_UNLIKELY(fl_loop_check_open(loop) < 0)) {
        fl_future_clear_callbacks(fut);
        return -1;
    }
    if (FL_LIKELY(others == NULL && fut->first.context == NULL)) {
        FLTask *task = (FLTask *)fut->first.call;
        fut->first.call = NULL;
        if (FL_LIKELY(fl_task_waits_for(task, fut))) {
            return fl_task_push_wake(loop, task);
        }
        /* the task gave up waiting in the meantime */
        Py_DECREF(task);
        return 0;
    }
    return fl_loop_push(loop, FL_READY_CALLBACKS, Py_NewRef(fut));
}

static int
run_listener(FLLoop *loop, FLFuture *fut, struct fl_listener *listener,
             PyObject *owner)
{
    PyObject *result = listener->method.ml_meth(owner, (PyObject *)fut);
    if (FL_LIKELY(result != NULL)) {
        Py_DECREF(result);
        return 0;
    }
    PyObject *raised = fl_err_take();
    PyObject *method = PyCFunction_New(&listener->method, owner);
    PyObject *args[] = {(PyObject *)fut};
    if (method == NULL) {
        PyErr_Clear();
        method = Py_NewRef(owner);
    }
    fl_err_give(raised);
    int status = fl_report_callback(loop, method, args, 1, NULL);
    Py_DECREF(method);
    return status;
}

/* Beware: the callback is nobody else's, and fit for nothing but release() from then
   on. */
static int
run_call(FLLoop *loop, FLFuture *fut, struct fl_callback *callback)
{
    callback->context = context_of(callback);
    PyObject *context = fl_context_enter(loop, &callback->context);
    PyObject *args[] = {NULL, (PyObject *)fut};
    PyObject *result = NULL;
    if (FL_LIKELY(context != NULL)) {
        result = PyObject_Vectorcall(callback->call, args + 1,
                                     1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        if (fl_context_exit(loop, &callback->context, context) < 0) {
            Py_CLEAR(result);
        }
    }
    if (FL_LIKELY(result != NULL)) {
        Py_DECREF(result);
        return 0;
    }
    context = fl_context_get(&callback->context);
    return context == NULL ? -1
                           : fl_report_callback(loop, callback->call, args + 1,
                                                1, context);
}

static int
run_one(FLLoop *loop, FLFuture *fut, struct fl_callback *callback)
{
    if (callback->context == NULL) {
        FLTask *task = (FLTask *)callback->call;
        return fl_task_waits_for(task, fut) ? fl_task_wake(loop, task) : 0;
    }
    if (fl_current_publish(loop, NULL) < 0) {
        return -1;
    }
    struct fl_listener *listener = listener_of(callback);
    if (listener != NULL) {
        return run_listener(loop, fut, listener, callback->call);
    }
    return run_call(loop, fut, callback);
}

int
fl_future_run_callbacks(FLLoop *loop, FLFuture *fut)
{
    FL_ASSERT(fl_future_done(fut));
    int status = 0;
    if (fut->first.call != NULL) {
        struct fl_callback callback = fut->first;
        fut->first = (struct fl_callback){NULL, NULL};
        status = run_one(loop, fut, &callback);
        release(&callback);
    }
    /* Beware: a callback may run the garbage collector or clear fut: look at
       the list anew each time. */
    struct fl_callbacks *more;
    while (status == 0 && (more = more_of(fut)) != NULL) {
        if (more->next == more->count) {
            fl_callbacks_free(take_more(fut));
            break;
        }
        struct fl_callback callback = more->items[more->next++];
        status = run_one(loop, fut, &callback);
        release(&callback);
    }
    return status;
}
