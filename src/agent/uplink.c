// SPDX-License-Identifier: Apache-2.0
#include "agent/uplink.h"
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/log.h"
#include "link/h2.h"
#include "link/tls.h"

#define HANDSHAKE_TRIPS 4 // from a connection to WELCOME: outer TLS, WebSocket, inner TLS, HELLO

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
    *o = (struct dial_options){.relay = &u->relay.url, .kit = c->proxy_kit, .host = c->host, .sni = c->sni,
                               .pins = u->pins, .hubs = &u->hubs};
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
    u->given_up_count = 0;
    u->missing = false;
    u->session.meet = u->meet;
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

static void keep(struct uplink *u);
static void on_settle(struct wake *wake);
static void on_hedge(struct timer *timer);
static void on_better(struct timer *timer);

static void on_retry(struct timer *timer)
{
    struct uplink *u = container_of(timer, struct uplink, retry);
    if (uplink_is_up(u))
        keep(u);
    else
        uplink_start(u);
}

int uplink_init(struct uplink *u, struct worker *w, struct resolver *r, struct budget *budget, struct lessons *lessons,
                const struct agent_relay *relay, const struct agent_connect *c, const struct saved_proxy *saved, const struct identity *id, const struct uplink_ops *ops, void *owner,
                struct err *e)
{
    *u = (struct uplink){.w = w, .resolver = r, .budget = budget, .lessons = lessons, .want = 1, .relay = *relay, .ops = ops, .owner = owner,
                         .peel = !c->peel_never};
    list_init(&u->hubs);
    timer_init(&u->retry, on_retry);
    timer_init(&u->park, on_park_over);
    timer_init(&u->hedge, on_hedge);
    timer_init(&u->better, on_better);
    wake_init(&u->settle, on_settle);
    for (size_t i = 0; i < UPLINK_LANES; i++)
        lane_init(&u->lanes[i], u);
    worker_random(w, u->instance, sizeof(u->instance));
    new_session(u);
    snprintf(u->name, sizeof(u->name), "%s", relay->name);
    u->connect = c;
    u->saved = saved;
    u->chatter = LOG_INFO;
    u->paths_options = (struct paths_options){.dial = &u->dial_options, .transports = c->transports.count ? c->transports : transports_usual,
                                              .reach_ms = AGENT_OPEN_MS, .on_network = lane_recall};
    if (routes_init(u, e) < 0)
        return -1;
    return make_options(u, c, id, e);
}

void uplink_fini(struct uplink *u)
{
    if (!u->w)
        return;
    uplink_drop(u);
    timer_stop(u->w, &u->park);
    wake_cancel(&u->settle);
    session_fini(&u->session, NULL);
    SSL_CTX_free(u->dial_options.outer);
    SSL_CTX_free(u->dial_options.inner);
    h2_free_all(&u->hubs);
    routes_fini(u);
    free(u->headers);
    u->headers = NULL;
    OPENSSL_cleanse(&u->relay, sizeof(u->relay));
    u->w = NULL;
}

// --- lanes

enum uplink_state uplink_state(const struct uplink *u)
{
    static const enum uplink_state of_lane[] = {UPLINK_DOWN, UPLINK_DIALLING, UPLINK_OPENING, UPLINK_UP};
    enum uplink_state best = u->find.busy && u->routes.count == 0 ? UPLINK_DIALLING : UPLINK_DOWN;
    for (size_t i = 0; i < UPLINK_LANES; i++) {
        enum uplink_state one = of_lane[u->lanes[i].state];
        best = one > best ? one : best;
    }
    return best;
}

const struct lane *uplink_lane(const struct uplink *u)
{
    const struct lane *best = NULL;
    for (size_t i = 0; i < UPLINK_LANES; i++) {
        const struct lane *l = &u->lanes[i];
        if (l->state == LANE_UP && (!best || lane_is_good(l) > lane_is_good(best)))
            best = l;
    }
    return best;
}

const struct link_facts *uplink_facts(const struct uplink *u)
{
    const struct lane *l = uplink_lane(u);
    return l ? conn_facts(l->conn) : NULL;
}

static unsigned count(const struct uplink *u, bool (*is)(const struct lane *l))
{
    unsigned n = 0;
    for (size_t i = 0; i < UPLINK_LANES; i++)
        n += is(&u->lanes[i]);
    return n;
}

