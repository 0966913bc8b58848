// SPDX-License-Identifier: Apache-2.0
#include "agent/lane.h"
#include <openssl/crypto.h>
#include <string.h>
#include "agent/uplink.h"

void lane_init(struct lane *l, struct uplink *u) { *l = (struct lane){.u = u}; }

bool lane_is_good(const struct lane *l)
{
    return l->state == LANE_UP && !l->stale && !l->conn->carrier.live.suspect;
}

static size_t route_by_path(const struct uplink *u, const char *path)
{
    size_t i = 0;
    while (i < u->paths_options.route_count && strcmp(u->routes.of[i].path, path) != 0)
        i++;
    return i;
}

// What worked in this network the last time.
bool lane_recall(struct paths *p, const struct addr *to, struct way *way)
{
    const struct uplink *u = container_of(p, struct lane, paths)->u;
    struct network_route route;
    struct lessons_way known;
    char where[URL_TEXT_MAX];
    if (!network_route(to, &route) || !lessons_way(u->lessons, route.key, relay_url_where(&u->relay.url, where), &known))
        return false;
    *way = (struct way){.route = route_by_path(u, known.route), .transport = known.transport, .mss = known.mss};
    return way->route < u->paths_options.route_count;
}

bool lane_is_better(const struct lane *a, const struct lane *b)
{
    return ladder_better(&a->u->paths_options.transports, &a->way, &b->way);
}

bool lane_is_best(const struct lane *l)
{
    return way_equal(&l->way, &(struct way){.transport = l->u->paths_options.transports.of[0]});
}

// Only a way that is not the preferred one is worth a line.
static void remember_way(const struct lane *l)
{
    const struct uplink *u = l->u;
    struct lessons_way way = {.transport = l->way.transport, .mss = l->way.mss};
    const char *route = u->routes.of[l->way.route].path;
    char where[URL_TEXT_MAX];
    relay_url_where(&u->relay.url, where);
    if (lane_is_best(l)) {
        lessons_forget_way(u->lessons, l->route.key, where, u->w->now_ms);
        return;
    }
    if (strlen(where) >= sizeof(way.relay) || strlen(route) >= sizeof(way.route))
        return;
    memcpy(way.relay, where, strlen(where) + 1);
    memcpy(way.route, route, strlen(route) + 1);
    lessons_set_way(u->lessons, l->route.key, &way, u->w->now_ms);
}

static bool on_welcome(struct conn *c, const struct frame_welcome *welcome)
{
    struct lane *l = c->owner;
    l->state = LANE_UP;
    l->up_ms = l->u->w->now_ms;
    c->carrier.lesson = &l->lesson;
    remember_way(l);
    return uplink_on_lane_up(l, welcome);
}

static void on_conn_down(struct conn *c, const struct err *err, const struct frame_welcome *refusal)
{
    struct lane *l = c->owner;
    struct uplink *u = l->u;
    struct err e = ERR_INIT;
    char where[URL_TEXT_MAX];
    err_copy(&e, err);
    if (l->state != LANE_UP && e.kind == ERR_FAILED) // whatever failed on the way there: not reached
        e.kind = ERR_UNREACHED;
    const struct proxy_route *route = proxy_routes_find(&u->routes, l->route_id);
    bool hops = route && route->count > 0 && !strstr(err_text(&e), "via "); // what went wrong may be a proxy's doing
    if (l->state != LANE_UP)
        err_prefix(&e, "dial %s%s%s", relay_url_where(&u->relay.url, where), hops ? " " : "", hops ? route->path : "");
    uplink_on_lane_down(l, &e, refusal);
    err_fini(&e);
}

static const struct conn_ops conn_ops = {.on_welcome = on_welcome, .on_down = on_conn_down};

static void note_route(struct lane *l, const struct link *inner)
{
    l->route.key[0] = 0;
    if (inner->facts)
        network_route(&inner->facts->peer, &l->route);
    l->lesson = lessons_get(l->u->lessons, l->route.key);
}

static void on_path(struct paths *p, struct link *inner, const struct err *err)
{
    struct lane *l = container_of(p, struct lane, paths);
    struct uplink *u = l->u;
    if (!inner) {
        uplink_on_lane_down(l, err, NULL);
        return;
    }
    struct frame_hello hello;
    uplink_hello(u, &hello);
    note_route(l, inner);
    l->state = LANE_OPENING;
    l->open_us = p->open_us;
    l->way = p->way;
    l->route_id = u->routes.of[p->way.route].id;
    l->conn = conn_agent(u->w, inner, &hello, u->peel, uplink_open_ms(u, l), &u->session, &conn_ops, l);
    OPENSSL_cleanse(&hello, sizeof(hello));
}

static void dial(struct lane *l, const struct way *floor, size_t most)
{
    struct uplink *u = l->u;
    l->state = LANE_DIALLING;
    l->stale = false;
    l->better = floor;
    l->began_ms = u->w->now_ms;
    paths_start(&l->paths, u->w, u->resolver, &u->paths_options, floor, most, on_path);
}

void lane_dial(struct lane *l, bool hedge) { dial(l, NULL, hedge ? LANE_HEDGE_TRIES : 0); }
void lane_dial_better(struct lane *l, const struct way *than) { dial(l, than, 0); }

void lane_drop(struct lane *l)
{
    if (l->state == LANE_FREE)
        return;
    paths_stop(&l->paths);
    conn_free(l->conn);
    l->conn = NULL;
    l->state = LANE_FREE;
}
