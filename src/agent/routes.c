// SPDX-License-Identifier: Apache-2.0
// Which routes an uplink dials by: found before its first attempt, and asked for again when somebody says so or when they may have changed.
// Routes that change leave what stands alone: it is stale then, and goes when another carrier stands on a route of the new ones.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "agent/uplink.h"
#include "core/log.h"

static const char *environment(const char *name) { return getenv(name); }

static struct proxy_wishes wishes(const struct uplink *u)
{
    const struct agent_connect *c = u->connect;
    return (struct proxy_wishes){.told = c->proxies, .told_count = c->proxy_count, .saved = u->saved->of, .saved_count = u->saved->count,
                                 .invited = u->relay.proxies, .invited_count = u->relay.proxy_count, .env = environment};
}

static void use(struct uplink *u, struct proxy_routes *routes)
{
    proxy_routes_fini(&u->routes);
    u->routes = *routes;
    *routes = (struct proxy_routes){0};
    u->routes_attempts = u->attempts;
    u->paths_options.routes = u->routes.of;
    u->paths_options.route_count = u->routes.count < LADDER_ROUTES ? u->routes.count : LADDER_ROUTES;
}

int routes_init(struct uplink *u, struct err *e)
{
    struct proxy_routes routes;
    struct proxy_question question;
    struct proxy_wishes w = wishes(u);
    int rc = proxy_find(&routes, &question, &u->relay.url, &w, e);
    if (rc == 0)
        use(u, &routes);
    proxy_url_wipe(&question.login);
    return rc < 0 ? -1 : 0;
}

void routes_fini(struct uplink *u)
{
    find_stop(&u->find);
    proxy_routes_fini(&u->routes);
}

const char *routes_text(const struct proxy_routes *r, char *out, size_t size)
{
    size_t at = 0;
    *out = 0;
    for (size_t i = 0; i < r->count && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%s", i ? ", then " : "", r->of[i].path);
    return out;
}

static void say(struct uplink *u, const struct proxy_routes *r, bool changed)
{
    char ways[ROUTES_TEXT_MAX], where[URL_TEXT_MAX];
    enum log_level level = r->failed ? LOG_WARN : u->chatter;
    if (changed && *r->source)
        log_event(u->chatter, "proxies found", LS("relay", relay_url_where(&u->relay.url, where)), LS("from", r->source),
                  LS("ways", routes_text(r, ways, sizeof(ways))));
    if (*r->note && (changed || strcmp(r->note, u->routes.note) != 0))
        log_event(level, "looking for proxies", LS("relay", relay_url_where(&u->relay.url, where)), LS("note", r->note));
}

// The same ways in the same order, from the same source.
static bool is_same(const struct proxy_routes *a, const struct proxy_routes *b)
{
    bool same = a->count == b->count && strcmp(a->source, b->source) == 0;
    for (size_t i = 0; same && i < a->count; i++)
        same = a->of[i].id == b->of[i].id;
    return same;
}

// What rises borrows the old routes; what stands knows its route by its place in them.
static void leave_old(struct uplink *u, const struct proxy_routes *now)
{
    for (size_t i = 0; i < UPLINK_LANES; i++) {
        struct lane *l = &u->lanes[i];
        if (lane_is_rising(l))
            lane_drop(l);
        if (l->state != LANE_UP)
            continue;
        const struct proxy_route *still = proxy_routes_find(now, l->route_id);
        l->stale |= !still;
        l->way.route = still ? (size_t)(still - now->of) : now->count;
    }
}

static void on_found(struct find *f, struct proxy_routes *routes, const struct err *err)
{
    struct uplink *u = container_of(f, struct uplink, find);
    bool first = u->routes.count == 0;
    u->find_error[0] = 0;
    if (!routes) {
        err_whole(err, u->find_error, sizeof(u->find_error));
        if (first) {
            uplink_on_no_routes(u, err);
            return;
        }
        log_event(LOG_WARN, "looking for proxies: those known stay", LS("reason", err_text(err)));
        return;
    }
    bool changed = first || !is_same(&u->routes, routes);
    say(u, routes, changed);
    if (changed) {
        leave_old(u, routes);
        use(u, routes);
    } else {
        snprintf(u->routes.note, sizeof(u->routes.note), "%s", routes->note);
    }
    proxy_routes_fini(routes);
    if (changed)
        uplink_go_on(u);
}

void routes_ask(struct uplink *u)
{
    struct proxy_wishes w = wishes(u);
    const struct proxy_kit *kit = u->connect->proxy_kit;
    u->ask_due = false;
    u->asked_ms = u->w->now_ms;
    find_start(&u->find, u->w, &u->relay.url, &w, kit ? kit->ca_file : NULL, on_found);
}

bool routes_ready(struct uplink *u)
{
    bool known = u->routes.count > 0;
    if (!u->find.busy && (!known || u->ask_due))
        routes_ask(u);
    return known;
}

void routes_doubt(struct uplink *u, uint64_t least_ms)
{
    if (!u->routes.asked || u->find.busy)
        return;
    if (u->w->now_ms - u->asked_ms >= least_ms)
        routes_ask(u);
    else
        u->ask_due = true;
}
