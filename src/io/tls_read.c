/* Decryption: from the transport below into the protocol.

   What one read has brought is decrypted as a whole and given on at once: to a
   Protocol as one bytes object, to a BufferedProtocol in its own buffer, to another
   layer of TLS as it is. */
#include "io/received.h"
#include "io/tls.h"

#include "core/stream.h"

/* From this much ciphertext on, decrypt into the bytes object itself. */
#define LARGE_READ (16 * 1024)
/* What OpenSSL may hold in addition: a record. */
#define RECORD (16 * 1024)

static inline bool
may_deliver(const FLTLS *t)
{
    return !t->paused
           && (t->state == FL_TLS_WRAPPED || t->state == FL_TLS_FLUSHING);
}

/* Decrypt until the buffer is full or nothing is left. */
static enum fl_tls_status
fill(FLTLS *t, char *data, size_t size, size_t *total)
{
    *total = 0;
    while (*total < size) {
        size_t got;
        enum fl_tls_status status =
            t->engine->read(t, data + *total, size - *total, &got);
        if (status != FL_TLS_OK) {
            return status;
        }
        *total += got;
        if (!t->engine->readable(t)) {
            return FL_TLS_AGAIN;
        }
    }
    return FL_TLS_OK;
}

static int
call_and_drop(FLTLS *t, PyObject *name, PyObject *arg)
{
    PyObject *result = arg == NULL ? NULL : fl_tls_call(t, name, arg);
    Py_XDECREF(result);
    Py_XDECREF(arg);
    return result == NULL ? -1 : 0;
}

/* Give data to the reader of a stream, or to the protocol.  Steals bytes. */
static int
deliver_bytes(FLTLS *t, FL_STEALS(2) PyObject *bytes)
{
    fl_state *st = t->loop->st;
    int fed =
        bytes == NULL ? 0 : fl_stream_feed_protocol(st, t->protocol, bytes);
    if (fed != 0) {
        Py_DECREF(bytes);
        return fed < 0 ? -1 : 0;
    }
    return call_and_drop(t, st->str.data_received, bytes);
}

/* Go on with a status after a delivery; an error that came after good data is
   raised when the data has been given on. */
static enum fl_tls_status
after_delivery(int delivered, enum fl_tls_status status,
               FL_STEALS(3) PyObject *error)
{
    if (delivered < 0) {
        Py_XDECREF(error);
        return FL_TLS_ERROR;
    }
    if (error != NULL) {
        fl_err_give(error);
    }
    return status;
}

/* HOT */
static enum fl_tls_status
read_scratch(FLTLS *t)
{
    char *scratch = fl_tls_scratch_take(t->loop);
    if (scratch == NULL) {
        PyErr_NoMemory();
        return FL_TLS_ERROR;
    }
    size_t size;
    enum fl_tls_status status = fill(t, scratch, FL_SCRATCH_SIZE, &size);
    PyObject *error = status == FL_TLS_ERROR ? fl_err_take() : NULL;
    int delivered = 0;
    if (size > 0 && t->above != NULL) {
        delivered = t->above->ops->received(t->above, scratch, size);
        fl_tls_scratch_give(t->loop, scratch);
    }
    else {
        PyObject *bytes =
            size == 0 ? NULL : fl_received_bytes(t->loop, scratch, size);
        fl_tls_scratch_give(t->loop, scratch);
        if (size > 0) {
            delivered = deliver_bytes(t, bytes);
        }
    }
    return after_delivery(delivered, status, error);
}

static enum fl_tls_status
read_bytes(FLTLS *t, size_t expected)
{
    PyObject *bytes =
        PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(expected + RECORD));
    if (bytes == NULL) {
        return FL_TLS_ERROR;
    }
    size_t size;
    enum fl_tls_status status =
        fill(t, PyBytes_AS_STRING(bytes), expected + RECORD, &size);
    PyObject *error = status == FL_TLS_ERROR ? fl_err_take() : NULL;
    int delivered = 0;
    if (size == 0) {
        Py_DECREF(bytes);
    }
    else {
        _PyBytes_Resize(&bytes, (Py_ssize_t)size); /* NULL on failure */
        delivered = deliver_bytes(t, bytes);
    }
    return after_delivery(delivered, status, error);
}

/* The buffer of a BufferedProtocol: 0, or -1 with an exception. */
static int
get_buffer(FLTLS *t, Py_buffer *view)
{
    PyObject *hint = PyLong_FromSize_t(t->engine->unread(t));
    PyObject *buffer = hint == NULL
                           ? NULL
                           : fl_tls_call(t, t->loop->st->str.get_buffer, hint);
    Py_XDECREF(hint);
    if (buffer == NULL) {
        return -1;
    }
    int status = PyObject_GetBuffer(buffer, view, PyBUF_WRITABLE);
    if (status < 0 && PyErr_ExceptionMatches(PyExc_BufferError)) {
        PyErr_Format(PyExc_TypeError,
                     "get_buffer() must return a read-write bytes-like "
                     "object, not %s",
                     fl_type_name(Py_TYPE(buffer)));
    }
    Py_DECREF(buffer);
    if (status == 0 && view->len == 0) {
        PyBuffer_Release(view);
        PyErr_SetString(PyExc_RuntimeError,
                        "get_buffer() returned an empty buffer");
        return -1;
    }
    return status;
}

