/* Writing: what a turn has written leaves in one vectored write at its end.

   write() keeps a reference to bytes and copies what could change.  From
   FL_WRITE_COLLECT bytes on, or past the protocol's high-water mark if that is lower,
   it does not wait for the end of the turn, nor where no turn is under way.  What the
   kernel does not take at once is queued with libuv; only that counts as buffered, so
   that flow control and get_write_buffer_size() tell what asyncio's do. */
#include "base/errors.h"
#include "core/future.h"
#include "io/transport.h"

#include <errno.h>
#include <unistd.h>

#define DEFAULT_HIGH_WATER (64 * 1024)
#define BUFS_MAX           64
#define WARN_AFTER_WRITES  5

#ifdef MSG_NOSIGNAL
#  define SEND_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL)
#else
#  define SEND_FLAGS MSG_DONTWAIT
#endif

/* --- chunks ----------------------------------------------------------------- */

void
fl_transport_init_writing(FLTransport *t)
{
    t->pending.items = t->pending.own;
    t->pending.size = FL_CHUNKS_INLINE;
    t->high_water = DEFAULT_HIGH_WATER;
    t->low_water = DEFAULT_HIGH_WATER / 4;
}

static FL_COLD int
grow(struct fl_chunks *chunks)
{
    uint32_t size = chunks->size * 2;
    struct fl_chunk *items = PyMem_Malloc(size * sizeof(struct fl_chunk));
    if (items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(items, chunks->items, chunks->count * sizeof(struct fl_chunk));
    if (chunks->items != chunks->own) {
        PyMem_Free(chunks->items);
    }
    chunks->items = items;
    chunks->size = size;
    return 0;
}

static void
release_chunks(struct fl_chunk *items, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        Py_DECREF(items[i].bytes);
    }
}

/* Forget the chunks without releasing them. */
static void
reset(struct fl_chunks *chunks)
{
    if (chunks->items != chunks->own) {
        PyMem_Free(chunks->items);
        chunks->items = chunks->own;
        chunks->size = FL_CHUNKS_INLINE;
    }
    chunks->count = 0;
    chunks->bytes = 0;
}

void
fl_transport_drop_pending(FLTransport *t)
{
    if (t->phase != FL_TRANSPORT_NEW) {
        release_chunks(t->pending.items, t->pending.count);
        reset(&t->pending);
    }
}

/* Steals bytes, also on failure. */
static inline int
append(FLTransport *t, FL_STEALS(2) PyObject *bytes, const char *data,
       size_t size)
{
    struct fl_chunks *chunks = &t->pending;
    if (FL_UNLIKELY(chunks->count == chunks->size) && grow(chunks) < 0) {
        Py_DECREF(bytes);
        return -1;
    }
    chunks->items[chunks->count++] = (struct fl_chunk){bytes, data, size};
    chunks->bytes += size;
    return 0;
}

/* --- what libuv holds ------------------------------------------------------------- */

/* A write that the kernel did not take at once. */
struct queued {
    uv_write_t req;
    FLTransport
        *transport; /* borrowed: attached until all writes have ended */
    uint32_t count;
    struct fl_chunk chunks[];
};

size_t
fl_transport_unsent(const FLTransport *t)
{
    if (t->phase == FL_TRANSPORT_NEW || t->lost) {
        return 0; /* what libuv still holds then will not be sent */
    }
    return t->pending.bytes + t->uv.stream.write_queue_size;
}

void
fl_transport_check_empty(FLTransport *t)
{
    FLFuture *waiter = (FLFuture *)t->empty_waiter;
    if (FL_LIKELY(waiter == NULL) || fl_future_done(waiter)
        || fl_transport_unsent(t) > 0) {
        return;
    }
    if (fl_future_set_result(waiter, Py_None) < 0) {
        fl_loop_set_fatal(t->loop);
    }
}

/* All is sent: do what waited for that. */
static void
drained(FLTransport *t)
{
    if (t->lost || fl_transport_unsent(t) > 0) {
        return;
    }
    fl_transport_check_empty(t);
    if (t->phase == FL_TRANSPORT_CLOSING) {
        fl_transport_lose(t, NULL);
    }
    else if (t->eof_written && !t->write_closed) {
        t->write_closed = true;
        if (shutdown(fl_transport_fd(t), SHUT_WR) < 0 && errno != ENOTCONN) {
            PyErr_SetFromErrno(PyExc_OSError);
            fl_transport_fatal_error(t,
                                     "Fatal write error on socket transport");
        }
    }
}

