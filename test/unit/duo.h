// SPDX-License-Identifier: Apache-2.0
// For tests: two sessions, an agent's and a relay's, on one worker, joined by carriers in memory.
#pragma once
#include <string.h>
#include "session/carrier.h"
#include "session/session.h"

struct duo_end {
    struct session s;
    struct carrier c;
    struct wake wake;
    struct timer tick;
    struct duo_end *other;
};

struct duo {
    struct worker *w;
    struct budget budget;
    struct duo_end agent, relay;
};

static inline void duo_on_output(struct carrier *c)
{
    struct duo_end *e = c->owner;
    wake_post(e->s.w, &e->wake);
}

static inline void duo_on_tick(struct timer *t) { carrier_tick(&container_of(t, struct duo_end, tick)->c); }

static inline void duo_on_wake(struct wake *wake)
{
    struct duo_end *e = container_of(wake, struct duo_end, wake);
    for (;;) {
        struct buf *b = buf_get(&e->s.w->pool);
        if (!carrier_fill(&e->c, b)) {
            buf_put(b);
            if (e->c.ack_due_us && !timer_is_set(&e->tick))
                timer_set(e->s.w, &e->tick, ACK_DELAY_US / 1000 + 1);
            return;
        }
        assert_int_equal(carrier_recv(&e->other->c, b), 0);
    }
}

static inline void duo_init(struct duo *d, struct worker *w, const struct session_ops *agent_ops,
                            const struct session_ops *relay_ops, void *owner)
{
    uint8_t id[16] = {1};
    memset(d, 0, sizeof(*d));
    d->w = w;
    budget_init(&d->budget, 64 << 20, NULL);
    session_init(&d->agent.s, w, true, id, agent_ops, owner, &d->budget);
    session_init(&d->relay.s, w, false, id, relay_ops, owner, &d->budget);
    d->agent.other = &d->relay;
    d->relay.other = &d->agent;
    wake_init(&d->agent.wake, duo_on_wake);
    wake_init(&d->relay.wake, duo_on_wake);
    timer_init(&d->agent.tick, duo_on_tick);
    timer_init(&d->relay.tick, duo_on_tick);
    carrier_up(&d->agent.s, &d->agent.c, duo_on_output, &d->agent);
    carrier_up(&d->relay.s, &d->relay.c, duo_on_output, &d->relay);
}

static inline void duo_fini(struct duo *d)
{
    session_fini(&d->agent.s, NULL);
    session_fini(&d->relay.s, NULL);
    wake_cancel(&d->agent.wake);
    wake_cancel(&d->relay.wake);
    timer_stop(d->w, &d->agent.tick);
    timer_stop(d->w, &d->relay.tick);
    worker_turn(d->w); // links that were closed
    worker_turn(d->w);
    budget_fini(&d->budget);
}
