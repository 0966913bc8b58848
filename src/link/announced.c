// SPDX-License-Identifier: Apache-2.0
#include "link/announced.h"
#include <stdlib.h>
#include <string.h>
#include "wire/proxyproto.h"

struct announced {
    struct link link;
    bool opened;
    size_t have;
    uint8_t head[PROXYPROTO_MAX];
    struct bufq rest; // behind the header
};

static struct announced *of(struct link *l) { return container_of(l, struct announced, link); }

// Takes bytes into head; what does not fit waits in rest.
static void collect(struct announced *a, struct buf *b)
{
    size_t room = sizeof(a->head) - a->have, n = b->len < room ? b->len : room;
    memcpy(a->head + a->have, buf_data(b), n);
    a->have += n;
    buf_skip(b, n);
    if (b->len)
        bufq_push(&a->rest, b);
    else
        buf_put(b);
}

static enum link_status finish(struct announced *a, const struct proxyproto *p, size_t used)
{
    struct link *l = &a->link;
    if (used < a->have)
        bufq_push_front(&a->rest, buf_copy(&l->w->pool, a->head + used, a->have - used));
    if (p->from.len && l->facts)
        l->facts->peer = p->from;
    if (p->to.len && l->facts)
        l->facts->local = p->to;
    a->opened = true;
    return LINK_OK;
}

static enum link_status announced_open(struct link *l)
{
    struct announced *a = of(l);
    struct proxyproto p;
    const char *why;
    size_t used;
    if (err_is(&l->err))
        return LINK_FAILED;
    if (a->opened)
        return LINK_OK;
    enum link_status s = link_open(l->below);
    while (s == LINK_OK) {
        struct buf *b;
        if ((s = link_recv(l->below, &b)) != LINK_OK)
            break;
        collect(a, b);
        switch (proxyproto_parse(&p, a->head, a->have, &used, &why)) {
        case HTTP_OK:
            return finish(a, &p, used);
        case HTTP_BAD:
            return link_fail(l, ERR_FAILED, WHY_PROTOCOL, "PROXY protocol: %s", why);
        default:
            break;
        }
    }
    if (s == LINK_AGAIN)
        return s;
    if (s == LINK_END)
        return link_fail(l, ERR_FAILED, WHY_ABORTED, "PROXY protocol: the front closed the connection before its header");
    return link_failed_below(l, "PROXY protocol");
}

static enum link_status announced_recv(struct link *l, struct buf **out)
{
    struct announced *a = of(l);
    if (err_is(&l->err))
        return LINK_FAILED;
    if (!a->opened)
        return LINK_AGAIN;
    if ((*out = bufq_pop(&a->rest)))
        return LINK_OK;
    l->below->appetite = l->appetite;
    enum link_status s = link_recv(l->below, out);
    return s == LINK_FAILED ? link_failed_below(l, NULL) : s;
}

static void announced_send(struct link *l, struct buf *b) { link_send(l->below, b); }

static size_t announced_room(struct link *l)
{
    if (err_is(&l->err))
        return BUF_SIZE;
    size_t room = link_room(l->below);
    if (err_is(&l->below->err))
        link_failed_below(l, NULL);
    return room;
}

static void announced_shut(struct link *l, enum link_shut how)
{
    if (how == SHUT_ABORT && !err_is(&l->err))
        link_fail(l, ERR_FAILED, WHY_ABORTED, "aborted");
    link_shut(l->below, how);
}

static void announced_fini(struct link *l)
{
    bufq_clear(&of(l)->rest);
    free(of(l));
}

static const struct link_ops ops = {
    .name = "announced",
    .open = announced_open,
    .recv = announced_recv,
    .send = announced_send,
    .room = announced_room,
    .shut = announced_shut,
    .fini = announced_fini,
};

struct link *announced_over(struct link *below)
{
    struct announced *a = calloc(1, sizeof(*a));
    if (!a)
        abort();
    link_init(&a->link, &ops, NULL, below);
    return &a->link;
}
