// SPDX-License-Identifier: Apache-2.0
#include "forward/udp.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "forward/listen.h"
#include "wire/frame.h"

#define QUIET_MS 10000 // without a datagram: the memory goes back to the system
#define SLOTS_SIZE ((size_t)UDP_BATCH * UDP_SLOT)

struct udp_waiting { // a datagram in the arena
    struct udp_sock *u;
    struct addr to;
    struct udp_via via;
    uint32_t at, len;
};

union control { // room for one control message
    char space[CMSG_SPACE(sizeof(struct in6_pktinfo))];
    struct cmsghdr align;
};

// --- shared memory

static void *map(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        abort();
    return p;
}

static void unmap(void *p, size_t size)
{
    if (p)
        munmap(p, size);
}

static void drop_memory(struct udp_io *io)
{
    unmap(io->slots, SLOTS_SIZE);
    unmap(io->arena, UDP_ARENA);
    free(io->out);
    io->slots = io->arena = NULL;
    io->out = NULL;
}

static void use_memory(struct udp_io *io)
{
    io->used = true;
    if (io->slots)
        return;
    io->slots = map(SLOTS_SIZE);
    io->arena = map(UDP_ARENA);
    io->out = malloc(UDP_ARENA_DGRAMS * sizeof(*io->out));
    if (!io->out)
        abort();
    timer_set(io->w, &io->quiet, QUIET_MS);
}

static void on_quiet(struct timer *timer)
{
    struct udp_io *io = container_of(timer, struct udp_io, quiet);
    bool busy = io->used || io->out_count > 0;
    io->used = false;
    if (busy)
        timer_set(io->w, &io->quiet, QUIET_MS);
    else
        drop_memory(io);
}

// --- sending

static void put_via(struct msghdr *m, union control *c, const struct udp_via *via)
{
    bool v6 = via->family == AF_INET6;
    size_t size = v6 ? sizeof(struct in6_pktinfo) : sizeof(struct in_pktinfo);
    memset(c, 0, sizeof(*c));
    m->msg_control = c;
    m->msg_controllen = CMSG_SPACE(size);
    struct cmsghdr *h = CMSG_FIRSTHDR(m);
    h->cmsg_level = v6 ? IPPROTO_IPV6 : IPPROTO_IP;
    h->cmsg_type = v6 ? IPV6_PKTINFO : IP_PKTINFO;
    h->cmsg_len = CMSG_LEN(size);
    if (v6) {
        struct in6_pktinfo info = {.ipi6_addr = via->in6, .ipi6_ifindex = via->ifindex};
        memcpy(CMSG_DATA(h), &info, size);
    } else {
        struct in_pktinfo info = {.ipi_spec_dst = via->in};
        memcpy(CMSG_DATA(h), &info, size);
    }
}

static size_t fill(struct udp_io *io, size_t first, struct mmsghdr *msgs, struct iovec *iov, union control *controls,
                   size_t *last)
{
    struct udp_sock *u = io->out[first].u;
    size_t n = 0, i = first;
    for (; i < io->out_count && n < UDP_BATCH && io->out[i].u == u; i++, n++) {
        struct udp_waiting *o = &io->out[i];
        iov[n] = (struct iovec){.iov_base = io->arena + o->at, .iov_len = o->len};
        msgs[n] = (struct mmsghdr){.msg_hdr = {.msg_iov = &iov[n], .msg_iovlen = 1}};
        if (!u->connected) {
            msgs[n].msg_hdr.msg_name = &o->to.sa;
            msgs[n].msg_hdr.msg_namelen = o->to.len;
        }
        if (o->via.family)
            put_via(&msgs[n].msg_hdr, &controls[n], &o->via);
    }
    *last = i;
    return n;
}

static void lose(struct udp_sock *u, size_t n)
{
    u->stats.unsent += n;
    u->io->unsent += n;
}

