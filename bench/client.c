// SPDX-License-Identifier: Apache-2.0
// The load of the bench, against bench/server.c behind whatever tunnel listens on PORT. One JSON line each:
//   client up|down PORT STREAMS BYTES     so many bytes over each stream
//   client timed PORT MILLISECONDS        one stream down for so long, counted from its first byte
//   client echo PORT SIZE COUNT           ping-pong of SIZE bytes
//   client conns PORT PARALLEL MILLISECONDS   connect, ask one byte, get one byte, close; again and again
//   client idle PORT COUNT                opens COUNT streams, each proven by an echo, and says "open"; then for each line
//                                         on stdin echoes 64 KiB over every stream and says "used"; ends with stdin
//   client udp PORT SIZE RATE MILLISECONDS    datagrams one way at that rate, then asks how many came
#include <sys/prctl.h>
#include "common.h"

#define CHUNK (256 * 1024)
#define STREAMS_MAX 4096
#define USE_BYTES 65536

static uint8_t chunk[CHUNK];

static int dial(unsigned port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = loopback(port);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
        die_errno("connect");
    set_nodelay(fd);
    return fd;
}

static void send_all(int fd, const void *data, size_t len)
{
    const uint8_t *p = data;
    while (len) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n < 0)
            die_errno("send");
        p += n;
        len -= (size_t)n;
    }
}

static void recv_all(int fd, void *data, size_t len)
{
    uint8_t *p = data;
    while (len) {
        ssize_t n = recv(fd, p, len, 0);
        if (n <= 0)
            die("recv: %s", n ? strerror(errno) : "ended early");
        p += n;
        len -= (size_t)n;
    }
}

static void send_head(int fd, char mode, uint64_t n)
{
    uint8_t head[9] = {(uint8_t)mode};
    for (int i = 0; i < 8; i++)
        head[1 + i] = (uint8_t)(n >> (56 - 8 * i));
    send_all(fd, head, sizeof(head));
}

struct load {
    int fd;
    uint64_t left;
};

static bool load_up(struct load *l)
{
    while (l->left) {
        ssize_t n = send(l->fd, chunk, l->left < CHUNK ? l->left : CHUNK, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n < 0)
            die_errno("send");
        l->left -= (uint64_t)n;
    }
    uint8_t done;
    ssize_t n = recv(l->fd, &done, 1, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN))
        die("the stream ended before all was confirmed");
    return n == 1;
}

static bool load_down(struct load *l)
{
    while (l->left) {
        ssize_t n = recv(l->fd, chunk, l->left < CHUNK ? l->left : CHUNK, MSG_DONTWAIT | MSG_TRUNC);
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n <= 0)
            die("recv: %s", n ? strerror(errno) : "ended early");
        l->left -= (uint64_t)n;
    }
    return true;
}

static void run_bulk(bool up, unsigned port, unsigned streams, uint64_t bytes)
{
    static struct load loads[STREAMS_MAX];
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned i = 0; i < streams; i++)
        loads[i] = (struct load){dial(port), bytes};
    uint64_t start = now_ns();
    for (unsigned i = 0; i < streams; i++) {
        send_head(loads[i].fd, up ? 'U' : 'D', bytes);
        watch(epoll, loads[i].fd, EPOLLIN | EPOLLOUT | EPOLLET, &loads[i]);
    }
    struct epoll_event events[64];
    for (unsigned open = streams; open;) {
        int n = epoll_wait(epoll, events, 64, -1);
        for (int i = 0; i < n; i++) {
            struct load *l = events[i].data.ptr;
            if (l->fd < 0 || !(up ? load_up(l) : load_down(l)))
                continue;
            epoll_ctl(epoll, EPOLL_CTL_DEL, l->fd, NULL);
            close(l->fd);
            l->fd = -1;
            open--;
        }
    }
    printf("{\"bytes\": %llu, \"seconds\": %.6f}\n", (unsigned long long)bytes * streams, (double)(now_ns() - start) / 1e9);
}

static void run_timed(unsigned port, unsigned ms)
{
    int fd = dial(port);
    send_head(fd, 'D', UINT64_MAX / 2);
    recv_all(fd, chunk, 1);
    uint64_t start = now_ns(), end = start + ms * 1000000ull, bytes = 1, now;
    do {
        ssize_t n = recv(fd, chunk, CHUNK, MSG_TRUNC);
        if (n <= 0)
            die("recv: %s", n ? strerror(errno) : "ended early");
        bytes += (uint64_t)n;
        now = now_ns();
    } while (now < end);
    printf("{\"bytes\": %llu, \"seconds\": %.6f}\n", (unsigned long long)bytes, (double)(now - start) / 1e9);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void run_echo(unsigned port, unsigned size, unsigned count)
{
    if (size > CHUNK || count < 100)
        die("at most %d bytes, at least 100 rounds", CHUNK);
    int fd = dial(port);
    uint64_t *took = calloc(count, sizeof(*took));
    send_all(fd, "E", 1);
    for (int i = 0; i < 50; i++) { // warm
        send_all(fd, chunk, size);
        recv_all(fd, chunk, size);
    }
    for (unsigned i = 0; i < count; i++) {
        uint64_t start = now_ns();
        send_all(fd, chunk, size);
        recv_all(fd, chunk, size);
        took[i] = now_ns() - start;
    }
    qsort(took, count, sizeof(*took), by_value);
    printf("{\"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f}\n", (double)took[count / 2] / 1e3,
           (double)took[count / 100 * 99 - 1] / 1e3, (double)took[count - 1] / 1e3);
}

// A new connection under way; true when it has asked already.
struct call {
    int fd;
    bool asked;
};

static void call_start(struct call *c, int epoll, unsigned port)
{
    struct sockaddr_in a = loopback(port);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    c->asked = false;
    if (c->fd < 0 || (connect(c->fd, (struct sockaddr *)&a, sizeof(a)) < 0 && errno != EINPROGRESS))
        die_errno("connect");
    watch(epoll, c->fd, EPOLLIN | EPOLLOUT | EPOLLET, c);
}

// True when it has its answer and is closed.
static bool call_run(struct call *c, uint32_t events)
{
    uint8_t answer;
    if (!c->asked && events & EPOLLOUT) {
        send_all(c->fd, "C", 1);
        c->asked = true;
    }
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return false;
    ssize_t n = recv(c->fd, &answer, 1, 0);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n != 1)
        die("a connection ended without an answer: %s", n ? strerror(errno) : "closed");
    close(c->fd);
    return true;
}

