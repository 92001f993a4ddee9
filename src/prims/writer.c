/* StreamWriter: writing goes to the transport, waiting to the protocol.

   A transport of ours is called in C, and a protocol of ours is looked into; anybody
   else's is called by name. */
#include "prims/writer.h"

#include "core/stream.h"
#include "prims/bound_type.h"
#include "prims/common.h"
#include "prims/guard.h"
#include "prims/reader.h"
#include "prims/stream_protocol.h"
#include "prims/stream_type.h"

typedef struct {
    FLBound base;
    PyObject *transport; /* owned; NULL before __init__ or for None */
    PyObject *protocol;  /* owned; the same */
    PyObject *reader;    /* owned; or NULL */
    PyObject *complete;  /* owned; `_complete_fut`, made when asked for */
} FLWriter;

/* Slot of drain()'s coroutine after the owner and the future. */
#define PROTOCOL 2

static inline PyObject *
none_if_null(PyObject *o)
{
    return o == NULL ? Py_None : o;
}

/* --- the transport ---------------------------------------------------------------------- */

/* self._transport.name([argument]) */
static PyObject *
call_transport(FLWriter *self, PyObject *name, PyObject *argument)
{
    PyObject *transport = Py_NewRef(none_if_null(self->transport));
    PyObject *result =
        argument == NULL
            ? PyObject_CallMethodNoArgs(transport, name)
            : PyObject_CallMethodOneArg(transport, name, argument);
    Py_DECREF(transport);
    return result;
}

static inline const struct fl_stream_transport *
native_transport(FLWriter *self)
{
    return FL_LIKELY(self->transport != NULL)
               ? fl_stream_transport_of(self->base.st, self->transport)
               : NULL;
}

static inline int
native_is_closing(FLWriter *self, const struct fl_stream_transport *native)
{
    PyObject *transport = Py_NewRef(self->transport);
    int closing = native->is_closing(transport);
    Py_DECREF(transport);
    return closing;
}

/* 1, 0, -1 */
static int
transport_is_closing(FLWriter *self)
{
    const struct fl_stream_transport *native = native_transport(self);
    if (FL_LIKELY(native != NULL)) {
        return native_is_closing(self, native);
    }
    PyObject *answer =
        call_transport(self, self->base.st->str.is_closing, NULL);
    int closing = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return closing;
}

/* --- drain() -------------------------------------------------------------------------- */

enum { START = 0, YIELDED, PAUSED, ANOTHERS };

/* Is the writer to go on?  0; -1 with the reader's exception. */
static inline int
check_reader(const FLWriter *writer, const fl_state *st)
{
    if (writer->reader == NULL) {
        return 0;
    }
    PyObject *reader = Py_NewRef(writer->reader);
    PyObject *exc = fl_any_reader_exception((fl_state *)st, reader);
    Py_DECREF(reader);
    if (FL_LIKELY(exc == Py_None)) {
        Py_DECREF(exc);
        return 0;
    }
    if (exc == NULL) {
        return -1;
    }
    fl_stream_raise(exc);
    Py_DECREF(exc);
    return -1;
}

/* await self._protocol._drain_helper() */
static inline PySendResult
drain_protocol(FLWriter *writer, FLCoro *self, PyObject **result)
{
    fl_state *st = self->st;
    PyObject *protocol = Py_NewRef(none_if_null(writer->protocol));
    Py_XSETREF(self->slots[PROTOCOL], protocol);
    if (FL_LIKELY(fl_is_stream_protocol(st, protocol)
                  && !(fl_bound_overrides((FLBound *)protocol)
                       & FL_OWN_DRAIN_HELPER))) {
        self->step = PAUSED;
        PySendResult status =
            fl_protocol_drain((FLStreamProtocol *)protocol, self, result);
        return status == PYGEN_RETURN ? fl_coro_return_none(result) : status;
    }
    PyObject *helper =
        PyObject_CallMethodNoArgs(protocol, st->str._drain_helper);
    if (helper == NULL) {
        return PYGEN_ERROR;
    }
    self->step = ANOTHERS;
    PySendResult status = fl_coro_await(self, helper, result);
    Py_DECREF(helper);
    return status;
}

