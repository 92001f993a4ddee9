#include "io/sockaddr.h"

#include "io/io.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

/* --- to Python --------------------------------------------------------------- */

bool
fl_sockaddr_known(int family)
{
    return family == AF_INET || family == AF_INET6 || family == AF_UNIX;
}

/* (host, port).  Twice as fast as inet_ntop(), which prints with sprintf(). */
static PyObject *
from_inet(const struct sockaddr_in *in)
{
    const uint8_t *octets = (const uint8_t *)&in->sin_addr;
    char host[INET_ADDRSTRLEN];
    char *p = host;
    for (int i = 0; i < 4; i++) {
        unsigned n = octets[i];
        if (n >= 100) {
            *p++ = (char)('0' + n / 100);
        }
        if (n >= 10) {
            *p++ = (char)('0' + n / 10 % 10);
        }
        *p++ = (char)('0' + n % 10);
        *p++ = '.';
    }
    return Py_BuildValue("(s#i)", host, (Py_ssize_t)(p - 1 - host),
                         ntohs(in->sin_port));
}

static PyObject *
from_inet6(const struct sockaddr_in6 *in6)
{
    char host[INET6_ADDRSTRLEN];
    inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
    return Py_BuildValue("(siII)", host, ntohs(in6->sin6_port),
                         ntohl(in6->sin6_flowinfo), in6->sin6_scope_id);
}

/* A path as str; a name of Linux's abstract namespace as bytes. */
static PyObject *
from_unix(const struct sockaddr_un *un, socklen_t size)
{
    size_t start = offsetof(struct sockaddr_un, sun_path);
    size_t length = size > start ? size - start : 0;
#ifdef __linux__
    if (length > 0 && un->sun_path[0] == '\0') {
        return PyBytes_FromStringAndSize(un->sun_path, (Py_ssize_t)length);
    }
#endif
    return PyUnicode_DecodeFSDefaultAndSize(
        un->sun_path, (Py_ssize_t)strnlen(un->sun_path, length));
}

PyObject *
fl_sockaddr_to_python(const struct fl_sockaddr *address)
{
    const void *raw = &address->u;
    if (address->size == 0) {
        Py_RETURN_NONE;
    }
    switch (address->u.any.sa_family) {
        case AF_INET:
            return from_inet(raw);
        case AF_INET6:
            return from_inet6(raw);
        default:
            FL_ASSERT(address->u.any.sa_family == AF_UNIX);
            return from_unix(raw, address->size);
    }
}

/* --- from Python ------------------------------------------------------------- */

/* An int of the exact type, from 0 to max. */
static bool
small_int(PyObject *o, unsigned long max, unsigned long *value)
{
    if (!PyLong_CheckExact(o)) {
        return false;
    }
    *value = PyLong_AsUnsignedLong(o);
    if (*value == (unsigned long)-1 && PyErr_Occurred()) {
        PyErr_Clear();
        return false;
    }
    return *value <= max;
}

/* The characters of an ASCII str without NUL; NULL for anything else. */
static const char *
ascii(PyObject *o)
{
    if (!PyUnicode_CheckExact(o) || !PyUnicode_IS_COMPACT_ASCII(o)) {
        return NULL;
    }
    const char *text = (const char *)PyUnicode_1BYTE_DATA(o);
    return strlen(text) == (size_t)PyUnicode_GET_LENGTH(o) ? text : NULL;
}

static bool
to_inet(PyObject *tuple, const char *host, unsigned long port,
        struct fl_sockaddr *address)
{
    struct sockaddr_in *in = (struct sockaddr_in *)(void *)&address->u;
    *in = (struct sockaddr_in){.sin_family = AF_INET};
    in->sin_port = htons((uint16_t)port);
    address->size = sizeof(*in);
    return PyTuple_GET_SIZE(tuple) == 2
           && inet_pton(AF_INET, host, &in->sin_addr) == 1;
}

