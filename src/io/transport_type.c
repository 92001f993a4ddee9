/* fastloop.TCPTransport: what a protocol calls on its connection. */
#include "base/args.h"
#include "base/errors.h"
#include "core/future.h"
#include "core/stream.h"
#include "io/limits.h"
#include "io/transport.h"
#include "io/watch.h"

/* --- life ------------------------------------------------------------------ */

/* An open transport hides its socket from the garbage collector, which would run
   the socket's finaliser, and with it close(), before or after the loop's, as it
   likes: one of the two would close a number that is another's by then. */
static bool
hides_socket(const FLTransport *self)
{
    return self->phase != FL_TRANSPORT_NEW
           && self->phase != FL_TRANSPORT_CLOSED;
}

static int
transport_traverse(FLTransport *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->dict);
    Py_VISIT(self->loop);
    Py_VISIT(self->protocol);
    Py_VISIT(self->factory);
    Py_VISIT(self->context);
    Py_VISIT(self->waiter);
    if (!hides_socket(self)) {
        Py_VISIT(self->sock);
    }
    Py_VISIT(self->extra);
    Py_VISIT(self->lost_with);
    Py_VISIT(self->empty_waiter);
    Py_VISIT(self->server);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(self->base_slots); i++) {
        Py_VISIT(self->base_slots[i]);
    }
    return 0;
}

static int
transport_clear(FLTransport *self)
{
    fl_transport_drop_pending(self);
    Py_CLEAR(self->dict);
    self->filter = NULL;
    Py_CLEAR(self->protocol);
    Py_CLEAR(self->factory);
    Py_CLEAR(self->context);
    Py_CLEAR(self->waiter);
    if (!hides_socket(self)) {
        Py_CLEAR(self->sock);
    }
    Py_CLEAR(self->extra);
    Py_CLEAR(self->lost_with);
    Py_CLEAR(self->empty_waiter);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(self->base_slots); i++) {
        Py_CLEAR(self->base_slots[i]);
    }
    return 0;
}

static void
transport_dealloc(FLTransport *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    /* the loop's reference keeps an open one alive */
    FL_ASSERT(self->phase == FL_TRANSPORT_NEW
              || self->phase == FL_TRANSPORT_CLOSED);
    FL_ASSERT(self->server == NULL);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    transport_clear(self);
    Py_CLEAR(self->loop);
    PyMem_Free(self->sockname);
    type->tp_free(self);
    Py_DECREF(type);
}

/* --- state ------------------------------------------------------------------- */

PyDoc_STRVAR(
    close_doc,
    "close($self, /)\n--\n\n"
    "Close the connection once what was written is sent; the protocol\n"
    "gets no more data, then connection_lost(None).");

