#include "io/server.h"

#include "io/transport.h"

void
fl_server_attach(FLServer *self, struct fl_list *in_server)
{
    fl_list_append(&self->transports, in_server);
    self->active++;
}

void
fl_server_detach(FLServer *self, struct fl_list *in_server)
{
    fl_list_unlink(in_server);
    if (--self->active > 0) {
        return;
    }
    PyObject *result =
        PyObject_CallMethod((PyObject *)self, "_connections_gone", NULL);
    if (result == NULL) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    Py_XDECREF(result);
}

static PyObject *
server_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
           PyObject *Py_UNUSED(kwargs))
{
    FLServer *self = (FLServer *)type->tp_alloc(type, 0);
    if (self != NULL) {
        fl_list_init(&self->transports);
    }
    return (PyObject *)self;
}

static int
server_traverse(FLServer *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static void
server_dealloc(FLServer *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    /* each transport in the list holds a reference to us */
    FL_ASSERT(fl_list_empty(&self->transports));
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(transports_doc, "_transports($self, /)\n--\n\n"
                             "Return a list of the open transports.");

static PyObject *
server_transports(FLServer *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *list = PyList_New(0);
    for (struct fl_list *n = self->transports.next;
         list != NULL && n != &self->transports; n = n->next) {
        FLTransport *t = FL_CONTAINER_OF(n, FLTransport, in_server);
        if (PyList_Append(list, (PyObject *)t) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

static PyObject *
get_active_count(FLServer *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSsize_t(self->active);
}

static PyMethodDef server_methods[] = {
    {"_transports", (PyCFunction)server_transports, METH_NOARGS,
     transports_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef server_getset[] = {
    {"_connection_count", (getter)get_active_count, NULL,
     PyDoc_STR("How many connections are open."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef server_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(FLServer, weakrefs),
     Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(server_doc, "The C part of fastloop.Server.");

static PyType_Slot server_slots[] = {
    {Py_tp_doc, (void *)server_doc}, {Py_tp_new, server_new},
    {Py_tp_dealloc, server_dealloc}, {Py_tp_traverse, server_traverse},
    {Py_tp_methods, server_methods}, {Py_tp_members, server_members},
    {Py_tp_getset, server_getset},   {0, NULL},
};

static PyType_Spec server_spec = {
    .name = "fastloop._core.ServerBase",
    .basicsize = sizeof(FLServer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = server_slots,
};

int
fl_server_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    return fl_state_add_type(module, &st->ServerType, &server_spec, NULL);
}
