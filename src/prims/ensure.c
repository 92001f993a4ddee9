#include "prims/ensure.h"

#include "base/args.h"
#include "core/task.h"
#include "prims/coro.h"

int
fl_iscoroutine(fl_state *st, PyObject *o)
{
    if (FL_LIKELY(PyCoro_CheckExact(o) || Py_IS_TYPE(o, st->CoroType))) {
        return 1;
    }
    if (fl_future_is_native(st, o)) {
        return 0;
    }
    PyObject *answer = PyObject_CallOneArg(st->sup.iscoroutine, o);
    int truth = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return truth;
}

/* --- create_task() ---------------------------------------------------------------- */

#if FL_PY312
#  define OPTIONS 4
#else
#  define OPTIONS 3
#endif

static const struct fl_signature options_signature = {
    "create_task",
    1,
    1,
    0,
    OPTIONS,
    {FL_NAME(coro), FL_NAME(name), FL_NAME(context), FL_NAME(eager_start)}};

/* What Loop.create_task() does without a factory. */
static PyObject *
create_native(fl_state *st, FLLoop *loop, PyObject *coro,
              PyObject *const *values, PyObject *kwnames)
{
    struct fl_task_options options = {NULL, NULL, false};
    if (fl_loop_check_open(loop) < 0) {
        return NULL;
    }
    if (kwnames != NULL) {
        /* the coroutine, then the keywords' values */
        PyObject *stack[FL_ARGS_MAX + 1] = {coro};
        PyObject *parsed[4] = {NULL, NULL, NULL, NULL};
        Py_ssize_t nkw = PyTuple_GET_SIZE(kwnames);
        for (Py_ssize_t i = 0; i < nkw && i < FL_ARGS_MAX; i++) {
            stack[1 + i] = values[i];
        }
        if (nkw > FL_ARGS_MAX) {
            PyErr_SetString(PyExc_TypeError,
                            "create_task() got too many keyword arguments");
            return NULL;
        }
        if (fl_args_parse(st, &options_signature, stack, 1, kwnames, parsed)
            < 0) {
            return NULL;
        }
        options.name = parsed[1];
        options.context = parsed[2];
        int eager = parsed[3] == NULL ? 0 : PyObject_IsTrue(parsed[3]);
        if (eager < 0) {
            return NULL;
        }
        options.eager_start = eager > 0;
    }
    return (PyObject *)fl_task_new(loop, coro, &options);
}

PyObject *
fl_loop_create_task(fl_state *st, PyObject *loop, PyObject *coro,
                    PyObject *const *values, PyObject *kwnames)
{
    FLLoop *native = fl_plain_loop(st, loop);
    if (FL_LIKELY(native != NULL && native->task_factory == NULL)) {
        return create_native(st, native, coro, values, kwnames);
    }
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    PyObject **stack = PyMem_Calloc((size_t)nkw + 3, sizeof(PyObject *));
    if (stack == NULL) {
        return PyErr_NoMemory();
    }
    stack[1] = loop;
    stack[2] = coro;
    for (Py_ssize_t i = 0; i < nkw; i++) {
        stack[3 + i] = values[i];
    }
    PyObject *task =
        PyObject_VectorcallMethod(st->str.create_task, stack + 1,
                                  2 | PY_VECTORCALL_ARGUMENTS_OFFSET, kwnames);
    PyMem_Free(stack);
    return task;
}

#if FL_PY314
const char fl_create_task_doc[] =
    "create_task(coro, **kwargs)\n--\n\n"
    "Schedule the coroutine on the running loop and return its Task.\n\n"
    "The keywords are those of the loop's create_task(): name, context and\n"
    "eager_start, or what its task factory takes.  RuntimeError if no loop\n"
    "runs.  See asyncio.create_task.";
#else
const char fl_create_task_doc[] =
    "create_task(coro, *, name=None, context=None)\n--\n\n"
    "Schedule the coroutine on the running loop and return its Task.\n\n"
    "name is a str, by default Task-N; context the contextvars.Context to run\n"
    "in, by default a copy of the current one.  RuntimeError if no loop runs.\n"
    "See asyncio.create_task.";
