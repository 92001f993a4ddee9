/* What the types of streams have in common. */
#ifndef FL_PRIMS_STREAM_TYPE_H
#define FL_PRIMS_STREAM_TYPE_H

#include "base/args.h"
#include "prims/bound.h"
#include "prims/common.h"

/* Bind to loop (NULL or None: the current one).  0 or -1. */
int fl_stream_take_loop(FLBound *self, PyObject *loop);

/* self._loop.create_future() */
static inline PyObject *
fl_stream_create_future(FLBound *self)
{
    FLLoop *loop = (FLLoop *)self->loop;
    return FL_LIKELY(self->native && loop->plain)
               ? (PyObject *)fl_future_new(loop)
               : fl_loop_create_future(self->st, self->loop);
}

/* raise exc */
FL_COLD void fl_stream_raise(PyObject *exc);

/* self._loop.get_debug(): 1, 0, -1. */
int fl_stream_debug(FLBound *self);

/* What `__class__` answers, so that isinstance() finds asyncio's class, too. */
PyObject *fl_stream_class(PyObject *self, const PyTypeObject *native,
                          PyObject *stock);

/* The only argument of a method, by position or name; NULL with TypeError. */
static inline PyObject *
fl_stream_only_argument(FLBound *self, const struct fl_signature *signature,
                        PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames)
{
    if (FL_LIKELY(nargs == 1 && kwnames == NULL)) {
        return args[0];
    }
    PyObject *value;
    return fl_args_parse(self->st, signature, args, nargs, kwnames, &value) < 0
               ? NULL
               : value;
}

/* Attributes.  -1 with AttributeError if value is NULL: it is being deleted. */
int fl_stream_refuse_deletion(PyObject *value);
int fl_stream_truth(PyObject *value); /* 1, 0, -1 */

/* Of an owned field, NULL for None, that lies at the offset in closure. */
PyObject *fl_stream_get_field(PyObject *self, void *offset);
int fl_stream_set_field(PyObject *self, PyObject *value, void *offset);

#endif
