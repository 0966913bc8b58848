// SPDX-License-Identifier: Apache-2.0
#include "session/conn.h"
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include "core/log.h"
#include "link/h2.h"
#include "link/tcp.h"
#include "link/tls.h"

#define READS_PER_WAKE 8   // buffers taken in before others get a turn
#define WRITES_PER_WAKE 16

enum conn_state {
    CONN_OPENING, // the stack shakes hands
    CONN_ASKING,  // HELLO (relay) or WELCOME (agent) is awaited
    CONN_JUDGED,  // relay: the owner decides
    CONN_UP,
    CONN_REFUSED, // our refusal leaves, then the end
    CONN_DOWN,
};

// Ends it; the owner hears once.
static void down(struct conn *c, const struct frame_welcome *refusal)
{
    if (c->state == CONN_DOWN)
        return;
    c->state = CONN_DOWN;
    carrier_down(&c->carrier);
    timer_stop(c->w, &c->deadline);
    timer_stop(c->w, &c->tick);
    c->ops->on_down(c, &c->err, refusal);
}

static void down_link(struct conn *c)
{
    err_copy(&c->err, &c->top->err);
    down(c, NULL);
}

static void down_text(struct conn *c, enum err_kind kind, enum err_why why, const char *text)
{
    err_set(&c->err, kind, why, "%s", text);
    down(c, NULL);
}

// The session has ended: it is not to be touched from here any more.
static bool is_detached(struct conn *c)
{
    if (c->carrier.s)
        return false;
    down_text(c, ERR_UNREACHED, WHY_MOVED, "the session has ended");
    return true;
}

static void set_tick(struct conn *c)
{
    uint64_t at = carrier_deadline(&c->carrier);
    if (at == UINT64_MAX)
        return;
    uint64_t delay = at > c->w->now_us ? (at - c->w->now_us + 999) / 1000 : 0;
    if (!timer_is_set(&c->tick) || c->tick.due_ms > c->w->now_ms + delay)
        timer_set(c->w, &c->tick, delay);
}

static void on_tick(struct timer *t)
{
    struct conn *c = container_of(t, struct conn, tick);
    if (is_detached(c))
        return;
    if (carrier_tick(&c->carrier) == CARRIER_DEAD) {
        down_text(c, ERR_UNREACHED, WHY_TIMEOUT,
                  c->carrier.live.suspect ? "the other end does not answer PING any more"
                                          : "the other end is silent");
        return;
    }
    set_tick(c);
}

static void on_deadline(struct timer *t)
{
    struct conn *c = container_of(t, struct conn, deadline);
    bool refused = c->state == CONN_REFUSED;
    if (!err_is(&c->err))
        err_set(&c->err, ERR_UNREACHED, WHY_TIMEOUT, "%s",
                c->state == CONN_OPENING ? "the handshake took too long"
                : c->is_agent            ? "no WELCOME in time"
                : c->state == CONN_ASKING ? "no HELLO in time"
                                          : "HELLO was not answered in time");
    if (refused || c->state != CONN_UP)
        down(c, NULL);
}

static void on_output(struct carrier *carrier)
{
    struct conn *c = carrier->owner;
    wake_post(c->w, &c->wake);
}

// Traffic ------------------------------------------------------------------------------------------------------

static void send_frames(struct conn *c)
{
    for (int i = 0; link_room(c->top) > 0; i++) {
        if (i == WRITES_PER_WAKE) {
            wake_post(c->w, &c->wake);
            return;
        }
        struct buf *b = buf_get(&c->w->pool);
        if (!carrier_fill(&c->carrier, b)) {
            buf_put(b);
            return;
        }
        link_send(c->top, b);
    }
}

// False: the carrier is down.
static bool receive_frames(struct conn *c)
{
    for (int i = 0; i < READS_PER_WAKE; i++) {
        struct buf *b;
        switch (link_recv(c->top, &b)) {
        case LINK_OK:
            break;
        case LINK_AGAIN:
            return true;
        case LINK_END:
            down_text(c, ERR_UNREACHED, WHY_LOST, "the other end closed the connection");
            return false;
        case LINK_FAILED:
            down_link(c);
            return false;
        }
        if (carrier_recv(&c->carrier, b) < 0) {
            err_copy(&c->err, &c->session->err);
            err_prefix(&c->err, "protocol error");
            down(c, NULL);
            return false;
        }
        if (c->state != CONN_UP || is_detached(c))
            return false;
    }
    wake_post(c->w, &c->wake);
    return true;
}

