// SPDX-License-Identifier: Apache-2.0
// The relays of an agent: which are used, what their coming and going means for forwards, for the state and for the agent's life.
// All that are wanted are kept connected, so that another one is there the moment the one in use goes; rank.h says which is used.
#include <stdlib.h>
#include <string.h>
#include "agent/inside.h"
#include "core/log.h"
#include "forward/conduit.h"
#include "forward/flow.h"

#define STREAM_RETRY_MS 1000 // longest wait between attempts while streams are held
#define REVIEW_MS 5000       // how often round trips are looked at
#define AGAIN_MS 250         // while relays are changed, a service that no relay knows is asked for again after this,
#define CHANGE_MS 5000       // for so long
#define STAGGER_MS 1000      // -W: the next relay is tried when the one before has not come up in this

// --- which

static void look(struct agent *a, struct rank_one *c)
{
    for (size_t i = 0; i < a->uplink_count; i++) {
        struct uplink *u = &a->uplinks[i];
        bool good = uplink_is_good(u);
        if (good && !u->was_good)
            u->good_ms = a->w.now_ms;
        u->was_good = good;
        c[i] = (struct rank_one){.good = good, .stands = uplink_is_up(u), .tried = u->tried, .rtt_us = uplink_rtt(u),
                                 .gone = u->out || (uplink_is_up(u) && u->session.goaway_seen), .good_ms = u->good_ms};
    }
}

struct session *agent_session(struct agent *a)
{
    struct rank_one c[AGENT_RELAYS];
    if (uplink_is_good(a->current) || a->uplink_count == 1)
        return &a->current->session;
    look(a, c);
    size_t i = rank_best(&a->rank, c, a->uplink_count, RANK_NONE);
    return i == RANK_NONE ? &a->current->session : &a->uplinks[i].session;
}

// A relay that goes takes no more, and an agent whose service is asked for may be at another relay than this one.
static bool may_ask_elsewhere(const struct agent *a, const struct uplink *from, const struct frame_open *open,
                              const struct err *err)
{
    if (!err)
        return !uplink_is_good(from);
    if (open->kind == OPEN_SERVICE && (err->why == WHY_ABSENT || err->why == WHY_MOVED))
        return true;
    return !uplink_is_good(from) && (err->why == WHY_LIMIT || err->why == WHY_MOVED);
}

struct session *relays_elsewhere(void *owner, struct session *from, const struct frame_open *open, const struct err *err,
                                 uint32_t *asked, bool *later)
{
    struct agent *a = owner;
    size_t order[AGENT_RELAYS];
    if (a->life != AGENT_RUNNING || (from && !may_ask_elsewhere(a, uplink_of(from), open, err)))
        return NULL;
    if (from)
        *asked |= 1u << (uplink_of(from) - a->uplinks);
    relays_order(a, order);
    for (size_t i = 0; i < a->uplink_count; i++) {
        if (uplink_is_good(&a->uplinks[order[i]]) && !(*asked >> order[i] & 1))
            return &a->uplinks[order[i]].session;
    }
    for (size_t i = 0; i < a->uplink_count && !*later; i++) {
        enum uplink_state state = uplink_state(&a->uplinks[i]);
        *later = !(*asked >> i & 1) && (state == UPLINK_DIALLING || state == UPLINK_OPENING);
    }
    if (!*later && a->moved_ms && a->w.now_ms - a->moved_ms < CHANGE_MS && err) { // the other agent is on its way, too
        *asked = 0;
        *later = true;
        timer_set(&a->w, &a->again, AGAIN_MS);
    }
    return NULL;
}

void relays_on_again(struct timer *timer)
{
    struct agent *a = container_of(timer, struct agent, again);
    conduits_ask_again(&a->fw, NULL);
}

bool relays_settled(const struct agent *a) { return a->rank.home != RANK_NONE && uplink_is_up(a->current); }

void relays_order(struct agent *a, size_t *out)
{
    struct rank_one c[AGENT_RELAYS];
    look(a, c);
    rank_order(&a->rank, c, a->uplink_count, out);
}

