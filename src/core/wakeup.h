/* Whether the loop sleeps, and what another thread ends its sleep with. */
#ifndef FL_CORE_WAKEUP_H
#define FL_CORE_WAKEUP_H

#include "base/compat.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <uv.h>

#if defined(__linux__) && !defined(FL_PORTABLE)
#  define FL_EVENTFD
#endif

/* Written with the GIL held, but for two changes: a loop that looks for events without
   the GIL and has found none falls asleep, and one that has slept begins to look. */
enum fl_sleep {
    FL_AWAKE = 0, /* has the GIL, or will look at the ready ring in any case */
    FL_LOOKING,   /* polls without blocking: will see that it is woken */
    FL_ASLEEP,    /* in a poll that may block */
    FL_WOKEN,     /* a thread has seen to it that the poll ends */
};

struct fl_wakeup {
    atomic_int state; /* enum fl_sleep */
#ifdef FL_EVENTFD
    int fd;
    uv_poll_t poll;
#else
    uv_async_t async;
#endif
};

static inline void
fl_wakeup_set(struct fl_wakeup *wakeup, enum fl_sleep state)
{
    atomic_store_explicit(&wakeup->state, state, memory_order_release);
}

static inline enum fl_sleep
fl_wakeup_state(const struct fl_wakeup *wakeup)
{
    return (enum fl_sleep)atomic_load_explicit(&wakeup->state,
                                               memory_order_acquire);
}

/* From looking to sleeping: false if it has been woken meanwhile. */
static inline bool
fl_wakeup_fall_asleep(struct fl_wakeup *wakeup)
{
    int looking = FL_LOOKING;
    return atomic_compare_exchange_strong(&wakeup->state, &looking, FL_ASLEEP);
}

/* And back. */
static inline bool
fl_wakeup_start_looking(struct fl_wakeup *wakeup)
{
    int asleep = FL_ASLEEP;
    return atomic_compare_exchange_strong(&wakeup->state, &asleep, FL_LOOKING);
}

#endif
