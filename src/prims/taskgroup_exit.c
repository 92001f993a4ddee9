/* TaskGroup.__aexit__(): wait for the children, then decide what to raise.

   Taking back our own cancellation of the parent is done before the waiting up to
   3.12, and after it from 3.13. */
#include "prims/coro.h"
#include "prims/taskgroup.h"

enum { GROUP, TYPE, EXC, PROPAGATE, PENDING }; /* slots */
enum { START, WAITING };                       /* steps */

/* Is the type of the block's exception a CancelledError? */
static bool
is_cancellation(const FLCoro *coro)
{
    PyObject *type = coro->slots[TYPE];
#if FL_PY313
    return type != NULL && PyType_Check(type)
           && PyType_IsSubtype((PyTypeObject *)type,
                               (PyTypeObject *)coro->st->imp.CancelledError);
#else
    return type == coro->st->imp.CancelledError;
#endif
}

/* cancel() came when the parent was about to leave: it shall not hear of it.  From
   3.13 uncancel() sees to that; before, it can only be done for tasks of ours. */
static void
drop_pending_cancel(FLCoro *coro, FLTaskGroup *group)
{
    if (group->cancel_called
        && Py_IS_TYPE(group->parent, coro->st->TaskType)) {
        ((FLFuture *)group->parent)->must_cancel = false;
    }
}

/* Take back our cancellation of the parent, if there was one: what is left is
   somebody else's.  0 or -1. */
static int
take_back_cancel(FLCoro *coro, FLTaskGroup *group)
{
    if (!group->parent_cancel_requested || group->parent == NULL) {
        return 0; /* without a parent another __aexit__() has done it */
    }
    long left = fl_any_uncancel(coro->st, group->parent);
    if (left < 0 && PyErr_Occurred()) {
        return -1;
    }
    if (left == 0) {
        Py_CLEAR(coro->slots[PROPAGATE]);
        drop_pending_cancel(coro, group);
    }
    else if (coro->slots[PROPAGATE] == NULL
             && (FL_PY315 || group->cancel_called)) {
        Py_XSETREF(coro->slots[PROPAGATE], Py_XNewRef(coro->slots[PENDING]));
    }
    return 0;
}

/* The parent is being cancelled from outside: keep its count, and its cancellation
   under way. */
static int
renew_cancel(FLCoro *coro, FLTaskGroup *group)
{
#if FL_PY313
    fl_state *st = coro->st;
    if (group->parent == NULL) {
        return 0;
    }
    long count = fl_any_cancelling(st, group->parent);
    if (count <= 0) {
        return count < 0 && PyErr_Occurred() ? -1 : 0;
    }
    if (fl_any_uncancel(st, group->parent) < 0 && PyErr_Occurred()) {
        return -1;
    }
    return fl_any_cancel(st, group->parent, NULL) < 0 ? -1 : 0;
#else
    (void)coro;
    (void)group;
    return 0;
#endif
}

/* raise BaseExceptionGroup(errors) from None.  Always PYGEN_ERROR. */
static PySendResult
raise_group(FLCoro *coro, FLTaskGroup *group)
{
    if (renew_cancel(coro, group) < 0) {
        return PYGEN_ERROR;
    }
#if FL_PY315
    if (coro->slots[TYPE] == PyExc_GeneratorExit && coro->slots[EXC] != NULL
        && PyList_GET_SIZE(group->errors) == 1) {
        fl_err_give(Py_NewRef(coro->slots[EXC]));
        return PYGEN_ERROR;
    }
#endif
    PyObject *exc = PyObject_CallFunction(PyExc_BaseExceptionGroup, "sO",
                                          "unhandled errors in a TaskGroup",
                                          group->errors);
    if (exc != NULL) {
        PyException_SetCause(exc, NULL); /* and suppress the context */
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
        Py_DECREF(exc);
    }
    return PYGEN_ERROR;
}