static bool is_up(const struct lane *l) { return l->state == LANE_UP; }
static bool is_rising(const struct lane *l) { return lane_is_rising(l); }

static uint32_t open_ms(const struct uplink *u, bool ways);

static struct lane *free_lane(struct uplink *u)
{
    for (size_t i = 0; i < UPLINK_LANES; i++) {
        if (u->lanes[i].state == LANE_FREE)
            return &u->lanes[i];
    }
    return NULL;
}

static void dial_one(struct uplink *u)
{
    struct lane *l = free_lane(u);
    timer_stop(u->w, &u->retry);
    if (!l || !routes_ready(u))
        return;
    u->paths_options.open_ms = open_ms(u, u->others);
    u->dial_options.fresh = count(u, is_up) > count(u, lane_is_good);
    timer_set(u->w, &u->hedge, UPLINK_HEDGE_MS);
    u->attempts++;
    lane_dial(l, count(u, is_rising) > 0);
}

// A way that comes back shall be found at once: TCP repeats its SYN ever more seldom.
static void on_hedge(struct timer *timer)
{
    struct uplink *u = container_of(timer, struct uplink, hedge);
    if (u->out || u->session.stream_count == 0 || count(u, lane_is_good) > 0 || count(u, is_rising) == 0)
        return;
    timer_set(u->w, &u->hedge, UPLINK_HEDGE_MS);
    dial_one(u);
}

// Beside those that stand, one at a time: what was lost, is suspect or is still wanted.
static void keep(struct uplink *u)
{
    uint64_t now = u->w->now_ms;
    if (u->out || !uplink_is_up(u) || u->session.goaway_sent || u->session.goaway_due || timer_is_set(&u->retry) ||
        count(u, is_rising) > 0 || count(u, lane_is_good) >= u->want)
        return;
    uint64_t next = u->beside_ms + UPLINK_BESIDE_MS;
    if (next < u->not_before_ms)
        next = u->not_before_ms;
    if (u->beside_ms && now < next) {
        timer_set(u->w, &u->retry, next - now);
        return;
    }
    u->beside_ms = now;
    dial_one(u);
}

static void give_up_number(struct uplink *u, uint32_t number)
{
    if (u->given_up_count == FRAME_GIVEN_UP_MAX)
        memmove(u->given_up, u->given_up + 1, --u->given_up_count * sizeof(u->given_up[0]));
    u->given_up[u->given_up_count++] = number;
}

// Of those that stand well the one on the worst way, or else the youngest, which has the fewest streams.
static struct lane *least(struct uplink *u)
{
    struct lane *least = NULL;
    for (size_t i = 0; i < UPLINK_LANES; i++) {
        struct lane *l = &u->lanes[i];
        if (!lane_is_good(l))
            continue;
        bool worse = !least || lane_is_better(least, l);
        if (worse || (!lane_is_better(l, least) && l->conn->hello.carrier > least->conn->hello.carrier))
            least = l;
    }
    return least;
}

// When enough stand well, attempts may end, those on a network of the past may go, with all their streams, and what is one too many: a suspect one
// had recovered.
static void retire(struct uplink *u)
{
    if (count(u, lane_is_good) < u->want)
        return;
    while (count(u, lane_is_good) > u->want) {
        struct lane *l = least(u);
        give_up_number(u, l->conn->hello.carrier);
        lane_drop(l);
    }
    for (size_t i = 0; i < UPLINK_LANES; i++) {
        struct lane *l = &u->lanes[i];
        if (lane_is_rising(l))
            lane_drop(l);
        if (l->state != LANE_UP || !l->stale)
            continue;
        give_up_number(u, l->conn->hello.carrier);
        lane_drop(l);
    }
}

// --- better ways

static void plan_better(struct uplink *u, uint64_t in_ms)
{
    static const uint32_t times[] = UPLINK_BETTER_MS;
    size_t last = sizeof(times) / sizeof(times[0]) - 1;
    const struct lane *l = least(u);
    if (!l || lane_is_best(l)) {
        timer_stop(u->w, &u->better);
        u->better_round = 0;
    } else if (in_ms || !timer_is_set(&u->better)) {
        timer_set(u->w, &u->better, in_ms ? in_ms : times[u->better_round < last ? u->better_round : last]);
    }
}

