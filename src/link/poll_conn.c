// SPDX-License-Identifier: Apache-2.0
// One of the connections of a long-poll: it asks one thing at a time and reads the answer, whatever framing boxes on the way have given it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/log.h"
#include "link/poll_own.h"
#include "link/ws.h"

#define TURN_BUFS 16

static void on_wake(struct wake *wake);

static void on_dialled(struct road_call *call, struct link *l, const struct err *err);

void pconn_init(struct pconn *c, struct poll *p)
{
    *c = (struct pconn){.p = p, .call = {.on_done = on_dialled}};
    wake_init(&c->wake, on_wake);
}

void pconn_close(struct pconn *c)
{
    if (c->state == PCONN_DIALLING)
        c->p->road->stop(c->p->road, &c->call);
    link_close(c->link);
    wake_cancel(&c->wake);
    head_fini(&c->reader);
    c->reader = (struct head_reader){0};
    c->link = NULL;
    c->trip = NULL;
    c->state = PCONN_FREE;
}

void pconn_take(struct pconn *c, struct link *l)
{
    c->link = l;
    c->state = PCONN_OPENING;
    c->used = false;
    c->since_ms = l->w->now_ms;
    link_own(l, &c->wake);
    wake_post(l->w, &c->wake);
}

// --- beginning

static void note_failure(struct poll *p, const struct err *err)
{
    uint64_t wait = 100u << (p->dial_failures < 5 ? p->dial_failures : 5);
    err_copy(&p->last, err);
    poll_note_failure(p);
    p->dial_failures++;
    p->dial_ms = p->link.w->now_ms + wait;
    poll_work(p);
}

// The first connection decides whether this is a way at all; the reason of a later one counts when nothing else works.
static void cannot_open(struct pconn *c, const struct err *err)
{
    struct poll *p = c->p;
    struct err e = ERR_INIT;
    err_copy(&e, err);
    pconn_close(c);
    if (p->opened) {
        note_failure(p, &e);
    } else if (!err_is(&p->link.err)) {
        err_copy(&p->link.err, &e);
        link_wake(&p->link);
    }
    err_fini(&e);
}

static void on_dialled(struct road_call *call, struct link *l, const struct err *err)
{
    struct pconn *c = container_of(call, struct pconn, call);
    if (!l)
        cannot_open(c, err);
    else
        pconn_take(c, l);
}

void pconn_dial(struct pconn *c)
{
    c->state = PCONN_DIALLING;
    c->since_ms = c->p->link.w->now_ms;
    c->p->road->dial(c->p->road, &c->call);
}

static void on_open(struct pconn *c)
{
    struct poll *p = c->p;
    enum link_status s = link_open(c->link);
    if (s == LINK_AGAIN)
        return;
    if (s == LINK_FAILED) {
        cannot_open(c, &c->link->err);
        return;
    }
    c->state = PCONN_IDLE;
    c->since_ms = p->link.w->now_ms;
    if (!p->opened) {
        if (c->link->facts)
            *p->link.facts = *c->link->facts;
        p->link.facts->has_exporter = false; // no one connection is the carrier
        memset(p->link.facts->exporter, 0, sizeof(p->link.facts->exporter));
        p->opened = true;
        p->failing_ms = p->link.w->now_ms;
        link_wake(&p->link);
    }
    poll_work(p);
}

// --- asking

static void put_text(struct pconn *c, const char *text, size_t len)
{
    for (size_t at = 0; at < len; at += BUF_ROOM)
        link_send(c->link, buf_copy(&c->link->w->pool, text + at, len - at < BUF_ROOM ? len - at : BUF_ROOM));
}

static void put_head(struct pconn *c)
{
    struct poll *p = c->p;
    const struct trip *t = c->trip;
    struct poll_request r = {.is_post = t->is_post, .acked = p->down.next, .low = poll_low(p), .attempt = t->tries};
    char query[POLL_TARGET_MAX], body[96] = "", *text = NULL;
    memcpy(r.id, p->id, sizeof(r.id));
    if (t->is_post) {
        r.offset = t->piece.offset;
        r.end = t->piece.end;
        r.abort = t->aborts;
        snprintf(body, sizeof(body), "Content-Type: application/octet-stream\r\nContent-Length: %u\r\n", t->piece.len);
    } else {
        r.number = t->number;
        r.hold_s = p->hold_s;
        r.most = p->get_most;
    }
    poll_put_query(query, &r);
    int n = asprintf(&text, "%s %s%c%s HTTP/1.1\r\nHost: %s\r\nCache-Control: no-store, no-transform\r\n%s%s\r\n",
                     t->is_post ? "POST" : "GET", p->path, strchr(p->path, '?') ? '&' : '?', query, p->host, body, p->headers);
    if (n < 0)
        abort();
    put_text(c, text, (size_t)n);
    free(text);
}