#endif

#if !FL_PY314
static const struct fl_signature create_task_signature = {
    "create_task",
    1,
    1,
    0,
    3,
    {FL_NAME(coro), FL_NAME(name), FL_NAME(context)}};

/* asyncio._set_task_name() */
static int
set_name(fl_state *st, PyObject *task, PyObject *name)
{
    PyObject *done = PyObject_CallMethodOneArg(task, st->str.set_name, name);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* A loop that may not know of all keywords gets those that are given. */
static PyObject *
create_task_named(fl_state *st, PyObject *loop, PyObject *const *values)
{
    PyObject *name = values[1] == Py_None ? NULL : values[1];
    PyObject *context = values[2] == Py_None ? NULL : values[2];
#  if FL_PY313
    PyObject *stack[] = {name == NULL ? Py_None : name, context};
    PyObject *kwnames = context == NULL
                            ? PyTuple_Pack(1, st->str.name)
                            : PyTuple_Pack(2, st->str.name, st->str.context);
    if (kwnames == NULL) {
        return NULL;
    }
    PyObject *task = fl_loop_create_task(st, loop, values[0], stack, kwnames);
    Py_DECREF(kwnames);
    (void)set_name;
    return task;
#  else
    PyObject *task =
        fl_loop_create_task(st, loop, values[0], &context,
                            context == NULL ? NULL : st->context_kwnames);
    if (task != NULL && name != NULL && set_name(st, task, name) < 0) {
        Py_CLEAR(task);
    }
    return task;
#  endif
}
#endif

PyObject *
fl_create_task_on(fl_state *st, PyObject *loop, PyObject *coro,
                  PyObject *const *values, PyObject *kwnames)
{
#if FL_PY314
    return fl_loop_create_task(st, loop, coro, values, kwnames);
#else
    if (FL_LIKELY(kwnames == NULL)) {
        return fl_loop_create_task(st, loop, coro, NULL, NULL);
    }
    PyObject *stack[3] = {coro};
    PyObject *parsed[3];
    Py_ssize_t nkw = PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < nkw && i < 2; i++) {
        stack[1 + i] = values[i];
    }
    if (nkw > 2) {
        PyErr_SetString(PyExc_TypeError,
                        "create_task() got too many keyword arguments");
        return NULL;
    }
    if (fl_args_parse(st, &create_task_signature, stack, 1, kwnames, parsed)
        < 0) {
        return NULL;
    }
    for (int i = 1; i < 3; i++) {
        parsed[i] = parsed[i] == NULL ? Py_None : parsed[i];
    }
    return create_task_named(st, loop, parsed);
#endif
}

FL_COLD PyObject *
fl_create_task_by_name(fl_state *st, PyObject *method, PyObject *self,
                       PyObject *const *args, Py_ssize_t nargs,
                       PyObject *kwnames)
{
    PyObject *stack[] = {self, NULL};
    PyObject *kwargs = PyDict_New();
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; kwargs != NULL && i < nkw; i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        if (PyUnicode_Compare(name, st->str.coro) == 0) {
            stack[1] = args[nargs + i];
        }
        else if (PyDict_SetItem(kwargs, name, args[nargs + i]) < 0) {
            Py_CLEAR(kwargs);
        }
    }
    PyObject *task = NULL;
    if (kwargs != NULL && (nargs > 0 || stack[1] == NULL)) {
        PyErr_Format(PyExc_TypeError,
                     "create_task() takes 1 positional argument (%zd given)",
                     nargs);
    }
    else if (kwargs != NULL) {
        task = PyObject_VectorcallDict(method, stack + (self == NULL),
                                       1 + (self != NULL), kwargs);
    }
    Py_XDECREF(kwargs);
    return task;
}

