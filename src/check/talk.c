// SPDX-License-Identifier: Apache-2.0
#include "check/talk.h"
#include <openssl/crypto.h>
#include <string.h>
#include "link/tls.h"
#include "session/conn.h"

#define PONG_INTERVAL_MS 60000

static void down(struct talk *t, const struct err *err)
{
    struct err e = ERR_INIT;
    err_copy(&e, err); // it may live in the link
    t->state = TALK_OVER;
    timer_stop(t->w, &t->deadline);
    wake_cancel(&t->wake);
    t->on_event(t, TALK_DOWN, &e); // t may be gone in it
    err_fini(&e);
}

static void down_text(struct talk *t, enum err_kind kind, enum err_why why, enum advice advice, const char *text)
{
    struct err e = ERR_INIT;
    err_set(&e, kind, why, "%s", text);
    err_advise(&e, advice);
    down(t, &e);
    err_fini(&e);
}

static void on_deadline(struct timer *timer)
{
    static const char *const what[] = {
        [TALK_DIALLING] = "no connection in time",
        [TALK_OPENING] = "the handshakes do not come to their end",
        [TALK_ASKING] = "the relay does not answer HELLO",
        [TALK_TALKING] = "",
        [TALK_OVER] = "",
    };
    struct talk *t = container_of(timer, struct talk, deadline);
    down_text(t, ERR_UNREACHED, WHY_TIMEOUT, ADVICE_NONE, what[t->state]);
}

static void send_frame(struct talk *t, const uint8_t *frame, size_t len)
{
    t->spoken_ms = t->w->now_ms;
    link_send(t->inner, buf_copy(&t->w->pool, frame, len));
}

// Frames ------------------------------------------------------------------------------------------------------------

static void on_welcome(struct talk *t)
{
    struct frame_welcome *w = &t->welcome;
    if (frame_get_welcome(w, t->body, t->frame.length) < 0) {
        down_text(t, ERR_UNREACHED, WHY_PROTOCOL, ADVICE_NONE, "malformed WELCOME");
        return;
    }
    if (w->status != WELCOME_OK) {
        struct err e = ERR_INIT;
        conn_refusal(&e, &t->hello, w);
        down(t, &e);
        err_fini(&e);
        return;
    }
    t->peeled = w->flags & WELCOME_PEEL;
    if (t->peeled && !t->hello.has_exporter) {
        down_text(t, ERR_UNREACHED, WHY_PROTOCOL, ADVICE_NONE, "WELCOME peels what was not offered");
        return;
    }
    if (t->peeled) {
        tls_peel_recv(t->inner);
        tls_peel_send(t->inner);
    }
    t->state = TALK_TALKING;
    t->up_us = t->w->now_us;
    timer_stop(t->w, &t->deadline);
    t->on_event(t, TALK_UP, NULL);
}

static void on_frame(struct talk *t)
{
    uint64_t opaque;
    uint32_t interval;
    uint8_t out[FRAME_HEAD + FRAME_CONTROL_MAX];
    if (t->state == TALK_ASKING) {
        if (t->frame.type == FRAME_WELCOME)
            on_welcome(t);
        else
            down_text(t, ERR_UNREACHED, WHY_PROTOCOL, ADVICE_NONE, "the relay's first frame is not WELCOME");
        return;
    }
    bool ping = t->frame.type == FRAME_PING || t->frame.type == FRAME_PONG;
    if (ping && frame_get_ping(&opaque, &interval, t->body, t->frame.length) < 0) {
        down_text(t, ERR_UNREACHED, WHY_PROTOCOL, ADVICE_NONE, "malformed PING");
    } else if (t->frame.type == FRAME_PING) {
        send_frame(t, out, frame_put_ping(out, FRAME_PONG, opaque, PONG_INTERVAL_MS));
    } else if (t->frame.type == FRAME_PONG && opaque == t->pings) {
        t->on_event(t, TALK_PONG, NULL);
    } else if (t->frame.type == FRAME_PAD && t->wanted && t->padded >= t->wanted) {
        t->wanted = 0;
        t->on_event(t, TALK_PADDED, NULL);
    } else if (t->frame.type == FRAME_GOAWAY) {
        down_text(t, ERR_UNREACHED, WHY_MOVED, ADVICE_NONE, "the relay says goodbye");
    }
}

// Takes what b has of the frame; its payload is kept as far as it can matter.
static void take(struct talk *t, struct buf *b)
{
    size_t n;
    if (t->head_have < FRAME_HEAD) {
        n = FRAME_HEAD - t->head_have < b->len ? FRAME_HEAD - t->head_have : b->len;
        memcpy(t->head + t->head_have, buf_data(b), n);
        t->head_have += n;
        buf_skip(b, n);
        if (t->head_have < FRAME_HEAD)
            return;
        frame_get_head(&t->frame, t->head);
        t->body_have = 0;
    }
    n = t->frame.length - t->body_have < b->len ? t->frame.length - t->body_have : b->len;
    if (t->body_have < sizeof(t->body)) {
        size_t keep = sizeof(t->body) - t->body_have;
        memcpy(t->body + t->body_have, buf_data(b), n < keep ? n : keep);
    }
    t->body_have += n;
    buf_skip(b, n);
    if (t->frame.type == FRAME_PAD)
        t->padded += n;
    if (t->body_have < t->frame.length)
        return;
    t->head_have = 0;
    if (t->frame.length <= sizeof(t->body) || t->frame.type == FRAME_PAD)
        on_frame(t);
}

