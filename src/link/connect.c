// SPDX-License-Identifier: Apache-2.0
#include "link/connect.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/log.h"
#include "link/head.h"

#define INTERIM_MAX 8 // 1xx answers before the final one

struct connect {
    struct link link;
    char *proxy, *host, *user, *password;
    uint16_t port;
    bool asked, opened;
    unsigned interim;
    struct head_reader reader;
    struct bufq rest; // read behind the head: belongs to the tunnel
};

static struct connect *of(struct link *l) { return container_of(l, struct connect, link); }

static void wipe(char **text)
{
    if (*text)
        OPENSSL_cleanse(*text, strlen(*text));
    free(*text);
    *text = NULL;
}

// "Proxy-Authorization: Basic …\r\n", or nothing.
static char *credentials(const struct connect *c)
{
    char *pair, *line = NULL;
    if (!c->user || asprintf(&pair, "%s:%s", c->user, c->password ? c->password : "") < 0)
        return NULL;
    size_t len = strlen(pair);
    uint8_t *code = malloc(len / 3 * 4 + 5);
    if (code) {
        EVP_EncodeBlock(code, (uint8_t *)pair, (int)len);
        if (asprintf(&line, "Proxy-Authorization: Basic %s\r\n", code) < 0)
            line = NULL;
        OPENSSL_cleanse(code, strlen((char *)code));
    }
    free(code);
    wipe(&pair);
    return line;
}

// Host names come from configuration and callers: what could break out of the line is refused.
static bool host_ok(const char *host)
{
    for (const char *p = host; *p; p++)
        if (*p <= 0x20 || *p >= 0x7f || strchr("/@?#[]", *p))
            return false;
    return *host;
}

static void ask(struct connect *c)
{
    bool v6 = strchr(c->host, ':');
    char *auth = credentials(c), *text = NULL;
    int n = asprintf(&text,
                     "CONNECT %s%s%s:%u HTTP/1.1\r\nHost: %s%s%s:%u\r\nProxy-Connection: keep-alive\r\n%s\r\n",
                     v6 ? "[" : "", c->host, v6 ? "]" : "", c->port, v6 ? "[" : "", c->host, v6 ? "]" : "", c->port,
                     auth ? auth : "");
    if (n > BUF_ROOM || n < 0)
        link_fail(&c->link, ERR_USAGE, WHY_INTERNAL, "CONNECT via %s: the request is too long", c->proxy);
    else
        link_send(c->link.below, buf_copy(&c->link.w->pool, text, (size_t)n));
    wipe(&auth);
    if (n >= 0)
        wipe(&text);
}

// The schemes of all Proxy-Authenticate lines: "Basic, NTLM".
static void list_offers(const struct http_head *h, char *out, size_t size)
{
    out[0] = 0;
    for (size_t i = 0, at = 0; i < h->count; i++) {
        struct http_text v = h->headers[i].value;
        size_t n = 0;
        if (!http_text_is_nocase(h->headers[i].name, "Proxy-Authenticate"))
            continue;
        while (n < v.len && v.at[n] != ' ' && v.at[n] != ',')
            n++;
        char word[32];
        log_escape(word, sizeof(word), v.at, n);
        int wrote = snprintf(out + at, size - at, "%s%s", at ? ", " : "", word);
        if (wrote < 0 || (size_t)wrote >= size - at)
            return;
        at += (size_t)wrote;
    }
}

static enum link_status refused(struct connect *c, const struct http_head *h)
{
    char detail[160], offers[128];
    if (h->status == 407) {
        list_offers(h, offers, sizeof(offers));
        return link_fail(&c->link, ERR_UNREACHED, WHY_REFUSED, "CONNECT via %s: proxy answered 407 (%s%s%s)", c->proxy,
                         c->user ? "user or password refused; " : "", offers[0] ? offers : "nothing", " offered");
    }
    log_escape(detail, sizeof(detail), h->reason.at, h->reason.len);
    enum err_why why = h->status == 504 ? WHY_TIMEOUT : h->status == 403 ? WHY_POLICY : WHY_REFUSED;
    return link_fail(&c->link, ERR_UNREACHED, why, "CONNECT via %s: proxy answered %d%s%s%s", c->proxy, h->status,
                     detail[0] ? " (" : "", detail, detail[0] ? ")" : "");
}

