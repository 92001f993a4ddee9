/* Differences between CPython 3.11 and 3.15, one inline function each.

   The newest name of the C API is used throughout the code; where the running
   version is older, this file supplies it under an fl_ name. */
#ifndef FL_BASE_COMPAT_H
#define FL_BASE_COMPAT_H

#include "base/common.h"

#define FL_PY312 (PY_VERSION_HEX >= 0x030c0000)
#define FL_PY313 (PY_VERSION_HEX >= 0x030d0000)
#define FL_PY314 (PY_VERSION_HEX >= 0x030e0000)
#define FL_PY315 (PY_VERSION_HEX >= 0x030f0000)

#if !FL_PY312
#  include <structmember.h>
#  define Py_T_PYSSIZET T_PYSSIZET
#  define Py_READONLY   READONLY
#endif

/* Take the raised exception, normalised and with its traceback: NULL if none. */
#if FL_PY312
static inline PyObject *
fl_err_take(void)
{
    return PyErr_GetRaisedException();
}
#else
PyObject *fl_err_take(void); /* errors.c */
#endif

/* Raise exc (NULL: clear).  Steals exc. */
#if FL_PY312
static inline void
fl_err_give(FL_STEALS(1) PyObject *exc)
{
    PyErr_SetRaisedException(exc);
}
#else
void fl_err_give(FL_STEALS(1) PyObject *exc); /* errors.c */
#endif

/* Like getattr(o, name, None) that tells absence apart: 1 found (*res is a new
   reference), 0 absent (*res is NULL), -1 error. */
static inline int
fl_getattr_optional(PyObject *o, PyObject *name, PyObject **res)
{
#if FL_PY313
    return PyObject_GetOptionalAttr(o, name, res);
#else
    *res = PyObject_GetAttr(o, name);
    if (*res != NULL) {
        return 1;
    }
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
#endif
}

/* The target of a weak reference: 1 (*target is a new reference), 0 it is gone (NULL),
   -1 error. */
static inline int
fl_weakref_get(PyObject *ref, PyObject **target)
{
#if FL_PY313
    return PyWeakref_GetRef(ref, target);
#else
    PyObject *found = PyWeakref_GetObject(ref); /* borrowed */
    *target = found == NULL || found == Py_None ? NULL : Py_NewRef(found);
    return found == NULL ? -1 : *target != NULL;
#endif
}

/* Is an exact int that is not huge zero or less? */
static inline bool
fl_int_is_not_positive(PyObject *number)
{
    FL_ASSERT(PyLong_CheckExact(number));
#if FL_PY312
    PyLongObject *value = (PyLongObject *)number;
    return PyUnstable_Long_IsCompact(value)
           && PyUnstable_Long_CompactValue(value) <= 0;
#else
    return Py_SIZE(number) <= 0;
#endif
}

/* Around what a tp_dealloc does after untracking: long chains of objects that own
   one another are freed without deep recursion.  From 3.14 the interpreter sees to
   that by itself. */
#if FL_PY314
#  define FL_TRASHCAN_BEGIN(self, dealloc)
#  define FL_TRASHCAN_END
#else
#  define FL_TRASHCAN_BEGIN(self, dealloc)                                    \
      Py_TRASHCAN_BEGIN((PyObject *)(self), (destructor)(dealloc))
#  define FL_TRASHCAN_END Py_TRASHCAN_END
#endif

/* The name of a type without its module. */
static inline const char *
fl_type_name(const PyTypeObject *type)
{
    const char *dot = strrchr(type->tp_name, '.');
    return dot == NULL ? type->tp_name : dot + 1;
}

#if FL_PY313
#  define fl_interpreter_finalizing Py_IsFinalizing
#else
#  define fl_interpreter_finalizing _Py_IsFinalizing
#endif

#endif
