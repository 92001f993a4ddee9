/* StreamReader's readuntil(), and what is made of it: readline() and iteration. */
#include "prims/reader_wait.h"

/* readuntil() and the two that are made of it */
enum { UNTIL = 0, LINE, NEXT };

/* --- readuntil(), readline(), iteration -------------------------------------------------- */

/* Where sep, any bytes-like object, begins: -1 nowhere, -2 error. */
static FL_COLD Py_ssize_t
find_object(FLReader *reader, PyObject *sep, Py_ssize_t from)
{
    Py_buffer view;
    if (PyObject_GetBuffer(sep, &view, PyBUF_SIMPLE) < 0) {
        PyErr_Clear();
        PyObject *nothing = PyByteArray_FromStringAndSize(NULL, 0);
        PyObject *found = nothing == NULL
                              ? NULL
                              : PyObject_CallMethod(nothing, "find", "O", sep);
        Py_XDECREF(nothing);
        Py_XDECREF(found);
        if (found != NULL) {
            PyErr_SetString(PyExc_TypeError,
                            "a bytes-like separator expected");
        }
        return -2;
    }
    Py_ssize_t at =
        view.len == 0
            ? from
            : fl_stream_buffer_find(&reader->buffer, view.buf, view.len, from);
    PyBuffer_Release(&view);
    return at;
}

static inline Py_ssize_t
find(FLReader *reader, PyObject *sep, Py_ssize_t from)
{
    return FL_LIKELY(PyBytes_CheckExact(sep))
               ? fl_stream_buffer_find(&reader->buffer, PyBytes_AS_STRING(sep),
                                       PyBytes_GET_SIZE(sep), from)
               : find_object(reader, sep, from);
}

struct match {
    Py_ssize_t start;
    Py_ssize_t end;
};

/* The match that ends first.  1 found, 0 not, -1. */
static int
find_any(FLReader *reader, PyObject *seps, Py_ssize_t from,
         struct match *match)
{
    match->end = -1;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(seps); i++) {
        PyObject *sep = PyList_GET_ITEM(seps, i);
        Py_ssize_t at = find(reader, sep, from);
        Py_ssize_t size = at < 0 ? 0 : PyObject_Size(sep);
        if (at == -2 || size < 0) {
            return -1;
        }
        if (at >= 0 && (match->end < 0 || at + size < match->end)) {
            *match = (struct match){at, at + size};
        }
    }
    return match->end >= 0;
}

/* How long the shortest and the longest separator are.  0 or -1. */
static inline int
separator_sizes(PyObject *seps, Py_ssize_t *least, Py_ssize_t *most)
{
    if (FL_LIKELY(PyBytes_CheckExact(seps))) {
        *least = *most = PyBytes_GET_SIZE(seps);
        return 0;
    }
    Py_ssize_t n = PyList_GET_SIZE(seps);
    *least = PyObject_Size(PyList_GET_ITEM(seps, 0));
    *most = *least < 0 ? -1 : PyObject_Size(PyList_GET_ITEM(seps, n - 1));
    return *most < 0 ? -1 : 0;
}

/* Look from where nothing can have begun so far.  1 found, 0 not, -1; NO_ROOM: there is
   less data than a separator. */
#define NO_ROOM 2

static int
search(FLReader *reader, FLCoro *self, struct match *match)
{
    PyObject *seps = self->slots[FL_READ_ARGUMENT];
    Py_ssize_t least, most;
    if (separator_sizes(seps, &least, &most) < 0) {
        return -1;
    }
    Py_ssize_t size = fl_stream_buffer_size(&reader->buffer);
    Py_ssize_t from = (Py_ssize_t)self->number;
    if (size - from < least) {
        return NO_ROOM;
    }
    if (FL_LIKELY(PyBytes_CheckExact(seps))) {
        match->start = find(reader, seps, from);
        match->end = match->start + least;
        if (match->start >= 0) {
            return 1;
        }
    }
    else {
        int found = find_any(reader, seps, from, match);
        if (found != 0) {
            return found;
        }
    }
    from = size + 1 - most;
    self->number = from > 0 ? (double)from : 0.0;
    return 0;
}

static PyObject *
limit_overrun(FLReader *reader, bool found, Py_ssize_t consumed)
{
    return PyObject_CallFunction(
        reader->base.st->imp.LimitOverrunError, "sn",
        found ? "Separator is found, but chunk is longer than limit"
              : "Separator is not found, and chunk exceed the limit",
        consumed);
}

