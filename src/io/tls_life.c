/* TLSTransport objects: made, seen by the garbage collector, freed. */
#include "io/tls_methods.h"

/* --- life ------------------------------------------------------------------ */

int
fl_tls_traverse(FLTLS *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->dict);
    Py_VISIT(self->below);
    Py_VISIT(self->loop);
    Py_VISIT(self->context);
    Py_VISIT(self->protocol);
    Py_VISIT(self->waiter);
    Py_VISIT(self->sslcontext);
    Py_VISIT(self->sslobj);
    Py_VISIT(self->extra);
    Py_VISIT(self->lost_with);
    Py_VISIT(self->timer);
    if (self->engine == &fl_tls_engine_direct) {
        Py_VISIT(self->data.direct.socket);
    }
    else if (self->engine == &fl_tls_engine_bio) {
        Py_VISIT(self->data.bio.in);
        Py_VISIT(self->data.bio.out);
        Py_VISIT(self->data.bio.pending);
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(self->base_slots); i++) {
        Py_VISIT(self->base_slots[i]);
    }
    return 0;
}

int
fl_tls_clear(FLTLS *self)
{
    self->closed = true;
    self->state = FL_TLS_UNWRAPPED;
    self->above = NULL;
    if (self->loop != NULL) {
        fl_tls_release(self);
    }
    Py_CLEAR(self->dict);
    Py_CLEAR(self->below);
    Py_CLEAR(self->context);
    Py_CLEAR(self->protocol);
    Py_CLEAR(self->waiter);
    Py_CLEAR(self->sslcontext);
    Py_CLEAR(self->sslobj);
    Py_CLEAR(self->extra);
    Py_CLEAR(self->lost_with);
    Py_CLEAR(self->timer);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(self->base_slots); i++) {
        Py_CLEAR(self->base_slots[i]);
    }
    return 0;
}

void
fl_tls_finalize(FLTLS *self)
{
    if (self->closed || self->below == NULL) {
        return;
    }
    PyObject *exc = fl_err_take();
    PyObject *result = PyObject_CallOneArg(self->loop->st->sup.warn_unclosed,
                                           (PyObject *)self);
    if (result == NULL) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    Py_XDECREF(result);
    fl_err_give(exc);
}

void
fl_tls_dealloc(FLTLS *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (PyObject_CallFinalizerFromDealloc((PyObject *)self) < 0) {
        return;
    }
    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    fl_tls_clear(self);
    Py_CLEAR(self->handshake_timeout);
    Py_CLEAR(self->shutdown_timeout);
    Py_CLEAR(self->loop);
    type->tp_free(self);
    Py_DECREF(type);
}

/* --- making ------------------------------------------------------------------- */

const char fl_tls_make_doc[] =
    "_make_tls($self, protocol, sslcontext, ssl_objects, direct, waiter,\n"
    "          handshake_timeout, shutdown_timeout, made, /)\n--\n\n"
    "Make a TLSTransport, to be set as the protocol of a transport.\n"
    "ssl_objects is (SSLObject, incoming MemoryBIO, outgoing MemoryBIO), direct\n"
    "tells whether to try the direct engine, waiter is a future to finish after\n"
    "the handshake, or None; made is true if the protocol knows that it is\n"
    "connected.";

static int
open_engine(FLTLS *self, PyObject *in, PyObject *out, bool direct)
{
    if (direct && fl_tls_direct_usable()) {
        int opened = fl_tls_open_direct(self);
        if (opened != 0) {
            return opened < 0 ? -1 : 0;
        }
    }
    return fl_tls_open_bio(self, in, out);
}

PyObject *
fl_tls_make(FLLoop *loop, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 8 || !PyTuple_Check(args[2])
        || PyTuple_GET_SIZE(args[2]) != 3) {
        PyErr_SetString(PyExc_TypeError, "_make_tls() takes 8 arguments");
        return NULL;
    }
    if (fl_io_of(loop) == NULL) {
        return NULL;
    }
    PyTypeObject *type = loop->st->TLSTransportType;
    FLTLS *self = (FLTLS *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    fl_tls_init_life(self);
    self->loop = (FLLoop *)Py_NewRef(loop);
    self->sslcontext = Py_NewRef(args[1]);
    self->sslobj = Py_NewRef(PyTuple_GET_ITEM(args[2], 0));
    self->waiter = args[4] == Py_None ? NULL : Py_NewRef(args[4]);
    self->handshake_timeout = Py_NewRef(args[5]);
    self->shutdown_timeout = Py_NewRef(args[6]);
    self->told = args[7] == Py_True ? FL_TLS_TOLD_MADE : FL_TLS_TOLD_NOTHING;
    self->write_high = FL_TLS_WRITE_HIGH;
    self->write_low = FL_TLS_WRITE_HIGH / 4;
    self->read_high = FL_TLS_READ_HIGH;
    self->read_low = FL_TLS_READ_HIGH / 4;
    if (open_engine(self, PyTuple_GET_ITEM(args[2], 1),
                    PyTuple_GET_ITEM(args[2], 2), args[3] == Py_True)
            < 0
        || fl_tls_set_protocol(self, args[0]) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}
