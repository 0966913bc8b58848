// SPDX-License-Identifier: Apache-2.0
#include "dial/hops.h"
#include <stdio.h>
#include <string.h>
#include "link/auth.h"
#include "link/connect.h"
#include "link/h2.h"
#include "link/socks.h"
#include "link/tls.h"

static const struct proxy_url *hop(const struct hops *h) { return &h->route->hops[h->at]; }

static bool is_tls(const struct proxy_url *p) { return p->kind == PROXY_HTTPS || p->kind == PROXY_H2; }

static bool is_last(const struct hops *h) { return h->at + 1 == h->route->count; }

// What the hop shall connect to: the next one, or the relay.
static const char *target(const struct hops *h) { return is_last(h) ? h->host : h->route->hops[h->at + 1].host; }

static uint16_t target_port(const struct hops *h) { return is_last(h) ? h->port : h->route->hops[h->at + 1].port; }

static void finish(struct hops *h, const struct err *err)
{
    struct link *top = h->top;
    struct err e = ERR_INIT;
    if (err) {
        err_copy(&e, err); // it may live in the link
        hops_stop(h);
        h->on_done(h, NULL, &e); // h may be gone in it
        err_fini(&e);
        return;
    }
    h->top = NULL;
    hops_stop(h);
    h->on_done(h, top, NULL);
}

static void on_deadline(struct timer *timer)
{
    struct hops *h = container_of(timer, struct hops, deadline);
    struct err e = ERR_INIT;
    h->again = false;
    char where[URL_TEXT_MAX];
    err_set(&e, ERR_UNREACHED, WHY_TIMEOUT, "proxy %s://%s has not answered in %d s", proxy_kind_name(hop(h)->kind),
            proxy_url_where(hop(h), where), HOPS_MS / 1000);
    err_advise(&e, ADVICE_PROXY_SILENT);
    finish(h, &e);
    err_fini(&e);
}

static struct auth *auth_of(struct hops *h)
{
    const struct proxy_url *p = hop(h);
    struct auth **a = &h->auths[h->at];
    unsigned allowed = h->kit->schemes ? h->kit->schemes : AUTH_ALL;
    if (h->h2)
        allowed &= AUTH_BASIC | AUTH_DIGEST; // the others authenticate a connection, and this one is shared
    if (!*a)
        *a = auth_new(h->w, &(struct auth_options){.host = p->host, .login = proxy_kit_login(h->kit, p),
                                                   .allowed = allowed, .encrypted = is_tls(p)});
    return *a;
}

static struct link *over_http(struct hops *h, const char *where)
{
    return connect_over(h->top, &(struct connect_options){.proxy = where, .host = target(h), .port = target_port(h),
                                                          .auth = auth_of(h)});
}

// Basic or Digest must do there.
static bool may_h2(const struct hops *h)
{
    bool can = !h->kit->schemes || h->kit->schemes & (AUTH_BASIC | AUTH_DIGEST);
    return h->hubs && (hop(h)->kind == PROXY_H2 || (can && !h->no_h2));
}

// The proxy's name is verified against its own trust; what runs inside does not depend on it.
static int over_tls(struct hops *h, const char *where, struct err *e)
{
    SSL_CTX *ctx = proxy_kit_tls(h->kit, e);
    char who[URL_TEXT_MAX + 8];
    if (!ctx)
        return -1;
    snprintf(who, sizeof(who), "proxy %s", where);
    h->top = tls_over(h->top, &(struct tls_options){.ctx = ctx, .host = hop(h)->host, .who = who, .h2 = may_h2(h)}, NULL);
    return 0;
}

// Only of the first hop: what is behind it is reached through a tunnel of its own.
static char *hub_key(const struct hops *h, char out[URL_TEXT_MAX + 16])
{
    char where[URL_TEXT_MAX];
    snprintf(out, URL_TEXT_MAX + 16, "proxy %s", proxy_url_where(&h->route->hops[0], where));
    return out;
}

struct h2 *hops_hub(const struct hops *h)
{
    char key[URL_TEXT_MAX + 16];
    return h->hubs && !h->no_h2 && is_tls(&h->route->hops[0]) ? h2_find(h->hubs, hub_key(h, key)) : NULL;
}

static void put_request(struct hops *h)
{
    char where[URL_TEXT_MAX];
    h->bare = false;
    h->top = over_http(h, proxy_url_where(hop(h), where));
    link_own(h->top, &h->wake);
}

// TLS stands. -1: HTTP/2 was asked for by name and is not spoken.
static int on_tls(struct hops *h, struct err *e)
{
    char where[URL_TEXT_MAX], key[URL_TEXT_MAX + 16];
    proxy_url_where(hop(h), where);
    h->h2 = may_h2(h) && tls_chose_h2(h->top);
    if (h->h2)
        h->top = h2_stream_over(h2_client_over(h->top, &(struct h2_options){.who = where, .scheme = "https",
                                                                           .key = h->at ? NULL : hub_key(h, key)}, h->hubs));
    else if (hop(h)->kind == PROXY_H2)
        return err_set(e, ERR_UNREACHED, WHY_PROTOCOL, "proxy %s does not speak HTTP/2; say https:// for it", where),
               err_advised(e, ADVICE_PROXY_STRANGE);
    put_request(h);
    return 0;
}

static void put_socks(struct hops *h, const char *host)
{
    char where[URL_TEXT_MAX];
    h->top = socks_over(h->top, &(struct socks_options){.v4 = hop(h)->kind == PROXY_SOCKS4A,
                                                        .proxy = proxy_url_where(hop(h), where), .host = host,
                                                        .port = target_port(h), .login = proxy_kit_login(h->kit, hop(h))});
    h->put = true;
    link_own(h->top, &h->wake);
}