static void receive(struct talk *t)
{
    while (t->state == TALK_ASKING || t->state == TALK_TALKING) {
        struct buf *b;
        switch (link_recv(t->inner, &b)) {
        case LINK_OK:
            break;
        case LINK_AGAIN:
            return;
        case LINK_END:
            down_text(t, ERR_UNREACHED, WHY_LOST, ADVICE_NONE, "the other end closed the connection");
            return;
        default:
            down(t, &t->inner->err);
            return;
        }
        t->spoken_ms = t->w->now_ms;
        while (b->len && (t->state == TALK_ASKING || t->state == TALK_TALKING))
            take(t, b);
        buf_put(b);
    }
}

static void say_hello(struct talk *t)
{
    const struct link_facts *f = t->inner->facts;
    uint8_t out[FRAME_HEAD + FRAME_CONTROL_MAX];
    t->exporter = f && f->has_exporter;
    t->hello.has_exporter = t->peel && t->exporter;
    if (t->hello.has_exporter)
        memcpy(t->hello.exporter, f->exporter, sizeof(t->hello.exporter));
    t->state = TALK_ASKING;
    t->asked_us = t->w->now_us;
    send_frame(t, out, frame_put_hello(out, &t->hello));
}

static void on_wake(struct wake *wake)
{
    struct talk *t = container_of(wake, struct talk, wake);
    if (t->state == TALK_OPENING) {
        enum link_status s = link_open(t->inner);
        if (s == LINK_FAILED)
            down(t, &t->inner->err);
        if (s != LINK_OK)
            return;
        say_hello(t);
    }
    receive(t);
}

static void on_dialled(struct dial *d, struct link *inner, const struct err *err)
{
    struct talk *t = container_of(d, struct talk, dial);
    if (!inner) {
        down(t, err);
        return;
    }
    t->inner = inner;
    t->state = TALK_OPENING;
    t->open_us = t->w->now_us;
    link_own(inner, &t->wake);
    wake_post(t->w, &t->wake);
}

void talk_start(struct talk *t, struct worker *w, struct resolver *r, const struct dial_options *o, bool peel,
                void (*on_event)(struct talk *t, enum talk_event what, const struct err *err))
{
    *t = (struct talk){.w = w, .o = *o, .peel = peel, .on_event = on_event, .began_us = w->now_us};
    t->hello = (struct frame_hello){.ver_min = 1, .ver_max = 1, .carrier = 1};
    worker_random(w, t->hello.session, sizeof(t->hello.session));
    worker_random(w, t->hello.instance, sizeof(t->hello.instance));
    wake_init(&t->wake, on_wake);
    timer_init(&t->deadline, on_deadline);
    timer_set(w, &t->deadline, TALK_MS);
    dial_start(&t->dial, w, r, &t->o, on_dialled);
}

void talk_pad(struct talk *t, size_t bytes)
{
    while (bytes > 0) {
        struct buf *b = buf_get(&t->w->pool);
        size_t n = bytes < FRAME_PAYLOAD_MAX ? bytes : FRAME_PAYLOAD_MAX;
        frame_put_head(buf_data(b), (uint32_t)n, FRAME_PAD, 0);
        worker_random(t->w, buf_data(b) + FRAME_HEAD, n); // nothing that a compressing box could shrink
        b->len = (uint32_t)(FRAME_HEAD + n);
        link_send(t->inner, b);
        bytes -= n;
    }
}

void talk_want(struct talk *t, uint32_t bytes)
{
    uint8_t out[FRAME_HEAD + FRAME_CONTROL_MAX];
    t->wanted = t->padded + bytes;
    send_frame(t, out, frame_put_probe(out, bytes));
}

void talk_ping(struct talk *t, uint32_t interval_ms)
{
    uint8_t out[FRAME_HEAD + FRAME_CONTROL_MAX];
    send_frame(t, out, frame_put_ping(out, FRAME_PING, ++t->pings, interval_ms));
}

void talk_stop(struct talk *t)
{
    uint8_t out[FRAME_HEAD + FRAME_CONTROL_MAX];
    if (!t->w)
        return;
    if (t->state == TALK_TALKING) { // or the relay keeps the session for the park time
        send_frame(t, out, frame_put_goaway(out, 0, 0, "the check ends"));
        link_shut(t->inner, SHUT_END);
    }
    dial_stop(&t->dial);
    timer_stop(t->w, &t->deadline);
    wake_cancel(&t->wake);
    link_close(t->inner);
    t->inner = NULL;
    t->w = NULL;
    t->state = TALK_OVER;
}
