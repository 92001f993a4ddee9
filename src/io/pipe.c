/* The life of a pipe transport: open, made, lost, closed.

   Beware: every call into the protocol may close or abort the transport, set
   another protocol, or run the loop's exception handler.  Nothing is assumed to
   hold after such a call but that the transport itself is alive. */
#include "io/pipe.h"

#include "base/errors.h"
#include "core/future.h"
#include "core/report.h"

#include <fcntl.h>
#include <sys/stat.h>

#define DEFAULT_HIGH_WATER (64 * 1024)

/* --- calling the protocol -------------------------------------------------------- */

PyObject *
fl_pipe_call(FLPipe *p, PyObject *name, PyObject *arg)
{
    if (p->protocol == NULL) {
        Py_RETURN_NONE;
    }
    /* write() may pause its protocol from inside another callback of it: the
       context is entered already then */
    bool entered = PyContext_Enter(p->context) == 0;
    if (!entered) {
        PyErr_Clear();
    }
    PyObject *protocol = Py_NewRef(p->protocol);
    PyObject *args[] = {NULL, protocol, arg};
    PyObject *result = PyObject_VectorcallMethod(
        name, args + 1, (arg == NULL ? 1 : 2) | PY_VECTORCALL_ARGUMENTS_OFFSET,
        NULL);
    Py_DECREF(protocol);
    if (entered && PyContext_Exit(p->context) < 0) {
        Py_CLEAR(result);
    }
    return result;
}

/* target.name(arg) has raised what asyncio would report as a failed callback.
   -1: it is fatal, and still raised. */
static int
report(FLPipe *p, PyObject *target, PyObject *name, PyObject *arg)
{
    PyObject *exc = fl_err_take();
    PyObject *method = target == NULL ? NULL : PyObject_GetAttr(target, name);
    if (method == NULL) {
        PyErr_Clear();
        method = Py_NewRef(p);
    }
    fl_err_give(exc);
    int status = fl_report_callback(p->loop, method, &arg, arg == NULL ? 0 : 1,
                                    p->context);
    Py_DECREF(method);
    return status;
}

void
fl_pipe_call_failed(FLPipe *p, PyObject *name, PyObject *arg)
{
    if (report(p, p->protocol, name, arg) < 0) {
        fl_loop_set_fatal(p->loop);
    }
}

/* Call it in a turn of the loop.  -1: a fatal exception is raised. */
static int
call_in_turn(FLPipe *p, PyObject *name, PyObject *arg)
{
    PyObject *result = fl_pipe_call(p, name, arg);
    if (FL_UNLIKELY(result == NULL)) {
        return report(p, p->protocol, name, arg);
    }
    Py_DECREF(result);
    return 0;
}

/* --- watching ---------------------------------------------------------------------- */

int
fl_pipe_watch(FLPipe *p, enum fl_direction direction)
{
    bool reads = direction == FL_READ;
    if (reads ? p->watches_read : p->watches_write) {
        return 0;
    }
    if (fl_watch_set_native(p->loop, p->fd, direction,
                            reads ? &p->readable : &p->writable)
        < 0) {
        return -1;
    }
    if (reads) {
        p->watches_read = true;
    }
    else {
        p->watches_write = true;
    }
    return 0;
}

void
fl_pipe_unwatch(FLPipe *p, enum fl_direction direction)
{
    bool reads = direction == FL_READ;
    if (!(reads ? p->watches_read : p->watches_write)) {
        return;
    }
    if (reads) {
        p->watches_read = false;
    }
    else {
        p->watches_write = false;
    }
    fl_watch_remove_native(p->loop, p->fd, direction,
                           reads ? &p->readable : &p->writable);
}

/* --- connection made --------------------------------------------------------------- */

