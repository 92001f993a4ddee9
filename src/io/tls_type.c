/* fastloop.TLSTransport: what Python sees of a TLS connection. */
#include "base/args.h"
#include "core/stream.h"
#include "io/limits.h"
#include "io/tls_methods.h"

/* --- state ------------------------------------------------------------------------ */

PyDoc_STRVAR(
    close_doc,
    "close($self, /)\n--\n\n"
    "Send what was written and close-notify, wait for the peer's, and close;\n"
    "then the protocol gets connection_lost().");

static PyObject *
tls_close(FLTLS *self, PyObject *Py_UNUSED(ignored))
{
    INERT_RETURNS_NONE(self);
    if (fl_tls_close(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(abort_doc, "abort($self, /)\n--\n\n"
                        "Close the connection now; what is not sent is lost.");

static PyObject *
tls_abort(FLTLS *self, PyObject *Py_UNUSED(ignored))
{
    INERT_RETURNS_NONE(self);
    fl_tls_abort(self, NULL);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(force_close_doc, "_force_close($self, exc, /)\n--\n\n"
                              "abort() with an exception for "
                              "connection_lost().");

static PyObject *
tls_force_close(FLTLS *self, PyObject *exc)
{
    INERT_RETURNS_NONE(self);
    fl_tls_abort(self, exc == Py_None ? NULL : exc);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(is_closing_doc, "is_closing($self, /)\n--\n\n"
                             "Return True if the transport is closing or "
                             "closed.");

static PyObject *
tls_is_closing(FLTLS *self, PyObject *Py_UNUSED(ignored))
{
    if (self->closed || self->below == NULL) {
        return PyBool_FromLong(self->closed);
    }
    return fl_tls_call_below(self, "is_closing", NULL);
}

PyDoc_STRVAR(set_protocol_doc, "set_protocol($self, protocol, /)\n--\n\n"
                               "Let protocol take over: a Protocol or a "
                               "BufferedProtocol.");

static PyObject *
tls_set_protocol(FLTLS *self, PyObject *protocol)
{
    if (self->loop != NULL && fl_tls_set_protocol(self, protocol) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(get_protocol_doc, "get_protocol($self, /)\n--\n\n"
                               "Return the protocol, None once it was told "
                               "that the connection is lost.");

static PyObject *
tls_get_protocol(FLTLS *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(self->protocol == NULL ? Py_None : self->protocol);
}

/* --- reading ------------------------------------------------------------------- */

PyDoc_STRVAR(is_reading_doc, "is_reading($self, /)\n--\n\n"
                             "Return False after pause_reading().");

static PyObject *
tls_is_reading(FLTLS *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(!self->paused);
}

PyDoc_STRVAR(pause_reading_doc, "pause_reading($self, /)\n--\n\n"
                                "Give the protocol no data until "
                                "resume_reading().");

static PyObject *
tls_pause_reading(FLTLS *self, PyObject *Py_UNUSED(ignored))
{
    self->paused = true;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(resume_reading_doc, "resume_reading($self, /)\n--\n\n"
                                 "Undo pause_reading().");

static PyObject *
tls_resume_reading(FLTLS *self, PyObject *Py_UNUSED(ignored))
{
    INERT_RETURNS_NONE(self);
    if (self->paused) {
        self->paused = false;
        if (fl_tls_queue_resume(self) < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

static PyObject *
set_limits(FLTLS *self, PyObject *const *args, Py_ssize_t nargs,
           PyObject *kwnames, const struct fl_signature *signature,
           Py_ssize_t high_default, size_t *high, size_t *low)
{
    PyObject *values[2];
    if (fl_args_parse(self->loop->st, signature, args, nargs, kwnames, values)
            < 0
        || fl_parse_limits(values[0], values[1], high_default, high, low)
               < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    set_read_buffer_limits_doc,
    "set_read_buffer_limits($self, /, high=None, low=None)\n--\n\n"
    "Set the marks for data that was received and not decrypted yet, in bytes:\n"
    "the transport below pauses at high, and goes on at low.  Raises ValueError\n"
    "unless high >= low >= 0.");

static const struct fl_signature read_limits_signature = {
    "set_read_buffer_limits", 0, 2, 0, 2, {FL_NAME(high), FL_NAME(low)}};

static PyObject *
tls_set_read_buffer_limits(FLTLS *self, PyObject *const *args,
                           Py_ssize_t nargs, PyObject *kwnames)
{
    INERT_RETURNS_NONE(self);
    PyObject *result =
        set_limits(self, args, nargs, kwnames, &read_limits_signature,
                   FL_TLS_READ_HIGH, &self->read_high, &self->read_low);
    if (result != NULL && fl_tls_control_reading(self) < 0) {
        Py_CLEAR(result);
    }
    return result;
}

PyDoc_STRVAR(get_read_buffer_limits_doc,
             "get_read_buffer_limits($self, /)\n--\n\n"
             "Return (low, high), see set_read_buffer_limits().");

static PyObject *
tls_get_read_buffer_limits(FLTLS *self, PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("(nn)", (Py_ssize_t)self->read_low,
                         (Py_ssize_t)self->read_high);
}

PyDoc_STRVAR(get_read_buffer_size_doc,
             "get_read_buffer_size($self, /)\n--\n\n"
             "Return how many bytes were received and not decrypted yet.");

static PyObject *
tls_get_read_buffer_size(FLTLS *self, PyObject *Py_UNUSED(ignored))
{
    INERT_RETURNS_NONE(self);
    return PyLong_FromSize_t(self->engine->unread(self));
}

/* --- writing -------------------------------------------------------------------- */

PyDoc_STRVAR(
    write_doc,
    "write($self, data, /)\n--\n\n"
    "Send data: bytes, bytearray or memoryview.  Never blocks; what a turn of\n"
    "the loop writes is sent together at its end.  On a connection that is\n"
    "closing or lost the data is dropped.");

/* HOT */
static PyObject *
tls_write(FLTLS *self, PyObject *data)
{
    INERT_RETURNS_NONE(self);
    if (FL_UNLIKELY(fl_tls_write(self, data) < 0)) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(writelines_doc, "writelines($self, list_of_data, /)\n--\n\n"
                             "write() each item of an iterable.");

static PyObject *
tls_writelines(FLTLS *self, PyObject *iterable)
{
    INERT_RETURNS_NONE(self);
    PyObject *items =
        PySequence_Fast(iterable, "writelines() argument must be iterable");
    if (items == NULL) {
        return NULL;
    }
    int status = 0;
    for (Py_ssize_t i = 0; status == 0 && i < PySequence_Fast_GET_SIZE(items);
         i++) {
        /* Beware: flow control may run code that changes the list. */
        PyObject *item = Py_NewRef(PySequence_Fast_GET_ITEM(items, i));
        status = fl_tls_write(self, item);
        Py_DECREF(item);
    }
    Py_DECREF(items);
    if (status < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(write_eof_doc,
             "write_eof($self, /)\n--\n\n"
             "Raise NotImplementedError: TLS has no half-closed "
             "connections.");

static PyObject *
tls_write_eof(FLTLS *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    PyErr_SetNone(PyExc_NotImplementedError);
    return NULL;
}

PyDoc_STRVAR(can_write_eof_doc, "can_write_eof($self, /)\n--\n\n"
                                "Return False.");

static PyObject *
tls_can_write_eof(FLTLS *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_FALSE;
}

PyDoc_STRVAR(get_write_buffer_size_doc,
             "get_write_buffer_size($self, /)\n--\n\n"
             "Return how many bytes the transport below has not taken yet.");

static PyObject *
tls_get_write_buffer_size(FLTLS *self, PyObject *Py_UNUSED(ignored))
{
    INERT_RETURNS_NONE(self);
    if (fl_list_linked(&self->flush.node)) {
        fl_tls_flush(self); /* what is only collected does not count */
    }
    return PyLong_FromSize_t(fl_tls_unsent(self));
}

PyDoc_STRVAR(get_write_buffer_limits_doc,
             "get_write_buffer_limits($self, /)\n--\n\n"
             "Return (low, high), the marks of flow control in bytes.");

static PyObject *
tls_get_write_buffer_limits(FLTLS *self, PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("(nn)", (Py_ssize_t)self->write_low,
                         (Py_ssize_t)self->write_high);
}

PyDoc_STRVAR(
    set_write_buffer_limits_doc,
    "set_write_buffer_limits($self, /, high=None, low=None)\n--\n\n"
    "Set the marks of flow control, in bytes: from high on the protocol gets\n"
    "pause_writing(), at low or below resume_writing().  Raises ValueError\n"
    "unless high >= low >= 0.");

static const struct fl_signature write_limits_signature = {
    "set_write_buffer_limits", 0, 2, 0, 2, {FL_NAME(high), FL_NAME(low)}};

static PyObject *
tls_set_write_buffer_limits(FLTLS *self, PyObject *const *args,
                            Py_ssize_t nargs, PyObject *kwnames)
{
    INERT_RETURNS_NONE(self);
    PyObject *result =
        set_limits(self, args, nargs, kwnames, &write_limits_signature,
                   FL_TLS_WRITE_HIGH, &self->write_high, &self->write_low);
    if (result != NULL) {
        fl_tls_control_writing(self);
    }
    return result;
}

#define FAST (METH_FASTCALL | METH_KEYWORDS)

static PyMethodDef tls_methods[] = {
    {"close", (PyCFunction)tls_close, METH_NOARGS, close_doc},
    {"abort", (PyCFunction)tls_abort, METH_NOARGS, abort_doc},
    {"_force_close", (PyCFunction)tls_force_close, METH_O, force_close_doc},
    {"is_closing", (PyCFunction)tls_is_closing, METH_NOARGS, is_closing_doc},
    {"set_protocol", (PyCFunction)tls_set_protocol, METH_O, set_protocol_doc},
    {"get_protocol", (PyCFunction)tls_get_protocol, METH_NOARGS,
     get_protocol_doc},
    {"is_reading", (PyCFunction)tls_is_reading, METH_NOARGS, is_reading_doc},
    {"pause_reading", (PyCFunction)tls_pause_reading, METH_NOARGS,
     pause_reading_doc},
    {"resume_reading", (PyCFunction)tls_resume_reading, METH_NOARGS,
     resume_reading_doc},
    {"set_read_buffer_limits", FL_METHOD(tls_set_read_buffer_limits), FAST,
     set_read_buffer_limits_doc},
    {"get_read_buffer_limits", (PyCFunction)tls_get_read_buffer_limits,
     METH_NOARGS, get_read_buffer_limits_doc},
    {"get_read_buffer_size", (PyCFunction)tls_get_read_buffer_size,
     METH_NOARGS, get_read_buffer_size_doc},
    {"write", (PyCFunction)tls_write, METH_O, write_doc},
    {"writelines", (PyCFunction)tls_writelines, METH_O, writelines_doc},
    {"write_eof", (PyCFunction)tls_write_eof, METH_NOARGS, write_eof_doc},
    {"can_write_eof", (PyCFunction)tls_can_write_eof, METH_NOARGS,
     can_write_eof_doc},
    {"get_write_buffer_size", (PyCFunction)tls_get_write_buffer_size,
     METH_NOARGS, get_write_buffer_size_doc},
    {"get_write_buffer_limits", (PyCFunction)tls_get_write_buffer_limits,
     METH_NOARGS, get_write_buffer_limits_doc},
    {"set_write_buffer_limits", FL_METHOD(tls_set_write_buffer_limits), FAST,
     set_write_buffer_limits_doc},
    {"get_extra_info", FL_METHOD(fl_tls_get_extra_info), FAST,
     fl_tls_get_extra_info_doc},
    {"_begin", (PyCFunction)fl_tls_begin, METH_NOARGS, fl_tls_begin_doc},
    {"_feed", (PyCFunction)fl_tls_feed, METH_O, fl_tls_feed_doc},
    {"_check_handshake_timeout", (PyCFunction)fl_tls_check_handshake,
     METH_NOARGS, fl_tls_check_handshake_doc},
    {"_check_shutdown_timeout", (PyCFunction)fl_tls_check_shutdown,
     METH_NOARGS, fl_tls_check_shutdown_doc},
    {"pause_writing", (PyCFunction)fl_tls_pause_writing, METH_NOARGS,
     fl_tls_pause_writing_doc},
    {"resume_writing", (PyCFunction)fl_tls_resume_writing, METH_NOARGS,
     fl_tls_resume_writing_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef tls_members[] = {
    {"__dictoffset__", Py_T_PYSSIZET, offsetof(FLTLS, dict), Py_READONLY,
     NULL},
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(FLTLS, weakrefs),
     Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(
    tls_doc,
    "A TLS connection, made with ssl= of Loop.create_connection() and\n"
    "Loop.create_server(), or by Loop.start_tls().  See\n"
    "asyncio.Transport.");

/* --- for streams, see core/stream.h ----------------------------------------------- */

static int
stream_write(PyObject *self, PyObject *data)
{
    FLTLS *t = (FLTLS *)self;
    return t->loop == NULL ? 0 : fl_tls_write(t, data);
}

static int
stream_is_closing(PyObject *self)
{
    FLTLS *t = (FLTLS *)self;
    if (t->closed || t->below == NULL) {
        return t->closed;
    }
    PyObject *below = Py_NewRef(t->below);
    const struct fl_stream_transport *native =
        fl_stream_transport_of(t->loop->st, below);
    int closing = -1;
    if (FL_LIKELY(native != NULL)) {
        closing = native->is_closing(below);
    }
    else {
        PyObject *answer = fl_tls_call_below(t, "is_closing", NULL);
        closing = answer == NULL ? -1 : PyObject_IsTrue(answer);
        Py_XDECREF(answer);
    }
    Py_DECREF(below);
    return closing;
}

static int
stream_pause_reading(PyObject *self)
{
    ((FLTLS *)self)->paused = true;
    return 0;
}

static int
stream_resume_reading(PyObject *self)
{
    PyObject *done = tls_resume_reading((FLTLS *)self, NULL);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static const struct fl_stream_transport stream_ops = {
    stream_write, stream_is_closing, stream_pause_reading,
    stream_resume_reading};

static PyType_Slot tls_slots[] = {
    {Py_tp_doc, (void *)tls_doc},      {Py_tp_dealloc, fl_tls_dealloc},
    {Py_tp_finalize, fl_tls_finalize}, {Py_tp_traverse, fl_tls_traverse},
    {Py_tp_clear, fl_tls_clear},       {Py_tp_repr, fl_tls_repr},
    {Py_tp_methods, tls_methods},      {Py_tp_members, tls_members},
    {Py_tp_getset, fl_tls_getset},     {0, NULL},
};

static PyType_Spec tls_spec = {
    .name = "fastloop.TLSTransport",
    .basicsize = sizeof(FLTLS),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = tls_slots,
};

int
fl_tls_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    PyTypeObject *base = (PyTypeObject *)st->imp.asyncio_Transport;
    if (base->tp_basicsize > (Py_ssize_t)offsetof(FLTLS, dict)) {
        PyErr_SetString(PyExc_ImportError,
                        "asyncio.Transport has more slots than this build of "
                        "fastloop leaves room for");
        return -1;
    }
    if (fl_state_add_type(module, &st->TLSTransportType, &tls_spec,
                          (PyObject *)base)
        < 0) {
        return -1;
    }
    fl_stream_offer_transport(st, st->TLSTransportType, &stream_ops);
    return 0;
}
