#include "io/watch.h"

#include "base/errors.h"

#include <errno.h>
#include <fcntl.h>

/* --- the table ----------------------------------------------------------------- */

static struct fl_watch *
find(struct fl_watchers *w, int fd)
{
    return fd >= 0 && fd < w->size ? &w->table[fd] : NULL;
}

/* Make a table long enough for fd: the table, or NULL with an exception, and then it
   is as it was. */
static FL_COLD void *
grow(void *table, int *size, size_t entry, int fd)
{
    if (fd < 0) {
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %d", fd);
        return NULL;
    }
    if (fcntl(fd, F_GETFD) < 0) {
        /* any number may be asked for: make no table for what is not open */
        PyErr_SetFromErrno(PyExc_OSError);
        return NULL;
    }
    int longer = *size ? *size : 64;
    while (longer <= fd) {
        longer *= 2;
    }
    char *grown = PyMem_Realloc(table, (size_t)longer * entry);
    if (grown == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    memset(grown + (size_t)*size * entry, 0, (size_t)(longer - *size) * entry);
    *size = longer;
    return grown;
}

/* The entry of fd, made if need be; NULL with an exception. */
static struct fl_watch *
entry(FLLoop *loop, int fd)
{
    struct fl_io *io = fl_io_of(loop);
    if (io == NULL) {
        return NULL;
    }
    struct fl_watchers *w = io->watchers;
    struct fl_watch *watch = find(w, fd);
    if (FL_LIKELY(watch != NULL)) {
        return watch;
    }
    void *table = grow(w->table, &w->size, sizeof(*w->table), fd);
    if (table == NULL) {
        return NULL;
    }
    w->table = table;
    return &w->table[fd];
}

static uint8_t
wanted(const struct fl_watch *watch)
{
    uint8_t set = 0;
    for (int d = 0; d < 2; d++) {
        if (watch->handle[d] != NULL || watch->native[d] != NULL) {
            set |= (uint8_t)(1 << d);
        }
    }
    return set;
}

/* --- adding and removing ---------------------------------------------------------- */

static void
replace_handle(struct fl_watch *watch, enum fl_direction direction,
               FLHandle *handle)
{
    FLHandle *old = watch->handle[direction];
    watch->handle[direction] = handle;
    if (old != NULL) {
        /* as asyncio: a handle that is replaced never runs again */
        if (fl_handle_cancel(old) < 0) {
            PyErr_Clear();
        }
        Py_DECREF(old);
    }
}

/* Forget the native watcher of a direction; what kept its owner alive is to be
   released by the caller, last of all. */
static PyObject *
take_native(struct fl_watch *watch, enum fl_direction direction)
{
    uint8_t bit = (uint8_t)(1 << direction);
    struct fl_watcher *native = watch->native[direction];
    bool held = native != NULL && (watch->once & bit);
    watch->native[direction] = NULL;
    watch->once &= (uint8_t)~bit;
    return held ? native->owner : NULL;
}

void
fl_watch_forget(struct fl_watchers *w, int fd)
{
    PyObject *file = w->table[fd].file;
    w->table[fd].file = NULL;
    for (int d = 0; d < 2; d++) {
        /* Beware: cancelling may run code that makes the table grow. */
        PyObject *held = take_native(&w->table[fd], d);
        replace_handle(&w->table[fd], d, NULL);
        Py_XDECREF(held);
    }
    Py_XDECREF(file);
}

static int
set(FLLoop *loop, int fd, enum fl_direction direction, FLHandle *handle,
    struct fl_watcher *native, bool once)
{
    if (fl_loop_check_process(loop) < 0) {
        return -1;
    }
    struct fl_watch *watch = entry(loop, fd);
    if (watch == NULL) {
        return -1;
    }
    struct fl_watchers *w = loop->io->watchers;
    uint8_t added = (uint8_t)(1 << direction), before = watch->once;
    watch->once = (uint8_t)(once ? before | added : before & ~added);
    int rc = fl_watch_backend_update(w, fd, wanted(watch) | added);
    watch->once = before;
    if (rc == -ENOENT) {
        fl_watch_forget(w, fd);
        w->table[fd].once = once ? added : 0;
        rc = fl_watch_backend_update(w, fd, added);
        w->table[fd].once = 0;
    }
    if (rc < 0) {
        errno = -rc;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    watch = &w->table[fd];
    PyObject *held = take_native(watch, direction);
    watch->native[direction] = native;
    if (once) {
        watch->once |= added;
        Py_INCREF(native->owner);
    }
    Py_XINCREF(handle);
    replace_handle(watch, direction, handle);
    Py_XDECREF(held);
    return 0;
}

int
fl_watch_set_handle(FLLoop *loop, int fd, enum fl_direction direction,
                    FLHandle *handle)
{
    return set(loop, fd, direction, handle, NULL, false);
}

int
fl_watch_set_native(FLLoop *loop, int fd, enum fl_direction direction,
                    struct fl_watcher *watcher)
{
    return set(loop, fd, direction, NULL, watcher, false);
}

int
fl_watch_set_once(FLLoop *loop, int fd, enum fl_direction direction,
                  struct fl_watcher *watcher)
{
    FL_ASSERT(watcher->owner != NULL);
    return set(loop, fd, direction, NULL, watcher, true);
}

int
fl_watch_remove(FLLoop *loop, int fd, enum fl_direction direction)
{
    struct fl_watch *watch =
        loop->io == NULL ? NULL : find(loop->io->watchers, fd);
    if (watch == NULL || !(wanted(watch) & (1 << direction))) {
        return 0;
    }
    PyObject *held = take_native(watch, direction);
    FLHandle *handle = watch->handle[direction];
    watch->handle[direction] = NULL;
    PyObject *file = NULL;
    /* fails when the user has closed fd: then nothing is left to undo; in a
       forked child the set is the parent's */
    int rc =
        fl_io_is_parents(loop)
            ? 0
            : fl_watch_backend_update(loop->io->watchers, fd, wanted(watch));
    if (wanted(watch) == 0) {
        file = watch->file;
        watch->file = NULL;
    }
    else if (rc == -ENOENT) {
        fl_watch_forget(loop->io->watchers, fd);
    }
    Py_XDECREF(file);
    if (handle != NULL) {
        if (fl_handle_cancel(handle) < 0) {
            PyErr_Clear();
        }
        Py_DECREF(handle);
    }
    Py_XDECREF(held);
    return 1;
}

void
fl_watch_remove_native(FLLoop *loop, int fd, enum fl_direction direction,
                       const struct fl_watcher *watcher)
{
    struct fl_watch *watch =
        loop->io == NULL ? NULL : find(loop->io->watchers, fd);
    if (watch != NULL && watch->native[direction] == watcher) {
        fl_watch_remove(loop, fd, direction);
    }
}

int
fl_watch_set_file(FLLoop *loop, int fd, PyObject *file)
{
    struct fl_watch *watch = entry(loop, fd);
    if (watch == NULL) {
        return -1;
    }
    Py_XSETREF(watch->file, Py_NewRef(file));
    return 0;
}

int
fl_watch_find_file(FLLoop *loop, PyObject *file)
{
    int size = loop->io == NULL ? 0 : loop->io->watchers->size;
    for (int fd = 0; fd < size; fd++) {
        if (loop->io->watchers->table[fd].file == file) {
            return fd;
        }
    }
    return -1;
}

int
fl_watch_set_transport(FLLoop *loop, int fd, PyObject *transport)
{
    struct fl_io *io = fl_io_of(loop);
    if (io == NULL) {
        return -1;
    }
    struct fl_watchers *w = io->watchers;
    if (fd < 0 || fd >= w->transports_size) {
        void *table = grow(w->transports, &w->transports_size,
                           sizeof(*w->transports), fd);
        if (table == NULL) {
            return -1;
        }
        w->transports = table;
    }
    w->transports[fd] = transport;
    struct fl_watch *watch = find(w, fd);
    if (watch != NULL && wanted(watch) != 0) {
        /* the transport, to be or made, reads; or its socket has come by the number
           of one that was closed while it was watched */
        fl_watch_backend_update(w, fd, 0);
        fl_watch_forget(w, fd);
    }
    return 0;
}

FL_BORROWED PyObject *
fl_watch_transport(FLLoop *loop, int fd)
{
    if (loop->io == NULL) {
        return NULL;
    }
    const struct fl_watchers *w = loop->io->watchers;
    return fd >= 0 && fd < w->transports_size ? w->transports[fd] : NULL;
}

int
fl_watch_check_free(FLLoop *loop, int fd, PyObject *file)
{
    PyObject *transport = fl_watch_transport(loop, fd);
    if (FL_LIKELY(transport == NULL)) {
        return 0;
    }
    Py_INCREF(transport);
    PyObject *answer =
        PyObject_CallMethodNoArgs(transport, loop->st->str.is_closing);
    int closing = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    if (closing == 0) {
        PyErr_Format(PyExc_RuntimeError,
                     "File descriptor %R is used by transport %R", file,
                     transport);
    }
    Py_DECREF(transport);
    return closing > 0 ? 0 : -1;
}

/* --- events ------------------------------------------------------------------- */

static void
dispatch_one(struct fl_watchers *w, int fd, enum fl_direction direction)
{
    /* Beware: a native watcher may make the table grow: look it up anew. */
    struct fl_watch *watch = &w->table[fd];
    struct fl_watcher *native = watch->native[direction];
    if (native != NULL) {
        PyObject *held = NULL;
        if (watch->once & (1 << direction)) {
            held = take_native(watch, direction);
        }
        native->ready(native);
        Py_XDECREF(held);
        return;
    }
    FLHandle *handle = watch->handle[direction];
    if (handle == NULL) {
        return;
    }
    if (handle->cancelled) {
        fl_watch_remove(w->loop, fd, direction);
        return;
    }
    if (fl_loop_push(w->loop, FL_READY_HANDLE, Py_NewRef(handle)) < 0) {
        fl_loop_set_fatal(w->loop);
    }
}

/* Tell the kernel what is left to watch after watchers were told once.  An entry
   that fell asleep stays in the set: waking it costs a quarter of adding it. */
static void
settle(struct fl_watchers *w, int fd)
{
    struct fl_watch *watch = &w->table[fd];
    uint8_t left = wanted(watch);
    if (left != watch->registered && w->backend != NULL
        && fl_watch_backend_update(w, fd, left) == -ENOENT) {
        fl_watch_forget(w, fd);
    }
}

void
fl_watch_dispatch(struct fl_watchers *w, int fd, uint8_t ready)
{
    if (ready & (1 << FL_READ)) {
        dispatch_one(w, fd, FL_READ);
    }
    if (ready & (1 << FL_WRITE)) {
        dispatch_one(w, fd, FL_WRITE);
    }
    settle(w, fd);
}

void
fl_watch_closing(FLLoop *loop, int fd)
{
    struct fl_watch *watch =
        loop->io == NULL ? NULL : find(loop->io->watchers, fd);
    if (watch == NULL || (wanted(watch) == 0 && !watch->known)) {
        return;
    }
    struct fl_watchers *w = loop->io->watchers;
    fl_watch_backend_update(w, fd, 0);
    for (int d = 0; d < 2; d++) {
        watch = &w->table[fd];
        if (watch->once & (1 << d)) {
            struct fl_watcher *native = watch->native[d];
            PyObject *held = take_native(watch, (enum fl_direction)d);
            native->ready(native);
            Py_XDECREF(held);
        }
    }
}

/* --- life ------------------------------------------------------------------ */

struct fl_watchers *
fl_watchers_new(FLLoop *loop)
{
    struct fl_watchers *w = PyMem_Calloc(1, sizeof(struct fl_watchers));
    if (w == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    w->loop = loop;
    int rc = fl_watch_backend_open(w);
    if (rc < 0) {
        PyMem_Free(w);
        fl_raise_uv(rc);
        return NULL;
    }
    return w;
}

int
fl_watchers_traverse(struct fl_watchers *w, visitproc visit, void *arg)
{
    for (int fd = 0; fd < w->size; fd++) {
        Py_VISIT(w->table[fd].handle[FL_READ]);
        Py_VISIT(w->table[fd].handle[FL_WRITE]);
        Py_VISIT(w->table[fd].file);
        for (int d = 0; d < 2; d++) {
            if (w->table[fd].once & (1 << d)) {
                Py_VISIT(w->table[fd].native[d]->owner);
            }
        }
    }
    return 0;
}

void
fl_watchers_close(struct fl_watchers *w)
{
    for (int fd = 0; fd < w->size; fd++) {
        for (int d = 0; d < 2; d++) {
            Py_CLEAR(w->table[fd].handle[d]);
            PyObject *held = take_native(&w->table[fd], (enum fl_direction)d);
            Py_XDECREF(held);
        }
        Py_CLEAR(w->table[fd].file);
    }
    fl_watch_backend_close(w);
}

void
fl_watchers_free(struct fl_watchers *w)
{
    PyMem_Free(w->table);
    PyMem_Free(w->transports);
    PyMem_Free(w);
}
