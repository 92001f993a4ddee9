#include "core/registry.h"

#include "core/task.h"

/* --- the current task ----------------------------------------------------------- */

#if FL_PY314

/* Up to how far into the thread state the slot is looked for. */
#  define SCAN_WORDS 64

/* Has the word at offset the value? */
static bool
holds(PyThreadState *ts, Py_ssize_t offset, PyObject *value)
{
    PyObject *word;
    memcpy(&word, (char *)ts + offset, sizeof(word));
    return word == value;
}

/* asyncio.tasks._swap_current_task(loop, task) */
static PyObject *
swap(fl_state *st, PyObject *loop, PyObject *task)
{
    PyObject *args[] = {loop, task};
    return PyObject_Vectorcall(st->sup.swap_current_task, args, 2, NULL);
}

/* Make a known object the current task of the running loop and look where its
   pointer appears behind the public part of the thread state.  The layout there
   differs between releases, so it is found out at run time, and believed only if
   exactly one word fits.  0 if none does, -1 on error. */
static Py_ssize_t
find_offset(fl_state *st, PyObject *loop, PyObject *probe)
{
    PyObject *previous = swap(st, loop, probe);
    if (previous == NULL) {
        return -1;
    }
    PyThreadState *ts = PyThreadState_Get();
    Py_ssize_t found = 0;
    int matches = 0;
    for (Py_ssize_t i = 0; i < SCAN_WORDS; i++) {
        Py_ssize_t offset = (Py_ssize_t)(sizeof(PyThreadState)
                                         + (size_t)i * sizeof(PyObject *));
        if (holds(ts, offset, probe)) {
            found = offset;
            matches++;
        }
    }
    /* the running loop is kept right before its task */
    Py_ssize_t before = found - (Py_ssize_t)sizeof(PyObject *);
    if (matches == 1 && holds(ts, before, loop)) {
        st->running_loop_offset = before;
    }
    PyObject *ours = swap(st, loop, previous);
    PyObject *expected = previous == Py_None ? NULL : previous;
    Py_DECREF(previous);
    Py_XDECREF(ours);
    if (ours == NULL) {
        return -1;
    }
    return matches == 1 && holds(ts, found, expected) ? found : 0;
}

/* Set st->running_task_offset; it stays 0 if the place cannot be found:
   _swap_current_task() is called then. */
static int
find_running_task(fl_state *st)
{
    PyObject *loop = PyObject_CallNoArgs(st->imp.get_running_loop);
    PyObject *probe = PyObject_CallNoArgs((PyObject *)&PyBaseObject_Type);
    PyObject *set = NULL;
    if (loop == Py_None && probe != NULL) {
        /* outside a running loop, anything can be set as one */
        Py_SETREF(loop, PyObject_CallNoArgs((PyObject *)&PyBaseObject_Type));
        set = loop == NULL
                  ? NULL
                  : PyObject_CallOneArg(st->imp.set_running_loop, loop);
        if (set == NULL) {
            Py_CLEAR(loop);
        }
    }
    Py_ssize_t offset = -1;
    if (loop != NULL && probe != NULL) {
        offset = find_offset(st, loop, probe);
    }
    if (set != NULL) {
        PyObject *raised = fl_err_take();
        Py_SETREF(set, PyObject_CallOneArg(st->imp.set_running_loop, Py_None));
        if (raised != NULL) {
            fl_err_give(raised);
        }
    }
    Py_XDECREF(set);
    Py_XDECREF(probe);
    Py_XDECREF(loop);
    st->running_task_offset = offset > 0 ? offset : 0;
    if (offset <= 0) {
        st->running_loop_offset = 0;
    }
    return offset < 0 ? -1 : 0;
}

void
fl_current_begin(FLLoop *loop)
{
    Py_ssize_t offset = loop->st->running_task_offset;
    loop->running_slot = NULL;
    if (offset != 0) {
        char *ts = (char *)PyThreadState_Get();
        loop->running_slot = (PyObject **)(void *)(ts + offset);
    }
}

static int
replace(FLLoop *loop, PyObject *task)
{
    if (FL_LIKELY(loop->running_slot != NULL)) {
        Py_XSETREF(*loop->running_slot, Py_XNewRef(task));
        return 0;
    }
    PyObject *previous =
        swap(loop->st, (PyObject *)loop, task == NULL ? Py_None : task);
    Py_XDECREF(previous);
    return previous == NULL ? -1 : 0;
}

