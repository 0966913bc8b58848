// SPDX-License-Identifier: Apache-2.0
// The agent's life: state, uplink, forwards, signals, drain, goodbye.
#include "agent/agent.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "agent/inside.h"
#include "core/footprint.h"
#include "core/log.h"
#include "core/machine.h"
#include "forward/flow.h"

#define MEMORY_MAX (256u * 1024 * 1024)
#define TICK_MS 20

void agent_check(struct agent *a) { wake_post(&a->w, &a->check); }

enum log_level agent_chatter(const struct agent *a) { return a->o && a->o->stdio ? LOG_DEBUG : LOG_INFO; }

// --- goodbye

static void stop(struct agent *a) { worker_stop(&a->w); }

static void say_goodbye(struct uplink *u)
{
    struct session *s = &u->session;
    if (uplink_is_up(u) && !s->goaway_sent && !s->goaway_due)
        session_goaway(s, 0, 0, "the agent ends");
}

// Our last frames leave with the end of the stack behind them; the relays' ends, or our patience, end it.
static void leave(struct agent *a)
{
    a->life = AGENT_LEAVING;
    a->drain_until_ms = a->w.now_ms + AGENT_LEAVE_MS;
    if (relays_up(a) == 0) {
        stop(a);
        return;
    }
    for (size_t i = 0; i < a->uplink_count; i++)
        say_goodbye(&a->uplinks[i]);
    timer_set(&a->w, &a->tick, TICK_MS);
}

static void tick_leaving(struct agent *a)
{
    if (a->w.now_ms >= a->drain_until_ms || relays_up(a) == 0) {
        stop(a);
        return;
    }
    for (size_t i = 0; i < a->uplink_count; i++) {
        struct uplink *u = &a->uplinks[i];
        if (uplink_is_up(u) && !u->end_sent)
            u->end_sent = uplink_send_end(u);
    }
    timer_set(&a->w, &a->tick, TICK_MS);
}

static size_t work_left(const struct agent *a)
{
    size_t streams = 0;
    for (size_t i = 0; i < a->uplink_count; i++) {
        const struct uplink *u = &a->uplinks[i];
        size_t listening = reverses_streams(a, u), all = u->session.stream_count - u->session.husks;
        streams += uplink_is_up(u) && all > listening ? all - listening : 0; // elsewhere only what has a conduit counts
    }
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
    a->life = AGENT_DRAINING;
    a->drain_until_ms = a->w.now_ms + a->o->drain_ms;
    locals_close(a);
    for (size_t i = 0; i < a->uplink_count; i++)
        say_goodbye(&a->uplinks[i]);
    log_event(agent_chatter(a), "draining", LN("streams", work_left(a)));
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

void agent_stop(struct agent *a, int status, const struct err *err)
{
    a->life = AGENT_LEAVING;
    if (a->status == 0)
        a->status = status;
    if (err && !err_is(&a->err))
        err_copy(&a->err, err);
    stop(a);
}

// --- signals

// There is nothing to drain or to read again; once the relay has welcomed us, only our goodbye is cut short.
static void end_join(struct agent *a, int signum)
{
    struct err e = ERR_INIT;
    if (a->life != AGENT_RUNNING) {
        stop(a);
        return;
    }
    err_set(&e, ERR_FAILED, WHY_ABORTED, "not joined: ended by %s; the same invitation may be tried again",
            signum == SIGHUP ? "SIGHUP" : signum == SIGINT ? "SIGINT" : "SIGTERM");
    agent_stop(a, ERR_FAILED, &e);
    err_fini(&e);
}

static void on_signal(uv_signal_t *h, int signum)
{
    struct agent *a = h->data;
    worker_clock(&a->w);
    if (a->joining)
        end_join(a, signum);
    else if (signum == SIGHUP && !(a->o && a->o->stdio)) // ssh hangs up on its ProxyCommand when it is done
        relays_reload(a);
    else if (a->life != AGENT_RUNNING)
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
    } else if (!a->ready_told && relays_settled(a) && reverses_settled(a)) {
        a->ready_told = true;
        agent_tell_ready(a);
        footprint_shrink();
    }
}

