// SPDX-License-Identifier: Apache-2.0
#include "dial/paths.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/log.h"
#include "dial/advise.h"

#define SAID_MAX 3 // other routes' errors that are told

struct path_try {
    struct paths *p;
    size_t index; // in the ladder
    struct dial dial;
    struct dial_options o;
    struct link *top; // its handshakes run
    struct wake wake;
    uint64_t open_us;
    struct grave grave;
    struct err err; // why it is over
};

static void go_on(struct paths *p);

static struct ladder_try *state(struct path_try *t) { return &t->p->ladder.tries[t->index]; }

static void bury(struct grave *g)
{
    struct path_try *t = container_of(g, struct path_try, grave);
    err_fini(&t->err);
    free(t);
}

static void stop(struct path_try *t)
{
    dial_stop(&t->dial);
    wake_cancel(&t->wake);
    link_close(t->top);
    t->top = NULL;
}

static void clear(struct paths *p)
{
    for (size_t i = 0; i < p->ladder.count; i++) {
        stop(p->tries[i]);
        worker_bury(p->w, &p->tries[i]->grave, bury);
        p->tries[i] = NULL;
    }
    p->ladder.count = 0;
    timer_stop(p->w, &p->next);
    timer_stop(p->w, &p->deadline);
}

// --- what is said when nothing worked

// What counts most: that somebody is not who he should be, then how far it came.
static unsigned telling(const struct path_try *t, const struct ladder_try *s)
{
    unsigned kind = t->err.kind == ERR_UNTRUSTED ? 8 : t->err.kind == ERR_POLICY || t->err.kind == ERR_USAGE ? 4 : 0;
    return kind + (s->secured ? 3 : s->stood_ms ? 2 : s->reached_ms ? 1 : 0);
}

// Without "dial relay:443: ", which is said once.
static const char *plain(const struct paths *p, const struct err *err)
{
    char where[URL_TEXT_MAX], prefix[URL_TEXT_MAX + 16];
    int n = snprintf(prefix, sizeof(prefix), "dial %s: ", relay_url_where(p->o->dial->relay, where));
    const char *text = err_text(err);
    return n > 0 && strncmp(text, prefix, (size_t)n) == 0 ? text + n : text;
}

// The try of this route that says most; LADDER_TRIES: none. Any route: LADDER_ROUTES.
static size_t most_telling(const struct paths *p, size_t route)
{
    size_t best = LADDER_TRIES;
    for (size_t i = 0; i < p->ladder.count; i++) {
        const struct ladder_try *s = &p->ladder.tries[i];
        if (route != LADDER_ROUTES && s->way.route != route)
            continue;
        if (best == LADDER_TRIES || telling(p->tries[i], s) > telling(p->tries[best], &p->ladder.tries[best]))
            best = i;
    }
    return best;
}

static void add_routes(struct paths *p, struct err *e, size_t best)
{
    unsigned said = 0;
    for (size_t route = 0; route < p->o->route_count && said < SAID_MAX; route++) {
        size_t i = most_telling(p, route);
        if (i == LADDER_TRIES || route == p->ladder.tries[best].way.route || !err_is(&p->tries[i]->err))
            continue;
        const char *text = plain(p, &p->tries[i]->err);
        bool named = strncmp(text, "proxy ", 6) == 0; // it says itself by which way
        struct err both = ERR_INIT;
        err_set(&both, e->kind, e->why, "%s; %s%s%s", err_text(e), named ? "" : p->o->routes[route].path, named ? "" : ": ", text);
        both.advice = e->advice;
        err_move(e, &both);
        said++;
    }
}

static void fail(struct paths *p)
{
    struct err e = ERR_INIT;
    size_t best = most_telling(p, LADDER_ROUTES);
    err_copy(&e, &p->tries[best]->err);
    add_routes(p, &e, best);
    p->reached = p->tries[best]->dial.reached;
    clear(p);
    p->on_done(p, NULL, &e); // p may be gone in it
    err_fini(&e);
}

