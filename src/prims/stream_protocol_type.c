/* StreamReaderProtocol as Python sees it. */
#include "base/args.h"
#include "core/debug.h"
#include "core/stream.h"
#include "prims/bound_type.h"
#include "prims/common.h"
#include "prims/stream_protocol.h"
#include "prims/stream_stock.h"
#include "prims/stream_type.h"

/* --- life ------------------------------------------------------------------ */

static PyObject *
protocol_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
             PyObject *Py_UNUSED(kwargs))
{
    FLStreamProtocol *self =
        (FLStreamProtocol *)fl_bound_new(type, FL_STREAM_PROTOCOL);
    if (self != NULL) {
        fl_waiters_init(&self->drains);
    }
    return (PyObject *)self;
}

static void
forget(FLStreamProtocol *self)
{
    fl_waiters_reset(&self->drains);
    Py_CLEAR(self->reader_wr);
    Py_CLEAR(self->strong_reader);
    Py_CLEAR(self->connected);
    Py_CLEAR(self->transport);
    Py_CLEAR(self->closed);
    Py_CLEAR(self->task);
    Py_CLEAR(self->writer);
    Py_CLEAR(self->source_tb);
}

/* Remember the reader, weakly, and where it was made. */
static int
take_reader(FLStreamProtocol *self, PyObject *reader)
{
    if (reader == Py_None) {
        return 0;
    }
    Py_XSETREF(self->reader_wr, PyWeakref_NewRef(reader, NULL));
    if (self->reader_wr == NULL) {
        return -1;
    }
    PyObject *tb =
        PyObject_GetAttr(reader, self->base.st->str._source_traceback);
    if (tb == NULL) {
        return -1;
    }
    Py_XSETREF(self->source_tb, tb == Py_None ? NULL : Py_NewRef(tb));
    Py_DECREF(tb);
    return 0;
}

static const struct fl_signature init_signature = {
    "StreamReaderProtocol.__init__",
    1,
    3,
    0,
    3,
    {FL_NAME(stream_reader), FL_NAME(client_connected_cb), FL_NAME(loop)}};

static int
protocol_init(FLStreamProtocol *self, PyObject *args, PyObject *kwargs)
{
    PyObject *values[3];
    if (fl_args_parse_tuple(self->base.st, &init_signature, args, kwargs,
                            values)
            < 0
        || fl_stream_take_loop(&self->base, values[2]) < 0) {
        return -1;
    }
    forget(self);
    self->paused = self->lost = self->over_ssl = self->reject = false;
    if (take_reader(self, values[0]) < 0) {
        return -1;
    }
    if (values[1] != NULL && values[1] != Py_None) {
        Py_XSETREF(self->connected, Py_NewRef(values[1]));
        Py_XSETREF(self->strong_reader,
                   values[0] == Py_None ? NULL : Py_NewRef(values[0]));
    }
    PyObject *loop = Py_NewRef(self->base.loop);
    PyObject *closed = fl_loop_create_future(self->base.st, loop);
    Py_DECREF(loop);
    Py_XSETREF(self->closed, closed);
    return closed == NULL ? -1 : 0;
}

static int
protocol_traverse(FLStreamProtocol *self, visitproc visit, void *arg)
{
    FL_VISIT_WAITERS(&self->drains);
    Py_VISIT(self->reader_wr);
    Py_VISIT(self->strong_reader);
    Py_VISIT(self->connected);
    Py_VISIT(self->transport);
    Py_VISIT(self->closed);
    Py_VISIT(self->task);
    Py_VISIT(self->writer);
    Py_VISIT(self->source_tb);
    return fl_bound_traverse(&self->base, visit, arg);
}

static int
protocol_clear(FLStreamProtocol *self)
{
    forget(self);
    fl_bound_clear(&self->base);
    return 0;
}

