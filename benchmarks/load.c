/* The load of the network benchmarks: clients on one thread.

   load [OPTION] HOST PORT CONNECTIONS SIZE SECONDS

   Each connection sends a message of SIZE bytes, waits until the answer is there, and
   sends again.  HOST is an IPv4 address, or the path of a Unix socket.  Prints two lines:
   "running" when all connections are open and warm, and then the answers per second, the
   median and the 99th percentile of their latency in microseconds.  The answer is as
   long as the message, unless an option says otherwise:

   --udp         datagrams
   --http        GET / over connections kept alive; SIZE is not used
   --websocket   binary messages of SIZE bytes, after the opening handshake
   --turnover    a new connection for each message; the server closes it
   --download    the server sends, we throw away: bytes per second
   --upload      we send, the server throws away: bytes per second
   --hold        open the connections, print "ready", wait for the end of the input
   --tls         beside another option: over TLS (if compiled with -DWITH_TLS)

   The program does little more than its system calls, so that the server, on another
   core, is what is measured. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifdef WITH_TLS
#  include "batch_bio.h"
#  include <openssl/err.h>
#  include <openssl/ssl.h>
#else
typedef void SSL;
#endif

#define PATIENCE INT64_C(5000000000) /* nanoseconds, for the first answer */
#define MAX_HEAD 16384
#define BULK     (256 * 1024)
#define STEPS    64 /* the buckets of the histogram for each power of two */
#define BUCKETS  (64 * STEPS)

enum kind { ECHO, UDP, HTTP, WEBSOCKET, TURNOVER, DOWNLOAD, UPLOAD, HOLD };

static const char *const kinds[] = {"--echo",      "--udp",      "--http",
                                    "--websocket", "--turnover", "--download",
                                    "--upload",    "--hold"};

struct connection {
    int fd;
    SSL *ssl;     /* NULL without TLS */
    char *unsent; /* malloc'ed: records that the kernel has not taken */
    size_t unsent_size;
    size_t sent;
    size_t received;
    int64_t began;
};

static enum kind kind = ECHO;
static const char *host, *port;
static char *message, *scratch;
static size_t size;       /* of a message */
static size_t reply_size; /* of an answer */
static uint64_t done;     /* answers; bytes for DOWNLOAD and UPLOAD */
static uint64_t latency[BUCKETS];
static int epfd, bulk_fd;

static void
die(const char *what)
{
    perror(what);
    exit(1);
}

static int64_t
now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* --- latency: a histogram with steps of less than 2% ------------------------ */

static int
bucket_of(uint64_t ns)
{
    if (ns < STEPS) {
        return (int)ns;
    }
    int shift = 63 - __builtin_clzll(ns) - 6;
    return (shift << 6) + (int)(ns >> shift);
}

static double
value_of(int bucket)
{
    if (bucket < 2 * STEPS) {
        return bucket;
    }
    int shift = (bucket >> 6) - 1;
    return (double)((uint64_t)((bucket & 63) | 64) << shift);
}

static double
percentile_us(double p)
{
    uint64_t all = 0, sum = 0;
    for (int i = 0; i < BUCKETS; i++) {
        all += latency[i];
    }
    for (int i = 0; i < BUCKETS; i++) {
        sum += latency[i];
        if (sum > (uint64_t)((double)all * p)) {
            return value_of(i) / 1000;
        }
    }
    return 0;
}

/* --- connections ------------------------------------------------------------- */

#ifdef WITH_TLS
static SSL_CTX *tls;

static void
start_tls(struct connection *c)
{
    c->ssl = SSL_new(tls);
    if (c->ssl == NULL || SSL_set_fd(c->ssl, c->fd) != 1
        || SSL_connect(c->ssl) != 1 || !use_batch_bio(c->ssl)) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
}

/* Keep what the kernel does not take now. */
static void
keep_unsent(struct connection *c, const char *data, size_t length)
{
    char *copy = malloc(length);
    if (copy == NULL) {
        die("malloc");
    }
    memcpy(copy, data, length);
    free(c->unsent);
    c->unsent = copy;
    c->unsent_size = length;
}

