/* Looking for events before sleeping, for about as long as a sleep costs.

   To sleep and to be woken takes 5 to 50 microseconds, some of them of the processor that
   wakes us.  Where events mostly come sooner than that, looking again until they do is
   less work for both.  Where they do not, the time is lost: after each attempt in vain
   twice as many sleeps pass before the next one. */
#ifndef FL_CORE_SPIN_H
#define FL_CORE_SPIN_H

#include "base/compat.h"

#include <stdbool.h>
#include <stdint.h>

#define FL_SPIN_USUAL_NS 25000
#define FL_SPIN_MOST_NS  1000000
#define FL_SPIN_POLL_NS  200  /* a poll takes longer */
#define FL_SPIN_PAUSE    1023 /* sleeps */

struct fl_spin {
    int64_t limit;    /* of an attempt, ns; 0: never */
    uint32_t pause;   /* sleeps left until the next attempt */
    uint32_t in_vain; /* how many sleeps to pause for after the last one */
};

static inline bool
fl_spin_begins(struct fl_spin *spin)
{
    if (spin->pause > 0) {
        spin->pause--;
        return false;
    }
    return spin->limit > 0;
}

static inline void
fl_spin_ended(struct fl_spin *spin, bool came)
{
    if (came) {
        spin->in_vain = 0;
        return;
    }
    if (spin->in_vain < FL_SPIN_PAUSE) {
        spin->in_vain = spin->in_vain * 2 + 1;
    }
    spin->pause = spin->in_vain;
}

#endif
