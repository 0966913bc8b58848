// SPDX-License-Identifier: Apache-2.0
#include "forward/http_proxy.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "forward/caller.h"
#include "forward/http_request.h"
#include "link/head.h"
#include "wire/scan.h"

struct http_proxy {
    struct forward *fw;
    struct socks_way way;
    char *login; // "Basic …", owned, wiped
    struct callers callers;
};

struct http_caller {
    struct caller caller; // first
    struct http_proxy *p;
    struct head_reader reader;
    struct addr origin;
};

static void say(struct link *l, const char *status, const char *headers, const char *text)
{
    char out[1024];
    int n = snprintf(out, sizeof(out), "HTTP/1.1 %s\r\n%sContent-Type: text/plain\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s\n",
                     status, headers, strlen(text) + 1, text);
    link_send(l, buf_copy(&l->w->pool, out, n < (int)sizeof(out) ? (size_t)n : sizeof(out) - 1));
}

static void refuse(struct http_caller *c, const char *status, const char *headers, const char *text)
{
    say(c->caller.link, status, headers, text);
    caller_refuse(&c->caller);
}

// What was asked for ----------------------------------------------------------------------------------------------

// host[:port], brackets taken off. standard 0: a port must be there.
static bool take_authority(struct http_text t, uint16_t standard, struct socks_dest *d)
{
    const char *colon = memrchr(t.at, ':', t.len), *bracket = memrchr(t.at, ']', t.len);
    unsigned port = standard;
    size_t len = t.len;
    if (colon && (!bracket || colon > bracket)) {
        len = (size_t)(colon - t.at);
        port = 0;
        for (const char *p = colon + 1; p < t.at + t.len; p++) {
            if (*p < '0' || *p > '9' || (port = port * 10 + (unsigned)(*p - '0')) > 65535)
                return false;
        }
    }
    *d = (struct socks_dest){.is_name = true, .port = (uint16_t)port};
    if (port == 0 || (len > 0 && t.at[0] != '[' && memchr(t.at, ':', len)))
        return false;
    return scan_asked_host(t.at, len, d->host);
}

// http://authority/path; *path is "" for none.
static bool take_url(struct http_text target, struct http_text *authority, struct http_text *path)
{
    static const char scheme[] = "http://";
    size_t n = sizeof(scheme) - 1;
    if (target.len < n || !http_text_is_nocase((struct http_text){target.at, n}, scheme))
        return false;
    *authority = (struct http_text){target.at + n, 0};
    while (n + authority->len < target.len && !strchr("/?#", authority->at[authority->len]))
        authority->len++;
    *path = (struct http_text){authority->at + authority->len, target.len - n - authority->len};
    return true;
}

static bool is_ours(const struct http_head *h, struct http_text name)
{
    static const char *const hop[] = {"Connection", "Keep-Alive", "Host", "TE", "Upgrade", NULL};
    char text[64];
    if (name.len > 6 && http_text_is_nocase((struct http_text){name.at, 6}, "Proxy-"))
        return true;
    for (const char *const *it = hop; *it; it++)
        if (http_text_is_nocase(name, *it))
            return true;
    if (name.len >= sizeof(text))
        return false;
    memcpy(text, name.at, name.len);
    text[name.len] = 0;
    return http_has_token(h, "Connection", text) && !http_text_is_nocase(name, "Content-Length") &&
           !http_text_is_nocase(name, "Transfer-Encoding");
}

static bool add(struct buf *b, struct http_text t) { return buf_append(b, t.at, t.len) == t.len; }

static bool add_word(struct buf *b, const char *word) { return add(b, (struct http_text){word, strlen(word)}); }

// The request as the origin shall see it (RFC 9112 3.2.1), the only one on its connection. NULL: too long.
static struct buf *rewrite(struct pool *pool, const struct http_head *h, struct http_text authority, struct http_text path)
{
    struct buf *b = buf_get(pool);
    b->start = 0;
    bool good = add(b, h->method) && add_word(b, " ") && (path.len && *path.at == '/' ? true : add_word(b, "/")) && add(b, path) &&
                add_word(b, h->minor ? " HTTP/1.1\r\nHost: " : " HTTP/1.0\r\nHost: ") && add(b, authority) &&
                add_word(b, "\r\nConnection: close\r\n");
    for (size_t i = 0; good && i < h->count; i++) {
        if (!is_ours(h, h->headers[i].name))
            good = add(b, h->headers[i].name) && add_word(b, ": ") && add(b, h->headers[i].value) && add_word(b, "\r\n");
    }
    if (good && add_word(b, "\r\n"))
        return b;
    buf_put(b);
    return NULL;
}

// On its way ------------------------------------------------------------------------------------------------------

static const char *status_of(enum err_why why)
{
    switch (why) {
    case WHY_POLICY:
        return "403 Forbidden";
    case WHY_TIMEOUT:
        return "504 Gateway Timeout";
    case WHY_LIMIT:
        return "503 Service Unavailable";
    default:
        return "502 Bad Gateway";
    }
}

static void answer_failure(struct conduit *c, const struct err *err)
{
    char text[512];
    snprintf(text, sizeof(text), "%s: %s", c->ask.dest, err_text(err));
    say(c->ask.caller, status_of(err->why), "", text);
    conduit_linger(c);
}

