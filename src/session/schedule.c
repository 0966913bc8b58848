// SPDX-License-Identifier: Apache-2.0
// What goes next (docs/protocol.md, "Scheduling"): control frames, datagrams, streams that were empty, then deficit round robin
// of QUANTUM bytes. Asked for bytes at the last moment, so that nothing waits behind an invisible queue.
#include "core/log.h"
#include "session/frames.h"
#include "session/stream.h"

#define CONTROL_MOST (FRAME_HEAD + 24) // the largest frame that is not a note
#define DATA_LEAST 512                 // no smaller piece of a longer run is worth a frame at the end of a buffer

struct fill {
    uint8_t *at;
    size_t room;
};

static bool fits(const struct fill *f, size_t n) { return n <= f->room; }

static void wrote(struct fill *f, size_t n)
{
    f->at += n;
    f->room -= n;
}

static void put_session_control(struct carrier *c, struct fill *f)
{
    struct session *s = c->s;
    if (c->pong_due && fits(f, CONTROL_MOST)) {
        c->pong_due = false;
        wrote(f, frame_put_ping(f->at, FRAME_PONG, c->pong_opaque, liveness_interval(&c->live)));
    }
    if (c->live.ping_due && !c->live.ping_out && fits(f, CONTROL_MOST)) {
        liveness_pinged(&c->live, s->w->now_us);
        list_splice(&c->acks_pinged, &c->acks_sent);
        wrote(f, frame_put_ping(f->at, FRAME_PING, ++c->ping_opaque, liveness_interval(&c->live)));
    }
    if (c->goaway_due && fits(f, FRAME_HEAD + 6 + sizeof s->goaway_text)) {
        c->goaway_due = s->goaway_due = false;
        s->goaway_sent = true;
        wrote(f, frame_put_goaway(f->at, s->goaway_code, s->goaway_retry_ms, s->goaway_text));
    }
}

// Last ACKs travel with whatever else goes, or when they have waited ACK_DELAY_US: streams that come and go would
// otherwise cost a packet more each way.
static void put_last_acks(struct carrier *c, struct fill *f, size_t room)
{
    if (f->room == room && !c->acks_flush && list_empty(&c->control))
        return;
    while (!list_empty(&c->acks_due) && fits(f, CONTROL_MOST))
        wrote(f, carrier_put_last_ack(c, f->at));
    c->acks_flush = !list_empty(&c->acks_due);
}

static void put_ack(struct stream *st, struct fill *f, bool rewind)
{
    uint64_t acked, limit;
    if (st->twin)
        switch_ack_values(st, rewind, &acked, &limit);
    else
        stream_ack_values(st, rewind, &acked, &limit);
    list_del(&st->lazy);
    st->due &= (uint8_t)~(DUE_ACK | DUE_REWIND);
    wrote(f, frame_put_ack(f->at, rewind ? FRAME_REWIND : FRAME_ACK, st->node.key, acked, limit));
}

static bool put_note(struct stream *st, struct fill *f)
{
    if (st->note && !fits(f, st->note->len))
        return false;
    if (st->note) {
        memcpy(f->at, buf_data(st->note), st->note->len);
        wrote(f, st->note->len);
    }
    if (st->joined && (st->opener || st->opened_acked)) { // made anew when the OPEN is repeated
        buf_put(st->note);
        st->note = NULL;
    }
    st->due &= (uint8_t)~(DUE_OPEN | DUE_OPENED);
    st->open_sent = true;
    return true;
}

// Writes the stream's control frames in the order in which they have to arrive. False: no room for all of them.
static bool put_control(struct stream *st, struct fill *f)
{
    if ((st->due & (DUE_OPEN | DUE_OPENED)) && !put_note(st, f))
        return false;
    if (st->asking || !switch_has_met(st)) // the rest follows the answer; a refused stream may still be reset
        st->due &= st->twin && st->answered ? DUE_RESET : 0;
    if (st->rst && st->rst_code == WHY_MOVED) // the stream is elsewhere: what comes here is not held
        st->due &= DUE_RESET;
    if (st->due & (DUE_ACK | DUE_REWIND)) {
        if (!fits(f, CONTROL_MOST))
            return false;
        put_ack(st, f, st->due & DUE_REWIND);
    }
    if (st->due & DUE_FIN) {
        if (!fits(f, CONTROL_MOST))
            return false;
        st->due &= (uint8_t)~DUE_FIN;
        wrote(f, frame_put_fin(f->at, st->node.key, st->twin ? st->fin_final : st->snd_end));
    }
    if (st->due & DUE_RESET) {
        if (!fits(f, CONTROL_MOST))
            return false;
        st->due &= (uint8_t)~DUE_RESET;
        wrote(f, frame_put_reset(f->at, st->node.key, st->rst_code, st->rst_final));
    }
    return true;
}

static bool put_all_control(struct carrier *c, struct fill *f)
{
    struct list *n;
    while ((n = list_first(&c->control))) {
        if (!put_control(list_entry(n, struct stream, control), f))
            return false;
        list_del(n);
    }
    return true;
}

