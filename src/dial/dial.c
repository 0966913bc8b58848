// SPDX-License-Identifier: Apache-2.0
#include "dial/dial.h"
#include <stdio.h>
#include <string.h>
#include "dial/advise.h"
#include "dial/road.h"
#include "link/h2.h"
#include "link/poll.h"
#include "link/tcp.h"
#include "link/tls.h"
#include "link/ws.h"

#define HUB_KEY_MAX (2 * URL_TEXT_MAX + 2 * URL_HOST_MAX + 64)

static void fail(struct dial *d, const struct err *err)
{
    char where[URL_TEXT_MAX];
    struct err e = ERR_INIT;
    err_copy(&e, err);
    err_prefix(&e, "dial %s", relay_url_where(d->o->relay, where));
    d->on_done(d, NULL, &e); // d may be gone in it
    err_fini(&e);
}

// The first hop was not even reached.
static void fail_first(struct dial *d, const struct err *err)
{
    struct err e = ERR_INIT;
    err_copy(&e, err);
    dial_advise(&e, d->o->route->count > 0);
    if (d->o->route->count > 0)
        err_prefix(&e, "proxy %s (%s%s)", d->first, d->o->route->source[0] == '-' ? "" : "from ", d->o->route->source);
    fail(d, &e);
    err_fini(&e);
}

static bool is_bare_v6(const char *host)
{
    const char *colon = strchr(host, ':');
    return host[0] != '[' && colon && strchr(colon + 1, ':');
}

// Host header: as it was told; else the relay's, with its port unless it is the scheme's (RFC 9110 section 7.2).
void dial_host_header(const struct dial_options *o, char *out, size_t size)
{
    const char *host = o->host ? o->host : o->relay->host;
    bool usual = o->host || o->relay->port == (o->relay->tls ? 443 : 80);
    if (usual)
        snprintf(out, size, is_bare_v6(host) ? "[%s]" : "%s", host);
    else
        snprintf(out, size, is_bare_v6(host) ? "[%s]:%u" : "%s:%u", host, o->relay->port);
}

// The name that the web certificate must be for: what is asked for in SNI, without a port.
void dial_verify_name(const struct dial_options *o, char *out, size_t size)
{
    const char *name = o->sni && *o->sni ? o->sni : o->host ? o->host : o->relay->host;
    const char *port = name[0] == '[' ? strstr(name, "]:") : is_bare_v6(name) ? NULL : strchr(name, ':');
    size_t len = port ? (size_t)(port - name) + (*port == ']') : strlen(name);
    snprintf(out, size, "%.*s", (int)len, name);
}

static struct link *outer_tls(struct link *l, const struct dial_options *o, const char *where)
{
    char name[URL_HOST_MAX + 1];
    dial_verify_name(o, name, sizeof(name));
    if (!o->relay->tls)
        return l;
    return tls_over(l, &(struct tls_options){.ctx = o->outer, .outer = true, .host = name, .sni = o->sni,
                                             .report = o->outer_report, .who = where, .h2 = o->transport == TRANSPORT_H2}, NULL);
}

static struct link *ws_over(struct link *l, const struct dial_options *o)
{
    char host[URL_HOST_MAX + 16];
    dial_host_header(o, host, sizeof(host));
    return ws_client_over(l, &(struct ws_client_options){.host = host, .path = o->relay->path,
                                                         .protocol = WS_SUBPROTOCOL, .headers = o->headers});
}

static struct link *pinned(struct link *l, const struct dial_options *o, const char *where)
{
    return tls_over(l, &(struct tls_options){.ctx = o->inner, .pins = o->pins, .pin_count = o->pin_count, .who = where,
                                             .pad = true}, NULL);
}

// Which connections lead to the same place by the same way.
static char *hub_key(const struct dial_options *o, char out[HUB_KEY_MAX])
{
    char url[URL_TEXT_MAX];
    snprintf(out, HUB_KEY_MAX, "%s %s %s %s %u", relay_url_text(o->relay, url), o->route->path, o->host ? o->host : "", o->sni ? o->sni : "-",
             o->mss);
    return out;
}

static struct link *over_h2(struct link *l, const struct dial_options *o, const char *where)
{
    char key[HUB_KEY_MAX];
    struct h2_options options = {.who = where, .scheme = o->relay->tls ? "https" : "http", .key = hub_key(o, key)};
    return ws_over(h2_stream_over(h2_client_over(outer_tls(l, o, where), &options, o->hubs)), o);
}

static struct link *over_poll(struct link *l, const struct dial *d, const char *where)
{
    const struct dial_options *o = d->o;
    char host[URL_HOST_MAX + 16];
    dial_host_header(o, host, sizeof(host));
    return poll_over(outer_tls(l, o, where), &(struct poll_options){.host = host, .path = o->relay->path, .headers = o->headers,
                                                                    .where = where, .road = dial_road(d)});
}

static struct link *stack(struct link *l, const struct dial *d)
{
    const struct dial_options *o = d->o;
    char where[URL_TEXT_MAX];
    relay_url_where(o->relay, where);
    if (l->facts)
        snprintf(l->facts->transport, sizeof(l->facts->transport), "%s", transport_name(o->transport));
    if (o->bare)
        return outer_tls(l, o, where);
    switch (o->transport) {
    case TRANSPORT_H2:
        l = over_h2(l, o, where);
        break;
    case TRANSPORT_POLL:
        l = over_poll(l, d, where);
        break;
    case TRANSPORT_H1:
        l = ws_over(outer_tls(l, o, where), o);
    }
    return pinned(l, o, where);
}

