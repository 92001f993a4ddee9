/* The engine that calls OpenSSL itself.

   OpenSSL reads from, and writes to, a BIO of ours: ciphertext is taken from the
   very buffer that the kernel filled, and put into the one that is sent.

   The GIL is kept while data is en- and decrypted.  Handshake and shutdown are
   calls of Python's methods, which give it up: there the BIO's functions touch
   nothing but the memory of their own connection. */
#include "io/tls.h"

#include <limits.h>

/* OpenSSL calls a BIO with nothing but a BIO*, and what that holds takes a function
   of the library to look at.  So its functions are the one thing that is found
   through a variable of the process: written once, under the GIL, and no objects. */
static struct {
    struct fl_openssl api;
    BIO_METHOD *method;
    bool tried;
    bool usable;
} libssl;

/* Where the memory of buffers comes from: the loop's store, or malloc() when Python's
   methods, which give up the GIL, have called OpenSSL (then other threads may use the
   store, by freeing what belongs to the loop). */
static inline FLLoop *
store_of(const FLTLS *t)
{
    return t->data.direct.has_gil ? t->loop : NULL;
}

/* --- the BIO ----------------------------------------------------------------- */

/* HOT */
static int
bio_read(BIO *bio, char *buf, int size)
{
    const struct fl_openssl *api = &libssl.api;
    FLTLS *t = api->BIO_get_data(bio);
    api->BIO_clear_flags(bio, FL_BIO_FLAGS_RETRY_ALL);
    if (size <= 0) {
        return 0;
    }
    size_t wanted = (size_t)size;
    size_t left = t == NULL ? 0 : fl_tls_buffer_used(&t->incoming);
    if (FL_UNLIKELY(left > 0)) {
        size_t n = left < wanted ? left : wanted;
        memcpy(buf, fl_tls_buffer_data(&t->incoming), n);
        fl_tls_buffer_consume(store_of(t), &t->incoming, n);
        return (int)n;
    }
    if (FL_LIKELY(t != NULL && t->data.direct.view_size > 0)) {
        size_t n = t->data.direct.view_size;
        n = n < wanted ? n : wanted;
        memcpy(buf, t->data.direct.view, n);
        t->data.direct.view += n;
        t->data.direct.view_size -= n;
        return (int)n;
    }
    api->BIO_set_flags(bio, FL_BIO_FLAGS_READ | FL_BIO_FLAGS_SHOULD_RETRY);
    return -1;
}

/* HOT */
static int
bio_write(BIO *bio, const char *data, int size)
{
    const struct fl_openssl *api = &libssl.api;
    FLTLS *t = api->BIO_get_data(bio);
    api->BIO_clear_flags(bio, FL_BIO_FLAGS_RETRY_ALL);
    if (size <= 0) {
        return 0;
    }
    if (FL_LIKELY(t != NULL)
        && fl_tls_buffer_append(store_of(t), &t->outgoing, data, (size_t)size)
               < 0) {
        return -1;
    }
    return size; /* for a connection that is gone: into the void */
}

static long
bio_ctrl(BIO *bio, int command, long Py_UNUSED(number),
         void *Py_UNUSED(pointer))
{
    switch (command) {
        case FL_BIO_CTRL_FLUSH:
            return 1;
        case FL_BIO_CTRL_PENDING:
        case FL_BIO_CTRL_WPENDING:
            break;
        default:
            return 0; /* asked several times a record: what concerns sockets */
    }
    const FLTLS *t = libssl.api.BIO_get_data(bio);
    if (t == NULL) {
        return 0;
    }
    return command == FL_BIO_CTRL_PENDING
               ? (long)t->engine->unread(t)
               : (long)fl_tls_buffer_used(&t->outgoing);
}

/* --- whether it works here -------------------------------------------------------- */

static bool
make_method(void)
{
    const struct fl_openssl *api = &libssl.api;
    int index = api->BIO_get_new_index();
    BIO_METHOD *m =
        index < 0
            ? NULL
            : api->BIO_meth_new(index | FL_BIO_TYPE_SOURCE_SINK, "fastloop");
    libssl.method = m; /* for the life of the process */
    return m != NULL && api->BIO_meth_set_read(m, bio_read) == 1
           && api->BIO_meth_set_write(m, bio_write) == 1
           && api->BIO_meth_set_ctrl(m, bio_ctrl) == 1;
}