// The run of bytes at snd_nxt: where it is and how long.
static const uint8_t *run(struct stream *st, size_t *len)
{
    if (!st->cur) {
        st->cur = st->snd.head;
        st->cur_key = st->snd_nxt - st->cur->start;
    }
    uint64_t at = st->snd_nxt - st->cur_key;
    if (at == st->cur->start + st->cur->len) {
        st->cur = st->cur->next;
        st->cur_key = st->snd_nxt - st->cur->start;
        at = st->cur->start;
    }
    *len = (size_t)(st->cur->start + st->cur->len - at);
    return st->cur->base + at;
}

static void copy_out(struct stream *st, uint8_t *out, size_t n)
{
    while (n) {
        size_t len;
        const uint8_t *from = run(st, &len);
        if (len > n)
            len = n;
        memcpy(out, from, len);
        out += len;
        n -= len;
        st->snd_nxt += len;
    }
}

// A switch keeps nothing that it has passed on.
static void move_out(struct stream *st, uint8_t *out, size_t n)
{
    size_t charge = st->snd.charge;
    copy_out(st, out, n);
    st->cur = NULL;
    bufq_drop(&st->snd, n);
    budget_give(st->twin->s->budget, charge - st->snd.charge);
}

// One DATA frame; 0 when it would not be worth it in the room left.
static size_t put_data(struct stream *st, struct fill *f, size_t most)
{
    uint64_t have = stream_sendable(st);
    size_t n = have < FRAME_DATA_MAX ? (size_t)have : FRAME_DATA_MAX;
    if (n > most)
        n = most;
    if (!fits(f, FRAME_DATA_HEAD + (n < DATA_LEAST ? n : DATA_LEAST)))
        return 0;
    if (n > f->room - FRAME_DATA_HEAD)
        n = f->room - FRAME_DATA_HEAD;
    st->moved_at = (uint32_t)(st->s->w->now_us >> 20);
    frame_put_head(f->at, (uint32_t)(8 + n), FRAME_DATA, st->node.key);
    put64(f->at + FRAME_HEAD, st->snd_nxt);
    if (st->twin)
        move_out(st, f->at + FRAME_DATA_HEAD, n);
    else
        copy_out(st, f->at + FRAME_DATA_HEAD, n);
    if (st->snd_nxt > st->snd_max)
        st->snd_max = st->snd_nxt;
    wrote(f, FRAME_DATA_HEAD + n);
    if (st->twin)
        switch_sent(st);
    else if (st->want_room && st->snd_end - st->snd_nxt <= UNSENT_MAX / 2 && st->snd_end < st->snd_limit)
        stream_wake_room(st);
    return n;
}

static struct stream *next_stream(struct carrier *c)
{
    struct list *n = list_first(&c->fresh);
    if (!n)
        n = list_first(&c->busy);
    return n ? list_entry(n, struct stream, data) : NULL;
}

static void put_streams(struct carrier *c, struct fill *f)
{
    struct stream *st;
    while ((st = next_stream(c))) {
        if (stream_sendable(st) == 0) { // empty, or out of window: its next data or limit bring it back
            stream_unschedule(st);
            continue;
        }
        if (stream_ack_rides(st) && fits(f, CONTROL_MOST + FRAME_DATA_HEAD + DATA_LEAST))
            put_ack(st, f, false);
        if (st->deficit <= 0)
            st->deficit += QUANTUM;
        size_t n = put_data(st, f, FRAME_DATA_MAX);
        if (n == 0)
            return; // the buffer is full; this stream goes first in the next
        st->deficit -= (int32_t)n;
        if (st->deficit <= 0 || stream_sendable(st) == 0) {
            list_del(&st->data);
            list_push(&c->busy, &st->data);
        }
    }
}

// What a PROBE asked for, where nothing else wants the room: unpredictable, so that nobody on the way makes it smaller.
static void put_pad(struct carrier *c, struct fill *f)
{
    if (!c->pad_due || !fits(f, FRAME_HEAD + 1))
        return;
    size_t n = f->room - FRAME_HEAD < c->pad_due ? f->room - FRAME_HEAD : c->pad_due;
    frame_put_head(f->at, (uint32_t)n, FRAME_PAD, 0);
    worker_random(c->s->w, f->at + FRAME_HEAD, n);
    c->pad_due -= (uint32_t)n;
    wrote(f, FRAME_HEAD + n);
}

size_t schedule_fill(struct carrier *c, uint8_t *out, size_t room)
{
    struct fill f = {out, room};
    put_session_control(c, &f);
    size_t rest = f.room;
    if (!list_empty(&c->control)) // before an OPEN: the peer counts a stream until its last ACK
        put_last_acks(c, &f, room);
    if (put_all_control(c, &f)) {
        struct buf view = {.base = f.at, .cap = (uint32_t)f.room};
        size_t n = dgram_fill(c, &view, f.room);
        f.at += n;
        f.room -= n;
        put_streams(c, &f);
    }
    put_last_acks(c, &f, room);
    bool moved = f.room != rest;
    put_pad(c, &f);
    if (moved)
        liveness_moved(&c->live, c->s->w->now_us);
    return room - f.room;
}
