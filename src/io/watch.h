/* Watching descriptors that are not ours: the user's (add_reader), listening
   sockets, sockets that connect.

   They never enter libuv's tables.  A descriptor there that its user closed makes
   libuv abort the process, and one whose number comes back belongs to two
   handles at once.  On Linux they live in an epoll set of our own, which libuv
   watches as a single descriptor (watch_epoll.c); elsewhere each has a uv_poll_t
   that is guarded (watch_uv.c). */
#ifndef FL_IO_WATCH_H
#define FL_IO_WATCH_H

#include "core/handle.h"
#include "io/io.h"

enum fl_direction { FL_READ = 0, FL_WRITE = 1 };

/* C code that waits for a descriptor; embedded in its owner. */
struct fl_watcher {
    void (*ready)(struct fl_watcher *watcher); /* GIL held */
    PyObject *owner; /* borrowed; what fl_watch_set_once() keeps alive */
};

struct fl_watch {
    FLHandle *handle[2];          /* owned; by direction */
    struct fl_watcher *native[2]; /* borrowed; instead of a handle */
    PyObject *file;               /* owned; what the user passed, if no int */
    uint8_t registered;  /* directions the kernel reports, as 1 << direction */
    uint8_t once;        /* directions whose watcher is told once, likewise */
    bool known;          /* epoll: fd is in the set, if only asleep */
    bool one_shot;       /* epoll: falls asleep when it has reported */
    uint32_t generation; /* which registration this is; the backend's */
    void *backend;       /* owned by the backend */
};

struct fl_watchers {
    FLLoop *loop;           /* borrowed */
    struct fl_watch *table; /* by descriptor; up to the last one watched */
    int size;
    int transports_size;
    PyObject **transports; /* borrowed; by descriptor, whose transport it is */
    uint32_t generations;  /* the last one given out */
    void *backend;         /* owned by the backend */
};

/* Set or replace who is told; handle is borrowed.  0, or -1 with OSError. */
int fl_watch_set_handle(FLLoop *loop, int fd, enum fl_direction direction,
                        FLHandle *handle);
int fl_watch_set_native(FLLoop *loop, int fd, enum fl_direction direction,
                        struct fl_watcher *watcher);

/* Tell the watcher once; it is no longer set when it is told.  Its owner is kept
   alive until then. */
int fl_watch_set_once(FLLoop *loop, int fd, enum fl_direction direction,
                      struct fl_watcher *watcher);

/* Stop telling.  1: was watched, 0: was not. */
int fl_watch_remove(FLLoop *loop, int fd, enum fl_direction direction);

/* Stop telling this watcher; nothing happens if fd is another's by now. */
void fl_watch_remove_native(FLLoop *loop, int fd, enum fl_direction direction,
                            const struct fl_watcher *watcher);

/* The loop is about to close fd: who waits for it once is told now, and will find
   it closed. */
void fl_watch_closing(FLLoop *loop, int fd);

/* Remember the object behind fd: a closed one does not know its number. */
int fl_watch_set_file(FLLoop *loop, int fd, PyObject *file);
/* The number that file had when it was watched, or -1 (no exception). */
int fl_watch_find_file(FLLoop *loop, PyObject *file);

/* Note which transport owns fd (NULL: none any more). */
int fl_watch_set_transport(FLLoop *loop, int fd, PyObject *transport);
FL_BORROWED PyObject *fl_watch_transport(FLLoop *loop, int fd);
/* 0, or -1 with RuntimeError if fd belongs to a transport that is not closing;
   file is what the user calls it. */
int fl_watch_check_free(FLLoop *loop, int fd, PyObject *file);

/* For io.c. */
struct fl_watchers *fl_watchers_new(FLLoop *loop);
int fl_watchers_traverse(struct fl_watchers *w, visitproc visit, void *arg);
void fl_watchers_close(struct fl_watchers *w);
void fl_watchers_free(struct fl_watchers *w);

/* What a backend supplies.  update: make the kernel watch fd for wanted (a set
   of 1 << direction); 0 or a negative errno, -ENOENT if the number has become
   another file's since it was registered.  open and close may allocate. */
int fl_watch_backend_open(struct fl_watchers *w);
void fl_watch_backend_close(struct fl_watchers *w);
int fl_watch_backend_update(struct fl_watchers *w, int fd, uint8_t wanted);

/* What a backend calls.  forget: whoever watched fd watched a file that is gone;
   runs user code.  dispatch: fd is ready for a set of directions.  GIL held. */
void fl_watch_forget(struct fl_watchers *w, int fd);
void fl_watch_dispatch(struct fl_watchers *w, int fd, uint8_t ready);

#endif
