// SPDX-License-Identifier: Apache-2.0
#include "agent/uplink.h"
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/log.h"
#include "link/tls.h"

#define HANDSHAKE_TRIPS 4 // from a connection to WELCOME: outer TLS, WebSocket, inner TLS, HELLO

static const char *environment(const char *name) { return getenv(name); }

static int join_headers(struct uplink *u, const struct agent_connect *c, struct err *e)
{
    size_t size = 1;
    for (size_t i = 0; i < c->header_count; i++)
        size += strlen(c->headers[i]) + 2;
    u->headers = calloc(1, size);
    if (!u->headers)
        abort();
    for (size_t i = 0; i < c->header_count; i++) {
        if (strpbrk(c->headers[i], "\r\n") || !strchr(c->headers[i], ':'))
            return err_set(e, ERR_USAGE, WHY_NONE, "--header: write it as 'Name: value'");
        strcat(u->headers, c->headers[i]);
        strcat(u->headers, "\r\n");
    }
    return 0;
}

void uplink_set_relay(struct uplink *u, const struct agent_relay *relay)
{
    struct relay_url url = u->relay.url;
    u->relay = *relay;
    if (u->elsewhere)
        u->relay.url = url;
    u->dial_options.pin_count = agent_relay_pins(&u->relay, u->pins);
}

static int make_options(struct uplink *u, const struct agent_connect *c, const struct identity *id, struct err *e)
{
    struct dial_options *o = &u->dial_options;
    *o = (struct dial_options){.relay = &u->relay.url, .route = &u->route, .kit = c->proxy_kit, .host = c->host, .sni = c->sni,
                               .pins = u->pins};
    o->pin_count = agent_relay_pins(&u->relay, u->pins);
    o->outer_report = c->outer == AGENT_OUTER_DEFAULT ? u->relay.outer_report : c->outer == AGENT_OUTER_REPORT;
    if (join_headers(u, c, e) < 0)
        return -1;
    o->headers = *u->headers ? u->headers : NULL;
    o->inner = tls_inner_ctx(false, id->cert, id->key, e);
    if (!o->inner)
        return -1;
    if (u->relay.url.tls)
        o->outer = tls_client_ctx(c->ca_file, e);
    return u->relay.url.tls && !o->outer ? -1 : 0;
}

// --- the session

static void new_session(struct uplink *u)
{
    uint8_t id[16];
    worker_random(u->w, id, sizeof(id));
    session_init(&u->session, u->w, true, id, u->ops->session, u, u->budget);
}

// Nobody waits for ever: what was held without a carrier is given up, and the next carrier carries a new session.
static void on_park_over(struct timer *timer)
{
    struct uplink *u = container_of(timer, struct uplink, park);
    struct err e = ERR_INIT;
    err_set(&e, ERR_UNREACHED, WHY_LOST, "no connection to the relay for %d minutes", UPLINK_PARK_MS / 60000);
    uplink_drop(u);
    session_fini(&u->session, &e);
    new_session(u);
    err_fini(&e);
    uplink_retry(u, 0, 0);
}

// --- beginning and end

static void on_retry(struct timer *timer) { uplink_start(container_of(timer, struct uplink, retry)); }

static void on_deadline(struct timer *timer);

int uplink_init(struct uplink *u, struct worker *w, struct resolver *r, struct budget *budget, const struct agent_relay *relay,
                const struct agent_connect *c, const struct identity *id, const struct uplink_ops *ops, void *owner,
                struct err *e)
{
    *u = (struct uplink){.w = w, .resolver = r, .budget = budget, .relay = *relay, .ops = ops, .owner = owner,
                         .peel = !c->peel_never};
    timer_init(&u->retry, on_retry);
    timer_init(&u->deadline, on_deadline);
    timer_init(&u->park, on_park_over);
    worker_random(w, u->instance, sizeof(u->instance));
    new_session(u);
    snprintf(u->name, sizeof(u->name), "%s", relay->name);
    if (proxy_find(&u->route, &relay->url, c->proxies, c->proxy_count, relay->proxies, relay->proxy_count, environment,
                   e) < 0)
        return -1;
    return make_options(u, c, id, e);
}