// --- start and end

static int init(struct agent *a, const char *dir, bool make, struct err *e)
{
    int rc = worker_init(&a->w, 0, 1);
    if (rc < 0)
        return err_set(e, ERR_FAILED, WHY_NONE, "the event loop cannot be made: %s", uv_strerror(rc));
    a->w.role = a;
    a->since = (uint64_t)time(NULL);
    machine_raise_descriptors();
    timer_init(&a->tick, on_tick);
    timer_init(&a->review, relays_on_review);
    timer_init(&a->stagger, relays_on_stagger);
    timer_init(&a->again, relays_on_again);
    wake_init(&a->check, on_check);
    budget_init(&a->budget, machine_quarter(MEMORY_MAX), NULL);
    a->has_budget = true;
    if (agent_state_open(&a->state, dir, make, e) < 0)
        return -1;
    if (!a->state.id.key)
        return err_set(e, ERR_USAGE, WHY_NONE, "there is no key in %s: use an invitation with `culvert join` first", dir);
    if (saved_proxy_read(&a->saved, dir, e) < 0)
        return -1;
    lessons_open(&a->lessons, dir);
    a->resolver = resolver_new(&a->w, e);
    return a->resolver ? 0 : -1;
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
    if (init(a, a->o->state, false, e) < 0 || relays_init(a, &a->o->connect, NULL, e) < 0)
        return -1;
    adrift_init(a);
    forward_init(&a->fw, &a->w, a->resolver, a->o->udp_idle_ms);
    a->has_forward = true;
    if (a->uplink_count > 1) {
        a->fw.elsewhere = relays_elsewhere;
        a->fw.elsewhere_owner = a;
    }
    if (sealing_init(a, e) < 0 || locals_open(a, e) < 0 || reverses_init(a, e) < 0)
        return -1;
    watch_signals(a);
    network_start(&a->network, &a->w, relays_on_network, a);
    relays_start(a);
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
    http_proxy_free(a->http);
    socks_server_free(a->socks);
    socks_server_free(a->reverse_socks);
    if (a->has_forward)
        forward_fini(&a->fw);
    sealing_fini(a);
    for (size_t i = 0; i < a->uplink_count; i++)
        uplink_fini(&a->uplinks[i]);
    adrift_fini(a);
    network_stop(&a->network);
    lessons_close(&a->lessons, a->w.now_ms);
    timer_stop(&a->w, &a->tick);
    timer_stop(&a->w, &a->review);
    timer_stop(&a->w, &a->stagger);
    timer_stop(&a->w, &a->again);
    wake_cancel(&a->check);
    worker_turn(&a->w); // burials
    worker_turn(&a->w);
    resolver_free(a->resolver);
    if (a->has_budget)
        budget_fini(&a->budget);
    policy_free(a->policy);
    agent_state_fini(&a->state);
    saved_proxy_wipe(&a->saved);
    free(a->locals);
    free(a->reverses);
    free(a->uplinks);
}

static void say(const struct err *e)
{
    char room[ERR_WHOLE_MAX];
    const char *text = err_whole(e, room, sizeof(room));
    if (log_enabled(LOG_ERROR))
        log_event(LOG_ERROR, "the agent ends", LS("reason", text));
    else
        fprintf(stderr, "culvert: %s\n", text);
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
    if (rc == 0)
        rc = relays_init(a, connect, &pairing->relay, &e);
    if (rc == 0) {
        watch_signals(a);
        relays_start(a);
        worker_run(&a->w);
    }
    if (rc == 0 && a->status == ERR_POLICY) {
        struct err ignored = ERR_INIT;
        agent_state_forget(&a->state, &pairing->relay, &ignored);
        err_fini(&ignored);
    }
    return finish(a, rc, &e);
}
