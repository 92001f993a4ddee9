/* Where streams and transports meet, which do not know each other.

   A transport's type offers the functions that a stream's writer and reader call for
   each packet; a stream's protocol type offers one that takes the data a transport
   has read.  Either side looks the other up by its exact type and, where somebody
   overrides a method that would be passed over, calls it by name. */
#ifndef FL_CORE_STREAM_H
#define FL_CORE_STREAM_H

#include "base/state.h"

/* What the methods of the same names do. */
struct fl_stream_transport {
    int (*write)(PyObject *transport, PyObject *data); /* 0 or -1 */
    int (*is_closing)(PyObject *transport);            /* 1, 0 or -1 */
    int (*pause_reading)(PyObject *transport);         /* 0 or -1 */
    int (*resume_reading)(PyObject *transport);        /* 0 or -1 */
};

typedef int (*fl_stream_feed)(fl_state *st, PyObject *protocol,
                              PyObject *data);

/* Where data comes from: put up to `size` bytes there, return how many or, with nothing
   done, anything else that the caller will understand.  Runs no code of Python's. */
typedef Py_ssize_t (*fl_stream_source)(void *from, char *place, size_t size);
typedef int (*fl_stream_fill)(fl_state *st, PyObject *protocol, size_t size,
                              fl_stream_source source, void *from,
                              Py_ssize_t *got);

/* Offer them: called once for each type, when the module is made. */
void fl_stream_offer_transport(fl_state *st, PyTypeObject *type,
                               const struct fl_stream_transport *ops);
void fl_stream_offer_protocol(fl_state *st, PyTypeObject *type,
                              fl_stream_feed feed, fl_stream_fill fill);

/* HOT: give data, exact bytes, to the reader of a stream's protocol (which may be NULL).
   1: did; 0: data_received() is to be called, and nothing has been done; -1: an
   exception.  Runs no code that minds the context. */
static inline int
fl_stream_feed_protocol(fl_state *st, PyObject *protocol, PyObject *data)
{
    for (int i = 0; protocol != NULL && i < FL_STREAM_PROTOCOLS; i++) {
        if (Py_IS_TYPE(protocol, st->stream_feeds[i].type)) {
            Py_INCREF(protocol);
            int fed = st->stream_feeds[i].feed(st, protocol, data);
            Py_DECREF(protocol);
            return fed;
        }
    }
    return 0;
}

/* As fl_stream_feed_protocol(), of data that has not been read: up to `size` bytes go
   from the source straight to where the reader keeps them.  1: the source was asked, and
   has said *got; 0: it was not asked; -1: an exception. */
static inline int
fl_stream_fill_protocol(fl_state *st, PyObject *protocol, size_t size,
                        fl_stream_source source, void *from, Py_ssize_t *got)
{
    for (int i = 0; protocol != NULL && i < FL_STREAM_PROTOCOLS; i++) {
        const struct fl_stream_feed_link *link = &st->stream_feeds[i];
        if (link->fill != NULL && Py_IS_TYPE(protocol, link->type)) {
            Py_INCREF(protocol);
            int filled = link->fill(st, protocol, size, source, from, got);
            Py_DECREF(protocol);
            return filled;
        }
    }
    return 0;
}

FL_COLD bool fl_stream_check_type(fl_state *st, struct fl_stream_link *link);
FL_COLD bool fl_stream_check_dict(fl_state *st, PyObject *dict);

/* HOT: the functions of a transport whose methods nobody overrides, or NULL. */
static inline const struct fl_stream_transport *
fl_stream_transport_of(fl_state *st, PyObject *transport)
{
    const PyTypeObject *type = Py_TYPE(transport);
    struct fl_stream_link *link = st->stream_links;
    while (link->type != type) {
        if (++link == st->stream_links + FL_STREAM_TRANSPORTS) {
            return NULL;
        }
    }
    if (FL_UNLIKELY(type->tp_version_tag != link->version
                    || link->version == 0)
        && !fl_stream_check_type(st, link)) {
        return NULL;
    }
    PyObject *dict =
        *(PyObject **)(void *)((char *)transport + type->tp_dictoffset);
    return FL_LIKELY(dict == NULL) || fl_stream_check_dict(st, dict)
               ? link->ops
               : NULL;
}

#endif
