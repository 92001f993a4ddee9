/* What the coroutines of a StreamReader share: waiting for data, and giving it. */
#ifndef FL_PRIMS_READER_WAIT_H
#define FL_PRIMS_READER_WAIT_H

#include "prims/guard.h"
#include "prims/reader.h"

/* Slots after FL_WAIT_OWNER, the reader, and FL_WAIT_FUTURE, which is not used. */
#define FL_READ_ARGUMENT 2 /* n, or the separator or list of separators */
#define FL_READ_BLOCKS   3 /* read(): what it has got so far */

/* Steps of these coroutines. */
enum {
    FL_READ_START = 0,
    FL_READ_WAITED,   /* for data, in C */
    FL_READ_FOREIGN,  /* for data, in somebody's _wait_for_data() */
    FL_READ_ANOTHERS, /* for another method of the reader's, as overridden */
};

/* Let the body be called again when there is data: what it returns.  function is the
   name of the method that waits. */
PySendResult fl_reader_wait(FLReader *reader, FLCoro *self,
                            const char *function, PyObject **result);

/* The wait is over: nobody waits.  0; -1 if value is NULL, with its exception. */
int fl_reader_waited(FLReader *reader, const FLCoro *self,
                     const PyObject *value);

/* Is an exception to be raised?  Then it is. */
bool fl_reader_raise(const FLReader *reader);

/* self._maybe_resume_transport(), as it is overridden.  0 or -1. */
int fl_reader_maybe_resume_any(FLReader *reader);

/* Give the first n bytes. */
PySendResult fl_reader_give(FLReader *reader, Py_ssize_t n, PyObject **result);

/* The end came before enough data: all there is, in an IncompleteReadError. */
FL_COLD PySendResult fl_reader_raise_incomplete(FLReader *reader,
                                                PyObject *expected);

#endif
