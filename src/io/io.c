#include "io/io.h"

#include "io/datagram.h"
#include "io/listener.h"
#include "io/pipe.h"
#include "io/tls.h"
#include "io/sock_op.h"
#include "io/sockaddr.h"
#include "io/transport.h"
#include "io/watch.h"

#define USUAL_BLOCK (1024 * 1024)

static struct fl_io *
io_of_attached(struct fl_attached *attached)
{
    return FL_CONTAINER_OF(attached, struct fl_io, attached);
}

static int
io_traverse(struct fl_attached *attached, visitproc visit, void *arg)
{
    return fl_watchers_traverse(io_of_attached(attached)->watchers, visit,
                                arg);
}

static void
io_close(struct fl_attached *attached)
{
    struct fl_io *io = io_of_attached(attached);
    fl_list_unlink(&attached->node);
    io->loop->io = NULL;
    fl_watchers_close(io->watchers);
    fl_watchers_free(io->watchers);
    fl_sockaddr_forget(io);
    Py_CLEAR(io->received);
    PyMem_RawFree(io->scratch);
    PyMem_RawFree(io->plain);
    PyMem_RawFree(io->spare[0].data);
    PyMem_RawFree(io->spare[1].data);
    PyMem_Free(io);
}

static const struct fl_attached_ops attached_ops = {io_traverse, io_close,
                                                    NULL};

static FL_COLD struct fl_io *
io_new(FLLoop *loop)
{
    struct fl_io *io = PyMem_Calloc(1, sizeof(struct fl_io));
    if (io == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    io->loop = loop;
    io->watchers = fl_watchers_new(loop);
    if (io->watchers == NULL) {
        PyMem_Free(io);
        return NULL;
    }
    io->attached.ops = &attached_ops;
    fl_list_init(&io->attached.node);
    fl_list_append(&loop->attached, &io->attached.node);
    loop->io = io;
    return io;
}

struct fl_io *
fl_io_of(FLLoop *loop)
{
    if (FL_LIKELY(loop->io != NULL)) {
        return loop->io;
    }
    if (fl_loop_check_open(loop) < 0 || fl_loop_check_process(loop) < 0
        || fl_loop_open_uv(loop) < 0) {
        return NULL;
    }
    return io_new(loop);
}

/* glibc's malloc() gives free memory at the end of its heap back to the kernel from 128
   KiB on, which then clears it page by page when it is asked for anew: for each message
   of such a size.  Once a large block was freed it keeps twice as much as that.  A loop of
   asyncio's, which receives into blocks of 256 KiB, teaches it so in passing. */
static void
teach_malloc(void)
{
    PyMem_RawFree(PyMem_RawMalloc(USUAL_BLOCK));
}

char *
fl_io_scratch(FLLoop *loop)
{
    struct fl_io *io = loop->io;
    if (FL_UNLIKELY(io->scratch == NULL)) {
        teach_malloc();
        io->scratch = PyMem_RawMalloc(FL_SCRATCH_SIZE);
    }
    return io->scratch;
}

static int
has_attr(PyObject *o, PyObject *name)
{
    PyObject *value;
    int found = fl_getattr_optional(o, name, &value);
    Py_XDECREF(value);
    return found;
}

/* One that lacks the method for a stream of bytes objects, and has that for the other
   kind, is of that kind, whatever it inherits from: asyncio would fail at the first
   byte. */
int
fl_protocol_is_buffered(fl_state *st, PyObject *protocol)
{
    int buffered = PyObject_IsInstance(protocol, st->imp.BufferedProtocol);
    if (buffered != 0) {
        return buffered;
    }
    int plain = has_attr(protocol, st->str.data_received);
    return plain != 0 ? (plain < 0 ? -1 : 0)
                      : has_attr(protocol, st->str.get_buffer);
}

int
fl_io_init_types(PyObject *module)
{
    return fl_transport_init_types(module) < 0 || fl_tls_init_types(module) < 0
                   || fl_listener_init_types(module) < 0
                   || fl_pipe_init_types(module) < 0
                   || fl_datagram_init_types(module) < 0
                   || fl_sock_op_init_types(module) < 0
               ? -1
               : 0;
}
