// SPDX-License-Identifier: Apache-2.0
#include "dial/proxy.h"
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "wire/noproxy.h"

#define SETTINGS "the system's settings"

static const char *env_get(const char *(*env)(const char *), const char *name)
{
    const char *v = env(name);
    return v && *v ? v : NULL;
}

// The first variable that is set. HTTP_PROXY in capitals is not read: a CGI's client can set it (httpoxy).
static const char *env_proxy(const char *(*env)(const char *), bool tls, const char **name)
{
    static const char *const secure[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", NULL};
    static const char *const plain[] = {"http_proxy", "all_proxy", "ALL_PROXY", NULL};
    for (const char *const *n = tls ? secure : plain; *n; n++) {
        const char *v = env_get(env, *n);
        if (v) {
            *name = *n;
            return v;
        }
    }
    return NULL;
}

static int check_kind(const struct proxy_url *p, const char *source, struct err *e)
{
    switch (p->kind) {
    case PROXY_HTTP:
    case PROXY_HTTPS:
    case PROXY_H2:
    case PROXY_SOCKS4A:
    case PROXY_SOCKS5:
    case PROXY_SOCKS5H:
        return 0;
    default:
        return err_set(e, ERR_USAGE, WHY_NONE, "%s: auto, none and PAC scripts stand alone", source);
    }
}

// --- routes

static uint64_t mix(uint64_t h, const void *data, size_t len) // FNV-1a
{
    for (const uint8_t *at = data, *end = at + len; at < end; at++)
        h = (h ^ *at) * 0x100000001b3u;
    return h;
}

static uint64_t identify(const struct proxy_route *r)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < r->count; i++) {
        const struct proxy_url *p = &r->hops[i];
        h = mix(h, &p->kind, sizeof(p->kind));
        h = mix(h, &p->port, sizeof(p->port));
        h = mix(h, p->host, strlen(p->host) + 1);
        h = mix(h, p->user, strlen(p->user) + 1);
        h = mix(h, p->password, strlen(p->password) + 1);
    }
    return h ? h : 1;
}

static void say_path(struct proxy_route *out)
{
    char where[URL_TEXT_MAX];
    size_t at = (size_t)snprintf(out->path, sizeof(out->path), "%s", out->count ? "via " : "direct");
    for (size_t i = 0; i < out->count && at < sizeof(out->path); i++)
        at += (size_t)snprintf(out->path + at, sizeof(out->path) - at, "%s%s", i ? ", " : "",
                               proxy_url_where(&out->hops[i], where));
}

static int add_route(struct proxy_routes *out, const struct proxy_url *hops, size_t count, struct err *e)
{
    if (count > PROXY_HOPS)
        return err_set(e, ERR_USAGE, WHY_NONE, "%s: a chain has at most %d proxies", out->source, PROXY_HOPS);
    if (!out->of)
        out->of = calloc(PAC_ENTRIES, sizeof(*out->of));
    if (!out->of)
        abort();
    struct proxy_route *r = &out->of[out->count];
    for (size_t i = 0; i < count; i++) {
        if (check_kind(&hops[i], out->source, e) < 0)
            return -1;
        r->hops[i] = hops[i];
    }
    r->count = count;
    snprintf(r->source, sizeof(r->source), "%s", out->source);
    say_path(r);
    r->id = identify(r);
    out->count++;
    return 0;
}

static void set_source(struct proxy_routes *out, const char *source)
{
    snprintf(out->source, sizeof(out->source), "%s", source);
}

const struct proxy_route *proxy_routes_find(const struct proxy_routes *r, uint64_t id)
{
    for (size_t i = 0; i < r->count; i++)
        if (r->of[i].id == id)
            return &r->of[i];
    return NULL;
}

void proxy_route_wipe(struct proxy_route *r)
{
    OPENSSL_cleanse(r->hops, sizeof(r->hops));
    r->count = 0;
}

void proxy_routes_fini(struct proxy_routes *r)
{
    if (r->of)
        OPENSSL_cleanse(r->of, PAC_ENTRIES * sizeof(*r->of));
    free(r->of);
    memset(r, 0, sizeof(*r));
}

// --- who says it

static int ask_pac(struct proxy_question *q, const struct proxy_url *p, const char *from, struct err *e)
{
    struct pac_url url;
    *q = (struct proxy_question){.login = *p};
    snprintf(q->pac, sizeof(q->pac), "%s", p->pac);
    snprintf(q->from, sizeof(q->from), "%s", from);
    if (pac_url_parse(&url, p->pac, e) == 0)
        return 1;
    err_prefix(e, "%s", from);
    return -1;
}

static int take(struct proxy_routes *out, struct proxy_question *q, const struct proxy_url *hops, size_t count, const char *source,
                struct err *e)
{
    set_source(out, source);
    if (count == 1 && hops[0].kind == PROXY_NONE)
        return add_route(out, NULL, 0, e);
    if (count == 1 && hops[0].kind == PROXY_PAC)
        return ask_pac(q, &hops[0], source, e);
    return add_route(out, hops, count, e);
}