static void run_up(struct conn *c)
{
    if (is_detached(c) || !receive_frames(c))
        return;
    send_frames(c);
    carrier_sample(&c->carrier);
    set_tick(c);
}

static bool progress(struct carrier *carrier, uint64_t *acked, uint64_t *waiting)
{
    const struct conn *c = carrier->owner;
    const struct link *top = c->top, *below;
    size_t queued, above = 0;
    for (; (below = h2_below(top, &queued)); top = below)
        above += queued;
    if (!tcp_progress(top, acked, waiting))
        return false;
    *waiting += above;
    return true;
}

static void go_up(struct conn *c, struct session *s)
{
    c->carrier.number = c->hello.carrier;
    c->carrier.progress = progress;
    c->session = s;
    c->state = CONN_UP;
    h2_widen(c->top);
    timer_stop(c->w, &c->deadline);
    carrier_up(s, &c->carrier, on_output, c);
    wake_post(c->w, &c->wake);
}

// Handshake ----------------------------------------------------------------------------------------------------

static struct buf *put_frame(struct conn *c, size_t (*put)(uint8_t *out, const void *f), const void *f)
{
    struct buf *b = buf_get(&c->w->pool);
    b->len = (uint32_t)put(buf_data(b), f);
    return b;
}

static size_t put_hello(uint8_t *out, const void *f) { return frame_put_hello(out, f); }
static size_t put_welcome(uint8_t *out, const void *f) { return frame_put_welcome(out, f); }

static void on_opened(struct conn *c)
{
    c->state = CONN_ASKING;
    if (!c->is_agent)
        return;
    const struct link_facts *facts = c->top->facts;
    c->hello.has_exporter = c->peel_wanted && facts && facts->has_exporter;
    if (c->hello.has_exporter)
        memcpy(c->hello.exporter, facts->exporter, 32);
    struct buf *b = put_frame(c, put_hello, &c->hello);
    link_send(c->top, b);
    c->asked_us = c->w->now_us;
    OPENSSL_cleanse(c->hello.token, sizeof c->hello.token);
}

static void on_hello(struct conn *c, const uint8_t *payload, size_t len)
{
    if (frame_get_hello(&c->hello, payload, len) < 0) {
        down_text(c, ERR_FAILED, WHY_PROTOCOL, "malformed HELLO");
        return;
    }
    c->state = CONN_JUDGED;
    if (c->hello.ver_min > 1)
        conn_refuse(c, WELCOME_STOP, 0, "this relay is too old for the agent: it speaks culvert/1");
    else if (c->hello.ver_max < 1)
        conn_refuse(c, WELCOME_STOP, 0, "this agent is too old for the relay, which speaks culvert/1");
    else
        c->ops->on_hello(c, &c->hello);
    OPENSSL_cleanse(c->hello.token, sizeof c->hello.token);
}

void conn_refusal(struct err *e, const struct frame_hello *asked, const struct frame_welcome *refusal)
{
    bool stop = refusal->status == WELCOME_STOP;
    bool is_version = refusal->ver < asked->ver_min || refusal->ver > asked->ver_max;
    err_set(e, stop ? ERR_POLICY : ERR_UNREACHED, WHY_POLICY, "the relay refused: %s",
            refusal->text[0] ? refusal->text : "no reason given");
    if (stop && is_version)
        err_advise(e, ADVICE_VERSION);
    else if (stop)
        err_advised(e, ADVICE_UNKNOWN_AGENT);
}

static void on_welcome(struct conn *c, const uint8_t *payload, size_t len)
{
    struct frame_welcome w;
    if (frame_get_welcome(&w, payload, len) < 0 || (w.status == WELCOME_OK && w.ver != 1)) {
        down_text(c, ERR_FAILED, WHY_PROTOCOL, "malformed WELCOME");
        return;
    }
    if (w.status != WELCOME_OK) {
        conn_refusal(&c->err, &c->hello, &w);
        down(c, &w);
        return;
    }
    c->peeled = w.flags & WELCOME_PEEL;
    c->welcome_flags = w.flags;
    if (c->peeled && !c->hello.has_exporter) {
        down_text(c, ERR_FAILED, WHY_PROTOCOL, "WELCOME peels what was not offered");
        return;
    }
    if (c->peeled) {
        tls_peel_recv(c->inner);
        tls_peel_send(c->inner);
    }
    if (!c->ops->on_welcome(c, &w)) {
        down(c, NULL);
        return;
    }
    c->carrier.birth_rtt_us = c->w->now_us - c->asked_us;
    go_up(c, c->session);
}

