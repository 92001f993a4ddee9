/* `async with` for what has acquire() and release(). */
#ifndef FL_PRIMS_GUARD_H
#define FL_PRIMS_GUARD_H

#include "prims/done.h"
#include "prims/waiters.h"

#define FL_GUARD_ENTER "_ContextManagerMixin.__aenter__"

/* A coroutine of this kind for self. */
FLCoro *fl_bound_coro(FLBound *self, const struct fl_coro_kind *kind);

/* __aenter__: await self.acquire(), whosever it is. */
PyObject *fl_guard_enter(FLBound *self);

/* __aexit__ of a subclass that overrides release(): a coroutine that calls it. */
PyObject *fl_guard_exit(FLBound *self);

/* 0, or -1 with TypeError: __aexit__ takes three arguments. */
static inline int
fl_guard_check_exit(Py_ssize_t nargs)
{
    if (FL_UNLIKELY(nargs != 3)) {
        PyErr_Format(PyExc_TypeError,
                     "__aexit__() takes exactly 3 arguments (%zd given)",
                     nargs);
        return -1;
    }
    return 0;
}

/* What __aexit__ returns after its work, done with this status: `async with` awaits
   it at once, and it saves a coroutine. */
static inline PyObject *
fl_guard_exited(fl_state *st, int status)
{
    return status < 0 ? NULL : fl_done_coro(st);
}

/* The result of an acquire() that __aenter__ keeps to itself. */
static inline PySendResult
fl_guard_entered(PySendResult status, PyObject **result)
{
    if (status == PYGEN_RETURN) {
        Py_SETREF(*result, Py_NewRef(Py_None));
    }
    return status;
}

/* Is an exception that is raised a CancelledError? */
static inline bool
fl_raised_cancelled(fl_state *st)
{
    return PyErr_ExceptionMatches(st->imp.CancelledError);
}

extern const char fl_guard_enter_doc[];
extern const char fl_guard_exit_doc[];

#endif
