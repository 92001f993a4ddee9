/* Looking for events before sleeping, for about as long as a sleep costs.

   To sleep and to be woken takes 5 to 50 microseconds, some of them of the processor that
   wakes us.  Where events mostly come sooner than that, looking again until they do is
   less work for both.  Where they do not, the time is lost: an attempt in vain makes
   attempts four times as rare, and one that pays moves them half the way back.  So they
   go on where two in three or more pay, and end where fewer do. */
#ifndef FL_CORE_SPIN_H
#define FL_CORE_SPIN_H

#include "base/compat.h"

#include <stdbool.h>
#include <stdint.h>

#define FL_SPIN_USUAL_NS 50000
#define FL_SPIN_MOST_NS  1000000
#define FL_SPIN_POLL_NS  200 /* a poll takes longer */
#define FL_SPIN_RAREST   10  /* once in 1024 sleeps */

struct fl_spin {
    int64_t limit;   /* of an attempt, ns; 0: never */
    uint32_t pause;  /* sleeps left until the next attempt */
    uint32_t rarity; /* an attempt is made once in 2**rarity sleeps */
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
    spin->rarity = came ? spin->rarity / 2 : spin->rarity + 2;
    if (spin->rarity > FL_SPIN_RAREST) {
        spin->rarity = FL_SPIN_RAREST;
    }
    spin->pause = (1U << spin->rarity) - 1;
}

#endif
