/* How plaintext and ciphertext pass through an SSL object.

   "direct" drives OpenSSL's functions (tls_engine_direct.c), "bio" the methods of
   Python's SSLObject and MemoryBIO (tls_engine_bio.c), which need to know nothing
   of layouts.  Both leave ciphertext in FLTLS.outgoing. */
#ifndef FL_IO_TLS_ENGINE_H
#define FL_IO_TLS_ENGINE_H

#include "io/tls_openssl.h"

struct FLTLS;

enum fl_tls_status {
    FL_TLS_OK,
    FL_TLS_AGAIN, /* more ciphertext is needed first */
    FL_TLS_END,   /* the peer has sent close-notify */
    FL_TLS_ERROR, /* an exception is set */
};

union fl_tls_engine_data {
    struct {
        SSL *ssl;         /* borrowed: sslobj's */
        BIO *bio;         /* borrowed: the SSL's */
        PyObject *socket; /* owned; _ssl._SSLSocket */
        const char *view; /* borrowed: ciphertext in the caller's buffer */
        size_t view_size;
        bool has_gil; /* OpenSSL was called by us */
        bool emptied; /* read() has given less than was asked for: no more
                         plaintext is in the SSL */
    } direct;
    struct {
        PyObject *in; /* owned; ssl.MemoryBIO */
        PyObject *out;
        PyObject *pending; /* owned; bound method */
        size_t unread;     /* bytes in `in` */
    } bio;
};

struct fl_tls_engine {
    const char *name;
    /* Let go of the SSL object. */
    void (*close)(struct FLTLS *t);
    /* Ciphertext has come; 0 or -1.  It is used in place until keep(). */
    int (*feed)(struct FLTLS *t, const char *data, size_t size);
    /* Copy what was not consumed of it; 0 or -1. */
    int (*keep)(struct FLTLS *t);
    /* Bytes of ciphertext that were not consumed. */
    size_t (*unread)(const struct FLTLS *t);
    /* May read() have something? */
    bool (*readable)(struct FLTLS *t);
    enum fl_tls_status (*read)(struct FLTLS *t, char *data, size_t size,
                               size_t *got);
    enum fl_tls_status (*write)(struct FLTLS *t, const char *data, size_t size,
                                size_t *taken);
    /* The handshake has succeeded. */
    void (*settled)(struct FLTLS *t);
    /* Bring what OpenSSL wants to send into t->outgoing; 0 or -1. */
    int (*collect)(struct FLTLS *t);
};

extern const struct fl_tls_engine fl_tls_engine_direct;
extern const struct fl_tls_engine fl_tls_engine_bio;

/* Drive t->sslobj, which was made with these two MemoryBIOs.  direct: 1, 0 if it
   cannot drive this object, -1 with an exception; bio: 0 or -1. */
int fl_tls_open_direct(struct FLTLS *t);
int fl_tls_open_bio(struct FLTLS *t, PyObject *in, PyObject *out);

/* Whether the process can use the direct engine at all: decided once. */
bool fl_tls_direct_usable(void);

#endif