void uplink_fini(struct uplink *u)
{
    if (!u->w)
        return;
    uplink_drop(u);
    timer_stop(u->w, &u->park);
    session_fini(&u->session, NULL);
    SSL_CTX_free(u->dial_options.outer);
    SSL_CTX_free(u->dial_options.inner);
    proxy_route_wipe(&u->route);
    free(u->headers);
    u->headers = NULL;
    OPENSSL_cleanse(&u->relay, sizeof(u->relay));
    u->w = NULL;
}

// --- down

static void down(struct uplink *u, const struct err *err, const struct frame_welcome *refusal)
{
    struct err why = ERR_INIT;
    struct frame_welcome said = refusal ? *refusal : (struct frame_welcome){0};
    bool was_up = u->state == UPLINK_UP;
    u->failures = was_up ? 0 : u->failures + 1;
    u->tried |= !was_up;
    u->dial_options.avoid = was_up ? (struct addr){0} : u->dial.reached;
    u->carried = was_up ? u->conn->carrier.bytes_in + u->conn->carrier.bytes_out : 0;
    err_copy(&why, err); // err and refusal live in what is dropped here
    snprintf(u->last_error, sizeof(u->last_error), "%s", err_text(&why));
    uplink_drop(u);
    if (was_up)
        timer_set(u->w, &u->park, UPLINK_PARK_MS);
    u->ops->on_down(u, &why, refusal ? &said : NULL, was_up);
    err_fini(&why);
}

void uplink_drop(struct uplink *u)
{
    dial_stop(&u->dial);
    conn_free(u->conn);
    u->conn = NULL;
    timer_stop(u->w, &u->retry);
    timer_stop(u->w, &u->deadline);
    u->state = UPLINK_DOWN;
}

static void fail_text(struct uplink *u, const char *text)
{
    struct err e = ERR_INIT;
    char where[URL_TEXT_MAX];
    err_set(&e, ERR_UNREACHED, WHY_TIMEOUT, "dial %s: %s", relay_url_where(&u->relay.url, where), text);
    down(u, &e, NULL);
    err_fini(&e);
}

static void on_deadline(struct timer *timer)
{
    fail_text(container_of(timer, struct uplink, deadline), "no connection in 20 s");
}

// --- up

static void note_rtt(struct uplink *u, uint32_t rtt_us)
{
    if (u->w->now_ms - u->rtt_ms >= UPLINK_RTT_MS) {
        u->rtt_us[1] = u->rtt_us[0];
        u->rtt_us[0] = 0;
        u->rtt_ms = u->w->now_ms;
    }
    if (rtt_us && (u->rtt_us[0] == 0 || rtt_us < u->rtt_us[0]))
        u->rtt_us[0] = rtt_us;
}

uint32_t uplink_rtt(struct uplink *u)
{
    if (uplink_is_up(u))
        note_rtt(u, session_rtt_us(&u->session));
    uint32_t a = u->rtt_us[0], b = u->rtt_us[1];
    return a && (b == 0 || a < b) ? a : b;
}

bool uplink_is_good(const struct uplink *u)
{
    const struct session *s = &u->session;
    if (!uplink_is_up(u) || s->goaway_seen)
        return false;
    list_each((struct list *)&s->carriers, n)
    {
        if (!list_entry(n, struct carrier, node)->live.suspect)
            return true;
    }
    return list_empty(&s->carriers); // WELCOME is just being read
}

static bool on_welcome(struct conn *c, const struct frame_welcome *welcome)
{
    struct uplink *u = c->owner;
    struct session *s = &u->session;
    bool fresh = !s->has_birth || CRYPTO_memcmp(s->birth, welcome->birth, sizeof(s->birth)) != 0;
    if (fresh && s->has_birth) {
        struct err e = ERR_INIT;
        err_set(&e, ERR_FAILED, WHY_LOST, "the relay has a new session: the old one's streams are lost");
        session_end_streams(s, &e);
        session_detach(s);
        err_fini(&e);
    }
    memcpy(s->birth, welcome->birth, sizeof(s->birth));
    s->has_birth = true;
    u->state = UPLINK_UP;
    u->ups++;
    u->up_ms = u->w->now_ms;
    u->tried = false;
    u->failures = 0;
    note_rtt(u, (uint32_t)((u->w->now_us - u->dialled_us) / HANDSHAKE_TRIPS));
    timer_stop(u->w, &u->park);
    u->last_error[0] = 0;
    snprintf(u->name, sizeof(u->name), "%s", welcome->name);
    u->ops->on_up(u, welcome, fresh);
    return true;
}