// Takes from b what the head of the one early frame, then its payload, lacks. -1: it is another frame; 1: it is whole.
static int collect_early(struct conn *c, struct buf *b, struct frame_head *h)
{
    if (!c->early)
        c->early = buf_get_small(&c->w->pool, 0, FRAME_HEAD + FRAME_CONTROL_MAX);
    size_t want = FRAME_HEAD;
    for (;;) {
        if (c->early->len < want) {
            size_t n = want - c->early->len;
            buf_skip(b, buf_append(c->early, buf_data(b), n < b->len ? n : b->len));
        }
        if (c->early->len < want)
            return 0;
        frame_get_head(h, buf_data(c->early));
        if (h->type != (c->is_agent ? FRAME_WELCOME : FRAME_HELLO) || h->stream || h->length > FRAME_CONTROL_MAX)
            return -1;
        if (want == FRAME_HEAD + h->length)
            return 1;
        want = FRAME_HEAD + h->length;
    }
}

// HELLO or WELCOME, in pieces. Bytes behind WELCOME belong to the session.
static void take_early(struct conn *c, struct buf *b)
{
    struct frame_head h;
    int r = collect_early(c, b, &h);
    if (r < 0) {
        buf_put(b);
        down_text(c, ERR_FAILED, WHY_PROTOCOL,
                  c->is_agent ? "the relay's first frame is not WELCOME" : "the first frame is not HELLO");
        return;
    }
    if (r > 0) {
        struct buf *frame = c->early;
        c->early = NULL;
        if (c->is_agent)
            on_welcome(c, buf_data(frame) + FRAME_HEAD, h.length);
        else
            on_hello(c, buf_data(frame) + FRAME_HEAD, h.length);
        OPENSSL_cleanse(buf_data(frame), frame->len); // HELLO holds the token
        buf_put(frame);
    }
    if (b->len == 0 || c->state == CONN_DOWN) {
        buf_put(b);
    } else if (c->state == CONN_UP && c->is_agent && !c->peeled) {
        if (carrier_recv(&c->carrier, b) < 0)
            down_text(c, ERR_FAILED, WHY_PROTOCOL, err_text(&c->session->err));
    } else {
        buf_put(b);
        down_text(c, ERR_FAILED, WHY_PROTOCOL, "bytes behind HELLO or WELCOME");
    }
}

static void run_open(struct conn *c)
{
    enum link_status r = link_open(c->top);
    if (r == LINK_OK)
        on_opened(c);
    else if (r == LINK_FAILED)
        down_link(c);
}

static void run_asking(struct conn *c)
{
    while (c->state == CONN_ASKING) {
        struct buf *b;
        switch (link_recv(c->top, &b)) {
        case LINK_OK:
            take_early(c, b);
            break;
        case LINK_AGAIN:
            return;
        case LINK_END:
            down_text(c, ERR_UNREACHED, WHY_LOST, "the other end closed the connection during the handshake");
            return;
        case LINK_FAILED:
            down_link(c);
            return;
        }
    }
}

// The refusal is out once the queue below has room again and the peer has closed; the deadline bounds it.
static void run_refused(struct conn *c)
{
    for (int i = 0; i < READS_PER_WAKE; i++) {
        struct buf *b;
        enum link_status r = link_recv(c->top, &b);
        if (r == LINK_AGAIN)
            return;
        if (r != LINK_OK) {
            down(c, NULL);
            return;
        }
        buf_put(b);
    }
    wake_post(c->w, &c->wake);
}

static void on_wake(struct wake *wake)
{
    struct conn *c = container_of(wake, struct conn, wake);
    if (c->state == CONN_OPENING)
        run_open(c);
    if (c->state == CONN_ASKING)
        run_asking(c);
    if (c->state == CONN_UP)
        run_up(c);
    else if (c->state == CONN_REFUSED)
        run_refused(c);
}

// Making and ending -----------------------------------------------------------------------------------------------

