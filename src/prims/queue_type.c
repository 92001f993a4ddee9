/* Queue, LifoQueue and PriorityQueue as Python sees them. */
#include "base/args.h"
#include "prims/bound_type.h"
#include "prims/queue.h"

/* --- life ------------------------------------------------------------------ */

static PyObject *
new_of_kind(PyTypeObject *type, enum fl_bound_kind kind)
{
    FLQueue *self = (FLQueue *)fl_bound_new(type, kind);
    if (self == NULL) {
        return NULL;
    }
    fl_waiters_init(&self->getters);
    fl_waiters_init(&self->putters);
    self->finished_unasked = true;
    if (fl_queue_init_container(self) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static PyObject *
queue_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
          PyObject *Py_UNUSED(kwargs))
{
    return new_of_kind(type, FL_QUEUE);
}

static PyObject *
lifo_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
         PyObject *Py_UNUSED(kwargs))
{
    return new_of_kind(type, FL_LIFO_QUEUE);
}

static PyObject *
priority_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
             PyObject *Py_UNUSED(kwargs))
{
    return new_of_kind(type, FL_PRIORITY_QUEUE);
}

static int
start_with(FLQueue *self, PyObject *maxsize)
{
    fl_queue_set_maxsize(self, maxsize);
    fl_waiters_reset(&self->getters);
    fl_waiters_reset(&self->putters);
    self->unfinished = 0;
    self->finished_unasked = true;
    Py_CLEAR(self->finished);
    int status = 0;
    if (fl_bound_overrides(&self->base) & FL_OWN_INIT) {
        PyObject *done =
            fl_bound_call(&self->base, self->base.st->str._init, maxsize);
        Py_XDECREF(done);
        status = done == NULL ? -1 : 0;
    }
    else {
        status = fl_queue_init_container(self);
    }
    self->shutdown = false;
    return status;
}

static const struct fl_signature init_signature = {
    "Queue.__init__", 0, 1, 0, 1, {FL_NAME(maxsize)}};

static int
queue_init(FLQueue *self, PyObject *args, PyObject *kwargs)
{
    PyObject *maxsize;
    if (fl_args_parse_tuple(self->base.st, &init_signature, args, kwargs,
                            &maxsize)
        < 0) {
        return -1;
    }
    maxsize = maxsize == NULL ? PyLong_FromLong(0) : Py_NewRef(maxsize);
    int status = maxsize == NULL ? -1 : start_with(self, maxsize);
    Py_XDECREF(maxsize);
    return status;
}

static int
queue_traverse(FLQueue *self, visitproc visit, void *arg)
{
    for (uint32_t i = 0; i < fl_ring_count(&self->items); i++) {
        Py_VISIT((PyObject *)fl_ring_peek(&self->items, i));
    }
    Py_VISIT(self->container);
    Py_VISIT(self->maxsize);
    FL_VISIT_WAITERS(&self->getters);
    FL_VISIT_WAITERS(&self->putters);
    Py_VISIT(self->finished);
    return fl_bound_traverse(&self->base, visit, arg);
}

static int
queue_clear(FLQueue *self)
{
    fl_waiters_reset(&self->getters);
    fl_waiters_reset(&self->putters);
    fl_queue_replace(self, NULL);
    self->limit = 0;
    Py_CLEAR(self->maxsize);
    Py_CLEAR(self->finished);
    fl_bound_clear(&self->base);
    return 0;
}

