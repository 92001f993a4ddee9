/* The load of the network benchmarks: echo clients on one thread.

   load HOST PORT CONNECTIONS SIZE SECONDS

   Each connection sends SIZE bytes, waits until as many have come back, and sends
   again.  Prints one line: round trips per second, then the median and the 99th
   percentile of their latency in microseconds.

   The program does little more than its system calls, so that the server, on
   another core, is what is measured. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BUCKETS 100000 /* of one microsecond */

struct connection {
    int fd;
    size_t sent;
    size_t received;
    int64_t began;
};

static size_t size;
static char *message;
static char *scratch;
static uint64_t latency[BUCKETS + 1];
static uint64_t done;

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

static int
open_socket(const char *host, const char *port)
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
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&in, sizeof(in)) < 0) {
        die("connect");
    }
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

/* Send what is left of the message; false if the kernel takes no more now. */
static int
push(struct connection *c)
{
    while (c->sent < size) {
        ssize_t n = send(c->fd, message + c->sent, size - c->sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) {
            if (errno == EAGAIN) {
                return 0;
            }
            die("send");
        }
        c->sent += (size_t)n;
    }
    return 1;
}

static void
begin(struct connection *c)
{
    c->sent = c->received = 0;
    c->began = now_ns();
    push(c);
}

static void
pull(struct connection *c)
{
    for (;;) {
        ssize_t n = recv(c->fd, scratch, size, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n <= 0) {
            die("recv");
        }
        c->received += (size_t)n;
        if (c->received == size) {
            int64_t us = (now_ns() - c->began) / 1000;
            latency[us < BUCKETS ? us : BUCKETS]++;
            done++;
            begin(c);
            return;
        }
    }
}

static uint64_t
percentile(double p)
{
    uint64_t target = (uint64_t)((double)done * p);
    uint64_t sum = 0;
    for (int i = 0; i <= BUCKETS; i++) {
        sum += latency[i];
        if (sum > target) {
            return (uint64_t)i;
        }
    }
    return BUCKETS;
}

int
main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: load HOST PORT CONNECTIONS SIZE SECONDS\n");
        return 2;
    }
    int count = atoi(argv[3]);
    size = (size_t)atol(argv[4]);
    double seconds = atof(argv[5]);
    message = malloc(size);
    scratch = malloc(size);
    struct connection *all = calloc((size_t)count, sizeof(*all));
    int epfd = epoll_create1(0);
    if (message == NULL || scratch == NULL || all == NULL || epfd < 0) {
        die("set up");
    }
    memset(message, 'x', size);
    for (int i = 0; i < count; i++) {
        all[i].fd = open_socket(argv[1], argv[2]);
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET,
                                .data.ptr = &all[i]};
        if (epoll_ctl(epfd, EPOLL_CTL_ADD, all[i].fd, &e) < 0) {
            die("epoll_ctl");
        }
    }
    int64_t start = now_ns();
    int64_t end = start + (int64_t)(seconds * 1e9);
    for (int i = 0; i < count; i++) {
        begin(&all[i]);
    }
    struct epoll_event events[256];
    while (now_ns() < end) {
        int n = epoll_wait(epfd, events, 256, 100);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->sent < size) {
                push(c);
            }
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                pull(c);
            }
        }
    }
    double took = (double)(now_ns() - start) / 1e9;
    printf("%.1f %llu %llu\n", (double)done / took,
           (unsigned long long)percentile(0.5),
           (unsigned long long)percentile(0.99));
    return 0;
}
