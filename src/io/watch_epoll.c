/* Linux: an epoll set of our own, watched by libuv as one descriptor.

   Registering takes effect at once and reports its errors to the caller.  The
   table's idea of what the kernel knows can be wrong in two ways, both the
   user's doing: a closed descriptor left the set by itself (ENOENT on change), or a
   closed one is still in it because a duplicate is open.  The second cannot be
   removed by number any more, and would be reported for ever: the set is then made
   anew.  A generation number tells an event of such a file from one of the file
   that has the number now.

   Who waits once (the sock_* methods) has EPOLLONESHOT: the entry falls asleep when
   it has reported, and the next wait wakes it.  Adding and deleting it each time
   takes four times as long.  No wait goes without a call that tells a file from the
   one that has its number next. */
#include "io/watch.h"

#if defined(__linux__) && !defined(FL_PORTABLE)

#  include <errno.h>
#  include <sys/epoll.h>
#  include <unistd.h>

#  define BATCH 128

struct backend {
    int epfd;
    uv_poll_t poll; /* on epfd; freed in its close callback */
};

static uint32_t
to_epoll(uint8_t set)
{
    uint32_t events = 0;
    if (set & (1 << FL_READ)) {
        events |= EPOLLIN;
    }
    if (set & (1 << FL_WRITE)) {
        events |= EPOLLOUT;
    }
    return events;
}

/* Errors and hang-ups concern whoever watches, in either direction. */
static uint8_t
from_epoll(uint32_t events)
{
    uint8_t set = 0;
    if (events & ~(uint32_t)EPOLLOUT) {
        set |= 1 << FL_READ;
    }
    if (events & ~(uint32_t)EPOLLIN) {
        set |= 1 << FL_WRITE;
    }
    return set;
}

static int
control(int epfd, int op, int fd, uint8_t set, const struct fl_watch *watch)
{
    struct epoll_event event = {
        .events = to_epoll(set),
        .data.u64 = (uint64_t)watch->generation << 32 | (uint32_t)fd,
    };
    if ((set & ~watch->once) == 0) {
        event.events |= EPOLLONESHOT;
    }
    return epoll_ctl(epfd, op, fd, &event) < 0 ? -errno : 0;
}

int
fl_watch_backend_update(struct fl_watchers *w, int fd, uint8_t set)
{
    struct backend *b = w->backend;
    struct fl_watch *watch = &w->table[fd];
    int rc = 0;
    if (set == 0) {
        rc = watch->known ? control(b->epfd, EPOLL_CTL_DEL, fd, 0, watch) : 0;
        watch->known = false;
        watch->registered = 0;
        return rc;
    }
    if (watch->known) {
        rc = control(b->epfd, EPOLL_CTL_MOD, fd, set, watch);
        if (rc == -ENOENT && watch->registered == 0) {
            watch->known = false; /* it slept: nobody watched the old file */
        }
    }
    if (!watch->known) {
        watch->generation = ++w->generations;
        rc = control(b->epfd, EPOLL_CTL_ADD, fd, set, watch);
        if (rc == -EEXIST) {
            rc = control(b->epfd, EPOLL_CTL_MOD, fd, set, watch);
        }
    }
    if (rc == 0) {
        watch->known = true;
        watch->registered = set;
        watch->one_shot = (set & ~watch->once) == 0;
    }
    else if (rc == -ENOENT || rc == -EBADF) {
        watch->known = false;
        watch->registered = 0;
    }
    return rc;
}

static void poll_cb(uv_poll_t *poll, int status, int events);

static void
free_backend_cb(uv_handle_t *handle)
{
    PyMem_RawFree(FL_CONTAINER_OF(handle, struct backend, poll));
}

static void
release(struct backend *b)
{
    uv_close((uv_handle_t *)&b->poll, free_backend_cb);
    close(b->epfd);
}

int
fl_watch_backend_open(struct fl_watchers *w)
{
    struct backend *b = PyMem_RawCalloc(1, sizeof(struct backend));
    if (b == NULL) {
        return UV_ENOMEM;
    }
    b->epfd = epoll_create1(EPOLL_CLOEXEC);
    int rc =
        b->epfd < 0 ? -errno : uv_poll_init(&w->loop->uv, &b->poll, b->epfd);
    if (rc < 0) {
        if (b->epfd >= 0) {
            close(b->epfd);
        }
        PyMem_RawFree(b);
        return rc;
    }
    b->poll.data = w;
    rc = uv_poll_start(&b->poll, UV_READABLE, poll_cb);
    if (rc < 0) {
        release(b);
        return rc;
    }
    w->backend = b;
    return 0;
}

void
fl_watch_backend_close(struct fl_watchers *w)
{
    release(w->backend);
    w->backend = NULL;
}

/* Leave behind what cannot be removed from the old set. */
static FL_COLD void
start_anew(struct fl_watchers *w)
{
    struct backend *old = w->backend;
    for (int fd = 0; fd < w->size; fd++) {
        struct fl_watch *watch = &w->table[fd];
        if (watch->registered != 0
            && control(old->epfd, EPOLL_CTL_MOD, fd, watch->registered, watch)
                   < 0) {
            /* closed: it must not be added under a number that is another's */
            watch->registered = 0;
            fl_watch_forget(w, fd);
        }
    }
    if (fl_watch_backend_open(w) < 0) {
        return; /* out of descriptors: try again at the next stale event */
    }
    release(old);
    for (int fd = 0; fd < w->size; fd++) {
        uint8_t set = w->table[fd].registered;
        w->table[fd].registered = 0;
        w->table[fd].known = false;
        if (set != 0) {
            fl_watch_backend_update(w, fd, set);
        }
    }
}

static void
poll_cb(uv_poll_t *poll, int Py_UNUSED(status), int Py_UNUSED(ready))
{
    struct fl_watchers *w = poll->data;
    fl_loop_take_gil(w->loop);
    struct backend *b = w->backend;
    struct epoll_event events[BATCH];
    int n = epoll_wait(b->epfd, events, BATCH, 0);
    bool stale = false;
    for (int i = 0; i < n; i++) {
        int fd = (int)(uint32_t)events[i].data.u64;
        struct fl_watch *watch = &w->table[fd];
        uint32_t generation = (uint32_t)(events[i].data.u64 >> 32);
        if (watch->registered == 0 || watch->generation != generation) {
            stale = true;
            continue;
        }
        if (watch->one_shot) {
            watch->registered = 0; /* the kernel reports it no more */
        }
        fl_watch_dispatch(w, fd, from_epoll(events[i].events));
        if (w->backend == NULL) {
            return;
        }
    }
    if (FL_UNLIKELY(stale)) {
        start_anew(w);
    }
}

#else
typedef int fl_watch_epoll_unused;
#endif
