// SPDX-License-Identifier: Apache-2.0
// What listens elsewhere and comes out here: -R at the relay, and offers to other agents. Each is a stream that stays open;
// callers come as streams of their own. Only what is named here is ever dialled, whatever the relay asks; what reverse
// SOCKS may reach is asked of the agent's own policy.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "agent/inside.h"
#include "core/log.h"
#include "forward/conduit.h"
#include "forward/target.h"

static bool is_udp(const struct reverse *r) { return r->spec ? r->spec->udp : r->offer->udp; }
static bool is_socks(const struct reverse *r) { return r->spec && r->spec->socks; }
static const struct spec_dest *dest_of(const struct reverse *r) { return r->spec ? &r->spec->dest : &r->offer->dest; }

// --- reverse SOCKS

// The relay stands for whoever calls there: the one subject of the agent's policy.
bool reverse_allows(void *ctx, const char *name, uint16_t port, const struct addr *to, bool udp)
{
    struct agent *a = ctx;
    char where[ADDR_TEXT_MAX];
    struct verdict verdict;
    if (policy_reach(a->policy, a->uplinks[0].relay.pins[0], name, port, to, udp, &verdict))
        return true;
    log_event(LOG_INFO, "reverse SOCKS refused", LS("to", name), LS("address", to ? addr_text(to, where) : "-"),
              LS("reason", verdict.text));
    return false;
}

void reverse_connect(void *owner, const struct conduit_ask *ask, const struct socks_dest *dest)
{
    struct agent *a = owner;
    conduit_to_target(&a->fw, ask, dest->host, dest->port, reverse_allows, a);
}

// Datagrams of an association come in where its connection did: at the relay, at a port of its choice. There "*" was bound as "::"
// and takes IPv4 too.
struct stream *reverse_listen(void *owner, const struct addr *at)
{
    struct agent *a = owner;
    struct frame_open open = {.kind = OPEN_LISTEN_UDP};
    char host[ADDR_TEXT_MAX];
    bool is_any = at->sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&at->in6.sin6_addr);
    snprintf(open.host, sizeof(open.host), "%s", is_any ? "*" : addr_host(at, host));
    return session_open(agent_session(a), &open);
}

static int make_policy(struct agent *a, struct err *e)
{
    a->policy = policy_new();
    policy_add(a->policy, a->uplinks[0].relay.pins[0], "relay");
    for (size_t i = 0; i < a->o->allow_count; i++) {
        if (!policy_add_rule(a->policy, a->uplinks[0].relay.pins[0], &a->o->allows[i]))
            return err_set(e, ERR_USAGE, WHY_NONE, "--allow: at most %d rules", POLICY_RULES_MAX);
    }
    return 0;
}

// --- callers

static void open_target(struct agent *a, struct stream *st, const struct spec_dest *d, const struct frame_open *open)
{
    char path[SPEC_PATH_MAX + 6];
    struct target_ask ask = {.host = d->host, .port = d->port, .udp = open->datagram, .origin = open->origin,
                             .sealed = open->sealed ? open : NULL};
    if (d->kind == SPEC_UNIX) {
        snprintf(path, sizeof(path), "unix:%s", d->path);
        ask.host = path;
    }
    target_open(&a->fw, st, &ask);
}

static void refuse(struct stream *st, enum err_why why, const char *what, const char *text)
{
    log_event(LOG_INFO, "stream refused", LS("for", what), LS("reason", text));
    stream_refuse(st, why, text);
    link_close(stream_link(st));
}

static void on_accepted(struct agent *a, struct reverse *r, struct stream *st, const struct frame_open *open)
{
    const char *objection = open->kind == OPEN_SERVICE ? sealing_objection(a, open) : NULL;
    r->callers++;
    if (objection) {
        refuse(st, WHY_POLICY, r->what, objection);
    } else if (open->datagram != is_udp(r)) {
        refuse(st, WHY_PROTOCOL, r->what, "of another kind than what was asked for");
    } else if (is_socks(r)) {
        stream_accept(st, NULL);
        socks_server_accept(a->reverse_socks, stream_link(st), &open->origin, &r->bound);
    } else {
        open_target(a, st, dest_of(r), open);
    }
}

static bool is_stream(const struct reverse_stream *rs, const struct session *s, uint32_t id)
{
    return rs->st && stream_session(rs->st) == s && stream_id(rs->st) == id;
}

static struct reverse *find_listener(struct agent *a, const struct session *s, uint32_t id)
{
    for (size_t i = 0; i < a->reverse_count; i++) {
        struct reverse *r = &a->reverses[i];
        if (r->spec && (is_stream(r->now, s, id) || is_stream(r->next, s, id)))
            return r;
    }
    return NULL;
}

