/* Watches every descriptor of a process: who opens it, who uses it, who closes it.

   A library to preload.  From watch_begin() on a number that is closed is not given
   back: in the same call it becomes a decoy's.  So whoever uses or closes a number
   that is no longer his is caught in the act, and the process ends there, where
   faulthandler can tell who it was.  A decoy goes when LIMIT others are younger.

   Functions of the C library are replaced by their names.  What the library opens and
   closes inside itself (opendir) is not seen, and does no harm. */
#define _GNU_SOURCE /* but not <sys/socket.h>: its types would get in the way */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NUMBERS (1 << 20)
#define KINDS   64


enum state { UNKNOWN, OPEN, DECOY };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pid_t watched; /* the process; 0: nothing is watched */
static int decoy = -1;
static unsigned char states[NUMBERS];
static const char *opener[NUMBERS];

static int *decoys; /* a ring, the oldest first */
static unsigned limit, first, count;

static struct {
    const char *name;
    long calls;
} kinds[KINDS];

static int (*real_close)(int);

static void *
find(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL) {
        dprintf(2, "there is no %s()\n", name);
        abort();
    }
    return found;
}

#define FIND(name)                                                            \
    static __typeof__(name) *real;                                            \
    if (real == NULL) {                                                       \
        real = find(#name);                                                   \
    }

/* A child made by vfork() runs in our memory, with a table of its own. */
static int
is_watched(int fd)
{
    return watched != 0 && fd >= 0 && fd < NUMBERS && getpid() == watched;
}

static void
caught(const char *name, int fd, const char *what)
{
    dprintf(2, "%s(%d): %s (opened by %s)\n", name, fd, what,
            opener[fd] == NULL ? "?" : opener[fd]);
    watched = 0; /* what tells of it writes, too */
    pthread_mutex_unlock(&lock);
    abort();
}

static void
called(const char *name)
{
    int i = 0;
    while (kinds[i].name != NULL && kinds[i].name != name) {
        if (++i == KINDS) {
            abort();
        }
    }
    kinds[i].name = name;
    kinds[i].calls++;
}

/* --- opening, using, closing -------------------------------------------------------- */

static int
opened(const char *name, int fd)
{
    if (is_watched(fd)) {
        pthread_mutex_lock(&lock);
        called(name);
        if (states[fd] == DECOY) {
            caught(name, fd, "a decoy was closed unseen");
        }
        states[fd] = OPEN;
        opener[fd] = name;
        pthread_mutex_unlock(&lock);
    }
    return fd;
}

static void
used(const char *name, int fd)
{
    if (is_watched(fd)) {
        pthread_mutex_lock(&lock);
        called(name);
        if (states[fd] == DECOY) {
            caught(name, fd, "used after it was closed");
        }
        pthread_mutex_unlock(&lock);
    }
}

static void
forget_oldest(void)
{
    int fd = decoys[first];
    first = (first + 1) % limit;
    count--;
    states[fd] = UNKNOWN;
    real_close(fd);
}

static int
put_decoy(const char *name, int fd)
{
    if (states[fd] == DECOY) {
        caught(name, fd, "closed a second time");
    }
    if (count == limit) {
        forget_oldest();
    }
    while (dup3(decoy, fd, O_CLOEXEC) < 0) {
        if (errno != EINTR && errno != EBUSY) {
            return -1;
        }
    }
    states[fd] = DECOY;
    decoys[(first + count++) % limit] = fd;
    return 0;
}

static int
close_watched(const char *name, int fd)
{
    static int (*get_flags)(int, int, ...);
    pthread_mutex_lock(&lock);
    if (get_flags == NULL) {
        get_flags = find("fcntl");
    }
    called(name);
    if (get_flags(fd, F_GETFD) < 0) {
        caught(name, fd, "is not open");
    }
    int rc = put_decoy(name, fd);
    pthread_mutex_unlock(&lock);
    return rc;
}

/* --- for the program ------------------------------------------------------------- */

/* Begin to watch, with so many decoys at most; 0 or -1. */
int
watch_begin(unsigned most)
{
    real_close = find("close");
    decoy = open("/dev/null", O_RDONLY | O_CLOEXEC);
    decoys = calloc(most, sizeof(int));
    limit = most;
    watched = getpid();
    return decoy < 0 || decoys == NULL ? -1 : 0;
}

/* Give all numbers back. */
void
watch_end(void)
{
    watched = 0;
    while (count > 0) {
        forget_oldest();
    }
    real_close(decoy);
    free(decoys);
}

int
watch_is_decoy(int fd)
{
    return fd == decoy || (fd >= 0 && fd < NUMBERS && states[fd] == DECOY);
}

const char *
watch_opener(int fd)
{
    return opener[fd] == NULL ? "?" : opener[fd];
}

long
watch_calls(const char *name)
{
    for (int i = 0; i < KINDS && kinds[i].name != NULL; i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            return kinds[i].calls;
        }
    }
    return 0;
}

/* --- the functions of the C library ------------------------------------------------ */

