// SPDX-License-Identifier: Apache-2.0
// The descriptor is watched once, edge-triggered: `readable` and `blocked` remember what poll said. A short read means
// drained, so the read that would answer EAGAIN is left out, unless the peer has ended, which a short read would hide.
#include "link/tcp.h"
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>
#include "link/tcp_info.h"

#define READ_BUFS 16      // a read while data stream in: 256 KiB
#define READ_BUFS_BLIND 4 // of a local socket whose reader does not say what it can pass on
#define WRITE_BUFS 64
#define TCP_FULL_MS 20    // between two tries where a Unix socket's queue of callers is full: no event tells when it is not

struct tcp {
    struct link link;
    int fd; // -1: none (any more)
    int flags;
    struct addr to; // of a dial
    struct watch *watch;
    struct bufq in;  // read, not handed over yet: READ_BUFS - 1 at most
    struct bufq out; // TCP_QUEUE_MAX and one buffer at most
    struct tcp_rate rate; // of a carrier
    struct wake flush;
    struct timer full; // TCP_FULL_MS, of a dial
    bool connected;
    bool readable;  // poll said so and no read has been short since
    bool is_bulk;   // the last read filled a buffer: the next one takes several
    bool hung_up;   // poll has seen the peer's end, or an error: reads go on until they say so
    bool blocked;   // the kernel takes no more until poll says writable
    bool end_read;  // the peer's FIN
    bool read_over; // recv has nothing more to expect: an end, or an error
    bool end_wanted, end_sent;
    bool room_owed;
};

static struct tcp *of(struct link *l) { return container_of(l, struct tcp, link); }

static const char *peer_text(struct tcp *t, char out[ADDR_TEXT_MAX])
{
    struct addr a = t->to;
    if (!a.len && t->link.facts)
        a = t->link.facts->peer;
    if (!a.len)
        return "the connection";
    return addr_text(&a, out);
}

static enum link_status fail_errno(struct tcp *t, int errnum, const char *doing)
{
    char peer[ADDR_TEXT_MAX];
    if (!err_is(&t->link.err))
        err_errno(&t->link.err, errnum, "%s %s", doing, peer_text(t, peer));
    return LINK_FAILED;
}

// Nothing sent from here on can arrive. What the peer had sent before may still be read.
static void fail_send(struct tcp *t, int errnum, const char *doing)
{
    fail_errno(t, errnum, doing);
    bufq_clear(&t->out);
    t->blocked = false;
    link_wake(&t->link);
}

static void note_addresses(struct tcp *t)
{
    struct sockaddr_storage ss;
    struct link_facts *f = t->link.facts;
    if (!f)
        return;
    socklen_t len = sizeof(ss);
    if (getsockname(t->fd, (struct sockaddr *)&ss, &len) == 0)
        addr_from(&f->local, (struct sockaddr *)&ss, len);
    len = sizeof(ss);
    if (getpeername(t->fd, (struct sockaddr *)&ss, &len) == 0)
        addr_from(&f->peer, (struct sockaddr *)&ss, len);
}

static void finish_connect(struct tcp *t, bool failed)
{
    int errnum = 0;
    socklen_t len = sizeof(errnum);
    if (failed && getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &errnum, &len) < 0)
        errnum = errno;
    if (errnum) {
        fail_send(t, errnum, "connect to");
        return;
    }
    t->connected = true;
    note_addresses(t);
    wake_post_late(t->link.w, &t->flush);
    link_wake(&t->link);
}

// What came behind the peer's end, its reset or keepalive's verdict, is told by no read. Without an error, hanging up is in order.
static void note_failure(struct tcp *t)
{
    int errnum = 0;
    socklen_t len = sizeof(errnum);
    if (err_is(&t->link.err) || getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &errnum, &len) < 0 || !errnum)
        return;
    fail_send(t, errnum == EPIPE ? ECONNRESET : errnum, "read from"); // so the kernel calls a reset behind the end
}

static void on_poll(void *ctx, int events)
{
    struct tcp *t = ctx;
    if (!t->connected) {
        if (!err_is(&t->link.err) && events & UV_WRITABLE)
            finish_connect(t, events & UV_DISCONNECT);
        if (!t->connected)
            return;
    }
    if (events & UV_DISCONNECT)
        t->hung_up = true;
    if (events & UV_DISCONNECT && t->read_over)
        note_failure(t);
    if (events & UV_READABLE && !t->readable) {
        t->readable = true;
        link_wake(&t->link);
    }
    if (events & UV_WRITABLE && t->blocked) {
        t->blocked = false;
        wake_post_late(t->link.w, &t->flush);
    }
}

