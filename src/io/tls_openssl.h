/* The functions of the libssl that Python's ssl module has loaded.

   Nothing is linked and no header of OpenSSL is needed: they are looked up at run
   time, and used only if a self-test finds what it expects. */
#ifndef FL_IO_TLS_OPENSSL_H
#define FL_IO_TLS_OPENSSL_H

#include "base/common.h"

typedef struct ssl_st SSL;
typedef struct bio_st BIO;
typedef struct bio_method_st BIO_METHOD;
typedef struct evp_pkey_st EVP_PKEY;

struct fl_openssl {
    unsigned long (*OpenSSL_version_num)(void);
    void (*ERR_clear_error)(void);
    unsigned long (*ERR_peek_error)(void);
    void *(*SSL_get_ex_data)(const SSL *ssl, int index);
    int (*SSL_get_error)(const SSL *ssl, int returned);
    int (*SSL_read_ex)(SSL *ssl, void *buf, size_t size, size_t *got);
    int (*SSL_write_ex)(SSL *ssl, const void *buf, size_t size, size_t *taken);
    int (*SSL_has_pending)(const SSL *ssl);
    int (*SSL_get_shutdown)(const SSL *ssl);
    BIO *(*SSL_get_rbio)(const SSL *ssl);
    void (*SSL_set_bio)(SSL *ssl, BIO *read, BIO *write);
    long (*SSL_ctrl)(SSL *ssl, int command, long number, void *pointer);
    int (*SSL_version)(const SSL *ssl);
    int (*EVP_PKEY_set_type)(EVP_PKEY *key, int type);
    void (*EVP_PKEY_free)(EVP_PKEY *key);
    BIO *(*BIO_new)(const BIO_METHOD *method);
    void *(*BIO_get_data)(BIO *bio);
    void (*BIO_set_data)(BIO *bio, void *data);
    void (*BIO_set_init)(BIO *bio, int init);
    void (*BIO_set_flags)(BIO *bio, int flags);
    void (*BIO_clear_flags)(BIO *bio, int flags);
    int (*BIO_get_new_index)(void);
    BIO_METHOD *(*BIO_meth_new)(int type, const char *name);
    int (*BIO_meth_set_write)(BIO_METHOD *method,
                              int (*write)(BIO *bio, const char *, int));
    int (*BIO_meth_set_read)(BIO_METHOD *method,
                             int (*read)(BIO *bio, char *, int));
    int (*BIO_meth_set_ctrl)(BIO_METHOD *method,
                             long (*ctrl)(BIO *bio, int, long, void *));
};

/* Values of OpenSSL's headers that cannot change. */
#define FL_SSL_ERROR_WANT_READ    2
#define FL_SSL_ERROR_WANT_WRITE   3
#define FL_SSL_ERROR_SYSCALL      5
#define FL_SSL_ERROR_ZERO_RETURN  6
#define FL_SSL_RECEIVED_SHUTDOWN  2
#define FL_SSL_CTRL_GET_PEER_KEY  109
#define FL_SSL_CTRL_GET_OWN_KEY   133
#define FL_SSL_TLS1_3             0x0304
#define FL_EVP_PKEY_X25519        1034
#define FL_BIO_FLAGS_READ         0x01
#define FL_BIO_FLAGS_RETRY_ALL    0x0f
#define FL_BIO_FLAGS_SHOULD_RETRY 0x08
#define FL_BIO_CTRL_PENDING       10
#define FL_BIO_CTRL_FLUSH         11
#define FL_BIO_CTRL_WPENDING      13
#define FL_BIO_TYPE_SOURCE_SINK   0x0400

/* Fill *api and pass the self-test: 1, or 0 where that cannot be (no exception),
   or -1 with an exception. */
int fl_openssl_find(struct fl_openssl *api);

/* The SSL* in an _ssl._SSLSocket that belongs to context; NULL (no exception) if
   it is not where the self-test has found it. */
SSL *fl_openssl_ssl_of(const struct fl_openssl *api, PyObject *socket,
                       PyObject *context);

#endif
