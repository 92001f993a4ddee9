/* Reading: from the socket into the protocol.

   A Protocol gets a bytes object of the right size, copied out of one buffer that
   all streams of the loop share; the kernel fills it without the GIL if nothing
   has needed the GIL yet.  A BufferedProtocol's own buffer is filled directly. */
#include "base/errors.h"
#include "io/transport.h"

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
        size == NULL
            ? NULL
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

static void
alloc_cb(uv_handle_t *handle, size_t Py_UNUSED(hint), uv_buf_t *buf)
{
    FLTransport *t = handle->data;
    *buf = uv_buf_init(NULL, 0);
    if (FL_UNLIKELY(t->buffered)) {
        get_buffer(t, buf);
        return;
    }
    char *scratch = fl_io_scratch(t->loop);
    if (scratch != NULL) {
        *buf = uv_buf_init(scratch, FL_SCRATCH_SIZE);
    }
}

/* --- data ------------------------------------------------------------------------ */

/* HOT */
static void
deliver(FLTransport *t, const char *data, size_t size)
{
    PyObject *bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
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

/* The peer will send no more: the protocol says whether to stay half open. */
static void
end_of_stream(FLTransport *t)
{
    fl_transport_stop_reading(t);
    PyObject *result =
        fl_transport_call(t, t->loop->st->str.eof_received, NULL);
    int keep_open = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
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
        if (t->phase == FL_TRANSPORT_OPEN && !t->paused) {
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
        else {
            deliver(t, buf->base, (size_t)nread);
        }
    }
    else {
        if (own_buffer) {
            PyBuffer_Release(&t->buffer);
        }
        if (nread < 0) {
            read_failed(t, (int)nread);
        }
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
