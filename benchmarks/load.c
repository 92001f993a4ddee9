/* The load of the network benchmarks: clients on one thread.

   load [OPTION] HOST PORT CONNECTIONS SIZE

   Each connection sends a message of SIZE bytes, waits until the answer is there, and
   sends again.  HOST is an IPv4 address, or the path of a Unix socket.  Prints "running"
   when all connections are open and warm.  Then each line of the input is a number of
   seconds: for so long it measures, and prints the answers per second, the median and
   the 99th percentile of their latency in microseconds (of all measurements so far), and
   the part of the time that the server was running (0 without --server).  In between,
   all answers have come and nothing is sent.  The answer is as long as the message,
   unless an option says otherwise:

   --udp         datagrams
   --http        GET / over connections kept alive; SIZE is not used
   --websocket   binary messages of SIZE bytes, after the opening handshake
   --turnover    a new connection for each message; the server closes it
   --download    the server sends, we throw away: bytes per second
   --upload      we send, the server throws away: bytes per second
   --hold        open the connections, print "ready", wait for the end of the input
   --tls         beside another option: over TLS (if compiled with -DWITH_TLS)
   --server PID  beside another option: the server's process

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

#define PATIENCE INT64_C(5000000000) /* nanoseconds, for answers */
#define QUIET 20 /* milliseconds without a datagram: those awaited are lost */
#define MAX_HEAD 16384
#define BULK     (256 * 1024)
#define WARM     0.1  /* seconds, before the first measurement */
#define FORMER   1000 /* connections at most, before those that are measured */
#define STEPS    64   /* the buckets of the histogram for each power of two */
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
static int awaited;       /* connections whose answer is under way */
static bool stopping;     /* what is answered does not ask again */
static bool counting;     /* latencies: not while warming up */
static uint64_t latency[BUCKETS];
static clockid_t server_clock;
static bool has_server_clock;
static int epfd, bulk_fd;

static void
die(const char *what)
{
    perror(what);
    exit(1);
}

