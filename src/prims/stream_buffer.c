#include "prims/stream_buffer.h"

/* Neighbours that are together no larger are joined, so that a peer who sends byte by
   byte cannot make us keep an object for each. */
#define JOIN_MAX 512

void
fl_stream_buffer_init(struct fl_stream_buffer *b)
{
    b->items = b->own;
    b->size = FL_STREAM_CHUNKS;
}

static inline Py_ssize_t
chunk_size(const struct fl_stream_buffer *b, uint32_t i)
{
    Py_ssize_t size = PyBytes_GET_SIZE(b->items[b->head + i]);
    return i == 0 ? size - b->offset : size;
}

static inline const char *
chunk_data(const struct fl_stream_buffer *b, uint32_t i)
{
    const char *data = PyBytes_AS_STRING(b->items[b->head + i]);
    return i == 0 ? data + b->offset : data;
}

/* The first chunk leaves, its reference to the caller. */
static inline PyObject *
pop(struct fl_stream_buffer *b)
{
    PyObject *first = b->items[b->head];
    b->total -= PyBytes_GET_SIZE(first) - b->offset;
    b->offset = 0;
    b->head++;
    if (--b->count == 0) {
        b->head = 0;
    }
    return first;
}

/* Bytes are freed without running code. */
static void
drop_chunks(struct fl_stream_buffer *b)
{
    while (b->count > 0) {
        Py_DECREF(pop(b));
    }
    if (b->items != b->own) {
        PyMem_Free(b->items);
        b->items = b->own;
        b->size = FL_STREAM_CHUNKS;
    }
}

void
fl_stream_buffer_reset(struct fl_stream_buffer *b)
{
    if (b->items != NULL) {
        drop_chunks(b);
    }
    Py_CLEAR(b->shown);
}

/* --- adding ----------------------------------------------------------------------- */

