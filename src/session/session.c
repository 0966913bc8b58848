// SPDX-License-Identifier: Apache-2.0
// Ids, frames in, carriers up and down, liveness. What a frame does to a stream is in stream.c (ends) and switch.c.
#include "session/session.h"
#include <stdarg.h>
#include <stdlib.h>
#include "core/log.h"
#include "session/frames.h"
#include "session/stream.h"

struct last_ack {
    struct list node;
    uint32_t id;
    uint64_t acked;
};

void session_init(struct session *s, struct worker *w, bool is_agent, const uint8_t id[16], const struct session_ops *ops,
                  void *owner, struct budget *budget)
{
    *s = (struct session){.w = w, .is_agent = is_agent, .ops = ops, .owner = owner, .budget = budget};
    memcpy(s->id, id, 16);
    s->next_id = is_agent ? 1 : 2;
    s->created_us = w->now_us;
    s->ping_interval_ms = PING_IDLE_MS;
    uint64_t seed;
    worker_random(w, &seed, sizeof seed);
    hash_init(&s->streams, seed);
    seen_init(&s->peer_seen);
    list_init(&s->control);
    list_init(&s->fresh);
    list_init(&s->busy);
    list_init(&s->lazy);
    list_init(&s->acks_due);
    list_init(&s->acks_sent);
    list_init(&s->acks_pinged);
}

static void free_acks(struct session *s, struct list *acks)
{
    struct list *n;
    while ((n = list_pop(acks))) {
        free(list_entry(n, struct last_ack, node));
        s->acks_held--;
    }
}

// Ends this stream and no other: of a stream switched within one session the twin is left for its own turn.
static void end_one(struct hash_node *n, void *ctx)
{
    struct stream *st = container_of(n, struct stream, node);
    if (st->twin)
        switch_session_gone(st);
    else
        stream_session_gone(st, ctx);
}

void session_end_streams(struct session *s, const struct err *why)
{
    hash_each(&s->streams, end_one, (void *)(uintptr_t)why);
    free_acks(s, &s->acks_due);
    free_acks(s, &s->acks_sent);
    free_acks(s, &s->acks_pinged);
    bufq_clear(&s->dgrams);
    seen_fini(&s->peer_seen);
    s->next_id = s->is_agent ? 1 : 2;
    s->goaway_seen = false;
}

void session_fini(struct session *s, const struct err *why)
{
    if (s->carrier)
        carrier_down(s->carrier);
    session_end_streams(s, why);
    hash_fini(&s->streams);
    err_fini(&s->err);
}

void session_output(struct session *s)
{
    struct carrier *c = s->carrier;
    if (c && !c->has_output) {
        c->has_output = true;
        c->on_output(c);
    }
}

int session_broken(struct session *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    err_vset(&s->err, ERR_FAILED, WHY_PROTOCOL, fmt, ap);
    va_end(ap);
    return -1;
}

// Streams ------------------------------------------------------------------------------------------------------

struct stream *session_find(struct session *s, uint32_t id)
{
    struct hash_node *n = hash_find(&s->streams, id);
    return n ? container_of(n, struct stream, node) : NULL;
}

static bool is_own(const struct session *s, uint32_t id) { return (id & 1) == (s->is_agent ? 1u : 0u); }

struct stream *stream_new(struct session *s, uint32_t id, bool opener, const struct frame_open *open)
{
    struct stream *st = calloc(1, sizeof *st);
    if (!st)
        abort();
    st->s = s;
    st->kind = open->kind;
    st->opener = opener;
    st->datagram = open->kind == OPEN_UDP || open->datagram;
    st->window = WINDOW_START;
    st->limit_told = st->limit_max = WINDOW_START;
    st->fin_final = st->rcv_final = st->rst_in_final = NO_FINAL;
    st->opened_us = s->w->now_us;
    memcpy(st->uid, open->uid, sizeof st->uid);
    list_init(&st->control);
    list_init(&st->data);
    list_init(&st->lazy);
    stream_init_link(st);
    hash_add(&s->streams, &st->node, id);
    s->stream_count++;
    s->peer_stream_count += !opener;
    s->stats.opened++;
    return st;
}