static void
check_low_water(FLTransport *t)
{
    if (!t->protocol_paused || fl_transport_unsent(t) > t->low_water) {
        return;
    }
    t->protocol_paused = false;
    if (t->filter != NULL) {
        t->filter->ops->resume_writing(t->filter);
        return;
    }
    PyObject *result =
        fl_transport_call_flow(t, t->loop->st->str.resume_writing);
    if (result == NULL) {
        fl_transport_flow_failed(t, "protocol.resume_writing() failed");
    }
    Py_XDECREF(result);
}

static void
write_cb(uv_write_t *req, int status)
{
    struct queued *q = FL_CONTAINER_OF(req, struct queued, req);
    FLTransport *t = q->transport;
    fl_loop_take_gil(t->loop);
    Py_INCREF(t);
    release_chunks(q->chunks, q->count);
    PyMem_RawFree(q);
    if (status < 0 && status != UV_ECANCELED) {
        if (!t->lost) {
            fl_raise_uv(status);
            fl_transport_fatal_error(t,
                                     "Fatal write error on socket transport");
        }
    }
    else if (!t->lost) {
        check_low_water(t);
        drained(t);
    }
    Py_DECREF(t);
    FL_ASSERT(!PyErr_Occurred());
}

/* Drop the first `sent` bytes of what is pending. */
static void
consume(struct fl_chunks *p, size_t sent)
{
    p->bytes -= sent;
    uint32_t first = 0;
    while (first < p->count && sent >= p->items[first].size) {
        sent -= p->items[first].size;
        Py_DECREF(p->items[first].bytes);
        first++;
    }
    if (first == p->count) {
        reset(p);
        return;
    }
    p->items[first].data += sent;
    p->items[first].size -= sent;
    p->count -= first;
    memmove(p->items, p->items + first, p->count * sizeof(struct fl_chunk));
}

static void
fill_bufs(uv_buf_t *bufs, const struct fl_chunk *chunks, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        bufs[i].base = (char *)chunks[i].data;
        bufs[i].len = chunks[i].size;
    }
}

/* Give what is pending to libuv.  0 or a libuv error. */
static int
queue_pending(FLTransport *t)
{
    struct fl_chunks *p = &t->pending;
    struct queued *q = PyMem_RawMalloc(sizeof(struct queued)
                                       + p->count * sizeof(struct fl_chunk));
    uv_buf_t *bufs = PyMem_RawMalloc(p->count * sizeof(uv_buf_t));
    int rc = UV_ENOMEM;
    if (q != NULL && bufs != NULL) {
        memcpy(q->chunks, p->items, p->count * sizeof(struct fl_chunk));
        q->count = p->count;
        fill_bufs(bufs, q->chunks, q->count);
        rc = uv_write(&q->req, &t->uv.stream, bufs, q->count, write_cb);
    }
    PyMem_RawFree(bufs);
    if (rc < 0) {
        PyMem_RawFree(q);
        return rc;
    }
    q->transport = t;
    reset(p);
    return 0;
}

/* --- flushing ------------------------------------------------------------------ */

/* Give the kernel what it takes of one piece: how many bytes, or a libuv error.
   Nothing may be queued with libuv.  This is uv_try_write() but for the send(),
   which costs less than a write(). */
static inline ssize_t
try_send(const FLTransport *t, const char *data, size_t size)
{
    FL_ASSERT(t->uv.stream.write_queue_size == 0);
    ssize_t n;
    do {
        n = send(t->fd, data, size, SEND_FLAGS);
    } while (FL_UNLIKELY(n < 0 && errno == EINTR));
    if (FL_LIKELY(n >= 0)) {
        return n;
    }
    /* libuv waits when the kernel is short of buffers, too */
    return errno == ENOBUFS ? UV_EAGAIN : uv_translate_sys_error(errno);
}

static inline ssize_t
try_send_chunks(FLTransport *t, const struct fl_chunk *chunks, uint32_t n)
{
    if (FL_LIKELY(n == 1)) {
        return try_send(t, chunks->data, chunks->size);
    }
    uv_buf_t bufs[BUFS_MAX];
    fill_bufs(bufs, chunks, n);
    return uv_try_write(&t->uv.stream, bufs, n);
}

