/* What can be asked of a TLS connection, and what fastloop's Python part and code that
   knows asyncio's private names call. */
#include "base/args.h"
#include "io/tls_methods.h"

/* --- about the connection ------------------------------------------------------------ */

static PyObject *
call_ssl_object(FLTLS *self, const char *method)
{
    return PyObject_CallMethod(self->sslobj, method, NULL);
}

/* What belongs to TLS: a new reference, or NULL, with an exception only on error. */
static PyObject *
tls_info(FLTLS *self, PyObject *name)
{
    if (!PyUnicode_Check(name) || self->sslobj == NULL) {
        return NULL;
    }
    if (PyUnicode_CompareWithASCIIString(name, "sslcontext") == 0) {
        return Py_NewRef(self->sslcontext);
    }
    if (!self->secure) {
        return NULL;
    }
    if (PyUnicode_CompareWithASCIIString(name, "ssl_object") == 0) {
        return Py_NewRef(self->sslobj);
    }
    if (PyUnicode_CompareWithASCIIString(name, "peercert") == 0) {
        return call_ssl_object(self, "getpeercert");
    }
    if (PyUnicode_CompareWithASCIIString(name, "cipher") == 0) {
        return call_ssl_object(self, "cipher");
    }
    if (PyUnicode_CompareWithASCIIString(name, "compression") == 0) {
        return call_ssl_object(self, "compression");
    }
    return NULL;
}

/* The same object each time. */
static int
remember(FLTLS *self, PyObject *name, PyObject *value)
{
    if (self->extra == NULL) {
        self->extra = PyDict_New();
        if (self->extra == NULL) {
            return -1;
        }
    }
    return PyDict_SetItem(self->extra, name, value);
}

const char fl_tls_get_extra_info_doc[] =
    "get_extra_info($self, /, name, default=None)\n--\n\n"
    "Return what is known of the connection: \"sslcontext\", after the\n"
    "handshake \"ssl_object\", \"peercert\", \"cipher\" and\n"
    "\"compression\", and what the transport below knows.";

static const struct fl_signature info_signature = {
    "get_extra_info", 1, 2, 0, 2, {FL_NAME(name), FL_NAME(default_)}};

