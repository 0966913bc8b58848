// SPDX-License-Identifier: Apache-2.0
// UDP ASSOCIATE of a reverse SOCKS forward: the caller's datagrams arrive at the other end of the session, which listens for
// them on a stream of ours and passes each sender's on as a flow; we read the SOCKS header and dial the destinations here.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "forward/socks_inside.h"
#include "forward/udp_out.h"

#define LINGER_MS 3000

struct assoc {
    struct list node;
    struct socks_server *s;
    struct link *caller; // lives as long as this
    struct stream *st;   // listens at the other end
    struct link *listener;
    struct socks asked;
    struct addr origin;
    struct wake wake;
    struct timer linger; // after a refusal
    bool replied, over;
    struct sender *sender; // the one flow that is heard
    struct grave grave;
};

struct sender { // datagrams of the caller, by way of the other end
    struct flow flow;
    struct assoc *a;
    struct list outs;
    unsigned out_count;
    struct grave grave;
};

struct out { // one destination
    struct list node;
    struct sender *sender;
    struct udp_out udp;
    struct socks_dest dest;
    struct grave grave;
};

static void bury(struct grave *g) { free(container_of(g, struct assoc, grave)); }
static void bury_sender(struct grave *g) { free(container_of(g, struct sender, grave)); }
static void bury_out(struct grave *g) { free(container_of(g, struct out, grave)); }

// Destinations -------------------------------------------------------------------------------------------------

static void drop_out(struct out *o)
{
    udp_out_stop(&o->udp);
    list_del(&o->node);
    o->sender->out_count--;
    worker_bury(o->sender->flow.fw->w, &o->grave, bury_out);
}

static void on_ready(struct udp_out *udp, const struct err *err)
{
    if (err)
        drop_out(container_of(udp, struct out, udp)); // asked again by the next datagram
}

static void on_reply(struct udp_out *udp, const uint8_t *data, size_t len)
{
    struct out *o = container_of(udp, struct out, udp);
    uint8_t out[SOCKS_UDP_HEAD_MAX + DGRAM_MAX];
    size_t head = socks_udp_head(out, &udp->to);
    if (len > DGRAM_MAX - head) {
        flow_drop(&o->sender->flow);
        return;
    }
    memcpy(out + head, data, len);
    flow_send(&o->sender->flow, out, head + len);
}

static struct out *find(struct sender *t, const struct socks_dest *dest)
{
    list_each(&t->outs, it) {
        struct out *o = list_entry(it, struct out, node);
        if (o->dest.port == dest->port && strcasecmp(o->dest.host, dest->host) == 0) {
            list_del(it); // the busiest stay in front
            list_push_front(&t->outs, it);
            return o;
        }
    }
    return NULL;
}

// The bound on destinations holds by forgetting the one that was silent longest. NULL: not allowed.
static struct out *start(struct sender *t, const struct socks_dest *dest)
{
    struct out *o = calloc(1, sizeof(*o));
    if (!o)
        abort();
    o->sender = t;
    o->dest = *dest;
    o->udp.allows = t->a->s->way.allows;
    o->udp.ctx = t->a->s->way.owner;
    o->udp.on_ready = on_ready;
    o->udp.on_reply = on_reply;
    if (!udp_out_start(&o->udp, t->flow.fw, dest->host, dest->port)) {
        free(o);
        return NULL;
    }
    if (t->out_count == SOCKS_ASSOC_FLOWS)
        drop_out(list_entry(t->outs.prev, struct out, node));
    list_push_front(&t->outs, &o->node);
    t->out_count++;
    return o;
}

// The caller's flow --------------------------------------------------------------------------------------------

static void drop_sender(struct sender *t)
{
    list_each(&t->outs, it) drop_out(list_entry(it, struct out, node));
    flow_stop(&t->flow);
    t->a->sender = NULL;
    worker_bury(t->flow.fw->w, &t->grave, bury_sender);
}

static void on_flow_end(struct flow *f, const struct err *err)
{
    (void)err;
    drop_sender(container_of(f, struct sender, flow));
}

static void deliver(struct flow *f, const uint8_t *data, size_t len)
{
    struct sender *t = container_of(f, struct sender, flow);
    struct socks_dest dest;
    size_t used;
    struct out *o = NULL;
    if (socks_udp_parse(data, len, &dest, &used) && dest.port != 0 && !(o = find(t, &dest)))
        o = start(t, &dest);
    if (!o || !udp_out_send(&o->udp, data + used, len - used))
        flow_drop(f);
}

