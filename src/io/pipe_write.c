/* The write end of a pipe: at once what the kernel takes, the rest when it can.

   bytes are held, what is mutable is copied.  As with asyncio, a write end that is
   paused is resumed when all is written, and one whose reader has gone is lost
   without a write telling so. */
#include "io/pipe.h"

#include "base/errors.h"
#include "core/report.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

#define BUFS_MAX          64
#define WARN_AFTER_WRITES 5

/* --- the queue --------------------------------------------------------------------- */

void
fl_pipe_drop_queue(FLPipe *p)
{
    struct fl_pipe_queue q = p->queue;
    p->queue = (struct fl_pipe_queue){0};
    for (uint32_t i = 0; i < q.count; i++) {
        Py_DECREF(q.items[q.first + i]);
    }
    PyMem_Free(q.items);
}

/* Room for one more at the end. */
static int
make_room(struct fl_pipe_queue *q)
{
    if (q->first + q->count < q->size) {
        return 0;
    }
    if (q->first > 0) {
        memmove(q->items, q->items + q->first, q->count * sizeof(PyObject *));
        q->first = 0;
        return 0;
    }
    uint32_t size = q->size == 0 ? 4 : q->size * 2;
    PyObject **items = PyMem_Realloc(q->items, size * sizeof(PyObject *));
    if (items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    q->items = items;
    q->size = size;
    return 0;
}

/* Keep what is left of view after the first n bytes. */
static int
keep(FLPipe *p, const Py_buffer *view, size_t n)
{
    struct fl_pipe_queue *q = &p->queue;
    bool first = q->count == 0;
    size_t left = (size_t)view->len - n;
    if (make_room(q) < 0) {
        return -1;
    }
    /* a view of all of a bytes object, and nothing that could change */
    bool whole = view->obj != NULL && PyBytes_CheckExact(view->obj)
                 && view->buf == PyBytes_AS_STRING(view->obj)
                 && view->len == PyBytes_GET_SIZE(view->obj)
                 && (n == 0 || first);
    PyObject *bytes =
        whole ? Py_NewRef(view->obj)
              : PyBytes_FromStringAndSize((const char *)view->buf + n,
                                          (Py_ssize_t)left);
    if (bytes == NULL) {
        return -1;
    }
    if (first) {
        q->offset = whole ? n : 0;
    }
    q->items[q->first + q->count++] = bytes;
    q->bytes += left;
    return 0;
}

/* Forget the first n bytes. */
static void
consume(struct fl_pipe_queue *q, size_t n)
{
    q->bytes -= n;
    while (q->count > 0) {
        PyObject *oldest = q->items[q->first];
        size_t left = (size_t)PyBytes_GET_SIZE(oldest) - q->offset;
        if (n < left) {
            q->offset += n;
            return;
        }
        n -= left;
        q->offset = 0;
        q->first++;
        q->count--;
        Py_DECREF(oldest);
    }
    q->first = 0;
}

static ssize_t
write_queue(FLPipe *p)
{
    const struct fl_pipe_queue *q = &p->queue;
    struct iovec bufs[BUFS_MAX];
    int count = q->count < BUFS_MAX ? (int)q->count : BUFS_MAX;
    size_t offset = q->offset;
    for (int i = 0; i < count; i++) {
        PyObject *bytes = q->items[q->first + (uint32_t)i];
        bufs[i].iov_base = PyBytes_AS_STRING(bytes) + offset;
        bufs[i].iov_len = (size_t)PyBytes_GET_SIZE(bytes) - offset;
        offset = 0;
    }
    ssize_t n;
    do {
        n = writev(p->fd, bufs, count);
    } while (n < 0 && errno == EINTR);
    return n;
}

/* --- flow control ------------------------------------------------------------------ */

static FL_COLD void
flow_failed(FLPipe *p, const char *message)
{
    PyObject *exc = fl_err_take();
    if (fl_exception_is_fatal(exc)) {
        fl_err_give(exc);
        fl_loop_set_fatal(p->loop);
        return;
    }
    PyObject *context = Py_BuildValue(
        "{s:s,s:O,s:O,s:O}", "message", message, "exception", exc, "transport",
        p, "protocol", p->protocol == NULL ? Py_None : p->protocol);
    Py_DECREF(exc);
    if (context == NULL) {
        PyErr_WriteUnraisable((PyObject *)p);
        return;
    }
    fl_report_to_handler(p->loop->st, (PyObject *)p->loop, context);
    Py_DECREF(context);
}

void
fl_pipe_check_high_water(FLPipe *p)
{
    if (p->protocol_paused || p->queue.bytes <= p->high_water) {
        return;
    }
    p->protocol_paused = true;
    PyObject *result = fl_pipe_call(p, p->loop->st->str.pause_writing, NULL);
    if (result == NULL) {
        flow_failed(p, "protocol.pause_writing() failed");
    }
    Py_XDECREF(result);
}

static void
check_low_water(FLPipe *p)
{
    if (!p->protocol_paused || p->queue.bytes > p->low_water) {
        return;
    }
    p->protocol_paused = false;
    PyObject *result = fl_pipe_call(p, p->loop->st->str.resume_writing, NULL);
    if (result == NULL) {
        flow_failed(p, "protocol.resume_writing() failed");
    }
    Py_XDECREF(result);
}

/* --- events ------------------------------------------------------------------------ */

/* HOT */
void
fl_pipe_write_ready(struct fl_watcher *watcher)
{
    FLPipe *p = FL_CONTAINER_OF(watcher, FLPipe, writable);
    Py_INCREF(p);
    FL_ASSERT(p->queue.count > 0);
    ssize_t n = write_queue(p);
    if (FL_LIKELY(n >= 0)) {
        consume(&p->queue, (size_t)n);
        if (p->queue.bytes == 0) {
            fl_pipe_unwatch(p, FL_WRITE);
            check_low_water(p); /* may write again */
            if (p->phase == FL_PIPE_CLOSING && p->queue.bytes == 0) {
                fl_pipe_abort(p, NULL);
            }
        }
    }
    else if (errno != EAGAIN && errno != EWOULDBLOCK) {
        PyErr_SetFromErrno(PyExc_OSError);
        p->writes_after_loss++;
        fl_pipe_fatal_error(p, "Fatal write error on pipe transport");
    }
    Py_DECREF(p);
    FL_ASSERT(!PyErr_Occurred());
}

void
fl_pipe_peer_closed(struct fl_watcher *watcher)
{
    FLPipe *p = FL_CONTAINER_OF(watcher, FLPipe, readable);
    PyObject *exc = NULL;
    Py_INCREF(p);
    if (p->queue.bytes > 0) {
        exc = PyObject_CallNoArgs(PyExc_BrokenPipeError);
        if (exc == NULL) {
            PyErr_WriteUnraisable((PyObject *)p);
        }
    }
    fl_pipe_abort(p, exc);
    Py_XDECREF(exc);
    Py_DECREF(p);
    FL_ASSERT(!PyErr_Occurred());
}

/* --- write ------------------------------------------------------------------------- */

static FL_COLD int
drop_write(FLPipe *p)
{
    int status = 0;
    if (p->writes_after_loss >= WARN_AFTER_WRITES) {
        PyObject *result =
            PyObject_CallNoArgs(p->loop->st->sup.warn_pipe_write_failed);
        status = result == NULL ? -1 : 0;
        Py_XDECREF(result);
    }
    p->writes_after_loss++;
    return status;
}

/* Write what the kernel takes of view.  0, or -1 with errno set. */
static int
write_now(FLPipe *p, const Py_buffer *view, size_t *written)
{
    ssize_t n;
    do {
        n = write(p->fd, view->buf, (size_t)view->len);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
        return -1;
    }
    *written = n < 0 ? 0 : (size_t)n;
    return 0;
}

/* Write view, keep the rest; -1 with an exception. */
static int
write_view(FLPipe *p, const Py_buffer *view)
{
    size_t written = 0;
    if (p->queue.count == 0) {
        if (FL_UNLIKELY(write_now(p, view, &written) < 0)) {
            PyErr_SetFromErrno(PyExc_OSError);
            p->writes_after_loss++;
            fl_pipe_fatal_error(p, "Fatal write error on pipe transport");
            return 0;
        }
        if (FL_LIKELY(written == (size_t)view->len)) {
            return 0;
        }
        if (fl_pipe_watch(p, FL_WRITE) < 0) {
            return -1;
        }
    }
    return keep(p, view, written);
}

/* HOT */
int
fl_pipe_write(FLPipe *p, PyObject *data)
{
    if (FL_UNLIKELY(!PyBytes_Check(data) && !PyByteArray_Check(data)
                    && !PyMemoryView_Check(data))) {
        PyErr_Format(PyExc_AssertionError, "%R", data); /* as asyncio's is */
        return -1;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    int status = 0;
    if (view.len > 0) {
        status = FL_UNLIKELY(p->phase != FL_PIPE_OPEN) ? drop_write(p)
                                                       : write_view(p, &view);
    }
    PyBuffer_Release(&view);
    if (FL_UNLIKELY(status == 0 && p->queue.bytes > p->high_water)) {
        fl_pipe_check_high_water(p);
    }
    return status;
}

void
fl_pipe_write_eof(FLPipe *p)
{
    if (p->phase != FL_PIPE_OPEN) {
        return;
    }
    p->phase = FL_PIPE_CLOSING;
    if (p->queue.count == 0) {
        fl_pipe_abort(p, NULL);
    }
}