// One address travels, since the proxy does not race: of IPv4 if there is one, as most SOCKS proxies have that only.
static void on_resolved(struct resolve *q, const struct addr *addrs, size_t count, const struct err *err)
{
    struct hops *h = container_of(q, struct hops, resolve);
    char text[ADDR_TEXT_MAX];
    size_t best = 0;
    for (size_t i = count; i-- > 0;) {
        if (addrs[i].sa.sa_family == AF_INET)
            best = i;
    }
    timer_stop(h->w, &h->unnamed);
    put_socks(h, count ? addr_host(&addrs[best], text) : target(h)); // at the proxy if that fails
    wake_post(h->w, &h->wake);
}

// Behind such a proxy there is often no DNS, or one that never answers.
static void on_unnamed(struct timer *t)
{
    struct hops *h = container_of(t, struct hops, unnamed);
    resolve_cancel(&h->resolve);
    on_resolved(&h->resolve, NULL, 0, NULL);
}

static int put(struct hops *h, struct err *e)
{
    char where[URL_TEXT_MAX];
    proxy_url_where(hop(h), where);
    switch (hop(h)->kind) {
    case PROXY_SOCKS5:
        resolve_start(h->resolver, &h->resolve, target(h), target_port(h), on_resolved);
        timer_set(h->w, &h->unnamed, HOPS_NAME_MS);
        return 0;
    case PROXY_SOCKS4A:
    case PROXY_SOCKS5H:
        put_socks(h, target(h));
        return 0;
    case PROXY_HTTPS:
    case PROXY_H2:
        if (over_tls(h, where, e) < 0)
            return -1;
        h->put = h->bare = true;
        link_own(h->top, &h->wake);
        return 0;
    default:
        h->put = true;
        put_request(h);
        return 0;
    }
}

// What an https:// proxy refuses by HTTP/2 it may grant by HTTP/1.1, a refused password excepted. So may another connection what a shared
// one does not.
static bool has_other_way(const struct hops *h)
{
    const struct login *login = h->h2 ? proxy_kit_login(h->kit, hop(h)) : NULL;
    return h->h2 && hop(h)->kind == PROXY_HTTPS && !(login && login->state == LOGIN_REFUSED);
}

static void hop_failed(struct hops *h)
{
    struct err e = ERR_INIT;
    err_copy(&e, &h->top->err);
    h->anew = has_other_way(h);
    h->again = (!h->bare && connect_again(h->top)) || h->anew || h->shared;
    h->no_h2 |= h->anew;
    if (e.kind == ERR_FAILED)
        e.kind = ERR_UNREACHED;
    if (e.why == WHY_ABORTED)
        err_advise(&e, ADVICE_PROXY_CLOSES);
    if (e.kind == ERR_UNTRUSTED)
        e.advice = ADVICE_PROXY_CA; // not --ca
    finish(h, &e);
    err_fini(&e);
}

static void on_wake(struct wake *wake)
{
    struct hops *h = container_of(wake, struct hops, wake);
    struct err e = ERR_INIT;
    if (!h->top)
        return;
    for (; h->at < h->route->count; h->at++, h->put = h->h2 = false) {
        if (!h->put && (h->resolve.busy || put(h, &e) < 0 || !h->put)) {
            if (err_is(&e))
                finish(h, &e);
            err_fini(&e);
            return;
        }
        enum link_status s = link_open(h->top);
        if (s == LINK_OK && h->bare) {
            if (on_tls(h, &e) < 0) {
                finish(h, &e);
                err_fini(&e);
                return;
            }
            s = link_open(h->top);
        }
        if (s == LINK_AGAIN)
            return;
        if (s == LINK_FAILED) {
            hop_failed(h);
            return;
        }
    }
    finish(h, NULL);
}

void hops_init(struct hops *h, struct worker *w, struct resolver *r, struct proxy_kit *kit, const struct proxy_route *route,
               const char *host, uint16_t port, struct list *hubs, void (*on_done)(struct hops *h, struct link *top, const struct err *err))
{
    *h = (struct hops){.w = w, .resolver = r, .kit = kit, .route = route, .host = host, .port = port, .hubs = hubs, .on_done = on_done};
    wake_init(&h->wake, on_wake);
    timer_init(&h->deadline, on_deadline);
    timer_init(&h->unnamed, on_unnamed);
}

void hops_start(struct hops *h, struct link *base)
{
    h->top = base;
    h->at = 0;
    h->put = h->again = h->bare = h->h2 = h->shared = false;
    if (!timer_is_set(&h->deadline))
        timer_set(h->w, &h->deadline, HOPS_MS);
    link_own(base, &h->wake);
    wake_post(h->w, &h->wake);
}

void hops_start_over(struct hops *h, struct h2 *hub)
{
    hops_start(h, h2_stream_over(hub));
    h->put = h->h2 = h->shared = true;
    put_request(h);
}

static void close_stack(struct hops *h)
{
    for (size_t i = 0; i < PROXY_HOPS; i++) {
        if (h->auths[i])
            auth_end(h->auths[i]);
        if (h->anew) {
            auth_free(h->auths[i]);
            h->auths[i] = NULL;
        }
    }
    h->anew = false;
    link_close(h->top);
    h->top = NULL;
}

void hops_stop(struct hops *h)
{
    if (!h->w)
        return;
    resolve_cancel(&h->resolve);
    timer_stop(h->w, &h->unnamed);
    if (!h->again)
        timer_stop(h->w, &h->deadline);
    wake_cancel(&h->wake);
    close_stack(h);
}

void hops_fini(struct hops *h)
{
    h->again = false;
    hops_stop(h);
    for (size_t i = 0; i < PROXY_HOPS; i++) {
        auth_free(h->auths[i]);
        h->auths[i] = NULL;
    }
    h->w = NULL;
}