// Only the address that has associated is heard, and only one port of it: the one announced, or the first to send.
static bool is_caller(const struct assoc *a, const struct addr *origin)
{
    return !a->sender && addr_equal_host(&a->origin, origin) &&
           (a->asked.dest.port == 0 || a->asked.dest.port == addr_port(origin));
}

static void take(struct assoc *a, struct stream *st, const struct addr *origin)
{
    struct sender *t = calloc(1, sizeof(*t));
    if (!t)
        abort();
    t->a = a;
    list_init(&t->outs);
    t->flow.kind = "socks";
    t->flow.origin = *origin;
    t->flow.deliver = deliver;
    t->flow.on_end = on_flow_end;
    if (!flow_start(&t->flow, a->s->fw, st, "SOCKS")) {
        free(t);
        return;
    }
    a->sender = t;
    t->flow.up = true;
    stream_accept(st, NULL);
}

bool socks_server_flow(struct socks_server *s, uint32_t listener, struct stream *st, const struct addr *origin)
{
    list_each(&s->far_assocs, it) {
        struct assoc *a = list_entry(it, struct assoc, node);
        if (stream_id(a->st) != listener)
            continue;
        if (is_caller(a, origin)) {
            take(a, st, origin);
        } else {
            stream_refuse(st, WHY_POLICY, "not the caller of this association");
            link_close(stream_link(st));
        }
        return true;
    }
    return false;
}

// Life ---------------------------------------------------------------------------------------------------------

static void end(struct assoc *a)
{
    if (a->over)
        return;
    a->over = true;
    if (a->sender)
        drop_sender(a->sender);
    wake_cancel(&a->wake);
    timer_stop(a->s->fw->w, &a->linger);
    link_close(a->caller);
    link_close(a->listener);
    list_del(&a->node);
    a->s->assoc_count--;
    worker_bury(a->s->fw->w, &a->grave, bury);
}

static void reply(struct assoc *a, enum socks_code code, const struct addr *bound)
{
    a->replied = true;
    socks_reply(&a->asked, code, bound);
    link_send(a->caller, buf_copy(&a->caller->w->pool, a->asked.out, a->asked.out_len));
    if (code == SOCKS_OK)
        return;
    link_shut(a->caller, SHUT_END);
    timer_set(a->s->fw->w, &a->linger, LINGER_MS);
}

static void on_linger(struct timer *timer) { end(container_of(timer, struct assoc, linger)); }

static bool is_over(struct link *l)
{
    struct buf *b;
    enum link_status st;
    while ((st = link_recv(l, &b)) == LINK_OK)
        buf_put(b);
    return st != LINK_AGAIN;
}

// Where the caller sends to. An unspecified host means the one that it reached, and is told in the caller's own family.
static void reply_bound(struct assoc *a)
{
    const struct addr *at = stream_bound(a->st);
    struct addr any;
    if (at && a->origin.sa.sa_family == AF_INET && at->sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&at->in6.sin6_addr)) {
        addr_parse_ip(&any, "0.0.0.0", addr_port(at));
        at = &any;
    }
    reply(a, SOCKS_OK, at);
}

static void on_wake(struct wake *wake)
{
    struct assoc *a = container_of(wake, struct assoc, wake);
    enum link_status st = link_open(a->listener);
    if (!a->replied && st == LINK_OK)
        reply_bound(a);
    else if (!a->replied && st == LINK_FAILED)
        reply(a, socks_code(a->listener->err.why), NULL);
    if (is_over(a->caller) || (st == LINK_OK && is_over(a->listener))) // refused: the caller's end is waited for
        end(a);
}

bool associate_far(struct socks_server *s, struct link *link, const struct socks *asked, const struct addr *origin,
                   const struct addr *local)
{
    bool has_port = local->len > 0 && local->sa.sa_family != AF_UNIX;
    struct stream *st = s->assoc_count < SOCKS_ASSOCS_MAX && has_port ? s->way.listen(s->way.owner, local) : NULL;
    if (!st)
        return false;
    struct assoc *a = calloc(1, sizeof(*a));
    if (!a)
        abort();
    a->s = s;
    a->caller = link;
    a->st = st;
    a->listener = stream_link(st);
    a->asked = *asked;
    a->origin = *origin;
    wake_init(&a->wake, on_wake);
    timer_init(&a->linger, on_linger);
    list_push(&s->far_assocs, &a->node);
    s->assoc_count++;
    link_own(link, &a->wake);
    link_own(a->listener, &a->wake);
    wake_post(s->fw->w, &a->wake);
    return true;
}

void associate_far_end_all(struct socks_server *s)
{
    list_each(&s->far_assocs, it) end(list_entry(it, struct assoc, node));
}