static void bury_stream(struct grave *g)
{
    struct stream *st = container_of(g, struct stream, grave);
    err_fini(&st->link.err);
    free(st->bound);
    free(st);
}

void stream_release(struct stream *st)
{
    if (!st->freed || st->attached || st->buried)
        return;
    st->buried = true;
    worker_bury(st->link.w, &st->grave, bury_stream);
}

void stream_free_protocol(struct stream *st)
{
    struct session *s = st->s;
    hash_del(&s->streams, &st->node);
    list_del(&st->control);
    list_del(&st->data);
    list_del(&st->lazy);
    list_del(&st->room_waiter.node);
    list_del(&st->send_waiter.node);
    st->scheduled = false;
    st->freed = true;
    st->due = 0;
    buf_put(st->note);
    st->note = NULL;
    dgram_clear_parts(st);
    s->stream_count--;
    s->peer_stream_count -= !st->opener;
    stream_wake_room(st);
    stream_release(st);
}

// When too many are held the oldest that was sent is forgotten: it is most likely there, and a peer that misses it repeats
// its FIN or RESET on the next carrier. When none was sent yet, the peer asks faster than it reads: not served.
static struct last_ack *new_ack(struct session *s)
{
    struct last_ack *a = NULL;
    if (s->acks_held >= ACKS_HELD_MAX) {
        struct list *n = list_pop(&s->acks_pinged);
        if (!n)
            n = list_pop(&s->acks_sent);
        return n ? list_entry(n, struct last_ack, node) : NULL;
    }
    a = malloc(sizeof *a);
    if (!a)
        abort();
    list_init(&a->node);
    s->acks_held++;
    return a;
}

void session_ack_soon(struct session *s)
{
    if (s->ack_due_us)
        return;
    s->ack_due_us = s->w->now_us + ACK_DELAY_US;
    session_output(s); // the deadline moved
}

void session_last_ack(struct session *s, uint32_t id, uint64_t acked)
{
    struct last_ack *a = new_ack(s);
    if (!a)
        return;
    a->id = id;
    a->acked = acked;
    list_push(&s->acks_due, &a->node);
    session_ack_soon(s);
}

void session_ask_ping(struct session *s)
{
    if (!s->ping_due)
        s->ping_due_us = s->w->now_us;
    s->ping_due = true;
}

size_t session_put_last_ack(struct session *s, uint8_t *out)
{
    struct list *n = list_pop(&s->acks_due);
    if (!n)
        return 0;
    struct last_ack *a = list_entry(n, struct last_ack, node);
    list_push(&s->acks_sent, &a->node);
    if (s->acks_held > 512 && s->ping_sent_us == 0) // a PONG frees them
        session_ask_ping(s);
    return frame_put_ack(out, FRAME_ACK, a->id, a->acked, 0);
}

struct stream *session_open(struct session *s, struct frame_open *open)
{
    if (s->goaway_seen || s->goaway_sent || s->goaway_due || s->next_id >= 0x7ffffffe ||
        s->stream_count - s->peer_stream_count >= STREAMS_MAX)
        return NULL;
    static const uint8_t none[16];
    if (memcmp(open->uid, none, 16) == 0)
        worker_random(s->w, open->uid, 16);
    if (open->window == 0)
        open->window = WINDOW_START;
    uint32_t id = s->next_id;
    s->next_id += 2;
    struct stream *st = stream_new(s, id, true, open);
    st->limit_told = st->limit_max = open->window;
    st->snd_limit = st->datagram ? 0 : WINDOW_EARLY;
    uint8_t out[FRAME_HEAD + FRAME_CONTROL_MAX];
    st->note = buf_copy(&s->w->pool, out, frame_put_open(out, id, open));
    stream_due(st, DUE_OPEN);
    return st;
}

void session_goaway(struct session *s, uint16_t code, uint32_t retry_ms, const char *text)
{
    s->goaway_code = code;
    s->goaway_retry_ms = retry_ms;
    log_escape(s->goaway_text, sizeof s->goaway_text, text, strlen(text));
    s->goaway_due = true;
    session_output(s);
}

