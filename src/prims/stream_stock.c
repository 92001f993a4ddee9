/* Feeding asyncio's own StreamReader without running its code, for programs that are
   not patched.

   What asyncio's StreamReaderProtocol.data_received() does to its reader is done here,
   attribute by attribute, as long as both are exactly asyncio's classes, nobody has
   put another method into a class or an object, and all is as simple as it mostly is:
   a task of ours waits or nobody, and if there is too much data the transport is one of
   ours.  In every other case nothing is done and the method is called.

   Much data is received into the reader's buffer: no bytes object is made of it. */
#include "prims/stream_stock.h"

#include "core/future.h"
#include "core/stream.h"

/* The functions of asyncio's that this stands for: places in
   sup.stream_stock_methods, which is None if they are not asyncio's own. */
enum { DATA_RECEIVED, STREAM_READER, FEED_DATA, WAKEUP_WAITER };

static inline bool
is_function(fl_state *st, PyTypeObject *type, PyObject *name, int place)
{
    PyObject *found = PyObject_GetAttr((PyObject *)type, name);
    Py_XDECREF(found); /* if it is ours it lives */
    PyErr_Clear();
    return found == PyTuple_GET_ITEM(st->sup.stream_stock_methods, place);
}

static bool
has_plain_attributes(const PyTypeObject *type)
{
    return type->tp_getattro == PyObject_GenericGetAttr
           && type->tp_setattro == PyObject_GenericSetAttr;
}

/* A class was changed since we last looked: are the methods still asyncio's? */
static FL_COLD bool
check_classes(fl_state *st)
{
    PyTypeObject *protocol =
        (PyTypeObject *)st->imp.asyncio_StreamReaderProtocol;
    PyTypeObject *reader = (PyTypeObject *)st->imp.asyncio_StreamReader;
    if (!PyTuple_CheckExact(st->sup.stream_stock_methods)
        || !has_plain_attributes(protocol) || !has_plain_attributes(reader)
        || !is_function(st, protocol, st->str.data_received, DATA_RECEIVED)
        || !is_function(st, protocol, st->str._stream_reader, STREAM_READER)
        || !is_function(st, reader, st->str.feed_data, FEED_DATA)
        || !is_function(st, reader, st->str._wakeup_waiter, WAKEUP_WAITER)) {
        return false;
    }
    /* looking them up has given the classes their tags */
    st->stream_stock.protocol = protocol->tp_version_tag;
    st->stream_stock.reader = reader->tp_version_tag;
    return true;
}

static inline bool
are_plain_classes(fl_state *st)
{
    const PyTypeObject *protocol =
        (PyTypeObject *)st->imp.asyncio_StreamReaderProtocol;
    const PyTypeObject *reader = (PyTypeObject *)st->imp.asyncio_StreamReader;
    return FL_LIKELY(protocol->tp_version_tag == st->stream_stock.protocol
                     && reader->tp_version_tag == st->stream_stock.reader
                     && st->stream_stock.protocol != 0
                     && st->stream_stock.reader != 0)
           || check_classes(st);
}

/* Is this method of an object the function of its class? */
static inline bool
is_own_method(fl_state *st, PyObject *object, PyObject *name, int place)
{
    PyObject *method = PyObject_GetAttr(object, name);
    if (FL_UNLIKELY(method == NULL)) {
        PyErr_Clear();
        return false;
    }
    bool own = PyMethod_Check(method)
               && PyMethod_GET_FUNCTION(method)
                      == PyTuple_GET_ITEM(st->sup.stream_stock_methods, place);
    Py_DECREF(method);
    return own;
}

/* An attribute, NULL if it is not there. */
static inline PyObject *
get(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(object, name);
    if (FL_UNLIKELY(value == NULL)) {
        PyErr_Clear();
    }
    return value;
}

/* The protocol's reader, if that is asyncio's, too. */
static PyObject *
reader_of(fl_state *st, PyObject *protocol)
{
    PyObject *ref = get(protocol, st->str._stream_reader_wr);
    PyObject *reader = NULL;
    if (ref != NULL && PyWeakref_CheckRefExact(ref)
        && fl_weakref_get(ref, &reader) < 0) {
        PyErr_Clear();
    }
    Py_XDECREF(ref);
    if (reader != NULL
        && (!Py_IS_TYPE(reader, (PyTypeObject *)st->imp.asyncio_StreamReader)
            || !is_own_method(st, reader, st->str.feed_data, FEED_DATA)
            || !is_own_method(st, reader, st->str._wakeup_waiter,
                              WAKEUP_WAITER))) {
        Py_CLEAR(reader);
    }
    return reader;
}

/* Is nobody waiting, or a task on our own loop? */
static inline bool
wakes_directly(const fl_state *st, PyObject *waiter)
{
    return waiter == Py_None
           || (waiter != NULL && Py_IS_TYPE(waiter, st->FutureType)
               && fl_future_direct_loop((FLFuture *)waiter) != NULL
               && ((FLFuture *)waiter)->state != FL_FUTURE_FINISHED);
}

/* How many bytes the reader takes before it pauses its transport; -1: unknown. */
static Py_ssize_t
room_of(fl_state *st, PyObject *reader)
{
    PyObject *limit = get(reader, st->str._limit);
    Py_ssize_t room = -1;
    if (limit != NULL && PyLong_CheckExact(limit)) {
        room = PyLong_AsSsize_t(limit);
        PyErr_Clear();
        room = room < 0 || room > PY_SSIZE_T_MAX / 2 ? -1 : 2 * room;
    }
    Py_XDECREF(limit);
    return room;
}