static struct conn *conn_new(struct worker *w, struct link *inner, bool peel_wanted, uint32_t deadline_ms,
                             const struct conn_ops *ops, void *owner)
{
    struct conn *c = calloc(1, sizeof *c);
    if (!c)
        abort();
    c->w = w;
    c->top = c->inner = inner;
    c->peel_wanted = peel_wanted;
    c->ops = ops;
    c->owner = owner;
    list_init(&c->grave.node);
    wake_init(&c->wake, on_wake);
    timer_init(&c->deadline, on_deadline);
    timer_init(&c->tick, on_tick);
    link_own(inner, &c->wake);
    timer_set(w, &c->deadline, deadline_ms);
    wake_post(w, &c->wake);
    return c;
}

struct conn *conn_agent(struct worker *w, struct link *inner, const struct frame_hello *hello, bool peel_wanted,
                        uint32_t open_ms, struct session *session, const struct conn_ops *ops, void *owner)
{
    struct conn *c = conn_new(w, inner, peel_wanted, open_ms, ops, owner);
    c->is_agent = true;
    c->hello = *hello;
    c->session = session;
    return c;
}

struct conn *conn_relay(struct worker *w, struct link *inner, bool peel_wanted, const struct conn_ops *ops, void *owner)
{
    return conn_new(w, inner, peel_wanted, CONN_HANDSHAKE_MS, ops, owner);
}

// RFC 9266: equal only when this process terminated that very connection.
static bool may_peel(const struct conn *c)
{
    const struct link_facts *facts = c->top->facts;
    return c->peel_wanted && c->hello.has_exporter && facts && facts->has_exporter &&
           CRYPTO_memcmp(facts->exporter, c->hello.exporter, 32) == 0;
}

// What the relay can tell of the outer TLS.
static unsigned outer_flags(const struct conn *c)
{
    const struct link_facts *facts = c->top->facts;
    if (c->peeled)
        return WELCOME_PEEL;
    if (!facts || !facts->tls_version[0])
        return WELCOME_FRONTED;
    // The agent has a TLS 1.3; ours may be older than that, then it is another one for sure.
    bool differs = c->hello.has_exporter &&
                   !(facts->has_exporter && CRYPTO_memcmp(facts->exporter, c->hello.exporter, 32) == 0);
    return differs ? WELCOME_DIFFERS : 0;
}

void conn_welcome(struct conn *c, struct session *session, struct frame_welcome *welcome)
{
    if (c->state != CONN_JUDGED)
        return;
    c->peeled = may_peel(c);
    welcome->ver = 1;
    welcome->status = WELCOME_OK;
    welcome->flags = (uint16_t)((welcome->flags & WELCOME_RESUMED) | outer_flags(c));
    c->welcome_flags = welcome->flags;
    memcpy(welcome->session, session->id, 16);
    memcpy(welcome->birth, session->birth, 8);
    link_send(c->top, put_frame(c, put_welcome, welcome));
    if (c->peeled) {
        tls_peel_recv(c->inner);
        tls_peel_send(c->inner);
    }
    go_up(c, session);
}

void conn_refuse(struct conn *c, enum welcome_status status, uint32_t retry_ms, const char *text)
{
    if (c->state != CONN_JUDGED)
        return;
    struct frame_welcome w = {.ver = 1, .status = (uint8_t)status, .retry_ms = retry_ms};
    log_escape(w.text, sizeof w.text, text, strlen(text));
    err_set(&c->err, ERR_POLICY, WHY_POLICY, "refused: %s", w.text);
    link_send(c->top, put_frame(c, put_welcome, &w));
    link_shut(c->top, SHUT_END);
    c->state = CONN_REFUSED;
    timer_set(c->w, &c->deadline, CONN_REFUSED_MS);
    wake_post(c->w, &c->wake);
}

const struct link_facts *conn_facts(const struct conn *c) { return c->top->facts; }

static void bury(struct grave *g)
{
    struct conn *c = container_of(g, struct conn, grave);
    err_fini(&c->err);
    free(c);
}

void conn_free(struct conn *c)
{
    if (!c)
        return;
    c->state = CONN_DOWN;
    carrier_down(&c->carrier);
    timer_stop(c->w, &c->deadline);
    timer_stop(c->w, &c->tick);
    wake_cancel(&c->wake);
    buf_put(c->early);
    c->early = NULL;
    OPENSSL_cleanse(&c->hello, sizeof c->hello);
    link_close(c->top);
    worker_bury(c->w, &c->grave, bury);
}
