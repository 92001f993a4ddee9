/* What goes into the type tables of all primitives. */
#ifndef FL_PRIMS_BOUND_TYPE_H
#define FL_PRIMS_BOUND_TYPE_H

#include "prims/bound.h"

extern const char fl_bound_get_loop_doc[];
PyObject *fl_bound_get_loop_method(FLBound *self, PyObject *ignored);
PyObject *fl_bound_loop_getter(FLBound *self, void *closure);
int fl_bound_loop_setter(FLBound *self, PyObject *value, void *closure);

#define FL_BOUND_METHOD                                                       \
    {"_get_loop", (PyCFunction)fl_bound_get_loop_method, METH_NOARGS,         \
     fl_bound_get_loop_doc}
#define FL_BOUND_GETSET                                                       \
    {"_loop", (getter)fl_bound_loop_getter, (setter)fl_bound_loop_setter,     \
     NULL, NULL},                                                             \
    {                                                                         \
        "__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL,   \
            NULL                                                              \
    }
#define FL_BOUND_MEMBERS                                                      \
    {"__dictoffset__", Py_T_PYSSIZET, offsetof(FLBound, dict), Py_READONLY,   \
     NULL},                                                                   \
    {                                                                         \
        "__weaklistoffset__", Py_T_PYSSIZET, offsetof(FLBound, weakrefs),     \
            Py_READONLY, NULL                                                 \
    }

/* Not immutable: asyncio's classes can be patched, and test suites do. */
#define FL_BOUND_FLAGS                                                        \
    (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE)

#endif