static void pay_room(struct tcp *t)
{
    bool enough = t->out.bytes <= TCP_QUEUE_MAX / 2 && (!t->blocked || bufq_empty(&t->out));
    if (t->flags & TCP_CARRIER)
        enough = !t->blocked;
    if (t->end_wanted)
        enough = t->end_sent;
    if (!t->room_owed || !enough)
        return;
    t->room_owed = false;
    link_wake(&t->link);
}

// One writev. False when the kernel took less than it was offered, or failed.
static bool write_some(struct tcp *t)
{
    struct iovec iov[WRITE_BUFS];
    struct msghdr msg = {.msg_iov = iov};
    size_t offered = 0;
    for (struct buf *b = t->out.head; b && msg.msg_iovlen < WRITE_BUFS; b = b->next) {
        iov[msg.msg_iovlen++] = (struct iovec){.iov_base = buf_data(b), .iov_len = b->len};
        offered += b->len;
    }
    ssize_t n;
    do
        n = sendmsg(t->fd, &msg, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
        fail_send(t, errno, "write to");
        return false;
    }
    if (n > 0)
        bufq_drop(&t->out, (size_t)n);
    if (n >= 0 && (size_t)n == offered)
        return true;
    t->blocked = true;
    return false;
}

static void set_unsent(int fd, size_t most)
{
    int bytes = (int)most;
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof(bytes));
}

// Bytes that fit behind others are taken up to 64 KiB whatever TCP_NOTSENT_LOWAT says, and what is refused would wait here: so the kernel
// is asked, which also makes it tell when it has room again. On a fast path, and where no rate is
// measured, the next write finds out.
static bool is_full(struct tcp *t)
{
    struct pollfd p = {.fd = t->fd, .events = POLLOUT};
    return tcp_rate_queue(&t->rate) < TCP_QUEUE_MAX && poll(&p, 1, 0) == 0;
}

// Before a carrier's writes: what the kernel may hold unsent now.
static void bound_unsent(struct tcp *t)
{
    size_t unsent = tcp_rate_unsent(&t->rate), left;
    if (t->rate.waits && tcp_rate_is_slow(&t->rate) && tcp_info_unsent(t->fd, &left))
        tcp_rate_asked(&t->rate, left);
    tcp_rate_begin(&t->rate, t->link.w->now_us);
    if (tcp_rate_unsent(&t->rate) != unsent)
        set_unsent(t->fd, tcp_rate_unsent(&t->rate));
}

static void on_flush(struct wake *wake)
{
    struct tcp *t = container_of(wake, struct tcp, flush);
    if (t->fd < 0 || !t->connected || err_is(&t->link.err))
        return;
    size_t before = t->out.bytes;
    if (t->flags & TCP_CARRIER)
        bound_unsent(t);
    while (!t->blocked && !bufq_empty(&t->out) && write_some(t))
        t->blocked = is_full(t);
    if (t->flags & TCP_CARRIER)
        tcp_rate_wrote(&t->rate, before - t->out.bytes, t->blocked);
    if (t->end_wanted && !t->end_sent && bufq_empty(&t->out) && !err_is(&t->link.err)) {
        if (shutdown(t->fd, SHUT_WR) < 0 && errno != ENOTCONN)
            fail_send(t, errno, "end");
        else
            t->end_sent = true;
    }
    pay_room(t);
}

static enum link_status tcp_open(struct link *l)
{
    struct tcp *t = of(l);
    if (err_is(&l->err))
        return LINK_FAILED;
    return t->connected ? LINK_OK : LINK_AGAIN;
}

// Two at least: 16 KiB of a program, or of TLS with its header, then cost one system call. What a local socket has read and cannot
// pass on is held outside of any budget: no more than its reader has room for.
static size_t read_count(const struct tcp *t)
{
    if (!t->is_bulk)
        return 2;
    if (t->flags & TCP_CARRIER)
        return READ_BUFS;
    size_t count = t->link.appetite ? t->link.appetite / TCP_READ_MAX : READ_BUFS_BLIND;
    return count < 2 ? 2 : count < READ_BUFS ? count : READ_BUFS;
}

