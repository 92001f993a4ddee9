/* The loop's struct, and what the layers above may do with it.

   Invariants:
   - every entry of the ready ring owns one reference to its object;
   - every element of the timer heap owns one reference to its TimerHandle;
   - whatever is attached (transports, listeners, the table of watched
     descriptors) is owned by the loop until its close has finished, and is
     visible to the garbage collector through the loop's traverse;
   - the ring, the heap and the lists are only touched with the GIL held.  The
     one thing another thread may do is push on the ring and, if the loop sleeps,
     wake it (wakeup.c). */
#ifndef FL_CORE_LOOP_H
#define FL_CORE_LOOP_H

#include "base/compat.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/ring.h"
#include "base/state.h"
#include "core/attached.h"
#include "core/ready.h"
#include "core/spin.h"
#include "core/wakeup.h"

enum fl_loop_phase {
    FL_LOOP_NEW = 0, /* tp_new only: inert */
    FL_LOOP_OPEN,
    FL_LOOP_CLOSED,
};

struct FLTask;
struct fl_io;

typedef struct FLLoop {
    PyObject_HEAD
    fl_state *st;        /* borrowed: our type holds the module */
    struct fl_list node; /* in st->loops while open */
    PyObject *weakrefs;

    /* scheduling */
    struct fl_ring ready;
    struct fl_heap timers;
    struct fl_list tasks;    /* FLTask.node of unfinished tasks, borrowed */
    struct FLTask *current;  /* as published to asyncio; see registry.h */
    PyObject **running_slot; /* where asyncio looks for it (3.14), or NULL */
    PyObject *task_factory;  /* owned; NULL: native tasks */
    PyObject *slow_duration; /* owned: slow_callback_duration, seconds */
    PyObject *blank_context; /* owned, empty; NULL while lent; see context.h */

    enum fl_loop_phase phase;
    bool direct; /* call_soon is ours: futures may use the ring */
    bool
        plain; /* so are create_task, call_later and the like, see overrides.c */
    bool debug;
    bool running;
    bool stopping;
    bool timers_changed;      /* a new earliest deadline: look at the clock */
    unsigned long thread_id;  /* of the running thread; 0 when not running */
    uint64_t fork_generation; /* st's when the loop was made */
    PyObject *running_handle; /* owned; in debug mode, the one that runs */
    PyObject *fatal; /* owned: exception to leave the run with, or NULL */
    PyObject
        *before_sleep; /* borrowed, during a run: to be called once, before
                               the loop sleeps; NULL: nothing, or done */

    /* when to look outside again, see loop_run.c */
    uint32_t turns;         /* since the clock was read */
    uint32_t turns_allowed; /* until it is read again */
    uint32_t polled_turns;  /* since the last poll */
    size_t received;   /* bytes: in this poll, since what is ready has run */
    bool caught_up;    /* in this poll, see fl_loop_catch_up() */
    int64_t looked_at; /* when the clock was read, ns */
    int64_t polled_at;
    int64_t gil_dropped_at;
    struct fl_spin spin;

    /* libuv; opened when first needed, as it takes a dozen system calls */
    bool uv_open;
    PyThreadState *released; /* saved while a poll runs without the GIL */
    int64_t armed_for;       /* uv time in ms the timer is set to; -1: not */
    uv_loop_t uv;
    struct fl_wakeup wakeup;
    uv_timer_t timer;

    /* upwards: known here only as lists and function pointers */
    struct fl_list flushes;
    struct fl_list attached;
    struct fl_io *io; /* the io layer's, created at its first use */
} FLLoop;

FL_COLD bool fl_is_loop_slowly(fl_state *st, PyObject *o);
/* A subclass of the C type (of many bases), initialised or not? */
static inline bool
fl_is_loop(fl_state *st, PyObject *o)
{
    return FL_LIKELY((PyObject *)Py_TYPE(o) == st->loop_class)
           || fl_is_loop_slowly(st, o);
}

FL_COLD void fl_loop_raise_not_open(const FLLoop *loop);

/* 0, or -1 with RuntimeError set when the loop is closed or uninitialised */
static inline int
fl_loop_check_open(const FLLoop *loop)
{
    if (FL_UNLIKELY(loop->phase != FL_LOOP_OPEN)) {
        fl_loop_raise_not_open(loop);
        return -1;
    }
    return 0;
}

