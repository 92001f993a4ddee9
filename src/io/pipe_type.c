/* fastloop.ReadPipeTransport and WritePipeTransport: what a protocol calls on its
   end of a pipe. */
#include "base/args.h"
#include "base/errors.h"
#include "io/pipe.h"

#define FAST (METH_FASTCALL | METH_KEYWORDS)

/* --- life ------------------------------------------------------------------ */

static int
pipe_traverse(FLPipe *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->dict);
    Py_VISIT(self->loop);
    Py_VISIT(self->pipe);
    Py_VISIT(self->protocol);
    Py_VISIT(self->context);
    Py_VISIT(self->waiter);
    Py_VISIT(self->lost_with);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(self->base_slots); i++) {
        Py_VISIT(self->base_slots[i]);
    }
    return 0; /* the queue holds exact bytes: nothing to visit */
}

static int
pipe_clear(FLPipe *self)
{
    fl_pipe_drop_queue(self);
    Py_CLEAR(self->dict);
    Py_CLEAR(self->pipe);
    Py_CLEAR(self->protocol);
    Py_CLEAR(self->context);
    Py_CLEAR(self->waiter);
    Py_CLEAR(self->lost_with);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(self->base_slots); i++) {
        Py_CLEAR(self->base_slots[i]);
    }
    return 0;
}

static void
pipe_dealloc(FLPipe *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    /* the loop's reference keeps an open one alive */
    FL_ASSERT(self->phase == FL_PIPE_NEW || self->phase == FL_PIPE_CLOSED);
    FL_ASSERT(!self->watches_read && !self->watches_write);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    pipe_clear(self);
    Py_CLEAR(self->loop);
    type->tp_free(self);
    Py_DECREF(type);
}

/* --- both ends ------------------------------------------------------------------- */

PyDoc_STRVAR(is_closing_doc, "is_closing($self, /)\n--\n\n"
                             "Return True if the transport is closing or "
                             "closed.");

static PyObject *
pipe_is_closing(FLPipe *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(self->phase >= FL_PIPE_CLOSING);
}

PyDoc_STRVAR(set_protocol_doc, "set_protocol($self, protocol, /)\n--\n\n"
                               "Let protocol take over.");

static PyObject *
pipe_set_protocol(FLPipe *self, PyObject *protocol)
{
    if (self->phase != FL_PIPE_NEW) {
        Py_XSETREF(self->protocol, Py_NewRef(protocol));
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(get_protocol_doc, "get_protocol($self, /)\n--\n\n"
                               "Return the protocol, None once it was told "
                               "that the pipe is closed.");

static PyObject *
pipe_get_protocol(FLPipe *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(self->protocol == NULL ? Py_None : self->protocol);
}

PyDoc_STRVAR(get_extra_info_doc,
             "get_extra_info($self, /, name, default=None)\n--\n\n"
             "Return the pipe object for \"pipe\", else the default.");

static const struct fl_signature info_signature = {
    "get_extra_info", 1, 2, 0, 2, {FL_NAME(name), FL_NAME(default_)}};

static PyObject *
pipe_get_extra_info(FLPipe *self, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames)
{
    PyObject *values[2];
    if (fl_args_parse(fl_state_of_type(Py_TYPE(self)), &info_signature, args,
                      nargs, kwnames, values)
        < 0) {
        return NULL;
    }
    if (PyUnicode_Check(values[0]) && self->pipe != NULL
        && PyUnicode_CompareWithASCIIString(values[0], "pipe") == 0) {
        return Py_NewRef(self->pipe);
    }
    return Py_NewRef(values[1] == NULL ? Py_None : values[1]);
}

static PyObject *
pipe_repr(FLPipe *self)
{
    fl_state *st = fl_state_of_type(Py_TYPE(self));
    return PyObject_CallOneArg(st->sup.pipe_repr, (PyObject *)self);
}

static PyObject *
get_fileno(FLPipe *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(self->fd);
}

static PyObject *
get_closing(FLPipe *self, void *Py_UNUSED(closure))
{
    return pipe_is_closing(self, NULL);
}

static PyObject *
get_loop(FLPipe *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->loop == NULL ? Py_None : (PyObject *)self->loop);
}

static PyObject *
get_closed(FLPipe *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->phase == FL_PIPE_CLOSED
                           || self->phase == FL_PIPE_NEW);
}