bool
fl_tls_direct_usable(void)
{
    if (!libssl.tried) {
        libssl.tried = true;
        int found = fl_openssl_find(&libssl.api);
        if (found < 0) {
            PyErr_Clear();
        }
        libssl.usable = found > 0 && make_method();
    }
    return libssl.usable;
}

/* --- opening and closing -------------------------------------------------------------- */

/* The SSL behind t->sslobj, with its Python object in t->data; NULL without an
   exception if it is not where it should be. */
static SSL *
find_ssl(FLTLS *t)
{
    PyObject *socket = PyObject_GetAttrString(t->sslobj, "_sslobj");
    PyObject *context =
        socket == NULL ? NULL : PyObject_GetAttrString(socket, "context");
    SSL *ssl = NULL;
    if (context != NULL) {
        ssl = fl_openssl_ssl_of(&libssl.api, socket, context);
    }
    else {
        PyErr_Clear(); /* an object of the user's own making */
    }
    if (ssl != NULL) {
        t->data.direct.socket = Py_NewRef(socket);
    }
    Py_XDECREF(context);
    Py_XDECREF(socket);
    return ssl;
}

int
fl_tls_open_direct(FLTLS *t)
{
    const struct fl_openssl *api = &libssl.api;
    SSL *ssl = find_ssl(t);
    if (ssl == NULL) {
        return 0;
    }
    BIO *bio = api->BIO_new(libssl.method);
    if (bio == NULL) {
        Py_CLEAR(t->data.direct.socket);
        PyErr_NoMemory();
        return -1;
    }
    api->BIO_set_data(bio, t);
    api->BIO_set_init(bio, 1);
    api->SSL_set_bio(ssl, bio, bio); /* one reference for both */
    t->data.direct.ssl = ssl;
    t->data.direct.bio = bio;
    t->engine = &fl_tls_engine_direct;
    return 1;
}

static void
direct_close(FLTLS *t)
{
    if (t->data.direct.bio != NULL) {
        /* the SSL object may live on, without us */
        libssl.api.BIO_set_data(t->data.direct.bio, NULL);
        t->data.direct.bio = NULL;
        t->data.direct.ssl = NULL;
        t->data.direct.view_size = 0;
        Py_CLEAR(t->data.direct.socket);
    }
}

/* --- data ------------------------------------------------------------------------------ */

static int
direct_feed(FLTLS *t, const char *data, size_t size)
{
    if (FL_UNLIKELY(t->data.direct.view_size > 0)) {
        /* fed from inside a callback of what was fed before */
        FL_ASSERT(!t->in_ssl);
        if (t->engine->keep(t) < 0) {
            return -1;
        }
    }
    t->data.direct.view = data;
    t->data.direct.view_size = size;
    return 0;
}

