/* Debug mode: what asyncio checks and records when loop.set_debug(True).  All of
   it is cold; the hot paths test loop->debug once, marked unlikely. */
#ifndef FL_CORE_DEBUG_H
#define FL_CORE_DEBUG_H

#include "core/loop.h"

/* The stack of the Python code that called us, as a traceback.StackSummary. */
PyObject *fl_debug_stack(fl_state *st);

/* RuntimeError unless called from the thread that runs the loop (or the loop is
   not running). */
int fl_debug_check_thread(const FLLoop *loop);

/* Before scheduling in the loop's own thread: is it open, and, in debug mode, is
   this the thread? */
static inline int
fl_debug_check_schedule(const FLLoop *loop)
{
    if (fl_loop_check_open(loop) < 0) {
        return -1;
    }
    return FL_UNLIKELY(loop->debug) ? fl_debug_check_thread(loop) : 0;
}

/* TypeError if callback is a coroutine (function) or cannot be called. */
int fl_debug_check_callback(FLLoop *loop, PyObject *callback,
                            const char *method);

/* Warn about `what` (a Handle, or a Task whose step it was) if it began longer
   than slow_callback_duration ago.  Leaves a raised exception alone. */
void fl_debug_check_slow(FLLoop *loop, PyObject *what, int64_t began_ns);

#endif