static int
finish_waiter(FLPipe *p)
{
    PyObject *waiter = p->waiter;
    p->waiter = NULL;
    if (waiter == NULL) {
        return 0;
    }
    PyObject *result =
        PyObject_CallOneArg(p->loop->st->sup.set_result_unless_done, waiter);
    Py_DECREF(waiter);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* A write end is watched for reading, too: that tells when its reader goes. */
static bool
wants_read_events(const FLPipe *p)
{
    return p->for_writing ? p->detects_close && !p->lost
                          : p->phase == FL_PIPE_OPEN && !p->paused;
}

static int
connection_made_job(struct fl_job *job)
{
    FLPipe *p = FL_CONTAINER_OF(job, FLPipe, made_job);
    fl_state *st = p->loop->st;
    int status = call_in_turn(p, st->str.connection_made, (PyObject *)p);
    PyObject *raised = status < 0 ? fl_err_take() : NULL;
    if (wants_read_events(p) && fl_pipe_watch(p, FL_READ) < 0
        && report(p, (PyObject *)p, st->str.resume_reading, NULL) < 0) {
        status = -1;
        Py_XSETREF(raised, fl_err_take());
    }
    int finished = finish_waiter(p);
    if (raised != NULL) {
        fl_err_give(raised);
    }
    return status < 0 ? status : finished;
}

/* --- losing the connection --------------------------------------------------------- */

/* The loop lets go of it: whoever calls holds a reference. */
static void
detach(FLPipe *p)
{
    FL_ASSERT(p->phase != FL_PIPE_CLOSED);
    p->phase = FL_PIPE_CLOSED;
    fl_list_unlink(&p->attached.node);
    fl_pipe_drop_queue(p);
    Py_CLEAR(p->protocol);
    Py_CLEAR(p->waiter);
    Py_DECREF(p); /* the loop's */
}

/* Close the descriptor, through its one owner. */
static PyObject *
close_pipe(FLPipe *p)
{
    if (p->pipe == NULL) {
        Py_RETURN_NONE;
    }
    return PyObject_CallMethodNoArgs(p->pipe, p->loop->st->str.close);
}

static int
connection_lost_job(struct fl_job *job)
{
    FLPipe *p = FL_CONTAINER_OF(job, FLPipe, lost_job);
    fl_state *st = p->loop->st;
    if (p->phase == FL_PIPE_CLOSED) {
        return 0;
    }
    int status = 0;
    if (p->ended) {
        status = call_in_turn(p, st->str.eof_received, NULL);
    }
    PyObject *raised = status < 0 ? fl_err_take() : NULL;
    PyObject *exc = p->lost_with;
    p->lost_with = NULL;
    if (call_in_turn(p, st->str.connection_lost, exc == NULL ? Py_None : exc)
        < 0) {
        Py_XSETREF(raised, fl_err_take());
    }
    Py_XDECREF(exc);
    PyObject *closed = close_pipe(p);
    if (closed == NULL && report(p, p->pipe, st->str.close, NULL) < 0) {
        Py_XSETREF(raised, fl_err_take());
    }
    Py_XDECREF(closed);
    if (p->phase != FL_PIPE_CLOSED) {
        detach(p); /* the ring holds a reference while the job runs */
    }
    if (raised == NULL) {
        return 0;
    }
    fl_err_give(raised);
    return -1;
}

void
fl_pipe_abort(FLPipe *p, PyObject *exc)
{
    if (p->phase == FL_PIPE_NEW || p->lost) {
        return;
    }
    p->lost = true;
    p->phase = FL_PIPE_CLOSING;
    fl_pipe_unwatch(p, FL_READ);
    fl_pipe_unwatch(p, FL_WRITE);
    Py_XSETREF(p->lost_with, Py_XNewRef(exc));
    if (fl_loop_push_job(p->loop, &p->lost_job) < 0) {
        PyErr_WriteUnraisable((PyObject *)p);
    }
    fl_pipe_drop_queue(p);
}

FL_COLD void
fl_pipe_fatal_error(FLPipe *p, const char *message)
{
    PyObject *exc = fl_err_take();
    FL_ASSERT(exc != NULL);
    if (fl_exception_is_fatal(exc)) {
        fl_err_give(exc);
        fl_loop_set_fatal(p->loop);
        return;
    }
    PyObject *result = PyObject_CallFunction(
        p->loop->st->sup.pipe_fatal_error, "OOsO", p, exc, message,
        p->protocol == NULL ? Py_None : p->protocol);
    fl_pipe_abort(p, exc);
    Py_DECREF(exc);
    if (result == NULL) {
        exc = fl_err_take();
        bool fatal = fl_exception_is_fatal(exc);
        fl_err_give(exc);
        if (fatal) {
            fl_loop_set_fatal(p->loop);
        }
        else {
            PyErr_WriteUnraisable((PyObject *)p);
        }
    }
    Py_XDECREF(result);
}

/* --- the loop closes --------------------------------------------------------------- */

static int
attached_traverse(struct fl_attached *attached, visitproc visit, void *arg)
{
    FLPipe *p = FL_CONTAINER_OF(attached, FLPipe, attached);
    Py_VISIT(p);
    return 0;
}

static void
unraisable_if_failed(FLPipe *p, PyObject *result)
{
    if (result == NULL) {
        PyErr_WriteUnraisable((PyObject *)p);
    }
    Py_XDECREF(result);
}

/* The protocol is not told, as with asyncio; an open transport is warned of. */
static void
loop_closes(struct fl_attached *attached)
{
    FLPipe *p = FL_CONTAINER_OF(attached, FLPipe, attached);
    Py_INCREF(p);
    bool warn = !p->lost;
    p->lost = true;
    p->phase = FL_PIPE_CLOSING;
    fl_pipe_unwatch(p, FL_READ);
    fl_pipe_unwatch(p, FL_WRITE);
    if (warn) {
        unraisable_if_failed(
            p, PyObject_CallOneArg(p->loop->st->sup.warn_unclosed,
                                   (PyObject *)p));
    }
    unraisable_if_failed(p, close_pipe(p));
    detach(p);
    Py_DECREF(p);
}

/* --- opening ----------------------------------------------------------------------- */

static int
descriptor_of(fl_state *st, PyObject *pipe)
{
    PyObject *number = PyObject_CallMethodNoArgs(pipe, st->str.fileno);
    if (number == NULL) {
        return -1;
    }
    int fd = PyObject_AsFileDescriptor(number);
    Py_DECREF(number);
    return fd;
}

/* What kind of thing it is, and not to block on it. */
static int
prepare(int fd, bool for_writing, bool *detects_close)
{
    struct stat about;
    if (fstat(fd, &about) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    bool two_ended = S_ISFIFO(about.st_mode) || S_ISSOCK(about.st_mode);
    if (!two_ended && !S_ISCHR(about.st_mode)) {
        PyErr_SetString(PyExc_ValueError,
                        for_writing ? "Pipe transport is only for pipes, "
                                      "sockets and character devices"
                                    : "Pipe transport is for pipes/sockets "
                                      "only.");
        return -1;
    }
#if defined(__APPLE__) || defined(__sun)
    /* a named FIFO is readable there whenever it holds data, and is silent when
       its reader goes */
    *detects_close =
        S_ISSOCK(about.st_mode) || (two_ended && about.st_nlink == 0);
#else
    *detects_close = two_ended;
#endif
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}

/* The pipe is the parent's, too: whatever is done to our end does nothing. */
static void
loop_forked(struct fl_attached *attached)
{
    FLPipe *p = FL_CONTAINER_OF(attached, FLPipe, attached);
    p->lost = true;
    p->phase = FL_PIPE_CLOSING;
}

static const struct fl_attached_ops attached_ops = {attached_traverse,
                                                    loop_closes, loop_forked};

static FLPipe *
new_pipe(FLLoop *loop, bool for_writing, int fd)
{
    fl_state *st = loop->st;
    PyTypeObject *type =
        for_writing ? st->WritePipeTransportType : st->ReadPipeTransportType;
    FLPipe *p = (FLPipe *)type->tp_alloc(type, 0);
    if (p == NULL) {
        return NULL;
    }
    p->fd = fd;
    p->for_writing = for_writing;
    p->high_water = DEFAULT_HIGH_WATER;
    p->low_water = DEFAULT_HIGH_WATER / 4;
    p->readable.ready = for_writing ? fl_pipe_peer_closed : fl_pipe_read_ready;
    p->writable.ready = fl_pipe_write_ready;
    p->made_job = (struct fl_job){connection_made_job, (PyObject *)p};
    p->lost_job = (struct fl_job){connection_lost_job, (PyObject *)p};
    p->attached.ops = &attached_ops;
    fl_list_init(&p->attached.node);
    p->context = PyContext_CopyCurrent();
    if (p->context == NULL) {
        Py_DECREF(p);
        return NULL;
    }
    return p;
}

FLPipe *
fl_pipe_open(FLLoop *loop, bool for_writing, PyObject *pipe,
             PyObject *protocol, PyObject *waiter)
{
    /* Beware: fileno() may be the user's: the loop is looked at after it. */
    bool detects_close;
    int fd = descriptor_of(loop->st, pipe);
    if ((fd < 0 && PyErr_Occurred())
        || prepare(fd, for_writing, &detects_close) < 0
        || fl_loop_check_process(loop) < 0 || fl_loop_check_open(loop) < 0
        || fl_io_of(loop) == NULL) {
        return NULL;
    }
    FLPipe *p = new_pipe(loop, for_writing, fd);
    if (p == NULL) {
        return NULL;
    }
    p->loop = (FLLoop *)Py_NewRef(loop);
    p->detects_close = detects_close;
    if (fl_loop_push_job(loop, &p->made_job) < 0) {
        Py_DECREF(p);
        return NULL;
    }
    p->pipe = Py_NewRef(pipe);
    p->protocol = Py_NewRef(protocol);
    p->waiter = waiter == Py_None ? NULL : Py_NewRef(waiter);
    p->phase = FL_PIPE_OPEN;
    fl_list_append(&loop->attached, &p->attached.node);
    Py_INCREF(p); /* the loop's, until it is lost */
    return p;
}
