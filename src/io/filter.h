/* A filter: a protocol in C that sits between a transport and the protocol of the
   user, and is fed without a Python call per packet.  TLS is the only one.

   A filter is embedded in a Python object, which is the transport's protocol: that
   keeps it alive.  Its functions run with the GIL held and no context entered by
   the transport; an exception that they raise is treated like one of a
   BufferedProtocol's methods. */
#ifndef FL_IO_FILTER_H
#define FL_IO_FILTER_H

#include "core/loop.h"

struct fl_filter;

struct fl_filter_ops {
    int (*made)(struct fl_filter *filter);
    int (*received)(struct fl_filter *filter, const char *data, size_t size);
    int (*eof)(struct fl_filter *filter); /* 1: stay half open */
    int (*lost)(struct fl_filter *filter, PyObject *exc);
    void (*pause_writing)(struct fl_filter *filter);
    void (*resume_writing)(struct fl_filter *filter);
};

/* What a filter stands on: a transport, in the form that a filter needs it. */
struct fl_below {
    /* Send at once what can be sent; the rest is copied.  Errors are dealt with
       below and come back as lost(). */
    void (*send)(PyObject *transport, const char *data, size_t size);
    PyObject *transport; /* borrowed here */
    PyObject *context;   /* borrowed here; callbacks run in it */
};

struct fl_filter {
    const struct fl_filter_ops *ops;
};

/* The filter that a protocol is, or NULL (no exception). */
struct fl_filter *fl_filter_of(fl_state *st, PyObject *protocol);

/* Put the filter on a transport, which holds it as its protocol from now on.  -1
   with RuntimeError if it is in use. */
int fl_filter_attach(struct fl_filter *filter, const struct fl_below *below);

#endif