static int ask_settings(struct proxy_question *q)
{
    *q = (struct proxy_question){.from = SETTINGS, .optional = true};
    return 1;
}

static int take_env(struct proxy_routes *out, struct proxy_question *q, const struct relay_url *relay,
                    const char *(*env)(const char *), struct err *e)
{
    const char *name = NULL, *value = env_proxy(env, relay->tls, &name);
    const char *no = env_get(env, "no_proxy") ? "no_proxy" : "NO_PROXY", *except = env_get(env, no);
    char source[64];
    struct proxy_url p;
    if (except && noproxy_has(except, relay->host, relay->port)) {
        snprintf(source, sizeof(source), "environment %s", no);
        set_source(out, source);
        return add_route(out, NULL, 0, e);
    }
    if (!value)
        return ask_settings(q);
    if (proxy_url_parse(&p, value, e) < 0) {
        err_prefix(e, "%s", name);
        return -1;
    }
    snprintf(source, sizeof(source), "environment %s", name);
    int rc = p.kind == PROXY_AUTO ? ask_settings(q) : take(out, q, &p, 1, source, e);
    proxy_url_wipe(&p);
    return rc;
}

static bool is_auto(const struct proxy_url *p, size_t count) { return count == 1 && p[0].kind == PROXY_AUTO; }

int proxy_find(struct proxy_routes *out, struct proxy_question *q, const struct relay_url *relay, const struct proxy_wishes *w,
               struct err *e)
{
    int rc;
    memset(out, 0, sizeof(*out));
    memset(q, 0, sizeof(*q));
    bool told_auto = is_auto(w->told, w->told_count), saved_auto = is_auto(w->saved, w->saved_count);
    if (w->told_count > 0 && !told_auto)
        rc = take(out, q, w->told, w->told_count, "--proxy", e);
    else if (w->saved_count > 0 && !saved_auto)
        rc = take(out, q, w->saved, w->saved_count, "conf_proxy", e);
    else if (w->invited_count > 0 && !told_auto && !saved_auto && !is_auto(w->invited, w->invited_count))
        rc = take(out, q, w->invited, w->invited_count, "the invitation", e);
    else
        rc = take_env(out, q, relay, w->env, e);
    if (rc < 0)
        proxy_routes_fini(out);
    return rc;
}

// --- what was asked

static void name_source(struct proxy_routes *out, const struct proxy_question *q, const struct found *f)
{
    const char *pac = q->pac[0] ? q->pac : f->pac, *of = strcmp(q->from, "--proxy") == 0 ? NULL : q->from;
    if (*pac)
        snprintf(out->source, sizeof(out->source), "PAC %.180s%s%s", pac, of ? " of " : "", of ? of : "");
    else if (f->count > 1 || (f->count == 1 && f->of[0].kind != PROXY_NONE)) // nothing set is direct, too
        set_source(out, q->from);
}

static int add_found(struct proxy_routes *out, const struct proxy_question *q, const struct proxy_url *p, struct err *e)
{
    struct proxy_url hop = *p;
    if (q->login.has_login && !hop.has_login) {
        hop.has_login = q->login.has_login;
        hop.has_password = q->login.has_password;
        memcpy(hop.user, q->login.user, sizeof(hop.user));
        memcpy(hop.password, q->login.password, sizeof(hop.password));
    }
    int rc = add_route(out, &hop, p->kind == PROXY_NONE ? 0 : 1, e);
    proxy_url_wipe(&hop);
    return rc;
}

int proxy_found(struct proxy_routes *out, const struct proxy_question *q, const struct found *f, struct err *e)
{
    const char *why = *f->fail     ? f->fail
                      : !f->whole  ? "the helper process ended without an answer"
                      : f->count   ? NULL
                      : *f->answer ? "the script names no proxy that can be used"
                      : *f->pac    ? "the script says nothing"
                                   : NULL;
    memset(out, 0, sizeof(*out));
    out->asked = true;
    name_source(out, q, f);
    snprintf(out->note, sizeof(out->note), "%s", f->note);
    if (why && !q->optional) {
        err_set(e, ERR_UNREACHED, WHY_NONE, "no proxy from %s: %s", out->source, why);
        proxy_routes_fini(out);
        return -1;
    }
    out->failed = why != NULL;
    if (why) // nobody named this script here, and without it there may be another way
        snprintf(out->note, sizeof(out->note), "no proxy from %.150s: %.300s", *out->source ? out->source : q->from, why);
    for (size_t i = 0; !why && i < f->count; i++)
        if (add_found(out, q, &f->of[i], e) < 0) // none of a kind that find.h's callers cannot use
            err_fini(e);
    if (out->count == 0) {
        set_source(out, "");
        return add_route(out, NULL, 0, e);
    }
    return 0;
}
