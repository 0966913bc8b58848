// SPDX-License-Identifier: Apache-2.0
#include "forward/http_request.h"
#include <stdlib.h>
#include "wire/skip.h"

struct request {
    struct link link;
    struct bufq rest;
    bool bounded;
    struct http_skip body;
};

static struct request *of(struct link *l) { return container_of(l, struct request, link); }

static enum link_status open_below(struct link *l)
{
    enum link_status s = link_open(l->below);
    return s == LINK_FAILED ? link_failed_below(l, NULL) : s;
}

static enum link_status pull(struct request *r, struct buf **out)
{
    if ((*out = bufq_pop(&r->rest)))
        return LINK_OK;
    enum link_status s = link_recv(r->link.below, out);
    return s == LINK_FAILED ? link_failed_below(&r->link, NULL) : s;
}

static enum link_status request_recv(struct link *l, struct buf **out)
{
    struct request *r = of(l);
    for (;;) {
        enum link_status s = pull(r, out);
        if (s != LINK_OK || !r->bounded)
            return s;
        size_t n = http_skip_feed(&r->body, (char *)buf_data(*out), (*out)->len);
        (*out)->len = (uint32_t)n;
        if (n > 0)
            return LINK_OK;
        buf_put(*out);
    }
}

static void request_send(struct link *l, struct buf *b) { link_send(l->below, b); }

static size_t request_room(struct link *l)
{
    size_t room = link_room(l->below);
    if (room && err_is(&l->below->err))
        link_failed_below(l, NULL);
    return room;
}

static void request_shut(struct link *l, enum link_shut how)
{
    if (how == SHUT_ABORT)
        link_fail(l, ERR_FAILED, WHY_ABORTED, "aborted");
    link_shut(l->below, how);
}

static void request_fini(struct link *l)
{
    bufq_clear(&of(l)->rest);
    free(of(l));
}

static const struct link_ops request_ops = {
    .name = "request",
    .open = open_below,
    .recv = request_recv,
    .send = request_send,
    .room = request_room,
    .shut = request_shut,
    .fini = request_fini,
};

struct link *http_request_over(struct link *below, struct bufq *rest, const struct http_head *h)
{
    struct request *r = calloc(1, sizeof(*r));
    if (!r)
        abort();
    link_init(&r->link, &request_ops, NULL, below);
    r->rest = *rest;
    bufq_init(rest);
    r->bounded = h != NULL;
    if (h && !http_skip_start(&r->body, h))
        r->body.state = SKIP_OVER; // a request without a length has no body
    return &r->link;
}
