// SPDX-License-Identifier: Apache-2.0
// Which ways there are: the proxies that were told or are found, as an agent would use them, and the direct one beside them.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check/inside.h"
#include "dial/find.h"

struct search {
    struct check *c;
    struct find find;
    struct err err;
};

static const char *environment(const char *name) { return getenv(name); }

static struct check_way *add_way(struct check *c, const struct proxy_route *route)
{
    struct check_way *way = &c->ways[c->way_count++];
    char group[sizeof(way->group)] = "directly";
    way->c = c;
    if (route)
        way->route = *route;
    else
        snprintf(way->route.path, sizeof(way->route.path), "direct");
    if (way->route.count > 0)
        snprintf(group, sizeof(group), "%s (%.140s)", way->route.path, way->route.source);
    memcpy(way->group, group, sizeof(group));
    return way;
}

static void tell(struct check *c, const struct proxy_routes *r)
{
    char ways[400] = "";
    for (size_t i = 0, at = 0; i < r->count && at < sizeof(ways); i++)
        at += (size_t)snprintf(ways + at, sizeof(ways) - at, "%s%s", i ? ", then " : "", r->of[i].path);
    struct finding *f = report_add(c->report, "proxies", "found", *r->source ? r->source : "found", c->w.now_ms);
    finding_end(f, r->failed ? CHECK_FAILED : *r->note ? CHECK_SKIPPED : CHECK_OK, ADVICE_NONE, c->w.now_ms, "%s%s%s", *r->source ? ways : "none",
                *r->note ? "; " : "", r->note);
    f->advised = true;
    f->took_ms = UINT64_MAX;
}

static void use(struct check *c, const struct proxy_routes *r)
{
    bool direct = false;
    for (size_t i = 0; i < r->count && c->way_count < CHECK_ROUTES; i++) {
        struct check_way *way = add_way(c, &r->of[i]);
        way->found = true;
        direct |= way->route.count == 0;
    }
    if (!direct)
        add_way(c, NULL);
}

static void on_found(struct find *f, struct proxy_routes *routes, const struct err *err)
{
    struct search *s = container_of(f, struct search, find);
    struct check *c = s->c;
    if (routes) {
        if (routes->asked || *routes->note)
            tell(c, routes);
        use(c, routes);
        proxy_routes_fini(routes);
    } else {
        err_copy(&s->err, err);
    }
    worker_stop(&c->w);
}

// A script that does not answer leaves an agent without a way; what is direct is looked at all the same.
static int go_without(struct check *c, struct err *err, struct err *e)
{
    if (err->kind == ERR_USAGE) {
        err_move(e, err);
        return -1;
    }
    finding_fail(report_add(c->report, "proxies", "found", "found", c->w.now_ms), err, c->w.now_ms);
    err_move(&c->found, err);
    add_way(c, NULL);
    return 0;
}

int check_find_ways(struct check *c, struct err *e)
{
    const struct check_options *o = c->o;
    struct proxy_wishes w = {.told = o->proxies, .told_count = o->proxy_count, .saved = o->saved, .saved_count = o->saved_count,
                             .invited = o->known ? o->known->proxies : NULL, .invited_count = o->known ? o->known->proxy_count : 0,
                             .env = environment};
    struct search *s = calloc(1, sizeof(*s));
    if (!s)
        abort();
    s->c = c;
    find_start(&s->find, &c->w, o->relay, &w, o->kit->ca_file, on_found);
    worker_run(&c->w);
    int rc = err_is(&s->err) ? go_without(c, &s->err, e) : 0;
    err_fini(&s->err);
    free(s);
    return rc;
}
