// SPDX-License-Identifier: Apache-2.0
// Streams between agents whose session is lost, or whose relay is left: their sockets are held back, and each is asked for at
// one relay after the other, in the order of preference, until its other end has come there too.
#include "agent/inside.h"
#include "core/log.h"

#define LEAVE_MS 2000 // a relay that is gone for this long is left while another one stands
#define ASK_MS 2000   // all relays are asked once in this time
#define TICK_MS 500

static bool has_other(const struct agent *a, const struct uplink *u)
{
    for (size_t i = 0; i < a->uplink_count; i++)
        if (&a->uplinks[i] != u && uplink_is_good(&a->uplinks[i]))
            return true;
    return false;
}

static void set_timer(struct agent *a, uint32_t ms)
{
    uint64_t due = a->w.now_ms + ms;
    if (a->life != AGENT_LEAVING && (!timer_is_set(&a->adrift) || a->adrift.due_ms > due))
        timer_set(&a->w, &a->adrift, ms);
}

// Asking -----------------------------------------------------------------------------------------------------------

static void on_adrift(struct meet *m)
{
    struct agent *a = m->owner;
    set_timer(a, ASK_MS / (a->uplink_count ? (uint32_t)a->uplink_count : 1));
}

struct asking {
    struct agent *a;
    size_t order[AGENT_RELAYS];
    size_t asked, lost;
};

static void lose(struct tie *t)
{
    struct err e = ERR_INIT;
    err_set(&e, ERR_FAILED, WHY_LOST, "%s: the other agent did not come back to any relay within %d minutes", t->host,
            UPLINK_PARK_MS / 60000);
    meet_unask(t);
    meet_lose(t, &e);
    err_fini(&e);
}

// The next good relay in the order, other than the one where the stream waits for its answer.
static struct uplink *next_relay(struct asking *q, struct tie *t)
{
    struct agent *a = q->a;
    for (size_t i = 0; i < a->uplink_count; i++) {
        struct uplink *u = &a->uplinks[q->order[(t->turn + i) % a->uplink_count]];
        if (!uplink_is_good(u) || (!meet_is_adrift(t) && stream_session(t->st) == &u->session))
            continue;
        t->turn = (uint8_t)((t->turn + i + 1) % a->uplink_count);
        return u;
    }
    return NULL;
}

static void ask_one(struct tie *t, void *ctx)
{
    struct asking *q = ctx;
    uint64_t now = q->a->w.now_ms;
    if (!t->adrift_ms)
        return;
    if (now - t->adrift_ms > UPLINK_PARK_MS) {
        lose(t);
        q->lost++;
        return;
    }
    uint32_t pace = ASK_MS / (uint32_t)q->a->uplink_count;
    if (t->asked_ms && now - t->asked_ms < (meet_is_adrift(t) ? pace : ASK_MS))
        return;
    struct uplink *u = next_relay(q, t);
    if (!u)
        return;
    meet_unask(t);
    q->asked += meet_ask(t, &u->session);
}

static void leave_dead(struct agent *a)
{
    for (size_t i = 0; i < a->uplink_count; i++) {
        struct uplink *u = &a->uplinks[i];
        if (u->gone_ms && a->w.now_ms - u->gone_ms >= LEAVE_MS && has_other(a, u)) {
            adrift_leave(u, true);
            u->gone_ms = 0;
        } else if (u->gone_ms) {
            set_timer(a, TICK_MS);
        }
    }
}

static void on_timer(struct timer *timer)
{
    struct agent *a = container_of(timer, struct agent, adrift);
    struct asking q = {.a = a};
    if (a->life == AGENT_LEAVING)
        return;
    leave_dead(a);
    relays_order(a, q.order);
    meet_each(&a->meet, ask_one, &q);
    if (q.lost)
        log_event(LOG_WARN, "streams ended: their other agents did not come back", LN("streams", q.lost));
    if (a->meet.adrift_count)
        set_timer(a, TICK_MS);
}

// Coming and going ---------------------------------------------------------------------------------------------------

static void ask_here(struct tie *t, void *ctx)
{
    struct uplink *u = ctx;
    if (meet_is_adrift(t))
        meet_ask(t, &u->session);
}

void adrift_up(struct uplink *u)
{
    struct agent *a = u->owner;
    u->gone_ms = 0;
    if (!a->meet.adrift_count)
        return;
    log_event(agent_chatter(a), "asking for streams that lost their relay", LN("streams", a->meet.adrift_count));
    meet_each(&a->meet, ask_here, u);
    set_timer(a, TICK_MS);
}

void adrift_down(struct uplink *u)
{
    struct agent *a = u->owner;
    u->gone_ms = a->w.now_ms;
    if (a->uplink_count > 1)
        set_timer(a, TICK_MS);
}

void adrift_leave(struct uplink *u, bool tell)
{
    struct agent *a = u->owner;
    if (a->life != AGENT_LEAVING && has_other(a, u))
        meet_cast(&a->meet, &u->session, tell);
}

size_t adrift_count(const struct agent *a) { return a->meet.adrift_count; }

void adrift_init(struct agent *a)
{
    timer_init(&a->adrift, on_timer);
    meet_start_limbo(&a->meet, a->uplinks[0].session.ops, &a->uplinks[0], &a->budget);
    a->meet.on_adrift = on_adrift;
    a->meet.owner = a;
}

void adrift_fini(struct agent *a)
{
    timer_stop(&a->w, &a->adrift);
    meet_fini(&a->meet, NULL);
}