/* Hand what is pending to the kernel, and what it does not take to libuv.  0 or a
   libuv error. */
static int
send_pending(FLTransport *t)
{
    struct fl_chunks *p = &t->pending;
    if (t->uv.stream.write_queue_size > 0) {
        return queue_pending(t);
    }
    for (;;) {
        uint32_t n = p->count < BUFS_MAX ? p->count : BUFS_MAX;
        ssize_t rc = try_send_chunks(t, p->items, n);
        if (rc < 0 && rc != UV_EAGAIN) {
            return (int)rc;
        }
        if (FL_LIKELY(rc >= 0 && (size_t)rc == p->bytes)) {
            release_chunks(p->items, p->count);
            reset(p);
            return 0;
        }
        uint32_t before = p->count;
        consume(p, rc < 0 ? 0 : (size_t)rc);
        if (before - p->count < n) {
            return queue_pending(t); /* the kernel's buffer is full */
        }
    }
}

static FL_COLD void
write_failed(FLTransport *t, int rc)
{
    fl_transport_drop_pending(t);
    fl_raise_uv(rc);
    fl_transport_fatal_error(t, "Fatal write error on socket transport");
}

/* HOT */
void
fl_transport_flush(FLTransport *t)
{
    fl_list_unlink(&t->flush.node);
    if (FL_LIKELY(t->pending.count > 0)) {
        if (t->lost) {
            fl_transport_drop_pending(t);
            return;
        }
        int rc = send_pending(t);
        if (FL_UNLIKELY(rc < 0)) {
            write_failed(t, rc);
            return;
        }
        fl_transport_check_high_water(t);
    }
    if (FL_UNLIKELY(t->phase == FL_TRANSPORT_CLOSING || t->eof_written)) {
        drained(t);
    }
}

void
fl_transport_check_high_water(FLTransport *t)
{
    if (FL_LIKELY(t->protocol_paused
                  || fl_transport_unsent(t) <= t->high_water)) {
        return;
    }
    t->protocol_paused = true;
    if (t->filter != NULL) {
        t->filter->ops->pause_writing(t->filter);
        return;
    }
    PyObject *result =
        fl_transport_call_flow(t, t->loop->st->str.pause_writing);
    if (result == NULL) {
        fl_transport_flow_failed(t, "protocol.pause_writing() failed");
    }
    Py_XDECREF(result);
}

/* --- write ----------------------------------------------------------------------- */

static FL_COLD int
drop_write(FLTransport *t)
{
    int status = 0;
    if (t->writes_after_loss >= WARN_AFTER_WRITES) {
        PyObject *result =
            PyObject_CallNoArgs(t->loop->st->sup.warn_send_failed);
        status = result == NULL ? -1 : 0;
        Py_XDECREF(result);
    }
    else {
        t->writes_after_loss++;
    }
    return status;
}

/* Copy what is not bytes; a memoryview of bytes is taken as it is. */
static int
append_object(FLTransport *t, PyObject *data)
{
    if (FL_LIKELY(PyBytes_CheckExact(data))) {
        return append(t, Py_NewRef(data), PyBytes_AS_STRING(data),
                      (size_t)PyBytes_GET_SIZE(data));
    }
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    int status;
    if (view.obj != NULL && PyBytes_CheckExact(view.obj)) {
        status = append(t, Py_NewRef(view.obj), view.buf, (size_t)view.len);
    }
    else {
        PyObject *copy = PyBytes_FromStringAndSize(view.buf, view.len);
        status = copy == NULL ? -1
                              : append(t, copy, PyBytes_AS_STRING(copy),
                                       (size_t)view.len);
    }
    PyBuffer_Release(&view);
    return status;
}

/* Much data that may change: send what the kernel takes straight from it, and
   copy the rest only. */
