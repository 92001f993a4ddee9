/* Reading: from the socket into the protocol.

   A Protocol gets a bytes object of the right size, copied out of one buffer that
   all streams of the loop share; the kernel fills it without the GIL if nothing
   has needed the GIL yet.  A connection that has just received much is expected to
   receive much again: the kernel then fills the bytes object itself.  A
   BufferedProtocol's own buffer is always filled directly. */
#include "base/errors.h"
#include "io/transport.h"

#define LARGE_READ (32 * 1024)

/* --- buffers ----------------------------------------------------------------- */

/* Ask a BufferedProtocol for its buffer; on failure leave buf empty.

   Beware: the protocol may pause or close the transport here, and libuv does not
   allow uv_read_stop() inside alloc_cb: read_cb does it. */
static void
get_buffer(FLTransport *t, uv_buf_t *buf)
{
    fl_loop_take_gil(t->loop);
    t->in_alloc = true;
    PyObject *size = PyLong_FromLong(-1);
    PyObject *buffer =
        size == NULL ? NULL
                     : fl_transport_call(t, t->loop->st->str.get_buffer, size);
    Py_XDECREF(size);
    if (buffer != NULL && t->protocol != NULL
        && PyObject_GetBuffer(buffer, &t->buffer, PyBUF_WRITABLE) == 0) {
        if (t->buffer.len > 0) {
            buf->base = t->buffer.buf;
            buf->len = (size_t)t->buffer.len;
        }
        else {
            PyBuffer_Release(&t->buffer);
            PyErr_SetString(PyExc_RuntimeError,
                            "get_buffer() returned an empty buffer");
        }
    }
    Py_XDECREF(buffer);
    if (PyErr_Occurred()) {
        fl_transport_fatal_error(
            t, "Fatal error: protocol.get_buffer() call failed.");
    }
    t->in_alloc = false;
}

/* A bytes object to be filled and shrunk; without one the shared buffer serves. */
static void
get_bytes(FLTransport *t, uv_buf_t *buf)
{
    fl_loop_take_gil(t->loop);
    struct fl_io *io = t->loop->io;
    io->incoming = PyBytes_FromStringAndSize(NULL, t->expected);
    if (io->incoming == NULL) {
        PyErr_Clear();
        return;
    }
    buf->base = PyBytes_AS_STRING(io->incoming);
    buf->len = t->expected;
}

static void
alloc_cb(uv_handle_t *handle, size_t Py_UNUSED(hint), uv_buf_t *buf)
{
    FLTransport *t = handle->data;
    *buf = uv_buf_init(NULL, 0);
    if (FL_UNLIKELY(t->buffered)) {
        get_buffer(t, buf);
        return;
    }
    if (t->expected > 0 && t->filter == NULL) {
        get_bytes(t, buf);
        if (buf->base != NULL) {
            return;
        }
    }
    char *scratch = fl_io_scratch(t->loop);
    if (scratch != NULL) {
        *buf = uv_buf_init(scratch, FL_SCRATCH_SIZE);
    }
}

/* --- data ------------------------------------------------------------------------ */

/* How much the next read may bring, judged by this one: 0 for what the shared
   buffer serves best. */
static inline void
expect(FLTransport *t, size_t size)
{
    if (FL_LIKELY(size < LARGE_READ)) {
        t->expected = 0;
        return;
    }
    uint32_t room = LARGE_READ;
    while (room <= size && room < FL_SCRATCH_SIZE) {
        room *= 2;
    }
    t->expected = room;
}

/* What was read, as bytes; NULL with MemoryError. */
static inline PyObject *
take_bytes(FLTransport *t, const char *data, size_t size)
{
    PyObject *bytes = t->loop->io->incoming;
    if (FL_LIKELY(bytes == NULL)) {
        return PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
    }
    t->loop->io->incoming = NULL;
    _PyBytes_Resize(&bytes, (Py_ssize_t)size); /* leaves NULL on failure */
    return bytes;
}

/* HOT */
static void
deliver(FLTransport *t, const char *data, size_t size)
{
    PyObject *bytes = take_bytes(t, data, size);
    expect(t, size);
    PyObject *result =
        bytes == NULL
            ? NULL
            : fl_transport_call(t, t->loop->st->str.data_received, bytes);
    Py_XDECREF(bytes);
    if (FL_LIKELY(result != NULL)) {
        Py_DECREF(result);
        return;
    }
    fl_transport_fatal_error(
        t, "Fatal error: protocol.data_received() call failed.");
}

