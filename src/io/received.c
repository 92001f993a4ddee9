#include "io/received.h"

/* smaller ones come from Python's own allocator, which is as fast */
#define SMALLEST 512
#define LARGEST  (32 * 1024)
/* more memory than that is not wasted on one that is kept */
#define WASTE_MAX 128

/* An object that nobody else has may change, as long as nobody has asked for its
   hash, which is kept in it. */
static void
set_contents(PyObject *bytes, const char *data, size_t size)
{
    _Py_COMP_DIAG_PUSH _Py_COMP_DIAG_IGNORE_DEPR_DECLS((PyBytesObject *)bytes)
        ->ob_shash = -1;
    _Py_COMP_DIAG_POP Py_SET_SIZE(bytes, (Py_ssize_t)size);
    memcpy(PyBytes_AS_STRING(bytes), data, size);
    PyBytes_AS_STRING(bytes)[size] = 0;
}

/* HOT */
PyObject *
fl_received_bytes(FLLoop *loop, const char *data, size_t size)
{
    if (size <= SMALLEST || size > LARGEST) {
        return PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
    }
    struct fl_io *io = loop->io;
    PyObject *last = io->received;
    size_t room = io->received_room;
    if (FL_LIKELY(last != NULL && Py_REFCNT(last) == 1 && size <= room
                  && room - size <= WASTE_MAX)) {
        set_contents(last, data, size);
        return Py_NewRef(last);
    }
    Py_XSETREF(io->received,
               PyBytes_FromStringAndSize(data, (Py_ssize_t)size));
    io->received_room = size;
    return Py_XNewRef(io->received);
}
