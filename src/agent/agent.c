// SPDX-License-Identifier: Apache-2.0
// The agent's life: state, uplink, forwards, signals, drain, goodbye.
#include "agent/agent.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include "agent/inside.h"
#include "core/log.h"
#include "forward/flow.h"

#define MEMORY_MAX (256u * 1024 * 1024)
#define TICK_MS 20
#define STEADY_MS 10000     // a carrier that stood this long,
#define STEADY_BYTES 131072 // or carried this much, makes the next wait short again
#define STREAM_RETRY_MS 1000 // longest wait between attempts while streams are held

void agent_check(struct agent *a) { wake_post(&a->w, &a->check); }

// -W shares its terminal with ssh: what goes well is not worth a line there.
static enum log_level chatter(const struct agent *a) { return a->o && a->o->stdio ? LOG_DEBUG : LOG_INFO; }

// --- the session

static void on_goaway(struct session *s, uint16_t code, uint32_t retry_ms, const char *text)
{
    log_event(LOG_INFO, "the relay is going away", LS("text", text), LN("code", code), LN("retry_ms", retry_ms));
}

static const struct session_ops session_ops = {
    .on_open = agent_on_open, .on_dgram = flow_on_dgram, .on_goaway = on_goaway};

static void new_session(struct agent *a, const struct err *why)
{
    uint8_t id[16];
    if (a->has_session)
        session_fini(&a->session, why);
    worker_random(&a->w, id, sizeof(id));
    session_init(&a->session, &a->w, true, id, &session_ops, a, &a->budget);
    a->has_session = true;
}

// Nobody waits for ever: what was held without a carrier is given up, and the next carrier carries a new session.
static void on_park_over(struct timer *timer)
{
    struct agent *a = container_of(timer, struct agent, park);
    struct err e = ERR_INIT;
    err_set(&e, ERR_UNREACHED, WHY_LOST, "no connection to the relay for %d minutes", AGENT_PARK_MS / 60000);
    uplink_drop(&a->uplink);
    new_session(a, &e);
    err_fini(&e);
    uplink_retry(&a->uplink, 0, 0);
}

// --- goodbye

static void stop(struct agent *a) { worker_stop(&a->w); }

// Our last frames leave with the end of the stack behind them; the relay's end, or our patience, ends it.
static void leave(struct agent *a)
{
    struct uplink *u = &a->uplink;
    a->life = AGENT_LEAVING;
    a->drain_until_ms = a->w.now_ms + AGENT_LEAVE_MS;
    if (u->state != UPLINK_UP) {
        stop(a);
        return;
    }
    if (!a->session.goaway_sent && !a->session.goaway_due)
        session_goaway(&a->session, 0, 0, "the agent ends");
    timer_set(&a->w, &a->tick, TICK_MS);
}

static void tick_leaving(struct agent *a)
{
    if (a->w.now_ms >= a->drain_until_ms || a->uplink.state != UPLINK_UP) {
        stop(a);
        return;
    }
    if (!a->session.goaway_due && !a->end_sent) {
        a->end_sent = true;
        link_shut(a->uplink.conn->top, SHUT_END);
    }
    timer_set(&a->w, &a->tick, TICK_MS);
}

static size_t work_left(const struct agent *a)
{
    size_t listening = reverses_streams(a);
    size_t streams = a->session.stream_count > listening ? a->session.stream_count - listening : 0;
    size_t flows = a->fw.flow_count; // a flow has no end to wait for
    return a->fw.conduit_count + (streams > flows ? streams - flows : 0);
}

static void tick_draining(struct agent *a)
{
    size_t left = work_left(a);
    if (left > 0 && a->w.now_ms < a->drain_until_ms) {
        timer_set(&a->w, &a->tick, TICK_MS);
        return;
    }
    if (left > 0)
        log_event(LOG_WARN, "drain: time is up", LN("streams_left", left));
    leave(a);
}

static void on_tick(struct timer *timer)
{
    struct agent *a = container_of(timer, struct agent, tick);
    if (a->life == AGENT_DRAINING)
        tick_draining(a);
    else if (a->life == AGENT_LEAVING)
        tick_leaving(a);
}