// The better way is made before the one that stands is broken: when it stands, retire() ends the other.
static void on_better(struct timer *timer)
{
    struct uplink *u = container_of(timer, struct uplink, better);
    const struct lane *worst = least(u);
    struct lane *l = free_lane(u);
    bool ends = u->out || u->session.goaway_sent || u->session.goaway_due || u->session.goaway_seen;
    if (count(u, is_rising) > 0) { // one after the other
        timer_set(u->w, &u->better, UPLINK_BETTER_SOON_MS);
        return;
    }
    if (l && worst && !ends && !lane_is_best(worst)) {
        u->paths_options.open_ms = open_ms(u, true);
        lane_dial_better(l, &worst->way);
    }
    u->better_round++;
    plan_better(u, 0);
}

static void log_better(const struct lane *l)
{
    char where[URL_TEXT_MAX];
    const struct link_facts *f = conn_facts(l->conn);
    log_event(LOG_INFO, "moved to a better path", LS("relay", relay_url_where(&l->u->relay.url, where)), LS("path", f ? f->path : ""),
              LS("transport", f ? f->transport : ""), LN("mss", f ? f->mss : 0));
}

static void drop_better(struct uplink *u)
{
    for (size_t i = 0; i < UPLINK_LANES; i++) {
        if (lane_is_rising(&u->lanes[i]) && u->lanes[i].better)
            lane_drop(&u->lanes[i]);
    }
}

// --- down

static void note_missing(struct uplink *u, const char *why)
{
    u->ended_ms = u->w->now_ms;
    snprintf(u->ended, sizeof(u->ended), "%s", why);
    if (u->missing)
        return;
    u->missing = true;
    u->missing_ms = u->w->now_ms;
}

// What its end teaches of the network: nothing when somebody meant it.
static void learn(struct lane *l, const struct err *err)
{
    struct uplink *u = l->u;
    bool cut = err->kind == ERR_UNREACHED || err->why == WHY_ABORTED; // reset, silent, or ended below a TLS that was not
    bool unexplained = cut && err->why != WHY_MOVED && !l->stale && !u->session.goaway_seen &&
                       !u->session.goaway_sent;
    struct liveness *live = &l->conn->carrier.live;
    liveness_lost(live, unexplained, u->w->now_us);
    lessons_set(u->lessons, l->route.key, &live->lesson, u->w->now_ms);
    for (size_t i = 0; i < UPLINK_LANES; i++) { // what stands was dialled before this was known
        struct lane *other = &u->lanes[i];
        if (other->state == LANE_UP && strcmp(other->route.key, l->route.key) == 0)
            other->lesson = other->conn->carrier.live.lesson = live->lesson;
    }
}

static void lane_ended(struct lane *l, const struct err *err)
{
    struct uplink *u = l->u;
    const struct carrier *c = &l->conn->carrier;
    learn(l, err);
    give_up_number(u, l->conn->hello.carrier);
    u->eager = u->w->now_ms - l->up_ms >= UPLINK_STEADY_MS || c->bytes_in + c->bytes_out >= UPLINK_STEADY_BYTES;
}

// A carrier ended, and others stand.
static void lost_beside(struct uplink *u, const struct err *err, bool replaced)
{
    char where[URL_TEXT_MAX];
    log_event(replaced ? LOG_DEBUG : LOG_WARN, "one of several connections lost", LS("relay", relay_url_where(&u->relay.url, where)),
              LS("reason", err_text(err)), LN("left", count(u, is_up)));
    if (!replaced)
        note_missing(u, err_text(err));
    keep(u);
}

// An attempt failed, and others stand.
static void failed_beside(struct uplink *u, const struct err *err, const struct frame_welcome *refusal)
{
    char where[URL_TEXT_MAX], why[ERR_WHOLE_MAX];
    log_event(LOG_INFO, "no further connection", LS("relay", relay_url_where(&u->relay.url, where)),
              LS("reason", err_whole(err, why, sizeof why)));
    u->eager = false;
    uplink_retry(u, 0, refusal ? refusal->retry_ms : UPLINK_BESIDE_MS);
}

