/* What waits for its turn in a loop: entries of the ready ring, and flushes. */
#ifndef FL_CORE_READY_H
#define FL_CORE_READY_H

#include "base/compat.h"
#include "base/list.h"

/* What an entry of the ready ring is, in the low bits of its pointer. */
enum fl_ready {
    FL_READY_HANDLE = 0,    /* FLHandle: run its callback */
    FL_READY_STEP = 1,      /* FLTask: send None into its coroutine */
    FL_READY_WAKE = 2,      /* FLTask: the future it waits for is done */
    FL_READY_CALLBACKS = 3, /* FLFuture: done, run its callbacks in order */
    FL_READY_JOB = 4,       /* struct fl_job, embedded in its owner */
};
#define FL_READY_MASK ((uintptr_t)7)

/* A C function to run in a turn of the loop, in the name of a Python object that
   stays alive until then.  May be queued once at a time. */
struct fl_job {
    int (*run)(struct fl_job *job); /* 0; -1: fatal exception raised */
    PyObject *owner;                /* borrowed: contains the job */
};

/* Something to do when the turn ends, before the poll. */
struct fl_flush {
    struct fl_list node; /* linked in loop->flushes while due */
    void (*run)(struct fl_flush *flush);
};

#endif
