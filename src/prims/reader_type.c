/* StreamReader as Python sees it. */
#include "base/args.h"
#include "core/debug.h"
#include "prims/bound_type.h"
#include "prims/reader.h"
#include "prims/stream_type.h"

/* --- life ------------------------------------------------------------------ */

static PyObject *
reader_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
           PyObject *Py_UNUSED(kwargs))
{
    FLReader *self = (FLReader *)fl_bound_new(type, FL_STREAM_READER);
    if (self != NULL) {
        fl_stream_buffer_init(&self->buffer);
        self->limit = FL_STREAM_LIMIT;
        self->double_limit = 2 * FL_STREAM_LIMIT;
    }
    return (PyObject *)self;
}

static int
take_limit(FLReader *self, PyObject *limit)
{
    PyObject *zero = PyLong_FromLong(0);
    int low = zero == NULL ? -1 : PyObject_RichCompareBool(limit, zero, Py_LE);
    Py_XDECREF(zero);
    if (low > 0) {
        PyErr_SetString(PyExc_ValueError, "Limit cannot be <= 0");
    }
    return low != 0 ? -1 : fl_reader_set_limit(self, limit);
}

static void
forget(FLReader *self)
{
    fl_stream_buffer_reset(&self->buffer);
    self->eof = false;
    self->paused = false;
    Py_CLEAR(self->waiter);
    Py_CLEAR(self->exception);
    Py_CLEAR(self->transport);
    Py_CLEAR(self->source_tb);
}

static const struct fl_signature init_signature = {
    "StreamReader.__init__", 0, 2, 0, 2, {FL_NAME(limit), FL_NAME(loop)}};

static int
reader_init(FLReader *self, PyObject *args, PyObject *kwargs)
{
    PyObject *values[2];
    if (fl_args_parse_tuple(self->base.st, &init_signature, args, kwargs,
                            values)
            < 0
        || (values[0] != NULL && take_limit(self, values[0]) < 0)
        || fl_stream_take_loop(&self->base, values[1]) < 0) {
        return -1;
    }
    forget(self);
    int debug = fl_stream_debug(&self->base);
    if (FL_UNLIKELY(debug > 0)) {
        Py_XSETREF(self->source_tb, fl_debug_stack(self->base.st));
        debug = self->source_tb == NULL ? -1 : 0;
    }
    return debug;
}

static int
reader_traverse(FLReader *self, visitproc visit, void *arg)
{
    Py_VISIT(self->buffer.shown);
    Py_VISIT(self->given_limit);
    Py_VISIT(self->waiter);
    Py_VISIT(self->exception);
    Py_VISIT(self->transport);
    Py_VISIT(self->source_tb);
    return fl_bound_traverse(&self->base, visit, arg);
}

static int
reader_clear(FLReader *self)
{
    forget(self);
    Py_CLEAR(self->given_limit);
    fl_bound_clear(&self->base);
    return 0;
}

