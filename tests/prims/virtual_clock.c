/* A clock that nobody waits for: preloaded, it stands still while a loop has work, and
   a loop that would sleep finds that the time has passed.

   So timers of any length are due at once and in the same order each time, on any event
   loop that sleeps in epoll_wait() or ppoll(), with none of its code replaced.  Setting the
   monotonic clock sets this one. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define EXPORT    __attribute__((visibility("default")))
#define SECOND_NS INT64_C(1000000000)
#define TICK_NS   (SECOND_NS / 64)

static int64_t now_ns = 1000 * SECOND_NS;

static int
is_monotonic(clockid_t clock)
{
    return clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE
           || clock == CLOCK_MONOTONIC_RAW || clock == CLOCK_BOOTTIME;
}

EXPORT int
clock_gettime(clockid_t clock, struct timespec *result)
{
    if (!is_monotonic(clock)) {
        return (int)syscall(SYS_clock_gettime, clock, result);
    }
    result->tv_sec = now_ns / SECOND_NS;
    result->tv_nsec = now_ns % SECOND_NS;
    return 0;
}

EXPORT int
clock_settime(clockid_t clock, const struct timespec *value)
{
    if (!is_monotonic(clock)) {
        return (int)syscall(SYS_clock_settime, clock, value);
    }
    now_ns = value->tv_sec * SECOND_NS + value->tv_nsec;
    return 0;
}

EXPORT int
epoll_pwait(int fd, struct epoll_event *events, int size, int timeout,
            const sigset_t *mask)
{
    int count =
        (int)syscall(SYS_epoll_pwait, fd, events, size, 0, mask, _NSIG / 8);
    if (count == 0 && timeout > 0) {
        now_ns += timeout * (SECOND_NS / 1000);
        now_ns -= now_ns % TICK_NS;
    }
    if (count == 0 && timeout < 0) {
        static const char message[] = "a loop that waits for ever\n";
        (void)!write(2, message, sizeof message - 1);
        abort();
    }
    return count;
}

EXPORT int
epoll_wait(int fd, struct epoll_event *events, int size, int timeout)
{
    return epoll_pwait(fd, events, size, timeout, NULL);
}

EXPORT int
ppoll(struct pollfd *fds, nfds_t size, const struct timespec *timeout,
      const sigset_t *mask)
{
    struct timespec none = {0};
    int count = (int)syscall(SYS_ppoll, fds, size, &none, mask, _NSIG / 8);
    if (count == 0 && timeout != NULL) {
        now_ns += timeout->tv_sec * SECOND_NS + timeout->tv_nsec;
    }
    return count;
}
