// SPDX-License-Identifier: Apache-2.0
// The front.
#include "relay/front.h"
#include <stdlib.h>
#include <string.h>
#include "core/log.h"
#include "link/announced.h"
#include "link/h2.h"
#include "link/tls.h"

static void bury(struct grave *g)
{
    struct front_caller *k = container_of(g, struct front_caller, grave);
    free(k->head);
    free(k);
}

static void uncount(struct front_caller *k)
{
    struct front *f = k->f;
    if (!k->excused && f->count-- == FRONT_CALLERS_MAX)
        f->on_full(f, false);
    k->excused = true;
}

void front_count_again(struct front_caller *k)
{
    struct front *f = k->f;
    if (k->excused && ++f->count == FRONT_CALLERS_MAX)
        f->on_full(f, true);
    k->excused = false;
}

void front_excuse(struct front_caller *k)
{
    uncount(k);
    if (k->parent)
        uncount(k->parent);
}

static void forget(struct front_caller *k)
{
    struct front *f = k->f;
    const struct front_owner *owner = k->owner;
    k->owner = NULL;
    if (owner && owner->on_gone)
        owner->on_gone(k);
    timer_stop(f->w, &k->deadline);
    wake_cancel(&k->wake);
    bufq_clear(&k->rest);
    list_del(&k->node);
    worker_bury(f->w, &k->grave, bury);
    uncount(k);
}

void front_end(struct front_caller *k)
{
    link_close(k->top);
    if (k->conn)
        conn_free(k->conn);
    front_h2_end(k);
    k->top = NULL;
    k->conn = NULL;
    forget(k);
}

void front_end_saying(struct front_caller *k, const char *what, const struct err *e)
{
    char peer[ADDR_TEXT_MAX];
    log_event(LOG_DEBUG, "caller gone", LS("peer", addr_text(&k->peer, peer)), LS("while", what),
              LS("reason", err_text(e)));
    front_end(k);
}

struct conn *front_take(struct front_caller *k)
{
    struct conn *c = k->conn;
    k->conn = NULL;
    if (k->on_known)
        k->on_known(k->adopter);
    front_excuse(k);
    forget(k);
    return c;
}

// Becoming a carrier --------------------------------------------------------------------------------------------

static void on_hello(struct conn *c, const struct frame_hello *hello)
{
    struct front_caller *k = c->owner;
    timer_set(k->f->w, &k->deadline, FRONT_STORE_MS);
    k->f->on_hello(k, hello);
}

static void on_down(struct conn *c, const struct err *err, const struct frame_welcome *refusal)
{
    front_end_saying(c->owner, "handshake", err);
}

static const struct conn_ops front_conn_ops = {.on_hello = on_hello, .on_down = on_down};

void front_carrier(struct front_caller *k, struct link *ws)
{
    struct front *f = k->f;
    struct tls_options inner = {.ctx = f->inner, .server = true, .who = "agent", .pad = true};
    char peer[ADDR_TEXT_MAX];
    f->stats.upgraded++;
    log_event(LOG_DEBUG, "carrier asked for", LS("peer", addr_text(&k->peer, peer)),
              LS("by", ws->facts && ws->facts->alpn[0] ? ws->facts->alpn : "http/1.1"));
    k->top = NULL;
    k->stage = FRONT_CARRIER;
    timer_stop(f->w, &k->deadline); // conn has its own
    k->conn = conn_relay(f->w, tls_over(ws, &inner, NULL), f->peel, &front_conn_ops, k);
}

// The connection's life ------------------------------------------------------------------------------------------

// Who is at the other end is known now, from the socket or from the PROXY header.
static void know(struct front_caller *k)
{
    const struct front *f = k->f;
    const struct link_facts *facts = k->top->facts;
    if (k->announced && facts && facts->peer.len)
        k->near = k->peer = facts->peer;
    k->trusted = front_trusts(f, &k->near);
    k->single = !front_speaks_for_many(f, k->kind, &k->near);
}

static void note_unannounced(struct front_caller *k)
{
    struct front *f = k->f;
    char peer[ADDR_TEXT_MAX];
    if (f->stats.unannounced++ && f->w->now_ms - f->unannounced_ms < FRONT_WARN_MS)
        return;
    f->unannounced_ms = f->w->now_ms;
    log_event(LOG_WARN, "a front sent no PROXY header; let it send one, or take --proxy-protocol away",
              LS("front", addr_text(&k->near, peer)), LS("reason", err_text(&k->announced->err)));
}

static void on_open(struct front_caller *k)
{
    enum link_status rc = link_open(k->top);
    if (rc == LINK_FAILED) {
        if (k->announced && k->announced->err.why == WHY_PROTOCOL)
            note_unannounced(k);
        else
            k->f->stats.tls_failed++;
        front_end_saying(k, "TLS", &k->top->err);
    }
    if (rc != LINK_OK)
        return;
    know(k);
    if (front_is_crowded(k)) {
        k->f->stats.turned_away++;
        front_end(k);
    } else if (k->top->facts && !strcmp(k->top->facts->alpn, "h2")) {
        front_h2(k);
    } else {
        front_head_start(k);
    }
}