static void on_conn_down(struct conn *c, const struct err *err, const struct frame_welcome *refusal)
{
    struct uplink *u = c->owner;
    struct err e = ERR_INIT;
    char where[URL_TEXT_MAX];
    err_copy(&e, err);
    if (u->state != UPLINK_UP && e.kind == ERR_FAILED) // whatever failed on the way there: not reached
        e.kind = ERR_UNREACHED;
    bool hops = u->route.count > 0 && !strstr(err_text(&e), "via "); // what went wrong may be a proxy's doing
    if (u->state != UPLINK_UP)
        err_prefix(&e, "dial %s%s%s", relay_url_where(&u->relay.url, where), hops ? " " : "", hops ? u->route.path : "");
    down(u, &e, refusal);
    err_fini(&e);
}

static const struct conn_ops conn_ops = {.on_welcome = on_welcome, .on_down = on_conn_down};

// An attempt that hangs must not keep the others waiting, nor may a slow path be given up too soon for ever.
static uint32_t open_ms(const struct uplink *u)
{
    uint32_t doubled = UPLINK_TRY_MS << (u->failures < 3 ? u->failures : 3);
    bool ways = u->others || u->dial.resolve.count > 1;
    return ways && doubled < AGENT_OPEN_MS ? doubled : AGENT_OPEN_MS;
}

static void on_dialled(struct dial *d, struct link *inner, const struct err *err)
{
    struct uplink *u = container_of(d, struct uplink, dial);
    struct frame_hello hello = {.ver_min = 1, .ver_max = 1, .carrier = ++u->session.carrier_number};
    timer_stop(u->w, &u->deadline);
    if (!inner) {
        down(u, err, NULL);
        return;
    }
    memcpy(hello.session, u->session.id, sizeof(hello.session));
    memcpy(hello.instance, u->instance, sizeof(hello.instance));
    hello.has_token = u->relay.has_token;
    if (hello.has_token)
        memcpy(hello.token, u->relay.token, sizeof(hello.token));
    u->state = UPLINK_OPENING;
    u->dialled_us = u->w->now_us;
    u->conn = conn_agent(u->w, inner, &hello, u->peel, open_ms(u), &u->session, &conn_ops, u);
    OPENSSL_cleanse(&hello, sizeof(hello));
}

void uplink_start(struct uplink *u)
{
    if (u->state != UPLINK_DOWN || u->out)
        return;
    if (u->w->now_ms < u->not_before_ms) {
        timer_set(u->w, &u->retry, u->not_before_ms - u->w->now_ms);
        return;
    }
    timer_stop(u->w, &u->retry);
    u->state = UPLINK_DIALLING;
    u->attempts++;
    timer_set(u->w, &u->deadline, AGENT_OPEN_MS);
    dial_start(&u->dial, u->w, u->resolver, &u->dial_options, on_dialled);
}

void uplink_retry(struct uplink *u, uint32_t cap_ms, uint32_t least_ms)
{
    uint32_t random;
    worker_random(u->w, &random, sizeof(random));
    uint32_t ms = backoff_next(&u->backoff, random, cap_ms);
    u->not_before_ms = u->w->now_ms + least_ms;
    timer_set(u->w, &u->retry, ms > least_ms ? ms : least_ms);
}

void uplink_give_up(struct uplink *u, const struct err *why)
{
    u->out = true;
    u->out_kind = why->kind ? why->kind : ERR_FAILED;
    uplink_drop(u);
    timer_stop(u->w, &u->park);
    session_fini(&u->session, why);
    new_session(u);
}

void uplink_revive(struct uplink *u)
{
    u->out = false;
    u->not_before_ms = 0;
    u->failures = 0;
    backoff_reset(&u->backoff);
}

const struct link_facts *uplink_facts(const struct uplink *u)
{
    return u->state == UPLINK_UP ? conn_facts(u->conn) : NULL;
}