static void drain(struct agent *a)
{
    if (a->life != AGENT_RUNNING)
        return;
    uint32_t ms = a->o && a->o->drain_ms ? a->o->drain_ms : AGENT_DRAIN_MS;
    a->life = AGENT_DRAINING;
    a->drain_until_ms = a->w.now_ms + ms;
    locals_close(a);
    if (a->uplink.state == UPLINK_UP)
        session_goaway(&a->session, 0, 0, "the agent ends");
    log_event(chatter(a), "draining", LN("streams", work_left(a)));
    tick_draining(a);
}

void agent_end(struct agent *a, int status, const struct err *err)
{
    if (a->status == 0)
        a->status = status;
    if (err && !err_is(&a->err))
        err_copy(&a->err, err);
    if (a->life != AGENT_LEAVING)
        leave(a);
}

// --- the uplink

static void note_welcome(struct agent *a, const struct frame_welcome *w)
{
    struct agent_relay *r = a->relay;
    struct err e = ERR_INIT;
    bool same = !r->has_token && strcmp(r->name, w->name) == 0 && r->next_pin_count == w->next_pin_count &&
                memcmp(r->next_pins, w->next_pins, w->next_pin_count * PIN_SIZE) == 0;
    if (same || r == &a->elsewhere)
        return;
    // A blocking write, but one at the end of joining and one when the relay announces a key.
    if (agent_state_joined(&a->state, &r->url, w->name, w->next_pins, w->next_pin_count, &e) < 0) {
        log_event(LOG_ERROR, "the agent's state cannot be written", LS("reason", err_text(&e)));
        if (a->joining)
            agent_end(a, e.kind, &e);
    }
    err_fini(&e);
    uplink_pins(&a->uplink);
}

static void log_up(struct agent *a)
{
    const struct link_facts *f = uplink_facts(&a->uplink);
    const struct conn *c = a->uplink.conn;
    char where[URL_TEXT_MAX];
    log_event(chatter(a), "connected", LS("relay", relay_url_where(&a->relay->url, where)), LS("as", a->uplink.name),
              LS("path", f ? f->path : ""), LS("tls", f ? f->tls_version : ""), LS("peeled", c->peeled ? "yes" : "no"));
    if (f && f->tls_version[0] && !f->outer_trusted)
        log_event(LOG_WARN, "the relay's web certificate is not trusted; its identity key is, and all is sealed with it",
                  LS("reason", f->outer_reason), LS("issuer", f->tls_issuer));
}

static void on_up(void *owner, const struct frame_welcome *welcome, bool fresh)
{
    struct agent *a = owner;
    a->was_up = true;
    timer_stop(&a->w, &a->park);
    note_welcome(a, welcome);
    log_up(a);
    if (a->joining) {
        agent_end(a, 0, NULL);
        return;
    }
    if (fresh)
        reverses_ask(a);
    stdio_start(a);
    agent_check(a);
}

static bool is_final(const struct agent *a, const struct err *err, const struct frame_welcome *refusal)
{
    if (a->o && a->o->once)
        return true;
    if (refusal)
        return refusal->status == WELCOME_STOP;
    return err->kind == ERR_UNTRUSTED || err->kind == ERR_USAGE || a->joining;
}

static void on_down(void *owner, const struct err *err, const struct frame_welcome *refusal, bool was_up)
{
    struct agent *a = owner;
    uint32_t least = refusal && refusal->status != WELCOME_STOP ? refusal->retry_ms : 0;
    if (a->life == AGENT_LEAVING) {
        stop(a);
        return;
    }
    if (is_final(a, err, refusal)) {
        a->life = AGENT_LEAVING;
        if (a->status == 0)
            a->status = err->kind ? (int)err->kind : ERR_FAILED;
        if (!err_is(&a->err))
            err_copy(&a->err, err);
        stop(a);
        return;
    }
    if (was_up && (a->w.now_ms - a->uplink.up_ms >= STEADY_MS || a->uplink.carried >= STEADY_BYTES))
        backoff_reset(&a->uplink.backoff);
    if (was_up)
        timer_set(&a->w, &a->park, AGENT_PARK_MS);
    uplink_retry(&a->uplink, a->fw.conduit_count > 0 ? STREAM_RETRY_MS : 0, least);
    log_event(LOG_WARN, was_up ? "connection lost" : "no connection", LS("reason", err_text(err)),
              LN("retry_ms", a->uplink.retry.due_ms - a->w.now_ms));
}