/* HOT */
PyObject *
fl_create_task(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    fl_state *st = fl_state_of_module(module);
    if (FL_UNLIKELY(nargs != 1)) {
        PyObject *function = PyObject_GetAttr(module, st->str.create_task);
        PyObject *named = function == NULL
                              ? NULL
                              : fl_create_task_by_name(st, function, NULL,
                                                       args, nargs, kwnames);
        Py_XDECREF(function);
        return named;
    }
    PyObject *loop = fl_running_loop(st);
    if (loop == NULL) {
        return NULL;
    }
    PyObject *task = fl_create_task_on(st, loop, args[0], args + 1, kwnames);
    Py_DECREF(loop);
    return task;
}

/* --- ensure_future() -------------------------------------------------------------- */

/* A coroutine around anything that can be awaited. */
static PyObject *
wrap_awaitable(fl_state *st, PyObject *o)
{
    PyObject *answer = PyObject_CallOneArg(st->imp.isawaitable, o);
    int awaitable = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    if (awaitable == 0) {
        PyErr_SetString(PyExc_TypeError,
                        "An asyncio.Future, a coroutine or an awaitable is "
                        "required");
    }
    if (awaitable <= 0) {
        return NULL;
    }
    return PyObject_CallOneArg(st->sup.wrap_awaitable, o);
}

/* o is a future: is it of this loop?  A new reference to it. */
static PyObject *
check_loop(fl_state *st, PyObject *o, PyObject *loop)
{
    if (loop != NULL) {
        PyObject *its = fl_any_loop(st, o);
        if (its == NULL) {
            return NULL;
        }
        Py_DECREF(its);
        if (its != loop) {
            PyErr_SetString(PyExc_ValueError,
                            "The future belongs to a different loop than the "
                            "one specified as the loop argument");
            return NULL;
        }
    }
    return Py_NewRef(o);
}

/* RuntimeError: the coroutine will never run, and shall not warn of that. */
static FL_COLD void
close_after_error(PyObject *coro)
{
    PyObject *raised = fl_err_take();
    if (PyErr_GivenExceptionMatches(raised, PyExc_RuntimeError)) {
        PyObject *closed = PyObject_CallMethod(coro, "close", NULL);
        if (closed == NULL) {
            PyObject *second = fl_err_take();
            PyException_SetContext(second, raised);
            raised = second;
        }
        Py_XDECREF(closed);
    }
    fl_err_give(raised);
}

PyObject *
fl_ensure_future_on(fl_state *st, PyObject *o, PyObject *loop)
{
    int known = fl_isfuture(st, o);
    if (known != 0) {
        return known < 0 ? NULL : check_loop(st, o, loop);
    }
    int coroutine = fl_iscoroutine(st, o);
    if (coroutine < 0) {
        return NULL;
    }
    PyObject *coro = coroutine ? Py_NewRef(o) : wrap_awaitable(st, o);
    if (coro == NULL) {
        return NULL;
    }
    loop = loop == NULL ? PyObject_CallNoArgs(st->imp.get_event_loop)
                        : Py_NewRef(loop);
    PyObject *task = NULL;
    if (loop != NULL) {
        task = fl_loop_create_task(st, loop, coro, NULL, NULL);
        if (task == NULL && coroutine) {
            close_after_error(coro);
        }
        Py_DECREF(loop);
    }
    Py_DECREF(coro);
    return task;
}

const char fl_ensure_future_doc[] =
    "ensure_future(coro_or_future, *, loop=None)\n--\n\n"
    "Return a future as it is, and a Task for any other awaitable.\n\n"
    "loop is where to make the task, by default the current loop.  ValueError\n"
    "if the future belongs to another one.  See asyncio.ensure_future.";

static const struct fl_signature ensure_signature = {
    "ensure_future", 1, 1, 0, 2, {FL_NAME(coro_or_future), FL_NAME(loop)}};

PyObject *
fl_ensure_future(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    fl_state *st = fl_state_of_module(module);
    PyObject *values[2];
    if (fl_args_parse(st, &ensure_signature, args, nargs, kwnames, values)
        < 0) {
        return NULL;
    }
    return fl_ensure_future_on(st, values[0],
                               values[1] == Py_None ? NULL : values[1]);
}
