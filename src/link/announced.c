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
    if (!of(l)->opened)
        return err_is(&l->err) ? LINK_FAILED : LINK_AGAIN;
    return link_pass_recv(l, &of(l)->rest, NULL, out);
}

static size_t announced_room(struct link *l) { return link_pass_room(l, NULL); }

static void announced_fini(struct link *l)
{
    bufq_clear(&of(l)->rest);
    free(of(l));
}

static const struct link_ops ops = {
    .name = "announced",
    .open = announced_open,
    .recv = announced_recv,
    .send = link_pass_send,
    .room = announced_room,
    .shut = link_pass_shut,
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