// New streams go to another relay now. What listens is asked for there, and given up where it was once it stands; flows of
// datagrams, which end by silence alone, begin anew unless their way is still good.
static void moved(struct agent *a, struct uplink *from)
{
    char where[URL_TEXT_MAX];
    if (a->uplink_count > 1)
        log_event(agent_chatter(a), from ? "moved to another relay" : "relay chosen",
                  LS("relay", relay_url_where(&a->current->relay.url, where)));
    if (from && !uplink_is_good(from))
        flow_end_opened(&a->fw, &from->session);
    if (from && !uplink_is_good(from) && !from->session.goaway_seen)
        conduits_leave(&a->fw, &from->session);
    a->moved_ms = a->w.now_ms;
    reverses_follow(a);
    stdio_start(a);
    agent_check(a);
}

static void review(struct agent *a)
{
    struct rank_one c[AGENT_RELAYS];
    size_t before = a->rank.home;
    uint32_t random;
    if (a->joining || a->life == AGENT_LEAVING)
        return;
    look(a, c);
    worker_random(&a->w, &random, sizeof(random));
    rank_decide(&a->rank, c, a->uplink_count, random, a->w.now_ms);
    if (a->uplink_count > 1) {
        uint64_t now = a->w.now_ms, wait = a->rank.again_ms > now ? a->rank.again_ms - now : 1;
        timer_set(&a->w, &a->review, a->rank.again_ms && wait < REVIEW_MS ? wait : REVIEW_MS);
    }
    struct uplink *from = before == RANK_NONE ? a->uplinks : &a->uplinks[before];
    if (a->rank.home != before) {
        a->current = &a->uplinks[a->rank.home];
        moved(a, before == RANK_NONE ? NULL : from);
    }
    if (a->fw.elsewhere)
        conduits_ask_again(&a->fw, &from->session);
}

void relays_on_review(struct timer *timer) { review(container_of(timer, struct agent, review)); }

size_t relays_up(const struct agent *a)
{
    size_t n = 0;
    for (size_t i = 0; i < a->uplink_count; i++)
        n += uplink_is_up(&a->uplinks[i]);
    return n;
}

// The one in use is lost or about to go: those that are not there are tried at once.
static void hurry(struct agent *a)
{
    for (size_t i = 0; i < a->uplink_count; i++) {
        struct uplink *u = &a->uplinks[i];
        if (u != a->current && i < a->started)
            uplink_start(u);
    }
}

static void on_goaway(struct session *s, uint16_t code, uint32_t retry_ms, const char *text)
{
    struct uplink *u = uplink_of(s);
    struct agent *a = u->owner;
    char where[URL_TEXT_MAX];
    log_event(LOG_INFO, "the relay is going away", LS("relay", relay_url_where(&u->relay.url, where)), LS("text", text),
              LN("code", code), LN("retry_ms", retry_ms));
    a->started = a->uplink_count;
    hurry(a);
    review(a);
    adrift_leave(u, true);
}

// New streams go elsewhere from now on; the rest follows when it has not answered for a while.
static void on_suspect(struct session *s, struct carrier *c)
{
    struct uplink *u = uplink_of(s);
    struct agent *a = u->owner;
    uplink_on_suspect(u, c);
    if (u == a->current && !uplink_is_good(u))
        hurry(a);
    review(a);
}

static const struct session_ops session_ops = {
    .on_open = agent_on_open, .on_dgram = flow_on_dgram, .on_goaway = on_goaway, .on_suspect = on_suspect};

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
    if (!u->missing) // else a line says already how it was repaired
        log_event(agent_chatter(u->owner), "connected", LS("relay", relay_url_where(&u->relay.url, where)), LS("as", u->name),
              LS("path", f ? f->path : ""), LS("transport", f ? f->transport : ""), LS("tls", f ? f->tls_version : ""),
              LS("peeled", uplink_lane(u)->conn->peeled ? "yes" : "no"));
    if (uplink_lane(u)->conn->welcome_flags & WELCOME_DIFFERS)
        log_event(LOG_WARN, "TLS is intercepted on the way; all is sealed to the relay's own key inside it",
                  LS("issuer", f ? f->tls_issuer : ""), LS("certificate", f && f->outer_trusted ? "trusted" : "not trusted"));
    else if (f && f->tls_version[0] && !f->outer_trusted)
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
        reverses_forget(a, u);
    review(a);
    adrift_up(u);
    if (u == a->current)
        reverses_follow(a);
    agent_check(a);
}

// --- down

static void start_next(struct agent *a);

// Not worth another attempt.
static bool is_final(const struct agent *a, const struct err *err, const struct frame_welcome *refusal)
{
    if (a->o && a->o->once && !a->stdio_started) // -W: once it has begun, its stream is worth every attempt
        return true;
    if (refusal)
        return refusal->status == WELCOME_STOP;
    return err->kind == ERR_UNTRUSTED || err->kind == ERR_USAGE || a->joining;
}