// Local sockets: a buffer makes one DATA frame, with its header and a WebSocket header in front. Carriers: as much as fits.
static size_t prepare(struct tcp *t, struct buf **bufs, struct iovec *iov)
{
    size_t count = read_count(t);
    for (size_t i = 0; i < count; i++) {
        bufs[i] = buf_get(&t->link.w->pool);
        size_t room = buf_tailroom(bufs[i]);
        if (!(t->flags & TCP_CARRIER)) {
            bufs[i]->start = TCP_READ_HEAD;
            room = TCP_READ_MAX;
        }
        iov[i] = (struct iovec){.iov_base = buf_end(bufs[i]), .iov_len = room};
    }
    return count;
}

static ssize_t read_bufs(struct tcp *t)
{
    struct buf *bufs[READ_BUFS];
    struct iovec iov[READ_BUFS];
    size_t count = prepare(t, bufs, iov), all = 0;
    for (size_t i = 0; i < count; i++)
        all += iov[i].iov_len;
    ssize_t n;
    do
        n = count == 1 ? read(t->fd, iov[0].iov_base, iov[0].iov_len) : readv(t->fd, iov, (int)count);
    while (n < 0 && errno == EINTR);
    int errnum = errno;
    size_t left = n > 0 ? (size_t)n : 0;
    t->is_bulk = left >= iov[0].iov_len;
    t->readable = n > 0 && (left == all || t->hung_up);
    for (size_t i = 0; i < count; i++) {
        bufs[i]->len = (uint32_t)(left < iov[i].iov_len ? left : iov[i].iov_len);
        left -= bufs[i]->len;
        if (bufs[i]->len)
            bufq_push(&t->in, bufs[i]);
        else
            buf_put(bufs[i]);
    }
    errno = errnum;
    return n;
}

static enum link_status end_of_read(struct tcp *t)
{
    t->read_over = true;
    if (err_is(&t->link.err))
        return LINK_FAILED; // what we sent is lost, whatever the peer's last word
    return t->end_read ? LINK_END : LINK_FAILED;
}

static enum link_status tcp_recv(struct link *l, struct buf **out)
{
    struct tcp *t = of(l);
    if ((*out = bufq_pop(&t->in)))
        return LINK_OK;
    if (t->read_over || t->fd < 0)
        return end_of_read(t);
    if (!t->connected)
        return err_is(&l->err) ? LINK_FAILED : LINK_AGAIN;
    if (t->readable) {
        ssize_t n = read_bufs(t);
        if (n > 0) {
            *out = bufq_pop(&t->in);
            return LINK_OK;
        }
        if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
            fail_errno(t, errno, "read from");
            bufq_clear(&t->out);
            return end_of_read(t);
        }
        if (n == 0) {
            t->end_read = true;
            note_failure(t);
            return end_of_read(t);
        }
    }
    return LINK_AGAIN;
}

static void tcp_send(struct link *l, struct buf *b)
{
    struct tcp *t = of(l);
    if (err_is(&l->err) || t->end_wanted || b->len == 0) {
        buf_put(b);
        return;
    }
    bufq_push(&t->out, b);
    if (t->connected && !t->blocked)
        wake_post_late(l->w, &t->flush);
}

static size_t tcp_room(struct link *l)
{
    struct tcp *t = of(l);
    if (err_is(&l->err) || t->end_sent)
        return TCP_QUEUE_MAX;
    size_t most = tcp_rate_queue(&t->rate), room = t->out.bytes < most ? most - t->out.bytes : 0;
    // A carrier's scheduler can still choose what goes next only as long as it keeps it.
    // Another socket that takes nothing keeps what it has, and no more: that is memory nobody counts.
    if (t->end_wanted || (t->blocked && (t->flags & TCP_CARRIER || !bufq_empty(&t->out))))
        room = 0;
    t->room_owed = room == 0;
    return room;
}

