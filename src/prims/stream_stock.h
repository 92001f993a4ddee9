/* asyncio's own streams on transports of ours. */
#ifndef FL_PRIMS_STREAM_STOCK_H
#define FL_PRIMS_STREAM_STOCK_H

#include "core/stream.h"

/* A fl_stream_feed and a fl_stream_fill for asyncio.StreamReaderProtocol; see
   core/stream.h. */
int fl_stock_feed(fl_state *st, PyObject *protocol, PyObject *data);
int fl_stock_fill(fl_state *st, PyObject *protocol, size_t size,
                  fl_stream_source source, void *from, Py_ssize_t *got);

#endif
