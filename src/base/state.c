#include "base/state.h"

#include "base/methods.h"

FL_BORROWED fl_state *
fl_state_of_type(PyTypeObject *type)
{
    PyObject *module = PyType_GetModuleByDef(type, &fl_module_def);
    FL_ASSERT(module != NULL);
    return fl_state_of_module(module);
}

static PyObject *
import_attribute(const char *module_name, const char *attribute)
{
    PyObject *module = PyImport_ImportModule(module_name);
    if (module == NULL) {
        return NULL;
    }
    PyObject *value = PyObject_GetAttrString(module, attribute);
    Py_DECREF(module);
    return value;
}

/* A trailing underscore keeps a name apart from a C keyword: drop it. */
static PyObject *
intern(const char *name)
{
    size_t size = strlen(name);
    size -= name[size - 1] == '_';
    PyObject *str = PyUnicode_FromStringAndSize(name, (Py_ssize_t)size);
    if (str != NULL) {
        PyUnicode_InternInPlace(&str);
    }
    return str;
}

static int
init_objects(fl_state *st)
{
#define X(name)                                                               \
    if ((st->str.name = intern(#name)) == NULL) {                             \
        return -1;                                                            \
    }
    FL_STATE_STRINGS(X)
#undef X
#define X(name, module, attribute)                                            \
    if ((st->imp.name = import_attribute(module, attribute)) == NULL) {       \
        return -1;                                                            \
    }
    FL_STATE_IMPORTS(X)
#undef X
#define X(name)                                                               \
    if ((st->sup.name = import_attribute("fastloop._support", #name))         \
        == NULL) {                                                            \
        return -1;                                                            \
    }
    FL_STATE_SUPPORT(X)
#undef X
    st->context_kwnames = PyTuple_Pack(1, st->str.context);
    st->msg_kwnames = PyTuple_Pack(1, st->str.msg);
    if (st->context_kwnames == NULL || st->msg_kwnames == NULL) {
        return -1;
    }
    st->coroutine_types = PySet_New(NULL);
    return st->coroutine_types == NULL ? -1 : 0;
}

int
fl_state_init(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    fl_list_init(&st->loops);
    fl_list_init(&st->foreign_tasks);
    return init_objects(st);
}

int
fl_state_add_type(PyObject *module, PyTypeObject **slot, PyType_Spec *spec,
                  PyObject *base)
{
    FL_ASSERT(*slot == NULL);
    *slot = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, base);
    if (*slot == NULL || fl_own_methods(*slot) < 0) {
        return -1;
    }
    return PyModule_AddType(module, *slot);
}

int
fl_state_traverse(PyObject *module, visitproc visit, void *arg)
{
    fl_state *st = fl_state_of_module(module);
#define X(name) Py_VISIT(st->name);
    FL_STATE_TYPES(X)
#undef X
#define X(name, mod, attribute) Py_VISIT(st->imp.name);
    FL_STATE_IMPORTS(X)
#undef X
#define X(name) Py_VISIT(st->sup.name);
    FL_STATE_SUPPORT(X)
#undef X
    Py_VISIT(st->current_tasks);
    Py_VISIT(st->done_coro);
    Py_VISIT(st->coroutine_types);
    Py_VISIT(st->loop_class);
    return 0;
}

static void
drain_freelists(fl_state *st)
{
    fl_freelist_drain(&st->futures);
    fl_freelist_drain(&st->tasks);
    fl_freelist_drain(&st->handles);
    fl_freelist_drain(&st->timers);
    fl_freelist_drain(&st->future_iters);
    /* these keep a tuple, see core/stop_iteration.c */
    for (int i = 0; i < st->stop_iterations.count; i++) {
        PyObject *stop = st->stop_iterations.items[i];
        Py_CLEAR(((PyStopIterationObject *)stop)->args);
    }
    fl_freelist_drain(&st->stop_iterations);
    fl_freelist_drain(&st->sock_ops);
    fl_freelist_drain(&st->coros);
    fl_freelist_drain(&st->timeouts);
}

void
fl_state_trim(fl_state *st, int64_t now)
{
    st->trimmed_at = now;
    fl_freelist_trim(&st->futures);
    fl_freelist_trim(&st->tasks);
    fl_freelist_trim(&st->handles);
    fl_freelist_trim(&st->timers);
    fl_freelist_trim(&st->future_iters);
    fl_freelist_trim(&st->sock_ops);
    fl_freelist_trim(&st->coros);
    fl_freelist_trim(&st->timeouts);
}

int
fl_state_clear(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    drain_freelists(st);
    memset(st->stream_links, 0, sizeof(st->stream_links));
    memset(st->stream_feeds, 0, sizeof(st->stream_feeds));
#define X(name) Py_CLEAR(st->name);
    FL_STATE_TYPES(X)
#undef X
#define X(name) Py_CLEAR(st->str.name);
    FL_STATE_STRINGS(X)
#undef X
#define X(name, mod, attribute) Py_CLEAR(st->imp.name);
    FL_STATE_IMPORTS(X)
#undef X
#define X(name) Py_CLEAR(st->sup.name);
    FL_STATE_SUPPORT(X)
#undef X
    Py_CLEAR(st->context_kwnames);
    Py_CLEAR(st->msg_kwnames);
    Py_CLEAR(st->current_tasks);
    Py_CLEAR(st->done_coro);
    Py_CLEAR(st->coroutine_types);
    Py_CLEAR(st->loop_class);
    return 0;
}