static inline bool
is_at_eof(fl_state *st, PyObject *reader)
{
    PyObject *eof = get(reader, st->str._eof);
    Py_XDECREF(eof); /* False, which lives */
    return eof != Py_False;
}

/* buffer.extend(data) */
static int
extend(PyObject *buffer, PyObject *data)
{
    Py_ssize_t size = PyByteArray_GET_SIZE(buffer);
    Py_ssize_t more = PyBytes_GET_SIZE(data);
    if (PyByteArray_Resize(buffer, size + more) < 0) {
        return -1;
    }
    memcpy(PyByteArray_AS_STRING(buffer) + size, PyBytes_AS_STRING(data),
           (size_t)more);
    return 0;
}

static int
wake(fl_state *st, PyObject *reader, PyObject *waiter)
{
    if (waiter == Py_None) {
        return 0;
    }
    if (PyObject_SetAttr(reader, st->str._waiter, Py_None) < 0) {
        return -1;
    }
    FLFuture *future = (FLFuture *)waiter;
    return fl_future_done(future) ? 0 : fl_future_set_result(future, Py_None);
}

/* A reader that takes data in the simple way. */
struct target {
    PyObject *reader, *buffer, *waiter; /* owned */
    PyObject
        *transport; /* owned; one of ours, to be paused if there is too much */
    const struct fl_stream_transport *ops; /* of that */
    Py_ssize_t room;
};

static inline void
release(struct target *target)
{
    Py_XDECREF(target->transport);
    Py_XDECREF(target->waiter);
    Py_XDECREF(target->buffer);
    Py_XDECREF(target->reader);
}

/* Is there a transport of ours which the reader has not paused? */
static bool
may_pause(fl_state *st, struct target *target)
{
    PyObject *paused = get(target->reader, st->str._paused);
    Py_XDECREF(paused); /* False, which lives */
    target->transport = get(target->reader, st->str._transport);
    if (paused != Py_False || target->transport == NULL) {
        return false;
    }
    target->ops = fl_stream_transport_of(st, target->transport);
    return target->ops != NULL;
}

/* Whether so much may go to the protocol's reader; then the target is filled in. */
static inline bool
may_feed(fl_state *st, PyObject *protocol, size_t size, struct target *target)
{
    *target = (struct target){0};
    if (FL_UNLIKELY(!are_plain_classes(st)
                    || !is_own_method(st, protocol, st->str.data_received,
                                      DATA_RECEIVED))) {
        return false;
    }
    PyObject *reader = target->reader = reader_of(st, protocol);
    if (FL_UNLIKELY(reader == NULL) || is_at_eof(st, reader)) {
        return false;
    }
    PyObject *buffer = target->buffer = get(reader, st->str._buffer);
    target->waiter = get(reader, st->str._waiter);
    target->room = room_of(st, reader);
    if (buffer == NULL || !PyByteArray_CheckExact(buffer)
        || !wakes_directly(st, target->waiter) || target->room < 0) {
        return false;
    }
    return PyByteArray_GET_SIZE(buffer) <= target->room - (Py_ssize_t)size
           || may_pause(st, target);
}

/* What follows when data is in the buffer.  0, or -1 with an exception. */
static int
after_feeding(fl_state *st, struct target *target)
{
    if (wake(st, target->reader, target->waiter) < 0) {
        return -1;
    }
    if (PyByteArray_GET_SIZE(target->buffer) <= target->room) {
        return 0;
    }
    FL_ASSERT(target->ops != NULL);
    if (target->ops->pause_reading(target->transport) < 0) {
        return -1;
    }
    return PyObject_SetAttr(target->reader, st->str._paused, Py_True);
}

/* HOT */
int
fl_stock_feed(fl_state *st, PyObject *protocol, PyObject *data)
{
    struct target target;
    int fed = 0;
    if (may_feed(st, protocol, (size_t)PyBytes_GET_SIZE(data), &target)) {
        fed = extend(target.buffer, data) < 0 || after_feeding(st, &target) < 0
                  ? -1
                  : 1;
    }
    release(&target);
    return fed;
}

/* Make room in a buffer and let the source fill it.  0, or -1 with an exception. */
static int
take_from(PyObject *buffer, size_t size, fl_stream_source source, void *from,
          Py_ssize_t *got)
{
    Py_ssize_t before = PyByteArray_GET_SIZE(buffer);
    if (PyByteArray_Resize(buffer, before + (Py_ssize_t)size) < 0) {
        return -1;
    }
    *got = source(from, PyByteArray_AS_STRING(buffer) + before, size);
    return PyByteArray_Resize(buffer, before + (*got > 0 ? *got : 0));
}

/* HOT */
int
fl_stock_fill(fl_state *st, PyObject *protocol, size_t size,
              fl_stream_source source, void *from, Py_ssize_t *got)
{
    struct target target;
    int filled = 0;
    if (may_feed(st, protocol, size, &target)) {
        filled = take_from(target.buffer, size, source, from, got);
        if (filled == 0 && *got > 0) {
            filled = after_feeding(st, &target);
        }
        filled = filled < 0 ? -1 : 1;
    }
    release(&target);
    return filled;
}
