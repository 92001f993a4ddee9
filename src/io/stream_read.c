/* Reading: from the socket into the protocol.

   libuv says when there is something; that it asks for a buffer first is refused, so
   that the read is ours: recv() costs less than the read() that libuv uses, and a
   protocol is called where it may close the transport.

   A Protocol gets a bytes object of the right size, copied out of one buffer that
   all streams of the loop share; the kernel fills it without the GIL if nothing
   has needed the GIL yet.  A connection that has just received much is expected to
   receive much again: the kernel then fills the bytes object itself.  A
   BufferedProtocol's own buffer is always filled directly.

   What much data has made ready runs before more is read, while it is in the caches. */
#include "base/errors.h"
#include "core/stream.h"
#include "io/received.h"
#include "io/transport.h"

#include <errno.h>

#define LARGE_READ (32 * 1024)
/* As long as the kernel has more, read so often before others get their turn. */
#define READS_MAX 32
/* As much as stays in a processor's own cache (a megabyte, or two) besides what is
   made of it. */
#define CATCH_UP_BYTES (64 * 1024)

/* --- buffers ----------------------------------------------------------------- */

/* A BufferedProtocol's buffer; 0, or -1 with an exception. */
static int
get_buffer(FLTransport *t, Py_buffer *view)
{
    PyObject *size = PyLong_FromLong(-1);
    PyObject *buffer =
        size == NULL ? NULL
                     : fl_transport_call(t, t->loop->st->str.get_buffer, size);
    Py_XDECREF(size);
    if (buffer == NULL) {
        return -1;
    }
    int status = PyObject_GetBuffer(buffer, view, PyBUF_WRITABLE);
    Py_DECREF(buffer);
    if (status == 0 && view->len == 0) {
        PyBuffer_Release(view);
        PyErr_SetString(PyExc_RuntimeError,
                        "get_buffer() returned an empty buffer");
        return -1;
    }
    return status;
}

/* Fill the buffer: how many bytes; 0 at the end, or a libuv error. */
static inline ssize_t
receive(const FLTransport *t, char *buffer, size_t size)
{
    ssize_t n;
    do {
        n = recv(t->fd, buffer, size, MSG_DONTWAIT);
    } while (FL_UNLIKELY(n < 0 && errno == EINTR));
    if (FL_UNLIKELY(n < 0)) {
        return uv_translate_sys_error(errno);
    }
    t->loop->received += (size_t)n;
    return n;
}

/* --- data ------------------------------------------------------------------------ */

/* How much the next reads may bring, judged by all that has come at once: 0 for what
   the shared buffer serves best. */
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

