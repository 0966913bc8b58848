// SPDX-License-Identifier: Apache-2.0
// The relays of an agent: which are used, what their coming and going means for forwards, for the state and for the agent's life.
#include <stdlib.h>
#include <string.h>
#include "agent/inside.h"
#include "core/log.h"
#include "forward/flow.h"

#define STEADY_MS 10000      // a carrier that stood this long,
#define STEADY_BYTES 131072  // or carried this much, makes the next wait short again
#define STREAM_RETRY_MS 1000 // longest wait between attempts while streams are held

struct session *agent_session(struct agent *a) { return &a->current->session; }

size_t relays_up(const struct agent *a)
{
    size_t n = 0;
    for (size_t i = 0; i < a->uplink_count; i++)
        n += uplink_is_up(&a->uplinks[i]);
    return n;
}

static void on_goaway(struct session *s, uint16_t code, uint32_t retry_ms, const char *text)
{
    log_event(LOG_INFO, "the relay is going away", LS("text", text), LN("code", code), LN("retry_ms", retry_ms));
}

static const struct session_ops session_ops = {
    .on_open = agent_on_open, .on_dgram = flow_on_dgram, .on_goaway = on_goaway};

// --- up

static void note_welcome(struct uplink *u, const struct frame_welcome *w)
{
    struct agent *a = u->owner;
    struct agent_relay *r = &u->relay;
    struct err e = ERR_INIT;
    bool same = !r->has_token && strcmp(r->name, w->name) == 0 && r->next_pin_count == w->next_pin_count &&
                memcmp(r->next_pins, w->next_pins, w->next_pin_count * PIN_SIZE) == 0;
    if (same || u->elsewhere)
        return;
    // A blocking write, but one at the end of joining and one when the relay announces a key.
    if (agent_state_joined(&a->state, &r->url, w->name, w->next_pins, w->next_pin_count, &e) < 0) {
        log_event(LOG_ERROR, "the agent's state cannot be written", LS("reason", err_text(&e)));
        if (a->joining)
            agent_end(a, e.kind, &e);
    }
    err_fini(&e);
    const struct agent_relay *known = agent_state_find(&a->state, &r->url);
    if (known)
        uplink_set_relay(u, known);
}

static void log_up(struct uplink *u)
{
    const struct link_facts *f = uplink_facts(u);
    char where[URL_TEXT_MAX];
    log_event(agent_chatter(u->owner), "connected", LS("relay", relay_url_where(&u->relay.url, where)), LS("as", u->name),
              LS("path", f ? f->path : ""), LS("tls", f ? f->tls_version : ""),
              LS("peeled", u->conn->peeled ? "yes" : "no"));
    if (f && f->tls_version[0] && !f->outer_trusted)
        log_event(LOG_WARN, "the relay's web certificate is not trusted; its identity key is, and all is sealed with it",
                  LS("reason", f->outer_reason), LS("issuer", f->tls_issuer));
}

static void on_up(struct uplink *u, const struct frame_welcome *welcome, bool fresh)
{
    struct agent *a = u->owner;
    note_welcome(u, welcome);
    log_up(u);
    if (a->joining) {
        agent_end(a, 0, NULL);
        return;
    }
    if (fresh)
        reverses_ask(a);
    stdio_start(a);
    agent_check(a);
}

// --- down

static bool is_final(const struct agent *a, const struct err *err, const struct frame_welcome *refusal)
{
    if (a->o && a->o->once)
        return true;
    if (refusal)
        return refusal->status == WELCOME_STOP;
    return err->kind == ERR_UNTRUSTED || err->kind == ERR_USAGE || a->joining;
}

static void on_down(struct uplink *u, const struct err *err, const struct frame_welcome *refusal, bool was_up)
{
    struct agent *a = u->owner;
    uint32_t least = refusal && refusal->status != WELCOME_STOP ? refusal->retry_ms : 0;
    if (a->life == AGENT_LEAVING) {
        if (relays_up(a) == 0)
            agent_stop(a, 0, NULL);
        return;
    }
    if (is_final(a, err, refusal)) {
        agent_stop(a, err->kind ? (int)err->kind : ERR_FAILED, err);
        return;
    }
    if (was_up && (a->w.now_ms - u->up_ms >= STEADY_MS || u->carried >= STEADY_BYTES))
        backoff_reset(&u->backoff);
    uplink_retry(u, a->fw.conduit_count > 0 ? STREAM_RETRY_MS : 0, least);
    log_event(LOG_WARN, was_up ? "connection lost" : "no connection", LS("reason", err_text(err)),
              LN("retry_ms", u->retry.due_ms - a->w.now_ms));
}

static const struct uplink_ops uplink_ops = {.on_up = on_up, .on_down = on_down, .session = &session_ops};

// --- which

void relays_reload(struct agent *a)
{
    struct err e = ERR_INIT;
    bool good = agent_state_reload(&a->state, &e) == 0;
    if (!good)
        log_event(LOG_ERROR, "reload: the old state stays", LS("reason", err_text(&e)));
    err_fini(&e);
    for (size_t i = 0; i < a->uplink_count; i++) {
        struct uplink *u = &a->uplinks[i];
        const struct agent_relay *r = good && !u->elsewhere ? agent_state_find(&a->state, &u->relay.url) : NULL;
        if (r)
            uplink_set_relay(u, r);
        backoff_reset(&u->backoff);
        uplink_start(u);
    }
    log_event(LOG_INFO, "reloaded");
}

static struct agent_relay *find_by_host(struct agent_state *s, const char *host)
{
    for (size_t i = s->relay_count; i-- > 0;) {
        if (strcmp(s->relays[i].url.host, host) == 0)
            return &s->relays[i];
    }
    return s->relay_count == 1 ? &s->relays[0] : NULL;
}

// A relay may be reached by another URL than the one it was joined by: its key tells who it is.
static int add(struct agent *a, const struct agent_connect *c, const struct relay_url *told, struct err *e)
{
    struct agent_state *s = &a->state;
    struct agent_relay *known = told ? agent_state_find(s, told) : &s->relays[s->relay_count - 1];
    struct uplink *u = &a->uplinks[a->uplink_count];
    char where[URL_TEXT_MAX];
    bool elsewhere = !known;
    if (!known)
        known = find_by_host(s, told->host);
    if (!known)
        return err_set(e, ERR_USAGE, WHY_NONE, "--relay %s: not joined, and there are several others: use an invitation "
                                               "of it with `culvert join`", relay_url_where(told, where));
    struct agent_relay relay = *known;
    if (elsewhere)
        relay.url = *told;
    a->uplink_count++;
    int rc = uplink_init(u, &a->w, a->resolver, &a->budget, &relay, c, &a->state.id, &uplink_ops, a, e);
    u->elsewhere = elsewhere;
    OPENSSL_cleanse(&relay, sizeof(relay));
    return rc;
}

int relays_init(struct agent *a, const struct agent_connect *c, const struct relay_url *only, struct err *e)
{
    if (a->state.relay_count == 0)
        return err_set(e, ERR_USAGE, WHY_NONE, "no relay was joined with %s: use an invitation with `culvert join`",
                       a->state.dir);
    a->uplinks = calloc(AGENT_RELAYS, sizeof(*a->uplinks));
    if (!a->uplinks)
        abort();
    a->current = &a->uplinks[0];
    return add(a, c, only ? only : c->relay, e);
}

void relays_start(struct agent *a)
{
    for (size_t i = 0; i < a->uplink_count; i++)
        uplink_start(&a->uplinks[i]);
}
