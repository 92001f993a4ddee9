/* A numeric host is resolved by libc itself, told not to look anything up: the
   answer is libc's in every detail (scopes, odd notations, canonical names, the
   order and number of entries), and it cannot block.  Only what is asked most, the
   plain address of a TCP or UDP socket, has one answer that needs no libc. */
#include "io/dns.h"

#include "io/transport.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netdb.h>
#include <stdio.h>

#define HOST_MAX 80

/* Copy host if it could be numeric.  1 yes, 0 no, -1 error. */
static int
numeric_host(PyObject *object, char *host)
{
    const char *text;
    Py_ssize_t size;
    if (PyUnicode_Check(object)) {
        if (!PyUnicode_IS_ASCII(object)) {
            return 0;
        }
        text = PyUnicode_AsUTF8AndSize(object, &size);
        if (text == NULL) {
            return -1;
        }
    }
    else if (PyBytes_Check(object)) {
        text = PyBytes_AS_STRING(object);
        size = PyBytes_GET_SIZE(object);
    }
    else {
        return 0;
    }
    if (size == 0 || size >= HOST_MAX || strlen(text) != (size_t)size) {
        return 0;
    }
    /* a name has a letter that no number has; after % comes an interface */
    for (Py_ssize_t i = 0; i < size && text[i] != '%'; i++) {
        if (!isxdigit((unsigned char)text[i]) && text[i] != '.'
            && text[i] != ':' && text[i] != 'x' && text[i] != 'X') {
            return 0;
        }
    }
    memcpy(host, text, (size_t)size + 1);
    return 1;
}

/* The service string for a port that is a number, or NULL in *service for None.
   1 yes, 0 it is a name, -1 error. */
static int
numeric_port(PyObject *object, char *buffer, size_t size, const char **service)
{
    *service = NULL;
    if (object == Py_None) {
        return 1;
    }
    if (!PyLong_CheckExact(object)) {
        return 0;
    }
    int overflow;
    long port = PyLong_AsLongAndOverflow(object, &overflow);
    if (overflow || (port == -1 && PyErr_Occurred())) {
        PyErr_Clear();
        return 0; /* let socket.getaddrinfo() word the error */
    }
    PyOS_snprintf(buffer, size, "%ld", port);
    *service = buffer;
    return 1;
}