/* HOT */
static PySendResult
drain_run(FLCoro *self, PyObject *value, PyObject **result)
{
    FLWriter *writer = (FLWriter *)self->slots[FL_WAIT_OWNER];
    if (self->step == PAUSED) {
        FLStreamProtocol *protocol = (FLStreamProtocol *)self->slots[PROTOCOL];
        return fl_protocol_drained(protocol, self, value) < 0
                   ? PYGEN_ERROR
                   : fl_coro_return_none(result);
    }
    if (FL_UNLIKELY(value == NULL)) {
        return PYGEN_ERROR;
    }
    if (self->step == ANOTHERS) {
        return fl_coro_return_none(result);
    }
    if (self->step == START) {
        int closing = check_reader(writer, self->st) < 0
                          ? -1
                          : transport_is_closing(writer);
        if (FL_UNLIKELY(closing < 0)) {
            return PYGEN_ERROR;
        }
        if (FL_UNLIKELY(closing > 0)) {
            /* connection_lost() is to be called before we look */
            self->step = YIELDED;
            return fl_coro_yield(result);
        }
    }
    return drain_protocol(writer, self, result);
}

static const struct fl_coro_kind drain_kind = {"drain", "StreamWriter.drain",
                                               drain_run, NULL};

/* --- wait_closed() ------------------------------------------------------------------------ */

static PySendResult
closed_run(FLCoro *self, PyObject *value, PyObject **result)
{
    FLWriter *writer = (FLWriter *)self->slots[FL_WAIT_OWNER];
    if (value == NULL) {
        return PYGEN_ERROR;
    }
    if (self->step != START) {
        return fl_coro_return_none(result);
    }
    self->step = ANOTHERS;
    PyObject *protocol = Py_NewRef(none_if_null(writer->protocol));
    PyObject *waiter = PyObject_CallMethodOneArg(
        protocol, self->st->str._get_close_waiter, (PyObject *)writer);
    Py_DECREF(protocol);
    if (waiter == NULL) {
        return PYGEN_ERROR;
    }
    PySendResult status = fl_coro_await(self, waiter, result);
    Py_DECREF(waiter);
    return status;
}

static const struct fl_coro_kind closed_kind = {
    "wait_closed", "StreamWriter.wait_closed", closed_run, NULL};

/* --- life ------------------------------------------------------------------ */

static PyObject *
writer_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
           PyObject *Py_UNUSED(kwargs))
{
    return (PyObject *)fl_bound_new(type, FL_STREAM_WRITER);
}

static const struct fl_signature init_signature = {
    "StreamWriter.__init__",
    4,
    4,
    0,
    4,
    {FL_NAME(transport), FL_NAME(protocol), FL_NAME(reader), FL_NAME(loop)}};

/* drain() expects that the reader has an exception() */
static int
check_kind_of_reader(const fl_state *st, PyObject *reader)
{
    if (reader == Py_None || fl_is_reader(st, reader)) {
        return 0;
    }
    int known = PyObject_IsInstance(reader, st->imp.asyncio_StreamReader);
    if (known == 0) {
        PyErr_SetNone(PyExc_AssertionError);
    }
    return known > 0 ? 0 : -1;
}

static inline void
set_field(PyObject **field, PyObject *value)
{
    Py_XSETREF(*field, value == Py_None ? NULL : Py_NewRef(value));
}

static int
writer_init(FLWriter *self, PyObject *args, PyObject *kwargs)
{
    PyObject *values[4];
    if (fl_args_parse_tuple(self->base.st, &init_signature, args, kwargs,
                            values)
            < 0
        || check_kind_of_reader(self->base.st, values[2]) < 0) {
        return -1;
    }
    set_field(&self->transport, values[0]);
    set_field(&self->protocol, values[1]);
    set_field(&self->reader, values[2]);
    Py_CLEAR(self->complete);
    return fl_bound_loop_setter(&self->base, values[3], NULL);
}