static void on_raced(struct race *r, struct link *link, const struct addr *to, const struct err *err);

static void race(struct dial *d, const struct addr *addrs, size_t count)
{
    race_start(&d->race, d->w, addrs, count, TCP_CARRIER | TCP_SEGMENT(d->o->mss), on_raced);
}

// Who named a proxy that refuses is the first thing one asks; of flags one knows.
static void say_source(struct err *e, const struct proxy_route *route)
{
    enum advice advice = e->advice;
    if (route->source[0] != '-')
        err_set(e, e->kind, e->why, "%s (proxy from %s)", err_text(e), route->source);
    e->advice = advice;
}

static void on_hops(struct hops *h, struct link *top, const struct err *err)
{
    struct dial *d = container_of(h, struct dial, hops);
    if (h->again) {
        race(d, &d->reached, 1);
        return;
    }
    hops_fini(h);
    if (top) {
        d->on_done(d, stack(top, d), NULL);
        return;
    }
    struct err e = ERR_INIT;
    err_copy(&e, err);
    say_source(&e, d->o->route);
    fail(d, &e);
    err_fini(&e);
}

static void on_raced(struct race *r, struct link *link, const struct addr *to, const struct err *err)
{
    struct dial *d = container_of(r, struct dial, race);
    if (!link) {
        fail_first(d, err);
        return;
    }
    d->reached = *to;
    if (d->on_reached)
        d->on_reached(d);
    if (d->o->route->count > 0) {
        hops_start(&d->hops, link);
        return;
    }
    if (link->facts)
        snprintf(link->facts->path, sizeof(link->facts->path), "direct");
    d->on_done(d, stack(link, d), NULL);
}

static bool is_avoided(const struct dial_options *o, const struct addr *a)
{
    for (size_t i = 0; i < o->avoid_count; i++) {
        if (addr_equal(a, &o->avoid[i]))
            return true;
    }
    return false;
}

// What accepted a connection and then led nowhere goes behind the others.
static void order(struct addr *out, const struct addr *addrs, size_t count, const struct dial_options *o)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (!is_avoided(o, &addrs[i]))
            out[n++] = addrs[i];
    }
    for (size_t i = 0; i < count; i++) {
        if (is_avoided(o, &addrs[i]))
            out[n++] = addrs[i];
    }
}

static void note_reached(struct dial *d, const struct link_facts *facts)
{
    if (facts)
        d->reached = facts->peer;
    if (d->on_reached)
        d->on_reached(d);
}

// An HTTP/2 connection to the relay, or to the first proxy, that stands already takes another stream.
static bool share(struct dial *d)
{
    char key[HUB_KEY_MAX], where[URL_TEXT_MAX];
    const struct dial_options *o = d->o;
    struct h2 *hub;
    if (!o->hubs || o->fresh)
        return false;
    if (o->transport == TRANSPORT_H2 && (hub = h2_find(o->hubs, hub_key(o, key)))) {
        struct link *l = h2_stream_over(hub);
        note_reached(d, l->facts);
        d->on_done(d, pinned(ws_over(l, o), o, relay_url_where(o->relay, where)), NULL);
        return true;
    }
    if (o->route->count == 0 || !(hub = hops_hub(&d->hops)))
        return false;
    hops_start_over(&d->hops, hub);
    note_reached(d, d->hops.top->facts);
    return true;
}

static void on_resolved(struct resolve *q, const struct addr *addrs, size_t count, const struct err *err)
{
    struct dial *d = container_of(q, struct dial, resolve);
    struct addr ordered[RESOLVE_MAX];
    if (count == 0) {
        fail_first(d, err);
        return;
    }
    order(ordered, addrs, count, d->o);
    if (d->on_addresses)
        d->on_addresses(d, ordered, count);
    if (!share(d))
        race(d, ordered, count);
}

void dial_start(struct dial *d, struct worker *w, struct resolver *r, const struct dial_options *o,
                void (*on_done)(struct dial *d, struct link *inner, const struct err *err))
{
    memset(d, 0, sizeof(*d));
    d->w = w;
    d->resolver = r;
    d->o = o;
    d->on_done = on_done;
    hops_init(&d->hops, w, r, o->kit, o->route, o->relay->host, o->relay->port, o->hubs, on_hops);
    const struct proxy_url *proxy = o->route->count ? &o->route->hops[0] : NULL;
    if (proxy)
        proxy_url_where(proxy, d->first);
    else
        relay_url_where(o->relay, d->first);
    if (o->only.len) {
        race(d, &o->only, 1);
        return;
    }
    resolve_start(r, &d->resolve, proxy ? proxy->host : o->relay->host, proxy ? proxy->port : o->relay->port,
                  on_resolved);
}

void dial_stop(struct dial *d)
{
    if (!d->w)
        return;
    resolve_cancel(&d->resolve);
    race_stop(&d->race);
    hops_fini(&d->hops);
}
