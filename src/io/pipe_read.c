/* The read end of a pipe: from the kernel into the protocol.

   Data is read into the buffer that all streams of the loop share, and copied into
   a bytes object of the right size.  A pipe that has just brought much is expected
   to bring much again: the kernel then fills the bytes object itself. */
#include "io/pipe.h"

#include "base/errors.h"
#include "core/stream.h"

#include <errno.h>
#include <unistd.h>

#define LARGE_READ (32 * 1024)

/* How much the next read may bring, judged by this one: 0 for what the shared
   buffer serves best. */
static inline void
expect(FLPipe *p, size_t size)
{
    uint32_t room = 0;
    if (size >= LARGE_READ) {
        room = LARGE_READ;
        while (room < size && room < FL_SCRATCH_SIZE) {
            room *= 2;
        }
    }
    p->expected = room;
}

static ssize_t
read_without_interruption(int fd, char *buffer, size_t size)
{
    ssize_t n;
    do {
        n = read(fd, buffer, size);
    } while (n < 0 && errno == EINTR);
    return n;
}

/* Read once: *n as of read(2), the data if n > 0.  NULL with an exception set only
   if memory is short. */
static PyObject *
read_shared(FLPipe *p, ssize_t *n)
{
    char *scratch = fl_io_scratch(p->loop);
    if (scratch == NULL) {
        return PyErr_NoMemory();
    }
    *n = read_without_interruption(p->fd, scratch, FL_SCRATCH_SIZE);
    return *n > 0 ? PyBytes_FromStringAndSize(scratch, *n) : NULL;
}

static PyObject *
read_directly(FLPipe *p, ssize_t *n)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, p->expected);
    if (bytes == NULL) {
        return NULL;
    }
    *n = read_without_interruption(p->fd, PyBytes_AS_STRING(bytes),
                                   p->expected);
    int error = errno;
    if (*n > 0) {
        _PyBytes_Resize(&bytes, *n); /* leaves NULL on failure */
        return bytes;
    }
    Py_DECREF(bytes);
    errno = error;
    return NULL;
}

static void
end_of_data(FLPipe *p)
{
    if (!p->lost) {
        p->ended = true;
        fl_pipe_abort(p, NULL);
    }
}

/* Give the data to the reader of a stream, or to the protocol. */
static void
deliver(FLPipe *p, PyObject *data)
{
    fl_state *st = p->loop->st;
    PyObject *name = st->str.data_received;
    int fed = fl_stream_feed_protocol(st, p->protocol, data);
    if (fed > 0) {
        return;
    }
    PyObject *result = fed < 0 ? NULL : fl_pipe_call(p, name, data);
    if (FL_UNLIKELY(result == NULL)) {
        fl_pipe_call_failed(p, name, data);
    }
    Py_XDECREF(result);
}

/* HOT */
void
fl_pipe_read_ready(struct fl_watcher *watcher)
{
    FLPipe *p = FL_CONTAINER_OF(watcher, FLPipe, readable);
    ssize_t n = -1;
    Py_INCREF(p);
    PyObject *data =
        p->expected > 0 ? read_directly(p, &n) : read_shared(p, &n);
    if (FL_LIKELY(data != NULL)) {
        expect(p, (size_t)n);
        deliver(p, data);
        Py_DECREF(data);
    }
    else if (n == 0) {
        end_of_data(p);
    }
    else if (PyErr_Occurred() || (errno != EAGAIN && errno != EWOULDBLOCK)) {
        if (!PyErr_Occurred()) {
            PyErr_SetFromErrno(PyExc_OSError);
        }
        fl_pipe_fatal_error(p, "Fatal read error on pipe transport");
    }
    Py_DECREF(p);
    FL_ASSERT(!PyErr_Occurred());
}
