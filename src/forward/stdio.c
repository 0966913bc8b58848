// SPDX-License-Identifier: Apache-2.0
#include "forward/stdio.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define QUEUE_MAX (256 * 1024)
#define WRITE_BUFS 16

struct stdio {
    struct link link;
    int in, out;
    int in_flags, out_flags; // to put back; -1: leave
    struct watch *in_watch, *out_watch; // NULL: a file, always ready
    struct bufq queue;
    struct wake flush;
    bool readable, blocked, end_read;
    bool end_wanted, end_sent, room_owed;
};

static struct stdio *of(struct link *l) { return container_of(l, struct stdio, link); }

static void fail(struct stdio *s, int errnum, const char *doing)
{
    if (!err_is(&s->link.err))
        err_errno(&s->link.err, errnum, "%s", doing);
    bufq_clear(&s->queue);
    link_wake(&s->link);
}

static void on_in(void *ctx, int events)
{
    struct stdio *s = ctx;
    (void)events;
    s->readable = true;
    watch_want(s->in_watch, 0);
    link_wake(&s->link);
}

static void on_out(void *ctx, int events)
{
    struct stdio *s = ctx;
    (void)events;
    s->blocked = false;
    watch_want(s->out_watch, 0);
    wake_post_late(s->link.w, &s->flush);
}

static void close_out(struct stdio *s)
{
    if (s->out < 0)
        return;
    watch_free(s->out_watch);
    s->out_watch = NULL;
    shutdown(s->out, SHUT_WR); // a socket may have stdin as its other name
    if (s->out_flags >= 0)
        fcntl(s->out, F_SETFL, s->out_flags);
    close(s->out);
    s->out = -1;
}

static void write_some(struct stdio *s)
{
    struct iovec iov[WRITE_BUFS];
    int count = 0;
    for (struct buf *b = s->queue.head; b && count < WRITE_BUFS; b = b->next)
        iov[count++] = (struct iovec){.iov_base = buf_data(b), .iov_len = b->len};
    ssize_t n = writev(s->out, iov, count);
    if (n > 0) {
        bufq_drop(&s->queue, (size_t)n);
    } else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) && s->out_watch) {
        s->blocked = true;
        watch_want(s->out_watch, UV_WRITABLE);
    } else if (n < 0 && errno != EINTR) {
        fail(s, errno, "write to stdout");
    }
}

static void on_flush(struct wake *wake)
{
    struct stdio *s = container_of(wake, struct stdio, flush);
    while (!s->blocked && !bufq_empty(&s->queue))
        write_some(s);
    if (s->end_wanted && !s->end_sent && bufq_empty(&s->queue)) {
        s->end_sent = true;
        close_out(s);
    }
    bool enough = s->end_wanted ? s->end_sent : s->queue.bytes <= QUEUE_MAX / 2;
    if (s->room_owed && enough) {
        s->room_owed = false;
        link_wake(&s->link);
    }
}

static enum link_status stdio_open(struct link *l) { return err_is(&l->err) ? LINK_FAILED : LINK_OK; }

static enum link_status again(struct stdio *s)
{
    if (s->in_watch) {
        s->readable = false;
        watch_want(s->in_watch, UV_READABLE);
    } else {
        link_wake(&s->link);
    }
    return LINK_AGAIN;
}

static enum link_status stdio_recv(struct link *l, struct buf **out)
{
    struct stdio *s = of(l);
    if (err_is(&l->err))
        return LINK_FAILED;
    if (s->end_read || s->in < 0)
        return LINK_END;
    if (!s->readable)
        return again(s);
    struct buf *b = buf_get(&l->w->pool);
    ssize_t n = read(s->in, buf_data(b), buf_tailroom(b));
    if (n > 0) {
        b->len = (uint32_t)n;
        *out = b;
        return LINK_OK;
    }
    int errnum = errno;
    buf_put(b);
    if (n < 0 && (errnum == EAGAIN || errnum == EWOULDBLOCK || errnum == EINTR))
        return again(s);
    if (n < 0 && errnum != EIO) { // EIO: the terminal is gone
        fail(s, errnum, "read from stdin");
        return LINK_FAILED;
    }
    s->end_read = true;
    return LINK_END;
}

static void stdio_send(struct link *l, struct buf *b)
{
    struct stdio *s = of(l);
    if (err_is(&l->err) || s->end_wanted || s->out < 0) {
        buf_put(b);
        return;
    }
    bufq_push(&s->queue, b);
    wake_post_late(l->w, &s->flush);
}

static size_t stdio_room(struct link *l)
{
    struct stdio *s = of(l);
    if (err_is(&l->err) || s->end_sent)
        return QUEUE_MAX;
    size_t room = s->queue.bytes < QUEUE_MAX ? QUEUE_MAX - s->queue.bytes : 0;
    if (s->end_wanted)
        room = 0;
    s->room_owed = room == 0;
    return room;
}

static void stdio_shut(struct link *l, enum link_shut how)
{
    struct stdio *s = of(l);
    if (how == SHUT_ABORT) {
        link_fail(l, ERR_FAILED, WHY_ABORTED, "aborted");
        bufq_clear(&s->queue);
        return;
    }
    s->end_wanted = true;
    wake_post_late(l->w, &s->flush);
}

static void stdio_fini(struct link *l)
{
    struct stdio *s = of(l);
    wake_cancel(&s->flush);
    watch_free(s->in_watch);
    close_out(s);
    if (s->in >= 0) {
        if (s->in_flags >= 0)
            fcntl(s->in, F_SETFL, s->in_flags);
        close(s->in);
    }
    bufq_clear(&s->queue);
    free(s);
}

static const struct link_ops stdio_ops = {
    .name = "stdio",
    .open = stdio_open,
    .recv = stdio_recv,
    .send = stdio_send,
    .room = stdio_room,
    .shut = stdio_shut,
    .fini = stdio_fini,
};

// What cannot be watched (a file, /dev/null) never blocks either.
static struct watch *watch_end(struct stdio *s, int fd, void (*on)(void *ctx, int events), int *flags)
{
    *flags = -1;
    struct watch *watch = fd >= 0 ? watch_new(s->link.w, fd, on, s) : NULL;
    if (!watch)
        return NULL;
    *flags = fcntl(fd, F_GETFL);
    if (*flags >= 0)
        fcntl(fd, F_SETFL, *flags | O_NONBLOCK);
    return watch;
}

struct link *stdio_link(struct worker *w, int in, int out)
{
    struct stdio *s = calloc(1, sizeof(*s));
    if (!s)
        abort();
    link_init(&s->link, &stdio_ops, w, NULL);
    s->in = in;
    s->out = out;
    wake_init(&s->flush, on_flush);
    s->in_watch = watch_end(s, in, on_in, &s->in_flags);
    s->out_watch = watch_end(s, out, on_out, &s->out_flags);
    if (in >= 0 && out >= 0 && s->in_flags >= 0 && s->out_flags >= 0)
        s->out_flags &= ~O_NONBLOCK | (s->in_flags & O_NONBLOCK); // both may be one open file: then the first knows best
    s->readable = !s->in_watch;
    return &s->link;
}
