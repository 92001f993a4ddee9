#include "io/tls_openssl.h"

#include <dlfcn.h>

/* --- the layout of Python's object ------------------------------------------------ */

/* _ssl._SSLSocket begins, from CPython 3.11 to 3.15, with
       PyObject_HEAD; PyObject *Socket; SSL *ssl; PySSLContext *ctx;
   Socket is NULL for what wrap_bio() makes.  The neighbours are looked at before
   the pointer is used, and the SSL has to point back to the Python object, whatever
   the version says: another layout leads to the other engine, not to a crash. */
struct socket_head {
    PyObject_HEAD
    PyObject *sock;
    SSL *ssl;
    PyObject *ctx;
};

/* the sizes that were seen: 72 (3.15), 80 (3.12, 3.13), 88 (3.14), 96 (3.11) */
#define SMALLEST_SIZE ((Py_ssize_t)sizeof(struct socket_head) + 32)
#define LARGEST_SIZE  ((Py_ssize_t)sizeof(struct socket_head) + 56)

SSL *
fl_openssl_ssl_of(const struct fl_openssl *api, PyObject *socket,
                  PyObject *context)
{
    const PyTypeObject *type = Py_TYPE(socket);
    if (type->tp_basicsize < SMALLEST_SIZE || type->tp_basicsize > LARGEST_SIZE
        || type->tp_itemsize != 0
        || strcmp(type->tp_name, "_ssl._SSLSocket") != 0) {
        return NULL;
    }
    const struct socket_head *head = (struct socket_head *)socket;
    if (head->sock != NULL || head->ctx != context || head->ssl == NULL
        || (uintptr_t)head->ssl % sizeof(void *) != 0
        || api->SSL_get_ex_data(head->ssl, 0) != socket) {
        return NULL;
    }
    return head->ssl;
}

/* --- the library ---------------------------------------------------------------------- */

#define FUNCTIONS(X)                                                          \
    X(OpenSSL_version_num)                                                    \
    X(ERR_clear_error)                                                        \
    X(ERR_peek_error)                                                         \
    X(SSL_get_ex_data)                                                        \
    X(SSL_get_error)                                                          \
    X(SSL_read_ex)                                                            \
    X(SSL_write_ex)                                                           \
    X(SSL_has_pending)                                                        \
    X(SSL_get_shutdown)                                                       \
    X(SSL_get_rbio)                                                           \
    X(SSL_set_bio)                                                            \
    X(SSL_ctrl)                                                               \
    X(SSL_version)                                                            \
    X(EVP_PKEY_set_type)                                                      \
    X(EVP_PKEY_free)                                                          \
    X(BIO_new)                                                                \
    X(BIO_get_data)                                                           \
    X(BIO_set_data)                                                           \
    X(BIO_set_init)                                                           \
    X(BIO_set_flags)                                                          \
    X(BIO_clear_flags)                                                        \
    X(BIO_get_new_index)                                                      \
    X(BIO_meth_new)                                                           \
    X(BIO_meth_set_write)                                                     \
    X(BIO_meth_set_read)                                                      \
    X(BIO_meth_set_ctrl)

/* dlsym() gives an object pointer; ISO C has no cast to a function's. */
static bool
look_up(void *library, const char *name, void *function)
{
    void *address = dlsym(library, name);
    memcpy(function, &address, sizeof(address));
    return address != NULL;
}

/* Through the handle of the _ssl module its own libraries are found, and no others
   that the process may have loaded. */
static bool
look_up_all(const char *path, struct fl_openssl *api)
{
    void *library = dlopen(path, RTLD_LAZY | RTLD_LOCAL | RTLD_NOLOAD);
    if (library == NULL) {
        return false;
    }
    bool found = true;
#define X(name) found = look_up(library, #name, &api->name) && found;
    FUNCTIONS(X)
#undef X
    dlclose(library); /* _ssl, which stays imported, holds it */
    return found;
}

/* Is the library that was found the one that _ssl works with? */
static int
is_the_same(PyObject *module, const struct fl_openssl *api)
{
    PyObject *number =
        PyObject_GetAttrString(module, "OPENSSL_VERSION_NUMBER");
    if (number == NULL) {
        return -1;
    }
    unsigned long version = PyLong_AsUnsignedLong(number);
    Py_DECREF(number);
    if (PyErr_Occurred()) {
        return -1;
    }
    return version == api->OpenSSL_version_num();
}

/* An SSL object of Python's, looked at through the library. */
static int
self_test(PyObject *module, const struct fl_openssl *api)
{
    int same = is_the_same(module, api);
    if (same <= 0) {
        return same;
    }
    int passed = -1;
    PyObject *context = NULL, *in = NULL, *out = NULL, *socket = NULL;
    PyObject *kind = PyObject_GetAttrString(module, "PROTOCOL_TLS_CLIENT");
    if (kind != NULL) {
        context = PyObject_CallMethod(module, "_SSLContext", "O", kind);
    }
    in = PyObject_CallMethod(module, "MemoryBIO", NULL);
    out = PyObject_CallMethod(module, "MemoryBIO", NULL);
    if (context != NULL && in != NULL && out != NULL) {
        socket = PyObject_CallMethod(context, "_wrap_bio", "OOO", in, out,
                                     Py_False);
    }
    if (socket != NULL) {
        SSL *ssl = fl_openssl_ssl_of(api, socket, context);
        passed = ssl != NULL && api->SSL_get_rbio(ssl) != NULL
                 && api->SSL_get_shutdown(ssl) == 0
                 && api->SSL_has_pending(ssl) == 0;
    }
    Py_XDECREF(socket);
    Py_XDECREF(out);
    Py_XDECREF(in);
    Py_XDECREF(context);
    Py_XDECREF(kind);
    return passed;
}

static int
find_and_test(struct fl_openssl *api)
{
    PyObject *module = PyImport_ImportModule("_ssl");
    if (module == NULL) {
        return -1;
    }
    int found = 0;
    PyObject *path = PyObject_GetAttrString(module, "__file__");
    const char *utf8 = path == NULL ? NULL : PyUnicode_AsUTF8(path);
    if (utf8 == NULL) {
        PyErr_Clear(); /* it is built into the interpreter */
    }
    else if (look_up_all(utf8, api)) {
        found = self_test(module, api);
    }
    Py_XDECREF(path);
    Py_DECREF(module);
    return found;
}

int
fl_openssl_find(struct fl_openssl *api)
{
    memset(api, 0, sizeof(*api));
    int found = find_and_test(api);
    if (found < 0 && PyErr_ExceptionMatches(PyExc_Exception)) {
        PyErr_Clear(); /* a Python that is made otherwise: no reason to fail */
        found = 0;
    }
    return found;
}