static void none_left(struct uplink *u, const struct err *err, const struct frame_welcome *refusal, bool was_up)
{
    u->failures = was_up ? 0 : u->failures + 1;
    u->tried |= !was_up;
    if (was_up) {
        note_missing(u, err_text(err));
        timer_set(u->w, &u->park, UPLINK_PARK_MS);
        if (u->eager)
            backoff_reset(&u->backoff);
    }
    if (!was_up && !refusal && count(u, is_rising) > 0)
        return;
    if (!was_up)
        routes_doubt(u, ROUTES_DOUBT_MS);
    u->ops->on_down(u, err, refusal, was_up);
}

// Something on the way changed what passed: counted, and told once for each connection it cost.
static void note_tampered(struct lane *l, const struct err *err)
{
    const struct link_facts *f = l->conn ? conn_facts(l->conn) : NULL;
    char where[URL_TEXT_MAX];
    l->u->tampered++;
    log_event(LOG_WARN, "integrity failure: bytes were changed on the way and are not taken",
              LS("relay", relay_url_where(&l->u->relay.url, where)), LS("issuer", f ? f->tls_issuer : ""),
              LS("reason", err_text(err)), LN("failures", l->u->tampered));
}

void uplink_on_lane_down(struct lane *l, const struct err *err, const struct frame_welcome *refusal)
{
    struct uplink *u = l->u;
    struct err why = ERR_INIT;
    struct frame_welcome said = refusal ? *refusal : (struct frame_welcome){0};
    bool was_up = l->state == LANE_UP, better = !was_up && l->better, replaced = was_up && !lane_is_good(l);
    err_copy(&why, err); // err and refusal live in what is dropped here
    err_whole(&why, u->last_error, sizeof(u->last_error));
    if (!better)
        u->paths_options.avoid = was_up ? (struct addr){0} : l->paths.reached;
    if (why.advice == ADVICE_TAMPERED)
        note_tampered(l, &why);
    if (was_up)
        lane_ended(l, &why);
    lane_drop(l);
    if (was_up)
        drop_better(u); // it may be the way that is left
    if (better && uplink_is_up(u))
        log_event(LOG_DEBUG, "no better path", LS("reason", u->last_error));
    else if (!uplink_is_up(u))
        none_left(u, &why, refusal ? &said : NULL, was_up);
    else if (was_up)
        lost_beside(u, &why, replaced);
    else
        failed_beside(u, &why, refusal ? &said : NULL);
    err_fini(&why);
}

void uplink_on_no_routes(struct uplink *u, const struct err *err)
{
    err_whole(err, u->last_error, sizeof(u->last_error));
    none_left(u, err, NULL, false);
}

void uplink_go_on(struct uplink *u)
{
    if (uplink_is_up(u)) {
        u->beside_ms = 0;
        if (!timer_is_set(&u->retry))
            keep(u);
    } else {
        uplink_start(u);
    }
}

void uplink_drop(struct uplink *u)
{
    find_stop(&u->find);
    for (size_t i = 0; i < UPLINK_LANES; i++) {
        if (u->lanes[i].state == LANE_UP)
            give_up_number(u, u->lanes[i].conn->hello.carrier);
        lane_drop(&u->lanes[i]);
    }
    timer_stop(u->w, &u->retry);
    timer_stop(u->w, &u->hedge);
    timer_stop(u->w, &u->better);
    u->better_round = 0;
}

void uplink_on_suspect(struct uplink *u, struct carrier *c)
{
    char where[URL_TEXT_MAX];
    log_event(LOG_DEBUG, "connection suspect", LS("relay", relay_url_where(&u->relay.url, where)), LN("carrier", c->number),
              LN("rtt_ms", c->live.srtt_us / 1000));
    note_missing(u, "PING was not answered");
    keep(u);
}

// --- the network

static void lose(struct lane *l, const char *fmt, const char *what)
{
    struct err e = ERR_INIT;
    err_set(&e, ERR_UNREACHED, WHY_MOVED, fmt, what);
    l->stale = true; // nobody is to be blamed for its silence
    uplink_on_lane_down(l, &e, NULL);
    err_fini(&e);
}

