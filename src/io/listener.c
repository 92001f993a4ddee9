/* Accepting connections.

   The listening socket stays the property of its Python object, which the user
   may have passed in; it is watched like any of the user's descriptors.  An
   accepted one becomes a transport at once; its protocol is made, and told, in the
   turn that follows. */
#include "io/listener.h"

#include "base/args.h"
#include "base/errors.h"
#include "core/context.h"
#include "core/report.h"
#include "io/transport.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* --- life ------------------------------------------------------------------ */

static int
listener_traverse(FLListener *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->loop);
    Py_VISIT(self->server);
    Py_VISIT(self->sock);
    Py_VISIT(self->factory);
    Py_VISIT(self->context);
    return 0;
}

static int
listener_clear(FLListener *self)
{
    Py_CLEAR(self->server);
    Py_CLEAR(self->sock);
    Py_CLEAR(self->factory);
    Py_CLEAR(self->context);
    return 0;
}

static void
listener_dealloc(FLListener *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    /* while it listens, the loop holds it */
    FL_ASSERT(self->loop == NULL || !fl_list_linked(&self->attached.node));
    listener_clear(self);
    Py_CLEAR(self->loop);
    type->tp_free(self);
    Py_DECREF(type);
}

/* --- accepting ---------------------------------------------------------------- */

static int
accept_socket(int fd, struct sockaddr_storage *peer, socklen_t *size)
{
#if defined(__linux__)
    return accept4(fd, (struct sockaddr *)peer, size,
                   SOCK_NONBLOCK | SOCK_CLOEXEC);
#else
    int accepted = accept(fd, (struct sockaddr *)peer, size);
    if (accepted >= 0) {
        fcntl(accepted, F_SETFD, FD_CLOEXEC);
        fcntl(accepted, F_SETFL, fcntl(accepted, F_GETFL) | O_NONBLOCK);
    }
    return accepted;
#endif
}

static bool
is_listening(const FLListener *self)
{
    return fl_list_linked(&self->attached.node);
}

static void
stop(FLListener *self)
{
    if (!is_listening(self)) {
        return;
    }
    fl_watch_remove_native(self->loop, self->fd, FL_READ, &self->watcher);
    fl_list_unlink(&self->attached.node);
    Py_DECREF(self);
}

/* Give the connection to a transport, or close it. */
static int
make_transport(FLListener *self, int fd, const struct sockaddr_storage *peer,
               socklen_t size)
{
    PyObject *context =
        self->context == NULL ? NULL : PyContext_Copy(self->context);
    FLTransport *t = NULL;
    if (context != NULL || self->context == NULL) {
        t = fl_transport_open(self->loop, fd, context,
                              (const struct sockaddr *)peer, size);
        Py_XDECREF(context);
    }
    if (t == NULL) {
        close(fd);
        return -1;
    }
    t->factory = Py_NewRef(self->factory);
    t->server = (FLServer *)Py_NewRef(self->server);
    fl_server_attach(t->server, &t->in_server);
    int status = fl_transport_start(t);
    if (status < 0) {
        fl_transport_abort(t, NULL);
    }
    Py_DECREF(t);
    return status;
}

/* Out of descriptors or memory: asyncio reports it and tries again in a second. */
static FL_COLD void
accept_failed(FLListener *self, int error)
{
    errno = error;
    PyErr_SetFromErrno(PyExc_OSError);
    PyObject *exc = fl_err_take();
    PyObject *args[] = {(PyObject *)self, self->sock, exc};
    PyObject *result =
        PyObject_Vectorcall(self->loop->st->sup.accept_failed, args, 3, NULL);
    if (result == NULL) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    Py_XDECREF(result);
    Py_DECREF(exc);
}

static bool
is_shortage(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS
           || error == ENOMEM;
}

static void
ready(struct fl_watcher *watcher)
{
    FLListener *self = FL_CONTAINER_OF(watcher, FLListener, watcher);
    Py_INCREF(self);
    if (PyObject_AsFileDescriptor(self->sock) != self->fd) {
        /* closed behind our back: the number is somebody else's */
        PyErr_Clear();
        stop(self);
    }
    for (int i = 0; i <= self->backlog && is_listening(self); i++) {
        struct sockaddr_storage peer;
        socklen_t size = sizeof(peer);
        int fd = accept_socket(self->fd, &peer, &size);
        if (fd >= 0) {
            if (make_transport(self, fd, &peer, size) < 0) {
                PyErr_WriteUnraisable((PyObject *)self);
            }
        }
        else if (errno == ECONNABORTED || errno == EINTR) {
            continue;
        }
        else {
            if (errno != EAGAIN && errno != EWOULDBLOCK) {
                int error = errno;
                if (is_shortage(error)) {
                    fl_watch_remove_native(self->loop, self->fd, FL_READ,
                                           &self->watcher);
                }
                accept_failed(self, error);
            }
            break;
        }
    }
    Py_DECREF(self);
}

