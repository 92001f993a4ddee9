#include "core/stream.h"

void
fl_stream_offer_transport(fl_state *st, PyTypeObject *type,
                          const struct fl_stream_transport *ops)
{
    struct fl_stream_link *link = st->stream_links;
    while (link->type != NULL) {
        link++;
        FL_ASSERT(link < st->stream_links + FL_STREAM_TRANSPORTS);
    }
    FL_ASSERT(type->tp_dictoffset > 0);
    link->type = type;
    link->ops = ops;
}

void
fl_stream_offer_protocol(fl_state *st, PyTypeObject *type, fl_stream_feed feed,
                         fl_stream_fill fill)
{
    struct fl_stream_feed_link *link = st->stream_feeds;
    while (link->type != NULL) {
        link++;
        FL_ASSERT(link < st->stream_feeds + FL_STREAM_PROTOCOLS);
    }
    link->type = type;
    link->feed = feed;
    link->fill = fill;
}

/* --- who overrides what ----------------------------------------------------------- */

static bool
is_types_own(PyTypeObject *type, PyObject *name)
{
    PyObject *method = PyObject_GetAttr((PyObject *)type, name);
    if (method == NULL) {
        PyErr_Clear();
        return false;
    }
    bool own = Py_IS_TYPE(method, &PyMethodDescr_Type)
               && PyDescr_TYPE(method) == type
               && PyUnicode_Compare(PyDescr_NAME(method), name) == 0;
    Py_DECREF(method);
    return own;
}

/* The type was changed since we last looked: has it still its methods? */
FL_COLD bool
fl_stream_check_type(fl_state *st, struct fl_stream_link *link)
{
    PyObject *names[] = {st->str.write, st->str.is_closing,
                         st->str.pause_reading, st->str.resume_reading};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        if (!is_types_own(link->type, names[i])) {
            return false;
        }
    }
    link->version = link->type->tp_version_tag;
    return true;
}

/* What an object has in its own dict passes its type's methods over. */
FL_COLD bool
fl_stream_check_dict(fl_state *st, PyObject *dict)
{
    PyObject *names[] = {st->str.write, st->str.is_closing,
                         st->str.pause_reading, st->str.resume_reading};
    if (PyDict_GET_SIZE(dict) == 0) {
        return true;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        int there = PyDict_Contains(dict, names[i]);
        if (there != 0) {
            if (there < 0) {
                PyErr_Clear();
            }
            return false;
        }
    }
    return true;
}