struct each {
    session_each_fn *fn;
    void *ctx;
};

static void each_one(struct hash_node *n, void *ctx)
{
    struct each *e = ctx;
    e->fn(container_of(n, struct stream, node), e->ctx);
}

void session_each_stream(struct session *s, session_each_fn *fn, void *ctx)
{
    struct each e = {fn, ctx};
    hash_each(&s->streams, each_one, &e);
}

// Frames in ----------------------------------------------------------------------------------------------------

static int on_open(struct session *s, uint32_t id, const uint8_t *in, size_t len)
{
    struct frame_open open;
    if (frame_get_open(&open, in, len) < 0 || open.kind < OPEN_TCP)
        return session_broken(s, "stream %u: malformed OPEN", id);
    struct stream *st = session_find(s, id);
    if (st) {
        if (st->opener)
            return session_broken(s, "stream %u: OPEN with an id of ours", id);
        if (st->twin)
            switch_on_open_again(st);
        else
            stream_on_open_again(st);
        return 0;
    }
    if (is_own(s, id))
        return session_broken(s, "stream %u: OPEN with an id that is not the peer's", id);
    if (seen_has(&s->peer_seen, id))
        return 0;
    if (!seen_add(&s->peer_seen, id) || s->peer_stream_count >= 2 * STREAMS_MAX)
        return session_broken(s, "too many streams");
    st = stream_new(s, id, false, &open);
    st->snd_limit = open.window;
    if (s->peer_stream_count > STREAMS_MAX) {
        st->attached = false;
        stream_refuse(st, WHY_LIMIT, "too many streams in this session");
    } else {
        s->ops->on_open(s, st, &open);
    }
    return 0;
}

// A frame for an id that is not live: of a freed stream its end is acknowledged again, all else is ignored.
static int on_stray(struct session *s, const struct frame_head *h, const uint8_t *in, size_t len)
{
    uint64_t final;
    uint16_t code;
    bool own = is_own(s, h->stream);
    if (own && h->stream >= s->next_id)
        return session_broken(s, "stream %u: frame %02x for an id never used", h->stream, h->type);
    bool freed = own || seen_has(&s->peer_seen, h->stream);
    switch (h->type) {
    case FRAME_FIN:
        if (frame_get_fin(&final, in, len) < 0)
            return session_broken(s, "malformed FIN");
        if (freed)
            session_last_ack(s, h->stream, final + 1);
        return 0;
    case FRAME_RESET: // rule 4
        if (frame_get_reset(&code, &final, in, len) < 0 || (!freed && !seen_add(&s->peer_seen, h->stream)))
            return session_broken(s, "malformed RESET");
        session_last_ack(s, h->stream, ACKED_ALL);
        return 0;
    case FRAME_OPENED: { // rule 5
        struct frame_opened opened;
        if (frame_get_opened(&opened, in, len) < 0)
            return session_broken(s, "malformed OPENED");
        if (freed && opened.code)
            session_last_ack(s, h->stream, ACKED_ALL);
        return 0;
    }
    default:
        return 0;
    }
}

static int on_opened(struct stream *st, const uint8_t *in, size_t len)
{
    struct frame_opened f;
    if (frame_get_opened(&f, in, len) < 0)
        return session_broken(st->s, "stream %u: malformed OPENED", st->node.key);
    return st->twin ? switch_on_opened(st, &f) : stream_on_opened(st, &f);
}

static int on_ack(struct stream *st, bool rewind, const uint8_t *in, size_t len)
{
    uint64_t acked, limit;
    if (frame_get_ack(&acked, &limit, in, len) < 0)
        return session_broken(st->s, "stream %u: malformed ACK", st->node.key);
    return st->twin ? switch_on_ack(st, acked, limit, rewind) : stream_on_ack(st, acked, limit, rewind);
}

