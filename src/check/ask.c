// SPDX-License-Identifier: Apache-2.0
#include "check/ask.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "core/log.h"
#include "link/connect.h"
#include "link/ws.h"
#include "wire/challenge.h"

static void finish(struct ask *a, const struct err *err)
{
    timer_stop(a->w, &a->deadline);
    wake_cancel(&a->wake);
    a->on_done(a, err);
}

static void fail(struct ask *a, enum err_why why, enum advice advice, const char *text)
{
    struct err e = ERR_INIT;
    err_set(&e, ERR_UNREACHED, why, "%s", text);
    err_advise(&e, advice);
    finish(a, &e);
    err_fini(&e);
}

static void take(const struct http_head *h, const char *name, char *out, size_t size)
{
    const struct http_text *t = http_get(h, name);
    log_escape(out, size, t ? t->at : "", t ? t->len : 0);
}

static void take_offers(struct answer *out, const struct http_head *h)
{
    size_t at = 0;
    for (size_t i = 0; i < h->count; i++) {
        struct http_text list = h->headers[i].value;
        struct challenge c;
        char word[32];
        if (!http_text_is_nocase(h->headers[i].name, "Proxy-Authenticate"))
            continue;
        while (challenge_next(&list, &c) && at < sizeof(out->offers)) {
            log_escape(word, sizeof(word), c.scheme.at, c.scheme.len < 24 ? c.scheme.len : 24);
            if (!strcasestr(out->offers, word)) // Digest comes once an algorithm
                at += (size_t)snprintf(out->offers + at, sizeof(out->offers) - at, "%s%s", at ? ", " : "", word);
        }
    }
}

static time_t take_date(const struct http_head *h)
{
    const struct http_text *t = http_get(h, "Date");
    char text[40];
    struct tm tm = {0};
    if (!t || t->len >= sizeof(text))
        return 0;
    memcpy(text, t->at, t->len);
    text[t->len] = 0;
    return strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm) ? timegm(&tm) : 0;
}

static void take_answer(struct ask *a, const struct http_head *h)
{
    struct answer *out = &a->answer;
    const struct http_text *accept = http_get(h, "Sec-WebSocket-Accept"), *protocol = http_get(h, "Sec-WebSocket-Protocol");
    out->status = h->status;
    log_escape(out->reason, sizeof(out->reason), h->reason.at, h->reason.len);
    take(h, "Server", out->server, sizeof(out->server));
    if (!out->server[0])
        take(h, "Proxy-Agent", out->server, sizeof(out->server));
    take(h, "Via", out->via, sizeof(out->via));
    take(h, "Location", out->location, sizeof(out->location));
    take(h, "Content-Type", out->type, sizeof(out->type));
    take_offers(out, h);
    out->date = take_date(h);
    out->connect_advice = connect_advice(h->status);
    out->ws_advice = ws_advice(h);
    out->upgrade = http_has_token(h, "Upgrade", "websocket") && http_has_token(h, "Connection", "upgrade");
    out->accept_ok = accept && http_text_is(*accept, a->accept);
    out->protocol_ok = protocol && http_text_is(*protocol, WS_SUBPROTOCOL);
    out->html = strncasecmp(out->type, "text/html", 9) == 0;
}

static void on_wake(struct wake *wake)
{
    struct ask *a = container_of(wake, struct ask, wake);
    for (;;) {
        struct http_head h;
        const char *why;
        enum link_status s = head_read(&a->reader, a->link, false, &h, &why);
        if (s == LINK_AGAIN)
            return;
        if (s == LINK_END) {
            fail(a, WHY_REFUSED, ADVICE_CUT, "the connection was closed without an answer");
        } else if (s == LINK_FAILED && why) {
            fail(a, WHY_PROTOCOL, ADVICE_NONE, "what answers is not HTTP");
        } else if (s == LINK_FAILED) {
            finish(a, &a->link->err);
        } else if (h.status < 200 && h.status != 101) {
            head_done(&a->reader);
            continue;
        } else {
            take_answer(a, &h);
            finish(a, NULL);
        }
        return;
    }
}

static void on_deadline(struct timer *timer)
{
    char text[64];
    snprintf(text, sizeof(text), "the request is not answered (%d s)", ASK_MS / 1000);
    fail(container_of(timer, struct ask, deadline), WHY_TIMEOUT, ADVICE_NONE, text);
}

void ask_start(struct ask *a, struct link *l, const char *text, const char *accept,
               void (*on_done)(struct ask *a, const struct err *err))
{
    *a = (struct ask){.w = l->w, .link = l, .on_done = on_done};
    snprintf(a->accept, sizeof(a->accept), "%s", accept ? accept : "");
    wake_init(&a->wake, on_wake);
    timer_init(&a->deadline, on_deadline);
    timer_set(a->w, &a->deadline, ASK_MS);
    link_own(l, &a->wake);
    for (size_t len = strlen(text), at = 0; at < len; at += BUF_ROOM)
        link_send(l, buf_copy(&a->w->pool, text + at, len - at < BUF_ROOM ? len - at : BUF_ROOM));
    wake_post(a->w, &a->wake);
}

void ask_stop(struct ask *a)
{
    if (!a->w)
        return;
    timer_stop(a->w, &a->deadline);
    wake_cancel(&a->wake);
    head_fini(&a->reader);
    a->w = NULL;
}

char *answer_text(const struct answer *a, char *out, size_t size)
{
    snprintf(out, size, "HTTP %d%s%s%s%s%s%s%s", a->status, a->reason[0] ? " (" : "", a->reason, a->reason[0] ? ")" : "",
             a->server[0] ? "; Server: " : "", a->server, a->via[0] ? "; Via: " : "", a->via);
    return out;
}