static enum fl_tls_status
read_buffered(FLTLS *t)
{
    Py_buffer view;
    if (get_buffer(t, &view) < 0) {
        return FL_TLS_ERROR;
    }
    size_t size = 0;
    enum fl_tls_status status = FL_TLS_AGAIN;
    if (may_deliver(t)) {
        status = fill(t, view.buf, (size_t)view.len, &size);
    }
    PyObject *error = status == FL_TLS_ERROR ? fl_err_take() : NULL;
    PyBuffer_Release(&view);
    int delivered = 0;
    if (size > 0) {
        delivered = call_and_drop(t, t->loop->st->str.buffer_updated,
                                  PyLong_FromSize_t(size));
    }
    return after_delivery(delivered, status, error);
}

/* Give on what there is; 0, or -1 with an exception. */
static int
deliver(FLTLS *t)
{
    enum fl_tls_status status = FL_TLS_OK;
    while (status == FL_TLS_OK && may_deliver(t) && t->engine->readable(t)) {
        size_t unread = t->engine->unread(t);
        if (t->above == NULL && t->buffered) {
            status = read_buffered(t);
        }
        else if (t->above == NULL && unread >= LARGE_READ) {
            status = read_bytes(t, unread);
        }
        else {
            status = read_scratch(t);
        }
    }
    if (status == FL_TLS_ERROR) {
        return -1;
    }
    if (status == FL_TLS_END
        && (fl_tls_call_eof_received(t) < 0 || fl_tls_start_shutdown(t) < 0)) {
        return -1;
    }
    return 0;
}

/* OpenSSL may have something to say by itself: tickets, an answer to a key update, or
   a record that had to wait for a handshake. */
static int
send_what_arose(FLTLS *t)
{
    if (t->engine->collect(t) < 0) {
        return -1;
    }
    if (fl_tls_buffer_used(&t->outgoing) > 0) {
        return t->state == FL_TLS_WRAPPED && !t->writing_paused
                   ? fl_tls_encrypt(t)
                   : fl_tls_send(t);
    }
    if (fl_tls_buffer_used(&t->plain) > 0 && !t->writing_paused) {
        fl_loop_flush_later(t->loop, &t->flush);
    }
    return 0;
}

int
fl_tls_read(FLTLS *t)
{
    if (t->in_ssl
        || (t->state != FL_TLS_WRAPPED && t->state != FL_TLS_FLUSHING)) {
        return 0;
    }
    if (t->paused || deliver(t) == 0) {
        if (send_what_arose(t) == 0 && fl_tls_control_reading(t) == 0) {
            return 0;
        }
    }
    return fl_tls_fatal_error(t, "Fatal error on SSL protocol");
}

int
fl_tls_control_reading(FLTLS *t)
{
    size_t size = t->engine->unread(t);
    PyObject *result = Py_None;
    if (FL_UNLIKELY(size >= t->read_high && !t->below_paused)) {
        t->below_paused = true;
        result = fl_tls_call_below(t, "pause_reading", NULL);
    }
    else if (FL_UNLIKELY(t->below_paused && size <= t->read_low)) {
        t->below_paused = false;
        result = fl_tls_call_below(t, "resume_reading", NULL);
    }
    else {
        return 0;
    }
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* HOT */
int
fl_tls_received(struct fl_filter *filter, const char *data, size_t size)
{
    FLTLS *t = FL_CONTAINER_OF(filter, FLTLS, filter);
    if (FL_UNLIKELY(t->below == NULL)) {
        return 0;
    }
    Py_INCREF(t);
    int status = t->engine->feed(t, data, size);
    if (FL_LIKELY(status == 0)) {
        status = fl_tls_advance(t);
    }
    PyObject *exc = status < 0 ? fl_err_take() : NULL;
    if (FL_UNLIKELY(t->engine->keep(t) < 0)) {
        if (exc != NULL) {
            PyErr_Clear();
        }
        status = -1;
    }
    if (FL_UNLIKELY(exc != NULL)) {
        fl_err_give(exc);
    }
    else if (status == 0 && fl_tls_buffer_used(&t->plain) > 0
             && fl_ring_count(&t->loop->ready) == 0) {
        /* nothing is scheduled that could write more in this turn */
        fl_tls_flush(t);
    }
    Py_DECREF(t);
    return status;
}
