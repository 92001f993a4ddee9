/* The servers of the network benchmarks in C on libuv alone: the floor.

   floor KIND [PATH]

   KIND is tcp, unix (at PATH) or udp for an echo; http for an answer to each GET;
   turnover for an echo that closes; download for sending, upload for throwing away.
   Prints the port that it serves, or the path. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <uv.h>

#define SCRATCH (256 * 1024)
#define CHUNK   (64 * 1024)

static char scratch[SCRATCH];
static uv_read_cb on_data;

struct out {
    uv_write_t request;
    char data[];
};

static const char answer[] =
    "HTTP/1.1 200 OK\r\nServer: floor\r\nContent-Type: text/plain\r\n"
    "Content-Length: 13\r\n\r\nHello, world!";

static void
check(int rc, const char *what)
{
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", what, uv_strerror(rc));
        exit(1);
    }
}

static void
alloc_cb(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)handle;
    (void)suggested;
    *buffer = uv_buf_init(scratch, SCRATCH);
}

static void
close_cb(uv_handle_t *handle)
{
    free(handle);
}

static void
close_stream(uv_stream_t *stream)
{
    if (!uv_is_closing((uv_handle_t *)stream)) {
        uv_close((uv_handle_t *)stream, close_cb);
    }
}

static void
sent_cb(uv_write_t *request, int status)
{
    (void)status;
    free(request);
}

static void
reply(uv_stream_t *stream, const char *data, size_t length)
{
    uv_buf_t all = uv_buf_init((char *)data, (unsigned)length);
    size_t n = 0;
    if (uv_stream_get_write_queue_size(stream) == 0) {
        int rc = uv_try_write(stream, &all, 1);
        n = rc > 0 ? (size_t)rc : 0;
    }
    if (n < length) {
        struct out *out = malloc(sizeof(*out) + length - n);
        memcpy(out->data, data + n, length - n);
        uv_buf_t rest = uv_buf_init(out->data, (unsigned)(length - n));
        uv_write(&out->request, stream, &rest, 1, sent_cb);
    }
}

/* --- what is done with data ------------------------------------------------------ */

static void
echo_cb(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    if (n < 0) {
        close_stream(stream);
    }
    else {
        reply(stream, buffer->base, (size_t)n);
    }
}

static void
turnover_cb(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    if (n > 0) {
        reply(stream, buffer->base, (size_t)n);
    }
    if (n != 0) {
        close_stream(stream);
    }
}

/* A request comes in one piece: the load sends it so. */
static void
http_cb(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    if (n < 0) {
        close_stream(stream);
    }
    else if (n >= 4 && memcmp(buffer->base + n - 4, "\r\n\r\n", 4) == 0) {
        reply(stream, answer, strlen(answer));
    }
}

static void
upload_cb(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    (void)buffer;
    if (n < 0) {
        close_stream(stream);
    }
}

static void send_chunk(uv_stream_t *stream);

static void
chunk_sent_cb(uv_write_t *request, int status)
{
    uv_stream_t *stream = request->handle;
    free(request);
    if (status == 0) {
        send_chunk(stream);
    }
    else {
        close_stream(stream);
    }
}

/* Send until the kernel takes no more; libuv waits with one chunk. */
static void
send_chunk(uv_stream_t *stream)
{
    uv_buf_t chunk = uv_buf_init(scratch, CHUNK);
    while (uv_try_write(stream, &chunk, 1) == CHUNK) {
    }
    uv_write(malloc(sizeof(uv_write_t)), stream, &chunk, 1, chunk_sent_cb);
}

/* --- servers ----------------------------------------------------------------------- */

static void
connection_cb(uv_stream_t *server, int status)
{
    check(status, "accept");
    union uv_any_handle *client = malloc(sizeof(*client));
    if (server->type == UV_TCP) {
        uv_tcp_init(server->loop, &client->tcp);
    }
    else {
        uv_pipe_init(server->loop, &client->pipe, 0);
    }
    check(uv_accept(server, &client->stream), "accept");
    if (server->type == UV_TCP) {
        uv_tcp_nodelay(&client->tcp, 1);
    }
    if (on_data == NULL) {
        send_chunk(&client->stream);
    }
    else {
        uv_read_start(&client->stream, alloc_cb, on_data);
    }
}

static void
datagram_cb(uv_udp_t *udp, ssize_t n, const uv_buf_t *buffer,
            const struct sockaddr *from, unsigned flags)
{
    (void)flags;
    if (n > 0 && from != NULL) {
        uv_buf_t data = uv_buf_init(buffer->base, (unsigned)n);
        uv_udp_try_send(udp, &data, 1, from);
    }
}

static void
use_all_descriptors(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int
main(int argc, char **argv)
{
    const char *kind = argc > 1 ? argv[1] : "";
    static const struct {
        const char *kind;
        uv_read_cb cb;
    } table[] = {{"tcp", echo_cb},     {"unix", echo_cb},
                 {"udp", NULL},        {"turnover", turnover_cb},
                 {"http", http_cb},    {"download", NULL},
                 {"upload", upload_cb}};
    size_t i = 0, kinds = sizeof(table) / sizeof(*table);
    while (i < kinds && strcmp(kind, table[i].kind) != 0) {
        i++;
    }
    if (i == kinds) {
        fprintf(stderr, "usage: floor KIND [PATH]\n");
        return 2;
    }
    on_data = table[i].cb;
    use_all_descriptors();
    signal(SIGPIPE, SIG_IGN); /* clients go while they are written to */
    uv_loop_t *loop = uv_default_loop();
    union uv_any_handle server;
    struct sockaddr_in address;
    int length = sizeof(address);
    uv_ip4_addr("127.0.0.1", 0, &address);
    if (strcmp(kind, "unix") == 0) {
        uv_pipe_init(loop, &server.pipe, 0);
        check(uv_pipe_bind(&server.pipe, argc > 2 ? argv[2] : ""), "bind");
        check(uv_listen(&server.stream, 4096, connection_cb), "listen");
        puts(argv[2]);
    }
    else if (strcmp(kind, "udp") == 0) {
        uv_udp_init_ex(loop, &server.udp, AF_INET);
        check(uv_udp_bind(&server.udp, (struct sockaddr *)&address, 0),
              "bind");
        uv_udp_getsockname(&server.udp, (struct sockaddr *)&address, &length);
        uv_udp_recv_start(&server.udp, alloc_cb, datagram_cb);
        printf("%d\n", ntohs(address.sin_port));
    }
    else {
        uv_tcp_init(loop, &server.tcp);
        check(uv_tcp_bind(&server.tcp, (struct sockaddr *)&address, 0),
              "bind");
        check(uv_listen(&server.stream, 4096, connection_cb), "listen");
        uv_tcp_getsockname(&server.tcp, (struct sockaddr *)&address, &length);
        printf("%d\n", ntohs(address.sin_port));
    }
    fflush(stdout);
    return uv_run(loop, UV_RUN_DEFAULT);
}