static int
direct_keep(FLTLS *t)
{
    if (FL_LIKELY(t->data.direct.view_size == 0)) {
        return 0;
    }
    size_t size = t->data.direct.view_size;
    t->data.direct.view_size = 0;
    if (fl_tls_buffer_append(t->loop, &t->incoming, t->data.direct.view, size)
        < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static size_t
direct_unread(const FLTLS *t)
{
    return t->data.direct.view_size + fl_tls_buffer_used(&t->incoming);
}

static bool
direct_readable(FLTLS *t)
{
    return t->data.direct.ssl != NULL
           && (direct_unread(t) > 0
               || (!t->data.direct.emptied
                   && libssl.api.SSL_has_pending(t->data.direct.ssl)));
}

/* OpenSSL has failed: let Python's object say how.

   The library's queue of errors still holds the cause, and the SSL, which is broken
   now, fails again without adding to it; so one more call of Python's method, which
   has nothing to read, raises what it would have raised in our place. */
static FL_COLD enum fl_tls_status
raise_error(FLTLS *t)
{
    PyObject *result =
        PyObject_CallMethod(t->data.direct.socket, "read", "i", 1);
    if (result != NULL
        || PyErr_GivenExceptionMatches(PyErr_Occurred(),
                                       t->loop->st->sup.ssl_again_errors)) {
        Py_XDECREF(result);
        PyErr_SetString(t->loop->st->sup.ssl_error,
                        "A failure in the SSL library occurred");
    }
    libssl.api.ERR_clear_error();
    return FL_TLS_ERROR;
}

static FL_COLD enum fl_tls_status
failed(FLTLS *t, int returned)
{
    const struct fl_openssl *api = &libssl.api;
    switch (api->SSL_get_error(t->data.direct.ssl, returned)) {
        case FL_SSL_ERROR_WANT_READ:
        case FL_SSL_ERROR_WANT_WRITE:
            return FL_TLS_AGAIN;
        case FL_SSL_ERROR_ZERO_RETURN:
            if (api->SSL_get_shutdown(t->data.direct.ssl)
                == FL_SSL_RECEIVED_SHUTDOWN) {
                return FL_TLS_END;
            }
            return raise_error(t);
        default:
            return raise_error(t);
    }
}

/* What others have left in the thread's queue of errors would be taken for ours.
   Looking is cheaper than clearing, which goes through all sixteen places. */
static inline void
clear_errors(const struct fl_openssl *api)
{
    if (FL_UNLIKELY(api->ERR_peek_error() != 0)) {
        api->ERR_clear_error();
    }
}

/* HOT */
static enum fl_tls_status
direct_read(FLTLS *t, char *data, size_t size, size_t *got)
{
    const struct fl_openssl *api = &libssl.api;
    clear_errors(api);
    t->in_ssl = true;
    t->data.direct.has_gil = true;
    int returned = api->SSL_read_ex(t->data.direct.ssl, data, size, got);
    t->data.direct.has_gil = false;
    t->in_ssl = false;
    if (FL_LIKELY(returned > 0)) {
        t->data.direct.emptied = *got < size;
        return FL_TLS_OK;
    }
    t->data.direct.emptied = false;
    *got = 0;
    return failed(t, returned);
}

/* HOT */
static enum fl_tls_status
direct_write(FLTLS *t, const char *data, size_t size, size_t *taken)
{
    const struct fl_openssl *api = &libssl.api;
    clear_errors(api);
    t->in_ssl = true;
    t->data.direct.has_gil = true;
    t->data.direct.emptied = false;
    int returned = api->SSL_write_ex(t->data.direct.ssl, data, size, taken);
    t->data.direct.has_gil = false;
    t->in_ssl = false;
    if (FL_LIKELY(returned > 0)) {
        return FL_TLS_OK;
    }
    *taken = 0;
    return failed(t, returned);
}

static int
direct_collect(FLTLS *Py_UNUSED(t))
{
    return 0; /* the BIO has put it there */
}

/* Let an ephemeral key of the handshake hold no more than its name. */
static void
empty_key(SSL *ssl, int which)
{
    const struct fl_openssl *api = &libssl.api;
    EVP_PKEY *key = NULL;
    if (api->SSL_ctrl(ssl, which, 0, &key) == 1 && key != NULL) {
        api->EVP_PKEY_set_type(key, FL_EVP_PKEY_X25519);
        api->EVP_PKEY_free(key);
    }
}

/* OpenSSL keeps the keys of the exchange until the connection ends: 7 KiB where they
   are of ML-KEM, which is the first choice since version 3.5, and a fifth of all that
   an idle connection takes.  TLS 1.3 never looks at them again. */
static void
direct_settled(FLTLS *t)
{
    SSL *ssl = t->data.direct.ssl;
    if (libssl.api.SSL_version(ssl) == FL_SSL_TLS1_3) {
        empty_key(ssl, FL_SSL_CTRL_GET_PEER_KEY);
        empty_key(ssl, FL_SSL_CTRL_GET_OWN_KEY);
        clear_errors(&libssl.api);
    }
}

const struct fl_tls_engine fl_tls_engine_direct = {
    "direct",       direct_close,    direct_feed, direct_keep,
    direct_unread,  direct_readable, direct_read, direct_write,
    direct_settled, direct_collect,
};