// The agent ends when no relay is left; what the first in order said is the reason that counts.
static void end_if_last(struct agent *a, const struct err *err)
{
    struct err all = ERR_INIT;
    for (size_t i = 0; i < a->uplink_count; i++) {
        if (!a->uplinks[i].out)
            return;
    }
    for (size_t i = 0; i < a->uplink_count; i++) {
        struct err both = ERR_INIT;
        err_set(&both, a->uplinks[0].out_kind, WHY_NONE, i ? "%s; %s" : "%s%s", err_text(&all),
                a->uplinks[i].last_error);
        err_move(&all, &both);
    }
    agent_stop(a, (int)a->uplinks[0].out_kind, a->uplink_count == 1 ? err : &all);
    err_fini(&all);
}

static void give_up(struct uplink *u, const struct err *err)
{
    struct agent *a = u->owner;
    char where[URL_TEXT_MAX], why[ERR_WHOLE_MAX];
    adrift_leave(u, false);
    uplink_give_up(u, err);
    end_if_last(a, err);
    if (a->life == AGENT_LEAVING)
        return;
    log_event(LOG_ERROR, "relay given up", LS("relay", relay_url_where(&u->relay.url, where)),
              LS("reason", err_whole(err, why, sizeof why)));
    start_next(a);
    if (u == a->current)
        hurry(a);
    review(a);
}

static uint32_t longest_wait(const struct uplink *u)
{
    const struct agent *a = u->owner;
    bool needed = u->session.stream_count > 0 || relays_up(a) == 0;
    return needed && a->fw.conduit_count > 0 ? STREAM_RETRY_MS : 0;
}

static void on_down(struct uplink *u, const struct err *err, const struct frame_welcome *refusal, bool was_up)
{
    struct agent *a = u->owner;
    uint32_t least = refusal && refusal->status != WELCOME_STOP ? refusal->retry_ms : 0;
    char where[URL_TEXT_MAX], why[ERR_WHOLE_MAX];
    if (a->life == AGENT_LEAVING) {
        if (relays_up(a) == 0)
            agent_stop(a, 0, NULL);
        return;
    }
    if (is_final(a, err, refusal)) {
        give_up(u, err);
        return;
    }
    uplink_retry(u, longest_wait(u), least);
    log_event(LOG_WARN, was_up ? "connection lost" : "no connection", LS("relay", relay_url_where(&u->relay.url, where)),
              LS("reason", err_whole(err, why, sizeof why)), LN("retry_ms", u->retry.due_ms - a->w.now_ms));
    start_next(a);
    if (was_up && u == a->current)
        hurry(a);
    if (was_up)
        adrift_down(u);
    review(a);
}

static const struct uplink_ops uplink_ops = {.on_up = on_up, .on_down = on_down, .session = &session_ops};

// --- beginning

void relays_on_network(struct network *n, enum network_event what)
{
    struct agent *a = n->owner;
    log_event(LOG_DEBUG, what == NETWORK_SLEPT ? "this machine slept" : "the network has changed");
    if (a->life == AGENT_LEAVING)
        return;
    for (size_t i = 0; i < a->uplink_count; i++) {
        if (i < a->started)
            uplink_on_network(&a->uplinks[i], what);
    }
    review(a);
}

// False: it stays as it was.
static bool read_saved(struct agent *a, struct err *e)
{
    return saved_proxy_read(&a->saved, a->state.dir, e) == 0;
}

json_t *relays_proxy(void *owner)
{
    struct agent *a = owner;
    struct err e = ERR_INIT;
    bool told = a->o->connect.proxy_count > 0;
    if (!read_saved(a, &e)) {
        json_t *bad = json_pack("{s:s}", "error", err_text(&e));
        err_fini(&e);
        return bad;
    }
    proxy_kit_forgive(a->o->connect.proxy_kit);
    for (size_t i = 0; i < a->uplink_count && !told && a->life == AGENT_RUNNING; i++) {
        a->uplinks[i].ask_due = true; // of those that -W has not come to yet
        if (i < a->started)
            routes_ask(&a->uplinks[i]);
    }
    log_event(LOG_INFO, "conf_proxy has saved other proxies", LS("used", told ? "no: --proxy goes first" : "yes"));
    return json_pack("{s:b}", "told", (int)told);
}