static void
reader_dealloc(FLReader *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    FL_TRASHCAN_BEGIN(self, reader_dealloc)
    if (self->base.weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    reader_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    FL_TRASHCAN_END
}

/* --- reading --------------------------------------------------------------------- */

PyDoc_STRVAR(
    reader_doc,
    "StreamReader(limit=65536, loop=None)\n--\n\n"
    "What a stream receives.  A protocol feeds it, a task reads from it.\n\n"
    "limit is the length in bytes that readline() and readuntil() accept,\n"
    "and half of what is received before the transport is paused; ValueError\n"
    "unless it is positive.  Works on any event loop; not thread-safe.  See\n"
    "asyncio.StreamReader.");

PyDoc_STRVAR(
    read_doc,
    "read($self, /, n=-1)\n--\n\n"
    "Read up to n bytes, as soon as there are any; b\"\" at the end.\n\n"
    "With a negative n read until the end and give everything.");

static const struct fl_signature read_signature = {"read", 0, 1,
                                                   0,      1, {FL_NAME(n)}};

/* HOT */
static PyObject *
reader_read(FLReader *self, PyObject *const *args, Py_ssize_t nargs,
            PyObject *kwnames)
{
    PyObject *n = nargs == 1 ? args[0] : NULL;
    if (FL_UNLIKELY(nargs > 1 || kwnames != NULL)
        && fl_args_parse(self->base.st, &read_signature, args, nargs, kwnames,
                         &n)
               < 0) {
        return NULL;
    }
    return fl_reader_read(self, n);
}

PyDoc_STRVAR(
    readexactly_doc,
    "readexactly($self, /, n)\n--\n\n"
    "Read exactly n bytes.\n\n"
    "Raises IncompleteReadError with what there was if the end comes\n"
    "before, ValueError if n is negative.");

static const struct fl_signature readexactly_signature = {
    "readexactly", 1, 1, 0, 1, {FL_NAME(n)}};

static PyObject *
reader_readexactly(FLReader *self, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    PyObject *n = fl_stream_only_argument(&self->base, &readexactly_signature,
                                          args, nargs, kwnames);
    return n == NULL ? NULL : fl_reader_readexactly(self, n);
}

PyDoc_STRVAR(
    readuntil_doc,
    "readuntil($self, /, separator=b'\\n')\n--\n\n"
    "Read up to and with a separator: bytes, or a tuple of them, of which\n"
    "the one counts that ends first.\n\n"
    "Raises IncompleteReadError with what there was if the end comes before,\n"
    "LimitOverrunError if there are more than limit bytes before it; the\n"
    "data stays then.  ValueError if a separator is empty.");

static const struct fl_signature readuntil_signature = {
    "readuntil", 0, 1, 0, 1, {FL_NAME(separator)}};

static PyObject *
reader_readuntil(FLReader *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    PyObject *separator;
    if (fl_args_parse(self->base.st, &readuntil_signature, args, nargs,
                      kwnames, &separator)
        < 0) {
        return NULL;
    }
    if (separator != NULL) {
        return fl_reader_readuntil(self, separator);
    }
    separator = PyBytes_FromStringAndSize("\n", 1);
    if (separator == NULL) {
        return NULL;
    }
    PyObject *coro = fl_reader_readuntil(self, separator);
    Py_DECREF(separator);
    return coro;
}

PyDoc_STRVAR(
    readline_doc,
    "readline($self, /)\n--\n\n"
    "Read a line with its b\"\\n\"; without it at the end, where b\"\" comes\n"
    "when there is nothing more.\n\n"
    "Raises ValueError if the line is longer than limit, and drops it.");

static PyObject *
reader_readline(FLReader *self, PyObject *Py_UNUSED(ignored))
{
    return fl_reader_readline(self);
}

PyDoc_STRVAR(wait_for_data_doc,
             "_wait_for_data($self, /, func_name)\n--\n\n"
             "Wait until data or the end comes, for the method of that name.");

static const struct fl_signature wait_signature = {
    "_wait_for_data", 1, 1, 0, 1, {FL_NAME(func_name)}};

static PyObject *
reader_wait_for_data(FLReader *self, PyObject *const *args, Py_ssize_t nargs,
                     PyObject *kwnames)
{
    PyObject *name = fl_stream_only_argument(&self->base, &wait_signature,
                                             args, nargs, kwnames);
    if (name == NULL) {
        return NULL;
    }
    if (!PyUnicode_Check(name)) {
        PyErr_SetString(PyExc_TypeError, "func_name must be a str");
        return NULL;
    }
    return fl_reader_wait_for_data(self, name);
}

static PyObject *
reader_aiter(PyObject *self)
{
    return Py_NewRef(self);
}

/* --- feeding --------------------------------------------------------------------- */

static inline PyObject *
none_if(int status)
{
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(feed_data_doc,
             "feed_data($self, /, data)\n--\n\n"
             "Add data (bytes-like) that was received, and wake who waits.");

static const struct fl_signature feed_data_signature = {
    "feed_data", 1, 1, 0, 1, {FL_NAME(data)}};

static PyObject *
reader_feed_data(FLReader *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    PyObject *data = fl_stream_only_argument(&self->base, &feed_data_signature,
                                             args, nargs, kwnames);
    return data == NULL ? NULL : none_if(fl_reader_feed_data(self, data));
}

PyDoc_STRVAR(feed_eof_doc, "feed_eof($self, /)\n--\n\n"
                           "Tell that no more data comes.");

static PyObject *
reader_feed_eof(FLReader *self, PyObject *Py_UNUSED(ignored))
{
    return none_if(fl_reader_feed_eof(self));
}

PyDoc_STRVAR(at_eof_doc,
             "at_eof($self, /)\n--\n\n"
             "Return True if everything was read and no more data comes.");

static PyObject *
reader_at_eof(FLReader *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(self->eof
                           && fl_stream_buffer_size(&self->buffer) == 0);
}

PyDoc_STRVAR(exception_doc, "exception($self, /)\n--\n\n"
                            "Return what set_exception() has set, or None.");

static PyObject *
reader_exception(FLReader *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(self->exception == NULL ? Py_None : self->exception);
}

PyDoc_STRVAR(set_exception_doc,
             "set_exception($self, /, exc)\n--\n\n"
             "Let every read, and the one that waits, raise exc.");

static const struct fl_signature set_exception_signature = {
    "set_exception", 1, 1, 0, 1, {FL_NAME(exc)}};

static PyObject *
reader_set_exception(FLReader *self, PyObject *const *args, Py_ssize_t nargs,
                     PyObject *kwnames)
{
    PyObject *exc = fl_stream_only_argument(
        &self->base, &set_exception_signature, args, nargs, kwnames);
    return exc == NULL ? NULL : none_if(fl_reader_set_exception(self, exc));
}

PyDoc_STRVAR(set_transport_doc,
             "set_transport($self, /, transport)\n--\n\n"
             "Set the transport, to be paused when too much has come.");

static const struct fl_signature set_transport_signature = {
    "set_transport", 1, 1, 0, 1, {FL_NAME(transport)}};

static PyObject *
reader_set_transport(FLReader *self, PyObject *const *args, Py_ssize_t nargs,
                     PyObject *kwnames)
{
    PyObject *transport = fl_stream_only_argument(
        &self->base, &set_transport_signature, args, nargs, kwnames);
    return transport == NULL
               ? NULL
               : none_if(fl_reader_set_transport(self, transport));
}

PyDoc_STRVAR(replace_transport_doc,
             "_replace_transport($self, transport, /)\n--\n\n"
             "Set another transport, as start_tls() does.");

static PyObject *
reader_replace_transport(FLReader *self, PyObject *transport)
{
    if (self->transport == NULL) {
        PyErr_SetString(PyExc_AssertionError, "Transport not set");
        return NULL;
    }
    Py_SETREF(self->transport, Py_NewRef(transport));
    Py_RETURN_NONE;
}

PyDoc_STRVAR(wakeup_doc, "_wakeup_waiter($self, /)\n--\n\n"
                         "Wake who waits for data.");

static PyObject *
reader_wakeup_waiter(FLReader *self, PyObject *Py_UNUSED(ignored))
{
    return none_if(fl_reader_wakeup(self));
}

PyDoc_STRVAR(maybe_resume_doc,
             "_maybe_resume_transport($self, /)\n--\n\n"
             "Let the transport read on if enough was read.");

static PyObject *
reader_maybe_resume(FLReader *self, PyObject *Py_UNUSED(ignored))
{
    return none_if(fl_reader_maybe_resume(self));
}

static PyObject *
reader_repr(FLReader *self)
{
    Py_ssize_t size = fl_stream_buffer_size(&self->buffer);
    return PyObject_CallFunction(self->base.st->sup.stream_reader_repr, "On",
                                 self, size);
}

/* --- attributes that libraries read and set ----------------------------------------- */

static PyObject *
get_class(FLReader *self, void *Py_UNUSED(closure))
{
    fl_state *st = self->base.st;
    return fl_stream_class((PyObject *)self, st->StreamReaderType,
                           st->imp.asyncio_StreamReader);
}

static PyObject *
get_buffer(FLReader *self, void *Py_UNUSED(closure))
{
    return fl_stream_buffer_show(&self->buffer);
}

static int
set_buffer(FLReader *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (value == NULL || !PyByteArray_Check(value)) {
        PyErr_SetString(PyExc_TypeError, "_buffer must be a bytearray");
        return -1;
    }
    fl_stream_buffer_replace(&self->buffer, value);
    return 0;
}

static PyObject *
get_limit(FLReader *self, void *Py_UNUSED(closure))
{
    return self->given_limit == NULL ? PyLong_FromSsize_t(self->limit)
                                     : Py_NewRef(self->given_limit);
}

static int
set_limit(FLReader *self, PyObject *value, void *Py_UNUSED(closure))
{
    return fl_stream_refuse_deletion(value) < 0
               ? -1
               : fl_reader_set_limit(self, value);
}

static PyObject *
get_eof(FLReader *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->eof);
}

static int
set_eof(FLReader *self, PyObject *value, void *Py_UNUSED(closure))
{
    int truth = fl_stream_truth(value);
    self->eof = truth < 0 ? self->eof : truth > 0;
    return truth < 0 ? -1 : 0;
}

static PyObject *
get_paused(FLReader *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->paused);
}

