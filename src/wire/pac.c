// SPDX-License-Identifier: Apache-2.0
#include "wire/pac.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "wire/percent.h"
#include "wire/scan.h"

static bool is_visible(const char *at)
{
    for (; *at; at++)
        if (*at <= 0x20 || *at >= 0x7f)
            return false;
    return true;
}

static int take_file(const struct scan *s, struct pac_url *u, const char *at)
{
    if (scan_has_prefix(at, strlen(at), "localhost/"))
        at += strlen("localhost");
    if (*at != '/')
        return scan_fail(s, "a script in a file is written file:///path/to/proxy.pac");
    if (!percent_decode(u->path, sizeof u->path, at, strlen(at)))
        return scan_fail(s, "the path is too long, or has a %% that is none");
    return 0;
}

static int take_host(const struct scan *s, struct pac_url *u, const char *at)
{
    size_t len = strcspn(at, "/?#"), n = scan_colon(at, len), rest = strcspn(at + len, "#");
    u->port = u->kind == PAC_HTTPS ? 443 : 80;
    if (memchr(at, '@', len))
        return scan_fail(s, "a script is fetched without a login");
    if (scan_host(s, at, n, u->host) < 0 || (n < len && scan_port(s, at + n + 1, len - n - 1, false, &u->port) < 0))
        return -1;
    if (!is_visible(at))
        return scan_fail(s, "blanks and other odd characters are encoded as %%XX");
    snprintf(u->path, sizeof u->path, "%s%.*s", at[len] == '/' ? "" : "/", (int)rest, at + len);
    return 0;
}

int pac_url_parse(struct pac_url *u, const char *text, struct err *e)
{
    size_t len = strlen(text);
    struct scan s = {"PAC script", memchr(text, '@', strcspn(text, "?#")) ? NULL : text, e}; // what is in front of an @ is not told
    *u = (struct pac_url){0};
    if (len >= URL_PAC_MAX)
        return scan_fail(&s, "the URL is longer than %d characters", URL_PAC_MAX - 1);
    if (scan_has_prefix(text, len, "file://"))
        return take_file(&s, u, text + 7);
    u->kind = scan_has_prefix(text, len, "https://") ? PAC_HTTPS : PAC_HTTP;
    if (u->kind == PAC_HTTP && !scan_has_prefix(text, len, "http://"))
        return scan_fail(&s, "write pac+http://host/proxy.pac, pac+https://… or pac+file:///path");
    return take_host(&s, u, strstr(text, "://") + 3);
}

static bool is_same(const struct proxy_url *a, const struct proxy_url *b)
{
    return a->kind == b->kind && a->port == b->port && strcasecmp(a->host, b->host) == 0 && strcmp(a->user, b->user) == 0;
}

static size_t add(struct proxy_url *out, size_t count, size_t max, const struct proxy_url *p)
{
    for (size_t i = 0; i < count; i++)
        if (is_same(&out[i], p))
            return count;
    if (count < max)
        out[count++] = *p;
    return count;
}

// `where`: host[:port], perhaps with a login in front.
static size_t add_as(struct proxy_url *out, size_t count, size_t max, const char *scheme, const char *where)
{
    char text[URL_TEXT_MAX];
    struct proxy_url p;
    struct err ignored = ERR_INIT;
    int n = snprintf(text, sizeof text, "%s://%s", scheme, where);
    if (n > 0 && (size_t)n < sizeof text && *where && is_visible(text) && proxy_url_parse(&p, text, &ignored) == 0) {
        count = add(out, count, max, &p);
        proxy_url_wipe(&p);
    }
    err_fini(&ignored);
    return count;
}

static size_t add_named(struct proxy_url *out, size_t count, size_t max, const char *kind, const char *where)
{
    static const char *const known[][3] = {
        {"PROXY", "http"},  {"HTTP", "http"},      {"HTTPS", "https"},   {"SOCKS", "socks5h", "socks4a"},
        {"SOCKS4", "socks4a"}, {"SOCKS4A", "socks4a"}, {"SOCKS5", "socks5h"}, {"SOCKS5H", "socks5h"},
    };
    if (strcasecmp(kind, "DIRECT") == 0)
        return add(out, count, max, &(struct proxy_url){.kind = PROXY_NONE});
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        if (strcasecmp(kind, known[k][0]) != 0)
            continue;
        count = add_as(out, count, max, known[k][1], where);
        return known[k][2] ? add_as(out, count, max, known[k][2], where) : count;
    }
    return count;
}

size_t pac_answer_parse(struct proxy_url *out, size_t max, const char *answer)
{
    static const char blanks[] = " \t\r\n";
    size_t count = 0;
    while (*answer) {
        char kind[16], where[URL_TEXT_MAX];
        answer += strspn(answer, " \t\r\n;");
        size_t len = strcspn(answer, ";"), n = strcspn(answer, " \t\r\n;"), skip = n + strspn(answer + n, blanks);
        size_t end = len;
        while (end > skip && strchr(blanks, answer[end - 1]))
            end--;
        if (scan_copy(kind, sizeof kind, answer, n) &&
            scan_copy(where, sizeof where, answer + skip, end > skip ? end - skip : 0))
            count = add_named(out, count, max, kind, where);
        answer += len;
    }
    return count;
}

size_t pac_add_url(struct proxy_url *out, size_t count, size_t max, const char *text)
{
    const char *sign = strstr(text, "://");
    char kind[16];
    if (!sign || !scan_copy(kind, sizeof kind, text, (size_t)(sign - text)))
        return count;
    const char *where = sign + 3;
    char host[URL_TEXT_MAX];
    if (!scan_copy(host, sizeof host, where, strcspn(where, "/?#")))
        return count;
    return add_named(out, count, max, kind, host);
}

bool pac_is_script(const char *data, size_t len, const char **why)
{
    *why = len == 0                  ? "is empty"
           : len > PAC_SCRIPT_MAX    ? "is larger than 1 MiB"
           : memchr(data, 0, len)    ? "is no text"
           : !memmem(data, len, "FindProxyForURL", 15) ? "is no PAC script: it has no FindProxyForURL"
                                                       : NULL;
    return !*why;
}
