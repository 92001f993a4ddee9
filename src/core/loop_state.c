/* Life and death of a loop: what is made, what is visited, what is closed. */
#include "base/errors.h"
#include "core/future.h"
#include "core/loop.h"
#include "core/task.h"
#include "core/timer.h"

#include <time.h>
#include <unistd.h>

int64_t
fl_clock_ns(void)
{
#ifdef __APPLE__
    clockid_t clock = CLOCK_UPTIME_RAW; /* what time.monotonic() reads */
#else
    clockid_t clock = CLOCK_MONOTONIC;
#endif
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* A class cannot lose a base with a layout of its own, so what is remembered stays true.
   It is remembered for good: no class is let go here, which could run code. */
bool
fl_is_loop_slowly(fl_state *st, PyObject *o)
{
    if (!PyType_IsSubtype(Py_TYPE(o), st->LoopType)) {
        return false;
    }
    if (st->loop_class == NULL) {
        st->loop_class = Py_NewRef(Py_TYPE(o));
    }
    return true;
}

FL_COLD void
fl_loop_raise_not_open(const FLLoop *loop)
{
    PyErr_SetString(PyExc_RuntimeError, loop->phase == FL_LOOP_NEW
                                            ? "Event loop is not initialized"
                                            : "Event loop is closed");
}

int
fl_loop_check_process(const FLLoop *loop)
{
    if (loop->phase == FL_LOOP_NEW
        || loop->fork_generation == loop->st->fork_generation) {
        return 0;
    }
    PyErr_SetString(PyExc_RuntimeError,
                    "this event loop belongs to the parent process: make a "
                    "new one after os.fork()");
    return -1;
}

void
fl_loop_after_fork(FLLoop *loop)
{
    /* a wakeup would reach the parent */
    fl_wakeup_set(&loop->wakeup, FL_AWAKE);
    if (loop->thread_id == PyThread_get_thread_ident()) {
        loop->stopping = true;
    }
    else {
        loop->running = false;
        loop->thread_id = 0;
        loop->released = NULL;
    }
    for (struct fl_list *n = loop->attached.next; n != &loop->attached;
         n = n->next) {
        struct fl_attached *a = FL_CONTAINER_OF(n, struct fl_attached, node);
        if (a->ops->forked != NULL) {
            a->ops->forked(a);
        }
    }
}

/* --- init ------------------------------------------------------------------------ */

void
fl_loop_prepare(FLLoop *loop, fl_state *st)
{
    loop->st = st;
    fl_list_init(&loop->node);
    fl_list_init(&loop->tasks);
    fl_list_init(&loop->flushes);
    fl_list_init(&loop->attached);
}

int
fl_loop_init(FLLoop *loop)
{
    fl_state *st = loop->st;
    FL_ASSERT(loop->phase == FL_LOOP_NEW);
    fl_list_append(&st->loops, &loop->node);
    loop->armed_for = -1;
    loop->turns_allowed = 1;
    loop->spin.limit = FL_SPIN_USUAL_NS;
    loop->fork_generation = st->fork_generation;
    loop->phase = FL_LOOP_OPEN;
    return 0;
}

static int
init_uv(FLLoop *loop)
{
    int rc = uv_loop_init(&loop->uv);
    if (rc < 0) {
        /* libuv leaves its epoll set open when descriptors run out after it */
        if (uv_backend_fd(&loop->uv) != -1) {
            close(uv_backend_fd(&loop->uv));
        }
        return rc;
    }
    rc = fl_loop_open_wakeup(loop);
    if (rc < 0) {
        uv_loop_close(&loop->uv);
        return rc;
    }
    return uv_timer_init(&loop->uv, &loop->timer); /* which cannot fail */
}

int
fl_loop_open_uv(FLLoop *loop)
{
    if (FL_LIKELY(loop->uv_open)) {
        return 0;
    }
    FL_ASSERT(loop->phase == FL_LOOP_OPEN);
    int rc = init_uv(loop);
    if (rc < 0) {
        fl_raise_uv(rc);
        return -1;
    }
    loop->uv_open = true;
    return 0;
}

/* --- what is scheduled -------------------------------------------------------------- */

static PyObject *
entry_object(uintptr_t entry)
{
    void *p = (void *)(entry & ~FL_READY_MASK);
    if ((entry & FL_READY_MASK) == FL_READY_JOB) {
        return ((struct fl_job *)p)->owner;
    }
    return p;
}

void
fl_loop_drop_scheduled(FLLoop *loop)
{
    while (fl_ring_count(&loop->ready) > 0) {
        Py_DECREF(entry_object(fl_ring_pop(&loop->ready)));
    }
    while (!fl_heap_empty(&loop->timers)) {
        struct fl_heap_node *node = fl_heap_first(&loop->timers);
        fl_heap_remove(&loop->timers, node);
        Py_DECREF(fl_timer_of_node(node));
    }
}

int
fl_loop_traverse(FLLoop *loop, visitproc visit, void *arg)
{
    Py_VISIT(loop->task_factory);
    Py_VISIT(loop->slow_duration);
    Py_VISIT(loop->fatal);
    Py_VISIT(loop->running_handle);
    Py_VISIT(loop->blank_context);
    for (uint32_t i = 0; i < fl_ring_count(&loop->ready); i++) {
        Py_VISIT(entry_object(fl_ring_peek(&loop->ready, i)));
    }
    for (uint32_t i = 0; i < loop->timers.count; i++) {
        Py_VISIT((PyObject *)fl_timer_of_node(loop->timers.items[i].node));
    }
    for (struct fl_list *n = loop->attached.next; n != &loop->attached;
         n = n->next) {
        struct fl_attached *a = FL_CONTAINER_OF(n, struct fl_attached, node);
        int status = a->ops->traverse(a, visit, arg);
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

#ifdef FL_DEBUG
#  define CHECKED 256 /* of each structure: a check must not be quadratic */

static bool
list_consistent(const struct fl_list *head)
{
    int left = CHECKED;
    for (const struct fl_list *n = head->next; n != head && left-- > 0;
         n = n->next) {
        if (n->next->prev != n || n->prev->next != n) {
            return false;
        }
    }
    return true;
}

bool
fl_loop_consistent(const FLLoop *loop)
{
    for (uint32_t i = 0; i < fl_ring_count(&loop->ready) && i < CHECKED; i++) {
        PyObject *object = entry_object(fl_ring_peek(&loop->ready, i));
        if (Py_REFCNT(object) < 1) {
            return false;
        }
    }
    int left = CHECKED;
    for (struct fl_list *n = loop->tasks.next; n != &loop->tasks && left-- > 0;
         n = n->next) {
        FLTask *task = FL_CONTAINER_OF(n, FLTask, node);
        if (task->fut.loop != (PyObject *)loop || fl_future_done(&task->fut)) {
            return false;
        }
    }
    return fl_heap_consistent(&loop->timers, CHECKED)
           && list_consistent(&loop->attached)
           && list_consistent(&loop->flushes) && loop->current == NULL
           && loop->released == NULL
           && fl_wakeup_state(&loop->wakeup) == FL_AWAKE;
}
#endif

/* --- close ------------------------------------------------------------------------ */

static void
close_attached(FLLoop *loop)
{
    /* Beware: closing warns, which runs user code: walk a list of our own. */
    struct fl_list due;
    fl_list_init(&due);
    fl_list_take(&due, &loop->attached);
    while (!fl_list_empty(&due)) {
        struct fl_attached *a =
            FL_CONTAINER_OF(due.next, struct fl_attached, node);
        fl_list_unlink(&a->node);
        fl_list_append(&loop->attached, &a->node);
        a->ops->close(a);
    }
}

static void
close_uv(FLLoop *loop)
{
    if (!loop->uv_open) {
        return;
    }
    loop->uv_open = false;
    fl_loop_close_wakeup(loop);
    uv_close((uv_handle_t *)&loop->timer, NULL);
    /* all handles are closing: this runs their close callbacks */
    while (uv_run(&loop->uv, UV_RUN_NOWAIT) != 0) {
    }
    int rc = uv_loop_close(&loop->uv);
    FL_ASSERT(rc == 0);
    (void)rc;
}

int
fl_loop_close(FLLoop *loop)
{
    if (loop->phase != FL_LOOP_OPEN) {
        return 0;
    }
    loop->phase = FL_LOOP_CLOSED;
    fl_list_unlink(&loop->node);
    /* unfinished tasks stay visible to all_tasks(), as asyncio's do */
    fl_list_take(&loop->st->foreign_tasks, &loop->tasks);
    fl_loop_drop_scheduled(loop);
    if (loop->fork_generation != loop->st->fork_generation) {
        /* the epoll set and the sockets are the parent's too: leave them */
        return 0;
    }
    close_attached(loop);
    close_uv(loop);
    fl_loop_drop_scheduled(loop); /* what the closing scheduled */
    return 0;
}

void
fl_loop_dealloc(FLLoop *loop)
{
    if (loop->phase == FL_LOOP_OPEN) {
        PyObject *raised = fl_err_take();
        fl_loop_close(loop);
        fl_err_give(raised);
    }
    fl_loop_drop_scheduled(loop);
    fl_ring_free(&loop->ready);
    fl_heap_free(&loop->timers);
}