// An error of sendmmsg belongs to its first datagram (perhaps an ICMP answer to an earlier one): that one is lost, unless
// it was such an answer, which reading the socket's error has cleared.
static void send_batch(struct udp_sock *u, struct mmsghdr *msgs, size_t n)
{
    size_t at = 0;
    bool again = true;
    while (at < n) {
        int sent = sendmmsg(u->fd, msgs + at, (unsigned)(n - at), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)) {
            lose(u, n - at);
            return;
        }
        if (sent < 0 && again && errno == ECONNREFUSED) {
            again = false;
            continue;
        }
        if (sent <= 0) {
            lose(u, 1);
            at++;
            again = true;
            continue;
        }
        u->stats.out += (size_t)sent;
        at += (size_t)sent;
    }
}

static void flush_all(struct udp_io *io)
{
    struct mmsghdr msgs[UDP_BATCH];
    struct iovec iov[UDP_BATCH];
    union control controls[UDP_BATCH];
    for (size_t i = 0, last; i < io->out_count; i = last) {
        size_t n = fill(io, i, msgs, iov, controls, &last);
        send_batch(io->out[i].u, msgs, n);
    }
    io->out_count = io->arena_used = 0;
}

static void on_flush(struct wake *wake) { flush_all(container_of(wake, struct udp_io, flush)); }

void udp_io_init(struct udp_io *io, struct worker *w)
{
    *io = (struct udp_io){.w = w};
    wake_init(&io->flush, on_flush);
    timer_init(&io->quiet, on_quiet);
}

void udp_io_fini(struct udp_io *io)
{
    wake_cancel(&io->flush);
    timer_stop(io->w, &io->quiet);
    drop_memory(io);
}

void udp_sock_send(struct udp_sock *u, const struct addr *to, const void *data, size_t len)
{
    udp_sock_send_via(u, to, NULL, data, len);
}

void udp_sock_send_via(struct udp_sock *u, const struct addr *to, const struct udp_via *via, const void *data, size_t len)
{
    struct udp_io *io = u->io;
    if (u->fd < 0 || len > DGRAM_MAX) {
        lose(u, 1);
        return;
    }
    use_memory(io);
    if (io->out_count == UDP_ARENA_DGRAMS || len > UDP_ARENA - io->arena_used)
        flush_all(io);
    struct udp_waiting *o = &io->out[io->out_count++];
    o->u = u;
    o->at = (uint32_t)io->arena_used;
    o->len = (uint32_t)len;
    if (to)
        o->to = *to;
    o->via.family = 0;
    if (via)
        o->via = *via;
    memcpy(io->arena + io->arena_used, data, len);
    io->arena_used += len;
    wake_post_late(io->w, &io->flush);
}

// --- receiving

struct batch {
    struct mmsghdr msgs[UDP_BATCH];
    struct iovec iov[UDP_BATCH];
    struct sockaddr_storage from[UDP_BATCH];
    union control controls[UDP_BATCH];
};

static void get_via(struct udp_via *via, struct msghdr *m)
{
    via->family = 0;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
        if (h->cmsg_level == IPPROTO_IPV6 && h->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(h), sizeof(info));
            *via = (struct udp_via){.family = AF_INET6, .in6 = info.ipi6_addr};
            via->ifindex = IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr) ? info.ipi6_ifindex : 0;
        } else if (h->cmsg_level == IPPROTO_IP && h->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(h), sizeof(info));
            *via = (struct udp_via){.family = AF_INET, .in = info.ipi_spec_dst};
        }
    }
}

static int receive(struct udp_sock *u, struct batch *b)
{
    for (size_t i = 0; i < UDP_BATCH; i++) {
        b->iov[i] = (struct iovec){.iov_base = u->io->slots + i * UDP_SLOT, .iov_len = UDP_SLOT};
        b->msgs[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &b->iov[i], .msg_iovlen = 1}};
        if (!u->connected) {
            b->msgs[i].msg_hdr.msg_name = &b->from[i];
            b->msgs[i].msg_hdr.msg_namelen = sizeof(b->from[i]);
        }
        if (u->wild) {
            b->msgs[i].msg_hdr.msg_control = &b->controls[i];
            b->msgs[i].msg_hdr.msg_controllen = sizeof(b->controls[i]);
        }
    }
    return recvmmsg(u->fd, b->msgs, UDP_BATCH, MSG_DONTWAIT, NULL);
}

