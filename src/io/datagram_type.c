/* fastloop.DatagramTransport: what a protocol calls on its endpoint. */
#include "base/args.h"
#include "io/datagram.h"
#include "io/limits.h"

/* --- life ------------------------------------------------------------------ */

static int
datagram_traverse(FLDatagram *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->dict);
    Py_VISIT(self->loop);
    Py_VISIT(self->protocol);
    Py_VISIT(self->context);
    Py_VISIT(self->waiter);
    if (self->fd < 0) {
        /* until then its finaliser must not run before the loop's has closed us */
        Py_VISIT(self->held);
        Py_VISIT(self->sock);
    }
    Py_VISIT(self->address);
    Py_VISIT(self->extra);
    Py_VISIT(self->lost_with);
    for (uint32_t i = self->head; i != self->tail; i++) {
        Py_VISIT(self->queue[i & (self->size - 1)].address);
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(self->base_slots); i++) {
        Py_VISIT(self->base_slots[i]);
    }
    return 0;
}

/* The socket stays: whoever closes the descriptor has to ask it. */
static int
datagram_clear(FLDatagram *self)
{
    Py_CLEAR(self->dict);
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
datagram_dealloc(FLDatagram *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    FL_ASSERT(self->fd < 0); /* the loop's reference keeps an open one alive */
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    fl_datagram_drop_queue(self);
    datagram_clear(self);
    Py_CLEAR(self->held);
    Py_CLEAR(self->sock);
    Py_CLEAR(self->address);
    Py_CLEAR(self->extra);
    Py_CLEAR(self->loop);
    type->tp_free(self);
    Py_DECREF(type);
}

/* --- state ------------------------------------------------------------------- */

PyDoc_STRVAR(close_doc,
             "close($self, /)\n--\n\n"
             "Close the endpoint once what is queued is sent; then\n"
             "connection_lost(None).");

static PyObject *
datagram_close(FLDatagram *self, PyObject *Py_UNUSED(ignored))
{
    fl_datagram_close(self);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(abort_doc, "abort($self, /)\n--\n\n"
                        "Close the endpoint now; what is queued is lost.");

static PyObject *
datagram_abort(FLDatagram *self, PyObject *Py_UNUSED(ignored))
{
    fl_datagram_abort(self, NULL);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(is_closing_doc, "is_closing($self, /)\n--\n\n"
                             "Return True if the transport is closing or "
                             "closed.");

static PyObject *
datagram_is_closing(FLDatagram *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(self->phase >= FL_DATAGRAM_CLOSING);
}

PyDoc_STRVAR(set_protocol_doc, "set_protocol($self, protocol, /)\n--\n\n"
                               "Let protocol take over.");

static PyObject *
datagram_set_protocol(FLDatagram *self, PyObject *protocol)
{
    Py_XSETREF(self->protocol, Py_NewRef(protocol));
    Py_RETURN_NONE;
}

PyDoc_STRVAR(get_protocol_doc, "get_protocol($self, /)\n--\n\n"
                               "Return the protocol, None once it was told "
                               "that the connection is lost.");

static PyObject *
datagram_get_protocol(FLDatagram *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(self->protocol == NULL ? Py_None : self->protocol);
}

PyDoc_STRVAR(is_reading_doc, "is_reading($self, /)\n--\n\n"
                             "Return True if the transport receives.");

static PyObject *
datagram_is_reading(FLDatagram *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(self->phase != FL_DATAGRAM_NEW
                           && self->phase < FL_DATAGRAM_CLOSING
                           && !self->paused);
}

PyDoc_STRVAR(pause_reading_doc,
             "pause_reading($self, /)\n--\n\n"
             "Give the protocol nothing until resume_reading().");

static PyObject *
datagram_pause_reading(FLDatagram *self, PyObject *Py_UNUSED(ignored))
{
    if (self->phase != FL_DATAGRAM_NEW && self->phase < FL_DATAGRAM_CLOSING) {
        self->paused = true;
        fl_datagram_update_poll(self);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(resume_reading_doc, "resume_reading($self, /)\n--\n\n"
                                 "Undo pause_reading().");

static PyObject *
datagram_resume_reading(FLDatagram *self, PyObject *Py_UNUSED(ignored))
{
    if (self->phase < FL_DATAGRAM_CLOSING && self->paused) {
        self->paused = false;
        fl_datagram_update_poll(self);
    }
    Py_RETURN_NONE;
}

/* --- sending ------------------------------------------------------------------- */

PyDoc_STRVAR(
    sendto_doc,
    "sendto($self, /, data, addr=None)\n--\n\n"
    "Send a datagram: bytes, bytearray or memoryview, to addr or to the\n"
    "remote address of the endpoint.  Never blocks: what the kernel does not\n"
    "take is queued.  An OSError goes to the protocol's error_received().\n"
    "Raises ValueError if addr is not the endpoint's remote address.");

static const struct fl_signature sendto_signature = {
    "sendto", 1, 2, 0, 2, {FL_NAME(data), FL_NAME(addr)}};

/* HOT */
static PyObject *
datagram_sendto(FLDatagram *self, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    if (FL_UNLIKELY(self->phase == FL_DATAGRAM_NEW)) {
        PyErr_SetString(PyExc_RuntimeError, "transport is not open");
        return NULL;
    }
    PyObject *values[2];
    if (fl_args_parse(self->loop->st, &sendto_signature, args, nargs, kwnames,
                      values)
        < 0) {
        return NULL;
    }
    Py_INCREF(self); /* error_received() may drop it */
    int status = fl_datagram_sendto(self, values[0],
                                    values[1] == NULL ? Py_None : values[1]);
    Py_DECREF(self);
    if (FL_UNLIKELY(status < 0)) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(get_write_buffer_size_doc,
             "get_write_buffer_size($self, /)\n--\n\n"
             "Return the size in bytes of what is queued.");

static PyObject *
datagram_get_write_buffer_size(FLDatagram *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromSize_t(self->unsent);
}

PyDoc_STRVAR(get_write_buffer_limits_doc,
             "get_write_buffer_limits($self, /)\n--\n\n"
             "Return (low, high), the marks of flow control in bytes.");

static PyObject *
datagram_get_write_buffer_limits(FLDatagram *self,
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
datagram_set_write_buffer_limits(FLDatagram *self, PyObject *const *args,
                                 Py_ssize_t nargs, PyObject *kwnames)
{
    if (self->phase == FL_DATAGRAM_NEW) {
        Py_RETURN_NONE;
    }
    PyObject *values[2];
    if (fl_args_parse(self->loop->st, &limits_signature, args, nargs, kwnames,
                      values)
            < 0
        || fl_parse_limits(values[0], values[1], FL_DATAGRAM_HIGH_WATER,
                           &self->high_water, &self->low_water)
               < 0) {
        return NULL;
    }
    Py_INCREF(self);
    fl_datagram_check_high_water(self);
    Py_DECREF(self);
    Py_RETURN_NONE;
}

/* --- about the endpoint ------------------------------------------------------------ */

PyDoc_STRVAR(get_extra_info_doc,
             "get_extra_info($self, /, name, default=None)\n--\n\n"
             "Return what is known of the endpoint: \"socket\" (a\n"
             "TransportSocket), \"sockname\", \"peername\".");

static const struct fl_signature info_signature = {
    "get_extra_info", 1, 2, 0, 2, {FL_NAME(name), FL_NAME(default_)}};

static PyObject *
datagram_get_extra_info(FLDatagram *self, PyObject *const *args,
                        Py_ssize_t nargs, PyObject *kwnames)
{
    fl_state *st = fl_state_of_type(Py_TYPE(self));
    PyObject *values[2];
    if (fl_args_parse(st, &info_signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    PyObject *known = NULL;
    if (self->extra != NULL) {
        known = PyDict_GetItemWithError(self->extra, values[0]);
        if (known == NULL && PyErr_Occurred()) {
            return NULL;
        }
    }
    if (known == NULL) {
        known = values[1] == NULL ? Py_None : values[1];
    }
    return Py_NewRef(known);
}

static PyObject *
datagram_repr(FLDatagram *self)
{
    fl_state *st = fl_state_of_type(Py_TYPE(self));
    return PyObject_CallOneArg(st->sup.transport_repr, (PyObject *)self);
}

static PyObject *
get_sock_fd(FLDatagram *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(self->phase == FL_DATAGRAM_NEW ? -1 : self->fd);
}

static PyObject *
get_closing(FLDatagram *self, void *Py_UNUSED(closure))
{
    return datagram_is_closing(self, NULL);
}

static PyObject *
get_loop(FLDatagram *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->loop == NULL ? Py_None : (PyObject *)self->loop);
}

static PyObject *
get_unsent(FLDatagram *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(self->unsent);
}

/* --- type ------------------------------------------------------------------------ */

#define FAST (METH_FASTCALL | METH_KEYWORDS)

static PyMethodDef datagram_methods[] = {
    {"close", (PyCFunction)datagram_close, METH_NOARGS, close_doc},
    {"abort", (PyCFunction)datagram_abort, METH_NOARGS, abort_doc},
    {"is_closing", (PyCFunction)datagram_is_closing, METH_NOARGS,
     is_closing_doc},
    {"set_protocol", (PyCFunction)datagram_set_protocol, METH_O,
     set_protocol_doc},
    {"get_protocol", (PyCFunction)datagram_get_protocol, METH_NOARGS,
     get_protocol_doc},
    {"is_reading", (PyCFunction)datagram_is_reading, METH_NOARGS,
     is_reading_doc},
    {"pause_reading", (PyCFunction)datagram_pause_reading, METH_NOARGS,
     pause_reading_doc},
    {"resume_reading", (PyCFunction)datagram_resume_reading, METH_NOARGS,
     resume_reading_doc},
    {"sendto", FL_METHOD(datagram_sendto), FAST, sendto_doc},
    {"get_write_buffer_size", (PyCFunction)datagram_get_write_buffer_size,
     METH_NOARGS, get_write_buffer_size_doc},
    {"get_write_buffer_limits", (PyCFunction)datagram_get_write_buffer_limits,
     METH_NOARGS, get_write_buffer_limits_doc},
    {"set_write_buffer_limits", FL_METHOD(datagram_set_write_buffer_limits),
     FAST, set_write_buffer_limits_doc},
    {"get_extra_info", FL_METHOD(datagram_get_extra_info), FAST,
     get_extra_info_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef datagram_getset[] = {
    {"_sock_fd", (getter)get_sock_fd, NULL, NULL, NULL},
    {"_closing", (getter)get_closing, NULL, NULL, NULL},
    {"_loop", (getter)get_loop, NULL, NULL, NULL},
    {"_unsent", (getter)get_unsent, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef datagram_members[] = {
    {"__dictoffset__", Py_T_PYSSIZET, offsetof(FLDatagram, dict), Py_READONLY,
     NULL},
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(FLDatagram, weakrefs),
     Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(datagram_doc,
             "A datagram socket, made by Loop.create_datagram_endpoint().\n"
             "See asyncio.DatagramTransport.");

static PyType_Slot datagram_slots[] = {
    {Py_tp_doc, (void *)datagram_doc},
    {Py_tp_dealloc, datagram_dealloc},
    {Py_tp_traverse, datagram_traverse},
    {Py_tp_clear, datagram_clear},
    {Py_tp_repr, datagram_repr},
    {Py_tp_methods, datagram_methods},
    {Py_tp_members, datagram_members},
    {Py_tp_getset, datagram_getset},
    {0, NULL},
};

static PyType_Spec datagram_spec = {
    .name = "fastloop.DatagramTransport",
    .basicsize = sizeof(FLDatagram),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = datagram_slots,
};

static int
add_max_size(fl_state *st)
{
    PyObject *size = PyLong_FromLong(FL_SCRATCH_SIZE);
    int status =
        size == NULL
            ? -1
            : PyObject_SetAttrString((PyObject *)st->DatagramTransportType,
                                     "max_size", size);
    Py_XDECREF(size);
    return status;
}

/* As asyncio's, the type inherits from both kinds of transports: Python classes, whose
   slots come first in our struct. */
int
fl_datagram_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    PyTypeObject *base = (PyTypeObject *)st->imp.asyncio_DatagramTransport;
    if (base->tp_basicsize > (Py_ssize_t)offsetof(FLDatagram, dict)) {
        PyErr_SetString(PyExc_ImportError,
                        "asyncio.DatagramTransport has more slots than this "
                        "build of fastloop leaves room for");
        return -1;
    }
    PyObject *bases = PyTuple_Pack(2, base, st->imp.asyncio_Transport);
    int status = bases == NULL
                     ? -1
                     : fl_state_add_type(module, &st->DatagramTransportType,
                                         &datagram_spec, bases);
    Py_XDECREF(bases);
    return status < 0 ? -1 : add_max_size(st);
}
