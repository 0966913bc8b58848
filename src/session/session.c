// SPDX-License-Identifier: Apache-2.0
// Ids and frames in. What a frame does to a stream is in stream.c (ends) and switch.c; carriers come and go in carriers.c.
#include "session/session.h"
#include <stdarg.h>
#include <stdlib.h>
#include "core/log.h"
#include "session/frames.h"
#include "session/meet.h"
#include "session/stream.h"

void session_init(struct session *s, struct worker *w, bool is_agent, const uint8_t id[16], const struct session_ops *ops,
                  void *owner, struct budget *budget)
{
    *s = (struct session){.w = w, .is_agent = is_agent, .ops = ops, .owner = owner, .budget = budget};
    memcpy(s->id, id, 16);
    s->next_id = is_agent ? 1 : 2;
    uint64_t seed;
    worker_random(w, &seed, sizeof seed);
    hash_init(&s->streams, seed);
    seen_init(&s->peer_seen);
    list_init(&s->carriers);
    list_init(&s->left);
    list_init(&s->control);
    list_init(&s->acks_due);
}

// Ends this stream and no other: of a stream switched within one session the twin is left for its own turn.
static void end_one(struct hash_node *n, void *ctx)
{
    struct stream *st = container_of(n, struct stream, node);
    if (st->twin)
        switch_session_gone(st, ctx);
    else
        stream_session_gone(st, ctx);
}

void session_end_streams(struct session *s, const struct err *why)
{
    hash_each(&s->streams, end_one, (void *)(uintptr_t)why);
    list_each(&s->left, it) stream_outlive(list_entry(it, struct stream, left));
    list_each(&s->carriers, it)
    {
        struct carrier *c = list_entry(it, struct carrier, node);
        carrier_pass_last_acks(c, NULL);
        bufq_clear(&c->dgrams);
    }
    last_acks_free(s, &s->acks_due);
    bufq_clear(&s->dgrams);
    seen_fini(&s->peer_seen);
    s->next_id = s->is_agent ? 1 : 2;
    s->goaway_seen = false;
}