/* 1, or 0 for what is no int, of C's size: socket.getaddrinfo() words the error. */
static int
small_number(PyObject *object, int *number)
{
    long value = PyLong_AsLong(object);
    if (value == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    *number = (int)value;
    return value >= INT_MIN && value <= INT_MAX;
}

/* value as the member of the enum that Python's socket module would give */
static PyObject *
as_enum(PyObject *members, int value)
{
    PyObject *number = PyLong_FromLong(value);
    if (number == NULL) {
        return NULL;
    }
    PyObject *member = PyDict_GetItemWithError(members, number);
    if (member == NULL) {
        return PyErr_Occurred() ? NULL : number;
    }
    Py_DECREF(number);
    return Py_NewRef(member);
}

static PyObject *
entry_to_python(fl_state *st, const struct addrinfo *info)
{
    return Py_BuildValue(
        "(NNisN)", as_enum(st->sup.address_families, info->ai_family),
        as_enum(st->sup.socket_kinds, info->ai_socktype), info->ai_protocol,
        info->ai_canonname ? info->ai_canonname : "",
        fl_address_to_python(info->ai_addr));
}

static PyObject *
list_to_python(fl_state *st, const struct addrinfo *info)
{
    PyObject *list = PyList_New(0);
    for (; list != NULL && info != NULL; info = info->ai_next) {
        PyObject *entry = entry_to_python(st, info);
        if (entry == NULL || PyList_Append(list, entry) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(entry);
    }
    return list;
}

/* The protocol if a question has but one answer, whatever the libc: a dotted address,
   a port, TCP or UDP.  Else 0. */
static int
plain_protocol(PyObject *const *args, const char *host, const int numbers[4])
{
    struct in_addr address;
    int family = numbers[0], type = numbers[1], flags = numbers[3];
    int protocol = type == SOCK_STREAM  ? IPPROTO_TCP
                   : type == SOCK_DGRAM ? IPPROTO_UDP
                                        : 0;
    bool plain = protocol != 0 && (numbers[2] == 0 || numbers[2] == protocol)
                 && (family == AF_UNSPEC || family == AF_INET) && flags == 0
                 && PyUnicode_CheckExact(args[0])
                 && PyLong_CheckExact(args[1])
                 /* refuses leading zeros: the text is that of the answer */
                 && inet_pton(AF_INET, host, &address) == 1;
    if (!plain) {
        return 0;
    }
    int overflow;
    long port = PyLong_AsLongAndOverflow(args[1], &overflow);
    return overflow == 0 && port >= 0 && port <= UINT16_MAX ? protocol : 0;
}

static int
audit(PyObject *const *args, const int numbers[4])
{
    return PySys_Audit("socket.getaddrinfo", "OOiii", args[0], args[1],
                       numbers[0], numbers[1], numbers[2]);
}

/* [(AF_INET, type, protocol, "", (host, port))], or NULL with an exception */
static PyObject *
plain_answer(fl_state *st, PyObject *const *args, int type, int protocol)
{
    PyObject *items[] = {
        as_enum(st->sup.address_families, AF_INET),
        as_enum(st->sup.socket_kinds, type),
        PyLong_FromLong(protocol),
        PyUnicode_New(0, 0),
        PyTuple_Pack(2, args[0], args[1]),
    };
    bool made = true;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(items); i++) {
        made = made && items[i] != NULL;
    }
    PyObject *entry = made ? PyTuple_Pack(5, items[0], items[1], items[2],
                                          items[3], items[4])
                           : NULL;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(items); i++) {
        Py_XDECREF(items[i]);
    }
    PyObject *list = entry == NULL ? NULL : PyList_New(1);
    if (list == NULL) {
        Py_XDECREF(entry);
        return NULL;
    }
    PyList_SET_ITEM(list, 0, entry);
    return list;
}

PyObject *
fl_getaddrinfo_numeric(PyObject *module, PyObject *const *args,
                       Py_ssize_t nargs)
{
    if (nargs != 6) {
        PyErr_SetString(PyExc_TypeError,
                        "getaddrinfo_numeric() takes 6 arguments");
        return NULL;
    }
    char host[HOST_MAX];
    char buffer[32];
    const char *service;
    int numeric = numeric_host(args[0], host);
    if (numeric > 0) {
        numeric = numeric_port(args[1], buffer, sizeof(buffer), &service);
    }
    int numbers[4];
    for (int i = 0; numeric > 0 && i < 4; i++) {
        numeric = small_number(args[2 + i], &numbers[i]);
    }
    if (numeric < 0) {
        return NULL;
    }
    if (numeric == 0) {
        Py_RETURN_NONE;
    }
    fl_state *st = fl_state_of_module(module);
    int protocol = plain_protocol(args, host, numbers);
    if (protocol != 0) {
        return audit(args, numbers) < 0
                   ? NULL
                   : plain_answer(st, args, numbers[1], protocol);
    }
    struct addrinfo hints = {
        .ai_family = numbers[0],
        .ai_socktype = numbers[1],
        .ai_protocol = numbers[2],
        .ai_flags = numbers[3] | AI_NUMERICHOST,
    };
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, service, &hints, &found) != 0) {
        /* not numeric after all, or an error that the slow way will raise */
        Py_RETURN_NONE;
    }
    /* only now, lest the slow way be audited a second time; nothing was asked of
       anybody so far */
    PyObject *list =
        audit(args, numbers) < 0 ? NULL : list_to_python(st, found);
    freeaddrinfo(found);
    return list;
}