static enum link_status read_answer(struct connect *c)
{
    struct link *l = &c->link;
    struct http_head h;
    const char *why;
    for (;;) {
        enum link_status s = head_read(&c->reader, l->below, false, &h, &why);
        if (s == LINK_AGAIN)
            return s;
        if (s == LINK_END)
            return link_fail(l, ERR_UNREACHED, WHY_REFUSED, "CONNECT via %s: proxy closed the connection without an answer",
                             c->proxy);
        if (s == LINK_FAILED && why)
            return link_fail(l, ERR_UNREACHED, WHY_PROTOCOL, "CONNECT via %s: proxy's answer is not HTTP: %s", c->proxy,
                             why);
        if (s == LINK_FAILED)
            return link_failed_below(l, "CONNECT via %s", c->proxy);
        if (h.status >= 300 || h.status == 101)
            return refused(c, &h);
        head_done(&c->reader);
        if (h.status >= 200)
            break;
        if (++c->interim > INTERIM_MAX)
            return link_fail(l, ERR_UNREACHED, WHY_PROTOCOL, "CONNECT via %s: proxy sent only interim answers", c->proxy);
    }
    head_rest(&c->reader, &c->rest);
    c->opened = true;
    link_note_path(&c->link, c->proxy);
    return LINK_OK;
}

static enum link_status connect_open(struct link *l)
{
    struct connect *c = of(l);
    if (err_is(&l->err))
        return LINK_FAILED;
    if (c->opened)
        return LINK_OK;
    if (!c->asked) {
        enum link_status s = link_open(l->below);
        if (s != LINK_OK)
            return s == LINK_FAILED ? link_failed_below(l, "CONNECT via %s", c->proxy) : s;
        c->asked = true;
        ask(c);
        if (err_is(&l->err))
            return LINK_FAILED;
    }
    return read_answer(c);
}

static enum link_status connect_recv(struct link *l, struct buf **out)
{
    struct connect *c = of(l);
    if (err_is(&l->err))
        return LINK_FAILED;
    if ((*out = bufq_pop(&c->rest)))
        return LINK_OK;
    enum link_status s = link_recv(l->below, out);
    return s == LINK_FAILED ? link_failed_below(l, "via %s", c->proxy) : s;
}

static void connect_send(struct link *l, struct buf *b) { link_send(l->below, b); }

static size_t connect_room(struct link *l)
{
    size_t room = link_room(l->below);
    if (err_is(&l->below->err) && room)
        link_failed_below(l, "via %s", of(l)->proxy);
    return room;
}

static void connect_shut(struct link *l, enum link_shut how)
{
    if (how == SHUT_ABORT)
        link_fail(l, ERR_FAILED, WHY_ABORTED, "aborted");
    link_shut(l->below, how);
}

static void connect_fini(struct link *l)
{
    struct connect *c = of(l);
    head_fini(&c->reader);
    bufq_clear(&c->rest);
    wipe(&c->user);
    wipe(&c->password);
    free(c->proxy);
    free(c->host);
    free(c);
}

static const struct link_ops connect_ops = {
    .name = "connect",
    .open = connect_open,
    .recv = connect_recv,
    .send = connect_send,
    .room = connect_room,
    .shut = connect_shut,
    .fini = connect_fini,
};

struct link *connect_over(struct link *below, const struct connect_options *o)
{
    struct connect *c = calloc(1, sizeof(*c));
    if (!c)
        abort();
    link_init(&c->link, &connect_ops, NULL, below);
    c->proxy = strdup(o->proxy);
    c->host = strdup(o->host);
    c->port = o->port;
    c->user = o->user ? strdup(o->user) : NULL;
    c->password = o->password ? strdup(o->password) : NULL;
    if (!c->proxy || !c->host)
        abort();
    if (!host_ok(c->host)) {
        char shown[128];
        log_escape(shown, sizeof(shown), o->host, strlen(o->host));
        link_fail(&c->link, ERR_USAGE, WHY_DNS, "CONNECT via %s: not a host name: %s", c->proxy, shown);
    }
    return &c->link;
}
