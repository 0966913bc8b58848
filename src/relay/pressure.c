// SPDX-License-Identifier: Apache-2.0
// Parked sessions end when memory needs it: while somebody waits for room in a budget that is full, the session that has been
// parked longest and holds some of it ends, one each second, until there is room. A short loss of the way is never enough.
#include "core/log.h"
#include "relay/inside.h"

static uint64_t parked_ms(const struct visit *v)
{
    const struct relay *r = v->m->r;
    uint64_t left = v->park.due_ms > r->w->now_ms ? v->park.due_ms - r->w->now_ms : 0;
    return left < r->o->park_ms ? r->o->park_ms - left : 0;
}

static void consider(struct visit *v, struct visit **longest)
{
    if (timer_is_set(&v->park) && parked_ms(v) >= PRESSURE_PARKED_MS && session_held(&v->s) > 0 &&
        (!*longest || parked_ms(v) > parked_ms(*longest)))
        *longest = v;
}

static void consider_all(struct member *m, struct visit **longest)
{
    list_each(&m->visits, it) consider(list_entry(it, struct visit, node), longest);
}

static bool relieve(struct visit *longest)
{
    if (longest)
        visit_end(longest, "it was parked, and its memory is needed");
    return longest;
}

static void on_tick(struct timer *t)
{
    struct relay *r = container_of(t, struct relay, pressure);
    bool is_short = budget_is_short(&r->budget);
    struct visit *longest = NULL;
    list_each(&r->members, it)
    {
        struct member *m = list_entry(it, struct member, node);
        struct visit *own = NULL;
        consider_all(m, &longest);
        if (!budget_is_short(&m->budget))
            continue;
        is_short = true;
        consider_all(m, &own);
        if (own) { // which also gives room to all
            relieve(own);
            longest = NULL;
            break;
        }
    }
    if (budget_is_short(&r->budget))
        relieve(longest);
    if (is_short)
        timer_set(r->w, &r->pressure, PRESSURE_TICK_MS);
}

static void look_soon(struct relay *r)
{
    if (!timer_is_set(&r->pressure))
        timer_set(r->w, &r->pressure, PRESSURE_TICK_MS);
}

static void all_short(struct budget *b) { look_soon(container_of(b, struct relay, budget)); }
static void one_short(struct budget *b) { look_soon(container_of(b, struct member, budget)->r); }

void pressure_init(struct relay *r)
{
    timer_init(&r->pressure, on_tick);
    r->budget.on_short = all_short;
}

void pressure_watch(struct member *m) { m->budget.on_short = one_short; }

void pressure_fini(struct relay *r)
{
    timer_stop(r->w, &r->pressure);
    r->budget.on_short = NULL;
}
