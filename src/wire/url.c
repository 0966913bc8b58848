// SPDX-License-Identifier: Apache-2.0
#include "wire/url.h"
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include "wire/percent.h"
#include "wire/scan.h"

struct slice {
    const char *at;
    size_t len;
};

// host[:port] into the fields; `standard` when no port is written.
static int take_authority(const struct scan *s, struct slice t, char *host, uint16_t *port, uint16_t standard)
{
    size_t n = scan_colon(t.at, t.len);
    *port = standard;
    if (scan_host(s, t.at, n, host) < 0)
        return -1;
    if (n == t.len)
        return 0;
    if (scan_colon(t.at + n + 1, t.len - n - 1) != t.len - n - 1)
        return scan_fail(s, "write an IPv6 address in brackets, as in [2001:db8::1]:443");
    return scan_port(s, t.at + n + 1, t.len - n - 1, false, port);
}

static bool is_path_char(char c)
{
    return c > 0x20 && c < 0x7f && !strchr("\"<>\\^`{|}?#", c);
}

static int take_path(const struct scan *s, const char *at, char *path)
{
    size_t n = strlen(at);
    strcpy(path, "/");
    if (n == 0)
        return 0;
    if (*at != '/')
        return scan_fail(s, "a relay URL has no query and no fragment; end it with its path");
    for (size_t i = 0; i < n; i++)
        if (!is_path_char(at[i]))
            return scan_fail(s, "the path of a relay URL cannot contain '%c'",
                             at[i] > 0x20 && at[i] < 0x7f ? at[i] : '?');
    if (!scan_copy(path, URL_PATH_MAX + 1, at, n))
        return scan_fail(s, "the path is longer than %d characters", URL_PATH_MAX);
    return 0;
}

// What may be told of a URL: nothing between the scheme and the last '@'.
static const char *without_login(const char *text, char *out, size_t size)
{
    const char *sign = strrchr(text, '@'), *scheme = strstr(text, "://");
    if (!sign)
        return text;
    snprintf(out, size, "%.*s***%s", scheme && scheme < sign ? (int)(scheme + 3 - text) : 0, text, sign);
    return out;
}

int relay_url_parse(struct relay_url *u, const char *text, struct err *e)
{
    char shown[256];
    struct scan s = {"relay", without_login(text, shown, sizeof shown), e};
    const char *at = text;
    *u = (struct relay_url){.tls = true};
    if (scan_has_prefix(text, strlen(text), "wss://"))
        at += 6;
    else if (scan_has_prefix(text, strlen(text), "ws://"))
        at += 5, u->tls = false;
    else if (strstr(text, "://"))
        return scan_fail(&s, "a relay is reached by wss:// (or ws://); write name[:port] or wss://name[:port]/path");
    struct slice authority = {at, strcspn(at, "/?#")};
    if (memchr(authority.at, '@', authority.len))
        return scan_fail(&s, "a relay URL carries no user; who you are is said by the key that `culvert join` made");
    if (take_authority(&s, authority, u->host, &u->port, u->tls ? 443 : 80) < 0)
        return -1;
    return take_path(&s, at + authority.len, u->path);
}

char *relay_url_text(const struct relay_url *u, char *out)
{
    char where[URL_HOST_MAX + 10];
    if (u->port == (u->tls ? 443 : 80))
        snprintf(where, sizeof where, strchr(u->host, ':') ? "[%s]" : "%s", u->host);
    else
        scan_host_port_text(where, sizeof where, u->host, u->port);
    snprintf(out, URL_TEXT_MAX, "%s://%s%s", u->tls ? "wss" : "ws", where, u->path);
    return out;
}

char *relay_url_where(const struct relay_url *u, char *out)
{
    return scan_host_port_text(out, URL_TEXT_MAX, u->host, u->port);
}

static const struct {
    const char *name;
    uint16_t port;
} kinds[] = {
    [PROXY_NONE] = {"none", 0},          [PROXY_AUTO] = {"auto", 0},        [PROXY_PAC] = {"pac", 0},
    [PROXY_HTTP] = {"http", 80},         [PROXY_HTTPS] = {"https", 443},    [PROXY_H2] = {"h2", 443},
    [PROXY_SOCKS4A] = {"socks4a", 1080}, [PROXY_SOCKS5] = {"socks5", 1080}, [PROXY_SOCKS5H] = {"socks5h", 1080},
};
#define KINDS (sizeof kinds / sizeof *kinds)

const char *proxy_kind_name(enum proxy_kind kind)
{
    return (size_t)kind < KINDS ? kinds[kind].name : "unknown";
}

static int take_scheme(const struct scan *s, const char **at, enum proxy_kind *kind)
{
    const char *sign = strstr(*at, "://");
    *kind = PROXY_HTTP;
    if (!sign)
        return 0;
    for (size_t k = PROXY_HTTP; k < KINDS; k++) {
        size_t n = strlen(kinds[k].name);
        if (scan_has_prefix(*at, (size_t)(sign - *at), kinds[k].name) && n == (size_t)(sign - *at)) {
            *kind = (enum proxy_kind)k;
            *at = sign + 3;
            return 0;
        }
    }
    return scan_fail(s, "unknown scheme; write http, https, h2, socks4a, socks5 or socks5h://host[:port], "
                        "pac+URL, auto or none");
}