static int64_t
clock_ns(clockid_t clock)
{
    struct timespec t = {0};
    clock_gettime(clock, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int64_t
now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
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

/* With MSG_TRUNC, TCP throws away what it need not copy. */
static ssize_t
take(struct connection *c, char *data, size_t length, int flags)
{
#ifdef WITH_TLS
    if (c->ssl != NULL) {
        return tls_take(c, data, length);
    }
#endif
    return recv(c->fd, data, length, flags);
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
        ssize_t more = take(c, head + n, MAX_HEAD - n, 0);
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
    if (stopping) {
        return;
    }
    awaited++;
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
    if (counting) {
        latency[bucket_of((uint64_t)(now_ns() - c->began))]++;
    }
    done++;
    awaited--;
}

/* The next message, if there is to be one; of TURNOVER on a new connection. */
static void
ask_anew(struct connection *c)
{
    if (c->fd < 0 && !stopping) {
        start(c, false);
    }
    begin(c);
}

static void
pull(struct connection *c)
{
    for (;;) {
        ssize_t n = take(c, scratch, reply_size, MSG_TRUNC);
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (kind == TURNOVER && n == 0 && c->received == size) {
            close(c->fd);
            c->fd = -1;
            count(c);
            ask_anew(c);
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

/* Wait for events, and do what they ask for. */
static int
handle_some(int timeout_ms)
{
    struct epoll_event events[256];
    int n = epoll_wait(epfd, events, 256, timeout_ms);
    for (int i = 0; i < n; i++) {
        handle(events[i].data.ptr, events[i].events);
    }
    return n;
}

/* Until `end`, and until there have been so many answers: a machine that is busy with
   other things may need longer for them. */
static void
run(struct connection *all, int connections, int64_t end, uint64_t least)
{
    while (now_ns() < end || (done < least && now_ns() < end + PATIENCE)) {
        int n = handle_some(100);
        for (int i = 0; n == 0 && kind == UDP && i < connections; i++) {
            awaited--; /* all is quiet: datagrams were lost */
            begin(&all[i]);
        }
    }
}

static void
wait_for_answers(void)
{
    int64_t end = now_ns() + PATIENCE;
    stopping = true;
    while (awaited > 0 && now_ns() < end) {
        if (handle_some(QUIET) == 0 && kind == UDP) {
            break;
        }
    }
    awaited = 0;
    stopping = false;
}

/* Ask on all connections; as many answers have come before anything is counted. */
static void
resume(struct connection *all, int connections, double warming_up)
{
    bool bulk = kind == DOWNLOAD || kind == UPLOAD;
    for (int i = 0; i < connections && !bulk; i++) {
        ask_anew(&all[i]);
    }
    done = 0;
    run(all, connections, now_ns() + (int64_t)(warming_up * 1e9),
        bulk ? 1 : (uint64_t)connections);
    done = 0;
}

/* How long the server has been running, all its threads together. */
static int64_t
server_ns(void)
{
    return has_server_clock ? clock_ns(server_clock) : 0;
}

static void
measure(struct connection *all, int connections, double seconds)
{
    resume(all, connections, seconds * 0.1);
    counting = true;
    int64_t began = now_ns(), used = server_ns();
    run(all, connections, began + (int64_t)(seconds * 1e9), 1);
    double took = (double)(now_ns() - began);
    double busy = (double)(server_ns() - used) / took;
    double rate = (double)done / (took / 1e9);
    counting = false;
    wait_for_answers();
    printf("%.1f %.1f %.1f %.3f\n", rate, percentile_us(0.5),
           percentile_us(0.99), busy);
    fflush(stdout);
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

static void
close_all(struct connection *all, int connections)
{
    for (int i = 0; i < connections; i++) {
#ifdef WITH_TLS
        SSL_free(all[i].ssl);
        free(all[i].unsent);
        all[i].unsent = NULL;
#endif
        close(all[i].fd);
    }
}

static void
use(struct connection *all, int connections, bool with_tls)
{
    open_all(all, connections, with_tls);
    resume(all, connections, WARM);
    wait_for_answers();
}

/* Open all connections and use them for a while; but before, others: the server has had
   clients that have gone.  It makes a difference: malloc() learns to keep large blocks
   when the first is freed whole, and those that asyncio reads into are so only at the
   end of a connection. */
static void
warm_up(struct connection *all, int connections, bool with_tls)
{
    int former = connections < FORMER ? connections : FORMER;
    use(all, former, with_tls);
    close_all(all, former);
    use(all, connections, with_tls);
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
            "usage: load [OPTION] HOST PORT CONNECTIONS SIZE <SECONDS\n");
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
        else if (strcmp(argv[1], "--server") == 0 && argc > 2) {
            has_server_clock =
                clock_getcpuclockid(atoi(argv[2]), &server_clock) == 0;
            argc--;
            argv++;
        }
        else {
            return usage();
        }
    }
    if (argc != 5) {
        return usage();
    }
    host = argv[1];
    port = argv[2];
    int connections = atoi(argv[3]);
    struct connection *all = calloc((size_t)connections, sizeof(*all));
    epfd = epoll_create1(0);
    bulk_fd = memfd_create("bulk", 0);
    if (all == NULL || epfd < 0 || bulk_fd < 0
        || ftruncate(bulk_fd, BULK) < 0) {
        die("set up");
    }
    use_all_descriptors();
    make_message(argv[4], with_tls);
    if (kind == HOLD) {
        open_all(all, connections, with_tls);
        puts("ready");
        fflush(stdout);
        return getchar() != EOF;
    }
    warm_up(all, connections, with_tls);
    puts("running");
    fflush(stdout);
    double seconds;
    while (scanf("%lf", &seconds) == 1) {
        measure(all, connections, seconds);
    }
    return 0;
}