// host is NAME@AGENT, or NAME alone. One of the other kind is found where there is none of this one.
static struct reverse *find_offer(struct agent *a, const char *host, bool udp)
{
    size_t len = strcspn(host, "@");
    struct reverse *other = NULL;
    for (size_t i = 0; i < a->reverse_count; i++) {
        struct reverse *r = &a->reverses[i];
        if (!r->offer || strlen(r->offer->name) != len || memcmp(r->offer->name, host, len) != 0)
            continue;
        if (is_udp(r) == udp)
            return r;
        other = r;
    }
    return other;
}

void agent_on_open(struct session *s, struct stream *st, const struct frame_open *open)
{
    struct agent *a = uplink_of(s)->owner;
    struct reverse *r = NULL;
    if (open->kind == OPEN_ACCEPTED)
        r = find_listener(a, s, open->listener);
    else if (open->kind == OPEN_SERVICE)
        r = find_offer(a, open->host, open->datagram);
    bool is_flow = open->kind == OPEN_ACCEPTED && open->datagram && a->reverse_socks;
    if (a->life != AGENT_RUNNING)
        refuse(st, WHY_LIMIT, open->host, "the agent is going down");
    else if (!r && is_flow && socks_server_flow(a->reverse_socks, open->listener, st, &open->origin))
        return;
    else if (r)
        on_accepted(a, r, st, open);
    else
        refuse(st, open->kind == OPEN_SERVICE ? WHY_ABSENT : WHY_POLICY, open->host, "nothing of that kind is offered here");
}

// --- listening

static void close_stream(struct reverse_stream *rs)
{
    if (rs->link)
        link_close(rs->link);
    rs->link = NULL;
    rs->st = NULL;
    wake_cancel(&rs->wake);
}

static void fill_open(struct frame_open *open, const struct reverse *r)
{
    open->kind = is_udp(r) ? OPEN_LISTEN_UDP : OPEN_LISTEN_TCP;
    if (r->offer) {
        snprintf(open->host, sizeof(open->host), "service:%s", r->offer->name);
    } else if (r->spec->listen.kind == SPEC_UNIX) {
        snprintf(open->host, sizeof(open->host), "unix:%s", r->spec->listen.path);
    } else {
        snprintf(open->host, sizeof(open->host), "%s", r->spec->listen.host);
        open->port = r->spec->listen.port;
    }
}

static void ask(struct reverse *r)
{
    struct reverse_stream *rs = r->next;
    struct frame_open open = {0};
    close_stream(rs);
    timer_stop(&r->a->w, &r->retry);
    fill_open(&open, r);
    rs->u = r->a->current;
    rs->st = session_open(&rs->u->session, &open);
    if (!r->now->st)
        r->state = rs->st ? REVERSE_ASKED : REVERSE_IDLE; // drained: the next session asks
    if (!rs->st)
        return;
    rs->link = stream_link(rs->st);
    link_own(rs->link, &rs->wake);
    wake_post(&r->a->w, &rs->wake);
}

// It stands: where it stood before it is given up.
static void on_up(struct reverse *r)
{
    char text[ADDR_TEXT_MAX], where[URL_TEXT_MAX];
    struct reverse_stream *old = r->now;
    r->now = r->next;
    r->next = old;
    close_stream(old);
    const struct addr *bound = stream_bound(r->now->st);
    r->state = REVERSE_UP;
    r->bound = bound ? *bound : (struct addr){0};
    if (r->offer)
        log_event(LOG_INFO, "service offered", LS("service", r->what), LS("relay", relay_url_where(&r->now->u->relay.url, where)));
    else
        log_event(LOG_INFO, "listening at the relay", LS("for", r->what), LS("at", bound ? addr_text(bound, text) : "-"),
                  LS("relay", relay_url_where(&r->now->u->relay.url, where)));
    agent_check(r->a);
}

// Refused, or ended later: moved to a newer session of this identity, or no longer allowed. A refusal at the start is what
// a person wants to know at once; later the agent goes on with what it has and asks again now and then.
static void refused(struct reverse *r, const struct err *e)
{
    struct agent *a = r->a;
    if (!r->now->st)
        r->state = REVERSE_REFUSED;
    if (a->o->once || (!a->ready_told && e->why == WHY_POLICY)) {
        agent_end(a, e->why == WHY_POLICY ? ERR_POLICY : ERR_FAILED, e);
        return;
    }
    log_event(LOG_WARN, "not listening at the relay", LS("for", r->what), LS("reason", err_text(e)));
    if (r->now->st && !uplink_is_good(r->now->u) && e->why != WHY_POLICY) { // it may stand in its own way: two relays, one host
        close_stream(r->now);
        r->state = REVERSE_ASKED;
        timer_set(&a->w, &r->retry, REVERSE_SOON_MS);
        return;
    }
    timer_set(&a->w, &r->retry, r->retry_ms);
    r->retry_ms = r->retry_ms < REVERSE_RETRY_MAX_MS / 2 ? r->retry_ms * 2 : REVERSE_RETRY_MAX_MS;
}