/* readline() on a LimitOverrunError (consumed bytes, as it says): the line goes, or
   all of it that there is, and ValueError comes.  Steals error. */
static FL_COLD PySendResult
drop_line(FLReader *reader, FL_STEALS(2) PyObject *error, Py_ssize_t consumed)
{
    struct fl_stream_buffer *buffer = &reader->buffer;
    Py_ssize_t size = fl_stream_buffer_size(buffer);
    bool found =
        consumed >= 0 && consumed < size
        && fl_stream_buffer_find(buffer, "\n", 1, consumed) == consumed;
    PyObject *args = PyObject_GetAttrString(error, "args");
    PyObject *message = args == NULL ? NULL : PySequence_GetItem(args, 0);
    Py_XDECREF(args);
    if (message != NULL
        && fl_stream_buffer_drop(buffer, found ? consumed + 1 : size) == 0
        && fl_reader_maybe_resume_any(reader) == 0) {
        PyErr_SetObject(PyExc_ValueError, message);
    }
    Py_XDECREF(message);
    PyObject *raised = fl_err_take();
    PyException_SetContext(raised, error);
    fl_err_give(raised);
    return PYGEN_ERROR;
}

static FL_COLD PySendResult
over_limit(FLReader *reader, const FLCoro *self, bool found,
           Py_ssize_t consumed)
{
    PyObject *error = limit_overrun(reader, found, consumed);
    if (error == NULL) {
        return PYGEN_ERROR;
    }
    if (self->option != UNTIL) {
        return drop_line(reader, error, consumed);
    }
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
    return PYGEN_ERROR;
}