/* --- on and off --------------------------------------------------------------- */

static int
attached_traverse(struct fl_attached *attached, visitproc visit, void *arg)
{
    FLListener *self = FL_CONTAINER_OF(attached, FLListener, attached);
    Py_VISIT(self);
    return 0;
}

static void
loop_closes(struct fl_attached *attached)
{
    stop(FL_CONTAINER_OF(attached, FLListener, attached));
}

static const struct fl_attached_ops attached_ops = {attached_traverse,
                                                    loop_closes, NULL};

PyDoc_STRVAR(start_doc, "start($self, /)\n--\n\n"
                        "Accept connections, from the next poll on.");

static PyObject *
listener_start(FLListener *self, PyObject *Py_UNUSED(ignored))
{
    if (fl_loop_check_open(self->loop) < 0
        || fl_watch_set_native(self->loop, self->fd, FL_READ, &self->watcher)
               < 0) {
        return NULL;
    }
    if (!is_listening(self)) {
        fl_list_append(&self->loop->attached, &self->attached.node);
        Py_INCREF(self);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(resume_doc, "resume($self, /)\n--\n\n"
                         "Accept again after a shortage, unless stopped.");

static PyObject *
listener_resume(FLListener *self, PyObject *ignored)
{
    if (!is_listening(self)) {
        Py_RETURN_NONE;
    }
    return listener_start(self, ignored);
}

PyDoc_STRVAR(stop_doc, "stop($self, /)\n--\n\n"
                       "Accept no more; the socket is left open.");

static PyObject *
listener_stop(FLListener *self, PyObject *Py_UNUSED(ignored))
{
    stop(self);
    Py_RETURN_NONE;
}

/* --- type ------------------------------------------------------------------------ */

PyDoc_STRVAR(
    listener_doc,
    "Listener(loop, server, sock, factory, backlog, context)\n--\n\n"
    "Accepts the connections of a listening socket for a ServerBase.");

static PyObject *
listener_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    fl_state *st = fl_state_of_type(type);
    static char *names[] = {"loop",    "server",  "sock", "factory",
                            "backlog", "context", NULL};
    PyObject *loop, *server, *sock, *factory, *context;
    int backlog;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!OOiO!:Listener", names,
                                     st->LoopType, &loop, st->ServerType,
                                     &server, &sock, &factory, &backlog,
                                     &PyContext_Type, &context)) {
        return NULL;
    }
    int fd = PyObject_AsFileDescriptor(sock);
    if (fd < 0) {
        return NULL;
    }
    FLListener *self = (FLListener *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    fl_list_init(&self->attached.node);
    self->attached.ops = &attached_ops;
    self->watcher.ready = ready;
    self->loop = (FLLoop *)Py_NewRef(loop);
    self->server = (FLServer *)Py_NewRef(server);
    self->sock = Py_NewRef(sock);
    self->factory = Py_NewRef(factory);
    self->context = fl_context_is_empty(context) ? NULL : Py_NewRef(context);
    self->backlog = backlog;
    self->fd = fd;
    return (PyObject *)self;
}

static PyObject *
get_loop(FLListener *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->loop);
}

static PyMethodDef listener_methods[] = {
    {"start", (PyCFunction)listener_start, METH_NOARGS, start_doc},
    {"stop", (PyCFunction)listener_stop, METH_NOARGS, stop_doc},
    {"resume", (PyCFunction)listener_resume, METH_NOARGS, resume_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef listener_getset[] = {
    {"loop", (getter)get_loop, NULL, PyDoc_STR("The event loop."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot listener_slots[] = {
    {Py_tp_doc, (void *)listener_doc}, {Py_tp_new, listener_new},
    {Py_tp_dealloc, listener_dealloc}, {Py_tp_traverse, listener_traverse},
    {Py_tp_clear, listener_clear},     {Py_tp_methods, listener_methods},
    {Py_tp_getset, listener_getset},   {0, NULL},
};

static PyType_Spec listener_spec = {
    .name = "fastloop._core.Listener",
    .basicsize = sizeof(FLListener),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = listener_slots,
};

int
fl_listener_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    return fl_state_add_type(module, &st->ListenerType, &listener_spec, NULL);
}