static void on_over(struct reverse_stream *rs, const struct err *err)
{
    struct reverse *r = rs->r;
    struct err e = ERR_INIT;
    bool parked = !uplink_is_up(rs->u) || err->why == WHY_LOST;
    err_copy(&e, err);
    if (e.why == WHY_MOVED)
        err_set(&e, ERR_FAILED, WHY_MOVED, "moved: a newer agent with this key has taken it over");
    err_prefix(&e, "%s", r->what);
    close_stream(rs);
    if (rs == r->now && r->next->st) // on its way to another relay, or taken over there by ourselves
        r->state = REVERSE_ASKED;
    else if (!parked)
        refused(r, &e);
    else if (!r->now->st)
        r->state = REVERSE_IDLE;
    agent_check(r->a);
    err_fini(&e);
}

static void on_wake(struct wake *wake)
{
    struct reverse_stream *rs = container_of(wake, struct reverse_stream, wake);
    struct buf *b;
    enum link_status st = link_open(rs->link);
    if (st == LINK_AGAIN)
        return;
    if (st == LINK_OK && rs == rs->r->next)
        on_up(rs->r);
    while (st == LINK_OK && (st = link_recv(rs->link, &b)) == LINK_OK)
        buf_put(b);
    if (st == LINK_AGAIN)
        return;
    if (!err_is(&rs->link->err))
        err_set(&rs->link->err, ERR_FAILED, WHY_LOST, "the relay ended it");
    on_over(rs, &rs->link->err);
}

static void on_retry(struct timer *timer)
{
    struct reverse *r = container_of(timer, struct reverse, retry);
    if (uplink_is_up(r->a->current))
        ask(r);
    else if (!r->now->st)
        r->state = REVERSE_IDLE;
}

void reverses_follow(struct agent *a)
{
    for (size_t i = 0; i < a->reverse_count; i++) {
        struct reverse *r = &a->reverses[i];
        if (r->now->st && r->now->u == a->current)
            close_stream(r->next); // back before the other one stood
        else if (!r->next->st || r->next->u != a->current)
            ask(r);
    }
}

void reverses_forget(struct agent *a, const struct uplink *u)
{
    for (size_t i = 0; i < a->reverse_count; i++) {
        struct reverse *r = &a->reverses[i];
        for (size_t k = 0; k < 2; k++) {
            if (r->streams[k].u == u)
                close_stream(&r->streams[k]);
        }
        if (!r->now->st && r->state != REVERSE_REFUSED)
            r->state = r->next->st ? REVERSE_ASKED : REVERSE_IDLE;
    }
}

bool reverses_settled(const struct agent *a)
{
    for (size_t i = 0; i < a->reverse_count; i++) {
        if (a->reverses[i].state == REVERSE_ASKED || a->reverses[i].state == REVERSE_IDLE)
            return false;
    }
    return true;
}

size_t reverses_streams(const struct agent *a, const struct uplink *u)
{
    size_t n = 0;
    for (size_t i = 0; i < 2 * a->reverse_count; i++) {
        const struct reverse_stream *rs = &a->reverses[i / 2].streams[i % 2];
        n += rs->st && rs->u == u;
    }
    return n;
}

void reverses_close(struct agent *a)
{
    for (size_t i = 0; i < a->reverse_count; i++) {
        close_stream(a->reverses[i].now);
        close_stream(a->reverses[i].next);
        timer_stop(&a->w, &a->reverses[i].retry);
        a->reverses[i].state = REVERSE_IDLE;
    }
}

int reverses_init(struct agent *a, struct err *e)
{
    const struct agent_options *o = a->o;
    a->reverse_count = o->reverse_count + o->offer_count;
    a->reverses = calloc(a->reverse_count + 1, sizeof(*a->reverses));
    if (!a->reverses)
        abort();
    for (size_t i = 0; i < a->reverse_count; i++) {
        struct reverse *r = &a->reverses[i];
        char text[SPEC_TEXT_MAX];
        r->a = a;
        r->retry_ms = REVERSE_RETRY_MS;
        for (size_t k = 0; k < 2; k++) {
            r->streams[k].r = r;
            wake_init(&r->streams[k].wake, on_wake);
        }
        r->now = &r->streams[0];
        r->next = &r->streams[1];
        timer_init(&r->retry, on_retry);
        if (i < o->reverse_count) {
            r->spec = &o->reverses[i];
            snprintf(r->what, sizeof(r->what), "-R %.290s%s", spec_addr_text(&r->spec->listen, text), r->spec->udp ? "/udp" : "");
        } else {
            r->offer = &o->offers[i - o->reverse_count];
            snprintf(r->what, sizeof(r->what), "--offer %s%s", r->offer->name, r->offer->udp ? "/udp" : "");
        }
    }
    return make_policy(a, e);
}
