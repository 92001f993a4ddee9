/* StreamReader's read() and readexactly().

   Who finds enough data takes it at once.  Who does not waits for a future in
   `_waiter`, which whatever feeds the reader makes done, and looks again.  Only one
   may wait. */
#include "prims/reader_wait.h"

#define NUMBER_MAX ((Py_ssize_t)1 << 53) /* what a double holds exactly */

/* The sign of n, and n as a number of bytes (all there can be if it is larger).
   What is no int is compared as Python would.  -1 with an exception, 0. */
static int
number_of_bytes(PyObject *n, int *sign, Py_ssize_t *bytes)
{
    if (FL_UNLIKELY(!PyLong_Check(n))) {
        PyObject *zero = PyLong_FromLong(0);
        int is_zero =
            zero == NULL ? -1 : PyObject_RichCompareBool(n, zero, Py_EQ);
        int less = is_zero < 0 ? -1 : PyObject_RichCompareBool(n, zero, Py_LT);
        Py_XDECREF(zero);
        if (less < 0) {
            return -1;
        }
        *sign = is_zero ? 0 : less ? -1 : 1;
        *bytes = 0;
        if (*sign <= 0) {
            return 0;
        }
    }
    *bytes = PyNumber_AsSsize_t(n, NULL);
    if (*bytes == -1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_SetString(PyExc_TypeError,
                            "slice indices must be integers or None or have "
                            "an __index__ method");
        }
        return -1;
    }
    if (*bytes > NUMBER_MAX) {
        *bytes = NUMBER_MAX;
    }
    *sign = *bytes == 0 ? 0 : *bytes < 0 ? -1 : 1;
    return 0;
}