static bool
to_inet6(PyObject *tuple, const char *host, unsigned long port,
         struct fl_sockaddr *address)
{
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)&address->u;
    *in6 = (struct sockaddr_in6){.sin6_family = AF_INET6};
    in6->sin6_port = htons((uint16_t)port);
    address->size = sizeof(*in6);
    unsigned long flow = 0, scope = 0;
    Py_ssize_t n = PyTuple_GET_SIZE(tuple);
    if (n > 4
        || (n > 2 && !small_int(PyTuple_GET_ITEM(tuple, 2), 0xfffff, &flow))
        || (n > 3
            && !small_int(PyTuple_GET_ITEM(tuple, 3), UINT32_MAX, &scope))) {
        return false;
    }
    in6->sin6_flowinfo = htonl((uint32_t)flow);
    in6->sin6_scope_id = (uint32_t)scope;
    return inet_pton(AF_INET6, host, &in6->sin6_addr) == 1;
}

static bool
parse(int family, PyObject *tuple, struct fl_sockaddr *address)
{
    if (!PyTuple_CheckExact(tuple) || PyTuple_GET_SIZE(tuple) < 2) {
        return false;
    }
    const char *host = ascii(PyTuple_GET_ITEM(tuple, 0));
    unsigned long port;
    if (host == NULL
        || !small_int(PyTuple_GET_ITEM(tuple, 1), UINT16_MAX, &port)) {
        return false;
    }
    switch (family) {
        case AF_INET:
            return to_inet(tuple, host, port, address);
        case AF_INET6:
            return to_inet6(tuple, host, port, address);
        default:
            return false;
    }
}

/* --- the memory -------------------------------------------------------------- */

#ifdef FL_DEBUG
#  define PEERS 4u
#else
#  define PEERS 256u /* a power of two */
#endif

struct peer {
    PyObject *tuple; /* owned; NULL: empty */
    struct sockaddr_in6 raw;
    socklen_t size;
};

struct fl_peers {
    struct peer *last; /* given out last; NULL: none */
    struct peer table[PEERS];
};

/* Where an address has its place: FNV-1a over what tells peers apart. */
static struct peer *
place(struct fl_peers *peers, const struct fl_sockaddr *address)
{
    const uint8_t *bytes = (const uint8_t *)&address->u;
    uint32_t hash = 2166136261u;
    for (socklen_t i = 2; i < address->size; i++) {
        hash = (hash ^ bytes[i]) * 16777619u;
    }
    return &peers->table[(hash ^ hash >> 16) & (PEERS - 1)];
}

PyObject *
fl_sockaddr_remembered(struct fl_io *io, const struct fl_sockaddr *address)
{
    int family = address->size == 0 ? AF_UNSPEC : address->u.any.sa_family;
    if (family != AF_INET && family != AF_INET6) {
        return fl_sockaddr_to_python(address);
    }
    struct fl_peers *peers = io->peers;
    if (FL_UNLIKELY(peers == NULL)) {
        peers = io->peers = PyMem_Calloc(1, sizeof(struct fl_peers));
        if (peers == NULL) {
            return PyErr_NoMemory();
        }
    }
    FL_ASSERT(address->size <= sizeof(struct sockaddr_in6));
    struct peer *peer = peers->last;
    if (peer == NULL || peer->size != address->size
        || memcmp(&peer->raw, &address->u, address->size) != 0) {
        peer = place(peers, address);
        if (peer->tuple == NULL || peer->size != address->size
            || memcmp(&peer->raw, &address->u, address->size) != 0) {
            PyObject *tuple = fl_sockaddr_to_python(address);
            if (tuple == NULL) {
                return NULL;
            }
            Py_XSETREF(peer->tuple, tuple);
            memcpy(&peer->raw, &address->u, address->size);
            peer->size = address->size;
        }
        peers->last = peer;
    }
    return Py_NewRef(peer->tuple);
}

bool
fl_sockaddr_from_python(struct fl_io *io, int family, PyObject *tuple,
                        struct fl_sockaddr *address)
{
    struct peer *last = io->peers == NULL ? NULL : io->peers->last;
    if (last != NULL && last->tuple == tuple
        && last->raw.sin6_family == family) {
        memcpy(&address->u, &last->raw, last->size);
        address->size = last->size;
        return true;
    }
    return parse(family, tuple, address);
}

void
fl_sockaddr_forget(struct fl_io *io)
{
    struct fl_peers *peers = io->peers;
    io->peers = NULL;
    for (uint32_t i = 0; peers != NULL && i < PEERS; i++) {
        Py_XDECREF(peers->table[i].tuple);
    }
    PyMem_Free(peers);
}
