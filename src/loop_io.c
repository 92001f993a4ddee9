#include "loop_io.h"

#include "core/context.h"
#include "core/debug.h"
#include "io/pipe.h"
#include "io/transport.h"
#include "io/watch.h"

/* --- watching the user's descriptors --------------------------------------------- */

/* The number behind an int or an object with fileno(); -1 with ValueError.  A
   closed socket answers -1 itself, which *closed tells. */
static int
descriptor_of(fl_state *st, PyObject *file, bool *closed)
{
    *closed = false;
    PyObject *number = NULL;
    if (PyLong_Check(file)) {
        number = Py_NewRef(file);
    }
    else {
        PyObject *answer = PyObject_CallMethodNoArgs(file, st->str.fileno);
        number = answer == NULL ? NULL : PyNumber_Long(answer);
        Py_XDECREF(answer);
    }
    if (number == NULL) {
        if (PyErr_ExceptionMatches(PyExc_AttributeError)
            || PyErr_ExceptionMatches(PyExc_TypeError)
            || PyErr_ExceptionMatches(PyExc_ValueError)) {
            PyErr_Format(PyExc_ValueError, "Invalid file object: %R", file);
        }
        return -1;
    }
    long fd = PyLong_AsLong(number);
    Py_DECREF(number);
    if (fd == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (fd < 0 || fd > INT_MAX) {
        *closed = !PyLong_Check(file);
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %ld", fd);
        return -1;
    }
    return (int)fd;
}

/* Watch; returns the Handle. */
static PyObject *
add(FLLoop *self, PyObject *const *args, Py_ssize_t nargs,
    enum fl_direction direction, const char *method)
{
    if (nargs < 2) {
        PyErr_Format(PyExc_TypeError,
                     "%s() takes a file descriptor and a callback", method);
        return NULL;
    }
    bool closed;
    int fd = descriptor_of(self->st, args[0], &closed);
    if (fd < 0 || fl_watch_check_free(self, fd, args[0]) < 0
        || fl_loop_check_open(self) < 0) {
        return NULL;
    }
    FLHandle *handle = fl_handle_new(self, args[1], args + 2, nargs - 2, NULL);
    if (handle == NULL) {
        return NULL;
    }
    if (fl_watch_set_handle(self, fd, direction, handle) < 0
        || (!PyLong_Check(args[0])
            && fl_watch_set_file(self, fd, args[0]) < 0)) {
        Py_DECREF(handle);
        return NULL;
    }
    return (PyObject *)handle;
}

static PyObject *
none_for(PyObject *handle)
{
    if (handle == NULL) {
        return NULL;
    }
    Py_DECREF(handle);
    Py_RETURN_NONE;
}

static PyObject *
remove_watch(FLLoop *self, PyObject *file, enum fl_direction direction)
{
    bool closed;
    int fd = descriptor_of(self->st, file, &closed);
    if (fd < 0) {
        if (!closed) {
            return NULL;
        }
        fd = fl_watch_find_file(self, file);
        if (fd < 0) {
            return NULL;
        }
        PyErr_Clear();
    }
    if (fl_watch_check_free(self, fd, file) < 0) {
        return NULL;
    }
    return PyBool_FromLong(fl_watch_remove(self, fd, direction));
}

const char fl_add_reader_doc[] =
    "add_reader($self, fd, callback, /, *args)\n--\n\n"
    "Call callback(*args) whenever fd (an int, or an object with fileno())\n"
    "can be read.  Replaces an earlier callback.  Raises RuntimeError if a\n"
    "transport uses fd.";

PyObject *
fl_loop_add_reader(FLLoop *self, PyObject *const *args, Py_ssize_t nargs)
{
    return none_for(add(self, args, nargs, FL_READ, "add_reader"));
}

const char fl_add_writer_doc[] =
    "add_writer($self, fd, callback, /, *args)\n--\n\n"
    "Call callback(*args) whenever fd (an int, or an object with fileno())\n"
    "can be written.  Replaces an earlier callback.  Raises RuntimeError if a\n"
    "transport uses fd.";

PyObject *
fl_loop_add_writer(FLLoop *self, PyObject *const *args, Py_ssize_t nargs)
{
    return none_for(add(self, args, nargs, FL_WRITE, "add_writer"));
}

const char fl_add_writer_handle_doc[] =
    "_add_writer($self, fd, callback, /, *args)\n--\n\n"
    "add_writer() that returns the Handle: it is cancelled when another\n"
    "callback takes its place.";

PyObject *
fl_loop_add_writer_handle(FLLoop *self, PyObject *const *args,
                          Py_ssize_t nargs)
{
    return add(self, args, nargs, FL_WRITE, "_add_writer");
}

const char fl_remove_reader_doc[] =
    "remove_reader($self, fd, /)\n--\n\n"
    "Undo add_reader(); return whether there was a callback.";

PyObject *
fl_loop_remove_reader(FLLoop *self, PyObject *file)
{
    return remove_watch(self, file, FL_READ);
}

const char fl_remove_writer_doc[] =
    "remove_writer($self, fd, /)\n--\n\n"
    "Undo add_writer(); return whether there was a callback.";

PyObject *
fl_loop_remove_writer(FLLoop *self, PyObject *file)
{
    return remove_watch(self, file, FL_WRITE);
}

/* --- transports -------------------------------------------------------------------- */

const char fl_open_transport_doc[] =
    "_open_transport($self, sock, protocol, waiter, server, /)\n--\n\n"
    "Make a transport of a connected socket, which stays the Python object's\n"
    "but belongs to the transport from now on.  waiter is a future to finish\n"
    "after connection_made, server the ServerBase it counts for; or None.";

PyObject *
fl_loop_open_transport(FLLoop *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 4) {
        PyErr_SetString(PyExc_TypeError,
                        "_open_transport() takes 4 arguments");
        return NULL;
    }
    PyObject *sock = args[0], *waiter = args[2], *server = args[3];
    if (fl_loop_check_open(self) < 0) {
        return NULL;
    }
    if (server != Py_None
        && !PyObject_TypeCheck(server, self->st->ServerType)) {
        PyErr_SetString(PyExc_TypeError, "a ServerBase or None was expected");
        return NULL;
    }
    int fd = PyObject_AsFileDescriptor(sock);
    if (fd < 0 || fl_watch_check_free(self, fd, sock) < 0) {
        return NULL;
    }
    PyObject *context;
    if (fl_context_capture(&context) < 0) {
        return NULL;
    }
    FLTransport *t = fl_transport_open(self, fd, context, NULL, 0);
    Py_XDECREF(context);
    if (t == NULL) {
        return NULL;
    }
    /* from here on a failure closes the transport, and with it the socket */
    t->sock = PyObject_CallOneArg(self->st->sup.hold_socket, sock);
    if (t->sock == NULL || fl_transport_set_protocol(t, args[1]) < 0
        || fl_transport_start(t) < 0) {
        PyObject *exc = fl_err_take();
        fl_transport_abort(t, NULL);
        Py_DECREF(t);
        fl_err_give(exc);
        return NULL;
    }
    t->waiter = waiter == Py_None ? NULL : Py_NewRef(waiter);
    if (server != Py_None) {
        t->server = (FLServer *)Py_NewRef(server);
        fl_server_attach(t->server, &t->in_server);
    }
    return (PyObject *)t;
}

