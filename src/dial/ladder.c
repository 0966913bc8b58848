// SPDX-License-Identifier: Apache-2.0
#include "dial/ladder.h"

struct choice { // the earliest so far
    const struct ladder *l;
    struct way way;
    uint64_t due_ms;
};

void ladder_init(struct ladder *l, const struct transport_list *transports, size_t routes)
{
    *l = (struct ladder){.transports = *transports, .routes = routes < LADDER_ROUTES ? routes : LADDER_ROUTES,
                         .most = LADDER_TRIES};
}

static size_t place(const struct transport_list *l, enum transport t)
{
    size_t i = 0;
    while (i < l->count && l->of[i] != t)
        i++;
    return i;
}

bool ladder_better(const struct transport_list *transports, const struct way *a, const struct way *b)
{
    size_t ta = place(transports, a->transport), tb = place(transports, b->transport);
    if (ta != tb)
        return ta < tb;
    return a->route != b->route ? a->route < b->route : (uint16_t)(a->mss - 1) > (uint16_t)(b->mss - 1); // 0 is the best
}

bool ladder_runs(const struct ladder *l)
{
    for (size_t i = 0; i < l->count; i++) {
        if (!l->tries[i].over)
            return true;
    }
    return false;
}

size_t ladder_start(struct ladder *l, const struct way *way, uint64_t now_ms)
{
    l->tries[l->count] = (struct ladder_try){.way = *way, .started_ms = now_ms};
    return l->count++;
}

static bool is_tried(const struct ladder *l, const struct way *way)
{
    for (size_t i = 0; i < l->count; i++) {
        if (way_equal(&l->tries[i].way, way))
            return true;
    }
    return false;
}

static bool is_allowed(const struct ladder *l, const struct way *way)
{
    return !l->has_floor || ladder_better(&l->transports, way, &l->floor);
}

static void propose(struct choice *c, const struct way *way, uint64_t due_ms)
{
    if (due_ms < c->due_ms && is_allowed(c->l, way)) {
        c->way = *way;
        c->due_ms = due_ms;
    }
}

// What worked the last time, then each route with the first transport.
static void propose_routes(struct choice *c)
{
    const struct ladder *l = c->l;
    uint64_t due = 0;
    for (size_t i = 0; i < l->count && ladder_runs(l); i++)
        due = l->tries[i].started_ms + LADDER_STAGGER_MS;
    if (l->has_first && !is_tried(l, &l->first))
        propose(c, &l->first, 0);
    for (size_t r = 0; r < l->routes; r++) {
        struct way way = {.route = r, .transport = l->transports.of[0]};
        if (is_tried(l, &way) || !is_allowed(l, &way))
            continue;
        propose(c, &way, due);
        return;
    }
}

// The same way to another address, when all that tried it know by now that theirs leads nowhere.
static void propose_address(struct choice *c, const struct ladder_try *of)
{
    const struct ladder *l = c->l;
    size_t used = 0;
    uint64_t due = 0;
    for (size_t i = 0; i < l->count; i++) {
        const struct ladder_try *t = &l->tries[i];
        if (t->way.route != of->way.route)
            continue;
        used++;
        if (t->over || t->way.transport != of->way.transport)
            continue;
        if (!t->reached_ms)
            return;
        if (due < t->reached_ms + LADDER_STALL_MS)
            due = t->reached_ms + LADDER_STALL_MS;
    }
    if (used < of->addresses)
        propose(c, &of->way, due);
}

static bool was_useless(const struct ladder *l, const struct way *way)
{
    for (size_t i = 0; i < l->count; i++) {
        const struct ladder_try *t = &l->tries[i];
        if (t->way.route == way->route && t->way.mss == way->mss && !t->secured)
            return true;
    }
    return false;
}

static void propose_small(struct choice *c, const struct ladder_try *of)
{
    static const uint16_t sizes[] = {LADDER_MSS, LADDER_MSS_MIN};
    if (of->over || !of->reached_ms || of->way.mss)
        return;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct way way = of->way;
        way.mss = sizes[i];
        if (!is_tried(c->l, &way) && !was_useless(c->l, &way))
            propose(c, &way, of->reached_ms + LADDER_STALL_MS + i * LADDER_STAGGER_MS);
    }
}

// The transport behind `at`, once a try of that one was refused, or has been silent for long.
static void propose_transport(struct choice *c, size_t route, size_t at)
{
    const struct ladder *l = c->l;
    struct way next = {.route = route, .transport = l->transports.of[at + 1]};
    uint64_t silent = at == 0 ? LADDER_SILENT_MS : LADDER_STALL_MS, due = UINT64_MAX;
    bool known = false; // which segments the next one shall have
    for (size_t i = 0; i < l->count; i++) {
        const struct ladder_try *t = &l->tries[i];
        if (t->way.route == route && t->way.transport == next.transport)
            return;
        if (t->way.route != route || t->way.transport != l->transports.of[at] || !t->stood_ms || (t->over && t->final))
            continue;
        uint64_t when = t->over ? 0 : t->stood_ms + silent;
        if (when < due)
            due = when;
        if (t->over || (t->secured && !known)) {
            next.mss = t->way.mss;
            known = true;
        }
    }
    propose(c, &next, due);
}

bool ladder_next(const struct ladder *l, uint64_t now_ms, struct way *out, uint64_t *again_ms)
{
    struct choice c = {.l = l, .due_ms = UINT64_MAX};
    *again_ms = UINT64_MAX;
    if (l->count >= l->most || l->transports.count == 0)
        return false;
    propose_routes(&c);
    for (size_t i = 0; i < l->count; i++)
        propose_small(&c, &l->tries[i]);
    for (size_t i = 0; i < l->count; i++) {
        if (l->tries[i].reached_ms)
            propose_address(&c, &l->tries[i]);
    }
    for (size_t r = 0; r < l->routes; r++) {
        for (size_t at = 0; at + 1 < l->transports.count; at++)
            propose_transport(&c, r, at);
    }
    *out = c.way;
    *again_ms = c.due_ms;
    return c.due_ms <= now_ms;
}