#else

void
fl_current_begin(FLLoop *Py_UNUSED(loop))
{
}

static int
replace(FLLoop *loop, PyObject *task)
{
    PyObject *tasks = loop->st->current_tasks;
    if (task != NULL) {
        return PyDict_SetItem(tasks, (PyObject *)loop, task);
    }
    if (PyDict_DelItem(tasks, (PyObject *)loop) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_KeyError)) {
            return -1;
        }
        PyErr_Clear();
    }
    return 0;
}

#endif

int
fl_current_replace(FLLoop *loop, struct FLTask *task)
{
    /* Beware: replacing may free the task that was current, which may run any
       code: say first what is so now. */
    loop->current = task;
    return replace(loop, (PyObject *)task);
}

/* --- all tasks ------------------------------------------------------------------ */

static int
append_tasks(PyObject *list, const struct fl_list *head)
{
    for (struct fl_list *n = head->next; n != head; n = n->next) {
        FLTask *task = FL_CONTAINER_OF(n, FLTask, node);
        if (PyList_Append(list, (PyObject *)task) < 0) {
            return -1;
        }
    }
    return 0;
}

PyObject *
fl_registry_list_tasks(fl_state *st)
{
    PyObject *list = PyList_New(0);
    if (list == NULL) {
        return NULL;
    }
    int status = append_tasks(list, &st->foreign_tasks);
    for (struct fl_list *n = st->loops.next; status == 0 && n != &st->loops;
         n = n->next) {
        status = append_tasks(list, &FL_CONTAINER_OF(n, FLLoop, node)->tasks);
    }
    if (status < 0) {
        Py_CLEAR(list);
    }
    return list;
}

/* --- who awaits whom ------------------------------------------------------------ */

#if FL_PY314
/* Make room for several. */
static FL_COLD int
add_to_set(struct fl_future_rare *rare, PyObject *waiter)
{
    if (!PySet_CheckExact(rare->awaited_by)) {
        PyObject *set = PySet_New(NULL);
        if (set == NULL || PySet_Add(set, rare->awaited_by) < 0) {
            Py_XDECREF(set);
            return -1;
        }
        Py_SETREF(rare->awaited_by, set);
    }
    return PySet_Add(rare->awaited_by, waiter);
}

/* asyncio's rule: what is no future is ignored.  That it is no set is enough for
   us to tell one waiter from several. */
int
fl_registry_add_awaited_by(fl_state *st, PyObject *fut, PyObject *waiter)
{
    if (!PyObject_TypeCheck(fut, st->FutureType)) {
        return 0;
    }
    struct fl_future_rare *rare = fl_future_rare((FLFuture *)fut);
    if (rare == NULL) {
        return -1;
    }
    if (rare->awaited_by == waiter || PySet_CheckExact(waiter)) {
        return 1;
    }
    if (FL_LIKELY(rare->awaited_by == NULL)) {
        rare->awaited_by = Py_NewRef(waiter);
        return 1;
    }
    return add_to_set(rare, waiter) < 0 ? -1 : 1;
}

int
fl_registry_discard_awaited_by(fl_state *st, PyObject *fut, PyObject *waiter)
{
    if (!PyObject_TypeCheck(fut, st->FutureType)) {
        return 0;
    }
    struct fl_future_rare *rare = ((FLFuture *)fut)->rare;
    if (rare == NULL || rare->awaited_by == NULL) {
        return 1;
    }
    if (rare->awaited_by == waiter) {
        Py_CLEAR(rare->awaited_by);
    }
    else if (PySet_CheckExact(rare->awaited_by)
             && PySet_Discard(rare->awaited_by, waiter) < 0) {
        return -1;
    }
    return 1;
}
#endif

int
fl_registry_init(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
#if FL_PY314
    return find_running_task(st);
#else
    PyObject *tasks = PyImport_ImportModule("asyncio.tasks");
    if (tasks == NULL) {
        return -1;
    }
    st->current_tasks = PyObject_GetAttrString(tasks, "_current_tasks");
    Py_DECREF(tasks);
    return st->current_tasks == NULL ? -1 : 0;
#endif
}