static void
protocol_dealloc(FLStreamProtocol *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (PyObject_CallFinalizerFromDealloc((PyObject *)self) < 0) {
        return;
    }
    PyObject_GC_UnTrack(self);
    FL_TRASHCAN_BEGIN(self, protocol_dealloc)
    if (self->base.weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    protocol_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    FL_TRASHCAN_END
}

/* --- methods ------------------------------------------------------------------ */

static inline PyObject *
none_if(int status)
{
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(
    protocol_doc,
    "StreamReaderProtocol(stream_reader, client_connected_cb=None, loop=None)"
    "\n--\n\n"
    "The protocol that feeds a StreamReader, which it does not keep alive.\n\n"
    "client_connected_cb, a function or coroutine function, is called with a\n"
    "reader and a writer when the connection is made.  See\n"
    "asyncio.StreamReaderProtocol.");

PyDoc_STRVAR(connection_made_doc, "connection_made($self, /, transport)\n--"
                                  "\n\nThe connection is made.");

static const struct fl_signature made_signature = {
    "connection_made", 1, 1, 0, 1, {FL_NAME(transport)}};

static PyObject *
protocol_connection_made(FLStreamProtocol *self, PyObject *const *args,
                         Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *transport = fl_stream_only_argument(&self->base, &made_signature,
                                                  args, nargs, kwnames);
    return transport == NULL
               ? NULL
               : none_if(fl_protocol_connection_made(self, transport));
}

PyDoc_STRVAR(connection_lost_doc,
             "connection_lost($self, /, exc)\n--\n\n"
             "The connection is lost, with an exception or None.");

static const struct fl_signature lost_signature = {
    "connection_lost", 1, 1, 0, 1, {FL_NAME(exc)}};

static PyObject *
protocol_connection_lost(FLStreamProtocol *self, PyObject *const *args,
                         Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *exc = fl_stream_only_argument(&self->base, &lost_signature, args,
                                            nargs, kwnames);
    return exc == NULL ? NULL
                       : none_if(fl_protocol_connection_lost(self, exc));
}

PyDoc_STRVAR(data_received_doc, "data_received($self, /, data)\n--\n\n"
                                "Give data to the reader.");

static const struct fl_signature data_signature = {"data_received", 1, 1, 0, 1,
                                                   {FL_NAME(data)}};

/* HOT */
static PyObject *
protocol_data_received(FLStreamProtocol *self, PyObject *const *args,
                       Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *data = fl_stream_only_argument(&self->base, &data_signature,
                                             args, nargs, kwnames);
    return data == NULL ? NULL
                        : none_if(fl_protocol_data_received(self, data));
}

PyDoc_STRVAR(eof_received_doc,
             "eof_received($self, /)\n--\n\n"
             "Tell the reader that no more data comes; return True to keep\n"
             "the transport open.");

static PyObject *
protocol_eof_received(FLStreamProtocol *self, PyObject *Py_UNUSED(ignored))
{
    return fl_protocol_eof_received(self) < 0
               ? NULL
               : PyBool_FromLong(!self->over_ssl);
}

static int
log_debug(FLStreamProtocol *self, const char *what)
{
    int debug = self->base.loop == NULL ? 0 : fl_stream_debug(&self->base);
    if (FL_LIKELY(debug <= 0)) {
        return debug;
    }
    PyObject *done = PyObject_CallFunction(self->base.st->sup.stream_debug,
                                           "Os", self, what);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

PyDoc_STRVAR(pause_writing_doc, "pause_writing($self, /)\n--\n\n"
                                "Let drain() wait.");

static PyObject *
protocol_pause_writing(FLStreamProtocol *self, PyObject *Py_UNUSED(ignored))
{
    if (self->paused) {
        PyErr_SetNone(PyExc_AssertionError);
        return NULL;
    }
    self->paused = true;
    return none_if(log_debug(self, "pauses"));
}

PyDoc_STRVAR(resume_writing_doc, "resume_writing($self, /)\n--\n\n"
                                 "Wake who waits in drain().");

static PyObject *
protocol_resume_writing(FLStreamProtocol *self, PyObject *Py_UNUSED(ignored))
{
    if (!self->paused) {
        PyErr_SetNone(PyExc_AssertionError);
        return NULL;
    }
    self->paused = false;
    if (log_debug(self, "resumes") < 0) {
        return NULL;
    }
    return none_if(fl_protocol_resume_writing(self));
}

PyDoc_STRVAR(drain_helper_doc, "_drain_helper($self, /)\n--\n\n"
                               "Wait until writing is not paused.");

static PyObject *
protocol_drain_helper(FLStreamProtocol *self, PyObject *Py_UNUSED(ignored))
{
    return fl_protocol_drain_helper(self);
}

PyDoc_STRVAR(get_close_waiter_doc,
             "_get_close_waiter($self, stream, /)\n--\n\n"
             "Return a future that is done when the connection is lost.");

static PyObject *
protocol_get_close_waiter(FLStreamProtocol *self, PyObject *Py_UNUSED(stream))
{
    return Py_NewRef(self->closed == NULL ? Py_None : self->closed);
}

PyDoc_STRVAR(replace_transport_doc,
             "_replace_transport($self, transport, /)\n--\n\n"
             "Go on with another transport, as start_tls() does.");

static PyObject *
protocol_replace_transport(FLStreamProtocol *self, PyObject *transport)
{
    return none_if(fl_protocol_replace_transport(self, transport));
}

PyDoc_STRVAR(replace_writer_doc,
             "_replace_writer($self, writer, /)\n--\n\n"
             "Go on with the transport of another writer.");

static PyObject *
protocol_replace_writer(FLStreamProtocol *self, PyObject *writer)
{
    PyObject *transport =
        PyObject_GetAttr(writer, self->base.st->str.transport);
    if (transport == NULL) {
        return NULL;
    }
    int status = fl_protocol_replace_transport(self, transport);
    Py_DECREF(transport);
    Py_XSETREF(self->writer, Py_NewRef(writer));
    return none_if(status);
}

/* --- attributes that libraries read and set ----------------------------------------- */

static PyObject *
get_class(FLStreamProtocol *self, void *Py_UNUSED(closure))
{
    fl_state *st = self->base.st;
    return fl_stream_class((PyObject *)self, st->StreamProtocolType,
                           st->imp.asyncio_StreamReaderProtocol);
}

static PyObject *
get_reader(FLStreamProtocol *self, void *Py_UNUSED(closure))
{
    PyObject *ref = self->reader_wr;
    return ref == NULL ? Py_NewRef(Py_None) : PyObject_CallNoArgs(ref);
}

static PyObject *
get_drain_waiters(FLStreamProtocol *self, void *Py_UNUSED(closure))
{
    return fl_waiters_show(self->base.st, &self->drains);
}

static int
set_drain_waiters(FLStreamProtocol *self, PyObject *value,
                  void *Py_UNUSED(closure))
{
    if (fl_stream_refuse_deletion(value) < 0) {
        return -1;
    }
    fl_waiters_replace(&self->drains, value);
    return 0;
}

static PyObject *
get_flag(FLStreamProtocol *self, void *offset)
{
    return PyBool_FromLong(*(bool *)(void *)((char *)self + (size_t)offset));
}

static int
set_flag(FLStreamProtocol *self, PyObject *value, void *offset)
{
    int truth = fl_stream_truth(value);
    if (truth < 0) {
        return -1;
    }
    *(bool *)(void *)((char *)self + (size_t)offset) = truth > 0;
    return 0;
}

#define FIELD(name, field)                                                    \
    {name, fl_stream_get_field, fl_stream_set_field, NULL,                    \
     (void *)offsetof(FLStreamProtocol, field)}
#define FLAG(name, field)                                                     \
    {name, (getter)get_flag, (setter)set_flag, NULL,                          \
     (void *)offsetof(FLStreamProtocol, field)}

static PyGetSetDef protocol_getset[] = {
    {"__class__", (getter)get_class, NULL, NULL, NULL},
    {"_stream_reader", (getter)get_reader, NULL, NULL, NULL},
    {"_drain_waiters", (getter)get_drain_waiters, (setter)set_drain_waiters,
     NULL, NULL},
    FIELD("_stream_reader_wr", reader_wr),
    FIELD("_strong_reader", strong_reader),
    FIELD("_client_connected_cb", connected),
    FIELD("_transport", transport),
    FIELD("_closed", closed),
    FIELD("_task", task),
    FIELD("_stream_writer", writer),
    FIELD("_source_traceback", source_tb),
    FLAG("_paused", paused),
    FLAG("_connection_lost", lost),
    FLAG("_over_ssl", over_ssl),
    FLAG("_reject_connection", reject),
    FL_BOUND_GETSET,
    {NULL, NULL, NULL, NULL, NULL},
};

#define FAST (METH_FASTCALL | METH_KEYWORDS)

static PyMethodDef protocol_methods[] = {
    {"connection_made", FL_METHOD(protocol_connection_made), FAST,
     connection_made_doc},
    {"connection_lost", FL_METHOD(protocol_connection_lost), FAST,
     connection_lost_doc},
    {"data_received", FL_METHOD(protocol_data_received), FAST,
     data_received_doc},
    {"eof_received", (PyCFunction)protocol_eof_received, METH_NOARGS,
     eof_received_doc},
    {"pause_writing", (PyCFunction)protocol_pause_writing, METH_NOARGS,
     pause_writing_doc},
    {"resume_writing", (PyCFunction)protocol_resume_writing, METH_NOARGS,
     resume_writing_doc},
    {"_drain_helper", (PyCFunction)protocol_drain_helper, METH_NOARGS,
     drain_helper_doc},
    {"_get_close_waiter", (PyCFunction)protocol_get_close_waiter, METH_O,
     get_close_waiter_doc},
    {"_replace_transport", (PyCFunction)protocol_replace_transport, METH_O,
     replace_transport_doc},
    {"_replace_writer", (PyCFunction)protocol_replace_writer, METH_O,
     replace_writer_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef protocol_members[] = {
    FL_BOUND_MEMBERS,
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot protocol_slots[] = {
    {Py_tp_doc, (void *)protocol_doc},
    {Py_tp_new, protocol_new},
    {Py_tp_init, protocol_init},
    {Py_tp_dealloc, protocol_dealloc},
    {Py_tp_finalize, fl_protocol_finalize},
    {Py_tp_traverse, protocol_traverse},
    {Py_tp_clear, protocol_clear},
    {Py_tp_setattro, fl_bound_setattro},
    {Py_tp_methods, protocol_methods},
    {Py_tp_members, protocol_members},
    {Py_tp_getset, protocol_getset},
    {0, NULL},
};

static PyType_Spec protocol_spec = {
    .name = "fastloop.StreamReaderProtocol",
    .basicsize = sizeof(FLStreamProtocol),
    .flags = FL_BOUND_FLAGS,
    .slots = protocol_slots,
};

/* The type is a real subclass of asyncio.Protocol, a Python class without fields. */
int
fl_stream_protocol_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    PyTypeObject *base = (PyTypeObject *)st->imp.asyncio_Protocol;
    if (base->tp_basicsize != (Py_ssize_t)sizeof(PyObject)) {
        PyErr_SetString(PyExc_ImportError,
                        "asyncio.Protocol has fields that this build of "
                        "fastloop leaves no room for");
        return -1;
    }
    if (fl_bound_add_type(module, &st->StreamProtocolType, &protocol_spec,
                          (PyObject *)base)
        < 0) {
        return -1;
    }
    fl_stream_offer_protocol(st, st->StreamProtocolType, fl_protocol_feed,
                             NULL);
    fl_stream_offer_protocol(
        st, (PyTypeObject *)st->imp.asyncio_StreamReaderProtocol,
        fl_stock_feed, fl_stock_fill);
    return 0;
}