// --- signals

static void reload(struct agent *a)
{
    struct err e = ERR_INIT;
    struct relay_url url = a->relay->url;
    if (agent_state_reload(&a->state, &e) < 0) {
        log_event(LOG_ERROR, "reload: the old state stays", LS("reason", err_text(&e)));
    } else if (a->relay != &a->elsewhere) {
        struct agent_relay *r = agent_state_find(&a->state, &url);
        if (r) {
            a->relay = r;
            a->uplink.relay = r;
            a->uplink.dial_options.relay = &r->url;
            uplink_pins(&a->uplink);
        }
    }
    err_fini(&e);
    backoff_reset(&a->uplink.backoff);
    uplink_start(&a->uplink);
    log_event(LOG_INFO, "reloaded");
}

static void on_signal(uv_signal_t *h, int signum)
{
    struct agent *a = h->data;
    worker_clock(&a->w);
    if (signum == SIGHUP && !(a->o && a->o->stdio)) // ssh hangs up on its ProxyCommand when it is done
        reload(a);
    else if (a->life != AGENT_RUNNING || a->joining)
        stop(a);
    else
        drain(a);
}

static void watch_signals(struct agent *a)
{
    static const int signums[] = {SIGHUP, SIGTERM, SIGINT};
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < 3; i++) {
        uv_signal_init(&a->w.loop, &a->signals[i]);
        a->signals[i].data = a;
        uv_signal_start(&a->signals[i], on_signal, signums[i]);
        uv_unref((uv_handle_t *)&a->signals[i]);
    }
}

static void on_check(struct wake *wake)
{
    struct agent *a = container_of(wake, struct agent, check);
    if (a->life != AGENT_RUNNING || a->joining)
        return;
    if (a->stdio_over) {
        drain(a);
    } else if (!a->ready_told && a->uplink.state == UPLINK_UP && reverses_settled(a)) {
        a->ready_told = true;
        agent_tell_ready(a);
    }
}

// --- start and end

static void raise_descriptors(void)
{
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < lim.rlim_max) {
        lim.rlim_cur = lim.rlim_max;
        setrlimit(RLIMIT_NOFILE, &lim);
    }
}