static void run_conns(unsigned port, unsigned parallel, unsigned ms)
{
    static struct call calls[STREAMS_MAX];
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event events[64];
    uint64_t start = now_ns(), end = start + ms * 1000000ull, now = start, count = 0;
    for (unsigned i = 0; i < parallel; i++)
        call_start(&calls[i], epoll, port);
    while (now < end) {
        int n = epoll_wait(epoll, events, 64, 5000);
        if (n == 0)
            die("no connection was answered for 5 s");
        for (int i = 0; i < n; i++)
            if (call_run(events[i].data.ptr, events[i].events)) {
                count++;
                call_start(events[i].data.ptr, epoll, port);
            }
        now = now_ns();
    }
    printf("{\"count\": %llu, \"seconds\": %.6f}\n", (unsigned long long)count, (double)(now - start) / 1e9);
}

static void run_idle(unsigned port, unsigned count)
{
    static int fds[STREAMS_MAX];
    char line[64];
    uint8_t byte;
    for (unsigned i = 0; i < count; i++) {
        fds[i] = dial(port);
        send_all(fds[i], "Ex", 2);
        recv_all(fds[i], &byte, 1);
    }
    puts("open");
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        for (unsigned i = 0; i < count; i++) {
            send_all(fds[i], chunk, USE_BYTES);
            recv_all(fds[i], chunk, USE_BYTES);
        }
        puts("used");
        fflush(stdout);
    }
}

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}

// Asks until the count no longer moves.
static uint64_t ask_count(int fd, uint32_t run)
{
    uint64_t count = 0, last;
    uint8_t ask[5] = {'Q'}, answer[64];
    put32(ask + 1, run);
    for (int tries = 0; tries < 100; tries++) {
        last = count;
        usleep(50000);
        send(fd, ask, sizeof(ask), 0);
        ssize_t n = recv(fd, answer, sizeof(answer), 0); // SO_RCVTIMEO
        if (n != 13 || memcmp(answer + 1, ask + 1, 4))
            continue;
        count = 0;
        for (int i = 5; i < 13; i++)
            count = count << 8 | answer[i];
        if (count && count == last)
            return count;
    }
    return count;
}

static void run_udp(unsigned port, unsigned size, unsigned rate, unsigned ms)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = loopback(port);
    struct timeval patience = {.tv_usec = 200000};
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || size < 5 || size > 65507)
        die("datagrams of 5 to 65507 bytes");
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){1 << 20}, sizeof(int));
    prctl(PR_SET_TIMERSLACK, 1);
    uint32_t run = (uint32_t)now_ns();
    chunk[0] = 'S';
    put32(chunk + 1, run);
    uint64_t start = now_ns(), length = ms * 1000000ull, sent = 0, now;
    while ((now = now_ns() - start) < length) {
        uint64_t due = now * rate / 1000000000u;
        for (int burst = 0; sent < due && burst < 32; burst++, sent++)
            if (send(fd, chunk, size, 0) < 0 && errno != ECONNREFUSED && errno != ENOBUFS)
                die_errno("send");
        if (sent >= due)
            nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
    double seconds = (double)(now_ns() - start) / 1e9;
    uint64_t came = ask_count(fd, run);
    printf("{\"sent\": %llu, \"came\": %llu, \"seconds\": %.6f}\n", (unsigned long long)sent, (unsigned long long)came,
           seconds);
}

int main(int argc, char **argv)
{
    unsigned a[4] = {0};
    if (argc < 4 || argc > 6)
        die("usage: see the head of client.c");
    for (int i = 2; i < argc; i++)
        a[i - 2] = number(argv[i]);
    if (!strcmp(argv[1], "up") || !strcmp(argv[1], "down"))
        run_bulk(argv[1][0] == 'u', a[0], a[1] < STREAMS_MAX ? a[1] : STREAMS_MAX, a[2]);
    else if (!strcmp(argv[1], "timed"))
        run_timed(a[0], a[1]);
    else if (!strcmp(argv[1], "echo"))
        run_echo(a[0], a[1], a[2]);
    else if (!strcmp(argv[1], "conns"))
        run_conns(a[0], a[1] < STREAMS_MAX ? a[1] : STREAMS_MAX, a[2]);
    else if (!strcmp(argv[1], "idle"))
        run_idle(a[0], a[1] < STREAMS_MAX ? a[1] : STREAMS_MAX);
    else if (!strcmp(argv[1], "udp"))
        run_udp(a[0], a[1], a[2], a[3]);
    else
        die("no load %s", argv[1]);
    return 0;
}