/* Queue an entry; the object is an FLHandle, FLTask or FLFuture.  Steals object,
   also on failure. */
static inline int
fl_loop_push(FLLoop *loop, enum fl_ready tag, FL_STEALS(3) void *object)
{
    if (FL_UNLIKELY(
            fl_ring_push(&loop->ready, (uintptr_t)object | (uintptr_t)tag)
            < 0)) {
        Py_DECREF((PyObject *)object);
        return -1;
    }
    return 0;
}

/* Queue a job; takes a reference to its owner until it has run. */
static inline int
fl_loop_push_job(FLLoop *loop, struct fl_job *job)
{
    if (fl_ring_push(&loop->ready, (uintptr_t)job | FL_READY_JOB) < 0) {
        return -1;
    }
    Py_INCREF(job->owner);
    return 0;
}

static inline void
fl_loop_flush_later(FLLoop *loop, struct fl_flush *flush)
{
    if (!fl_list_linked(&flush->node)) {
        fl_list_append(&loop->flushes, &flush->node);
    }
}

/* The monotonic clock in nanoseconds: the one behind time.monotonic(). */
int64_t fl_clock_ns(void);

/* The same in seconds, exactly as time.monotonic() would return it. */
static inline double
fl_seconds(int64_t ns)
{
    return (double)ns / 1e9;
}

/* loop_state.c: life and death.  prepare: makes a zeroed loop inert but safe.
   init: 0 or -1 with an exception. */
void fl_loop_prepare(FLLoop *loop, fl_state *st);
int fl_loop_open_uv(FLLoop *loop); /* loop->uv can be used from then on */
int fl_loop_init(FLLoop *loop);
int fl_loop_close(FLLoop *loop);
int fl_loop_traverse(FLLoop *loop, visitproc visit, void *arg);
void fl_loop_drop_scheduled(FLLoop *loop);
void fl_loop_dealloc(FLLoop *loop);

/* -1 with RuntimeError when the loop was made before a fork in this process's
   past: its descriptors are shared with the parent. */
int fl_loop_check_process(const FLLoop *loop);

/* In a forked child: a run that we are inside of ends with this turn; one of a
   thread that is not here any more has ended. */
void fl_loop_after_fork(FLLoop *loop);

#ifdef FL_DEBUG
/* Do the structures hold what this file promises?  Checked after every turn. */
bool fl_loop_consistent(const FLLoop *loop);
#endif

/* overrides.c: look which methods of the loop are ours.  0 or -1. */
int fl_loop_update_overrides(FLLoop *loop);
int fl_loop_attribute_set(FLLoop *loop, PyObject *name);

/* loop_run.c: run turns until stop().  0, or -1 with what a callback raised
   (KeyboardInterrupt, SystemExit).  before_sleep (or NULL) is called before the
   loop sleeps for the first time. */
int fl_loop_run(FLLoop *loop, PyObject *before_sleep);

/* Take back the GIL if the poll gave it up: first line of every libuv callback
   that touches a Python object. */
void fl_loop_take_gil(FLLoop *loop);

/* Between two streams of a poll, GIL held: run what is ready, and send what that writes,
   as a turn does.  May end the run, which others of the poll are to ask then. */
void fl_loop_catch_up(FLLoop *loop);
static inline bool
fl_loop_has_ended(const FLLoop *loop)
{
    return FL_UNLIKELY(loop->caught_up)
           && (loop->stopping || loop->fatal != NULL);
}

/* Keep the exception that is set, a fatal one, until the poll ends, and end the
   poll.  For libuv callbacks, which have nobody to return to. */
void fl_loop_set_fatal(FLLoop *loop);

/* wakeup.c.  wake: make a sleeping loop turn; from any thread, GIL held.  open: 0 or a
   negative error of libuv's. */
void fl_loop_wake(FLLoop *loop);
int fl_loop_open_wakeup(FLLoop *loop);
void fl_loop_close_wakeup(FLLoop *loop);

static inline FLLoop *
fl_loop_of_uv(const uv_loop_t *uv)
{
    return FL_CONTAINER_OF(uv, FLLoop, uv);
}

#endif
