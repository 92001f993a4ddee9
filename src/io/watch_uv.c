/* Other systems: one uv_poll_t for each watched descriptor.

   libuv aborts when it finds a descriptor closed behind its back.  So one is
   checked before it is handed over, and checked again by a prepare handle before
   every poll in which it would be registered.  The file behind a number is
   remembered: when the number has become another's, the watch ends. */
#include "io/watch.h"

#if !defined(__linux__) || defined(FL_PORTABLE)

#  include <errno.h>
#  include <fcntl.h>
#  include <sys/stat.h>

struct poller {
    uv_poll_t poll;
    struct fl_watchers *watchers;
    int fd;
    struct fl_list node; /* in backend.armed until the next poll */
    dev_t device;        /* which file it is */
    ino_t inode;
    uint64_t round; /* the poll that ... */
    uint8_t told;   /* ... has told of these directions */
};

struct backend {
    uv_prepare_t prepare; /* freed in its close callback */
    struct fl_list armed;
    uint64_t round; /* polls so far */
};

static bool
is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0 || errno != EBADF;
}

/* Is the file still the one that was handed over? */
static bool
is_same(const struct poller *p)
{
    struct stat now;
    return fstat(p->fd, &now) == 0 && now.st_dev == p->device
           && now.st_ino == p->inode;
}

static void release(struct fl_watch *watch);

/* One poll may bring the same event several times. */
static uint8_t
not_told(struct poller *p, uint8_t ready)
{
    struct backend *b = p->watchers->backend;
    if (p->round != b->round) {
        p->round = b->round;
        p->told = 0;
    }
    ready &= (uint8_t)~p->told;
    p->told |= ready;
    return ready;
}

static void
poll_cb(uv_poll_t *poll, int status, int events)
{
    struct poller *p = FL_CONTAINER_OF(poll, struct poller, poll);
    struct fl_watchers *w = p->watchers;
    fl_loop_take_gil(w->loop);
    if (!is_same(p)) {
        int gone = p->fd;
        release(&w->table[gone]);
        fl_watch_forget(w, gone);
        return;
    }
    uint8_t ready = 0;
    if (status < 0 || (events & (UV_READABLE | UV_DISCONNECT))) {
        ready |= 1 << FL_READ;
    }
    if (status < 0 || (events & (UV_WRITABLE | UV_DISCONNECT))) {
        ready |= 1 << FL_WRITE;
    }
    int fd = p->fd;
    fl_watch_dispatch(w, fd, not_told(p, ready));
    if (status < 0 && w->backend != NULL) {
        /* libuv has stopped watching: go on, or tell for ever */
        struct fl_watch *watch = &w->table[fd];
        uint8_t set = watch->registered;
        watch->registered = 0;
        if (set != 0) {
            fl_watch_backend_update(w, fd, set);
        }
    }
}

static void
free_poller_cb(uv_handle_t *handle)
{
    PyMem_RawFree(FL_CONTAINER_OF(handle, struct poller, poll));
}

static void
release(struct fl_watch *watch)
{
    struct poller *p = watch->backend;
    watch->backend = NULL;
    watch->registered = 0;
    fl_list_unlink(&p->node);
    uv_close((uv_handle_t *)&p->poll, free_poller_cb);
}

static int
new_poller(struct fl_watchers *w, int fd)
{
    struct poller *p = PyMem_RawCalloc(1, sizeof(struct poller));
    if (p == NULL) {
        return UV_ENOMEM;
    }
    int rc = uv_poll_init(&w->loop->uv, &p->poll, fd);
    if (rc < 0) {
        PyMem_RawFree(p);
        return rc;
    }
    struct stat file;
    fstat(fd, &file); /* is_open() has seen it */
    p->device = file.st_dev;
    p->inode = file.st_ino;
    p->watchers = w;
    p->fd = fd;
    fl_list_init(&p->node);
    w->table[fd].backend = p;
    return 0;
}

int
fl_watch_backend_update(struct fl_watchers *w, int fd, uint8_t set)
{
    struct fl_watch *watch = &w->table[fd];
    if (set == 0) {
        if (watch->backend != NULL) {
            release(watch);
        }
        return 0;
    }
    if (!is_open(fd)) {
        if (watch->backend != NULL) {
            release(watch);
        }
        return -EBADF;
    }
    if (watch->backend != NULL && !is_same(watch->backend)) {
        release(watch);
        return -ENOENT;
    }
    int rc = watch->backend == NULL ? new_poller(w, fd) : 0;
    if (rc < 0) {
        return rc;
    }
    struct poller *p = watch->backend;
    int events = UV_DISCONNECT;
    events |= set & (1 << FL_READ) ? UV_READABLE : 0;
    events |= set & (1 << FL_WRITE) ? UV_WRITABLE : 0;
    rc = uv_poll_start(&p->poll, events, poll_cb);
    if (rc < 0) {
        release(watch);
        return rc;
    }
    watch->registered = set;
    if (!fl_list_linked(&p->node)) {
        fl_list_append(&((struct backend *)w->backend)->armed, &p->node);
    }
    return 0;
}

static void
prepare_cb(uv_prepare_t *prepare)
{
    struct backend *b = FL_CONTAINER_OF(prepare, struct backend, prepare);
    b->round++;
    while (!fl_list_empty(&b->armed)) {
        struct poller *p = FL_CONTAINER_OF(b->armed.next, struct poller, node);
        fl_list_unlink(&p->node);
        if (!is_same(p)) {
            release(&p->watchers->table[p->fd]);
        }
    }
}

static void
free_backend_cb(uv_handle_t *handle)
{
    PyMem_RawFree(FL_CONTAINER_OF(handle, struct backend, prepare));
}

int
fl_watch_backend_open(struct fl_watchers *w)
{
    struct backend *b = PyMem_RawCalloc(1, sizeof(struct backend));
    if (b == NULL) {
        return UV_ENOMEM;
    }
    fl_list_init(&b->armed);
    uv_prepare_init(&w->loop->uv, &b->prepare);
    uv_prepare_start(&b->prepare, prepare_cb);
    uv_unref((uv_handle_t *)&b->prepare);
    w->backend = b;
    return 0;
}

void
fl_watch_backend_close(struct fl_watchers *w)
{
    for (int fd = 0; fd < w->size; fd++) {
        if (w->table[fd].backend != NULL) {
            release(&w->table[fd]);
        }
    }
    struct backend *b = w->backend;
    w->backend = NULL;
    uv_close((uv_handle_t *)&b->prepare, free_backend_cb);
}

#else
typedef int fl_watch_uv_unused;
#endif
