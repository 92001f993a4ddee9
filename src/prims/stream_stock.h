/* asyncio's own streams on transports of ours. */
#ifndef FL_PRIMS_STREAM_STOCK_H
#define FL_PRIMS_STREAM_STOCK_H

#include "base/state.h"

/* A fl_stream_feed for asyncio.StreamReaderProtocol; see core/stream.h. */
int fl_stock_feed(fl_state *st, PyObject *protocol, PyObject *data);

#endif