/* All children are done. */
static PySendResult
conclude(FLCoro *coro, FLTaskGroup *group, PyObject **result)
{
    if (group->base_error != NULL) {
        fl_err_give(Py_NewRef(group->base_error));
        return PYGEN_ERROR;
    }
    bool ours = group->parent_cancel_requested;
    if ((FL_PY313 || (group->cancel_called && coro->option == 0))
        && take_back_cancel(coro, group) < 0) {
        return PYGEN_ERROR;
    }
    Py_ssize_t failed =
        group->errors == NULL ? 0 : PyList_GET_SIZE(group->errors);
    if (coro->slots[PROPAGATE] != NULL && failed == 0) {
        fl_err_give(Py_NewRef(coro->slots[PROPAGATE]));
        return PYGEN_ERROR;
    }
    if (coro->slots[TYPE] != NULL && !is_cancellation(coro)
        && group->errors != NULL) {
        PyObject *exc = coro->slots[EXC];
        if (PyList_Append(group->errors, exc == NULL ? Py_None : exc) < 0) {
            return PYGEN_ERROR;
        }
        failed++;
    }
    if (failed > 0) {
        return raise_group(coro, group);
    }
    /* what cancel() did to the block ends here */
    bool suppress = FL_PY315 || (coro->slots[TYPE] != NULL && ours);
    *result = Py_NewRef(suppress ? Py_True : Py_None);
    return PYGEN_RETURN;
}

/* Wait while there are children. */
static PySendResult
wait_for_children(FLCoro *coro, FLTaskGroup *group, PyObject **result)
{
    if (PySet_GET_SIZE(group->tasks) == 0) {
        return conclude(coro, group, result);
    }
    if (group->loop == NULL) {
        PyErr_SetNone(PyExc_AssertionError); /* cleared by the collector */
        return PYGEN_ERROR;
    }
    if (group->completed == NULL) {
        group->completed = fl_loop_create_future(coro->st, group->loop);
        if (group->completed == NULL) {
            return PYGEN_ERROR;
        }
    }
    coro->step = WAITING;
    return fl_coro_wait(coro, group->completed, result);
}

static PySendResult
begin(FLCoro *coro, FLTaskGroup *group, PyObject **result)
{
    PyObject *exc = coro->slots[EXC];
    if (group->loop == NULL || group->parent == NULL) {
        PyErr_Format(PyExc_RuntimeError, "TaskGroup %R has not been entered",
                     group);
        return PYGEN_ERROR;
    }
    group->exiting = true;
    if (exc != NULL && group->base_error == NULL
        && fl_taskgroup_is_base_error(exc)) {
        group->base_error = Py_NewRef(exc);
    }
    if (is_cancellation(coro)) {
        coro->slots[PROPAGATE] = Py_XNewRef(exc);
    }
#if !FL_PY313
    coro->option = group->parent_cancel_requested;
    if (take_back_cancel(coro, group) < 0) {
        return PYGEN_ERROR;
    }
#endif
    if (coro->slots[TYPE] != NULL && !group->aborting
        && fl_taskgroup_abort(group, coro->st) < 0) {
        return PYGEN_ERROR;
    }
    return wait_for_children(coro, group, result);
}

/* The wait was cut short: by a cancellation, which is noted, or for good. */
static int
note_cancellation(FLCoro *coro, FLTaskGroup *group)
{
    if (!PyErr_ExceptionMatches(coro->st->imp.CancelledError)) {
        return -1;
    }
    PyObject *exc = fl_err_take();
    Py_XSETREF(coro->slots[PENDING], Py_NewRef(exc));
    if (group->aborting) {
        Py_DECREF(exc);
        return 0;
    }
    Py_XSETREF(coro->slots[PROPAGATE], exc);
    return fl_taskgroup_abort(group, coro->st);
}

static PySendResult
exit_run(FLCoro *coro, PyObject *value, PyObject **result)
{
    FLTaskGroup *group = (FLTaskGroup *)coro->slots[GROUP];
    PySendResult status = PYGEN_ERROR;
    if (coro->step == START) {
        status = begin(coro, group, result);
    }
    else if (value != NULL || note_cancellation(coro, group) == 0) {
        Py_CLEAR(group->completed);
        status = wait_for_children(coro, group, result);
    }
    if (status != PYGEN_NEXT && group->exiting) {
        /* exceptions hold frames that hold the group: let go of them */
        PyObject *raised = fl_err_take();
        Py_CLEAR(group->parent);
        Py_CLEAR(group->errors);
        Py_CLEAR(group->base_error);
        fl_err_give(raised);
    }
    return status;
}

static const struct fl_coro_kind exit_kind = {
    "__aexit__", "TaskGroup.__aexit__", exit_run, NULL};

PyObject *
fl_taskgroup_exit(FLTaskGroup *group, PyObject *type, PyObject *exc)
{
    FLCoro *coro = fl_coro_new(fl_state_of_type(Py_TYPE(group)), &exit_kind);
    if (coro != NULL) {
        coro->slots[GROUP] = Py_NewRef(group);
        coro->slots[TYPE] = type == Py_None ? NULL : Py_NewRef(type);
        coro->slots[EXC] = exc == Py_None ? NULL : Py_NewRef(exc);
    }
    return (PyObject *)coro;
}
