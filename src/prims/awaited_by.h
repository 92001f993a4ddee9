/* Who awaits a future, for asyncio's call graph (3.14).

   Native futures find it out when asked, from their listeners; others are told.
   task may be NULL: nothing is done. */
#ifndef FL_PRIMS_AWAITED_BY_H
#define FL_PRIMS_AWAITED_BY_H

#include "core/future.h"

#if FL_PY314

static inline int
fl_tell_awaited_by(PyObject *function, PyObject *fut, PyObject *task)
{
    PyObject *args[] = {fut, task};
    PyObject *result = PyObject_Vectorcall(function, args, 2, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static inline int
fl_add_awaited_by(fl_state *st, PyObject *fut, PyObject *task)
{
    return task == NULL || fl_future_is_native(st, fut)
               ? 0
               : fl_tell_awaited_by(st->imp.add_to_awaited_by, fut, task);
}

static inline int
fl_discard_awaited_by(fl_state *st, PyObject *fut, PyObject *task)
{
    return task == NULL || fl_future_is_native(st, fut)
               ? 0
               : fl_tell_awaited_by(st->imp.discard_from_awaited_by, fut,
                                    task);
}

#else

#  define fl_add_awaited_by(st, fut, task)     (0)
#  define fl_discard_awaited_by(st, fut, task) (0)

#endif
#endif
