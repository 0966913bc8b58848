// SPDX-License-Identifier: Apache-2.0
#include "dial/road.h"
#include <stdlib.h>
#include <string.h>

struct dial_road {
    struct road road;
    struct worker *w;
    struct resolver *resolver;
    struct dial_options options;
    struct relay_url relay;
    struct proxy_route route;
    char *host, *sni;
};

struct journey { // one dial
    struct dial dial;
    struct road_call *call;
    struct grave grave;
};

static void bury(struct grave *g) { free(container_of(g, struct journey, grave)); }

static void end(struct journey *j)
{
    j->call->of = NULL;
    worker_bury(j->dial.w, &j->grave, bury);
}

static void on_done(struct dial *d, struct link *top, const struct err *err)
{
    struct journey *j = container_of(d, struct journey, dial);
    struct road_call *call = j->call;
    end(j);
    call->on_done(call, top, err);
}

static void road_dial(struct road *road, struct road_call *call)
{
    struct dial_road *r = container_of(road, struct dial_road, road);
    struct journey *j = calloc(1, sizeof *j);
    if (!j)
        abort();
    list_init(&j->grave.node);
    j->call = call;
    call->of = j;
    dial_start(&j->dial, r->w, r->resolver, &r->options, on_done);
}

static void road_stop(struct road *road, struct road_call *call)
{
    struct journey *j = call->of;
    (void)road;
    if (!j)
        return;
    dial_stop(&j->dial);
    end(j);
}

static void road_fini(struct road *road)
{
    struct dial_road *r = container_of(road, struct dial_road, road);
    SSL_CTX_free(r->options.outer);
    proxy_route_wipe(&r->route);
    free(r->host);
    free(r->sni);
    free(r);
}

static char *copy(const char *text)
{
    char *out = text ? strdup(text) : NULL;
    if (text && !out)
        abort();
    return out;
}

struct road *dial_road(const struct dial *d)
{
    struct dial_road *r = calloc(1, sizeof *r);
    const struct dial_options *o = d->o;
    if (!r)
        abort();
    r->road = (struct road){.dial = road_dial, .stop = road_stop, .fini = road_fini};
    r->w = d->w;
    r->resolver = d->resolver;
    r->relay = *o->relay;
    r->route = *o->route;
    r->host = copy(o->host);
    r->sni = copy(o->sni);
    r->options = *o;
    r->options.relay = &r->relay;
    r->options.route = &r->route;
    r->options.host = r->host;
    r->options.sni = r->sni;
    r->options.headers = NULL; // of requests, which are not made here
    r->options.inner = NULL;
    r->options.pins = NULL;
    r->options.pin_count = 0;
    r->options.bare = true;
    r->options.only = d->reached;
    if (o->outer)
        SSL_CTX_up_ref(o->outer);
    return &r->road;
}