static void
deliver_buffered(FLTransport *t, size_t size)
{
    PyBuffer_Release(&t->buffer);
    PyObject *count = PyLong_FromSize_t(size);
    PyObject *result =
        count == NULL
            ? NULL
            : fl_transport_call(t, t->loop->st->str.buffer_updated, count);
    Py_XDECREF(count);
    if (FL_LIKELY(result != NULL)) {
        Py_DECREF(result);
        return;
    }
    fl_transport_fatal_error(
        t, "Fatal error: protocol.buffer_updated() call failed.");
}

/* A filter uses the data where the kernel has put it. */
static void
deliver_to_filter(FLTransport *t, const char *data, size_t size)
{
    PyObject *protocol = Py_NewRef(t->protocol);
    if (FL_UNLIKELY(t->filter->ops->received(t->filter, data, size) < 0)) {
        fl_transport_fatal_error(
            t, "Fatal error: protocol.buffer_updated() call failed.");
    }
    Py_DECREF(protocol);
}

/* 1: stay half open; -1 with an exception */
static int
tell_eof(FLTransport *t)
{
    if (t->filter != NULL) {
        PyObject *protocol = Py_NewRef(t->protocol);
        int filtered = t->filter->ops->eof(t->filter);
        Py_DECREF(protocol);
        return filtered;
    }
    PyObject *result =
        fl_transport_call(t, t->loop->st->str.eof_received, NULL);
    int keep_open = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    return keep_open;
}

/* The peer will send no more: the protocol says whether to stay half open. */
static void
end_of_stream(FLTransport *t)
{
    fl_transport_stop_reading(t);
    int keep_open = tell_eof(t);
    if (keep_open < 0) {
        fl_transport_fatal_error(
            t, "Fatal error: protocol.eof_received() call failed.");
    }
    else if (!keep_open) {
        fl_transport_close(t);
    }
}

static FL_COLD void
read_failed(FLTransport *t, int rc)
{
    fl_transport_stop_reading(t);
    if (rc == UV_EOF) {
        end_of_stream(t);
        return;
    }
    if (rc == UV_ENOBUFS) {
        if (t->buffered && t->loop->fatal != NULL) {
            /* get_buffer() ends the run, not the connection */
            fl_transport_start_reading(t);
        }
        else if (t->phase == FL_TRANSPORT_OPEN && !t->paused) {
            /* the scratch buffer could not be had */
            PyErr_NoMemory();
            fl_transport_fatal_error(t,
                                     "Fatal read error on socket transport");
        }
        return; /* or get_buffer() has failed, and that was reported */
    }
    fl_raise_uv(rc);
    fl_transport_fatal_error(t, "Fatal read error on socket transport");
}

/* HOT */
static void
read_cb(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf)
{
    FLTransport *t = fl_transport_of(stream);
    fl_loop_take_gil(t->loop);
    Py_INCREF(t);
    if (FL_UNLIKELY(!t->reading)) {
        uv_read_stop(stream); /* asked for inside alloc_cb */
    }
    bool own_buffer = t->buffer.obj != NULL;
    if (FL_LIKELY(nread > 0)) {
        if (own_buffer) {
            deliver_buffered(t, (size_t)nread);
        }
        else if (t->filter != NULL && t->loop->io->incoming == NULL) {
            deliver_to_filter(t, buf->base, (size_t)nread);
        }
        else {
            deliver(t, buf->base, (size_t)nread);
        }
    }
    else {
        if (own_buffer) {
            PyBuffer_Release(&t->buffer);
        }
        Py_CLEAR(t->loop->io->incoming);
        if (nread < 0) {
            read_failed(t, (int)nread);
        }
    }
    if (t->pending.count > 0 && fl_ring_count(&t->loop->ready) == 0) {
        /* nothing is scheduled that could write more in this turn: send the
           answer while connection and data are in the caches */
        fl_transport_flush(t);
    }
    Py_DECREF(t);
    FL_ASSERT(!PyErr_Occurred());
}

/* --- on and off --------------------------------------------------------------- */

void
fl_transport_start_reading(FLTransport *t)
{
    if (t->reading || t->phase != FL_TRANSPORT_OPEN) {
        return;
    }
    if (t->in_alloc) {
        t->reading = true; /* it never stopped */
        return;
    }
    int rc = uv_read_start(&t->uv.stream, alloc_cb, read_cb);
    if (rc < 0) {
        fl_raise_uv(rc);
        fl_transport_fatal_error(t, "Fatal read error on socket transport");
        return;
    }
    t->reading = true;
}

void
fl_transport_stop_reading(FLTransport *t)
{
    if (!t->reading) {
        return;
    }
    t->reading = false;
    if (!t->in_alloc) {
        uv_read_stop(&t->uv.stream);
    }
}
