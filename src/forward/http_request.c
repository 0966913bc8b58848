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

static enum link_status request_recv(struct link *l, struct buf **out)
{
    struct request *r = of(l);
    for (;;) {
        enum link_status s = link_pass_recv(l, &r->rest, NULL, out);
        if (s != LINK_OK || !r->bounded)
            return s;
        size_t n = http_skip_feed(&r->body, (char *)buf_data(*out), (*out)->len);
        (*out)->len = (uint32_t)n;
        if (n > 0)
            return LINK_OK;
        buf_put(*out);
    }
}

static size_t request_room(struct link *l) { return link_pass_room(l, NULL); }

static void request_fini(struct link *l)
{
    bufq_clear(&of(l)->rest);
    free(of(l));
}

static const struct link_ops request_ops = {
    .name = "request",
    .open = open_below,
    .recv = request_recv,
    .send = link_pass_send,
    .room = request_room,
    .shut = link_pass_shut,
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