/* --- pipes --------------------------------------------------------------------------- */

static PyObject *
open_pipe(FLLoop *self, PyObject *const *args, Py_ssize_t nargs,
          bool for_writing)
{
    if (nargs != 3) {
        PyErr_SetString(PyExc_TypeError, "a pipe takes 3 arguments");
        return NULL;
    }
    if (fl_loop_check_open(self) < 0) {
        return NULL;
    }
    return (PyObject *)fl_pipe_open(self, for_writing, args[0], args[1],
                                    args[2]);
}

const char fl_open_read_pipe_doc[] =
    "_open_read_pipe($self, pipe, protocol, waiter, /)\n--\n\n"
    "Make a transport of a pipe object's read end, which the transport will\n"
    "close.  waiter is a future to finish after connection_made, or None.";

PyObject *
fl_loop_open_read_pipe(FLLoop *self, PyObject *const *args, Py_ssize_t nargs)
{
    return open_pipe(self, args, nargs, false);
}

const char fl_open_write_pipe_doc[] =
    "_open_write_pipe($self, pipe, protocol, waiter, /)\n--\n\n"
    "Make a transport of a pipe object's write end, which the transport will\n"
    "close.  waiter is a future to finish after connection_made, or None.";

PyObject *
fl_loop_open_write_pipe(FLLoop *self, PyObject *const *args, Py_ssize_t nargs)
{
    return open_pipe(self, args, nargs, true);
}
