// SPDX-License-Identifier: Apache-2.0
#include "link/connect.h"
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/log.h"
#include "link/head.h"
#include "wire/scan.h"
#include "wire/skip.h"

#define INTERIM_MAX 8 // 1xx answers before the final one

struct connect {
    struct link link;
    char *proxy, *host;
    char target[288]; // "host:port"
    uint16_t port;
    struct auth *auth;
    enum { CONNECT_BELOW, CONNECT_ASK, CONNECT_ANSWER, CONNECT_DRAIN, CONNECT_OPEN } state;
    bool again;
    unsigned interim, asked;
    struct http_skip skip; // the body of a 407
    size_t drained;
    struct head_reader reader;
    struct bufq rest; // read behind the head: belongs to the tunnel
};

static struct connect *of(struct link *l) { return container_of(l, struct connect, link); }

// Host names come from configuration and callers: what could break out of the line is refused.
static bool host_ok(const char *host)
{
    for (const char *p = host; *p; p++)
        if (*p <= 0x20 || *p >= 0x7f || strchr("/@?#[]", *p))
            return false;
    return *host;
}

static enum link_status fail(struct connect *c, enum err_why why, const char *text)
{
    return link_fail(&c->link, ERR_UNREACHED, why, "CONNECT via %s: %s", c->proxy, text);
}

static enum link_status fail_with(struct connect *c, struct err *e)
{
    link_fail(&c->link, e->kind, e->why, "CONNECT via %s: %s", c->proxy, err_text(e));
    c->link.err.advice = e->advice;
    c->link.err.advised = e->advised;
    err_fini(e);
    return LINK_FAILED;
}

// The next attempt, over a new connection, goes on where this one stopped.
static enum link_status again(struct connect *c)
{
    c->again = true;
    return fail(c, WHY_REFUSED, "the proxy wants a new connection");
}

static enum link_status ask(struct connect *c)
{
    const char *auth = "";
    struct err e = ERR_INIT;
    char *text = NULL;
    enum link_status s = c->auth ? auth_line(c->auth, c->target, &auth, &e) : LINK_OK;
    if (s != LINK_OK)
        return s == LINK_FAILED ? fail_with(c, &e) : s;
    int n = asprintf(&text, "CONNECT %s HTTP/1.1\r\nHost: %s\r\nProxy-Connection: keep-alive\r\n%s\r\n", c->target, c->target,
                     auth);
    if (n < 0)
        abort();
    for (int at = 0; at < n; at += BUF_ROOM) // a ticket may be long
        link_send(c->link.below, buf_copy(&c->link.w->pool, text + at, (size_t)(n - at < BUF_ROOM ? n - at : BUF_ROOM)));
    OPENSSL_cleanse(text, (size_t)n);
    free(text);
    c->asked++;
    c->interim = 0;
    c->state = CONNECT_ANSWER;
    return LINK_OK;
}

enum advice connect_advice(int status)
{
    switch (status) {
    case 403:
        return ADVICE_PROXY_FORBIDS;
    case 405:
    case 501:
        return ADVICE_PROXY_NO_CONNECT;
    case 407:
        return ADVICE_PROXY_LOGIN;
    case 502:
    case 503:
    case 504:
        return ADVICE_PROXY_UPSTREAM;
    default:
        return status == 511 || (status >= 300 && status < 400) ? ADVICE_PORTAL : ADVICE_PROXY_STRANGE;
    }
}

static enum link_status refused(struct connect *c, const struct http_head *h)
{
    char detail[160];
    log_escape(detail, sizeof(detail), h->reason.at, h->reason.len);
    enum err_why why = h->status == 504 ? WHY_TIMEOUT : h->status == 403 ? WHY_POLICY : WHY_REFUSED;
    link_fail(&c->link, ERR_UNREACHED, why, "CONNECT via %s: proxy answered %d%s%s%s", c->proxy, h->status,
              detail[0] ? " (" : "", detail, detail[0] ? ")" : "");
    err_advise(&c->link.err, connect_advice(h->status));
    return LINK_FAILED;
}

static bool has_option(const struct http_head *h, const char *option)
{
    return http_has_token(h, "Connection", option) || http_has_token(h, "Proxy-Connection", option);
}

static enum link_status challenged(struct connect *c, const struct http_head *h)
{
    struct err e = ERR_INIT;
    if (!c->auth)
        return refused(c, h);
    if (!auth_challenged(c->auth, h, &e))
        return fail_with(c, &e);
    bool ends = !http_skip_start(&c->skip, h) || has_option(h, "close") || (h->minor == 0 && !has_option(h, "keep-alive"));
    if (ends && auth_stays(c->auth))
        return fail(c, WHY_PROTOCOL, "proxy answered 407 and ended the connection in the middle of authenticating it");
    if (ends)
        return again(c);
    head_done(&c->reader);
    c->state = CONNECT_DRAIN;
    return LINK_OK;
}

