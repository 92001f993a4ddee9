/* The TLS echo server of the network benchmarks in C on OpenSSL and epoll alone: the
   floor.

   floor-tls CERTIFICATE

   CERTIFICATE is a PEM file with the key in it.  Prints the port that it serves.  What
   one read has brought is decrypted, encrypted and sent with one call each way. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "batch_bio.h"

#define EVENTS 256

struct connection {
    int fd;
    SSL *ssl;
    char *unsent; /* malloc'ed: what the kernel has not taken */
    size_t unsent_size;
};

static char plain[SCRATCH];
static int epfd;
static SSL_CTX *context;

static void
die(const char *what)
{
    perror(what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static void
set_up_tls(const char *certificate)
{
    context = SSL_CTX_new(TLS_server_method());
    if (context == NULL
        || SSL_CTX_use_certificate_chain_file(context, certificate) != 1
        || SSL_CTX_use_PrivateKey_file(context, certificate, SSL_FILETYPE_PEM)
               != 1) {
        die(certificate);
    }
}

/* --- connections -------------------------------------------------------------------- */

static void
watch(struct connection *c, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epfd, operation, c->fd, &event) < 0) {
        die("epoll_ctl");
    }
}

static void
open_connection(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    struct connection *c = calloc(1, sizeof(*c));
    if (c == NULL || (c->ssl = SSL_new(context)) == NULL
        || !use_batch_bio(c->ssl)) {
        die("a connection");
    }
    c->fd = fd;
    SSL_set_accept_state(c->ssl);
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
}

static void
close_connection(struct connection *c)
{
    close(c->fd);
    SSL_free(c->ssl);
    free(c->unsent);
    free(c);
}

/* Send what is in outgoing, or keep it for when the kernel takes more. */
static bool
send_outgoing(struct connection *c)
{
    size_t sent = 0;
    if (c->unsent == NULL && out_size > 0) {
        ssize_t n = send(c->fd, outgoing, out_size, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) {
            return false;
        }
        sent = n < 0 ? 0 : (size_t)n;
        if (sent < out_size) {
            watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
        }
    }
    if (sent < out_size) {
        size_t rest = out_size - sent;
        c->unsent = realloc(c->unsent, c->unsent_size + rest);
        if (c->unsent == NULL) {
            die("realloc");
        }
        memcpy(c->unsent + c->unsent_size, outgoing + sent, rest);
        c->unsent_size += rest;
    }
    out_size = 0;
    return true;
}

static bool
send_unsent(struct connection *c)
{
    ssize_t n = send(c->fd, c->unsent, c->unsent_size, MSG_NOSIGNAL);
    if (n < 0) {
        return errno == EAGAIN;
    }
    c->unsent_size -= (size_t)n;
    memmove(c->unsent, c->unsent + n, c->unsent_size);
    if (c->unsent_size == 0) {
        free(c->unsent);
        c->unsent = NULL;
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
    }
    return true;
}

/* --- the echo ----------------------------------------------------------------------- */

static bool
echo(struct connection *c)
{
    ssize_t got = recv(c->fd, incoming, SCRATCH, 0);
    if (got <= 0) {
        return got < 0 && errno == EAGAIN;
    }
    in_begin = 0;
    in_end = (size_t)got;
    int n;
    do {
        int size = 0;
        while (size < SCRATCH
               && (n = SSL_read(c->ssl, plain + size, SCRATCH - size)) > 0) {
            size += n;
            if (in_begin == in_end && SSL_has_pending(c->ssl) == 0) {
                break;
            }
        }
        /* the next call of OpenSSL forgets why this one ended */
        if (n <= 0 && SSL_get_error(c->ssl, n) != SSL_ERROR_WANT_READ) {
            return false;
        }
        if (size > 0 && SSL_write(c->ssl, plain, size) != size) {
            return false;
        }
    } while (n > 0 && in_begin < in_end);
    return send_outgoing(c);
}

static int
listen_somewhere(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) < 0
        || listen(fd, 4096) < 0
        || getsockname(fd, (struct sockaddr *)&address, &size) < 0) {
        die("listen");
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epfd = epoll_create1(EPOLL_CLOEXEC);
    if (epfd < 0 || epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) < 0) {
        die("epoll");
    }
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int
main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: floor-tls CERTIFICATE\n");
        return 2;
    }
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    set_up_tls(argv[1]);
    int listener = listen_somewhere();
    for (;;) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(epfd, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (c == NULL) {
                open_connection(listener);
                continue;
            }
            uint32_t ready = events[i].events;
            if (((ready & EPOLLOUT) && c->unsent != NULL && !send_unsent(c))
                || ((ready & ~(uint32_t)EPOLLOUT) && !echo(c))) {
                close_connection(c);
            }
        }
    }
}