PyObject *
fl_tls_get_extra_info(FLTLS *self, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames)
{
    fl_state *st = fl_state_of_type(Py_TYPE(self));
    PyObject *values[2];
    if (fl_args_parse(st, &info_signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    PyObject *name = values[0];
    PyObject *fallback = values[1] == NULL ? Py_None : values[1];
    if (self->extra != NULL) {
        PyObject *known = PyDict_GetItemWithError(self->extra, name);
        if (known != NULL || PyErr_Occurred()) {
            return Py_XNewRef(known);
        }
    }
    PyObject *value = tls_info(self, name);
    if (value != NULL) {
        if (remember(self, name, value) < 0) {
            Py_CLEAR(value);
        }
        return value;
    }
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (self->below == NULL) {
        return Py_NewRef(fallback);
    }
    PyObject *below = Py_NewRef(self->below);
    PyObject *question[] = {below, name, fallback};
    value =
        PyObject_VectorcallMethod(st->str.get_extra_info, question, 3, NULL);
    Py_DECREF(below);
    return value;
}

PyObject *
fl_tls_repr(FLTLS *self)
{
    fl_state *st = fl_state_of_type(Py_TYPE(self));
    return PyObject_CallOneArg(st->sup.tls_repr, (PyObject *)self);
}

/* --- for fastloop's Python part, and for code that knows asyncio's -------------------- */

const char fl_tls_begin_doc[] =
    "_begin($self, /)\n--\n\n"
    "Begin the handshake on a transport that is made.";

PyObject *
fl_tls_begin(FLTLS *self, PyObject *Py_UNUSED(ignored))
{
    INERT_RETURNS_NONE(self);
    if (self->filter.ops->made(&self->filter) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

const char fl_tls_feed_doc[] =
    "_feed($self, data, /)\n--\n\n"
    "Take ciphertext that was read before _begin().";

PyObject *
fl_tls_feed(FLTLS *self, PyObject *data)
{
    INERT_RETURNS_NONE(self);
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    int status = self->engine->feed(self, view.buf, (size_t)view.len);
    if (status == 0) {
        status = self->engine->keep(self);
    }
    PyBuffer_Release(&view);
    if (status < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

const char fl_tls_check_handshake_doc[] =
    "_check_handshake_timeout($self, /)\n--\n\n"
    "Give up a handshake that takes too long.";

PyObject *
fl_tls_check_handshake(FLTLS *self, PyObject *Py_UNUSED(ignored))
{
    INERT_RETURNS_NONE(self);
    if (self->state == FL_TLS_HANDSHAKE) {
        PyObject *result =
            PyObject_CallOneArg(self->loop->st->sup.tls_handshake_timed_out,
                                self->handshake_timeout);
        FL_ASSERT(result == NULL); /* it raises */
        if (result != NULL
            || fl_tls_fatal_error(self, "Fatal error on transport") < 0) {
            Py_XDECREF(result);
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

const char fl_tls_check_shutdown_doc[] =
    "_check_shutdown_timeout($self, /)\n--\n\n"
    "Give up a shutdown that takes too long.";

PyObject *
fl_tls_check_shutdown(FLTLS *self, PyObject *Py_UNUSED(ignored))
{
    INERT_RETURNS_NONE(self);
    if (self->state == FL_TLS_FLUSHING || self->state == FL_TLS_SHUTDOWN) {
        PyObject *exc =
            PyObject_CallNoArgs(self->loop->st->sup.tls_shutdown_timed_out);
        PyObject *result =
            exc == NULL ? NULL : fl_tls_call_below(self, "_force_close", exc);
        Py_XDECREF(exc);
        return result;
    }
    Py_RETURN_NONE;
}

const char fl_tls_pause_writing_doc[] = "pause_writing($self, /)\n--\n\n"
                                        "The transport below has enough.";

PyObject *
fl_tls_pause_writing(FLTLS *self, PyObject *Py_UNUSED(ignored))
{
    INERT_RETURNS_NONE(self);
    self->filter.ops->pause_writing(&self->filter);
    Py_RETURN_NONE;
}

const char fl_tls_resume_writing_doc[] = "resume_writing($self, /)\n--\n\n"
                                         "The transport below takes more.";

PyObject *
fl_tls_resume_writing(FLTLS *self, PyObject *Py_UNUSED(ignored))
{
    INERT_RETURNS_NONE(self);
    self->filter.ops->resume_writing(&self->filter);
    Py_RETURN_NONE;
}

static PyObject *
get_loop(FLTLS *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->loop == NULL ? Py_None : (PyObject *)self->loop);
}

static PyObject *
get_true(FLTLS *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    Py_RETURN_TRUE;
}

static PyObject *
get_self(FLTLS *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self);
}

static PyObject *
get_below(FLTLS *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->below == NULL ? Py_None : self->below);
}

static PyObject *
get_engine(FLTLS *self, void *Py_UNUSED(closure))
{
    INERT_RETURNS_NONE(self);
    return PyUnicode_FromString(self->engine->name);
}

static PyObject *
get_protocol_paused(FLTLS *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->protocol_paused);
}

static PyObject *
get_sslcontext(FLTLS *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->sslcontext == NULL ? Py_None : self->sslcontext);
}

static PyObject *
get_reading_paused(FLTLS *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->paused);
}

static PyObject *
get_sendfile_compatible(FLTLS *self, void *Py_UNUSED(closure))
{
    INERT_RETURNS_NONE(self);
    return Py_NewRef(self->loop->st->sup.sendfile_fallback);
}

PyGetSetDef fl_tls_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"_loop", (getter)get_loop, NULL, NULL, NULL},
    {"_below", (getter)get_below, NULL, NULL, NULL},
    {"_engine", (getter)get_engine, NULL, NULL, NULL},
    {"_ssl_protocol", (getter)get_self, NULL, NULL, NULL},
    {"_sslcontext", (getter)get_sslcontext, NULL, NULL, NULL},
    {"_app_reading_paused", (getter)get_reading_paused, NULL, NULL, NULL},
    {"_protocol_paused", (getter)get_protocol_paused, NULL, NULL, NULL},
    {"_start_tls_compatible", (getter)get_true, NULL, NULL, NULL},
    {"_sendfile_compatible", (getter)get_sendfile_compatible, NULL, NULL,
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