// --- one try

static void try_over(struct path_try *t, const struct err *err)
{
    struct ladder_try *s = state(t);
    err_copy(&t->err, err);
    s->over = true;
    s->final = err->kind == ERR_UNTRUSTED || err->kind == ERR_POLICY || err->kind == ERR_USAGE;
    log_event(LOG_DEBUG, "a way led nowhere", LS("path", t->o.route->path), LS("transport", transport_name(s->way.transport)),
              LN("mss", s->way.mss), LS("reason", err_text(err)));
    stop(t);
    go_on(t->p);
}

// What went wrong behind proxies may be a proxy's doing.
static void prefix(struct path_try *t, struct err *e)
{
    char where[URL_TEXT_MAX];
    const struct proxy_route *route = t->o.route;
    bool hops = route->count > 0 && !strstr(err_text(e), "via ");
    err_prefix(e, "dial %s%s%s", relay_url_where(t->o.relay, where), hops ? " " : "", hops ? route->path : "");
    if (e->kind == ERR_FAILED) // whatever failed on the way there: not reached
        e->kind = ERR_UNREACHED;
}

static void win(struct path_try *t)
{
    struct paths *p = t->p;
    struct link *top = t->top;
    p->way = state(t)->way;
    p->open_us = t->open_us;
    p->reached = t->dial.reached;
    t->top = NULL;
    link_own(top, NULL);
    clear(p);
    p->on_done(p, top, NULL); // p may be gone in it
}

static void on_wake(struct wake *wake)
{
    struct path_try *t = container_of(wake, struct path_try, wake);
    enum link_status s = link_open(t->top);
    const struct link_facts *f = t->top->facts;
    state(t)->secured = !t->o.relay->tls || (f && f->tls_version[0]);
    if (s == LINK_OK) {
        win(t);
    } else if (s == LINK_FAILED) {
        struct err e = ERR_INIT;
        err_copy(&e, &t->top->err);
        prefix(t, &e);
        try_over(t, &e);
        err_fini(&e);
    }
}

static void on_dialled(struct dial *d, struct link *inner, const struct err *err)
{
    struct path_try *t = container_of(d, struct path_try, dial);
    struct paths *p = t->p;
    if (!inner) {
        try_over(t, err);
        return;
    }
    t->top = inner;
    t->open_us = p->w->now_us;
    state(t)->stood_ms = p->w->now_ms;
    if (!p->stood)
        timer_set(p->w, &p->deadline, p->o->open_ms);
    p->stood = true;
    link_own(inner, &t->wake);
    wake_post(p->w, &t->wake);
    go_on(p);
}

static void on_reached(struct dial *d)
{
    struct path_try *t = container_of(d, struct path_try, dial);
    state(t)->reached_ms = t->p->w->now_ms;
    go_on(t->p);
}

// The first address tells which network this is. What worked in it takes this try's place, or goes beside it by another route.
static void on_addresses(struct dial *d, const struct addr *addrs, size_t count)
{
    struct path_try *t = container_of(d, struct path_try, dial);
    struct paths *p = t->p;
    struct way way;
    state(t)->addresses = count;
    p->addresses = count > p->addresses ? count : p->addresses;
    if (p->asked || !p->o->on_network || p->ladder.has_floor)
        return;
    p->asked = true;
    if (!p->o->on_network(p, &addrs[0], &way) || way.route >= p->ladder.routes || !transport_has(&p->ladder.transports, way.transport))
        return;
    if (way.route == state(t)->way.route) {
        state(t)->way = way;
        t->o.transport = way.transport;
        t->o.mss = way.mss;
    } else {
        p->ladder.first = way;
        p->ladder.has_first = true;
    }
    go_on(p);
}

static void avoid(struct dial_options *o, const struct addr *a)
{
    if (a->len && o->avoid_count < DIAL_AVOID)
        o->avoid[o->avoid_count++] = *a;
}

