/* The turns of the loop: poll, due timers, what is ready, what was written.

   A turn that has work does not enter the kernel each time.  It looks at the
   clock every few turns (each turn, once turns are slow), and polls when
   POLL_EVERY_NS have passed or POLL_EVERY_TURNS turns: I/O waits no longer than
   that for a busy ready queue, or for one turn if turns take longer.

   The GIL is given up where the poll can block, and now and then even when it
   cannot, so that other threads get their turn under callbacks that never enter
   the interpreter.  The first libuv callback that needs it takes it back, and it is
   kept for the rest of that poll.  A thread that waits for the GIL demands it once
   it has waited a whole switch interval with no sign that it is free.  If it is
   given up as often as that, the thread wakes each time, finds it taken again, and
   never comes to demand it: so it is given up more seldom. */
#include "core/debug.h"
#include "core/future.h"
#include "core/registry.h"
#include "core/task.h"
#include "core/timer.h"

#include <math.h>
#include <poll.h>
#include <sched.h>
#ifdef __linux__
#  include <sys/prctl.h>
#endif

#define POLL_EVERY_NS    50000
#define POLL_EVERY_TURNS 256
#define GIL_EVERY_NS     20000000
#define GIL_INTERVALS    4     /* at least so many switch intervals apart */
#define SLOW_TURN_NS     10000 /* look at the clock each turn from here on */
#define CLOCK_EVERY_MAX  8

#define TRIM_EVERY_NS 100000000

#define MAX_TIMEOUT_S 86400.0 /* as asyncio: never sleep for longer */
#define NAP_S         1e-3    /* libuv sleeps in milliseconds */
#define NAP_SLACK_NS  1000UL

/* --- the GIL and errors inside a poll --------------------------------------------------- */

void
fl_loop_take_gil(FLLoop *loop)
{
    if (loop->released != NULL) {
        PyThreadState *ts = loop->released;
        loop->released = NULL;
        PyEval_RestoreThread(ts);
        fl_wakeup_set(&loop->wakeup, FL_AWAKE);
    }
}

void
fl_loop_set_fatal(FLLoop *loop)
{
    PyObject *exc = fl_err_take();
    FL_ASSERT(exc != NULL);
    if (loop->fatal == NULL) {
        loop->fatal = exc;
        uv_stop(&loop->uv);
    }
    else {
        Py_DECREF(exc);
    }
}

/* Raise what a libuv callback or a flush left for us. */
static int
raise_fatal(FLLoop *loop)
{
    if (FL_LIKELY(loop->fatal == NULL)) {
        return 0;
    }
    PyObject *exc = loop->fatal;
    loop->fatal = NULL;
    fl_err_give(exc);
    return -1;
}

/* --- polling ------------------------------------------------------------------------------ */

static void
timer_cb(uv_timer_t *timer)
{
    /* The deadline may pass between arming and sleeping: the poll must then not
       sleep at all. */
    FLLoop *loop = fl_loop_of_uv(timer->loop);
    fl_loop_take_gil(loop);
    loop->armed_for = -1;
    uv_stop(timer->loop);
}

/* Seconds to the first deadline, MAX_TIMEOUT_S at most. */
static double
time_left(const FLLoop *loop, int64_t now)
{
    if (fl_heap_empty(&loop->timers)) {
        return MAX_TIMEOUT_S;
    }
    double left = fl_heap_first_key(&loop->timers) - fl_seconds(now);
    return left < MAX_TIMEOUT_S ? left : MAX_TIMEOUT_S;
}

/* Set libuv's timer so that a blocking poll ends when the first deadline has
   passed, never before: milliseconds are rounded up. */
static void
arm_timer(FLLoop *loop, double left)
{
    if (fl_heap_empty(&loop->timers)) {
        if (loop->armed_for >= 0) {
            uv_timer_stop(&loop->timer);
            loop->armed_for = -1;
        }
        return;
    }
    uint64_t ms = (uint64_t)ceil(left * 1e3);
    uv_update_time(&loop->uv);
    int64_t due = (int64_t)(uv_now(&loop->uv) + ms);
    if (due != loop->armed_for) {
        uv_timer_start(&loop->timer, timer_cb, ms, 0);
        loop->armed_for = due;
    }
}

/* Nanoseconds of sys.getswitchinterval(), 0 if it does not say. */
static FL_COLD int64_t
switch_interval(void)
{
    PyObject *get = PySys_GetObject("getswitchinterval");
    if (get == NULL) {
        return 0;
    }
    Py_INCREF(get);
    PyObject *interval = PyObject_CallNoArgs(get);
    Py_DECREF(get);
    double seconds = interval == NULL ? -1.0 : PyFloat_AsDouble(interval);
    Py_XDECREF(interval);
    if (!(seconds >= 0.0 && seconds < MAX_TIMEOUT_S)) {
        PyErr_Clear();
        return 0;
    }
    return (int64_t)(seconds * 1e9);
}