static size_t memory_max(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    size_t quarter = pages > 0 && size > 0 ? (size_t)pages / 4 * (size_t)size : MEMORY_MAX;
    return quarter < MEMORY_MAX ? quarter : MEMORY_MAX;
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
static int choose_relay(struct agent *a, const struct relay_url *told, struct err *e)
{
    struct agent_state *s = &a->state;
    char where[URL_TEXT_MAX];
    if (s->relay_count == 0)
        return err_set(e, ERR_USAGE, WHY_NONE, "no relay was joined with %s: use an invitation with `culvert join`", s->dir);
    a->relay = &s->relays[s->relay_count - 1];
    if (!told || (a->relay = agent_state_find(s, told)))
        return 0;
    struct agent_relay *known = find_by_host(s, told->host);
    if (!known)
        return err_set(e, ERR_USAGE, WHY_NONE, "--relay %s: not joined, and there are several others: use an invitation "
                                               "of it with `culvert join`", relay_url_where(told, where));
    a->elsewhere = *known;
    a->elsewhere.url = *told;
    a->relay = &a->elsewhere;
    return 0;
}

static int init(struct agent *a, const char *dir, bool make, struct err *e)
{
    int rc = worker_init(&a->w, 0, 1);
    if (rc < 0)
        return err_set(e, ERR_FAILED, WHY_NONE, "the event loop cannot be made: %s", uv_strerror(rc));
    a->w.role = a;
    a->since = (uint64_t)time(NULL);
    raise_descriptors();
    timer_init(&a->tick, on_tick);
    timer_init(&a->park, on_park_over);
    wake_init(&a->check, on_check);
    budget_init(&a->budget, memory_max(), NULL);
    new_session(a, NULL);
    if (agent_state_open(&a->state, dir, make, e) < 0)
        return -1;
    if (!a->state.id.key)
        return err_set(e, ERR_USAGE, WHY_NONE, "there is no key in %s: use an invitation with `culvert join` first", dir);
    a->resolver = resolver_new(&a->w, e);
    return a->resolver ? 0 : -1;
}

static int start_uplink(struct agent *a, const struct agent_connect *connect, struct err *e)
{
    const struct uplink_ops ops = {.on_up = on_up, .on_down = on_down, .owner = a};
    if (uplink_init(&a->uplink, &a->w, a->resolver, &a->session, a->relay, connect, &a->state.id, &ops, e) < 0)
        return -1;
    watch_signals(a);
    uplink_start(&a->uplink);
    return 0;
}

static void start_control(struct agent *a)
{
    struct err e = ERR_INIT;
    a->control = control_start(&a->w, a->o->state, "agent", &agent_control_ops, a, &e);
    if (!a->control)
        log_event(LOG_WARN, "no control socket: status and table will not work", LS("reason", err_text(&e)));
    err_fini(&e);
}

static int start(struct agent *a, struct err *e)
{
    if (init(a, a->o->state, false, e) < 0 || choose_relay(a, a->o->connect.relay, e) < 0)
        return -1;
    forward_init(&a->fw, &a->w, a->resolver, a->o->udp_idle_ms);
    a->has_forward = true;
    if (locals_open(a, e) < 0 || reverses_init(a, e) < 0 || start_uplink(a, &a->o->connect, e) < 0)
        return -1;
    start_control(a);
    return 0;
}

static void fini(struct agent *a)
{
    a->life = AGENT_LEAVING;
    control_stop(a->control);
    locals_close(a);
    if (a->reverses)
        reverses_close(a);
    socks_server_free(a->socks);
    socks_server_free(a->reverse_socks);
    if (a->has_forward)
        forward_fini(&a->fw);
    uplink_fini(&a->uplink);
    if (a->has_session)
        session_fini(&a->session, NULL);
    timer_stop(&a->w, &a->tick);
    timer_stop(&a->w, &a->park);
    wake_cancel(&a->check);
    worker_turn(&a->w); // burials
    worker_turn(&a->w);
    resolver_free(a->resolver);
    if (a->has_session)
        budget_fini(&a->budget);
    policy_put(a->policy);
    agent_state_fini(&a->state);
    free(a->locals);
    free(a->reverses);
}

static void say(const struct err *e)
{
    if (log_enabled(LOG_ERROR))
        log_event(LOG_ERROR, "the agent ends", LS("reason", err_text(e)));
    else
        fprintf(stderr, "culvert: %s\n", err_text(e));
}

static int finish(struct agent *a, int rc, struct err *e)
{
    int status = rc < 0 ? (e->kind ? (int)e->kind : ERR_FAILED) : a->status;
    const struct err *why = rc < 0 ? e : &a->err;
    if (err_is(why))
        say(why);
    fini(a);
    worker_fini(&a->w);
    err_fini(&a->err);
    err_fini(e);
    free(a);
    return status;
}

int agent_run(const struct agent_options *o)
{
    struct err e = ERR_INIT;
    struct agent *a = calloc(1, sizeof(*a));
    if (!a)
        abort();
    a->o = o;
    int rc = start(a, &e);
    if (rc == 0)
        worker_run(&a->w);
    return finish(a, rc, &e);
}

int agent_join(const char *state, const struct pairing *pairing, const struct agent_connect *connect)
{
    struct err e = ERR_INIT;
    struct agent *a = calloc(1, sizeof(*a));
    if (!a)
        abort();
    a->joining = true;
    int rc = init(a, state, true, &e);
    if (rc == 0)
        rc = agent_state_join(&a->state, pairing, &e);
    if (rc == 0) {
        a->relay = agent_state_find(&a->state, &pairing->relay);
        rc = start_uplink(a, connect, &e);
    }
    if (rc == 0)
        worker_run(&a->w);
    if (rc == 0 && a->status == ERR_POLICY) {
        struct err ignored = ERR_INIT;
        agent_state_forget(&a->state, &pairing->relay, &ignored);
        err_fini(&ignored);
    }
    return finish(a, rc, &e);
}