// As much of the body as there is room for. False: it is known at the relay already, and gone.
static bool put_body(struct pconn *c)
{
    const struct trip *t = c->trip;
    while (t->is_post && c->sent < t->piece.len && link_room(c->link) > 0) {
        struct buf *b = buf_get(&c->link->w->pool);
        if (!poll_out_copy(&c->p->up, t->piece.offset + c->sent, t->piece.len - c->sent, b)) {
            buf_put(b);
            return false;
        }
        c->sent += b->len;
        link_send(c->link, b);
    }
    return true;
}

void pconn_ask(struct pconn *c, struct trip *t)
{
    uint64_t now = c->p->link.w->now_ms;
    t->state = TRIP_OUT;
    t->out_ms = now;
    t->due_ms = now + POLL_PATIENCE_MS + (t->is_post ? t->piece.len / 16 : c->p->hold_s * 1000u);
    c->trip = t;
    c->state = PCONN_BUSY;
    c->sent = c->head_have = c->got = 0;
    c->in_body = c->lasts = c->closes = c->strange = false;
    put_head(c);
    put_body(c);
    wake_post(c->p->link.w, &c->wake);
}

// --- the answer

// The connection ended instead of answering.
static void lost(struct pconn *c, const struct err *err)
{
    struct poll *p = c->p;
    struct trip *t = c->trip;
    if (err_is(err))
        err_copy(&p->last, err);
    else
        err_set(&p->last, ERR_UNREACHED, WHY_REFUSED, "the connection ended without an answer");
    pconn_close(c);
    poll_trip_failed(p, t, true);
}

static bool is_passing(int status)
{
    return status == 408 || status == 425 || status == 429 || status >= 500;
}

// Somebody else answered. What may pass is asked again; what will not ends the carrier.
static void refused(struct pconn *c)
{
    struct poll *p = c->p;
    struct trip *t = c->trip;
    struct err e = ERR_INIT;
    bool passing = is_passing(c->status) && c->status != 501 && c->status != 505 && c->status != 511;
    if (poll_in_is_done(&p->down) && poll_out_is_done(&p->up)) { // all is said; the relay may have forgotten it
        pconn_close(c);
        t->state = TRIP_FREE;
        return;
    }
    if (c->status == 200)
        err_set(&e, ERR_UNREACHED, WHY_PROTOCOL, "something on the way answered %s with a page of its own", t->is_post ? "POST" : "GET");
    else if (c->status == 404 && p->begun)
        err_set(&e, ERR_UNREACHED, WHY_LOST, "the relay does not know this carrier any more");
    else
        err_set(&e, ERR_UNREACHED, WHY_REFUSED, "the server answered %d%s%s%s", c->status, c->reason[0] ? " (" : "", c->reason,
                c->reason[0] ? ")" : "");
    if (c->status != 404 || !p->begun)
        err_advise(&e, c->advice);
    pconn_close(c);
    if (c->status == 413 && t->is_post && p->post_most > 4096) {
        poll_recut(p);
        err_move(&p->last, &e);
    } else if (passing) {
        err_move(&p->last, &e);
        poll_trip_failed(p, t, false);
    } else {
        poll_fail(p, e.kind, e.why, "%s", err_text(&e));
        err_advise(&p->link.err, e.advice);
    }
    err_fini(&e);
}

static void finish(struct pconn *c)
{
    struct poll *p = c->p;
    struct trip *t = c->trip;
    bool whole = !t->is_post || c->sent == t->piece.len;
    if (c->status != 200 || c->strange || c->head_have < POLL_ANSWER_HEAD) {
        refused(c);
        return;
    }
    if (c->got < c->answer.len) {
        lost(c, &(struct err){0});
        return;
    }
    if (c->answer.end && !poll_in_end(&p->down, c->answer.offset + c->got))
        poll_fail(p, ERR_FAILED, WHY_PROTOCOL, "the relay contradicts its end");
    poll_trip_done(p, t, c);
    if (!bufq_empty(&p->down.ready) || poll_in_is_done(&p->down))
        link_wake(&p->link);
    if (c->closes || c->lasts || !whole) {
        pconn_close(c);
        return;
    }
    c->trip = NULL;
    c->state = PCONN_IDLE;
    c->used = true;
    c->since_ms = p->link.w->now_ms;
}

static void take_answer_head(struct pconn *c)
{
    struct poll *p = c->p;
    if (!poll_get_answer(&c->answer, c->head)) {
        c->strange = true;
    } else if (c->answer.abort) {
        poll_fail(p, ERR_UNREACHED, WHY_LOST, "the relay ended this carrier");
    } else {
        poll_heard(p, &c->answer);
    }
}