// False: the socket was closed meanwhile.
static bool hand_over(struct udp_sock *u, struct batch *b, int n)
{
    struct udp_sock *alive = u;
    u->alive = &alive;
    for (int i = 0; i < n && alive; i++) {
        struct addr from;
        size_t len = b->msgs[i].msg_len;
        if (!u->connected && !addr_from(&from, (struct sockaddr *)&b->from[i], b->msgs[i].msg_hdr.msg_namelen))
            continue;
        if (u->wild)
            get_via(&u->via, &b->msgs[i].msg_hdr);
        u->stats.in++;
        u->on_dgram(u, u->connected ? NULL : &from, u->io->slots + (size_t)i * UDP_SLOT, len);
    }
    if (alive)
        u->alive = NULL;
    return alive != NULL;
}

static void on_readable(void *ctx, int events)
{
    struct udp_sock *u = ctx;
    struct batch b;
    (void)events;
    for (int round = 0; round < UDP_ROUNDS; round++) {
        use_memory(u->io);
        int n = receive(u, &b); // an error is an ICMP answer: told once, and nothing to do about
        if (n <= 0 || !hand_over(u, &b, n) || n < UDP_BATCH)
            return;
    }
}

// --- life

// The forced form may exceed the system's limit but needs a privilege; the other is cut to it.
static void set_buffers(int fd)
{
    int size = UDP_SOCKBUF;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

static void tell_via(struct udp_sock *u)
{
    int one = 1;
    if (u->local.sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&u->local.in6.sin6_addr))
        u->wild = setsockopt(u->fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof(one)) == 0;
    else if (u->local.sa.sa_family == AF_INET && u->local.in.sin_addr.s_addr == htonl(INADDR_ANY))
        u->wild = setsockopt(u->fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof(one)) == 0;
}

static int start(struct udp_sock *u, struct err *e)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    set_buffers(u->fd);
    if (getsockname(u->fd, (struct sockaddr *)&ss, &len) == 0)
        addr_from(&u->local, (struct sockaddr *)&ss, len);
    tell_via(u);
    u->watch = watch_new(u->io->w, u->fd, on_readable, u);
    if (!u->watch) {
        close(u->fd);
        u->fd = -1;
        return err_set(e, ERR_FAILED, WHY_INTERNAL, "cannot watch a UDP socket");
    }
    watch_want(u->watch, UV_READABLE);
    return 0;
}

int udp_sock_bind(struct udp_sock *u, struct udp_io *io, const struct addr *at, bool dual,
                  void (*on_dgram)(struct udp_sock *u, const struct addr *from, const uint8_t *data, size_t len),
                  struct err *e)
{
    *u = (struct udp_sock){.io = io, .on_dgram = on_dgram};
    u->fd = listen_socket(at, SOCK_DGRAM, dual, e);
    return u->fd < 0 ? -1 : start(u, e);
}

int udp_sock_connect(struct udp_sock *u, struct udp_io *io, const struct addr *to,
                     void (*on_dgram)(struct udp_sock *u, const struct addr *from, const uint8_t *data, size_t len),
                     struct err *e)
{
    char text[ADDR_TEXT_MAX];
    *u = (struct udp_sock){.io = io, .on_dgram = on_dgram, .connected = true};
    u->fd = socket(to->sa.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (u->fd < 0)
        return err_errno(e, errno, "udp socket for %s", addr_text(to, text));
    if (connect(u->fd, &to->sa, to->len) < 0) {
        err_errno(e, errno, "udp %s", addr_text(to, text));
        close(u->fd);
        u->fd = -1;
        return -1;
    }
    return start(u, e);
}

static void flush_own(struct udp_sock *u)
{
    struct udp_io *io = u->io;
    for (size_t i = 0; i < io->out_count; i++) {
        if (io->out[i].u == u) {
            flush_all(io);
            return;
        }
    }
}

void udp_sock_close(struct udp_sock *u)
{
    if (!u->io || u->fd < 0)
        return;
    flush_own(u);
    watch_free(u->watch);
    close(u->fd);
    u->fd = -1;
    u->watch = NULL;
    if (u->alive)
        *u->alive = NULL;
    u->alive = NULL;
}