static PySendResult
give_nothing(PyObject **result)
{
    *result = PyBytes_FromStringAndSize(NULL, 0);
    return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

/* --- read() ------------------------------------------------------------------------ */

static int
keep_block(FLCoro *self, FL_STEALS(2) PyObject *block)
{
    int status =
        block == NULL ? -1 : PyList_Append(self->slots[FL_READ_BLOCKS], block);
    Py_XDECREF(block);
    return status;
}

static PySendResult
join_blocks(FLCoro *self, PyObject **result)
{
    PyObject *nothing = PyBytes_FromStringAndSize(NULL, 0);
    *result = nothing == NULL
                  ? NULL
                  : PyObject_CallMethod(nothing, "join", "O",
                                        self->slots[FL_READ_BLOCKS]);
    Py_XDECREF(nothing);
    return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

/* How much asyncio reads at once of everything. */
static inline Py_ssize_t
block_size(const FLReader *reader)
{
    Py_ssize_t limit = reader->limit;
    return limit < 0 || limit > NUMBER_MAX ? NUMBER_MAX : limit;
}

/* Until the end: what there is each time.  Who was woken and finds nothing, because
   somebody else has read it, takes that for the end, as in asyncio. */
static PySendResult
read_all(FLReader *reader, FLCoro *self, bool woken, PyObject **result)
{
    for (;; woken = false) {
        Py_ssize_t size = fl_stream_buffer_size(&reader->buffer);
        if (!woken && fl_reader_raise(reader)) {
            return PYGEN_ERROR;
        }
        if (size == 0 && !woken && !reader->eof) {
            self->number = (double)block_size(reader);
            return fl_reader_wait(reader, self, "read", result);
        }
        if (FL_UNLIKELY(reader->exception != NULL)) {
            /* asyncio's next block raises; this one is as large as when it was
               asked for */
            Py_ssize_t most =
                woken ? (Py_ssize_t)self->number : block_size(reader);
            size = size < most ? size : most;
        }
        PyObject *block;
        if (fl_reader_give(reader, size, &block) != PYGEN_RETURN
            || keep_block(self, block) < 0) {
            return PYGEN_ERROR;
        }
        if (size == 0) {
            return join_blocks(self, result);
        }
    }
}

/* The same by calling a read() that somebody overrides; block is what it gave. */
static FL_COLD PySendResult
read_all_by_name(FLReader *reader, FLCoro *self, PyObject *block,
                 PyObject **result)
{
    if (block != NULL) {
        int some = PyObject_IsTrue(block);
        if (some <= 0) {
            return some < 0 ? PYGEN_ERROR : join_blocks(self, result);
        }
        if (keep_block(self, Py_NewRef(block)) < 0) {
            return PYGEN_ERROR;
        }
    }
    PyObject *limit = reader->given_limit == NULL
                          ? PyLong_FromSsize_t(reader->limit)
                          : Py_NewRef(reader->given_limit);
    PyObject *read = limit == NULL ? NULL
                                   : fl_bound_call(&reader->base,
                                                   self->st->str.read, limit);
    Py_XDECREF(limit);
    if (read == NULL) {
        return PYGEN_ERROR;
    }
    self->step = FL_READ_ANOTHERS;
    PySendResult status = fl_coro_await(self, read, result);
    Py_DECREF(read);
    return status;
}

static PySendResult
start_reading_all(FLReader *reader, FLCoro *self, PyObject **result)
{
    self->slots[FL_READ_BLOCKS] = PyList_New(0);
    if (self->slots[FL_READ_BLOCKS] == NULL) {
        return PYGEN_ERROR;
    }
    return fl_bound_overrides(&reader->base) & FL_OWN_READ
               ? read_all_by_name(reader, self, NULL, result)
               : read_all(reader, self, false, result);
}

/* HOT */
static PySendResult
read_run(FLCoro *self, PyObject *value, PyObject **result)
{
    FLReader *reader = (FLReader *)self->slots[FL_WAIT_OWNER];
    if (self->step != FL_READ_START) {
        if (fl_reader_waited(reader, self, value) < 0) {
            return PYGEN_ERROR;
        }
        if (self->slots[FL_READ_BLOCKS] != NULL) {
            return self->step == FL_READ_ANOTHERS
                       ? read_all_by_name(reader, self, value, result)
                       : read_all(reader, self, true, result);
        }
    }
    else {
        if (value == NULL || fl_reader_raise(reader)) {
            return PYGEN_ERROR;
        }
        int sign = -1;
        Py_ssize_t n = -1;
        if (self->slots[FL_READ_ARGUMENT] != NULL
            && number_of_bytes(self->slots[FL_READ_ARGUMENT], &sign, &n) < 0) {
            return PYGEN_ERROR;
        }
        if (sign <= 0) {
            return sign == 0 ? give_nothing(result)
                             : start_reading_all(reader, self, result);
        }
        self->number = (double)n;
        if (fl_stream_buffer_size(&reader->buffer) == 0 && !reader->eof) {
            return fl_reader_wait(reader, self, "read", result);
        }
    }
    Py_ssize_t size = fl_stream_buffer_size(&reader->buffer);
    Py_ssize_t n = (Py_ssize_t)self->number;
    return fl_reader_give(reader, n < size ? n : size, result);
}

/* --- readexactly() ------------------------------------------------------------------- */

/* HOT */
static PySendResult
exactly_run(FLCoro *self, PyObject *value, PyObject **result)
{
    FLReader *reader = (FLReader *)self->slots[FL_WAIT_OWNER];
    if (self->step != FL_READ_START) {
        if (fl_reader_waited(reader, self, value) < 0) {
            return PYGEN_ERROR;
        }
    }
    else {
        int sign;
        Py_ssize_t n;
        if (value == NULL
            || number_of_bytes(self->slots[FL_READ_ARGUMENT], &sign, &n) < 0) {
            return PYGEN_ERROR;
        }
        if (sign < 0) {
            PyErr_SetString(PyExc_ValueError,
                            "readexactly size can not be less than zero");
            return PYGEN_ERROR;
        }
        if (fl_reader_raise(reader)) {
            return PYGEN_ERROR;
        }
        if (n == 0) {
            return give_nothing(result);
        }
        self->number = (double)n;
    }
    Py_ssize_t n = (Py_ssize_t)self->number;
    if (fl_stream_buffer_size(&reader->buffer) >= n) {
        return fl_reader_give(reader, n, result);
    }
    if (reader->eof) {
        return fl_reader_raise_incomplete(reader,
                                          self->slots[FL_READ_ARGUMENT]);
    }
    return fl_reader_wait(reader, self, "readexactly", result);
}

/* --- making them ---------------------------------------------------------------------- */

static const struct fl_coro_kind read_kind = {"read", "StreamReader.read",
                                              read_run, NULL};
static const struct fl_coro_kind exactly_kind = {
    "readexactly", "StreamReader.readexactly", exactly_run, NULL};

static inline PyObject *
make(FLReader *self, const struct fl_coro_kind *kind, PyObject *n)
{
    FLCoro *coro = fl_bound_coro(&self->base, kind);
    if (coro != NULL) {
        coro->slots[FL_READ_ARGUMENT] = Py_XNewRef(n);
    }
    return (PyObject *)coro;
}

PyObject *
fl_reader_read(FLReader *self, PyObject *n)
{
    return make(self, &read_kind, n);
}

PyObject *
fl_reader_readexactly(FLReader *self, PyObject *n)
{
    return make(self, &exactly_kind, n);
}