static void lane_on_change(struct lane *l)
{
    const struct link_facts *f = conn_facts(l->conn);
    struct network_route now;
    char host[ADDR_TEXT_MAX];
    if (!f)
        return;
    if (!network_is_local(&f->local)) {
        lose(l, "this machine has lost the address %s", addr_host(&f->local, host));
        return;
    }
    if (network_route(&f->peer, &now) && network_same_route(&now, &l->route))
        return;
    l->stale = true;
    note_missing(l->u, "the network has changed");
    carrier_hurry(&l->conn->carrier);
}

static void lane_on_network(struct lane *l, enum network_event what)
{
    struct uplink *u = l->u;
    if (lane_is_rising(l) && u->w->now_ms - l->began_ms >= UPLINK_REDIAL_MS) {
        lane_drop(l);
    } else if (l->state == LANE_UP && what == NETWORK_CHANGED) {
        lane_on_change(l);
    } else if (l->state == LANE_UP) {
        l->stale = true;
        note_missing(u, "this machine slept");
        carrier_hurry(&l->conn->carrier);
    }
}

void uplink_on_network(struct uplink *u, enum network_event what)
{
    for (size_t i = 0; i < UPLINK_LANES; i++)
        lane_on_network(&u->lanes[i], what);
    backoff_reset(&u->backoff);
    routes_doubt(u, ROUTES_NETWORK_MS);
    if (!uplink_is_up(u)) {
        uplink_start(u);
    } else if (count(u, lane_is_good) < u->want) {
        timer_stop(u->w, &u->retry);
        u->beside_ms = 0;
        keep(u);
    }
    plan_better(u, UPLINK_BETTER_SOON_MS);
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
    const struct lane *l = uplink_lane(u);
    return l && !u->session.goaway_seen && !l->conn->carrier.live.suspect;
}

static void end_silent(struct lane *l)
{
    struct err e = ERR_INIT;
    err_set(&e, ERR_UNREACHED, WHY_TIMEOUT, "the other end does not answer PING any more");
    if (l->conn->carrier.live.suspect)
        learn(l, &e);
    err_fini(&e);
    l->stale = true;
}

// What this HELLO called given up ends at the relay now, also if it has recovered.
static void end_given_up(struct uplink *u, const struct frame_hello *told)
{
    for (size_t i = 0; i < UPLINK_LANES; i++) {
        struct lane *l = &u->lanes[i];
        for (unsigned k = 0; l->state == LANE_UP && k < told->given_up_count; k++)
            if (told->given_up[k] == l->conn->hello.carrier)
                end_silent(l);
    }
}

// Of carriers that the relay was told of by this HELLO nothing more is to be said.
static void forget_given_up(struct uplink *u, const struct frame_hello *told)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < u->given_up_count; i++) {
        bool known = false;
        for (unsigned k = 0; k < told->given_up_count; k++)
            known |= told->given_up[k] == u->given_up[i];
        if (!known)
            u->given_up[kept++] = u->given_up[i];
    }
    u->given_up_count = kept;
}

static void log_repair(struct uplink *u, const struct lane *l, bool fresh)
{
    char where[URL_TEXT_MAX];
    const struct link_facts *f = conn_facts(l->conn);
    u->took_ms = u->w->now_ms - u->missing_ms;
    u->resumed += !fresh;
    log_event(LOG_INFO, "reconnected", LS("relay", relay_url_where(&u->relay.url, where)), LS("reason", u->ended),
              LN("took_ms", u->took_ms), LN("streams", u->session.stream_count), LS("resumed", fresh ? "no" : "yes"),
              LN("carrier", l->conn->hello.carrier), LS("path", f ? f->path : ""), LS("transport", f ? f->transport : ""));
}

static void take_birth(struct uplink *u, const struct frame_welcome *welcome, bool fresh)
{
    struct session *s = &u->session;
    if (fresh && s->has_birth) {
        struct err e = ERR_INIT;
        err_set(&e, ERR_FAILED, WHY_LOST, "the relay has a new session: the old one's streams are lost");
        if (s->meet)
            meet_cast(s->meet, s, false); // streams between agents go on
        session_end_streams(s, &e);
        session_detach(s);
        err_fini(&e);
    }
    memcpy(s->birth, welcome->birth, sizeof(s->birth));
    s->has_birth = true;
}