static bool
send_unsent(struct connection *c)
{
    ssize_t n = send(c->fd, c->unsent, c->unsent_size, MSG_NOSIGNAL);
    if (n == (ssize_t)c->unsent_size) {
        free(c->unsent);
        c->unsent = NULL;
        c->unsent_size = 0;
    }
    else if (n > 0) {
        c->unsent_size -= (size_t)n;
        memmove(c->unsent, c->unsent + n, c->unsent_size);
    }
    return n >= 0 || errno == EAGAIN;
}

/* All records of the data leave in one send, or wait in `unsent`. */
static ssize_t
tls_put(struct connection *c, const char *data, size_t length)
{
    size_t taken = length < SCRATCH ? length : SCRATCH;
    if (c->unsent != NULL) {
        errno = EAGAIN;
        return -1;
    }
    if (SSL_write(c->ssl, data, (int)taken) != (int)taken) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
    ssize_t n = send(c->fd, outgoing, out_size, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) {
        return -1;
    }
    size_t gone = n < 0 ? 0 : (size_t)n;
    if (gone < out_size) {
        keep_unsent(c, outgoing + gone, out_size - gone);
    }
    out_size = 0;
    return (ssize_t)taken;
}

/* As recv().  An answer that is complete leaves nothing behind for another
   connection, as this one has not asked for more. */
static ssize_t
tls_take(struct connection *c, char *data, size_t length)
{
    for (;;) {
        int n = SSL_read(c->ssl, data, (int)length);
        if (n > 0) {
            return n;
        }
        int error = SSL_get_error(c->ssl, n);
        if (error == SSL_ERROR_ZERO_RETURN) {
            return 0;
        }
        if (error != SSL_ERROR_WANT_READ) {
            ERR_print_errors_fp(stderr);
            errno = EIO;
            return -1;
        }
        ssize_t got = recv(c->fd, incoming, sizeof(incoming), 0);
        if (got <= 0) {
            return got;
        }
        in_begin = 0;
        in_end = (size_t)got;
    }
}
#endif

static ssize_t
put(struct connection *c, const char *data, size_t length)
{
#ifdef WITH_TLS
    if (c->ssl != NULL) {
        return tls_put(c, data, length);
    }
#endif
    return send(c->fd, data, length, MSG_NOSIGNAL);
}

static ssize_t
take(struct connection *c, char *data, size_t length)
{
#ifdef WITH_TLS
    if (c->ssl != NULL) {
        return tls_take(c, data, length);
    }
#endif
    return recv(c->fd, data, length, 0);
}