static PyObject *
get_polling(FLPipe *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->for_writing ? self->watches_write
                                             : self->watches_read);
}

#define BOTH_ENDS_METHODS                                                     \
    {"is_closing", (PyCFunction)pipe_is_closing, METH_NOARGS,                 \
     is_closing_doc},                                                         \
        {"set_protocol", (PyCFunction)pipe_set_protocol, METH_O,              \
         set_protocol_doc},                                                   \
        {"get_protocol", (PyCFunction)pipe_get_protocol, METH_NOARGS,         \
         get_protocol_doc},                                                   \
        {"__reduce__", fl_refuse_pickle, METH_NOARGS, NULL},                  \
    {                                                                         \
        "get_extra_info", FL_METHOD(pipe_get_extra_info), FAST,               \
            get_extra_info_doc                                                \
    }

static PyGetSetDef pipe_getset[] = {
    {"_fileno", (getter)get_fileno, NULL, NULL, NULL},
    {"_closing", (getter)get_closing, NULL, NULL, NULL},
    {"_loop", (getter)get_loop, NULL, NULL, NULL},
    {"_closed", (getter)get_closed, NULL, NULL, NULL},
    {"_polling", (getter)get_polling, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef pipe_members[] = {
    {"__dictoffset__", Py_T_PYSSIZET, offsetof(FLPipe, dict), Py_READONLY,
     NULL},
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(FLPipe, weakrefs),
     Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

/* --- the read end ------------------------------------------------------------------ */

PyDoc_STRVAR(read_close_doc,
             "close($self, /)\n--\n\n"
             "Close the pipe; the protocol gets no more data, then\n"
             "connection_lost(None).");

static PyObject *
read_close(FLPipe *self, PyObject *Py_UNUSED(ignored))
{
    fl_pipe_abort(self, NULL);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(is_reading_doc, "is_reading($self, /)\n--\n\n"
                             "Return True if the transport receives data.");

static PyObject *
read_is_reading(FLPipe *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(self->phase == FL_PIPE_OPEN && !self->paused);
}

PyDoc_STRVAR(pause_reading_doc, "pause_reading($self, /)\n--\n\n"
                                "Give the protocol no data until "
                                "resume_reading().");

static PyObject *
read_pause_reading(FLPipe *self, PyObject *Py_UNUSED(ignored))
{
    if (self->phase == FL_PIPE_OPEN && !self->paused) {
        self->paused = true;
        fl_pipe_unwatch(self, FL_READ);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    resume_reading_doc,
    "resume_reading($self, /)\n--\n\n"
    "Undo pause_reading().  Raises OSError for what cannot be waited\n"
    "for.");

static PyObject *
read_resume_reading(FLPipe *self, PyObject *Py_UNUSED(ignored))
{
    if (self->phase == FL_PIPE_OPEN && self->paused) {
        self->paused = false;
        if (fl_pipe_watch(self, FL_READ) < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

static PyMethodDef read_methods[] = {
    {"close", (PyCFunction)read_close, METH_NOARGS, read_close_doc},
    {"is_reading", (PyCFunction)read_is_reading, METH_NOARGS, is_reading_doc},
    {"pause_reading", (PyCFunction)read_pause_reading, METH_NOARGS,
     pause_reading_doc},
    {"resume_reading", (PyCFunction)read_resume_reading, METH_NOARGS,
     resume_reading_doc},
    BOTH_ENDS_METHODS,
    {NULL, NULL, 0, NULL},
};

/* --- the write end ----------------------------------------------------------------- */

PyDoc_STRVAR(
    write_close_doc,
    "close($self, /)\n--\n\n"
    "Close the pipe once what was written has left; then the protocol\n"
    "gets connection_lost(None).");

static PyObject *
write_close(FLPipe *self, PyObject *Py_UNUSED(ignored))
{
    fl_pipe_write_eof(self);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(abort_doc, "abort($self, /)\n--\n\n"
                        "Close the pipe now; what has not left is lost.");

static PyObject *
write_abort(FLPipe *self, PyObject *Py_UNUSED(ignored))
{
    fl_pipe_abort(self, NULL);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    write_doc,
    "write($self, data, /)\n--\n\n"
    "Write data: bytes, bytearray or memoryview.  Never blocks.  On a\n"
    "pipe that is closing or broken the data is dropped.");

/* HOT */
static PyObject *
write_write(FLPipe *self, PyObject *data)
{
    if (FL_UNLIKELY(self->phase == FL_PIPE_NEW)) {
        PyErr_SetString(PyExc_RuntimeError, "transport is not open");
        return NULL;
    }
    /* Beware: a fatal error or the flow control runs code that may drop us. */
    Py_INCREF(self);
    int status = fl_pipe_write(self, data);
    Py_DECREF(self);
    if (FL_UNLIKELY(status < 0)) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(write_eof_doc,
             "write_eof($self, /)\n--\n\n"
             "Close the pipe once what was written has left: the same as "
             "close().");

PyDoc_STRVAR(can_write_eof_doc, "can_write_eof($self, /)\n--\n\nReturn True.");

static PyObject *
write_can_write_eof(FLPipe *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_TRUE;
}

PyDoc_STRVAR(get_write_buffer_size_doc,
             "get_write_buffer_size($self, /)\n--\n\n"
             "Return how many bytes the kernel has not taken yet.");

static PyObject *
write_get_write_buffer_size(FLPipe *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromSize_t(self->queue.bytes);
}

PyDoc_STRVAR(get_write_buffer_limits_doc,
             "get_write_buffer_limits($self, /)\n--\n\n"
             "Return (low, high), the marks of flow control in bytes.");

static PyObject *
write_get_write_buffer_limits(FLPipe *self, PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("(nn)", (Py_ssize_t)self->low_water,
                         (Py_ssize_t)self->high_water);
}

PyDoc_STRVAR(
    set_write_buffer_limits_doc,
    "set_write_buffer_limits($self, /, high=None, low=None)\n--\n\n"
    "Set the marks of flow control, in bytes: above high the protocol gets\n"
    "pause_writing(), and resume_writing() when all is written.  Raises\n"
    "ValueError unless high >= low >= 0.");

static const struct fl_signature limits_signature = {
    "set_write_buffer_limits", 0, 2, 0, 2, {FL_NAME(high), FL_NAME(low)}};

/* An int object, or fallback for none.  -1 with an exception. */
static int
parse_limit(PyObject *value, Py_ssize_t fallback, Py_ssize_t *limit)
{
    *limit = fallback;
    if (value != NULL && value != Py_None) {
        *limit = PyNumber_AsSsize_t(value, PyExc_OverflowError);
    }
    return *limit == -1 && PyErr_Occurred() ? -1 : 0;
}

static PyObject *
write_set_write_buffer_limits(FLPipe *self, PyObject *const *args,
                              Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *values[2];
    Py_ssize_t high, low;
    if (fl_args_parse(fl_state_of_type(Py_TYPE(self)), &limits_signature, args,
                      nargs, kwnames, values)
            < 0
        || parse_limit(values[1], 16 * 1024, &low) < 0
        || parse_limit(values[0], 4 * low, &high) < 0
        || parse_limit(values[1], high / 4, &low) < 0) {
        return NULL;
    }
    if (high < low || low < 0) {
        PyErr_Format(PyExc_ValueError,
                     "high (%zd) must be >= low (%zd) must be >= 0", high,
                     low);
        return NULL;
    }
    if (self->phase != FL_PIPE_NEW) {
        self->high_water = (size_t)high;
        self->low_water = (size_t)low;
        Py_INCREF(self);
        fl_pipe_check_high_water(self);
        Py_DECREF(self);
    }
    Py_RETURN_NONE;
}

static PyMethodDef write_methods[] = {
    {"close", (PyCFunction)write_close, METH_NOARGS, write_close_doc},
    {"abort", (PyCFunction)write_abort, METH_NOARGS, abort_doc},
    {"write", (PyCFunction)write_write, METH_O, write_doc},
    {"write_eof", (PyCFunction)write_close, METH_NOARGS, write_eof_doc},
    {"can_write_eof", (PyCFunction)write_can_write_eof, METH_NOARGS,
     can_write_eof_doc},
    {"get_write_buffer_size", (PyCFunction)write_get_write_buffer_size,
     METH_NOARGS, get_write_buffer_size_doc},
    {"get_write_buffer_limits", (PyCFunction)write_get_write_buffer_limits,
     METH_NOARGS, get_write_buffer_limits_doc},
    {"set_write_buffer_limits", FL_METHOD(write_set_write_buffer_limits), FAST,
     set_write_buffer_limits_doc},
    BOTH_ENDS_METHODS,
    {NULL, NULL, 0, NULL},
};

/* --- types --------------------------------------------------------------------------- */

PyDoc_STRVAR(read_doc,
             "The read end of a pipe, made by Loop.connect_read_pipe().  See\n"
             "asyncio.ReadTransport.");

static PyType_Slot read_slots[] = {
    {Py_tp_doc, (void *)read_doc},
    {Py_tp_dealloc, pipe_dealloc},
    {Py_tp_traverse, pipe_traverse},
    {Py_tp_clear, pipe_clear},
    {Py_tp_repr, pipe_repr},
    {Py_tp_methods, read_methods},
    {Py_tp_members, pipe_members},
    {Py_tp_getset, pipe_getset},
    {0, NULL},
};

static PyType_Spec read_spec = {
    .name = "fastloop.ReadPipeTransport",
    .basicsize = sizeof(FLPipe),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = read_slots,
};

PyDoc_STRVAR(
    write_type_doc,
    "The write end of a pipe, made by Loop.connect_write_pipe().  See\n"
    "asyncio.WriteTransport.");

static PyType_Slot write_slots[] = {
    {Py_tp_doc, (void *)write_type_doc},
    {Py_tp_dealloc, pipe_dealloc},
    {Py_tp_traverse, pipe_traverse},
    {Py_tp_clear, pipe_clear},
    {Py_tp_repr, pipe_repr},
    {Py_tp_methods, write_methods},
    {Py_tp_members, pipe_members},
    {Py_tp_getset, pipe_getset},
    {0, NULL},
};

static PyType_Spec write_spec = {
    .name = "fastloop.WritePipeTransport",
    .basicsize = sizeof(FLPipe),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = write_slots,
};

/* The types are real subclasses of asyncio's, Python classes: their slots come
   first in our struct, where we leave room for them. */
static int
add_type(PyObject *module, PyTypeObject **slot, PyType_Spec *spec,
         PyObject *base)
{
    if (((PyTypeObject *)base)->tp_basicsize
        > (Py_ssize_t)offsetof(FLPipe, dict)) {
        PyErr_SetString(PyExc_ImportError,
                        "asyncio's transports have more slots than this build "
                        "of fastloop leaves room for");
        return -1;
    }
    return fl_state_add_type(module, slot, spec, base);
}

int
fl_pipe_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    return add_type(module, &st->ReadPipeTransportType, &read_spec,
                    st->imp.asyncio_ReadTransport)
                       < 0
                   || add_type(module, &st->WritePipeTransportType,
                               &write_spec, st->imp.asyncio_Transport)
                          < 0
               ? -1
               : 0;
}
