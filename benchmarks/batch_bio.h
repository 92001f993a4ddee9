/* A BIO between OpenSSL and two buffers, for programs that read and send many records
   with one call: OpenSSL alone reads the head of each record by itself and sends each
   record for itself.

   The buffers are those of the connection that is served now.  Whoever serves it puts
   what was received into `incoming`, calls OpenSSL until it wants more, which leaves
   `incoming` empty, and sends what is in `outgoing`. */
#ifndef BATCH_BIO_H
#define BATCH_BIO_H

#include <openssl/ssl.h>
#include <stddef.h>
#include <string.h>

#define SCRATCH (256 * 1024)

static char incoming[SCRATCH], outgoing[4 * SCRATCH];
static size_t in_begin, in_end, out_size;

static int
batch_bio_read(BIO *bio, char *buffer, int size)
{
    BIO_clear_retry_flags(bio);
    size_t n = in_end - in_begin;
    if (n == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    n = n < (size_t)size ? n : (size_t)size;
    memcpy(buffer, incoming + in_begin, n);
    in_begin += n;
    return (int)n;
}

static int
batch_bio_write(BIO *bio, const char *data, int size)
{
    BIO_clear_retry_flags(bio);
    if ((size_t)size > sizeof(outgoing) - out_size) {
        return -1;
    }
    memcpy(outgoing + out_size, data, (size_t)size);
    out_size += (size_t)size;
    return size;
}

static long
batch_bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

/* Make a connection use the buffers; 0 without memory. */
static int
use_batch_bio(SSL *ssl)
{
    static BIO_METHOD *method;
    if (method == NULL) {
        method =
            BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "batch");
        if (method == NULL) {
            return 0;
        }
        BIO_meth_set_read(method, batch_bio_read);
        BIO_meth_set_write(method, batch_bio_write);
        BIO_meth_set_ctrl(method, batch_bio_ctrl);
    }
    BIO *bio = BIO_new(method);
    if (bio == NULL) {
        return 0;
    }
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    return 1;
}

#endif /* BATCH_BIO_H */