static int
open_socket(void)
{
    if (host[0] == '/') {
        struct sockaddr_un un = {.sun_family = AF_UNIX};
        snprintf(un.sun_path, sizeof(un.sun_path), "%s", host);
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0) {
            die("connect");
        }
        return fd;
    }
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)atoi(port))};
    if (inet_pton(AF_INET, host, &in.sin_addr) != 1) {
        fprintf(stderr, "not an IPv4 address: %s\n", host);
        exit(1);
    }
    int fd = socket(AF_INET, kind == UDP ? SOCK_DGRAM : SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&in, sizeof(in)) < 0) {
        die("connect");
    }
    if (kind == TURNOVER) {
        /* the server has closed before: close() then ends its TIME_WAIT, too, of which
           the kernel would hold a hundred thousand after some seconds */
        struct linger reset = {.l_onoff = 1, .l_linger = 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    }
    else if (kind != UDP) {
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    return fd;
}

/* Send a request and receive the head of its answer; returns how many bytes have
   come in all.  The connection still blocks. */
static size_t
ask(struct connection *c, const char *request, char head[MAX_HEAD + 1])
{
    size_t length = strlen(request), n = 0;
    if (put(c, request, length) != (ssize_t)length) {
        die("send");
    }
    do {
        ssize_t more = take(c, head + n, MAX_HEAD - n);
        if (more <= 0) {
            die("the head of an answer");
        }
        n += (size_t)more;
        head[n] = 0;
    } while (strstr(head, "\r\n\r\n") == NULL);
    return n;
}

static void
shake_hands(struct connection *c)
{
    char head[MAX_HEAD + 1];
    ask(c,
        "GET / HTTP/1.1\r\nHost: benchmark\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        head);
    if (strncmp(head, "HTTP/1.1 101 ", 13) != 0) {
        fprintf(stderr, "no WebSocket: %s", head);
        exit(1);
    }
}

/* The length of all of an answer: the server sends the same each time. */
static size_t
length_of_answer(const char *request, bool with_tls)
{
    struct connection c = {.fd = open_socket()};
#ifdef WITH_TLS
    if (with_tls) {
        start_tls(&c);
    }
#else
    (void)with_tls;
#endif
    char head[MAX_HEAD + 1];
    ask(&c, request, head);
    const char *length = strcasestr(head, "\r\ncontent-length:");
    if (strncmp(head, "HTTP/1.1 200 ", 13) != 0 || length == NULL) {
        fprintf(stderr, "not an answer of known length: %s", head);
        exit(1);
    }
    close(c.fd);
    return (size_t)(strstr(head, "\r\n\r\n") - head) + 4
           + strtoul(length + 17, NULL, 10);
}

/* --- messages and answers ----------------------------------------------------- */

static void
make_message(const char *length, bool with_tls)
{
    static const char get[] = "GET / HTTP/1.1\r\nHost: benchmark\r\n\r\n";
    size_t payload = (size_t)atol(length), head = 0;
    message = malloc(payload + sizeof(get) + 14);
    scratch = malloc(payload + BULK);
    if (message == NULL || scratch == NULL) {
        die("malloc");
    }
    if (kind == HTTP) {
        size = strlen(get);
        memcpy(message, get, size);
        reply_size = length_of_answer(get, with_tls);
        return;
    }
    if (kind == WEBSOCKET) { /* final, binary, masked with zeros */
        bool small = payload < 126;
        const unsigned char frame[8] = {0x82, small ? (0x80 | payload) : 0xfe,
                                        (unsigned char)(payload >> 8),
                                        (unsigned char)payload};
        head = small ? 6 : 8;
        memcpy(message, frame, small ? 2 : 4);
        memset(message + (small ? 2 : 4), 0, 4);
    }
    size = head + payload;
    reply_size = head ? size - 4 : size;
    memset(message + head, 'x', payload);
    message[size - 1] = '\n'; /* for servers that read lines */
}

/* Send what is left of the message, or as much as the kernel takes now. */
static void
push(struct connection *c)
{
    while (c->sent < size) {
        ssize_t n = put(c, message + c->sent, size - c->sent);
        if (n < 0) {
            if (errno == EAGAIN) {
                return;
            }
            die("send");
        }
        c->sent += (size_t)n;
    }
}

static void
begin(struct connection *c)
{
    c->sent = c->received = 0;
    c->began = now_ns();
    push(c);
}

/* Open a connection, bring it to where messages may be sent, and watch it. */
static void
start(struct connection *c, bool with_tls)
{
    c->fd = open_socket();
    c->ssl = NULL;
#ifdef WITH_TLS
    if (with_tls) {
        start_tls(c);
    }
#else
    (void)with_tls;
#endif
    if (kind == WEBSOCKET) {
        shake_hands(c);
    }
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET,
                            .data.ptr = c};
    if (epoll_ctl(epfd, EPOLL_CTL_ADD, c->fd, &e) < 0) {
        die("epoll_ctl");
    }
}

static void
count(struct connection *c)
{
    latency[bucket_of((uint64_t)(now_ns() - c->began))]++;
    done++;
}

static void
pull(struct connection *c)
{
    for (;;) {
        ssize_t n = take(c, scratch, reply_size);
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (kind == TURNOVER && n == 0 && c->received == size) {
            close(c->fd);
            count(c);
            start(c, false);
            begin(c);
            return;
        }
        if (n <= 0) {
            fprintf(stderr, "the server closed a connection\n");
            exit(1);
        }
        c->received += (size_t)n;
        if (c->received == reply_size && kind != TURNOVER) {
            count(c);
            begin(c);
            return;
        }
    }
}

static void
discard(struct connection *c)
{
    ssize_t n;
    while ((n = recv(c->fd, scratch, BULK, MSG_TRUNC)) > 0) {
        done += (uint64_t)n;
    }
    if (n == 0) {
        fprintf(stderr, "the server closed a connection\n");
        exit(1);
    }
}

static void
pour(struct connection *c)
{
    off_t offset = 0;
    ssize_t n;
    while ((n = sendfile(c->fd, bulk_fd, &offset, BULK)) > 0) {
        done += (uint64_t)n;
        offset = 0;
    }
    if (errno != EAGAIN) {
        die("sendfile");
    }
}

/* --- the run ------------------------------------------------------------------- */

static void
handle(struct connection *c, uint32_t events)
{
    bool readable = events & (EPOLLIN | EPOLLHUP | EPOLLERR);
    if (kind == DOWNLOAD) {
        discard(c);
    }
    else if (kind == UPLOAD) {
        pour(c);
    }
    else {
#ifdef WITH_TLS
        if (c->unsent != NULL && !send_unsent(c)) {
            die("send");
        }
#endif
        if (c->sent < size) {
            push(c);
        }
        if (readable) {
            pull(c);
        }
    }
}

static void
run(struct connection *all, int connections, int64_t end)
{
    struct epoll_event events[256];
    /* a machine that is busy with other things may need longer for the first one */
    while (now_ns() < end || (done == 0 && now_ns() < end + PATIENCE)) {
        int n = epoll_wait(epfd, events, 256, 100);
        for (int i = 0; i < n; i++) {
            handle(events[i].data.ptr, events[i].events);
        }
        for (int i = 0; n == 0 && kind == UDP && i < connections; i++) {
            begin(&all[i]); /* all is quiet: datagrams were lost */
        }
    }
}

static void
open_all(struct connection *all, int connections, bool with_tls)
{
    for (int i = 0; i < connections; i++) {
        start(&all[i], with_tls);
        if (i % 256 == 255) {
            usleep(20000); /* the server has to accept them */
        }
    }
}

static bool
set_up_tls(void)
{
#ifdef WITH_TLS
    tls = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_mode(tls, SSL_MODE_RELEASE_BUFFERS);
    return true;
#else
    fprintf(stderr, "compiled without TLS\n");
    exit(1);
#endif
}

static void
use_all_descriptors(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static int
usage(void)
{
    fprintf(stderr,
            "usage: load [OPTION] HOST PORT CONNECTIONS SIZE SECONDS\n");
    return 2;
}

int
main(int argc, char **argv)
{
    bool with_tls = false;
    for (; argc > 1 && strncmp(argv[1], "--", 2) == 0; argc--, argv++) {
        size_t i = 0, n = sizeof(kinds) / sizeof(*kinds);
        while (i < n && strcmp(argv[1], kinds[i]) != 0) {
            i++;
        }
        if (i < n) {
            kind = (enum kind)i;
        }
        else if (strcmp(argv[1], "--tls") == 0) {
            with_tls = set_up_tls();
        }
        else {
            return usage();
        }
    }
    if (argc != 6) {
        return usage();
    }
    host = argv[1];
    port = argv[2];
    int connections = atoi(argv[3]);
    double seconds = atof(argv[5]);
    struct connection *all = calloc((size_t)connections, sizeof(*all));
    epfd = epoll_create1(0);
    bulk_fd = memfd_create("bulk", 0);
    if (all == NULL || epfd < 0 || bulk_fd < 0
        || ftruncate(bulk_fd, BULK) < 0) {
        die("set up");
    }
    use_all_descriptors();
    make_message(argv[4], with_tls);
    open_all(all, connections, with_tls);
    if (kind == HOLD) {
        puts("ready");
        fflush(stdout);
        return getchar() != EOF;
    }
    for (int i = 0; i < connections && kind != DOWNLOAD && kind != UPLOAD;
         i++) {
        begin(&all[i]);
    }
    double warming_up = seconds * 0.1 > 0.02 ? seconds * 0.1 : 0.02;
    run(all, connections, now_ns() + (int64_t)(warming_up * 1e9));
    puts("running");
    fflush(stdout);
    done = 0;
    memset(latency, 0, sizeof(latency));
    int64_t began = now_ns();
    run(all, connections, began + (int64_t)(seconds * 1e9));
    double took = (double)(now_ns() - began) / 1e9;
    printf("%.1f %.1f %.1f\n", (double)done / took, percentile_us(0.5),
           percentile_us(0.99));
    return 0;
}