/* Is the GIL to be given up although there is work? */
static bool
gil_is_due(FLLoop *loop, int64_t now)
{
    int64_t held = now - loop->gil_dropped_at;
    return FL_UNLIKELY(held >= GIL_EVERY_NS)
           && held >= GIL_INTERVALS * switch_interval();
}

static inline bool
is_looking(const FLLoop *loop)
{
    return loop->released != NULL
           && fl_wakeup_state(&loop->wakeup) == FL_LOOKING;
}

/* Poll until something has come, for `most` nanoseconds and without the GIL.  All callbacks
   of libuv take the GIL back. */
static void
look(FLLoop *loop, int64_t most)
{
    int64_t end = fl_clock_ns() + most;
    /* a clock may stand still: one that a test has put in the place of time */
    int64_t polls = most / FL_SPIN_POLL_NS;
    uv_run(&loop->uv, UV_RUN_NOWAIT);
    if (is_looking(loop)) {
        /* whom we wait for may wait for this processor: a thread of the executor */
        sched_yield();
    }
    while (is_looking(loop) && --polls > 0 && fl_clock_ns() < end) {
        uv_run(&loop->uv, UV_RUN_NOWAIT);
    }
}

/* Look for events; then say whether to sleep. */
static bool
spin(FLLoop *loop)
{
    look(loop, loop->spin.limit);
    bool sleep =
        loop->released != NULL && fl_wakeup_fall_asleep(&loop->wakeup);
    fl_spin_ended(&loop->spin, !sleep);
    return sleep;
}

static void
poll_and_sleep(FLLoop *loop)
{
    bool looks = fl_spin_begins(&loop->spin);
    fl_wakeup_set(&loop->wakeup, looks ? FL_LOOKING : FL_ASLEEP);
    loop->released = PyEval_SaveThread();
    if (!looks || spin(loop)) {
        uv_run(&loop->uv, UV_RUN_ONCE);
    }
    fl_loop_take_gil(loop);
}

static void
poll_briefly(FLLoop *loop, bool release_gil)
{
    if (release_gil) {
        loop->released = PyEval_SaveThread();
    }
    if (FL_LIKELY(loop->uv_open)) {
        uv_run(&loop->uv, UV_RUN_NOWAIT);
    }
    fl_loop_take_gil(loop);
}

#ifdef __linux__
/* Is there work, after a poll that was not to block? */
static bool
has_work(const FLLoop *loop)
{
    return loop->caught_up || fl_ring_count(&loop->ready) != 0
           || loop->stopping || !fl_list_empty(&loop->flushes)
           || loop->fatal != NULL || uv_backend_timeout(&loop->uv) == 0;
}

/* Sleep on libuv's descriptor for so many nanoseconds: whether there is something for
   libuv.  The kernel may let a thread sleep for longer, usually by 50 microseconds, so
   that timers fall together: half as long again as a sleep of 100 that was asked for. */
static bool
doze(FLLoop *loop, int64_t ns)
{
    struct pollfd fd = {.fd = uv_backend_fd(&loop->uv), .events = POLLIN};
    struct timespec timeout = {.tv_nsec = (long)ns};
    int slack = prctl(PR_GET_TIMERSLACK, 0UL, 0UL, 0UL, 0UL);
    bool change =
        slack > (int)NAP_SLACK_NS
        && prctl(PR_SET_TIMERSLACK, NAP_SLACK_NS, 0UL, 0UL, 0UL) == 0;
    int ready = ppoll(&fd, 1, &timeout, NULL);
    if (change) {
        prctl(PR_SET_TIMERSLACK, (unsigned long)slack, 0UL, 0UL, 0UL);
    }
    return ready > 0;
}

/* Sleep less than libuv can: less than a millisecond.  A poll that does not block tells
   the kernel what libuv waits for; then its descriptor is slept on.  To wake up costs
   about as long as the loop may look: so much of a nap up to twice as long is spent on
   looking, and the loop is there when the timer is due. */
static void
nap(FLLoop *loop, double left)
{
    uv_run(&loop->uv, UV_RUN_NOWAIT);
    if (has_work(loop)) {
        return;
    }
    int64_t most = (int64_t)ceil(left * 1e9), due = fl_clock_ns() + most;
    int64_t looks = most <= 2 * loop->spin.limit ? loop->spin.limit : 0;
    bool sleeps = most > looks;
    fl_wakeup_set(&loop->wakeup, sleeps ? FL_ASLEEP : FL_LOOKING);
    loop->released = PyEval_SaveThread();
    bool ready = sleeps && doze(loop, most - looks);
    if (looks > 0 && !ready
        && (!sleeps || fl_wakeup_start_looking(&loop->wakeup))) {
        look(loop, due - fl_clock_ns());
        int64_t left_ns = due - fl_clock_ns();
        if (FL_UNLIKELY(left_ns > 0) && is_looking(loop)
            && fl_wakeup_fall_asleep(&loop->wakeup)) {
            ready = doze(loop, left_ns); /* the clock stands still */
        }
    }
    fl_loop_take_gil(loop);
    if (ready) {
        uv_run(&loop->uv, UV_RUN_NOWAIT);
    }
}
#endif