void relays_reload(struct agent *a)
{
    struct err e = ERR_INIT;
    bool good = agent_state_reload(&a->state, &e) == 0;
    if (!good)
        log_event(LOG_ERROR, "reload: the old state stays", LS("reason", err_text(&e)));
    err_fini(&e);
    if (!read_saved(a, &e))
        log_event(LOG_ERROR, "reload: the old conf_proxy stays", LS("reason", err_text(&e)));
    err_fini(&e);
    proxy_kit_forgive(a->o->connect.proxy_kit);
    for (size_t i = 0; i < a->uplink_count; i++) {
        struct uplink *u = &a->uplinks[i];
        const struct agent_relay *r = good && !u->elsewhere ? agent_state_find(&a->state, &u->relay.url) : NULL;
        if (r)
            uplink_set_relay(u, r);
        uplink_revive(u);
        routes_ask(u);
        uplink_start(u);
    }
    a->started = a->uplink_count;
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

static int add(struct agent *a, const struct agent_connect *c, const struct agent_relay *relay, bool elsewhere,
               struct err *e)
{
    struct uplink *u = &a->uplinks[a->uplink_count++];
    int rc = uplink_init(u, &a->w, a->resolver, &a->budget, &a->lessons, relay, c, &a->saved, &a->state.id, &uplink_ops, a, e);
    u->chatter = agent_chatter(a);
    u->elsewhere = elsewhere;
    u->meet = u->session.meet = &a->meet;
    return rc;
}

// A relay may be reached by another URL than the one it was joined by: its key tells who it is.
static int add_told(struct agent *a, const struct agent_connect *c, const struct relay_url *told, struct err *e)
{
    struct agent_state *s = &a->state;
    const struct agent_relay *known = agent_state_find(s, told);
    char where[URL_TEXT_MAX];
    bool elsewhere = !known;
    for (size_t i = 0; i < a->uplink_count; i++) {
        if (agent_same_relay(&a->uplinks[i].relay.url, told))
            return err_set(e, ERR_USAGE, WHY_NONE, "--relay %s: named twice", relay_url_where(told, where));
    }
    if (!known)
        known = find_by_host(s, told->host);
    if (!known)
        return err_set(e, ERR_USAGE, WHY_NONE, "--relay %s: not joined, and there are several others: use an invitation "
                                               "of it with `culvert join`", relay_url_where(told, where));
    struct agent_relay relay = *known;
    if (elsewhere)
        relay.url = *told;
    int rc = add(a, c, &relay, elsewhere, e);
    OPENSSL_cleanse(&relay, sizeof(relay));
    return rc;
}

static int add_all(struct agent *a, const struct agent_connect *c, const struct relay_url *only, struct err *e)
{
    const struct agent_state *s = &a->state;
    if (only)
        return add_told(a, c, only, e);
    for (size_t i = 0; i < c->relay_count; i++) {
        if (add_told(a, c, &c->relays[i], e) < 0)
            return -1;
    }
    for (size_t i = s->relay_count; c->relay_count == 0 && i-- > 0;) {
        if (add(a, c, &s->relays[i], false, e) < 0)
            return -1;
    }
    return 0;
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
    meet_init(&a->meet, &a->w, UPLINK_PARK_MS);
    rank_init(&a->rank, a->o ? a->o->comeback_ms : 0, a->o && a->o->stdio, a->w.now_ms);
    if (add_all(a, c, only, e) < 0)
        return -1;
    for (size_t i = 0; i < a->uplink_count; i++) {
        a->uplinks[i].others = a->uplink_count > 1;
        a->uplinks[i].want = a->o && a->o->carriers ? a->o->carriers : 1;
    }
    return 0;
}

// -W is started for each ssh: it asks one relay after the other. An agent that stays keeps all of them.
static void start_next(struct agent *a)
{
    if (a->started == a->uplink_count)
        return;
    uplink_start(&a->uplinks[a->started++]);
    if (a->started < a->uplink_count)
        timer_set(&a->w, &a->stagger, STAGGER_MS);
}

void relays_on_stagger(struct timer *timer)
{
    struct agent *a = container_of(timer, struct agent, stagger);
    if (a->rank.home == RANK_NONE)
        start_next(a);
}

void relays_start(struct agent *a)
{
    a->rank.start_ms = a->w.now_ms;
    bool all = !a->o || !a->o->stdio || a->o->stdio->kind == SPEC_SERVICE; // its agent may be anywhere
    do
        start_next(a);
    while (all && a->started < a->uplink_count);
}