static int on_fin(struct stream *st, const uint8_t *in, size_t len)
{
    uint64_t final;
    if (frame_get_fin(&final, in, len) < 0)
        return session_broken(st->s, "stream %u: malformed FIN", st->node.key);
    return st->twin ? switch_on_fin(st, final) : stream_on_fin(st, final);
}

static int on_reset(struct stream *st, const uint8_t *in, size_t len)
{
    uint64_t final;
    uint16_t code;
    if (frame_get_reset(&code, &final, in, len) < 0)
        return session_broken(st->s, "stream %u: malformed RESET", st->node.key);
    return st->twin ? switch_on_reset(st, code, final) : stream_on_reset(st, code, final);
}

static int on_dgram(struct stream *st, const uint8_t *in, size_t len)
{
    struct frame_dgram f;
    if (frame_get_dgram(&f, in, len) < 0)
        return session_broken(st->s, "stream %u: malformed DGRAM", st->node.key);
    return dgram_receive(st, &f);
}

static int on_stream_frame(struct session *s, const struct frame_head *h, const uint8_t *in)
{
    if (h->type == FRAME_OPEN)
        return on_open(s, h->stream, in, h->length);
    struct stream *st = session_find(s, h->stream);
    if (!st)
        return on_stray(s, h, in, h->length);
    switch (h->type) {
    case FRAME_OPENED:
        return on_opened(st, in, h->length);
    case FRAME_ACK:
        return on_ack(st, false, in, h->length);
    case FRAME_REWIND:
        return on_ack(st, true, in, h->length);
    case FRAME_FIN:
        return on_fin(st, in, h->length);
    case FRAME_RESET:
        return on_reset(st, in, h->length);
    default:
        return on_dgram(st, in, h->length);
    }
}

static void measure(struct session *s)
{
    uint32_t rtt = (uint32_t)(s->w->now_us - s->ping_sent_us);
    if (rtt == 0)
        rtt = 1;
    if (s->srtt_us == 0) { // RFC 6298
        s->srtt_us = rtt;
        s->rttvar_us = rtt / 2;
    } else {
        uint32_t off = rtt > s->srtt_us ? rtt - s->srtt_us : s->srtt_us - rtt;
        s->rttvar_us = s->rttvar_us - s->rttvar_us / 4 + off / 4;
        s->srtt_us = s->srtt_us - s->srtt_us / 8 + rtt / 8;
    }
}

static int on_ping(struct session *s, const struct frame_head *h, const uint8_t *in)
{
    uint64_t opaque;
    uint32_t interval;
    if (frame_get_ping(&opaque, &interval, in, h->length) < 0)
        return session_broken(s, "malformed PING");
    if (h->type == FRAME_PING) {
        s->pong_due = true;
        s->pong_opaque = opaque;
        s->peer_interval_ms = interval;
        session_output(s);
    } else if (s->ping_sent_us && opaque == s->ping_opaque) {
        measure(s);
        s->ping_sent_us = 0;
        free_acks(s, &s->acks_pinged);
    }
    return 0;
}

static int on_goaway(struct session *s, const struct frame_head *h, const uint8_t *in)
{
    uint16_t code;
    uint32_t retry_ms;
    char text[FRAME_TEXT_MAX + 1];
    if (frame_get_goaway(&code, &retry_ms, text, in, h->length) < 0)
        return session_broken(s, "malformed GOAWAY");
    s->goaway_seen = true;
    if (s->ops->on_goaway)
        s->ops->on_goaway(s, code, retry_ms, text);
    return 0;
}

int session_on_frame(struct session *s, const struct frame_head *h, const uint8_t *in)
{
    s->stats.frames_in++;
    switch (h->type) {
    case FRAME_PING:
    case FRAME_PONG:
        return on_ping(s, h, in);
    case FRAME_GOAWAY:
        return on_goaway(s, h, in);
    case FRAME_OPEN:
    case FRAME_OPENED:
    case FRAME_ACK:
    case FRAME_FIN:
    case FRAME_RESET:
    case FRAME_DGRAM:
    case FRAME_REWIND:
        return on_stream_frame(s, h, in);
    case FRAME_HELLO:
    case FRAME_WELCOME:
        return session_broken(s, "a second HELLO or WELCOME");
    default:
        return h->type < 0x80 ? 0 : session_broken(s, "unknown critical frame %02x", h->type);
    }
}