#define OPENS(name, parameters, arguments)                                    \
    int name parameters                                                       \
    {                                                                         \
        FIND(name);                                                           \
        return opened(#name, real arguments);                                 \
    }

#define USES(type, name, parameters, arguments)                               \
    type name parameters                                                      \
    {                                                                         \
        FIND(name);                                                           \
        used(#name, fd);                                                      \
        return real arguments;                                                \
    }

OPENS(socket, (int family, int type, int protocol), (family, type, protocol))
OPENS(epoll_create1, (int flags), (flags))
OPENS(eventfd, (unsigned value, int flags), (value, flags))
OPENS(pidfd_open, (pid_t pid, unsigned flags), (pid, flags))

#define ACCEPTS(name, parameters, arguments)                                  \
    int name parameters                                                       \
    {                                                                         \
        FIND(name);                                                           \
        used(#name, fd);                                                      \
        return opened(#name " gave", real arguments);                         \
    }

ACCEPTS(accept, (int fd, void *address, void *size), (fd, address, size))
ACCEPTS(accept4, (int fd, void *address, void *size, int flags),
        (fd, address, size, flags))
ACCEPTS(dup, (int fd), (fd))

#define OPENS_TWO(name, parameters, arguments)                                \
    int name parameters                                                       \
    {                                                                         \
        FIND(name);                                                           \
        int rc = real arguments;                                              \
        if (rc == 0) {                                                        \
            opened(#name, fds[0]);                                            \
            opened(#name, fds[1]);                                            \
        }                                                                     \
        return rc;                                                            \
    }

OPENS_TWO(socketpair, (int family, int type, int protocol, int fds[2]),
          (family, type, protocol, fds))
OPENS_TWO(pipe, (int fds[2]), (fds))
OPENS_TWO(pipe2, (int fds[2], int flags), (fds, flags))

USES(ssize_t, read, (int fd, void *data, size_t size), (fd, data, size))
USES(ssize_t, __read_chk, (int fd, void *data, size_t size, size_t room),
     (fd, data, size, room))
USES(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size))
USES(ssize_t, readv, (int fd, const void *parts, int n), (fd, parts, n))
USES(ssize_t, writev, (int fd, const void *parts, int n), (fd, parts, n))
USES(ssize_t, recv, (int fd, void *data, size_t size, int flags),
     (fd, data, size, flags))
USES(ssize_t, send, (int fd, const void *data, size_t size, int flags),
     (fd, data, size, flags))
USES(ssize_t, recvfrom,
     (int fd, void *data, size_t size, int flags, void *from, void *length),
     (fd, data, size, flags, from, length))
USES(ssize_t, sendto,
     (int fd, const void *data, size_t size, int flags, const void *to,
      unsigned length),
     (fd, data, size, flags, to, length))
USES(ssize_t, recvmsg, (int fd, void *message, int flags),
     (fd, message, flags))
USES(ssize_t, sendmsg, (int fd, const void *message, int flags),
     (fd, message, flags))
USES(int, connect, (int fd, const void *to, unsigned length), (fd, to, length))
USES(int, bind, (int fd, const void *to, unsigned length), (fd, to, length))
USES(int, listen, (int fd, int backlog), (fd, backlog))
USES(int, shutdown, (int fd, int how), (fd, how))
USES(int, getsockname, (int fd, void *address, void *size),
     (fd, address, size))
USES(int, getpeername, (int fd, void *address, void *size),
     (fd, address, size))
USES(int, getsockopt, (int fd, int level, int name, void *value, void *size),
     (fd, level, name, value, size))
USES(int, setsockopt,
     (int fd, int level, int name, const void *value, unsigned size),
     (fd, level, name, value, size))
USES(int, epoll_wait, (int fd, void *events, int n, int timeout),
     (fd, events, n, timeout))
USES(int, epoll_pwait,
     (int fd, void *events, int n, int timeout, const void *signals),
     (fd, events, n, timeout, signals))

int
epoll_ctl(int set, int what, int fd, void *event)
{
    FIND(epoll_ctl);
    used("epoll_ctl", set);
    used("epoll_ctl", fd);
    return real(set, what, fd, event);
}

int
waitid(int kind, unsigned number, void *info, int options)
{
    enum { PIDFD = 3 };
    FIND(waitid);
    if (kind == PIDFD) {
        used("waitid", (int)number);
    }
    return real(kind, number, info, options);
}

int
ioctl(int fd, unsigned long request, ...)
{
    FIND(ioctl);
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    used("ioctl", fd);
    return real(fd, request, argument);
}

#define FCNTL(name)                                                           \
    int name(int fd, int command, ...)                                        \
    {                                                                         \
        FIND(name);                                                           \
        va_list arguments;                                                    \
        va_start(arguments, command);                                         \
        void *argument = va_arg(arguments, void *);                           \
        va_end(arguments);                                                    \
        used(#name, fd);                                                      \
        int rc = real(fd, command, argument);                                 \
        if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) {               \
            opened(#name " gave", rc);                                        \
        }                                                                     \
        return rc;                                                            \
    }

#undef fcntl
#undef fcntl64
FCNTL(fcntl)
FCNTL(fcntl64)

int
close(int fd)
{
    FIND(close);
    return is_watched(fd) ? close_watched("close", fd) : real(fd);
}

/* libuv closes, and Python opens a pidfd, with the bare system call */
long
syscall(long number, ...)
{
    FIND(syscall);
    long a[6];
    va_list arguments;
    va_start(arguments, number);
    for (int i = 0; i < 6; i++) {
        a[i] = va_arg(arguments, long);
    }
    va_end(arguments);
    if (number == SYS_close && is_watched((int)a[0])) {
        return close_watched("close", (int)a[0]);
    }
    long result = real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (number == SYS_pidfd_open) {
        opened("pidfd_open", (int)result);
    }
    return result;
}
