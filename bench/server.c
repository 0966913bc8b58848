// SPDX-License-Identifier: Apache-2.0
// The target of the bench: one port, TCP and UDP. A connection's first byte says what it is for:
//   E        echo until the end
//   U n:64   take n bytes, then answer one byte
//   D n:64   send n bytes
//   C        answer one byte
// A datagram's first byte: E echo; S run:32 count it; Q run:32 answer the count of that run. Prints its port.
#include <sys/types.h>
#include <sys/uio.h>
#include "common.h"

#define CHUNK (256 * 1024)
#define BATCH 64

enum mode { HEAD = 0, ECHO = 'E', SINK = 'U', SOURCE = 'D', ANSWER = 'C' };

struct conn {
    int fd;
    enum mode mode;
    uint8_t head[9];
    unsigned head_len;
    uint64_t left; // of SINK and SOURCE
    uint8_t *kept; // echo: what the peer did not take yet
    size_t kept_at, kept_len;
};

static uint8_t chunk[CHUNK];
static int epoll;
static uint32_t udp_run;
static uint64_t udp_count;

static void conn_free(struct conn *c)
{
    close(c->fd);
    free(c->kept);
    free(c);
}

static bool send_byte(struct conn *c)
{
    return send(c->fd, "k", 1, MSG_NOSIGNAL) == 1;
}

// Reads the mode and its number. False: not all there yet, or over (then *over).
static bool read_head(struct conn *c, bool *over)
{
    while (c->mode == HEAD) {
        ssize_t n = recv(c->fd, c->head + c->head_len, (c->head_len ? 9 : 1) - c->head_len, 0);
        if (n <= 0) {
            *over = n == 0 || errno != EAGAIN;
            return false;
        }
        c->head_len += (unsigned)n;
        if (c->head[0] == ECHO || c->head[0] == ANSWER || c->head_len == 9)
            c->mode = c->head[0];
    }
    for (int i = 1; i < 9; i++)
        c->left = c->left << 8 | c->head[i];
    return true;
}

// Each returns false when the connection is over.
static bool run_echo(struct conn *c)
{
    while (1) {
        if (c->kept_len) {
            ssize_t n = send(c->fd, c->kept + c->kept_at, c->kept_len, MSG_NOSIGNAL);
            if (n < 0)
                return errno == EAGAIN;
            c->kept_at += (size_t)n;
            c->kept_len -= (size_t)n;
            if (c->kept_len)
                return true;
            free(c->kept);
            c->kept = NULL;
        }
        ssize_t got = recv(c->fd, chunk, sizeof(chunk), 0);
        if (got <= 0)
            return got < 0 && errno == EAGAIN;
        ssize_t put = send(c->fd, chunk, (size_t)got, MSG_NOSIGNAL);
        if (put < 0 && errno != EAGAIN)
            return false;
        put = put < 0 ? 0 : put;
        if (put == got)
            continue;
        c->kept_at = 0;
        c->kept_len = (size_t)(got - put);
        c->kept = malloc(c->kept_len);
        memcpy(c->kept, chunk + put, c->kept_len);
    }
}

static bool run_sink(struct conn *c)
{
    while (c->left) {
        ssize_t n = recv(c->fd, chunk, c->left < CHUNK ? c->left : CHUNK, MSG_TRUNC); // discards without a copy
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        c->left -= (uint64_t)n;
    }
    c->mode = ECHO; // whatever comes now is only the end
    return send_byte(c);
}

static bool run_source(struct conn *c)
{
    while (c->left) {
        ssize_t n = send(c->fd, chunk, c->left < CHUNK ? c->left : CHUNK, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN;
        c->left -= (uint64_t)n;
    }
    c->mode = ECHO;
    return true;
}

static bool run_conn(struct conn *c)
{
    bool over = false;
    if (c->mode == HEAD && !read_head(c, &over))
        return !over;
    switch (c->mode) {
    case ANSWER:
        c->mode = ECHO;
        return send_byte(c) && run_echo(c);
    case SINK:
        return run_sink(c);
    case SOURCE:
        return run_source(c);
    case ECHO:
        return run_echo(c);
    default:
        return false;
    }
}

static void accept_all(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct conn *c = calloc(1, sizeof(*c));
        c->fd = fd;
        set_nodelay(fd);
        watch(epoll, fd, EPOLLIN | EPOLLOUT | EPOLLET, c);
    }
}

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void datagram(int fd, uint8_t *data, size_t len, struct sockaddr_in *from)
{
    if (len && data[0] == 'E') {
        sendto(fd, data, len, 0, (struct sockaddr *)from, sizeof(*from));
    } else if (len >= 5) {
        uint32_t run = be32(data + 1);
        if (run != udp_run) {
            udp_run = run;
            udp_count = 0;
        }
        if (data[0] == 'S') {
            udp_count++;
            return;
        }
        uint8_t answer[13] = {'q', data[1], data[2], data[3], data[4]};
        for (int i = 0; i < 8; i++)
            answer[5 + i] = (uint8_t)(udp_count >> (56 - 8 * i));
        sendto(fd, answer, sizeof(answer), 0, (struct sockaddr *)from, sizeof(*from));
    }
}

static void datagrams(int fd)
{
    static uint8_t room[BATCH][65536];
    static struct sockaddr_in from[BATCH];
    struct mmsghdr all[BATCH];
    struct iovec io[BATCH];
    int n;
    do {
        for (int i = 0; i < BATCH; i++) {
            io[i] = (struct iovec){room[i], sizeof(room[i])};
            all[i].msg_hdr = (struct msghdr){
                .msg_name = &from[i], .msg_namelen = sizeof(from[i]), .msg_iov = &io[i], .msg_iovlen = 1};
        }
        n = recvmmsg(fd, all, BATCH, MSG_DONTWAIT, NULL);
        for (int i = 0; i < n; i++)
            datagram(fd, room[i], all[i].msg_len, &from[i]);
    } while (n == BATCH);
}

int main(int argc, char **argv)
{
    unsigned port = argc > 1 ? number(argv[1]) : 0;
    int tcp = listen_on(&port), udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = loopback(port);
    setsockopt(udp, SOL_SOCKET, SO_RCVBUF, &(int){4 << 20}, sizeof(int));
    if (bind(udp, (struct sockaddr *)&a, sizeof(a)) < 0)
        die_errno("bind UDP");
    epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(epoll, tcp, EPOLLIN, &tcp);
    watch(epoll, udp, EPOLLIN, &udp);
    printf("%u\n", port);
    fflush(stdout);
    struct epoll_event events[64];
    while (1) {
        int n = epoll_wait(epoll, events, 64, -1);
        for (int i = 0; i < n; i++) {
            void *ctx = events[i].data.ptr;
            if (ctx == &tcp)
                accept_all(tcp);
            else if (ctx == &udp)
                datagrams(udp);
            else if (!run_conn(ctx))
                conn_free(ctx);
        }
    }
}