static void
queue_dealloc(FLQueue *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    FL_TRASHCAN_BEGIN(self, queue_dealloc)
    if (self->base.weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    queue_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    FL_TRASHCAN_END
}

/* --- methods ------------------------------------------------------------------ */

PyDoc_STRVAR(
    queue_doc,
    "Queue(maxsize=0)\n--\n\n"
    "A first in, first out queue between tasks.\n\n"
    "maxsize is how many items it takes, 0 for any number: put() waits\n"
    "while it is full, get() while it is empty.  Works on any event loop;\n"
    "not thread-safe.  See asyncio.Queue.");

PyDoc_STRVAR(lifo_doc, "LifoQueue(maxsize=0)\n--\n\n"
                       "A Queue that gives the item put last first.");

PyDoc_STRVAR(priority_doc,
             "PriorityQueue(maxsize=0)\n--\n\n"
             "A Queue that gives the lowest item first, as items compare.");

/* The only argument of a method, by position or name; NULL with TypeError. */
static inline PyObject *
only_argument(FLQueue *self, const struct fl_signature *signature,
              PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (FL_LIKELY(nargs == 1 && kwnames == NULL)) {
        return args[0];
    }
    PyObject *value;
    return fl_args_parse(self->base.st, signature, args, nargs, kwnames,
                         &value)
                   < 0
               ? NULL
               : value;
}

PyDoc_STRVAR(put_doc,
             "put($self, /, item)\n--\n\n"
             "Put an item into the queue, waiting for room if it is full.\n\n"
             "Raises QueueShutDown if the queue was shut down.");

static const struct fl_signature put_signature = {"put", 1, 1,
                                                  0,     1, {FL_NAME(item)}};

static PyObject *
queue_put(FLQueue *self, PyObject *const *args, Py_ssize_t nargs,
          PyObject *kwnames)
{
    PyObject *item = only_argument(self, &put_signature, args, nargs, kwnames);
    return item == NULL ? NULL : fl_queue_put(self, item);
}

PyDoc_STRVAR(
    put_nowait_doc,
    "put_nowait($self, /, item)\n--\n\n"
    "Put an item into the queue.\n\n"
    "Raises QueueFull if there is no room, QueueShutDown if the queue\n"
    "was shut down.");

static const struct fl_signature put_nowait_signature = {
    "put_nowait", 1, 1, 0, 1, {FL_NAME(item)}};

static PyObject *
queue_put_nowait(FLQueue *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    PyObject *item =
        only_argument(self, &put_nowait_signature, args, nargs, kwnames);
    if (item == NULL || fl_queue_put_nowait(self, item) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    get_doc,
    "get($self, /)\n--\n\n"
    "Take the next item out of the queue, waiting while it is empty.\n\n"
    "Raises QueueShutDown if the queue was shut down and is empty.");

static PyObject *
queue_get(FLQueue *self, PyObject *Py_UNUSED(ignored))
{
    return fl_queue_get(self);
}

PyDoc_STRVAR(
    get_nowait_doc,
    "get_nowait($self, /)\n--\n\n"
    "Take the next item out of the queue.\n\n"
    "Raises QueueEmpty if there is none, QueueShutDown if there will be\n"
    "none.");

static PyObject *
queue_get_nowait(FLQueue *self, PyObject *Py_UNUSED(ignored))
{
    return fl_queue_get_nowait(self);
}

PyDoc_STRVAR(
    task_done_doc,
    "task_done($self, /)\n--\n\n"
    "Tell that the work on an item that was got is done, for join().\n\n"
    "Raises ValueError if called more often than items were put.");

static PyObject *
queue_task_done(FLQueue *self, PyObject *Py_UNUSED(ignored))
{
    if (fl_queue_task_done(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(join_doc,
             "join($self, /)\n--\n\n"
             "Wait until task_done() was called for each item that was put.");

static PyObject *
queue_join(FLQueue *self, PyObject *Py_UNUSED(ignored))
{
    return fl_queue_join(self);
}

PyDoc_STRVAR(
    shutdown_doc,
    "shutdown($self, /, immediate=False)\n--\n\n"
    "Let put() raise QueueShutDown, and get() when the queue is empty.\n\n"
    "immediate empties it and counts its items as done.  Who waits is\n"
    "woken.");

static const struct fl_signature shutdown_signature = {
    "shutdown", 0, 1, 0, 1, {FL_NAME(immediate)}};

static PyObject *
queue_shutdown(FLQueue *self, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    PyObject *immediate;
    if (fl_args_parse(self->base.st, &shutdown_signature, args, nargs, kwnames,
                      &immediate)
        < 0) {
        return NULL;
    }
    int truth = immediate == NULL ? 0 : PyObject_IsTrue(immediate);
    if (truth < 0 || fl_queue_shutdown(self, truth > 0) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(qsize_doc, "qsize($self, /)\n--\n\n"
                        "Return how many items are in the queue.");

static PyObject *
queue_qsize(FLQueue *self, PyObject *Py_UNUSED(ignored))
{
    Py_ssize_t size = fl_queue_plain_size(self);
    return size < 0 ? NULL : PyLong_FromSsize_t(size);
}

PyDoc_STRVAR(empty_doc, "empty($self, /)\n--\n\n"
                        "Return True if there is no item in the queue.");

static PyObject *
queue_empty(FLQueue *self, PyObject *Py_UNUSED(ignored))
{
    int empty = fl_queue_plain_empty(self);
    return empty < 0 ? NULL : PyBool_FromLong(empty);
}

PyDoc_STRVAR(full_doc,
             "full($self, /)\n--\n\n"
             "Return True if there are maxsize items in the queue; without a\n"
             "maxsize, never.");

static PyObject *
queue_full(FLQueue *self, PyObject *Py_UNUSED(ignored))
{
    int full = fl_queue_plain_full(self);
    return full < 0 ? NULL : PyBool_FromLong(full);
}

/* --- what subclasses override --------------------------------------------------------- */

PyDoc_STRVAR(init_doc, "_init($self, maxsize, /)\n--\n\n"
                       "Make the container; to be overridden.");

static PyObject *
queue_init_container(FLQueue *self, PyObject *Py_UNUSED(maxsize))
{
    if (fl_queue_init_container(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(plain_put_doc, "_put($self, item, /)\n--\n\n"
                            "Add to the container; to be overridden.");

static PyObject *
queue_plain_put(FLQueue *self, PyObject *item)
{
    if (fl_queue_plain_put(self, item) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(plain_get_doc, "_get($self, /)\n--\n\n"
                            "Take from the container; to be overridden.");

static PyObject *
queue_plain_get(FLQueue *self, PyObject *Py_UNUSED(ignored))
{
    return fl_queue_plain_get(self);
}

PyDoc_STRVAR(wakeup_next_doc,
             "_wakeup_next($self, waiters, /)\n--\n\n"
             "Wake the first future of a deque that is not done.");

static PyObject *
queue_wakeup_next(FLQueue *self, PyObject *waiters)
{
    if (fl_waiters_pop_shown(self->base.st, waiters, false) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* --- repr ------------------------------------------------------------------ */

static PyObject *
list_items(FLQueue *self)
{
    if (self->container != NULL) {
        PyObject *container = Py_NewRef(self->container);
        PyObject *list = PySequence_List(container);
        Py_DECREF(container);
        return list;
    }
    Py_ssize_t n = fl_queue_plain_size(self);
    PyObject *list = PyList_New(n);
    /* making it may have run a finaliser that changed the queue */
    for (Py_ssize_t i = 0; list != NULL && i < n; i++) {
        bool there = self->container == NULL
                     && (uint32_t)i < fl_ring_count(&self->items);
        PyObject *item =
            there ? (PyObject *)fl_ring_peek(&self->items, (uint32_t)i)
                  : Py_None;
        PyList_SET_ITEM(list, i, Py_NewRef(item));
    }
    return list;
}

/* text + format % value.  Steals text. */
static PyObject *
append_count(PyObject *text, const char *format, Py_ssize_t count)
{
    PyObject *more =
        text == NULL || count < 0 ? NULL : PyUnicode_FromFormat(format, count);
    PyObject *sum = more == NULL ? NULL : PyUnicode_Concat(text, more);
    Py_XDECREF(more);
    Py_XDECREF(text);
    return sum;
}

static PyObject *
append_items(FLQueue *self, PyObject *text)
{
    PyObject *items = text == NULL ? NULL : list_items(self);
    PyObject *sum = items == NULL
                        ? NULL
                        : PyUnicode_FromFormat("%U _queue=%R", text, items);
    Py_XDECREF(items);
    Py_XDECREF(text);
    return sum;
}

PyDoc_STRVAR(format_doc, "_format($self, /)\n--\n\nDescribe the queue.");

static PyObject *
queue_format(FLQueue *self, PyObject *Py_UNUSED(ignored))
{
    fl_state *st = self->base.st;
    PyObject *text = self->maxsize == NULL
                         ? PyUnicode_FromString("maxsize=0")
                         : PyUnicode_FromFormat("maxsize=%R", self->maxsize);
    int empty = fl_queue_plain_empty(self);
    if (empty < 0) {
        Py_XDECREF(text);
        return NULL;
    }
    if (!empty) {
        text = append_items(self, text);
    }
    const struct {
        const char *format;
        Py_ssize_t count;
    } parts[] = {
        {" _getters[%zd]", fl_waiters_count(st, &self->getters)},
        {" _putters[%zd]", fl_waiters_count(st, &self->putters)},
        {" tasks=%zd", self->unfinished},
        {" shutdown", self->shutdown},
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(parts); i++) {
        if (parts[i].count != 0) {
            text = append_count(text, parts[i].format, parts[i].count);
        }
    }
    return text;
}

static PyObject *
queue_repr(FLQueue *self)
{
    PyObject *what =
        fl_bound_call(&self->base, self->base.st->str._format, NULL);
    if (what == NULL) {
        return NULL;
    }
    PyObject *repr = PyUnicode_FromFormat(
        "<%s at %p %S>", fl_type_name(Py_TYPE(self)), self, what);
    Py_DECREF(what);
    return repr;
}

static PyObject *
queue_str(FLQueue *self)
{
    PyObject *what =
        fl_bound_call(&self->base, self->base.st->str._format, NULL);
    if (what == NULL) {
        return NULL;
    }
    PyObject *str =
        PyUnicode_FromFormat("<%s %S>", fl_type_name(Py_TYPE(self)), what);
    Py_DECREF(what);
    return str;
}

/* --- attributes ------------------------------------------------------------------ */

static int
refuse_deletion(PyObject *value)
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
        return -1;
    }
    return 0;
}

static PyObject *
get_maxsize(FLQueue *self, void *Py_UNUSED(closure))
{
    return self->maxsize == NULL ? PyLong_FromLong(0)
                                 : Py_NewRef(self->maxsize);
}

static int
set_maxsize(FLQueue *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (refuse_deletion(value) < 0) {
        return -1;
    }
    fl_queue_set_maxsize(self, value);
    return 0;
}

static PyObject *
get_queue(FLQueue *self, void *Py_UNUSED(closure))
{
    return fl_queue_show(self);
}

static int
set_queue(FLQueue *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (refuse_deletion(value) < 0) {
        return -1;
    }
    fl_queue_replace(self, value);
    return 0;
}

static struct fl_waiters *
waiters_at(FLQueue *self, void *offset)
{
    return (struct fl_waiters *)(void *)((char *)self + (size_t)offset);
}

static PyObject *
get_waiters(FLQueue *self, void *offset)
{
    return fl_waiters_show(self->base.st, waiters_at(self, offset));
}

static int
set_waiters(FLQueue *self, PyObject *value, void *offset)
{
    if (refuse_deletion(value) < 0) {
        return -1;
    }
    fl_waiters_replace(waiters_at(self, offset), value);
    return 0;
}

static PyObject *
get_unfinished(FLQueue *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSsize_t(self->unfinished);
}

static int
set_unfinished(FLQueue *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (refuse_deletion(value) < 0) {
        return -1;
    }
    Py_ssize_t n = PyNumber_AsSsize_t(value, PyExc_OverflowError);
    if (n == -1 && PyErr_Occurred()) {
        return -1;
    }
    self->unfinished = n;
    return 0;
}

static PyObject *
get_finished(FLQueue *self, void *Py_UNUSED(closure))
{
    return fl_queue_finished(self);
}

static int
set_finished(FLQueue *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (refuse_deletion(value) < 0) {
        return -1;
    }
    Py_XSETREF(self->finished, Py_NewRef(value));
    return 0;
}

static PyObject *
get_is_shutdown(FLQueue *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->shutdown);
}

static int
set_is_shutdown(FLQueue *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (refuse_deletion(value) < 0) {
        return -1;
    }
    int truth = PyObject_IsTrue(value);
    self->shutdown = truth > 0;
    return truth < 0 ? -1 : 0;
}

/* --- tables ------------------------------------------------------------------ */

static PyMethodDef queue_methods[] = {
    {"put", FL_METHOD(queue_put), METH_FASTCALL | METH_KEYWORDS, put_doc},
    {"put_nowait", FL_METHOD(queue_put_nowait), METH_FASTCALL | METH_KEYWORDS,
     put_nowait_doc},
    {"get", (PyCFunction)queue_get, METH_NOARGS, get_doc},
    {"get_nowait", (PyCFunction)queue_get_nowait, METH_NOARGS, get_nowait_doc},
    {"task_done", (PyCFunction)queue_task_done, METH_NOARGS, task_done_doc},
    {"join", (PyCFunction)queue_join, METH_NOARGS, join_doc},
    {"shutdown", FL_METHOD(queue_shutdown), METH_FASTCALL | METH_KEYWORDS,
     shutdown_doc},
    {"qsize", (PyCFunction)queue_qsize, METH_NOARGS, qsize_doc},
    {"empty", (PyCFunction)queue_empty, METH_NOARGS, empty_doc},
    {"full", (PyCFunction)queue_full, METH_NOARGS, full_doc},
    {"_init", (PyCFunction)queue_init_container, METH_O, init_doc},
    {"_put", (PyCFunction)queue_plain_put, METH_O, plain_put_doc},
    {"_get", (PyCFunction)queue_plain_get, METH_NOARGS, plain_get_doc},
    {"_wakeup_next", (PyCFunction)queue_wakeup_next, METH_O, wakeup_next_doc},
    {"_format", (PyCFunction)queue_format, METH_NOARGS, format_doc},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS,
     PyDoc_STR("Generic over the type of the items.")},
    FL_BOUND_METHOD,
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef queue_getset[] = {
    {"maxsize", (getter)get_maxsize, NULL,
     PyDoc_STR("How many items the queue takes; 0 for any number."), NULL},
    {"_maxsize", (getter)get_maxsize, (setter)set_maxsize, NULL, NULL},
    {"_queue", (getter)get_queue, (setter)set_queue, NULL, NULL},
    {"_getters", (getter)get_waiters, (setter)set_waiters, NULL,
     (void *)offsetof(FLQueue, getters)},
    {"_putters", (getter)get_waiters, (setter)set_waiters, NULL,
     (void *)offsetof(FLQueue, putters)},
    {"_unfinished_tasks", (getter)get_unfinished, (setter)set_unfinished, NULL,
     NULL},
    {"_finished", (getter)get_finished, (setter)set_finished, NULL, NULL},
    {"_is_shutdown", (getter)get_is_shutdown, (setter)set_is_shutdown, NULL,
     NULL},
    FL_BOUND_GETSET,
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef queue_members[] = {
    FL_BOUND_MEMBERS,
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot queue_slots[] = {
    {Py_tp_doc, (void *)queue_doc},
    {Py_tp_new, queue_new},
    {Py_tp_init, queue_init},
    {Py_tp_dealloc, queue_dealloc},
    {Py_tp_traverse, queue_traverse},
    {Py_tp_clear, queue_clear},
    {Py_tp_setattro, fl_bound_setattro},
    {Py_tp_repr, queue_repr},
    {Py_tp_str, queue_str},
    {Py_tp_methods, queue_methods},
    {Py_tp_members, queue_members},
    {Py_tp_getset, queue_getset},
    {0, NULL},
};

/* The other orders have their own container, see queue.c. */
static PyType_Slot lifo_slots[] = {
    {Py_tp_doc, (void *)lifo_doc},
    {Py_tp_new, lifo_new},
    {Py_tp_init, queue_init},
    {Py_tp_dealloc, queue_dealloc},
    {Py_tp_traverse, queue_traverse},
    {Py_tp_clear, queue_clear},
    {0, NULL},
};

static PyType_Slot priority_slots[] = {
    {Py_tp_doc, (void *)priority_doc},
    {Py_tp_new, priority_new},
    {Py_tp_init, queue_init},
    {Py_tp_dealloc, queue_dealloc},
    {Py_tp_traverse, queue_traverse},
    {Py_tp_clear, queue_clear},
    {0, NULL},
};

static PyType_Spec queue_spec = {
    .name = "fastloop.Queue",
    .basicsize = sizeof(FLQueue),
    .flags = FL_BOUND_FLAGS,
    .slots = queue_slots,
};

static PyType_Spec lifo_spec = {
    .name = "fastloop.LifoQueue",
    .basicsize = sizeof(FLQueue),
    .flags = FL_BOUND_FLAGS,
    .slots = lifo_slots,
};

static PyType_Spec priority_spec = {
    .name = "fastloop.PriorityQueue",
    .basicsize = sizeof(FLQueue),
    .flags = FL_BOUND_FLAGS,
    .slots = priority_slots,
};

int
fl_queue_init_types(PyObject *module)
{
    fl_state *st = fl_state_of_module(module);
    if (fl_bound_add_type(module, &st->QueueType, &queue_spec, NULL) < 0) {
        return -1;
    }
    PyObject *base = (PyObject *)st->QueueType;
    if (fl_bound_add_type(module, &st->LifoQueueType, &lifo_spec, base) < 0) {
        return -1;
    }
    return fl_bound_add_type(module, &st->PriorityQueueType, &priority_spec,
                             base);
}