static void
sleep_until_something(FLLoop *loop, int64_t now)
{
    double left = time_left(loop, now);
    if (FL_UNLIKELY(now - loop->st->trimmed_at >= TRIM_EVERY_NS)) {
        fl_state_trim(loop->st, now);
    }
#ifdef __linux__
    if (left > 0 && left < NAP_S) {
        nap(loop, left);
        return;
    }
#endif
    arm_timer(loop, left);
    poll_and_sleep(loop);
}

/* Before the first sleep of a run: what only a loop that sleeps needs.  The code of
   the user that this may run (signal handlers) may schedule something. */
static FL_COLD int
prepare_to_sleep(FLLoop *loop)
{
    if (fl_loop_open_uv(loop) < 0) {
        return -1;
    }
    PyObject *call = loop->before_sleep;
    loop->before_sleep = NULL;
    PyObject *result = call == NULL ? NULL : PyObject_CallNoArgs(call);
    Py_XDECREF(result);
    return call != NULL && result == NULL ? -1 : 0;
}

/* Poll once; block if asked to and nothing came up.  *now is the time before,
   and after a block the time after it. */
static int
poll_io(FLLoop *loop, bool block, int64_t *now)
{
    if (block && FL_UNLIKELY(!loop->uv_open || loop->before_sleep != NULL)) {
        if (prepare_to_sleep(loop) < 0) {
            return -1;
        }
        block = false; /* look again first */
        *now = fl_clock_ns();
    }
    loop->received = 0;
    loop->caught_up = false;
    if (block) {
        sleep_until_something(loop, *now);
        *now = fl_clock_ns();
        loop->gil_dropped_at = *now;
    }
    else {
        bool drop = gil_is_due(loop, *now);
        poll_briefly(loop, drop);
        if (drop) {
            loop->gil_dropped_at = *now;
        }
    }
    loop->polled_at = *now;
    loop->polled_turns = 0;
    if (raise_fatal(loop) < 0) {
        return -1;
    }
    return PyErr_CheckSignals();
}

/* How many turns may go by before the clock is read again: as long as they are
   quick, a few. */
static void
adapt_clock(FLLoop *loop, int64_t now)
{
    int64_t elapsed = now - loop->looked_at;
    if (elapsed > SLOW_TURN_NS * (int64_t)loop->turns) {
        loop->turns_allowed = 1;
    }
    else if (loop->turns_allowed < CLOCK_EVERY_MAX) {
        loop->turns_allowed *= 2;
    }
    loop->looked_at = now;
    loop->turns = 0;
}

/* The part of a turn that looks outside: I/O and the clock. */
static int
look_outside(FLLoop *loop)
{
    /* what was written while the loop did not run is still to be flushed */
    bool idle = fl_ring_count(&loop->ready) == 0 && !loop->stopping
                && fl_list_empty(&loop->flushes);
    loop->turns++;
    loop->polled_turns++;
    if (!idle && loop->turns < loop->turns_allowed && !loop->timers_changed) {
        return 0;
    }
    loop->timers_changed = false;
    int64_t now = fl_clock_ns();
    adapt_clock(loop, now);
    bool due = !fl_heap_empty(&loop->timers)
               && fl_heap_first_key(&loop->timers) <= fl_seconds(now);
    if (idle || now - loop->polled_at >= POLL_EVERY_NS
        || loop->polled_turns >= POLL_EVERY_TURNS) {
        if (poll_io(loop, idle && !due, &now) < 0) {
            return -1;
        }
    }
    return fl_timers_fire(loop, fl_seconds(now));
}

/* --- running -------------------------------------------------------------------------------- */

static FL_COLD int
run_handle_timed(FLLoop *loop, FLHandle *handle)
{
    int64_t began = fl_clock_ns();
    PyObject *outer = loop->running_handle;
    loop->running_handle = Py_NewRef(handle);
    int status = fl_handle_run(handle);
    Py_XSETREF(loop->running_handle, outer);
    fl_debug_check_slow(loop, (PyObject *)handle, began);
    return status;
}

static inline int
run_handle(FLLoop *loop, FLHandle *handle)
{
    if (fl_current_publish(loop, NULL) < 0) {
        return -1;
    }
    return FL_UNLIKELY(loop->debug) ? run_handle_timed(loop, handle)
                                    : fl_handle_run(handle);
}

