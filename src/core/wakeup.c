/* Waking the loop from another thread.

   Whoever holds the GIL may push on the ready ring; a loop that is not asleep
   will find it.  A sleeping one is sent one uv_async, however many callbacks
   come while it wakes up: sleeping is set by the loop before it gives up the GIL,
   after it saw the ring empty, so no wakeup can fall between. */
#include "core/loop.h"

void
fl_loop_wake(FLLoop *loop)
{
    if (loop->sleeping && !loop->wake_sent) {
        loop->wake_sent = true;
        uv_async_send(&loop->wakeup);
    }
}