static int
write_large_mutable(FLTransport *t, PyObject *data)
{
    fl_transport_flush(t);
    if (t->lost) {
        return drop_write(t);
    }
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    size_t sent = 0;
    if (t->uv.stream.write_queue_size == 0) {
        ssize_t rc = try_send(t, view.buf, (size_t)view.len);
        if (rc < 0 && rc != UV_EAGAIN) {
            PyBuffer_Release(&view);
            /* a second attempt would fail otherwise */
            write_failed(t, (int)rc);
            return 0;
        }
        sent = rc < 0 ? 0 : (size_t)rc;
    }
    int status = 0;
    if (sent < (size_t)view.len) {
        size_t rest = (size_t)view.len - sent;
        PyObject *copy = PyBytes_FromStringAndSize(
            (const char *)view.buf + sent, (Py_ssize_t)rest);
        status =
            copy == NULL ? -1 : append(t, copy, PyBytes_AS_STRING(copy), rest);
    }
    PyBuffer_Release(&view);
    if (status == 0) {
        fl_transport_flush(t);
    }
    return status;
}

static Py_ssize_t
size_of(FLTransport *t, PyObject *data)
{
    if (PyBytes_Check(data)) {
        return PyBytes_GET_SIZE(data);
    }
    if (PyByteArray_Check(data)) {
        return PyByteArray_GET_SIZE(data);
    }
    if (PyMemoryView_Check(data)) {
        return PyMemoryView_GET_BUFFER(data)->len;
    }
    PyErr_Format(PyExc_TypeError, "data argument must be a %U, not '%s'",
                 t->loop->st->sup.data_kinds, fl_type_name(Py_TYPE(data)));
    return -1;
}

/* May what is pending wait for the end of the turn?  Not past the high-water mark:
   pause_writing() has to come within the write() that passes it. */
static inline bool
may_collect(const FLTransport *t)
{
    return t->pending.bytes < FL_WRITE_COLLECT && t->loop->running
           && (t->protocol_paused
               || t->pending.bytes + t->uv.stream.write_queue_size
                      <= t->high_water);
}

/* HOT */
int
fl_transport_write(FLTransport *t, PyObject *data)
{
    Py_ssize_t size = size_of(t, data);
    if (FL_UNLIKELY(size < 0)) {
        return -1;
    }
    if (FL_UNLIKELY(t->eof_written)) {
        PyErr_SetString(PyExc_RuntimeError,
                        "Cannot call write() after write_eof()");
        return -1;
    }
    if (FL_UNLIKELY(t->empty_waiter != NULL)) {
        PyErr_SetString(PyExc_RuntimeError,
                        "unable to write; sendfile is in progress");
        return -1;
    }
    if (FL_UNLIKELY(size == 0)) {
        return 0;
    }
    if (FL_UNLIKELY(t->lost)) {
        return drop_write(t);
    }
    if (FL_UNLIKELY((size_t)size > FL_WRITE_COLLECT
                    && !PyBytes_CheckExact(data))) {
        return write_large_mutable(t, data);
    }
    if (append_object(t, data) < 0) {
        return -1;
    }
    if (FL_LIKELY(may_collect(t))) {
        fl_loop_flush_later(t->loop, &t->flush);
    }
    else {
        fl_transport_flush(t);
    }
    return 0;
}

/* HOT */
void
fl_transport_send(FLTransport *t, const char *data, size_t size)
{
    if (FL_UNLIKELY(t->pending.count > 0)) {
        fl_transport_flush(t);
    }
    if (t->lost || t->eof_written) {
        return;
    }
    size_t sent = 0;
    if (FL_LIKELY(t->uv.stream.write_queue_size == 0)) {
        ssize_t rc = try_send(t, data, size);
        if (FL_UNLIKELY(rc < 0 && rc != UV_EAGAIN)) {
            write_failed(t, (int)rc);
            return;
        }
        sent = rc < 0 ? 0 : (size_t)rc;
    }
    if (FL_LIKELY(sent == size)) {
        return;
    }
    PyObject *rest =
        PyBytes_FromStringAndSize(data + sent, (Py_ssize_t)(size - sent));
    if (rest == NULL
        || append(t, rest, PyBytes_AS_STRING(rest), size - sent) < 0) {
        fl_transport_fatal_error(t, "Fatal write error on socket transport");
        return;
    }
    fl_transport_flush(t);
}

int
fl_transport_write_eof(FLTransport *t)
{
    if (t->phase >= FL_TRANSPORT_CLOSING || t->eof_written) {
        return 0;
    }
    t->eof_written = true;
    fl_transport_flush(t);
    return 0;
}