static void close_fd(struct tcp *t, bool reset)
{
    static const struct linger now = {.l_onoff = 1, .l_linger = 0};
    wake_cancel(&t->flush);
    timer_stop(t->link.w, &t->full);
    watch_free(t->watch);
    t->watch = NULL;
    if (t->fd < 0)
        return;
    if (reset)
        setsockopt(t->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(t->fd);
    t->fd = -1;
}

static void tcp_shut(struct link *l, enum link_shut how)
{
    struct tcp *t = of(l);
    if (how == SHUT_END) {
        t->end_wanted = true;
        wake_post_late(l->w, &t->flush);
        return;
    }
    // A reset travels behind the data before it: what the kernel still takes goes out first.
    while (t->connected && !err_is(&l->err) && !t->blocked && !bufq_empty(&t->out) && write_some(t))
        ;
    link_fail(l, ERR_FAILED, WHY_ABORTED, "aborted");
    bufq_clear(&t->in);
    bufq_clear(&t->out);
    close_fd(t, true);
}

static void tcp_fini(struct link *l)
{
    struct tcp *t = of(l);
    close_fd(t, !t->end_sent); // an unfinished stream must not look finished to the peer
    bufq_clear(&t->in);
    bufq_clear(&t->out);
    free(l->facts);
    free(t);
}

static const struct link_ops tcp_ops = {
    .name = "tcp",
    .open = tcp_open,
    .recv = tcp_recv,
    .send = tcp_send,
    .room = tcp_room,
    .shut = tcp_shut,
    .fini = tcp_fini,
};

static void start_watch(struct tcp *t)
{
    t->watch = watch_edges(t->link.w, t->fd, on_poll, t);
    if (!t->watch)
        fail_errno(t, EBADF, "watch");
}

// The Unix way to say that the target is slow to accept. How long is waited is the owner's to say, as with TCP.
static bool is_full_target(const struct tcp *t, int errnum)
{
    return t->to.sa.sa_family == AF_UNIX && errnum == EAGAIN;
}

static void on_full(struct timer *timer)
{
    struct tcp *t = container_of(timer, struct tcp, full);
    if (connect(t->fd, &t->to.sa, t->to.len) == 0) {
        start_watch(t);
        finish_connect(t, false);
    } else if (is_full_target(t, errno)) {
        timer_set(t->link.w, timer, TCP_FULL_MS);
    } else {
        fail_send(t, errno, "connect to");
    }
}

static struct tcp *tcp_new(struct worker *w, int fd, int flags)
{
    struct tcp *t = calloc(1, sizeof(*t));
    if (!t)
        abort();
    link_init(&t->link, &tcp_ops, w, NULL);
    t->fd = fd;
    tcp_rate_init(&t->rate);
    t->flags = flags & (TCP_CARRIER | TCP_INHERITED);
    wake_init(&t->flush, on_flush);
    timer_init(&t->full, on_full);
    if (flags & TCP_CARRIER)
        t->link.facts = calloc(1, sizeof(*t->link.facts));
    if (t->link.facts)
        t->link.facts->mss = (uint16_t)(flags >> 16);
    return t;
}

// Fails on Unix sockets, which is fine.
void tcp_set_options(int fd, int flags)
{
    int one = 1, mss = flags >> 16;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    if (flags & TCP_CARRIER)
        set_unsent(fd, TCP_UNSENT_MAX);
    if (mss)
        setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &mss, sizeof(mss));
}

struct link *tcp_dial(struct worker *w, const struct addr *to, int flags)
{
    struct tcp *t = tcp_new(w, -1, flags);
    t->to = *to;
    t->fd = socket(to->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (t->fd < 0) {
        fail_errno(t, errno, "socket for");
        return &t->link;
    }
    tcp_set_options(t->fd, flags);
    if (connect(t->fd, &to->sa, to->len) == 0) {
        t->connected = true;
        note_addresses(t);
    } else if (is_full_target(t, errno)) {
        timer_set(w, &t->full, TCP_FULL_MS);
        return &t->link;
    } else if (errno != EINPROGRESS) {
        fail_errno(t, errno, "connect to");
        return &t->link;
    }
    start_watch(t);
    return &t->link;
}

struct link *tcp_take(struct worker *w, int fd, int flags)
{
    struct tcp *t = tcp_new(w, fd, flags);
    t->connected = true;
    t->readable = true; // callers that speak first have often done so
    if (!(flags & TCP_INHERITED))
        tcp_set_options(fd, flags);
    note_addresses(t);
    start_watch(t);
    return &t->link;
}

int tcp_fd(const struct link *l) { return container_of(l, struct tcp, link)->fd; }

static const struct tcp *base_of(const struct link *top)
{
    while (top->below)
        top = top->below;
    return top->ops == &tcp_ops ? container_of(top, struct tcp, link) : NULL;
}

bool tcp_progress(const struct link *top, uint64_t *acked, uint64_t *waiting)
{
    const struct tcp *t = base_of(top);
    if (!t || !tcp_info_progress(t->fd, acked, waiting))
        return false;
    *waiting += t->out.bytes;
    return true;
}

bool tcp_sizes(const struct link *top, unsigned *sent, unsigned *received, unsigned *path_mtu)
{
    const struct tcp *t = base_of(top);
    return t && tcp_info_sizes(t->fd, sent, received, path_mtu);
}
