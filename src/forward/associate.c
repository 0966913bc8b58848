// SPDX-License-Identifier: Apache-2.0
// UDP ASSOCIATE (RFC 1928 section 7): one UDP socket for one caller, one flow for each destination it names.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "core/log.h"
#include "forward/socks_inside.h"

struct assoc {
    struct list node;
    struct socks_server *s;
    struct link *link; // lives as long as this
    struct wake wake;
    struct udp_sock sock;
    struct addr caller; // port 0: the first datagram tells
    struct addr origin;
    struct list flows;
    unsigned flow_count;
    bool over;
    struct grave grave;
};

struct assoc_flow {
    struct flow flow;
    struct list node;
    struct assoc *a;
    struct socks_dest dest;
    struct grave grave;
};

static void bury(struct grave *g) { free(container_of(g, struct assoc, grave)); }
static void bury_flow(struct grave *g) { free(container_of(g, struct assoc_flow, grave)); }

static void drop_flow(struct assoc_flow *f)
{
    flow_stop(&f->flow);
    list_del(&f->node);
    f->a->flow_count--;
    worker_bury(f->a->s->fw->w, &f->grave, bury_flow);
}

static void end(struct assoc *a)
{
    if (a->over)
        return;
    a->over = true;
    list_each(&a->flows, it) drop_flow(list_entry(it, struct assoc_flow, node));
    udp_sock_close(&a->sock);
    wake_cancel(&a->wake);
    link_close(a->link);
    list_del(&a->node);
    a->s->assoc_count--;
    worker_bury(a->s->fw->w, &a->grave, bury);
}

static void on_wake(struct wake *wake)
{
    struct assoc *a = container_of(wake, struct assoc, wake);
    struct buf *b;
    enum link_status st;
    while ((st = link_recv(a->link, &b)) == LINK_OK)
        buf_put(b);
    if (st != LINK_AGAIN)
        end(a);
}

// Flows --------------------------------------------------------------------------------------------------------

static void on_flow_end(struct flow *f, const struct err *err)
{
    (void)err;
    drop_flow(container_of(f, struct assoc_flow, flow));
}

// The address in front of a reply is the one the far end reached; before it has said so, or where it does not say, what the
// caller wrote, if that is an address.
static void deliver(struct flow *f, const uint8_t *data, size_t len)
{
    struct assoc_flow *af = container_of(f, struct assoc_flow, flow);
    struct addr from;
    uint8_t out[SOCKS_UDP_HEAD_MAX + DGRAM_MAX];
    const struct addr *bound = stream_bound(f->st);
    if (bound)
        from = *bound;
    else if (!addr_parse_ip(&from, af->dest.host, af->dest.port))
        addr_parse_ip(&from, "0.0.0.0", af->dest.port);
    size_t head = socks_udp_head(out, &from);
    memcpy(out + head, data, len);
    udp_sock_send(&af->a->sock, &af->a->caller, out, head + len);
}

static struct assoc_flow *find(struct assoc *a, const struct socks_dest *dest)
{
    list_each(&a->flows, it) {
        struct assoc_flow *f = list_entry(it, struct assoc_flow, node);
        if (f->dest.port == dest->port && strcasecmp(f->dest.host, dest->host) == 0) {
            list_del(it); // the busiest stay in front
            list_push_front(&a->flows, it);
            return f;
        }
    }
    return NULL;
}

static struct assoc_flow *start(struct assoc *a, const struct socks_dest *dest)
{
    char text[320];
    struct stream *st = NULL;
    if (a->flow_count < SOCKS_ASSOC_FLOWS)
        st = a->s->way.flow(a->s->way.owner, dest, &a->origin);
    if (!st)
        return NULL;
    struct assoc_flow *f = calloc(1, sizeof(*f));
    if (!f)
        abort();
    f->a = a;
    f->dest = *dest;
    f->flow.kind = "socks";
    f->flow.origin = a->origin;
    f->flow.deliver = deliver;
    f->flow.on_end = on_flow_end;
    snprintf(text, sizeof(text), strchr(dest->host, ':') ? "[%s]:%u/udp" : "%s:%u/udp", dest->host, dest->port);
    if (!flow_start(&f->flow, a->s->fw, st, text)) {
        free(f);
        return NULL;
    }
    list_push_front(&a->flows, &f->node);
    a->flow_count++;
    return f;
}

// Only the address that has associated is heard; its port is the one it announced, or that of its first datagram.
static bool is_caller(struct assoc *a, const struct addr *from)
{
    struct addr plain = *from;
    addr_unmap(&plain);
    struct addr want = a->caller;
    addr_unmap(&want);
    if (!addr_equal_host(&plain, &want) || (addr_port(&want) && addr_port(&want) != addr_port(&plain)))
        return false;
    a->caller = *from;
    return true;
}

static void on_dgram(struct udp_sock *u, const struct addr *from, const uint8_t *data, size_t len)
{
    struct assoc *a = container_of(u, struct assoc, sock);
    struct socks_dest dest;
    size_t used;
    if (!is_caller(a, from) || !socks_udp_parse(data, len, &dest, &used) || dest.port == 0) {
        a->s->fw->stats.dgrams_dropped++;
        return;
    }
    struct assoc_flow *f = find(a, &dest);
    if (!f)
        f = start(a, &dest);
    if (f)
        flow_send(&f->flow, data + used, len - used); // which counts its own
    else
        a->s->fw->stats.dgrams_dropped++;
}

// Life ---------------------------------------------------------------------------------------------------------

bool associate(struct socks_server *s, struct link *link, struct socks *asked, const struct addr *origin,
               const struct addr *local)
{
    struct err e = ERR_INIT;
    struct addr at = *local;
    if (s->assoc_count >= SOCKS_ASSOCS_MAX || local->len == 0 || local->sa.sa_family == AF_UNIX)
        return false;
    struct assoc *a = calloc(1, sizeof(*a));
    if (!a)
        abort();
    addr_set_port(&at, 0);
    if (udp_sock_bind(&a->sock, &s->fw->udp, &at, false, on_dgram, &e) < 0) {
        log_event(LOG_WARN, "no UDP socket for a SOCKS caller", LS("reason", err_text(&e)));
        err_fini(&e);
        free(a);
        return false;
    }
    a->s = s;
    a->link = link;
    a->origin = *origin;
    a->caller = *origin;
    addr_set_port(&a->caller, asked->dest.port);
    list_init(&a->flows);
    wake_init(&a->wake, on_wake);
    list_push(&s->assocs, &a->node);
    s->assoc_count++;
    link_own(link, &a->wake);
    socks_reply(asked, SOCKS_OK, &a->sock.local);
    link_send(link, buf_copy(&link->w->pool, asked->out, asked->out_len));
    asked->out_len = 0;
    wake_post(s->fw->w, &a->wake);
    return true;
}

void associate_end_all(struct socks_server *s)
{
    list_each(&s->assocs, it) end(list_entry(it, struct assoc, node));
}
