/* Socket addresses as Python's socket module writes them. */
#include "io/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

PyObject *
fl_unix_name_to_python(const struct sockaddr *name, socklen_t size)
{
    const struct sockaddr_un *address =
        (const struct sockaddr_un *)(const void *)name;
    size_t begin = offsetof(struct sockaddr_un, sun_path);
    size_t length = size > begin ? size - begin : 0;
#if defined(__linux__)
    if (length > 0 && address->sun_path[0] == '\0') {
        return PyBytes_FromStringAndSize(address->sun_path,
                                         (Py_ssize_t)length);
    }
#endif
    return PyUnicode_DecodeFSDefaultAndSize(
        address->sun_path, (Py_ssize_t)strnlen(address->sun_path, length));
}

PyObject *
fl_address_to_python(const struct sockaddr *address)
{
    char host[INET6_ADDRSTRLEN];
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in =
            (const struct sockaddr_in *)(const void *)address;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
        return Py_BuildValue("(si)", host, ntohs(in->sin_port));
    }
    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 =
            (const struct sockaddr_in6 *)(const void *)address;
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
        return Py_BuildValue("(siII)", host, ntohs(in6->sin6_port),
                             ntohl(in6->sin6_flowinfo), in6->sin6_scope_id);
    }
    Py_RETURN_NONE;
}