static int
run_job(FLLoop *loop, struct fl_job *job)
{
    return fl_current_publish(loop, NULL) < 0 ? -1 : job->run(job);
}

/* A callback ended the run: the ones behind it stay for the next.  Always -1. */
static FL_COLD int
requeue(FLLoop *loop, uintptr_t entry)
{
    PyObject *exc = fl_err_take();
    if (fl_ring_unpop(&loop->ready, entry) < 0) {
        PyErr_Clear();
        Py_DECREF((PyObject *)(void *)(entry & ~FL_READY_MASK));
    }
    fl_err_give(exc);
    return -1;
}

/* HOT: run one entry and give up its reference. */
static inline int
run_entry(FLLoop *loop, uintptr_t entry)
{
    void *p = (void *)(entry & ~FL_READY_MASK);
    PyObject *owned = p;
    int status = 0;
    switch ((enum fl_ready)(entry & FL_READY_MASK)) {
        case FL_READY_HANDLE:
            status = run_handle(loop, p);
            break;
        case FL_READY_STEP:
            status = fl_task_step(loop, p);
            break;
        case FL_READY_WAKE:
            status = fl_task_wake(loop, p);
            break;
        case FL_READY_CALLBACKS:
            status = fl_future_run_callbacks(loop, p);
            if (FL_UNLIKELY(status < 0)) {
                return requeue(loop, entry);
            }
            break;
        case FL_READY_JOB:
            owned = ((struct fl_job *)p)->owner;
            status = run_job(loop, p);
            break;
        default:
            FL_UNREACHABLE();
    }
    Py_DECREF(owned);
    return status;
}

/* Run what is ready now, and no more: what these schedule is for the next turn. */
static int
run_ready(FLLoop *loop)
{
    uint32_t n = fl_ring_count(&loop->ready);
    while (n-- > 0) {
        if (FL_UNLIKELY(run_entry(loop, fl_ring_pop(&loop->ready)) < 0)) {
            return -1;
        }
    }
    return fl_current_publish(loop, NULL);
}

static int
run_flushes(FLLoop *loop)
{
    if (FL_LIKELY(fl_list_empty(&loop->flushes))) {
        return 0;
    }
    struct fl_list due;
    fl_list_init(&due);
    fl_list_take(&due, &loop->flushes);
    while (!fl_list_empty(&due)) {
        struct fl_flush *flush =
            FL_CONTAINER_OF(due.next, struct fl_flush, node);
        fl_list_unlink(&flush->node);
        flush->run(flush);
    }
    return raise_fatal(loop);
}

static inline int
run_and_flush(FLLoop *loop)
{
    if (FL_LIKELY(run_ready(loop) == 0)) {
        return run_flushes(loop);
    }
    /* written data leaves also when the run ends here */
    PyObject *exc = fl_err_take();
    if (fl_current_publish(loop, NULL) < 0 || run_flushes(loop) < 0) {
        PyErr_Clear();
    }
    fl_err_give(exc);
    return -1;
}

void
fl_loop_catch_up(FLLoop *loop)
{
    loop->received = 0;
    if (!loop->running || loop->stopping || loop->fatal != NULL) {
        return;
    }
    loop->caught_up = true;
    if (FL_UNLIKELY(run_and_flush(loop) < 0)) {
        fl_loop_set_fatal(loop);
    }
}

static int
turn(FLLoop *loop)
{
    if (look_outside(loop) < 0) {
        return -1;
    }
    if (fl_loop_has_ended(loop)) {
        return run_flushes(
            loop); /* what has come up since is for the next run */
    }
    return run_and_flush(loop);
}

int
fl_loop_run(FLLoop *loop, PyObject *before_sleep)
{
    FL_ASSERT(!loop->running);
    if (fl_loop_check_open(loop) < 0 || fl_loop_check_process(loop) < 0) {
        return -1;
    }
    fl_current_begin(loop);
    loop->running = true;
    loop->thread_id = PyThread_get_thread_ident();
    loop->looked_at = loop->gil_dropped_at = fl_clock_ns();
    /* the first turn polls: programs run a loop for one turn to let I/O happen */
    loop->polled_at = loop->looked_at - POLL_EVERY_NS;
    loop->turns_allowed = 1;
    loop->before_sleep = before_sleep;
    int status;
    do {
        status = turn(loop);
        FL_ASSERT(fl_loop_consistent(loop));
    } while (status == 0 && !loop->stopping);
    FL_ASSERT(loop->current == NULL);
    if (status == 0) {
        /* a callback has forked, and this is the child */
        status = fl_loop_check_process(loop);
    }
    loop->before_sleep = NULL;
    loop->stopping = false;
    loop->running = false;
    loop->thread_id = 0;
    return status;
}