static enum link_status ended(struct connect *c)
{
    if (c->asked > 1 && !auth_stays(c->auth)) // it did not keep its word and the connection
        return again(c);
    fail(c, WHY_REFUSED, "proxy closed the connection without an answer");
    err_advise(&c->link.err, ADVICE_PROXY_CLOSES);
    return LINK_FAILED;
}

static enum link_status read_answer(struct connect *c)
{
    struct link *l = &c->link;
    struct http_head h;
    const char *why;
    enum link_status s = head_read(&c->reader, l->below, false, &h, &why);
    if (s == LINK_AGAIN)
        return s;
    if (s == LINK_END)
        return ended(c);
    if (s == LINK_FAILED && why) {
        link_fail(l, ERR_UNREACHED, WHY_PROTOCOL, "CONNECT via %s: proxy's answer is not HTTP: %s", c->proxy, why);
        err_advise(&l->err, ADVICE_PROXY_STRANGE);
        return LINK_FAILED;
    }
    if (s == LINK_FAILED)
        return link_failed_below(l, "CONNECT via %s", c->proxy);
    if (h.status == 407)
        return challenged(c, &h);
    if (h.status >= 200 && c->auth)
        auth_accepted(c->auth);
    if (h.status >= 300 || h.status == 101)
        return refused(c, &h);
    head_done(&c->reader);
    if (h.status < 200)
        return ++c->interim > INTERIM_MAX ? fail(c, WHY_PROTOCOL, "proxy sent only interim answers") : LINK_OK;
    head_rest(&c->reader, &c->rest);
    c->state = CONNECT_OPEN;
    c->auth = NULL;
    link_note_path(l, c->proxy);
    return LINK_OK;
}

static enum link_status drain(struct connect *c)
{
    struct bufq *q = &c->reader.rest;
    while (c->skip.state != SKIP_OVER) {
        struct buf *b = q->head;
        enum link_status s = b ? LINK_OK : link_recv(c->link.below, &b);
        if (s == LINK_AGAIN)
            return s;
        if (s == LINK_FAILED)
            return link_failed_below(&c->link, "CONNECT via %s", c->proxy);
        if (s == LINK_END)
            return ended(c);
        if (!q->head)
            bufq_push(q, b);
        size_t n = http_skip_feed(&c->skip, (char *)buf_data(b), b->len);
        bufq_drop(q, n);
        c->drained += n;
        if (c->skip.state == SKIP_BAD || c->drained > CONNECT_DRAIN_MAX)
            return auth_stays(c->auth) ? fail(c, WHY_PROTOCOL, "the body of the proxy's 407 does not end") : again(c);
    }
    c->state = CONNECT_ASK;
    return LINK_OK;
}

static enum link_status step(struct connect *c)
{
    struct link *l = &c->link;
    enum link_status s;
    switch (c->state) {
    case CONNECT_BELOW:
        if ((s = link_open(l->below)) != LINK_OK)
            return s == LINK_FAILED ? link_failed_below(l, "CONNECT via %s", c->proxy) : s;
        c->state = CONNECT_ASK;
        return LINK_OK;
    case CONNECT_ASK:
        return ask(c);
    case CONNECT_ANSWER:
        return read_answer(c);
    default:
        return drain(c);
    }
}

static enum link_status connect_open(struct link *l)
{
    struct connect *c = of(l);
    enum link_status s = LINK_OK;
    if (err_is(&l->err))
        return LINK_FAILED;
    while (s == LINK_OK && c->state != CONNECT_OPEN)
        s = step(c);
    return s;
}

static enum link_status connect_recv(struct link *l, struct buf **out) { return link_pass_recv(l, &of(l)->rest, of(l)->proxy, out); }

static size_t connect_room(struct link *l) { return link_pass_room(l, of(l)->proxy); }

static void connect_fini(struct link *l)
{
    struct connect *c = of(l);
    head_fini(&c->reader);
    bufq_clear(&c->rest);
    free(c->proxy);
    free(c->host);
    free(c);
}

static const struct link_ops connect_ops = {
    .name = "connect",
    .open = connect_open,
    .recv = connect_recv,
    .send = link_pass_send,
    .room = connect_room,
    .shut = link_pass_shut,
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
    c->auth = o->auth;
    if (!c->proxy || !c->host)
        abort();
    scan_host_port_text(c->target, sizeof(c->target), c->host, c->port);
    if (c->auth)
        auth_begin(c->auth, &c->link);
    if (!host_ok(c->host) || strlen(c->host) > 255) {
        char shown[128];
        log_escape(shown, sizeof(shown), o->host, strlen(o->host));
        link_fail(&c->link, ERR_USAGE, WHY_DNS, "CONNECT via %s: not a host name: %s", c->proxy, shown);
    }
    return &c->link;
}

bool connect_again(const struct link *l) { return l->ops == &connect_ops && container_of(l, struct connect, link)->again; }