static void start(struct paths *p, const struct way *way)
{
    struct path_try *t = calloc(1, sizeof(*t));
    if (!t)
        abort();
    t->p = p;
    t->o = *p->o->dial;
    t->o.route = &p->o->routes[way->route];
    t->o.transport = way->transport;
    t->o.mss = way->mss;
    t->o.avoid_count = 0;
    avoid(&t->o, &p->o->avoid);
    for (size_t i = 0; i < p->ladder.count; i++) {
        if (p->ladder.tries[i].way.route == way->route)
            avoid(&t->o, &p->tries[i]->dial.reached);
    }
    wake_init(&t->wake, on_wake);
    list_init(&t->grave.node);
    t->index = ladder_start(&p->ladder, way, p->w->now_ms);
    p->tries[t->index] = t;
    dial_start(&t->dial, p->w, p->resolver, &t->o, on_dialled);
    t->dial.on_addresses = on_addresses;
    t->dial.on_reached = on_reached;
}

// --- the race

static void go_on(struct paths *p)
{
    struct way way;
    uint64_t again_ms, now = p->w->now_ms;
    while (ladder_next(&p->ladder, now, &way, &again_ms))
        start(p, &way);
    if (again_ms != UINT64_MAX)
        timer_set(p->w, &p->next, again_ms - now);
    else
        timer_stop(p->w, &p->next);
    if (!ladder_runs(&p->ladder))
        fail(p);
}

static void on_next(struct timer *timer) { go_on(container_of(timer, struct paths, next)); }

// What a handshake waits for: the lowest link that is not open yet.
static const char *waits_for(struct path_try *t)
{
    struct link *chain[16], *l = t->top;
    size_t n = 0;
    for (; l && n < 16; l = l->below)
        chain[n++] = l;
    while (n-- > 0) {
        if (link_open(chain[n]) != LINK_AGAIN)
            continue;
        if (strcmp(chain[n]->ops->name, "tls") == 0)
            return n == 0 ? "the relay's inner TLS" : "TLS";
        return strcmp(chain[n]->ops->name, "ws") == 0 ? "the answer to WebSocket's request" : chain[n]->ops->name;
    }
    return "the relay";
}

static void time_out(struct path_try *t)
{
    struct err e = ERR_INIT;
    char where[URL_TEXT_MAX];
    if (t->top) {
        err_set(&e, ERR_UNREACHED, WHY_TIMEOUT, "the handshake took too long: waiting for %s", waits_for(t));
        err_advise(&e, ADVICE_STALLED);
        prefix(t, &e);
    } else {
        err_set(&e, ERR_UNREACHED, WHY_TIMEOUT, "dial %s: no connection in %u s", relay_url_where(t->o.relay, where),
                t->p->o->reach_ms / 1000);
        dial_advise(&e, t->o.route->count > 0);
    }
    err_move(&t->err, &e);
    state(t)->over = true;
}

static void on_deadline(struct timer *timer)
{
    struct paths *p = container_of(timer, struct paths, deadline);
    for (size_t i = 0; i < p->ladder.count; i++) {
        if (!p->ladder.tries[i].over)
            time_out(p->tries[i]);
    }
    fail(p);
}

void paths_start(struct paths *p, struct worker *w, struct resolver *r, const struct paths_options *o, const struct way *floor, size_t most,
                 void (*on_done)(struct paths *p, struct link *top, const struct err *err))
{
    *p = (struct paths){.w = w, .resolver = r, .o = o, .on_done = on_done};
    ladder_init(&p->ladder, &o->transports, o->route_count);
    if (most)
        p->ladder.most = most;
    if (floor) {
        p->ladder.floor = *floor;
        p->ladder.has_floor = true;
    }
    timer_init(&p->next, on_next);
    timer_init(&p->deadline, on_deadline);
    timer_set(w, &p->deadline, o->reach_ms);
    go_on(p);
}

void paths_stop(struct paths *p)
{
    if (p->w)
        clear(p);
}
