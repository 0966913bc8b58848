// SPDX-License-Identifier: Apache-2.0
#include "forward/target.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "forward/conduit.h"
#include "forward/flow.h"

#define HELD_MAX 16           // datagrams that wait for the name to be resolved
#define HELD_BYTES_MAX 131072

// Streams ------------------------------------------------------------------------------------------------------

static void answer(struct conduit *c, const struct err *err, const struct addr *bound)
{
    struct stream *st = stream_of(c->ask.caller);
    if (err)
        stream_refuse(st, err->why ? err->why : WHY_INTERNAL, err_text(err));
    else
        stream_accept(st, bound && bound->sa.sa_family != AF_UNIX ? bound : NULL);
}

static void target_text(const struct target_ask *ask, char *out, size_t size)
{
    bool v6 = strchr(ask->host, ':') != NULL;
    if (strncmp(ask->host, "unix:", 5) == 0)
        snprintf(out, size, "%s", ask->host);
    else
        snprintf(out, size, v6 ? "[%s]:%u%s" : "%s:%u%s", ask->host, ask->port, ask->udp ? "/udp" : "");
}

// Flows --------------------------------------------------------------------------------------------------------

struct held {
    struct held *next;
    size_t len;
    uint8_t data[];
};

struct udp_target {
    struct flow flow;
    struct udp_sock sock;
    struct resolve resolve;
    forward_allows_fn *allows;
    void *ctx;
    char host[256];
    struct held *first, **last; // until the socket is there
    unsigned held_count;
    size_t held_bytes;
    bool ready;
    struct grave grave;
};

static void bury_udp(struct grave *g) { free(container_of(g, struct udp_target, grave)); }

static void drop_held(struct udp_target *t)
{
    while (t->first) {
        struct held *h = t->first;
        t->first = h->next;
        free(h);
    }
    t->last = &t->first;
}

static void udp_end(struct udp_target *t)
{
    resolve_cancel(&t->resolve);
    udp_sock_close(&t->sock);
    drop_held(t);
    flow_stop(&t->flow);
    worker_bury(t->flow.fw->w, &t->grave, bury_udp);
}

static void on_flow_end(struct flow *f, const struct err *err)
{
    (void)err;
    udp_end(container_of(f, struct udp_target, flow));
}

static void on_reply(struct udp_sock *u, const struct addr *from, const uint8_t *data, size_t len)
{
    (void)from;
    flow_send(&container_of(u, struct udp_target, sock)->flow, data, len);
}

static void hold(struct udp_target *t, const uint8_t *data, size_t len)
{
    struct held *h = NULL;
    if (t->held_count < HELD_MAX && len <= HELD_BYTES_MAX - t->held_bytes)
        h = malloc(sizeof(*h) + len);
    if (!h) {
        t->flow.dropped++;
        t->flow.fw->stats.dgrams_dropped++;
        return;
    }
    h->next = NULL;
    h->len = len;
    memcpy(h->data, data, len);
    *t->last = h;
    t->last = &h->next;
    t->held_count++;
    t->held_bytes += len;
}

static void deliver(struct flow *f, const uint8_t *data, size_t len)
{
    struct udp_target *t = container_of(f, struct udp_target, flow);
    if (t->ready)
        udp_sock_send(&t->sock, NULL, data, len);
    else
        hold(t, data, len);
}

static void refuse(struct udp_target *t, const struct err *err)
{
    stream_refuse(t->flow.st, err->why ? err->why : WHY_INTERNAL, err_text(err));
    t->flow.fw->stats.flows_failed++;
    udp_end(t);
}

// Connecting a UDP socket sends nothing: the first address that has a route is as good as it gets.
static int connect_first(struct udp_target *t, const struct addr *addrs, size_t count, struct err *e)
{
    size_t tried = 0;
    for (size_t i = 0; i < count; i++) {
        if (t->allows && !t->allows(t->ctx, t->host, &addrs[i], true))
            continue;
        tried++;
        if (udp_sock_connect(&t->sock, &t->flow.fw->udp, &addrs[i], on_reply, e) == 0) {
            stream_accept(t->flow.st, &addrs[i]);
            t->flow.up = true;
            return 0;
        }
    }
    return tried ? -1 : err_set(e, ERR_POLICY, WHY_POLICY, "no rule allows it");
}

static void on_resolved(struct resolve *q, const struct addr *addrs, size_t count, const struct err *err)
{
    struct udp_target *t = container_of(q, struct udp_target, resolve);
    struct err e = ERR_INIT;
    if (!stream_session(t->flow.st)) { // gone, and ctx perhaps with it
        udp_end(t);
        return;
    }
    if (count == 0) {
        refuse(t, err);
        return;
    }
    if (connect_first(t, addrs, count, &e) < 0) {
        refuse(t, &e);
    } else {
        t->ready = true;
        for (struct held *h = t->first; h; h = h->next)
            udp_sock_send(&t->sock, NULL, h->data, h->len);
        drop_held(t);
    }
    err_fini(&e);
}

static void open_udp(struct forward *fw, struct stream *st, const struct target_ask *ask, const char *text)
{
    struct udp_target *t = calloc(1, sizeof(*t));
    if (!t)
        abort();
    t->last = &t->first;
    t->allows = ask->allows;
    t->ctx = ask->ctx;
    memcpy(t->host, ask->host, strnlen(ask->host, sizeof(t->host) - 1));
    t->flow.kind = "target";
    t->flow.origin = ask->origin;
    t->flow.idle_ms = ask->idle_ms;
    t->flow.deliver = deliver;
    t->flow.on_end = on_flow_end;
    if (!flow_start(&t->flow, fw, st, text)) {
        free(t);
        return;
    }
    resolve_start(fw->resolver, &t->resolve, ask->host, ask->port, on_resolved);
}

void target_open(struct forward *fw, struct stream *st, const struct target_ask *ask)
{
    static const struct conduit_ops ops = {.answer = answer};
    char text[320];
    target_text(ask, text, sizeof(text));
    if (ask->udp) {
        open_udp(fw, st, ask, text);
        return;
    }
    conduit_to_target(fw, &(struct conduit_ask){.kind = "target", .caller = stream_link(st), .origin = ask->origin,
                                                .dest = text, .ops = &ops},
                      ask->host, ask->port, ask->allows, ask->ctx);
}
