/* What becomes of an exception that nobody waits for: it goes to the loop's
   exception handler, unless it must end the run. */
#ifndef FL_CORE_REPORT_H
#define FL_CORE_REPORT_H

#include "core/handle.h"

/* The exception that is set came out of the handle's callback.  0: handed to
   loop.call_exception_handler(); -1: it is fatal and still set. */
int fl_report_handle(FLHandle *handle);

/* The same for callback(*args), which had no handle: one is made up so that the
   report reads like asyncio's.  args are borrowed. */
int fl_report_callback(FLLoop *loop, PyObject *callback, PyObject *const *args,
                       Py_ssize_t nargs, PyObject *context);

/* Call loop.call_exception_handler(context); loop is any event loop.  What goes
   wrong is written to sys.unraisablehook; never leaves an exception set. */
void fl_report_to_handler(fl_state *st, PyObject *loop, PyObject *context);

#endif