static int take_login(const struct scan *s, struct proxy_url *p, struct slice t)
{
    const char *colon = memchr(t.at, ':', t.len);
    size_t n = colon ? (size_t)(colon - t.at) : t.len;
    p->has_login = true;
    p->has_password = colon != NULL;
    if (!percent_decode(p->user, sizeof p->user, t.at, n) ||
        (colon && !percent_decode(p->password, sizeof p->password, colon + 1, t.len - n - 1)))
        return scan_fail(s, "user and password have at most %d bytes each and encode odd ones as %%XX", URL_LOGIN_MAX);
    return 0;
}

// The last '@' of the authority ends the login, so that an unencoded one in a password does no harm.
static struct slice split_login(struct slice *authority)
{
    struct slice login = {authority->at, 0};
    const char *sign = memrchr(authority->at, '@', authority->len);
    if (!sign)
        return (struct slice){0};
    login.len = (size_t)(sign - authority->at);
    authority->at = sign + 1;
    authority->len -= login.len + 1;
    return login;
}

static int take_proxy(const struct scan *s, struct proxy_url *p, const char *at)
{
    if (take_scheme(s, &at, &p->kind) < 0)
        return -1;
    struct slice authority = {at, strcspn(at, "/?#")};
    const char *tail = at + authority.len;
    if (tail[0] && strcmp(tail, "/") != 0)
        return scan_fail(s, "a proxy has no path; write scheme://[user[:password]@]host[:port], encoding / ? # in "
                            "passwords as %%2F %%3F %%23");
    struct slice login = split_login(&authority);
    if (login.at && take_login(s, p, login) < 0)
        return -1;
    return take_authority(s, authority, p->host, &p->port, kinds[p->kind].port);
}

int proxy_url_parse(struct proxy_url *p, const char *text, struct err *e)
{
    char shown[256];
    struct scan s = {"proxy", without_login(text, shown, sizeof shown), e};
    *p = (struct proxy_url){0};
    if (strcmp(text, "none") == 0 || strcmp(text, "auto") == 0) {
        p->kind = *text == 'n' ? PROXY_NONE : PROXY_AUTO;
        return 0;
    }
    if (scan_has_prefix(text, strlen(text), "pac+")) {
        p->kind = PROXY_PAC;
        if (!text[4] || !scan_copy(p->pac, sizeof p->pac, text + 4, strlen(text + 4)))
            return scan_fail(&s, "write pac+ and the URL of the script, at most %d characters", URL_PAC_MAX);
        return 0;
    }
    if (take_proxy(&s, p, text) < 0) {
        proxy_url_wipe(p);
        return -1;
    }
    return 0;
}

char *proxy_url_where(const struct proxy_url *p, char *out)
{
    return scan_host_port_text(out, URL_TEXT_MAX, p->host, p->port);
}

char *proxy_url_text(const struct proxy_url *p, char *out)
{
    char where[URL_HOST_MAX + 10], user[URL_LOGIN_MAX * 3 + 1] = "";
    if (p->kind == PROXY_NONE || p->kind == PROXY_AUTO)
        return strcpy(out, proxy_kind_name(p->kind));
    if (p->kind == PROXY_PAC) {
        sprintf(out, "pac+%s", p->pac);
        return out;
    }
    scan_host_port_text(where, sizeof where, p->host, p->port);
    percent_encode(user, sizeof user, p->user, "");
    snprintf(out, URL_PAC_MAX + 8, "%s://%s%s%s%s", proxy_kind_name(p->kind), user, p->password[0] ? ":***" : "",
             p->has_login ? "@" : "", where);
    return out;
}

bool proxy_url_secret_text(const struct proxy_url *p, char *out, size_t size)
{
    char where[URL_HOST_MAX + 10], user[URL_LOGIN_MAX * 3 + 1] = "", password[URL_LOGIN_MAX * 3 + 1] = "";
    int n;
    if (p->kind < PROXY_HTTP) {
        n = snprintf(out, size, "%s%s", p->kind == PROXY_PAC ? "pac+" : proxy_kind_name(p->kind), p->pac);
        return n >= 0 && (size_t)n < size;
    }
    scan_host_port_text(where, sizeof where, p->host, p->port);
    percent_encode(user, sizeof user, p->user, "");
    percent_encode(password, sizeof password, p->password, "");
    n = snprintf(out, size, "%s://%s%s%s%s%s", proxy_kind_name(p->kind), user, password[0] ? ":" : "", password,
                 p->has_login ? "@" : "", where);
    OPENSSL_cleanse(password, sizeof password);
    return n >= 0 && (size_t)n < size;
}

void proxy_url_wipe(struct proxy_url *p)
{
    OPENSSL_cleanse(p, sizeof *p);
}