void session_fini(struct session *s, const struct err *why)
{
    session_end_streams(s, why);
    session_detach(s);
    hash_fini(&s->streams);
    err_fini(&s->err);
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

bool session_is_own(const struct session *s, uint32_t id) { return (id & 1) == (s->is_agent ? 1u : 0u); }

struct stream *stream_new(struct session *s, uint32_t id, const struct frame_open *open, struct carrier *by)
{
    struct stream *st = calloc(1, sizeof *st);
    if (!st)
        abort();
    st->s = s;
    st->kind = open->kind;
    st->opener = !by;
    st->datagram = open->kind == OPEN_UDP || open->datagram;
    st->seal = open->sealed;
    st->window = WINDOW_START;
    st->limit_told = st->limit_max = WINDOW_START;
    st->fin_final = st->rcv_final = st->rst_in_final = NO_FINAL;
    st->opened_us = s->w->now_us;
    st->moved_at = (uint32_t)(s->w->now_us >> 20);
    memcpy(st->uid, open->uid, sizeof st->uid);
    list_init(&st->control);
    list_init(&st->data);
    list_init(&st->lazy);
    stream_init_link(st);
    hash_add(&s->streams, &st->node, id);
    s->stream_count++;
    s->peer_stream_count += !session_is_own(s, id);
    s->stats.opened++;
    stream_attach(st, by);
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
    stream_detach(st);
    list_del(&st->room_waiter.node);
    list_del(&st->send_waiter.node);
    st->freed = true;
    if (st->attached)
        list_push(&s->left, &st->left);
    st->due = 0;
    buf_put(st->note);
    st->note = NULL;
    dgram_clear_parts(st);
    s->stream_count--;
    s->peer_stream_count -= !session_is_own(s, st->node.key);
    s->husks -= st->husk;
    meet_untie(st);
    stream_wake_room(st);
    stream_release(st);
}

uint32_t session_take_id(struct session *s)
{
    if (s->goaway_seen || s->goaway_sent || s->goaway_due || s->next_id >= 0x7ffffffe ||
        s->stream_count - s->peer_stream_count >= STREAMS_MAX)
        return 0;
    s->next_id += 2;
    return s->next_id - 2;
}

struct stream *session_open(struct session *s, struct frame_open *open)
{
    uint32_t id = frame_is_text(open->host) ? session_take_id(s) : 0;
    if (!id)
        return NULL;
    static const uint8_t none[16];
    if (memcmp(open->uid, none, 16) == 0)
        worker_random(s->w, open->uid, 16);
    if (open->window == 0)
        open->window = WINDOW_START;
    struct stream *st = stream_new(s, id, open, NULL);
    if (s->meet && s->is_agent && open->kind == OPEN_SERVICE)
        meet_tie(s->meet, st, open);
    st->limit_told = st->limit_max = open->window;
    st->snd_limit = st->datagram && !st->seal ? 0 : WINDOW_EARLY;
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
    list_each(&s->carriers, it)
    {
        struct carrier *c = list_entry(it, struct carrier, node);
        c->goaway_due = true;
        carrier_output(c);
    }
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

static void add_held(struct hash_node *n, void *ctx)
{
    const struct stream *st = container_of(n, struct stream, node);
    *(size_t *)ctx += st->twin ? 0 : st->snd.charge + st->rcv.charge + st->parts.charge;
}

size_t session_held(const struct session *s)
{
    size_t held = 0;
    hash_each((struct hash *)&s->streams, add_held, &held);
    return held;
}

// Frames in ----------------------------------------------------------------------------------------------------

static int on_open(struct carrier *c, uint32_t id, const uint8_t *in, size_t len)
{
    struct session *s = c->s;
    struct frame_open open;
    if (frame_get_open(&open, in, len) < 0 || open.kind < OPEN_TCP)
        return session_broken(s, "stream %u: malformed OPEN", id);
    struct stream *st = session_find(s, id);
    if (st) {
        if (session_is_own(s, id))
            return session_broken(s, "stream %u: OPEN with an id of ours", id);
        if (st->twin)
            switch_on_open_again(st);
        else
            stream_on_open_again(st);
        return 0;
    }
    if (session_is_own(s, id))
        return session_broken(s, "stream %u: OPEN with an id that is not the peer's", id);
    if (seen_has(&s->peer_seen, id))
        return 0;
    if (!seen_add(&s->peer_seen, id) || s->peer_stream_count >= 2 * STREAMS_MAX)
        return session_broken(s, "too many streams");
    st = stream_new(s, id, &open, c);
    st->snd_limit = open.window;
    if (s->peer_stream_count > STREAMS_MAX) {
        st->attached = false;
        stream_refuse(st, WHY_LIMIT, "too many streams in this session");
        return 0;
    }
    int known = s->meet && s->is_agent && open.kind == OPEN_SERVICE ? meet_on_open(s, st, &open) : 0;
    if (known == 0)
        s->ops->on_open(s, st, &open);
    return known < 0 ? -1 : 0;
}

// A frame for an id that is not live: of a freed stream its end is acknowledged again, all else is ignored.
static int on_stray(struct carrier *c, const struct frame_head *h, const uint8_t *in, size_t len)
{
    struct session *s = c->s;
    uint64_t final;
    uint16_t code;
    bool own = session_is_own(s, h->stream);
    if (own && h->stream >= s->next_id)
        return session_broken(s, "stream %u: frame %02x for an id never used", h->stream, h->type);
    bool freed = own || seen_has(&s->peer_seen, h->stream);
    switch (h->type) {
    case FRAME_FIN:
        if (frame_get_fin(&final, in, len) < 0)
            return session_broken(s, "malformed FIN");
        if (freed)
            carrier_last_ack(s, c, h->stream, final + 1);
        return 0;
    case FRAME_RESET: // rule 4
        if (frame_get_reset(&code, &final, in, len) < 0 || (!freed && !seen_add(&s->peer_seen, h->stream)))
            return session_broken(s, "malformed RESET");
        carrier_last_ack(s, c, h->stream, ACKED_ALL);
        return 0;
    case FRAME_OPENED: { // rule 5
        struct frame_opened opened;
        if (frame_get_opened(&opened, in, len) < 0)
            return session_broken(s, "malformed OPENED");
        if (freed && opened.code)
            carrier_last_ack(s, c, h->stream, ACKED_ALL);
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

static int on_ack(struct carrier *c, struct stream *st, bool rewind, const uint8_t *in, size_t len)
{
    uint64_t acked, limit;
    if (frame_get_ack(&acked, &limit, in, len) < 0)
        return session_broken(st->s, "stream %u: malformed ACK", st->node.key);
    if (rewind)
        stream_follow(st, c);
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

static int on_stream_frame(struct carrier *c, const struct frame_head *h, const uint8_t *in)
{
    liveness_moved(&c->live, c->s->w->now_us);
    if (h->type == FRAME_OPEN)
        return on_open(c, h->stream, in, h->length);
    struct stream *st = session_find(c->s, h->stream);
    if (!st)
        return on_stray(c, h, in, h->length);
    switch (h->type) {
    case FRAME_OPENED:
        return on_opened(st, in, h->length);
    case FRAME_ACK:
        return on_ack(c, st, false, in, h->length);
    case FRAME_REWIND:
        return on_ack(c, st, true, in, h->length);
    case FRAME_FIN:
        return on_fin(st, in, h->length);
    case FRAME_RESET:
        return on_reset(st, in, h->length);
    default:
        return on_dgram(st, in, h->length);
    }
}

static int on_ping(struct carrier *c, const struct frame_head *h, const uint8_t *in)
{
    struct session *s = c->s;
    uint64_t opaque;
    uint32_t interval;
    if (frame_get_ping(&opaque, &interval, in, h->length) < 0)
        return session_broken(s, "malformed PING");
    if (h->type == FRAME_PING) {
        c->pong_due = true;
        c->pong_opaque = opaque;
        liveness_peer_interval(&c->live, interval);
        carrier_output(c);
    } else if (c->live.ping_out && opaque == c->ping_opaque) {
        liveness_ponged(&c->live, s->w->now_us);
        last_acks_free(s, &c->acks_pinged);
        if (c->live.ping_due)
            carrier_output(c);
        if (s->is_agent)
            session_balance(s);
    }
    return 0;
}

// The newest one counts: what is owed never grows beyond one answer.
static int on_probe(struct carrier *c, const struct frame_head *h, const uint8_t *in)
{
    if (frame_get_probe(&c->pad_due, in, h->length) < 0)
        return session_broken(c->s, "malformed PROBE");
    carrier_output(c);
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

int session_on_frame(struct carrier *c, const struct frame_head *h, const uint8_t *in)
{
    struct session *s = c->s;
    s->stats.frames_in++;
    switch (h->type) {
    case FRAME_PING:
    case FRAME_PONG:
        return on_ping(c, h, in);
    case FRAME_GOAWAY:
        return on_goaway(s, h, in);
    case FRAME_PROBE:
        return on_probe(c, h, in);
    case FRAME_OPEN:
    case FRAME_OPENED:
    case FRAME_ACK:
    case FRAME_FIN:
    case FRAME_RESET:
    case FRAME_DGRAM:
    case FRAME_REWIND:
        return on_stream_frame(c, h, in);
    case FRAME_HELLO:
    case FRAME_WELCOME:
        return session_broken(s, "a second HELLO or WELCOME");
    default:
        return h->type < 0x80 ? 0 : session_broken(s, "unknown critical frame %02x", h->type);
    }
}

int session_on_data(struct carrier *c, uint32_t id, uint64_t offset, struct buf *b)
{
    struct session *s = c->s;
    struct stream *st = session_find(s, id);
    liveness_moved(&c->live, s->w->now_us);
    if (!st) {
        s->stats.gap_dropped += b->len;
        buf_put(b);
        return session_is_own(s, id) && id >= s->next_id ? session_broken(s, "stream %u: DATA for an id never used", id) : 0;
    }
    if (st->datagram && !st->seal) {
        buf_put(b);
        return stream_broken(st, "DATA on a flow of datagrams");
    }
    return st->twin ? switch_on_data(st, offset, b) : stream_on_data(st, offset, b);
}
