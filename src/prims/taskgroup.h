/* TaskGroup */
#ifndef FL_PRIMS_TASKGROUP_H
#define FL_PRIMS_TASKGROUP_H

#include "prims/common.h"

typedef struct {
    PyObject_HEAD
    PyObject *weakrefs;
    PyObject *dict;
    PyObject *loop;       /* owned; NULL until entered */
    PyObject *parent;     /* owned: the task in the block, or NULL */
    PyObject *tasks;      /* owned set of children that are not done */
    PyObject *errors;     /* owned list; NULL once left */
    PyObject *base_error; /* owned: SystemExit or KeyboardInterrupt, or NULL */
    PyObject *completed;  /* owned: future that __aexit__ waits for, or NULL */
    bool entered;
    bool exiting;
    bool aborting;
    bool parent_cancel_requested; /* by us, to be taken back */
    bool cancel_called;
    bool cancel_on_enter;
} FLTaskGroup;

/* taskgroup_exit.c: the coroutine of __aexit__ */
PyObject *fl_taskgroup_exit(FLTaskGroup *group, PyObject *type, PyObject *exc);

/* Cancel all children that are not done.  0 or -1. */
int fl_taskgroup_abort(FLTaskGroup *group, fl_state *st);

bool fl_taskgroup_is_base_error(PyObject *exc);

int fl_taskgroup_init_types(PyObject *module);

#endif