bool uplink_on_lane_up(struct lane *l, const struct frame_welcome *welcome)
{
    struct uplink *u = l->u;
    const struct session *s = &u->session;
    bool fresh = !s->has_birth || CRYPTO_memcmp(s->birth, welcome->birth, sizeof(s->birth)) != 0;
    bool first = count(u, is_up) == 1;
    take_birth(u, welcome, fresh);
    forget_given_up(u, &l->conn->hello);
    end_given_up(u, &l->conn->hello);
    u->ups++;
    u->tried = false;
    u->failures = 0;
    note_rtt(u, (uint32_t)((u->w->now_us - l->open_us) / HANDSHAKE_TRIPS));
    timer_stop(u->w, &u->park);
    u->last_error[0] = 0;
    snprintf(u->name, sizeof(u->name), "%s", welcome->name);
    if (u->missing)
        log_repair(u, l, fresh);
    if (first || fresh)
        u->ops->on_up(u, welcome, fresh);
    u->missing = false;
    if (l->better) {
        log_better(l);
        u->better_round = 0;
        timer_set(u->w, &u->better, UPLINK_BETTER_SOON_MS); // for the other carriers
    }
    wake_post(u->w, &u->settle);
    return true;
}

// A carrier stands now: others may be wanted, or not be any more.
static void on_settle(struct wake *wake)
{
    struct uplink *u = container_of(wake, struct uplink, settle);
    retire(u);
    keep(u);
    plan_better(u, 0);
}

// An attempt that hangs must not keep the others waiting, nor may a slow path be given up too soon for ever.
static uint32_t open_ms(const struct uplink *u, bool ways)
{
    uint32_t first = u->paths_options.transports.count > 1 ? UPLINK_TRY_ALL_MS : UPLINK_TRY_MS;
    uint32_t doubled = first << (u->failures < 3 ? u->failures : 3);
    return ways && doubled < AGENT_OPEN_MS ? doubled : AGENT_OPEN_MS;
}

uint32_t uplink_open_ms(const struct uplink *u, const struct lane *l) { return open_ms(u, u->others || l->paths.addresses > 1); }

void uplink_hello(struct uplink *u, struct frame_hello *hello)
{
    *hello = (struct frame_hello){.ver_min = 1, .ver_max = 1, .carrier = ++u->session.carrier_number};
    memcpy(hello->session, u->session.id, sizeof(hello->session));
    memcpy(hello->instance, u->instance, sizeof(hello->instance));
    hello->has_token = u->relay.has_token;
    if (hello->has_token)
        memcpy(hello->token, u->relay.token, sizeof(hello->token));
    memcpy(hello->given_up, u->given_up, sizeof(u->given_up));
    hello->given_up_count = u->given_up_count;
    for (size_t i = 0; i < UPLINK_LANES && hello->given_up_count < FRAME_GIVEN_UP_MAX; i++) {
        const struct lane *l = &u->lanes[i];
        if (l->state == LANE_UP && l->conn->carrier.live.suspect) // it ends when this one stands
            hello->given_up[hello->given_up_count++] = l->conn->hello.carrier;
    }
}

// --- dialling

void uplink_start(struct uplink *u)
{
    if (uplink_state(u) != UPLINK_DOWN || u->out)
        return;
    if (u->w->now_ms < u->not_before_ms) {
        timer_set(u->w, &u->retry, u->not_before_ms - u->w->now_ms);
        return;
    }
    dial_one(u);
}

void uplink_retry(struct uplink *u, uint32_t cap_ms, uint32_t least_ms)
{
    uint32_t random;
    worker_random(u->w, &random, sizeof(random));
    uint32_t ms = u->eager ? 0 : backoff_next(&u->backoff, random, cap_ms);
    u->eager = false;
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
    plan_better(u, UPLINK_BETTER_SOON_MS);
}

bool uplink_send_end(struct uplink *u)
{
    bool all = !u->session.goaway_due;
    for (size_t i = 0; i < UPLINK_LANES; i++)
        all &= u->lanes[i].state != LANE_UP || !u->lanes[i].conn->carrier.goaway_due;
    for (size_t i = 0; all && i < UPLINK_LANES; i++) {
        if (u->lanes[i].state == LANE_UP)
            link_shut(u->lanes[i].conn->top, SHUT_END);
    }
    return all;
}