/* A writer that is dropped open is closed, with a warning. */
static void
writer_finalize(FLWriter *self)
{
    if (self->transport == NULL) {
        return;
    }
    PyObject *raised = fl_err_take();
    int closing = transport_is_closing(self);
    if (closing == 0) {
        PyObject *done = PyObject_CallOneArg(
            self->base.st->sup.stream_unclosed, (PyObject *)self);
        Py_XDECREF(done);
        closing = done == NULL ? -1 : 0;
    }
    if (closing < 0) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    fl_err_give(raised);
}

static int
writer_traverse(FLWriter *self, visitproc visit, void *arg)
{
    Py_VISIT(self->transport);
    Py_VISIT(self->protocol);
    Py_VISIT(self->reader);
    Py_VISIT(self->complete);
    return fl_bound_traverse(&self->base, visit, arg);
}

static int
writer_clear(FLWriter *self)
{
    Py_CLEAR(self->transport);
    Py_CLEAR(self->protocol);
    Py_CLEAR(self->reader);
    Py_CLEAR(self->complete);
    fl_bound_clear(&self->base);
    return 0;
}

static void
writer_dealloc(FLWriter *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (PyObject_CallFinalizerFromDealloc((PyObject *)self) < 0) {
        return;
    }
    PyObject_GC_UnTrack(self);
    FL_TRASHCAN_BEGIN(self, writer_dealloc)
    if (self->base.weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    writer_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    FL_TRASHCAN_END
}

/* --- methods ------------------------------------------------------------------ */

PyDoc_STRVAR(
    writer_doc,
    "StreamWriter(transport, protocol, reader, loop)\n--\n\n"
    "What a stream sends, on a transport with a StreamReaderProtocol.\n\n"
    "reader is the stream's, or None.  See asyncio.StreamWriter.");

PyDoc_STRVAR(write_doc,
             "write($self, /, data)\n--\n\n"
             "Send data (bytes-like); drain() waits until it may go on.");

static const struct fl_signature write_signature = {"write",        1, 1, 0, 1,
                                                    {FL_NAME(data)}};

/* HOT */
static PyObject *
writer_write(FLWriter *self, PyObject *const *args, Py_ssize_t nargs,
             PyObject *kwnames)
{
    PyObject *data = fl_stream_only_argument(&self->base, &write_signature,
                                             args, nargs, kwnames);
    if (data == NULL) {
        return NULL;
    }
    const struct fl_stream_transport *native = native_transport(self);
    if (FL_LIKELY(native != NULL)) {
        PyObject *transport = Py_NewRef(self->transport);
        int status = native->write(transport, data);
        Py_DECREF(transport);
        return status < 0 ? NULL : Py_NewRef(Py_None);
    }
    PyObject *done = call_transport(self, self->base.st->str.write, data);
    Py_XDECREF(done);
    return done == NULL ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(writelines_doc, "writelines($self, /, data)\n--\n\n"
                             "Send each item of an iterable.");

static const struct fl_signature writelines_signature = {
    "writelines", 1, 1, 0, 1, {FL_NAME(data)}};

static PyObject *
writer_writelines(FLWriter *self, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    PyObject *data = fl_stream_only_argument(
        &self->base, &writelines_signature, args, nargs, kwnames);
    PyObject *done =
        data == NULL
            ? NULL
            : call_transport(self, self->base.st->str.writelines, data);
    Py_XDECREF(done);
    return done == NULL ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(write_eof_doc, "write_eof($self, /)\n--\n\n"
                            "Close the sending side once all is sent.");

static PyObject *
writer_write_eof(FLWriter *self, PyObject *Py_UNUSED(ignored))
{
    return call_transport(self, self->base.st->str.write_eof, NULL);
}

PyDoc_STRVAR(can_write_eof_doc, "can_write_eof($self, /)\n--\n\n"
                                "Return whether write_eof() is possible.");

static PyObject *
writer_can_write_eof(FLWriter *self, PyObject *Py_UNUSED(ignored))
{
    return call_transport(self, self->base.st->str.can_write_eof, NULL);
}

PyDoc_STRVAR(close_doc, "close($self, /)\n--\n\n"
                        "Close the stream once what was written is sent.");

static PyObject *
writer_close(FLWriter *self, PyObject *Py_UNUSED(ignored))
{
    return call_transport(self, self->base.st->str.close, NULL);
}

PyDoc_STRVAR(is_closing_doc,
             "is_closing($self, /)\n--\n\n"
             "Return True if the stream is closing or closed.");

static PyObject *
writer_is_closing(FLWriter *self, PyObject *Py_UNUSED(ignored))
{
    const struct fl_stream_transport *native = native_transport(self);
    if (FL_LIKELY(native != NULL)) {
        int closing = native_is_closing(self, native);
        return closing < 0 ? NULL : PyBool_FromLong(closing);
    }
    return call_transport(self, self->base.st->str.is_closing, NULL);
}

PyDoc_STRVAR(wait_closed_doc,
             "wait_closed($self, /)\n--\n\n"
             "Wait until the stream is closed; raise what has ended it.");

static PyObject *
writer_wait_closed(FLWriter *self, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)fl_bound_coro(&self->base, &closed_kind);
}

PyDoc_STRVAR(get_extra_info_doc,
             "get_extra_info($self, /, name, default=None)\n--\n\n"
             "Return what is known of the connection, such as \"peername\".");

static const struct fl_signature info_signature = {
    "get_extra_info", 1, 2, 0, 2, {FL_NAME(name), FL_NAME(default_)}};

static PyObject *
writer_get_extra_info(FLWriter *self, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames)
{
    PyObject *values[2];
    if (fl_args_parse(self->base.st, &info_signature, args, nargs, kwnames,
                      values)
        < 0) {
        return NULL;
    }
    PyObject *transport = Py_NewRef(none_if_null(self->transport));
    PyObject *call[] = {transport, values[0], none_if_null(values[1])};
    PyObject *info = PyObject_VectorcallMethod(
        self->base.st->str.get_extra_info, call, 3, NULL);
    Py_DECREF(transport);
    return info;
}

PyDoc_STRVAR(
    drain_doc,
    "drain($self, /)\n--\n\n"
    "Wait until the transport has sent enough of what was written.\n\n"
    "Raises ConnectionResetError, or what has ended the connection, if it\n"
    "is lost.");

/* HOT */
static PyObject *
writer_drain(FLWriter *self, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)fl_bound_coro(&self->base, &drain_kind);
}

PyDoc_STRVAR(
    start_tls_doc,
    "start_tls($self, /, sslcontext, *, server_hostname=None,\n"
    "          ssl_handshake_timeout=None, ssl_shutdown_timeout=None)\n--\n\n"
    "Go on with TLS: drain(), then the handshake.  Timeouts in seconds.");

static const struct fl_signature start_tls_signature = {
    "start_tls",
    1,
    1,
    0,
    4,
    {FL_NAME(sslcontext), FL_NAME(server_hostname),
     FL_NAME(ssl_handshake_timeout), FL_NAME(ssl_shutdown_timeout)}};

static PyObject *
writer_start_tls(FLWriter *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    PyObject *values[4];
    if (fl_args_parse(self->base.st, &start_tls_signature, args, nargs,
                      kwnames, values)
        < 0) {
        return NULL;
    }
    return PyObject_CallFunctionObjArgs(
        self->base.st->sup.stream_start_tls, self, values[0],
        none_if_null(values[1]), none_if_null(values[2]),
        none_if_null(values[3]), NULL);
}

static PyObject *
writer_repr(FLWriter *self)
{
    return PyObject_CallOneArg(self->base.st->sup.stream_writer_repr,
                               (PyObject *)self);
}

/* --- attributes ------------------------------------------------------------------- */

static PyObject *
get_class(FLWriter *self, void *Py_UNUSED(closure))
{
    fl_state *st = self->base.st;
    return fl_stream_class((PyObject *)self, st->StreamWriterType,
                           st->imp.asyncio_StreamWriter);
}

static PyObject *
get_complete(FLWriter *self, void *Py_UNUSED(closure))
{
    if (self->complete == NULL) {
        fl_state *st = self->base.st;
        PyObject *loop = Py_NewRef(none_if_null(self->base.loop));
        PyObject *future = fl_loop_create_future(st, loop);
        Py_DECREF(loop);
        if (future == NULL || fl_any_set_result(st, future, Py_None) < 0) {
            Py_XDECREF(future);
            return NULL;
        }
        Py_XSETREF(self->complete, future);
    }
    return Py_NewRef(self->complete);
}

#define FIELD(name, field)                                                    \
    {name, fl_stream_get_field, fl_stream_set_field, NULL,                    \
     (void *)offsetof(FLWriter, field)}

PyDoc_STRVAR(transport_doc, "The transport.");

static PyGetSetDef writer_getset[] = {
    {"__class__", (getter)get_class, NULL, NULL, NULL},
    {"transport", fl_stream_get_field, NULL, transport_doc,
     (void *)offsetof(FLWriter, transport)},
    {"_complete_fut", (getter)get_complete, NULL, NULL, NULL},
    FIELD("_transport", transport),
    FIELD("_protocol", protocol),
    FIELD("_reader", reader),
    FL_BOUND_GETSET,
    {NULL, NULL, NULL, NULL, NULL},
};

#define FAST (METH_FASTCALL | METH_KEYWORDS)

static PyMethodDef writer_methods[] = {
    {"write", FL_METHOD(writer_write), FAST, write_doc},
    {"writelines", FL_METHOD(writer_writelines), FAST, writelines_doc},
    {"write_eof", (PyCFunction)writer_write_eof, METH_NOARGS, write_eof_doc},
    {"can_write_eof", (PyCFunction)writer_can_write_eof, METH_NOARGS,
     can_write_eof_doc},
    {"close", (PyCFunction)writer_close, METH_NOARGS, close_doc},
    {"is_closing", (PyCFunction)writer_is_closing, METH_NOARGS,
     is_closing_doc},
    {"wait_closed", (PyCFunction)writer_wait_closed, METH_NOARGS,
     wait_closed_doc},
    {"get_extra_info", FL_METHOD(writer_get_extra_info), FAST,
     get_extra_info_doc},
    {"drain", (PyCFunction)writer_drain, METH_NOARGS, drain_doc},
    {"start_tls", FL_METHOD(writer_start_tls), FAST, start_tls_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef writer_members[] = {
    FL_BOUND_MEMBERS,
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot writer_slots[] = {
    {Py_tp_doc, (void *)writer_doc},   {Py_tp_new, writer_new},
    {Py_tp_init, writer_init},         {Py_tp_dealloc, writer_dealloc},
    {Py_tp_finalize, writer_finalize}, {Py_tp_traverse, writer_traverse},
    {Py_tp_clear, writer_clear},       {Py_tp_repr, writer_repr},
    {Py_tp_methods, writer_methods},   {Py_tp_members, writer_members},
    {Py_tp_getset, writer_getset},     {0, NULL},
};

static PyType_Spec writer_spec = {
    .name = "fastloop.StreamWriter",
    .basicsize = sizeof(FLWriter),
    .flags = FL_BOUND_FLAGS,
    .slots = writer_slots,
};

int
fl_writer_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    return fl_bound_add_type(module, &st->StreamWriterType, &writer_spec,
                             NULL);
}