static int
make_room(struct fl_stream_buffer *b)
{
    if (b->head > 0) {
        memmove(b->items, b->items + b->head, b->count * sizeof(PyObject *));
        b->head = 0;
        return 0;
    }
    if (b->size > UINT32_MAX / 2) {
        PyErr_NoMemory();
        return -1;
    }
    PyObject **items = PyMem_Malloc((size_t)b->size * 2 * sizeof(PyObject *));
    if (items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(items, b->items, b->count * sizeof(PyObject *));
    if (b->items != b->own) {
        PyMem_Free(b->items);
    }
    b->items = items;
    b->size *= 2;
    return 0;
}

/* Put the last chunk and data into one new object. */
static int
join_last(struct fl_stream_buffer *b, PyObject *data)
{
    uint32_t last = b->count - 1;
    Py_ssize_t before = chunk_size(b, last);
    Py_ssize_t more = PyBytes_GET_SIZE(data);
    PyObject *joined = PyBytes_FromStringAndSize(NULL, before + more);
    if (joined == NULL) {
        return -1;
    }
    memcpy(PyBytes_AS_STRING(joined), chunk_data(b, last), (size_t)before);
    memcpy(PyBytes_AS_STRING(joined) + before, PyBytes_AS_STRING(data),
           (size_t)more);
    Py_SETREF(b->items[b->head + last], joined);
    if (last == 0) {
        b->offset = 0;
    }
    b->total += more;
    return 0;
}

static int
append_shown(PyObject *shown, PyObject *data)
{
    Py_ssize_t size = PyByteArray_GET_SIZE(shown);
    Py_ssize_t more = PyBytes_GET_SIZE(data);
    if (more > PY_SSIZE_T_MAX - size) {
        PyErr_NoMemory();
        return -1;
    }
    if (PyByteArray_Resize(shown, size + more) < 0) {
        return -1;
    }
    memcpy(PyByteArray_AS_STRING(shown) + size, PyBytes_AS_STRING(data),
           (size_t)more);
    return 0;
}

/* HOT */
int
fl_stream_buffer_append(struct fl_stream_buffer *b, PyObject *data)
{
    FL_ASSERT(PyBytes_CheckExact(data));
    Py_ssize_t more = PyBytes_GET_SIZE(data);
    if (FL_UNLIKELY(b->shown != NULL)) {
        return append_shown(b->shown, data);
    }
    if (b->count > 0 && more <= JOIN_MAX
        && chunk_size(b, b->count - 1) <= JOIN_MAX - more) {
        return join_last(b, data);
    }
    if (FL_UNLIKELY(b->head + b->count == b->size) && make_room(b) < 0) {
        return -1;
    }
    b->items[b->head + b->count++] = Py_NewRef(data);
    b->total += more;
    return 0;
}

/* --- taking ------------------------------------------------------------------------ */

/* Move n bytes out of the chunks; to may be NULL. */
static void
move_out(struct fl_stream_buffer *b, char *to, Py_ssize_t n)
{
    while (n > 0) {
        Py_ssize_t size = chunk_size(b, 0);
        Py_ssize_t part = size < n ? size : n;
        if (to != NULL) {
            memcpy(to, chunk_data(b, 0), (size_t)part);
            to += part;
        }
        n -= part;
        if (part == size) {
            Py_DECREF(pop(b));
        }
        else {
            b->offset += part;
            b->total -= part;
        }
    }
}

static PyObject *
take_shown(PyObject *shown, Py_ssize_t n)
{
    Py_ssize_t size = PyByteArray_GET_SIZE(shown);
    n = n < size ? n : size;
    PyObject *data =
        PyBytes_FromStringAndSize(PyByteArray_AS_STRING(shown), n);
    if (data != NULL && PySequence_DelSlice(shown, 0, n) < 0) {
        Py_CLEAR(data);
    }
    return data;
}

/* HOT */
PyObject *
fl_stream_buffer_take(struct fl_stream_buffer *b, Py_ssize_t n)
{
    if (FL_UNLIKELY(b->shown != NULL)) {
        PyObject *shown = Py_NewRef(b->shown);
        PyObject *taken = take_shown(shown, n);
        Py_DECREF(shown);
        return taken;
    }
    if (FL_UNLIKELY(n > b->total)) {
        n = b->total;
    }
    if (FL_LIKELY(b->count > 0 && b->offset == 0
                  && PyBytes_GET_SIZE(b->items[b->head]) == n)) {
        return pop(b);
    }
    PyObject *data = PyBytes_FromStringAndSize(NULL, n);
    if (data != NULL) {
        move_out(b, PyBytes_AS_STRING(data), n);
    }
    return data;
}

int
fl_stream_buffer_drop(struct fl_stream_buffer *b, Py_ssize_t n)
{
    Py_ssize_t size = fl_stream_buffer_size(b);
    n = n < size ? n : size;
    if (b->shown != NULL) {
        PyObject *shown = Py_NewRef(b->shown);
        int status = PySequence_DelSlice(shown, 0, n);
        Py_DECREF(shown);
        return status;
    }
    move_out(b, NULL, n);
    return 0;
}

/* --- finding ----------------------------------------------------------------------- */

/* Do the n bytes of sep begin at position at of chunk i, going on in the next ones? */
static bool
continues(const struct fl_stream_buffer *b, uint32_t i, Py_ssize_t at,
          const char *sep, Py_ssize_t n)
{
    for (; i < b->count; i++, at = 0) {
        Py_ssize_t size = chunk_size(b, i) - at;
        Py_ssize_t part = size < n ? size : n;
        if (memcmp(chunk_data(b, i) + at, sep, (size_t)part) != 0) {
            return false;
        }
        sep += part;
        n -= part;
        if (n == 0) {
            return true;
        }
    }
    return false;
}

static Py_ssize_t
find_in(const char *data, Py_ssize_t size, const char *sep, Py_ssize_t n)
{
    if (size < n) {
        return -1;
    }
    const char *found = n == 1 ? memchr(data, sep[0], (size_t)size)
                               : memmem(data, (size_t)size, sep, (size_t)n);
    return found == NULL ? -1 : found - data;
}

/* In chunk i from position at on, or over its end. */
static Py_ssize_t
find_from(const struct fl_stream_buffer *b, uint32_t i, Py_ssize_t at,
          const char *sep, Py_ssize_t n)
{
    Py_ssize_t size = chunk_size(b, i);
    Py_ssize_t found = find_in(chunk_data(b, i) + at, size - at, sep, n);
    if (found >= 0) {
        return found + at;
    }
    if (size - n + 1 > at) {
        at = size - n + 1;
    }
    for (; at < size && i + 1 < b->count; at++) {
        if (continues(b, i, at, sep, n)) {
            return at;
        }
    }
    return -1;
}

Py_ssize_t
fl_stream_buffer_find(const struct fl_stream_buffer *b, const char *sep,
                      Py_ssize_t n, Py_ssize_t from)
{
    if (from > fl_stream_buffer_size(b)) {
        return -1;
    }
    if (b->shown != NULL) {
        Py_ssize_t size = PyByteArray_GET_SIZE(b->shown) - from;
        Py_ssize_t found =
            find_in(PyByteArray_AS_STRING(b->shown) + from, size, sep, n);
        return found < 0 ? -1 : found + from;
    }
    Py_ssize_t begins = 0; /* where chunk i does */
    for (uint32_t i = 0; i < b->count; i++) {
        Py_ssize_t size = chunk_size(b, i);
        if (from < begins + size) {
            Py_ssize_t at = from > begins ? from - begins : 0;
            Py_ssize_t found = find_from(b, i, at, sep, n);
            if (found >= 0) {
                return begins + found;
            }
        }
        begins += size;
    }
    return -1;
}

/* --- what Python sees ---------------------------------------------------------------- */

PyObject *
fl_stream_buffer_show(struct fl_stream_buffer *b)
{
    if (b->shown == NULL) {
        PyObject *shown = PyByteArray_FromStringAndSize(NULL, b->total);
        if (shown == NULL) {
            return NULL;
        }
        move_out(b, PyByteArray_AS_STRING(shown), b->total);
        drop_chunks(b);
        b->shown = shown;
    }
    return Py_NewRef(b->shown);
}

void
fl_stream_buffer_replace(struct fl_stream_buffer *b, PyObject *bytearray)
{
    drop_chunks(b);
    Py_XSETREF(b->shown, Py_NewRef(bytearray));
}
