// SPDX-License-Identifier: Apache-2.0
// Port 80: every request is sent on to https, except those of ACME's HTTP-01 challenges (RFC 8555 section 8.3), which must be
// answered by port 80 itself and are none of ours.
#include <stdio.h>
#include <string.h>
#include "relay/owners.h"

#define TARGET_MAX 4096
#define HOST_MAX 255

static bool claims(const struct front_caller *k, const struct http_head *h)
{
    (void)h;
    return k->kind == FRONT_REDIRECT;
}

static bool is_host_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("-._:[]", c));
}

// The host that was asked for, without its port.
static bool host_of(const struct front_caller *k, const struct http_head *h, char *out)
{
    const struct http_text *host = http_get(h, "Host");
    size_t len = host ? host->len : 0;
    if (len == 0) {
        snprintf(out, HOST_MAX + 1, "%s", k->f->redirect_host ? k->f->redirect_host : "");
        return *out;
    }
    for (size_t i = 0; i < len; i++)
        if (!is_host_char(host->at[i]))
            return false;
    const char *colon = memrchr(host->at, ':', len), *bracket = memrchr(host->at, ']', len);
    if (colon && (!bracket || bracket < colon) && (host->at[0] == '[' || memchr(host->at, ':', len) == colon))
        len = (size_t)(colon - host->at);
    if (len == 0 || len > HOST_MAX)
        return false;
    snprintf(out, HOST_MAX + 1, "%.*s", (int)len, host->at);
    return true;
}

static bool starts(struct http_text t, const char *with) { return t.len >= strlen(with) && !memcmp(t.at, with, strlen(with)); }

// The path and query of a target in either form (RFC 9112 section 3.2).
static struct http_text path_of(struct http_text t)
{
    if (!starts(t, "http://"))
        return t;
    const char *slash = memchr(t.at + 7, '/', t.len - 7);
    return slash ? (struct http_text){slash, (size_t)(t.at + t.len - slash)} : (struct http_text){"/", 1};
}

static void take(struct front_caller *k, const struct http_head *h)
{
    char host[HOST_MAX + 1], port[8] = "", line[TARGET_MAX + HOST_MAX + 40];
    struct http_text path = path_of(h->target);
    bool safe = http_text_is(h->method, "GET") || http_text_is(h->method, "HEAD");
    if (path.len > TARGET_MAX) {
        front_answer(k, 414, "URI Too Long", "");
        return;
    }
    if (path.at[0] != '/' || starts(path, "/.well-known/acme-challenge/") || !host_of(k, h, host)) {
        k->f->stats.not_found++;
        front_answer(k, 404, "Not Found", "");
        return;
    }
    if (k->f->redirect_port != 443)
        snprintf(port, sizeof port, ":%u", k->f->redirect_port);
    snprintf(line, sizeof line, "Location: https://%s%s%.*s\r\n", host, port, (int)path.len, path.at);
    k->f->stats.redirected++;
    front_answer(k, safe ? 301 : 308, safe ? "Moved Permanently" : "Permanent Redirect", line);
}

const struct front_owner front_redirect = {.name = "redirect", .claims = claims, .take = take};