// Content of the body: first our head, then data; what is behind them is nobody's.
static void take_content(struct pconn *c, struct buf *b)
{
    struct poll *p = c->p;
    if (c->status == 200 && c->head_have < POLL_ANSWER_HEAD) {
        size_t n = POLL_ANSWER_HEAD - c->head_have;
        n = n < b->len ? n : b->len;
        memcpy(c->head + c->head_have, buf_data(b), n);
        c->head_have += (uint32_t)n;
        buf_skip(b, n);
        if (c->head_have == POLL_ANSWER_HEAD)
            take_answer_head(c);
    }
    if (c->status != 200 || c->strange || c->head_have < POLL_ANSWER_HEAD || err_is(&p->link.err)) {
        buf_put(b);
        return;
    }
    if (b->len > c->answer.len - c->got)
        b->len = c->answer.len - c->got;
    if (b->len == 0) {
        buf_put(b);
        return;
    }
    uint64_t at = c->answer.offset + c->got;
    c->got += b->len;
    c->trip->due_ms = p->link.w->now_ms + POLL_PATIENCE_MS; // it moves
    if (!poll_in_take(&p->down, at, b))
        poll_fail(p, ERR_FAILED, WHY_PROTOCOL, "the relay sends behind its end");
    if (!bufq_empty(&p->down.ready))
        link_wake(&p->link);
}

static enum link_status pull(struct pconn *c, struct buf **b)
{
    *b = bufq_pop(&c->reader.rest);
    return *b ? LINK_OK : link_recv(c->link, b);
}

// Takes the framing off; what belongs to a later answer stays.
static void take_body(struct pconn *c, struct buf *b)
{
    size_t from = 0, len = b->len;
    if (!c->lasts)
        http_skip_data(&c->skip, (char *)buf_data(b), b->len, &from, &len);
    buf_skip(b, from);
    if (len < b->len) {
        struct buf *content = buf_split(b, len);
        bufq_push_front(&c->reader.rest, b);
        b = content;
    }
    take_content(c, b);
}

// True: the answer is whole, or the connection is gone: nothing more is to be done here.
static bool read_body(struct pconn *c)
{
    struct poll *p = c->p;
    for (int i = 0; i < TURN_BUFS; i++) {
        struct buf *b;
        if (err_is(&p->link.err))
            return true;
        if (!c->lasts && c->skip.state == SKIP_OVER) {
            finish(c);
            return true;
        }
        if (p->down.ready.bytes >= POLL_QUEUE_MAX / 4) {
            p->stalled = true;
            return true;
        }
        enum link_status s = pull(c, &b);
        if (s == LINK_AGAIN)
            return true;
        if (s == LINK_END && c->lasts) {
            finish(c);
            return true;
        }
        if (s == LINK_OK)
            take_body(c, b);
        if (s != LINK_OK || c->skip.state == SKIP_BAD) {
            lost(c, &c->link->err);
            return true;
        }
    }
    wake_post(p->link.w, &c->wake);
    return true;
}

static void take_head(struct pconn *c, const struct http_head *h)
{
    c->status = h->status;
    c->advice = ws_advice(h);
    c->closes = http_has_token(h, "Connection", "close") || (h->minor == 0 && !http_has_token(h, "Connection", "keep-alive"));
    log_escape(c->reason, sizeof(c->reason), h->reason.at, h->reason.len);
    c->lasts = !http_skip_start(&c->skip, h);
    if (c->status == 204 || c->status == 304)
        c->skip = (struct http_skip){.state = SKIP_OVER};
    c->lasts = c->lasts && c->status != 204 && c->status != 304;
    c->in_body = true;
}

static void read_answer(struct pconn *c)
{
    struct http_head h;
    const char *why;
    while (!c->in_body) {
        switch (head_read(&c->reader, c->link, false, &h, &why)) {
        case LINK_OK:
            if (h.status >= 200)
                take_head(c, &h);
            head_done(&c->reader);
            break;
        case LINK_AGAIN:
            return;
        default:
            lost(c, &c->link->err);
            return;
        }
    }
    read_body(c);
}

// An idle connection has nothing to say but its end.
static void watch_idle(struct pconn *c)
{
    struct buf *b;
    enum link_status s = link_recv(c->link, &b);
    if (s == LINK_OK)
        buf_put(b);
    if (s != LINK_AGAIN)
        pconn_close(c);
}

static void on_wake(struct wake *wake)
{
    struct pconn *c = container_of(wake, struct pconn, wake);
    if (c->p->link.closed || err_is(&c->p->link.err))
        return;
    if (c->state == PCONN_OPENING)
        on_open(c);
    else if (c->state == PCONN_IDLE)
        watch_idle(c);
    else if (c->state == PCONN_BUSY && !put_body(c))
        lost(c, &(struct err){0});
    else if (c->state == PCONN_BUSY)
        read_answer(c);
}
