// SPDX-License-Identifier: Apache-2.0
// UDP callers of an entry: one flow for each source address, found by hash. The table has a fixed size and a seed of its own,
// because sources are chosen by strangers; a caller beyond the bound is dropped and counted until others have idled out.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "core/log.h"
#include "forward/inside.h"

#define PORT_TRIES 16

struct entry_flow {
    struct flow flow;
    struct entry *en;
    struct udp_sock *sock;
    struct addr from; // as received: perhaps a mapped form
    struct udp_via via;
    struct entry_flow *next;
    struct grave grave;
};

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 29);
}

static struct entry_flow **bucket(struct entry *en, const struct addr *a)
{
    uint64_t h = mix(en->hash_seed, addr_port(a)), part[2] = {0};
    if (a->sa.sa_family == AF_INET6)
        memcpy(part, &a->in6.sin6_addr, 16);
    else
        memcpy(part, &a->in.sin_addr, 4);
    h = mix(mix(h, part[0]), part[1]);
    return &en->buckets[(h >> 32) % ENTRY_BUCKETS];
}

static struct entry_flow *find(struct entry *en, struct udp_sock *u, const struct addr *from)
{
    struct entry_flow *ef = *bucket(en, from);
    while (ef && (ef->sock != u || !addr_equal(&ef->from, from)))
        ef = ef->next;
    return ef;
}

static void bury(struct grave *g) { free(container_of(g, struct entry_flow, grave)); }

static void drop(struct entry_flow *ef)
{
    struct entry_flow **at = bucket(ef->en, &ef->from);
    while (*at != ef)
        at = &(*at)->next;
    *at = ef->next;
    ef->en->flow_count--;
    flow_stop(&ef->flow);
    worker_bury(ef->flow.fw->w, &ef->grave, bury);
}

static void on_end(struct flow *f, const struct err *err)
{
    (void)err;
    drop(container_of(f, struct entry_flow, flow));
}

static void deliver(struct flow *f, const uint8_t *data, size_t len)
{
    struct entry_flow *ef = container_of(f, struct entry_flow, flow);
    udp_sock_send_via(ef->sock, &ef->from, &ef->via, data, len);
}

// Asked before a stream is opened: a stranger's packets beyond the bounds must not cost the peer a frame each.
static bool has_room(const struct entry *en, const struct session *s)
{
    return en->fw->flow_count < FORWARD_FLOWS_MAX && en->flow_count < en->flows_max &&
           s->stream_count - s->peer_stream_count < ENTRY_FLOWS_MAX;
}

static bool may_go(struct entry *en, struct frame_open *open, struct seal_peer *peer)
{
    struct err e = ERR_INIT;
    char from[ADDR_TEXT_MAX];
    bool may = seal_choose(en->fw->seal, open, peer, &e) != SEAL_REFUSED;
    if (!may)
        log_event(LOG_INFO, "flow refused", LS("kind", en->o.kind), LS("from", addr_text(&open->origin, from)),
                  LS("to", en->dest), LS("reason", err_text(&e)));
    err_fini(&e);
    return may;
}

static struct stream *open_stream(struct entry *en, struct frame_open *open, struct seal_peer *peer)
{
    struct session *s = en->o.on_caller(en->o.owner, open);
    if (!s)
        return NULL;
    if (has_room(en, s))
        return may_go(en, open, peer) ? session_open(s, open) : NULL;
    en->fw->stats.flows_limited++;
    return NULL;
}

static struct entry_flow *start(struct entry *en, struct udp_sock *u, const struct addr *from)
{
    struct frame_open open = {.origin = *from, .datagram = true};
    addr_unmap(&open.origin);
    struct seal_peer peer;
    struct stream *st = open_stream(en, &open, &peer);
    if (!st)
        return NULL;
    struct entry_flow *ef = calloc(1, sizeof(*ef));
    if (!ef)
        abort();
    ef->en = en;
    ef->sock = u;
    ef->from = *from;
    ef->via = u->via;
    ef->flow.kind = en->o.kind;
    ef->flow.origin = open.origin;
    ef->flow.idle_ms = en->o.idle_ms;
    ef->flow.deliver = deliver;
    if (open.sealed)
        ef->flow.seal = flow_seal_new(en->fw, seal_over(en->fw->seal, st, open.host, &peer), true);
    ef->flow.on_end = on_end;
    if (!flow_start(&ef->flow, en->fw, st, en->dest)) {
        free(ef);
        return NULL;
    }
    struct entry_flow **at = bucket(en, from);
    ef->next = *at;
    *at = ef;
    en->flow_count++;
    en->callers++;
    return ef;
}

static struct entry *entry_of(struct udp_sock *u);

static void on_dgram(struct udp_sock *u, const struct addr *from, const uint8_t *data, size_t len)
{
    struct entry *en = entry_of(u);
    struct entry_flow *ef = find(en, u, from);
    if (!ef)
        ef = start(en, u, from);
    if (ef && flow_send(&ef->flow, data, len))
        return;
    en->dropped++;
    en->fw->stats.dgrams_dropped += !ef; // a flow counts its own
}

// A socket and whose it is: sockets are an array of these.
struct entry_sock {
    struct udp_sock sock;
    struct entry *en;
};

static struct entry *entry_of(struct udp_sock *u) { return container_of(u, struct entry_sock, sock)->en; }

static void close_socks(struct entry *en)
{
    for (size_t i = 0; i < en->sock_count; i++)
        udp_sock_close(&en->socks[i].sock);
    en->sock_count = 0;
}

static int open_socks(struct entry *en, struct err *e)
{
    for (size_t i = 0; i < en->o.count; i++) {
        struct entry_sock *es = &en->socks[en->sock_count];
        struct addr at = en->o.at[i];
        if (en->sock_count > 0 && addr_port(&at) == 0)
            addr_set_port(&at, addr_port(&en->socks[0].sock.local));
        es->en = en;
        if (udp_sock_bind(&es->sock, &en->fw->udp, &at, en->o.dual, on_dgram, e) == 0) {
            en->sock_count++;
        } else if (!listen_may_skip(en->o.at, en->o.count, i, errno)) {
            close_socks(en);
            return -1;
        }
    }
    return 0;
}

int entry_udp_open(struct entry *en, struct err *e)
{
    en->socks = calloc(en->o.count, sizeof(*en->socks));
    en->buckets = calloc(ENTRY_BUCKETS, sizeof(*en->buckets));
    if (!en->socks || !en->buckets)
        abort();
    worker_random(en->fw->w, &en->hash_seed, sizeof(en->hash_seed));
    int tries = en->o.count > 1 && addr_port(&en->o.at[0]) == 0 ? PORT_TRIES : 1;
    while (open_socks(en, e) < 0) {
        if (--tries == 0)
            return -1;
    }
    err_fini(e);
    return 0;
}

void entry_udp_close(struct entry *en)
{
    if (!en->buckets)
        return;
    for (size_t i = 0; i < ENTRY_BUCKETS; i++) {
        while (en->buckets[i])
            drop(en->buckets[i]);
    }
    close_socks(en);
}

const struct addr *entry_udp_addr(const struct entry *en, size_t i)
{
    return i < en->sock_count ? &en->socks[i].sock.local : NULL;
}

uint64_t entry_udp_unsent(const struct entry *en)
{
    uint64_t n = 0;
    for (size_t i = 0; i < en->sock_count; i++)
        n += en->socks[i].sock.stats.unsent;
    return n;
}