static FL_COLD PySendResult
at_the_end(FLReader *reader, const FLCoro *self, PyObject **result)
{
    if (self->option == UNTIL) {
        return fl_reader_raise_incomplete(reader, Py_None);
    }
    *result = fl_stream_buffer_take(&reader->buffer,
                                    fl_stream_buffer_size(&reader->buffer));
    return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

/* HOT: once more over what there is */
static PySendResult
read_on(FLReader *reader, FLCoro *self, PyObject **result)
{
    struct match match;
    int found = search(reader, self, &match);
    if (FL_UNLIKELY(found < 0)) {
        return PYGEN_ERROR;
    }
    if (FL_LIKELY(found == 1)) {
        return FL_UNLIKELY(match.start > reader->limit)
                   ? over_limit(reader, self, true, match.start)
                   : fl_reader_give(reader, match.end, result);
    }
    Py_ssize_t offset = (Py_ssize_t)self->number;
    if (FL_UNLIKELY(found == 0 && offset > reader->limit)) {
        return over_limit(reader, self, false, offset);
    }
    return reader->eof ? at_the_end(reader, self, result)
                       : fl_reader_wait(reader, self, "readuntil", result);
}

/* Check the separators; several, or such as are not bytes, become a list. */
static FL_COLD int
prepare_separators(FLCoro *self)
{
    PyObject *given = self->slots[FL_READ_ARGUMENT];
    PyObject *seps =
        PyObject_CallOneArg(self->st->sup.stream_separators, given);
    if (seps == NULL) {
        return -1;
    }
    Py_SETREF(self->slots[FL_READ_ARGUMENT], seps);
    return 0;
}

static inline int
start_search(FLReader *reader, FLCoro *self)
{
    PyObject *sep = self->slots[FL_READ_ARGUMENT];
    if (FL_UNLIKELY(!PyBytes_CheckExact(sep) || PyBytes_GET_SIZE(sep) == 0)
        && prepare_separators(self) < 0) {
        return -1;
    }
    self->number = 0.0;
    return fl_reader_raise(reader) ? -1 : 0;
}

static PySendResult
until_run(FLCoro *self, PyObject *value, PyObject **result)
{
    FLReader *reader = (FLReader *)self->slots[FL_WAIT_OWNER];
    int ready = self->step != FL_READ_START
                    ? fl_reader_waited(reader, self, value)
                : value == NULL ? -1
                                : start_search(reader, self);
    return FL_UNLIKELY(ready < 0) ? PYGEN_ERROR
                                  : read_on(reader, self, result);
}

/* await self.name(argument), which somebody overrides */
static FL_COLD PySendResult
await_anothers(FLReader *reader, FLCoro *self, PyObject *name,
               PyObject *argument, PyObject **result)
{
    PyObject *read = fl_bound_call(&reader->base, name, argument);
    if (read == NULL) {
        return PYGEN_ERROR;
    }
    self->step = FL_READ_ANOTHERS;
    PySendResult status = fl_coro_await(self, read, result);
    Py_DECREF(read);
    return status;
}

/* A readuntil() that somebody overrides has given a line, or raised. */
static FL_COLD PySendResult
after_anothers(FLReader *reader, FLCoro *self, PyObject *value,
               PyObject **result)
{
    if (value != NULL) {
        *result = Py_NewRef(value);
        return PYGEN_RETURN;
    }
    bool incomplete =
        PyErr_ExceptionMatches(self->st->imp.IncompleteReadError);
    if (!incomplete
        && !PyErr_ExceptionMatches(self->st->imp.LimitOverrunError)) {
        return PYGEN_ERROR;
    }
    PyObject *error = fl_err_take();
    if (incomplete) {
        *result = PyObject_GetAttrString(error, "partial");
        Py_DECREF(error);
        return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
    }
    PyObject *consumed = PyObject_GetAttrString(error, "consumed");
    Py_ssize_t n = consumed == NULL ? -1 : PyNumber_AsSsize_t(consumed, NULL);
    Py_XDECREF(consumed);
    if (n == -1 && PyErr_Occurred()) {
        Py_DECREF(error);
        return PYGEN_ERROR;
    }
    return drop_line(reader, error, n);
}

/* HOT */
static PySendResult
line_run(FLCoro *self, PyObject *value, PyObject **result)
{
    FLReader *reader = (FLReader *)self->slots[FL_WAIT_OWNER];
    if (FL_UNLIKELY(self->step == FL_READ_ANOTHERS)) {
        return after_anothers(reader, self, value, result);
    }
    if (self->step == FL_READ_START
        && FL_UNLIKELY(fl_bound_overrides(&reader->base) & FL_OWN_READUNTIL)) {
        return await_anothers(reader, self, self->st->str.readuntil,
                              self->slots[FL_READ_ARGUMENT], result);
    }
    return until_run(self, value, result);
}

/* No more lines? */
static PySendResult
or_stop(PySendResult status, PyObject **result)
{
    if (status != PYGEN_RETURN || !PyBytes_Check(*result)
        || PyBytes_GET_SIZE(*result) > 0) {
        return status;
    }
    Py_CLEAR(*result);
    PyErr_SetNone(PyExc_StopAsyncIteration);
    return PYGEN_ERROR;
}

static PySendResult
next_run(FLCoro *self, PyObject *value, PyObject **result)
{
    FLReader *reader = (FLReader *)self->slots[FL_WAIT_OWNER];
    if (FL_UNLIKELY(self->count != 0)) { /* a readline() of somebody's */
        *result = Py_XNewRef(value);
        return or_stop(value == NULL ? PYGEN_ERROR : PYGEN_RETURN, result);
    }
    if (self->step == FL_READ_START
        && FL_UNLIKELY(fl_bound_overrides(&reader->base) & FL_OWN_READLINE)) {
        self->count = 1;
        return await_anothers(reader, self, self->st->str.readline, NULL,
                              result);
    }
    return or_stop(line_run(self, value, result), result);
}

/* --- making them ---------------------------------------------------------------------- */

static const struct fl_coro_kind until_kind = {
    "readuntil", "StreamReader.readuntil", until_run, NULL};
static const struct fl_coro_kind line_kind = {
    "readline", "StreamReader.readline", line_run, NULL};
static const struct fl_coro_kind next_kind = {
    "__anext__", "StreamReader.__anext__", next_run, NULL};

static inline PyObject *
make(FLReader *self, const struct fl_coro_kind *kind, PyObject *argument,
     uint8_t option)
{
    FLCoro *coro = fl_bound_coro(&self->base, kind);
    if (coro != NULL) {
        coro->slots[FL_READ_ARGUMENT] = Py_XNewRef(argument);
        coro->option = option;
    }
    return (PyObject *)coro;
}

PyObject *
fl_reader_readuntil(FLReader *self, PyObject *separator)
{
    return make(self, &until_kind, separator, UNTIL);
}

/* b"\n", of which the interpreter has only one */
static PyObject *
make_line(FLReader *self, const struct fl_coro_kind *kind, uint8_t option)
{
    PyObject *newline = PyBytes_FromStringAndSize("\n", 1);
    if (newline == NULL) {
        return NULL;
    }
    PyObject *coro = make(self, kind, newline, option);
    Py_DECREF(newline);
    return coro;
}

PyObject *
fl_reader_readline(FLReader *self)
{
    return make_line(self, &line_kind, LINE);
}

PyObject *
fl_reader_next(FLReader *self)
{
    return make_line(self, &next_kind, NEXT);
}
