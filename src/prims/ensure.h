/* Making tasks: create_task(), ensure_future(). */
#ifndef FL_PRIMS_ENSURE_H
#define FL_PRIMS_ENSURE_H

#include "prims/common.h"

/* asyncio.iscoroutine(); 1, 0 or -1. */
int fl_iscoroutine(fl_state *st, PyObject *o);

/* loop.create_task(coro, **keywords), the keywords as in a vectorcall behind
   values.  kwnames may be NULL. */
PyObject *fl_loop_create_task(fl_state *st, PyObject *loop, PyObject *coro,
                              PyObject *const *values, PyObject *kwnames);

/* The same with create_task()'s keywords, as this Python hands them on. */
PyObject *fl_create_task_on(fl_state *st, PyObject *loop, PyObject *coro,
                            PyObject *const *values, PyObject *kwnames);

/* For a create_task() that was not given just the coroutine by position: it may be
   among the keywords.  Calls method([self,] coro, **others), or raises TypeError. */
PyObject *fl_create_task_by_name(fl_state *st, PyObject *method,
                                 PyObject *self, PyObject *const *args,
                                 Py_ssize_t nargs, PyObject *kwnames);

/* asyncio.ensure_future(o, loop=loop); loop may be NULL. */
PyObject *fl_ensure_future_on(fl_state *st, PyObject *o, PyObject *loop);

PyObject *fl_create_task(PyObject *module, PyObject *const *args,
                         Py_ssize_t nargs, PyObject *kwnames);
PyObject *fl_ensure_future(PyObject *module, PyObject *const *args,
                           Py_ssize_t nargs, PyObject *kwnames);
extern const char fl_create_task_doc[];
extern const char fl_ensure_future_doc[];

#endif