static void answer_connect(struct conduit *c, const struct err *err, const struct addr *bound)
{
    static const char yes[] = "HTTP/1.1 200 Connection established\r\n\r\n";
    if (err)
        answer_failure(c, err);
    else
        link_send(c->ask.caller, buf_copy(&c->ask.caller->w->pool, yes, sizeof(yes) - 1));
}

static void answer_plain(struct conduit *c, const struct err *err, const struct addr *bound)
{
    if (err)
        answer_failure(c, err);
}

static void connect_to(struct http_caller *c, const struct socks_dest *dest, struct buf *early, const struct http_head *h)
{
    static const struct conduit_ops connect_ops = {.answer = answer_connect}, plain_ops = {.answer = answer_plain};
    char text[320];
    struct bufq rest = {0};
    struct http_proxy *p = c->p;
    struct socks_dest to = *dest;
    scan_host_port_text(text, sizeof(text), to.host, to.port);
    struct buf *head = c->reader.text;
    size_t used = c->reader.used;
    c->reader.text = NULL;
    if (head->len > used)
        bufq_push(&rest, buf_copy(&p->fw->w->pool, buf_data(head) + used, head->len - used));
    head_rest(&c->reader, &rest);
    struct link *link = http_request_over(c->caller.link, &rest, h); // before the text goes that the head points into
    buf_put(head);
    struct conduit_ask ask = {.kind = "http", .caller = link, .origin = c->origin, .dest = text, .early = early,
                              .ops = h ? &plain_ops : &connect_ops};
    caller_drop(&c->caller);
    p->way.connect(p->way.owner, &ask, &to);
}

static bool is_known(const struct http_proxy *p, const struct http_head *h)
{
    const struct http_text *said = http_get(h, "Proxy-Authorization");
    if (!p->login)
        return true;
    return said && said->len == strlen(p->login) && CRYPTO_memcmp(said->at, p->login, said->len) == 0;
}

// True: the caller is gone from here.
static bool asked(struct http_caller *c, const struct http_head *h)
{
    struct socks_dest dest;
    struct http_text authority, path;
    if (!is_known(c->p, h)) {
        refuse(c, "407 Proxy Authentication Required", "Proxy-Authenticate: Basic realm=\"culvert\", charset=\"UTF-8\"\r\n",
               "This proxy wants the user and password of --socks-login.");
    } else if (http_text_is(h->method, "CONNECT")) {
        if (take_authority(h->target, 0, &dest)) {
            connect_to(c, &dest, NULL, NULL);
            return true;
        }
        refuse(c, "400 Bad Request", "", "CONNECT takes host:port.");
    } else if (!take_url(h->target, &authority, &path) || !take_authority(authority, 80, &dest)) {
        refuse(c, "400 Bad Request", "", "This is an HTTP proxy: it takes CONNECT host:port and http:// URLs.");
    } else {
        struct buf *early = rewrite(&c->p->fw->w->pool, h, authority, path);
        if (early) {
            connect_to(c, &dest, early, h);
            return true;
        }
        refuse(c, "431 Request Header Fields Too Large", "", "The request's head is too long.");
    }
    return false;
}

static enum caller_heard hear(struct caller *caller)
{
    struct http_caller *c = container_of(caller, struct http_caller, caller);
    struct http_head h;
    const char *why = NULL;
    enum link_status s = head_read(&c->reader, caller->link, true, &h, &why);
    if (s == LINK_AGAIN)
        return CALLER_WAITS;
    if (s == LINK_OK && asked(c, &h))
        return CALLER_IS_GONE;
    if (s == LINK_FAILED && why)
        refuse(c, "400 Bad Request", "", why);
    return CALLER_ENDED;
}

static void fini(struct caller *caller) { head_fini(&container_of(caller, struct http_caller, caller)->reader); }

void http_proxy_accept(struct http_proxy *p, struct link *link, const struct addr *origin)
{
    struct caller *caller = caller_new(&p->callers, sizeof(struct http_caller), link);
    if (!caller)
        return;
    struct http_caller *c = container_of(caller, struct http_caller, caller);
    c->p = p;
    c->origin = *origin;
}

struct http_proxy *http_proxy_new(struct forward *fw, const struct socks_way *way, const char *login)
{
    struct http_proxy *p = calloc(1, sizeof(*p));
    size_t len = login ? strlen(login) : 0;
    if (!p || (login && !(p->login = malloc(len / 3 * 4 + 16))))
        abort();
    if (login) {
        memcpy(p->login, "Basic ", 6);
        EVP_EncodeBlock((uint8_t *)p->login + 6, (const uint8_t *)login, (int)len);
    }
    p->fw = fw;
    p->way = *way;
    p->callers = (struct callers){.w = fw->w, .max = HTTP_PROXY_CALLERS_MAX, .ms = HTTP_PROXY_MS, .hear = hear, .fini = fini};
    list_init(&p->callers.list);
    return p;
}

void http_proxy_free(struct http_proxy *p)
{
    if (!p)
        return;
    callers_end(&p->callers);
    if (p->login)
        OPENSSL_cleanse(p->login, strlen(p->login));
    free(p->login);
    free(p);
}