static PyObject *
transport_close(FLTransport *self, PyObject *Py_UNUSED(ignored))
{
    fl_transport_close(self);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(abort_doc, "abort($self, /)\n--\n\n"
                        "Close the connection now; what is not sent is lost.");

static PyObject *
transport_abort(FLTransport *self, PyObject *Py_UNUSED(ignored))
{
    fl_transport_abort(self, NULL);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(force_close_doc, "_force_close($self, exc, /)\n--\n\n"
                              "abort() with an exception for "
                              "connection_lost().");

static PyObject *
transport_force_close(FLTransport *self, PyObject *exc)
{
    fl_transport_abort(self, exc == Py_None ? NULL : exc);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(is_closing_doc, "is_closing($self, /)\n--\n\n"
                             "Return True if the transport is closing or "
                             "closed.");

static PyObject *
transport_is_closing(FLTransport *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(self->phase >= FL_TRANSPORT_CLOSING);
}

PyDoc_STRVAR(set_protocol_doc, "set_protocol($self, protocol, /)\n--\n\n"
                               "Let protocol take over: a Protocol or a "
                               "BufferedProtocol.");

static PyObject *
transport_set_protocol(FLTransport *self, PyObject *protocol)
{
    if (self->loop == NULL || fl_transport_set_protocol(self, protocol) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(get_protocol_doc, "get_protocol($self, /)\n--\n\n"
                               "Return the protocol, None once it was told "
                               "that the connection is lost.");

static PyObject *
transport_get_protocol(FLTransport *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(self->protocol == NULL ? Py_None : self->protocol);
}

/* --- reading ------------------------------------------------------------------ */

PyDoc_STRVAR(is_reading_doc, "is_reading($self, /)\n--\n\n"
                             "Return True if the transport receives data.");

static PyObject *
transport_is_reading(FLTransport *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(self->phase < FL_TRANSPORT_CLOSING
                           && self->phase != FL_TRANSPORT_NEW
                           && !self->paused);
}

PyDoc_STRVAR(pause_reading_doc, "pause_reading($self, /)\n--\n\n"
                                "Give the protocol no data until "
                                "resume_reading().");

static void
pause_reading(FLTransport *self)
{
    if (self->phase < FL_TRANSPORT_CLOSING
        && self->phase != FL_TRANSPORT_NEW) {
        self->paused = true;
        fl_transport_pause_reading(self);
    }
}

static PyObject *
transport_pause_reading(FLTransport *self, PyObject *Py_UNUSED(ignored))
{
    pause_reading(self);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(resume_reading_doc, "resume_reading($self, /)\n--\n\n"
                                 "Undo pause_reading().");

static void
resume_reading(FLTransport *self)
{
    if (self->phase < FL_TRANSPORT_CLOSING && self->paused) {
        self->paused = false;
        fl_transport_start_reading(self);
    }
}

static PyObject *
transport_resume_reading(FLTransport *self, PyObject *Py_UNUSED(ignored))
{
    resume_reading(self);
    Py_RETURN_NONE;
}

/* --- writing ------------------------------------------------------------------- */

PyDoc_STRVAR(
    write_doc,
    "write($self, data, /)\n--\n\n"
    "Send data: bytes, bytearray or memoryview.  Never blocks; what a turn of\n"
    "the loop writes is sent together at its end.  On a lost connection the\n"
    "data is dropped.  Raises RuntimeError after write_eof().");

/* HOT */
static int
write_data(FLTransport *self, PyObject *data)
{
    if (FL_UNLIKELY(self->phase == FL_TRANSPORT_NEW)) {
        PyErr_SetString(PyExc_RuntimeError, "transport is not open");
        return -1;
    }
    return fl_transport_write(self, data);
}

static PyObject *
transport_write(FLTransport *self, PyObject *data)
{
    if (FL_UNLIKELY(write_data(self, data) < 0)) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(writelines_doc, "writelines($self, list_of_data, /)\n--\n\n"
                             "write() each item of an iterable.");

static PyObject *
transport_writelines(FLTransport *self, PyObject *iterable)
{
    PyObject *items =
        PySequence_Fast(iterable, "writelines() argument must be iterable");
    if (items == NULL) {
        return NULL;
    }
#if FL_PY312
    if (self->empty_waiter != NULL && !self->eof_written) {
        Py_DECREF(items);
        PyErr_SetString(PyExc_RuntimeError,
                        "unable to writelines; sendfile is in progress");
        return NULL;
    }
#endif
    PyObject *result = Py_None;
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(items); i++) {
        /* Beware: flow control may run code that changes the list. */
        PyObject *item = Py_NewRef(PySequence_Fast_GET_ITEM(items, i));
        PyObject *written = transport_write(self, item);
        Py_DECREF(item);
        if (written == NULL) {
            result = NULL;
            break;
        }
        Py_DECREF(written);
    }
    Py_DECREF(items);
    return Py_XNewRef(result);
}

PyDoc_STRVAR(write_eof_doc,
             "write_eof($self, /)\n--\n\n"
             "Close the sending side once what was written is sent.");

static PyObject *
transport_write_eof(FLTransport *self, PyObject *Py_UNUSED(ignored))
{
    if (self->phase != FL_TRANSPORT_NEW) {
        fl_transport_write_eof(self);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(can_write_eof_doc, "can_write_eof($self, /)\n--\n\nReturn True.");

static PyObject *
transport_can_write_eof(FLTransport *Py_UNUSED(self),
                        PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_TRUE;
}

PyDoc_STRVAR(get_write_buffer_size_doc,
             "get_write_buffer_size($self, /)\n--\n\n"
             "Return how many bytes the kernel has not taken yet.");

static PyObject *
transport_get_write_buffer_size(FLTransport *self,
                                PyObject *Py_UNUSED(ignored))
{
    if (self->phase != FL_TRANSPORT_NEW && self->pending.count > 0) {
        Py_INCREF(self);
        fl_transport_flush(self); /* what is only collected does not count */
        Py_DECREF(self);
    }
    return PyLong_FromSize_t(fl_transport_unsent(self));
}

PyDoc_STRVAR(get_write_buffer_limits_doc,
             "get_write_buffer_limits($self, /)\n--\n\n"
             "Return (low, high), the marks of flow control in bytes.");

static PyObject *
transport_get_write_buffer_limits(FLTransport *self,
                                  PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("(nn)", (Py_ssize_t)self->low_water,
                         (Py_ssize_t)self->high_water);
}

PyDoc_STRVAR(
    set_write_buffer_limits_doc,
    "set_write_buffer_limits($self, /, high=None, low=None)\n--\n\n"
    "Set the marks of flow control, in bytes: above high the protocol gets\n"
    "pause_writing(), at low or below resume_writing().  Raises ValueError\n"
    "unless high >= low >= 0.");

static const struct fl_signature limits_signature = {
    "set_write_buffer_limits", 0, 2, 0, 2, {FL_NAME(high), FL_NAME(low)}};

static PyObject *
transport_set_write_buffer_limits(FLTransport *self, PyObject *const *args,
                                  Py_ssize_t nargs, PyObject *kwnames)
{
    if (self->phase == FL_TRANSPORT_NEW) {
        Py_RETURN_NONE;
    }
    PyObject *values[2];
    if (fl_args_parse(self->loop->st, &limits_signature, args, nargs, kwnames,
                      values)
            < 0
        || fl_parse_limits(values[0], values[1], FL_WRITE_COLLECT,
                           &self->high_water, &self->low_water)
               < 0) {
        return NULL;
    }
    if (self->phase != FL_TRANSPORT_CLOSED) {
        Py_INCREF(self);
        fl_transport_flush(self);
        fl_transport_check_high_water(self);
        Py_DECREF(self);
    }
    Py_RETURN_NONE;
}

/* --- sendfile ---------------------------------------------------------------------- */

PyDoc_STRVAR(
    make_empty_waiter_doc,
    "_make_empty_waiter($self, /)\n--\n\n"
    "Return a future that is done when all is sent.  Until\n"
    "_reset_empty_waiter() nothing may be written, and the socket may\n"
    "be waited for as if it were no transport's.");

static PyObject *
transport_make_empty_waiter(FLTransport *self, PyObject *Py_UNUSED(ignored))
{
    if (self->phase == FL_TRANSPORT_NEW || self->empty_waiter != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Empty waiter is already set");
        return NULL;
    }
    PyObject *waiter = (PyObject *)fl_future_new(self->loop);
    if (waiter == NULL) {
        return NULL;
    }
    self->empty_waiter = Py_NewRef(waiter);
    int fd = fl_transport_fd(self);
    if (fl_watch_transport(self->loop, fd) == (PyObject *)self) {
        fl_watch_set_transport(self->loop, fd, NULL);
    }
    fl_transport_flush(self);
    fl_transport_check_empty(self);
    return waiter;
}

PyDoc_STRVAR(reset_empty_waiter_doc, "_reset_empty_waiter($self, /)\n--\n\n"
                                     "Undo _make_empty_waiter().");

static PyObject *
transport_reset_empty_waiter(FLTransport *self, PyObject *Py_UNUSED(ignored))
{
    int fd = fl_transport_fd(self);
    Py_CLEAR(self->empty_waiter);
    if (fd >= 0 && !uv_is_closing(&self->uv.handle)) {
        fl_watch_set_transport(self->loop, fd, (PyObject *)self);
    }
    Py_RETURN_NONE;
}

static PyObject *
get_sendfile_compatible(FLTransport *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(fl_state_of_type(Py_TYPE(self))->sup.sendfile_mode);
}

static PyObject *
get_protocol_paused(FLTransport *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->protocol_paused);
}

/* --- about the connection ------------------------------------------------------- */

static PyObject *
socket_object(FLTransport *self)
{
    if (self->sock == NULL) {
        int fd = fl_transport_fd(self);
        if (fd < 0) {
            return NULL;
        }
        self->sock = PyObject_CallFunction(
            self->loop->st->sup.make_socket, "ii", fd,
            self->has_peername ? (int)self->peername.sin6_family : -1);
    }
    return Py_XNewRef(self->sock);
}

/* As asyncio's: None where the socket could not tell, not the default. */
static PyObject *
address_or_none(const FLTransport *self, const struct sockaddr_in6 *raw)
{
    const struct sockaddr *address = (const struct sockaddr *)raw;
    if (raw == NULL) {
        Py_RETURN_NONE;
    }
    /* of a Unix socket, only that it has no name is kept here */
    return self->is_unix ? fl_unix_name_to_python(address, 0)
                         : fl_address_to_python(address);
}

/* A new reference, or NULL, with an exception only on error. */
static PyObject *
built_in_info(FLTransport *self, PyObject *name)
{
    if (PyUnicode_CompareWithASCIIString(name, "socket") == 0) {
        return socket_object(self);
    }
    if (PyUnicode_CompareWithASCIIString(name, "peername") == 0) {
        return address_or_none(self,
                               self->has_peername ? &self->peername : NULL);
    }
    if (PyUnicode_CompareWithASCIIString(name, "sockname") == 0) {
        fl_transport_take_sockname(self);
        /* that of a Unix socket may have been remembered just now */
        PyObject *known = self->extra == NULL
                              ? NULL
                              : PyDict_GetItemWithError(self->extra, name);
        return known != NULL ? Py_NewRef(known)
                             : address_or_none(self, self->sockname);
    }
    return NULL;
}

int
fl_transport_remember(FLTransport *self, const char *name, PyObject *value)
{
    if (self->extra == NULL) {
        self->extra = PyDict_New();
        if (self->extra == NULL) {
            return -1;
        }
    }
    PyObject *key = PyUnicode_InternFromString(name);
    PyObject *kept =
        key == NULL ? NULL : PyDict_SetDefault(self->extra, key, value);
    Py_XDECREF(key);
    return kept == NULL ? -1 : 0;
}

PyDoc_STRVAR(get_extra_info_doc,
             "get_extra_info($self, /, name, default=None)\n--\n\n"
             "Return what is known of the connection: \"socket\" (a\n"
             "TransportSocket), \"sockname\", \"peername\".");

static const struct fl_signature info_signature = {
    "get_extra_info", 1, 2, 0, 2, {FL_NAME(name), FL_NAME(default_)}};

static PyObject *
transport_get_extra_info(FLTransport *self, PyObject *const *args,
                         Py_ssize_t nargs, PyObject *kwnames)
{
    fl_state *st = fl_state_of_type(Py_TYPE(self));
    PyObject *values[2];
    if (fl_args_parse(st, &info_signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    PyObject *name = values[0];
    PyObject *fallback = values[1] == NULL ? Py_None : values[1];
    if (self->pending.count > 0 && PyUnicode_Check(name)
        && PyUnicode_CompareWithASCIIString(name, "socket") == 0) {
        /* whoever uses the socket itself expects to come after what was written */
        fl_transport_flush(self);
    }
    if (self->extra != NULL) {
        PyObject *known = PyDict_GetItemWithError(self->extra, name);
        if (known != NULL || PyErr_Occurred()) {
            return Py_XNewRef(known);
        }
    }
    if (!PyUnicode_Check(name) || self->phase == FL_TRANSPORT_NEW) {
        return Py_NewRef(fallback);
    }
    PyObject *value = built_in_info(self, name);
    if (value == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(fallback);
    }
    const char *key = PyUnicode_AsUTF8(name); /* ASCII, for it was found */
    if (key == NULL || fl_transport_remember(self, key, value) < 0) {
        Py_CLEAR(value);
    }
    return value;
}

static PyObject *
transport_repr(FLTransport *self)
{
    fl_state *st = fl_state_of_type(Py_TYPE(self));
    return PyObject_CallOneArg(st->sup.transport_repr, (PyObject *)self);
}

static PyObject *
get_sock_fd(FLTransport *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(fl_transport_fd(self));
}

static PyObject *
get_loop(FLTransport *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->loop == NULL ? Py_None : (PyObject *)self->loop);
}

#define FAST (METH_FASTCALL | METH_KEYWORDS)

/* what repr() tells: unlike get_write_buffer_size() it sends nothing */
static PyObject *
get_unsent(FLTransport *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(fl_transport_unsent(self));
}

static PyObject *
get_closing(FLTransport *self, void *Py_UNUSED(closure))
{
    return transport_is_closing(self, NULL);
}

static PyObject *
get_paused(FLTransport *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->paused);
}

static PyObject *
get_start_tls_compatible(FLTransport *Py_UNUSED(self),
                         void *Py_UNUSED(closure))
{
    Py_RETURN_TRUE;
}

static PyMethodDef transport_methods[] = {
    {"close", (PyCFunction)transport_close, METH_NOARGS, close_doc},
    {"abort", (PyCFunction)transport_abort, METH_NOARGS, abort_doc},
    {"_force_close", (PyCFunction)transport_force_close, METH_O,
     force_close_doc},
    {"is_closing", (PyCFunction)transport_is_closing, METH_NOARGS,
     is_closing_doc},
    {"set_protocol", (PyCFunction)transport_set_protocol, METH_O,
     set_protocol_doc},
    {"get_protocol", (PyCFunction)transport_get_protocol, METH_NOARGS,
     get_protocol_doc},
    {"is_reading", (PyCFunction)transport_is_reading, METH_NOARGS,
     is_reading_doc},
    {"pause_reading", (PyCFunction)transport_pause_reading, METH_NOARGS,
     pause_reading_doc},
    {"resume_reading", (PyCFunction)transport_resume_reading, METH_NOARGS,
     resume_reading_doc},
    {"write", (PyCFunction)transport_write, METH_O, write_doc},
    {"writelines", (PyCFunction)transport_writelines, METH_O, writelines_doc},
    {"write_eof", (PyCFunction)transport_write_eof, METH_NOARGS,
     write_eof_doc},
    {"can_write_eof", (PyCFunction)transport_can_write_eof, METH_NOARGS,
     can_write_eof_doc},
    {"get_write_buffer_size", (PyCFunction)transport_get_write_buffer_size,
     METH_NOARGS, get_write_buffer_size_doc},
    {"get_write_buffer_limits", (PyCFunction)transport_get_write_buffer_limits,
     METH_NOARGS, get_write_buffer_limits_doc},
    {"set_write_buffer_limits", FL_METHOD(transport_set_write_buffer_limits),
     FAST, set_write_buffer_limits_doc},
    {"get_extra_info", FL_METHOD(transport_get_extra_info), FAST,
     get_extra_info_doc},
    {"__reduce__", fl_refuse_pickle, METH_NOARGS, NULL},
    {"_make_empty_waiter", (PyCFunction)transport_make_empty_waiter,
     METH_NOARGS, make_empty_waiter_doc},
    {"_reset_empty_waiter", (PyCFunction)transport_reset_empty_waiter,
     METH_NOARGS, reset_empty_waiter_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef transport_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"_sock_fd", (getter)get_sock_fd, NULL, NULL, NULL},
    {"_loop", (getter)get_loop, NULL, NULL, NULL},
    {"_unsent", (getter)get_unsent, NULL, NULL, NULL},
    {"_closing", (getter)get_closing, NULL, NULL, NULL},
    {"_paused", (getter)get_paused, NULL, NULL, NULL},
    {"_protocol_paused", (getter)get_protocol_paused, NULL, NULL, NULL},
    {"_sendfile_compatible", (getter)get_sendfile_compatible, NULL, NULL,
     NULL},
    {"_start_tls_compatible", (getter)get_start_tls_compatible, NULL, NULL,
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef transport_members[] = {
    {"__dictoffset__", Py_T_PYSSIZET, offsetof(FLTransport, dict), Py_READONLY,
     NULL},
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(FLTransport, weakrefs),
     Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

/* --- for streams, see core/stream.h ----------------------------------------------- */

static int
stream_write(PyObject *self, PyObject *data)
{
    return write_data((FLTransport *)self, data);
}

static int
stream_is_closing(PyObject *self)
{
    return ((FLTransport *)self)->phase >= FL_TRANSPORT_CLOSING;
}

static int
stream_pause_reading(PyObject *self)
{
    pause_reading((FLTransport *)self);
    return 0;
}

static int
stream_resume_reading(PyObject *self)
{
    resume_reading((FLTransport *)self);
    return 0;
}

static const struct fl_stream_transport stream_ops = {
    stream_write, stream_is_closing, stream_pause_reading,
    stream_resume_reading};

PyDoc_STRVAR(
    transport_doc,
    "A connected stream socket, made by Loop.create_connection() and\n"
    "Loop.create_server().  See asyncio.Transport.");

static PyType_Slot transport_slots[] = {
    {Py_tp_doc, (void *)transport_doc},
    {Py_tp_dealloc, transport_dealloc},
    {Py_tp_traverse, transport_traverse},
    {Py_tp_clear, transport_clear},
    {Py_tp_repr, transport_repr},
    {Py_tp_methods, transport_methods},
    {Py_tp_members, transport_members},
    {Py_tp_getset, transport_getset},
    {0, NULL},
};

static PyType_Spec transport_spec = {
    .name = "fastloop.TCPTransport",
    .basicsize = sizeof(FLTransport),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = transport_slots,
};

/* The type is a real subclass of asyncio.Transport, a Python class: its slots
   come first in our struct, where we leave room for them. */
int
fl_transport_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    PyTypeObject *base = (PyTypeObject *)st->imp.asyncio_Transport;
    if (base->tp_basicsize > (Py_ssize_t)offsetof(FLTransport, dict)) {
        PyErr_SetString(PyExc_ImportError,
                        "asyncio.Transport has more slots than this build of "
                        "fastloop leaves room for");
        return -1;
    }
    if (fl_state_add_type(module, &st->TCPTransportType, &transport_spec,
                          (PyObject *)base)
        < 0) {
        return -1;
    }
    fl_stream_offer_transport(st, st->TCPTransportType, &stream_ops);
    return 0;
}