static int
set_paused(FLReader *self, PyObject *value, void *Py_UNUSED(closure))
{
    int truth = fl_stream_truth(value);
    self->paused = truth < 0 ? self->paused : truth > 0;
    return truth < 0 ? -1 : 0;
}

#define FIELD(name, field)                                                    \
    {name, fl_stream_get_field, fl_stream_set_field, NULL,                    \
     (void *)offsetof(FLReader, field)}

static PyGetSetDef reader_getset[] = {
    {"__class__", (getter)get_class, NULL, NULL, NULL},
    {"_buffer", (getter)get_buffer, (setter)set_buffer, NULL, NULL},
    {"_limit", (getter)get_limit, (setter)set_limit, NULL, NULL},
    {"_eof", (getter)get_eof, (setter)set_eof, NULL, NULL},
    {"_paused", (getter)get_paused, (setter)set_paused, NULL, NULL},
    FIELD("_waiter", waiter),
    FIELD("_exception", exception),
    FIELD("_transport", transport),
    FIELD("_source_traceback", source_tb),
    FL_BOUND_GETSET,
    {NULL, NULL, NULL, NULL, NULL},
};

#define FAST (METH_FASTCALL | METH_KEYWORDS)

static PyMethodDef reader_methods[] = {
    {"read", FL_METHOD(reader_read), FAST, read_doc},
    {"readexactly", FL_METHOD(reader_readexactly), FAST, readexactly_doc},
    {"readuntil", FL_METHOD(reader_readuntil), FAST, readuntil_doc},
    {"readline", (PyCFunction)reader_readline, METH_NOARGS, readline_doc},
    {"at_eof", (PyCFunction)reader_at_eof, METH_NOARGS, at_eof_doc},
    {"feed_data", FL_METHOD(reader_feed_data), FAST, feed_data_doc},
    {"feed_eof", (PyCFunction)reader_feed_eof, METH_NOARGS, feed_eof_doc},
    {"exception", (PyCFunction)reader_exception, METH_NOARGS, exception_doc},
    {"set_exception", FL_METHOD(reader_set_exception), FAST,
     set_exception_doc},
    {"set_transport", FL_METHOD(reader_set_transport), FAST,
     set_transport_doc},
    {"_replace_transport", (PyCFunction)reader_replace_transport, METH_O,
     replace_transport_doc},
    {"_wait_for_data", FL_METHOD(reader_wait_for_data), FAST,
     wait_for_data_doc},
    {"_wakeup_waiter", (PyCFunction)reader_wakeup_waiter, METH_NOARGS,
     wakeup_doc},
    {"_maybe_resume_transport", (PyCFunction)reader_maybe_resume, METH_NOARGS,
     maybe_resume_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef reader_members[] = {
    FL_BOUND_MEMBERS,
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot reader_slots[] = {
    {Py_tp_doc, (void *)reader_doc},     {Py_tp_new, reader_new},
    {Py_tp_init, reader_init},           {Py_tp_dealloc, reader_dealloc},
    {Py_tp_traverse, reader_traverse},   {Py_tp_clear, reader_clear},
    {Py_tp_setattro, fl_bound_setattro}, {Py_tp_repr, reader_repr},
    {Py_am_aiter, reader_aiter},         {Py_am_anext, fl_reader_next},
    {Py_tp_methods, reader_methods},     {Py_tp_members, reader_members},
    {Py_tp_getset, reader_getset},       {0, NULL},
};

static PyType_Spec reader_spec = {
    .name = "fastloop.StreamReader",
    .basicsize = sizeof(FLReader),
    .flags = FL_BOUND_FLAGS,
    .slots = reader_slots,
};

int
fl_reader_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    return fl_bound_add_type(module, &st->StreamReaderType, &reader_spec,
                             NULL);
}
