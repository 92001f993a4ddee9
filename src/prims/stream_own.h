/* The overridable methods of streams, one bit each: what enum fl_own is to locks. */
#ifndef FL_PRIMS_STREAM_OWN_H
#define FL_PRIMS_STREAM_OWN_H

enum fl_own_reader {
    FL_OWN_READ = 1 << 0,
    FL_OWN_READLINE = 1 << 1,
    FL_OWN_READUNTIL = 1 << 2,
    FL_OWN_FEED_DATA = 1 << 3,
    FL_OWN_FEED_EOF = 1 << 4,
    FL_OWN_EXCEPTION = 1 << 5,
    FL_OWN_SET_EXCEPTION = 1 << 6,
    FL_OWN_SET_TRANSPORT = 1 << 7,
    FL_OWN_WAIT_FOR_DATA = 1 << 8,
    FL_OWN_WAKEUP = 1 << 9,
    FL_OWN_RESUME = 1 << 10, /* _maybe_resume_transport */
};

enum fl_own_protocol {
    FL_OWN_DATA_RECEIVED = 1 << 0,
    FL_OWN_DRAIN_HELPER = 1 << 1,
    FL_OWN_CLOSE_WAITER = 1 << 2, /* _get_close_waiter */
};

#endif