int session_on_data(struct session *s, uint32_t id, uint64_t offset, struct buf *b)
{
    struct stream *st = session_find(s, id);
    if (!st) {
        s->stats.gap_dropped += b->len;
        buf_put(b);
        return is_own(s, id) && id >= s->next_id ? session_broken(s, "stream %u: DATA for an id never used", id) : 0;
    }
    if (st->datagram) {
        buf_put(b);
        return session_broken(s, "stream %u: DATA on a flow of datagrams", id);
    }
    return st->twin ? switch_on_data(st, offset, b) : stream_on_data(st, offset, b);
}

// Carriers -----------------------------------------------------------------------------------------------------

static void lost_one(struct stream *st, void *ctx)
{
    (void)ctx;
    if (st->twin)
        switch_carrier_lost(st);
    else
        stream_carrier_lost(st);
}

static void new_one(struct stream *st, void *ctx)
{
    (void)ctx;
    if (st->twin)
        switch_carrier_new(st);
    else
        stream_carrier_new(st);
}

void session_carrier_lost(struct session *s)
{
    s->carrier = NULL;
    session_each_stream(s, lost_one, NULL);
    list_splice(&s->acks_due, &s->acks_sent); // rule 6
    list_splice(&s->acks_due, &s->acks_pinged);
    s->acks_flush = !list_empty(&s->acks_due);
    s->ping_sent_us = 0;
    s->pong_due = false;
    s->goaway_due |= s->goaway_sent;
}

void session_carrier_new(struct session *s, struct carrier *c)
{
    s->carrier = c;
    s->heard_us = s->w->now_us;
    s->ping_due = false;
    session_ask_ping(s); // measures the new path
    session_each_stream(s, new_one, NULL);
    session_output(s);
}

// Time ---------------------------------------------------------------------------------------------------------

static uint64_t later(uint64_t a, uint64_t b) { return a > b ? a : b; }

// When silence is broken by a PING: the agent's task; the relay only asks when the agent has not for long.
static uint64_t ping_at(const struct session *s)
{
    uint64_t ms = s->is_agent ? s->ping_interval_ms : 4 * PING_IDLE_MS;
    return later(s->heard_us, s->pinged_us) + ms * 1000;
}

// When an unanswered PING condemns the carrier, also one that cannot even leave. Bytes that came since show a slow path, not a
// dead one.
static uint64_t dead_at(const struct session *s)
{
    uint64_t asked = s->ping_sent_us ? s->ping_sent_us : s->ping_due_us;
    return later(s->heard_us, asked) + PING_DEAD_MS * 1000;
}

static bool is_pinging(const struct session *s) { return s->ping_sent_us || s->ping_due; }

uint64_t session_deadline(const struct session *s)
{
    uint64_t at = UINT64_MAX;
    if (!s->carrier)
        return at;
    if (s->ack_due_us)
        at = s->ack_due_us;
    uint64_t ping = is_pinging(s) ? dead_at(s) : ping_at(s);
    return ping < at ? ping : at;
}

enum session_liveness session_tick(struct session *s)
{
    uint64_t now = s->w->now_us;
    if (s->ack_due_us && now >= s->ack_due_us) {
        s->ack_due_us = 0;
        s->acks_flush = !list_empty(&s->acks_due);
        if (s->acks_flush)
            session_output(s);
        struct list *n;
        while ((n = list_pop(&s->lazy)))
            stream_due(list_entry(n, struct stream, lazy), DUE_ACK);
    }
    if (!s->carrier)
        return SESSION_ALIVE;
    if (is_pinging(s)) {
        if (now >= dead_at(s))
            return SESSION_DEAD_CARRIER;
    } else if (now >= ping_at(s)) {
        session_ask_ping(s);
        session_output(s);
    }
    return SESSION_ALIVE;
}
