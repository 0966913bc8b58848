// SPDX-License-Identifier: Apache-2.0
#include "dial/proxy.h"
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include "wire/noproxy.h"

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
    case PROXY_PAC:
        return err_set(e, ERR_USAGE, WHY_NONE, "%s names a PAC script, which is not supported; name the proxy it gives", source);
    default:
        return err_set(e, ERR_USAGE, WHY_NONE, "%s: auto and none stand alone", source);
    }
}

static int take(struct proxy_route *out, const struct proxy_url *hops, size_t count, const char *source, struct err *e)
{
    if (count > PROXY_HOPS)
        return err_set(e, ERR_USAGE, WHY_NONE, "%s: a chain has at most %d proxies", source, PROXY_HOPS);
    for (size_t i = 0; i < count; i++) {
        if (check_kind(&hops[i], source, e) < 0)
            return -1;
        out->hops[i] = hops[i];
    }
    out->count = count;
    snprintf(out->source, sizeof(out->source), "%s", source);
    return 0;
}

static int take_env(struct proxy_route *out, const struct relay_url *relay, const char *(*env)(const char *),
                    struct err *e)
{
    const char *name = NULL, *value = env_proxy(env, relay->tls, &name);
    const char *except = env_get(env, "no_proxy");
    struct proxy_url p;
    if (!except)
        except = env_get(env, "NO_PROXY");
    if (!value || (except && noproxy_has(except, relay->host, relay->port)))
        return 0;
    if (proxy_url_parse(&p, value, e) < 0) {
        err_prefix(e, "%s", name);
        return -1;
    }
    int rc = p.kind == PROXY_NONE ? 0 : take(out, &p, 1, name, e);
    proxy_url_wipe(&p);
    return rc;
}

static void say_path(struct proxy_route *out)
{
    char where[URL_TEXT_MAX];
    size_t at = (size_t)snprintf(out->path, sizeof(out->path), "%s", out->count ? "via " : "direct");
    for (size_t i = 0; i < out->count && at < sizeof(out->path); i++)
        at += (size_t)snprintf(out->path + at, sizeof(out->path) - at, "%s%s", i ? ", " : "",
                               proxy_url_where(&out->hops[i], where));
}

int proxy_find(struct proxy_route *out, const struct relay_url *relay, const struct proxy_url *told, size_t told_count,
               const struct proxy_url *invited, size_t invited_count, const char *(*env)(const char *name),
               struct err *e)
{
    int rc = 0;
    memset(out, 0, sizeof(*out));
    bool is_auto = told_count == 1 && told[0].kind == PROXY_AUTO;
    if (told_count == 1 && told[0].kind == PROXY_NONE)
        ;
    else if (told_count > 0 && !is_auto)
        rc = take(out, told, told_count, "--proxy", e);
    else if (invited_count > 0 && !is_auto)
        rc = take(out, invited, invited_count, "the invitation", e);
    else
        rc = take_env(out, relay, env, e);
    if (rc == 0)
        say_path(out);
    return rc;
}

void proxy_route_wipe(struct proxy_route *r)
{
    for (size_t i = 0; i < r->count; i++)
        proxy_url_wipe(&r->hops[i]);
    r->count = 0;
}