/* Give the data to the reader of a stream, or to the protocol.  0 or -1. */
static inline int
deliver_bytes(FLTransport *t, PyObject *bytes)
{
    fl_state *st = t->loop->st;
    int fed = fl_stream_feed_protocol(st, t->protocol, bytes);
    if (fed != 0) {
        return fed < 0 ? -1 : 0;
    }
    PyObject *result = fl_transport_call(t, st->str.data_received, bytes);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Steals bytes, which are NULL with an exception if there was no memory. */
static void
deliver(FLTransport *t, FL_STEALS(2) PyObject *bytes)
{
    int status = bytes == NULL ? -1 : deliver_bytes(t, bytes);
    Py_XDECREF(bytes);
    if (FL_UNLIKELY(status < 0)) {
        fl_transport_fatal_error(
            t, "Fatal error: protocol.data_received() call failed.");
    }
}

static void
deliver_size(FLTransport *t, size_t size)
{
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

/* A filter uses the data where the kernel has put it: in the shared buffer, which is
   nobody else's meanwhile. */
static void
deliver_to_filter(FLTransport *t, char *scratch, size_t size)
{
    struct fl_io *io = t->loop->io;
    PyObject *protocol = Py_NewRef(t->protocol);
    io->scratch = NULL;
    int status = t->filter->ops->received(t->filter, scratch, size);
    PyMem_RawFree(io->scratch); /* of a read inside of this one */
    io->scratch = scratch;
    if (FL_UNLIKELY(status < 0)) {
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

/* What recv() has said instead of a number of bytes. */
static FL_COLD void
no_data(FLTransport *t, ssize_t rc)
{
    if (rc == UV_EAGAIN) {
        return;
    }
    fl_transport_stop_reading(t);
    if (rc == 0) {
        end_of_stream(t);
        return;
    }
    fl_raise_uv((int)rc);
    fl_transport_fatal_error(t, "Fatal read error on socket transport");
}

/* --- one read: true if the kernel may have more ----------------------------------- */

static bool
read_buffered(FLTransport *t)
{
    fl_loop_take_gil(t->loop);
    Py_buffer view;
    if (get_buffer(t, &view) < 0) {
        fl_transport_fatal_error(
            t, "Fatal error: protocol.get_buffer() call failed.");
        return false;
    }
    /* also if get_buffer() has paused or closed: as with asyncio */
    ssize_t n = receive(t, view.buf, (size_t)view.len);
    bool full = n == view.len;
    PyBuffer_Release(&view);
    if (FL_LIKELY(n > 0)) {
        deliver_size(t, (size_t)n);
    }
    else {
        no_data(t, n);
    }
    return full;
}

static Py_ssize_t
receive_from(void *transport, char *place, size_t size)
{
    return receive(transport, place, size);
}

/* Let the kernel fill the buffer of a stream's reader, if that has one that is simple to
   fill.  1: it did, and has said *n; -1 after a fatal error. */
static inline int
read_into_reader(FLTransport *t, size_t size, Py_ssize_t *n)
{
    int filled = fl_stream_fill_protocol(t->loop->st, t->protocol, size,
                                         receive_from, t, n);
    if (FL_UNLIKELY(filled < 0)) {
        fl_transport_fatal_error(
            t, "Fatal error: protocol.data_received() call failed.");
    }
    return filled;
}

/* Much is expected: the kernel puts it into its final place. */
static bool
read_directly(FLTransport *t)
{
    fl_loop_take_gil(t->loop);
    size_t size = t->expected;
    Py_ssize_t got;
    int filled = read_into_reader(t, size, &got);
    if (filled != 0) {
        if (filled > 0 && FL_UNLIKELY(got <= 0)) {
            no_data(t, got);
        }
        return filled > 0 && got == (Py_ssize_t)size;
    }
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (bytes == NULL) {
        PyErr_Clear();
        t->expected = 0; /* without one the shared buffer serves */
        return true;
    }
    ssize_t n = receive(t, PyBytes_AS_STRING(bytes), size);
    if (FL_UNLIKELY(n <= 0)) {
        Py_DECREF(bytes);
        no_data(t, n);
        return false;
    }
    _PyBytes_Resize(&bytes, n); /* leaves NULL on failure */
    deliver(t, bytes);
    return (size_t)n == size;
}

/* HOT */
static bool
read_shared(FLTransport *t)
{
    char *scratch = fl_io_scratch(t->loop);
    ssize_t n = scratch == NULL ? 0 : receive(t, scratch, FL_SCRATCH_SIZE);
    fl_loop_take_gil(t->loop);
    if (FL_UNLIKELY(scratch == NULL)) {
        PyErr_NoMemory();
        fl_transport_fatal_error(t, "Fatal read error on socket transport");
        return false;
    }
    if (FL_UNLIKELY(n <= 0)) {
        no_data(t, n);
        return false;
    }
    if (t->filter != NULL) {
        deliver_to_filter(t, scratch, (size_t)n);
    }
    else {
        deliver(t, fl_received_bytes(t->loop, scratch, (size_t)n));
    }
    return n == FL_SCRATCH_SIZE;
}

static inline bool
read_once(FLTransport *t)
{
    if (FL_UNLIKELY(t->buffered)) {
        return read_buffered(t);
    }
    return t->expected > 0 && t->filter == NULL ? read_directly(t)
                                                : read_shared(t);
}

/* libuv asks for a buffer: it gets none, and then calls read_cb at once. */
static void
alloc_cb(uv_handle_t *Py_UNUSED(handle), size_t Py_UNUSED(hint), uv_buf_t *buf)
{
    *buf = uv_buf_init(NULL, 0);
}

/* HOT */
static void
read_cb(uv_stream_t *stream, ssize_t Py_UNUSED(nread),
        const uv_buf_t *Py_UNUSED(buf))
{
    FLTransport *t = fl_transport_of(stream); /* the loop holds it */
    if (FL_UNLIKELY(!t->reading)) {
        fl_transport_stop_reading(t);
        return;
    }
    if (fl_loop_has_ended(t->loop)) {
        return; /* what has come is for the next run, or for the parent of a fork */
    }
    size_t before = t->loop->received;
    int left = READS_MAX;
    while (FL_UNLIKELY(read_once(t)) && t->reading && t->loop->fatal == NULL
           && --left > 0) {
    }
    expect(t, t->loop->received - before);
    fl_loop_take_gil(t->loop);
    if (fl_ring_count(&t->loop->ready) == 0) {
        if (t->pending.count > 0) {
            /* nothing is scheduled that could write more in this turn: send the
               answer while connection and data are in the caches */
            fl_transport_flush(t);
        }
    }
    else if (FL_UNLIKELY(t->loop->received >= CATCH_UP_BYTES)) {
        fl_loop_catch_up(t->loop);
    }
    FL_ASSERT(!PyErr_Occurred());
}

/* --- on and off --------------------------------------------------------------- */

void
fl_transport_start_reading(FLTransport *t)
{
    if (t->reading || t->phase != FL_TRANSPORT_OPEN) {
        return;
    }
    int rc = t->watched ? 0 : uv_read_start(&t->uv.stream, alloc_cb, read_cb);
    if (rc < 0) {
        fl_raise_uv(rc);
        fl_transport_fatal_error(t, "Fatal read error on socket transport");
        return;
    }
    t->reading = t->watched = true;
}

void
fl_transport_stop_reading(FLTransport *t)
{
    t->reading = false;
    if (t->watched) {
        t->watched = false;
        uv_read_stop(&t->uv.stream);
    }
}

/* A stream's reader that has got much pauses, and goes on as soon as its task has run:
   libuv, and the kernel, are told only if there is more before that. */
void
fl_transport_pause_reading(FLTransport *t)
{
    t->reading = false;
}
