/* fastloop._core: creates the types in the order of the layers. */
#include "base/methods.h"
#include "core/coroutine_kind.h"
#include "core/future.h"
#include "core/handle.h"
#include "core/registry.h"
#include "core/stop_iteration.h"
#include "core/task.h"
#include "core/timer.h"
#include "io/dns.h"
#include "io/io.h"
#include "io/server.h"
#include "loop_type.h"
#include "prims/prims.h"

PyMODINIT_FUNC PyInit__core(void);

PyDoc_STRVAR(native_tasks_doc,
             "native_tasks()\n--\n\n"
             "Return a list of all unfinished native tasks, of all loops.");

static PyObject *
native_tasks(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    return fl_registry_list_tasks(fl_state_of_module(module));
}

PyDoc_STRVAR(after_fork_doc,
             "after_fork()\n--\n\n"
             "Tell the module that it now runs in a forked child.");

static PyObject *
after_fork(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    fl_state *st = fl_state_of_module(module);
    st->fork_generation++;
    for (struct fl_list *n = st->loops.next; n != &st->loops; n = n->next) {
        fl_loop_after_fork(FL_CONTAINER_OF(n, FLLoop, node));
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    set_metaclass_doc,
    "set_metaclass(metaclass, /)\n--\n\n"
    "Make the types that pass for asyncio's instances of a metaclass\n"
    "without fields.");

/* A spec cannot name a metaclass before Python 3.12; classes are objects whose type
   may be set as long as it has the same size. */
static PyObject *
set_metaclass(PyObject *module, PyObject *metaclass)
{
    fl_state *st = fl_state_of_module(module);
    PyTypeObject *meta = (PyTypeObject *)metaclass;
    if (!PyType_Check(metaclass) || !PyType_IsSubtype(meta, &PyType_Type)
        || meta->tp_basicsize != PyType_Type.tp_basicsize
        || meta->tp_itemsize != PyType_Type.tp_itemsize) {
        PyErr_SetString(PyExc_TypeError,
                        "a metaclass without fields of its own was expected");
        return NULL;
    }
    PyTypeObject *types[] = {st->FutureType, st->TaskType,
                             st->StreamReaderType, st->StreamProtocolType,
                             st->StreamWriterType};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(types); i++) {
        PyTypeObject *old = Py_TYPE(types[i]);
        Py_SET_TYPE(types[i], (PyTypeObject *)Py_NewRef(meta));
        PyType_Modified(types[i]);
        if (old != &PyType_Type) {
            Py_DECREF(old);
        }
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    own_methods_doc,
    "own_methods(cls, /)\n--\n\n"
    "Give a new class descriptors of its own for the methods that it\n"
    "inherits from types of C: CPython calls them faster.");

static PyObject *
own_methods(PyObject *Py_UNUSED(module), PyObject *cls)
{
    if (!PyType_Check(cls)) {
        PyErr_SetString(PyExc_TypeError, "a class was expected");
        return NULL;
    }
    return fl_own_methods((PyTypeObject *)cls) < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(libuv_version_doc,
             "libuv_version()\n--\n\n"
             "Return the version of the libuv in use, as a str.");

static PyObject *
libuv_version(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyUnicode_FromString(uv_version_string());
}

PyDoc_STRVAR(
    getaddrinfo_numeric_doc,
    "getaddrinfo_numeric(host, port, family, type, proto, flags, /)\n--\n\n"
    "socket.getaddrinfo() for a numeric host; None if it takes a resolver.");

#if FL_PY314
PyDoc_STRVAR(add_awaited_by_doc,
             "future_add_to_awaited_by(fut, waiter, /)\n--\n\n"
             "Record that waiter awaits fut: asyncio's function for native "
             "futures, too.");

static PyObject *
add_awaited_by(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    fl_state *st = fl_state_of_module(module);
    int done =
        nargs == 2 ? fl_registry_add_awaited_by(st, args[0], args[1]) : 0;
    if (done == 0) {
        return PyObject_Vectorcall(st->imp.add_to_awaited_by, args,
                                   (size_t)nargs, NULL);
    }
    return done < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(discard_awaited_by_doc,
             "future_discard_from_awaited_by(fut, waiter, /)\n--\n\n"
             "Undo future_add_to_awaited_by().");

static PyObject *
discard_awaited_by(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    fl_state *st = fl_state_of_module(module);
    int done =
        nargs == 2 ? fl_registry_discard_awaited_by(st, args[0], args[1]) : 0;
    if (done == 0) {
        return PyObject_Vectorcall(st->imp.discard_from_awaited_by, args,
                                   (size_t)nargs, NULL);
    }
    return done < 0 ? NULL : Py_NewRef(Py_None);
}
#endif

static PyMethodDef module_methods[] = {
    {"native_tasks", native_tasks, METH_NOARGS, native_tasks_doc},
    {"after_fork", after_fork, METH_NOARGS, after_fork_doc},
    {"getaddrinfo_numeric", FL_METHOD(fl_getaddrinfo_numeric), METH_FASTCALL,
     getaddrinfo_numeric_doc},
#if FL_PY314
    {"future_add_to_awaited_by", FL_METHOD(add_awaited_by), METH_FASTCALL,
     add_awaited_by_doc},
    {"future_discard_from_awaited_by", FL_METHOD(discard_awaited_by),
     METH_FASTCALL, discard_awaited_by_doc},
#endif
    {"set_metaclass", set_metaclass, METH_O, set_metaclass_doc},
    {"own_methods", own_methods, METH_O, own_methods_doc},
    {"libuv_version", libuv_version, METH_NOARGS, libuv_version_doc},
    {NULL, NULL, 0, NULL},
};

static int
module_exec(PyObject *module)
{
    if (fl_state_init(module) < 0 || fl_registry_init(module) < 0
        || fl_handle_init_types(module) < 0 || fl_timer_init_types(module) < 0
        || fl_stop_iteration_init_types(module) < 0
        || fl_future_iter_init_types(module) < 0
        || fl_coroutine_kind_init_types(module) < 0
        || fl_future_init_types(module) < 0 || fl_task_init_types(module) < 0
        || fl_prims_init(module) < 0 || fl_server_init_types(module) < 0
        || fl_io_init_types(module) < 0 || fl_loop_init_types(module) < 0) {
        return -1;
    }
    return 0;
}

static void
module_free(void *module)
{
    fl_state_clear(module);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if FL_PY312
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#if FL_PY313
    {Py_mod_gil, Py_MOD_GIL_USED},
#endif
    {0, NULL},
};

PyDoc_STRVAR(module_doc, "The C core of fastloop.");

struct PyModuleDef fl_module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "fastloop._core",
    .m_doc = module_doc,
    .m_size = sizeof(fl_state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = fl_state_traverse,
    .m_clear = fl_state_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&fl_module_def);
}
