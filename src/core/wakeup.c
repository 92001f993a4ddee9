/* Waking the loop from another thread.

   Whoever holds the GIL may push on the ready ring; a loop that is not asleep
   will find it.  A sleeping one is woken once, however many callbacks come while
   it wakes up: it says that it sleeps before it gives up the GIL, after it saw the ring
   empty, so no wakeup can fall between.  One that still looks for events before it
   sleeps needs no system call.

   On Linux the loop has an eventfd of its own.  uv_async_send() writes to libuv's while it
   holds a lock of a kind; on one processor that write mostly makes the loop's thread
   run at once, which then turns around for 10 microseconds until it lets the other
   finish. */
#include "core/loop.h"

#ifdef FL_EVENTFD

#  include <errno.h>
#  include <sys/eventfd.h>
#  include <unistd.h>

static void
woken_cb(uv_poll_t *poll, int Py_UNUSED(status), int Py_UNUSED(events))
{
    FLLoop *loop = fl_loop_of_uv(poll->loop);
    eventfd_t times;
    (void)eventfd_read(loop->wakeup.fd, &times);
    fl_loop_take_gil(loop);
}

int
fl_loop_open_wakeup(FLLoop *loop)
{
    struct fl_wakeup *wakeup = &loop->wakeup;
    wakeup->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wakeup->fd < 0) {
        return uv_translate_sys_error(errno);
    }
    int rc = uv_poll_init(&loop->uv, &wakeup->poll, wakeup->fd);
    if (rc < 0) {
        close(wakeup->fd);
        return rc;
    }
    /* cannot fail: nobody else watches a descriptor that is new */
    return uv_poll_start(&wakeup->poll, UV_READABLE, woken_cb);
}

void
fl_loop_close_wakeup(FLLoop *loop)
{
    uv_close((uv_handle_t *)&loop->wakeup.poll, NULL);
    close(loop->wakeup.fd);
}

static void
send_wakeup(struct fl_wakeup *wakeup)
{
    /* fails only if it has been written to 2**64 times and never read */
    (void)eventfd_write(wakeup->fd, 1);
}

#else

static void
woken_cb(uv_async_t *async)
{
    fl_loop_take_gil(fl_loop_of_uv(async->loop));
}

int
fl_loop_open_wakeup(FLLoop *loop)
{
    return uv_async_init(&loop->uv, &loop->wakeup.async, woken_cb);
}

void
fl_loop_close_wakeup(FLLoop *loop)
{
    uv_close((uv_handle_t *)&loop->wakeup.async, NULL);
}

static void
send_wakeup(struct fl_wakeup *wakeup)
{
    uv_async_send(&wakeup->async);
}

#endif

void
fl_loop_wake(FLLoop *loop)
{
    struct fl_wakeup *wakeup = &loop->wakeup;
    if (fl_wakeup_state(wakeup) != FL_AWAKE
        && atomic_exchange(&wakeup->state, FL_WOKEN) == FL_ASLEEP) {
        send_wakeup(wakeup);
    }
}