static void on_wake(struct wake *wake)
{
    struct front_caller *k = container_of(wake, struct front_caller, wake);
    if (k->stage == FRONT_TLS)
        on_open(k);
    else if (k->stage == FRONT_HEAD)
        front_head_read(k);
    else if (k->stage == FRONT_OWNED && k->owner->on_wake)
        k->owner->on_wake(k);
    else if (k->stage == FRONT_ANSWERED)
        front_drop_rest(k);
}

static void on_deadline(struct timer *t)
{
    struct front_caller *k = container_of(t, struct front_caller, deadline);
    static const char *const stages[] = {"TLS", "request", "request", "answer", "enrolment"};
    char peer[ADDR_TEXT_MAX];
    if (k->stage == FRONT_OWNED && k->owner->on_late) {
        k->owner->on_late(k);
        return;
    }
    if (k->stage == FRONT_HUB) {
        if (!k->excused)
            h2_drain(k->hub);
        return;
    }
    if (k->stage == FRONT_HEAD && k->served && k->have == 0) {
        front_end(k);
        return;
    }
    k->f->stats.late += k->stage != FRONT_ANSWERED;
    log_event(LOG_DEBUG, "caller too slow", LS("peer", addr_text(&k->peer, peer)), LS("while", stages[k->stage]));
    front_end(k);
}

// Coming in -----------------------------------------------------------------------------------------------------

// Who waits for a stranger's next request need not: from FRONT_CALLERS_MANY on the one that came first goes for each that comes.
static void make_place(struct front *f)
{
    if (f->count < FRONT_CALLERS_MANY)
        return;
    list_each(&f->callers, it)
    {
        struct front_caller *k = list_entry(it, struct front_caller, node);
        if (k->stage == FRONT_HEAD && k->served && !k->excused && k->have == 0 && bufq_empty(&k->rest)) {
            front_end(k);
            return;
        }
    }
}

// max: of that address; 0: any number, since it is no one caller's. parent: of a stream.
static struct front_caller *caller_new(struct front *f, const struct addr *peer, enum front_kind kind, unsigned max,
                                       struct front_caller *parent)
{
    struct front_caller *k;
    f->stats.accepted++;
    bool crowded = max && front_count_of(f, peer, parent) >= max;
    if (!crowded)
        make_place(f);
    if (crowded || f->count >= FRONT_CALLERS_MAX || !(k = calloc(1, sizeof *k))) {
        f->stats.turned_away++;
        return NULL;
    }
    k->f = f;
    k->kind = kind;
    k->parent = parent;
    k->single = max > 0;
    k->https = kind == FRONT_WEB;
    k->peer = k->near = *peer;
    k->born_ms = f->w->now_ms;
    wake_init(&k->wake, on_wake);
    timer_init(&k->deadline, on_deadline);
    list_push(&f->callers, &k->node);
    if (++f->count == FRONT_CALLERS_MAX)
        f->on_full(f, true);
    return k;
}

void front_accept(struct front *f, struct link *link, const struct addr *peer, enum front_kind kind)
{
    unsigned max = front_speaks_for_many(f, kind, peer) ? 0 : FRONT_ADDRESS_MAX;
    struct front_caller *k = kind != FRONT_WEB || f->web ? caller_new(f, peer, kind, max, NULL) : NULL;
    if (!k) {
        link_close(link);
        return;
    }
    struct tls_options outer = {.ctx = f->web, .server = true, .outer = true, .who = "caller"};
    if (f->announced && front_trusts(f, peer))
        k->announced = link = announced_over(link);
    k->stage = FRONT_TLS;
    k->top = kind == FRONT_WEB ? tls_over(link, &outer, NULL) : link;
    link_own(k->top, &k->wake);
    timer_set(f->w, &k->deadline, FRONT_TLS_MS);
    wake_post(f->w, &k->wake);
}

struct front_caller *front_adopt(const struct front_caller *by, struct link *link, void (*on_known)(void *ctx), void *ctx)
{
    struct front_caller *k = caller_new(by->f, &by->peer, FRONT_PLAIN, by->single ? FRONT_ADDRESS_MAX : 0, NULL);
    if (!k) {
        link_close(link);
        return NULL;
    }
    k->on_known = on_known;
    k->adopter = ctx;
    front_carrier(k, link);
    return k;
}

struct front_caller *front_stream(struct front_caller *parent, struct link *link)
{
    struct front_caller *k = caller_new(parent->f, &parent->peer, parent->kind, parent->single ? FRONT_STREAMS_MAX : 0,
                                        parent);
    if (!k)
        return NULL;
    k->near = parent->near;
    k->trusted = parent->trusted;
    k->https = parent->https;
    k->top = link;
    link_own(link, &k->wake);
    front_head_start(k);
    return k;
}

void front_set_web(struct front *f, SSL_CTX *web)
{
    SSL_CTX_free(f->web);
    f->web = web;
}

void front_init(struct front *f, struct worker *w)
{
    uint64_t seed;
    *f = (struct front){.w = w};
    worker_random(w, &seed, sizeof seed);
    hash_init(&f->polls, seed);
    list_init(&f->callers);
    list_init(&f->hubs);
}

void front_fini(struct front *f)
{
    list_each(&f->callers, it) front_end(list_entry(it, struct front_caller, node));
    SSL_CTX_free(f->web);
    SSL_CTX_free(f->inner);
    f->web = f->inner = NULL;
}
