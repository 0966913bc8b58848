// SPDX-License-Identifier: Apache-2.0
// The frame switch in the middle of two agents. Acknowledgements are the far end's: nothing is acknowledged here, and
// what was passed on is not kept. The direction from x's peer to y's peer is kept in y: snd queue, snd_nxt (passed
// on), snd_end (next expected from x's peer), snd_una and snd_limit (the far end's). Rules 7, 8, 10 and 12 of docs/protocol.md.
#include <stdlib.h>
#include "session/stream.h"

static uint64_t min64(uint64_t a, uint64_t b) { return a < b ? a : b; }

static void clear_queue(struct stream *st)
{
    if (st->snd.charge)
        budget_give(st->twin->s->budget, st->snd.charge);
    bufq_clear(&st->snd);
    st->cur = NULL;
}

// Throws the queue away: the source sends again from what the far end has.
static void rewind_queue(struct stream *st)
{
    clear_queue(st);
    uint64_t from = st->fin_final != NO_FINAL && st->snd_una > st->fin_final ? st->fin_final : st->snd_una;
    st->snd_nxt = st->snd_end = from;
}

static void on_room(struct budget_waiter *w)
{
    stream_due(container_of(w, struct stream, room_waiter), DUE_REWIND);
}

bool switch_join(struct stream *from, const struct frame_open *asked, struct session *to, struct frame_open *open)
{
    memcpy(open->uid, asked->uid, 16);
    open->datagram = from->datagram; // what passes for one must pass for the other
    open->window = min64(asked->window, SWITCH_SHARE);
    struct stream *st = session_open(to, open);
    if (!st)
        return false;
    st->attached = from->attached = false;
    st->twin = from;
    from->twin = st;
    from->snd_limit = asked->window;
    from->limit_told = from->limit_max = WINDOW_EARLY; // until OPENED tells more
    from->room_waiter.on_room = st->room_waiter.on_room = on_room;
    return true;
}

static void free_both(struct stream *st)
{
    struct stream *tw = st->twin;
    clear_queue(st);
    clear_queue(tw);
    // From here on both are plain freed halves.
    st->twin = tw->twin = NULL;
    stream_free_protocol(st);
    stream_free_protocol(tw);
}

int switch_on_opened(struct stream *st, const struct frame_opened *f)
{
    struct stream *tw = st->twin;
    if (!st->opener)
        return session_broken(st->s, "stream %u: OPENED for a stream the peer opened", st->node.key);
    struct frame_opened out = *f;
    out.window = min64(f->window, SWITCH_SHARE);
    if (!st->answered) {
        st->answered = tw->answered = true;
        buf_put(st->note);
        st->note = NULL;
        st->snd_limit = f->window;
        tw->limit_told = out.window;
        if (out.window > tw->limit_max)
            tw->limit_max = out.window;
        tw->refused = f->code != 0;
        uint8_t text[FRAME_HEAD + FRAME_CONTROL_MAX];
        tw->note = buf_copy(&tw->s->w->pool, text, frame_put_opened(text, tw->node.key, &out));
    }
    stream_due(tw, DUE_OPENED);
    return 0;
}

void switch_on_open_again(struct stream *st)
{
    if (st->answered)
        stream_due(st, DUE_OPENED);
    else
        stream_due(st->twin, DUE_OPEN);
}

int switch_on_data(struct stream *st, uint64_t offset, struct buf *b)
{
    struct session *s = st->s;
    struct stream *tw = st->twin;
    uint64_t end = offset + b->len;
    if (end < offset || end > st->limit_max || (tw->fin_final != NO_FINAL && end > tw->fin_final)) {
        buf_put(b);
        return session_broken(s, "stream %u: DATA beyond its window or end", st->node.key);
    }
    bool nowhere = tw->rst && tw->rst_final == 0;
    if (offset > tw->snd_end || st->dropped || nowhere) {
        s->stats.gap_dropped += b->len;
        buf_put(b);
        return 0;
    }
    if (end <= tw->snd_end) {
        s->stats.known_trimmed += b->len;
        stream_due(st, DUE_ACK);
        buf_put(b);
        return 0;
    }
    if (!budget_has(s->budget, b->cap)) {
        s->stats.budget_dropped += b->len;
        st->dropped = true;
        budget_wait(s->budget, &st->room_waiter);
        buf_put(b);
        return 0;
    }
    buf_skip(b, (size_t)(tw->snd_end - offset));
    size_t charge = tw->snd.charge;
    s->stats.bytes_in += b->len;
    tw->s->stats.bytes_out += b->len;
    bufq_push_tight(&tw->snd, b);
    budget_take(s->budget, tw->snd.charge - charge);
    tw->snd_end = end;
    stream_schedule(tw);
    return 0;
}

// Acknowledged beyond what is queued: it was passed on before a rewind.
static void skip_to(struct stream *st, uint64_t acked)
{
    if (acked <= st->snd_nxt)
        return;
    size_t charge = st->snd.charge;
    uint64_t n = min64(acked - st->snd_nxt, st->snd.bytes);
    bufq_drop(&st->snd, (size_t)n);
    st->cur = NULL;
    budget_give(st->twin->s->budget, charge - st->snd.charge);
    st->snd_nxt = acked;
    if (st->snd_end < acked)
        st->snd_end = acked;
}

static int on_ack_all(struct stream *st)
{
    struct stream *tw = st->twin;
    if (!st->rst && !st->refused)
        return session_broken(st->s, "stream %u: all acknowledged without RESET", st->node.key);
    stream_last_ack(tw, ACKED_ALL);
    free_both(st);
    return 0;
}

static bool is_final(const struct stream *st) { return st->fin_final != NO_FINAL && st->snd_una == st->fin_final + 1; }

int switch_on_ack(struct stream *st, uint64_t acked, uint64_t limit, bool rewind)
{
    struct stream *tw = st->twin;
    if (acked == ACKED_ALL)
        return on_ack_all(st);
    uint64_t most = st->snd_max + (st->fin_final != NO_FINAL && st->snd_max == st->fin_final);
    if (acked > most && st->rst)
        return 0; // a peer that obeyed RESET acknowledges an earlier FIN in this way
    if (acked > most)
        return session_broken(st->s, "stream %u: acknowledged what was not sent", st->node.key);
    bool old = acked < st->snd_una;
    if (!old) {
        st->snd_una = acked;
        skip_to(st, st->fin_final != NO_FINAL && acked > st->fin_final ? st->fin_final : acked);
    }
    if (rewind ? !old : limit > st->snd_limit)
        st->snd_limit = limit;
    if (rewind)
        rewind_queue(st);
    if (is_final(st) && is_final(tw)) { // rule 12
        stream_last_ack(st, tw->snd_una);
        stream_last_ack(tw, st->snd_una);
        free_both(st);
        return 0;
    }
    stream_due(tw, rewind ? DUE_REWIND : DUE_ACK);
    stream_schedule(st);
    return 0;
}

int switch_on_fin(struct stream *st, uint64_t final)
{
    struct stream *tw = st->twin;
    if (final < tw->snd_end || final < tw->snd_max || (tw->fin_final != NO_FINAL && tw->fin_final != final))
        return session_broken(st->s, "stream %u: FIN contradicts what was sent", st->node.key);
    tw->fin_final = final;
    if (!tw->rst)
        stream_due(tw, DUE_FIN);
    return 0;
}

int switch_on_reset(struct stream *st, uint16_t code, uint64_t final)
{
    struct stream *tw = st->twin;
    if (!tw->rst || final == 0) {
        tw->rst_code = code;
        tw->rst_final = final;
    }
    tw->rst = true;
    if (final == 0)
        clear_queue(tw);
    stream_due(tw, DUE_RESET);
    return 0;
}

void switch_carrier_lost(struct stream *st) { rewind_queue(st); }

void switch_carrier_new(struct stream *st)
{
    if (st->opener && !st->answered)
        stream_due(st, DUE_OPEN);
    stream_due(st, DUE_REWIND); // rule 7: to both ends
    stream_due(st->twin, DUE_REWIND);
}

void switch_ack_values(struct stream *st, bool rewind, uint64_t *acked, uint64_t *limit)
{
    struct stream *tw = st->twin;
    *acked = tw->snd_una;
    uint64_t want = min64(tw->snd_limit, tw->snd_nxt + SWITCH_SHARE);
    if (rewind) {
        uint64_t least = *acked + FRAME_DATA_MAX;
        st->limit_told = st->answered && want < least ? least : want;
        st->dropped = false;
    } else if (!st->dropped && want > st->limit_told) {
        st->limit_told = want;
    }
    if (st->limit_told > st->limit_max)
        st->limit_max = st->limit_told;
    *limit = st->limit_told;
}

void switch_sent(struct stream *st)
{
    struct stream *tw = st->twin;
    uint64_t want = min64(st->snd_limit, st->snd_nxt + SWITCH_SHARE);
    if (!tw->dropped && want > tw->limit_told && want - tw->limit_told >= SWITCH_SHARE / 4)
        stream_due(tw, DUE_ACK);
}

void switch_session_gone(struct stream *st)
{
    struct stream *tw = st->twin;
    clear_queue(st);
    clear_queue(tw);
    tw->rcv_nxt = tw->rcv_read = st->snd_end;
    tw->rcv_final = st->fin_final;
    tw->fin = tw->fin_final != NO_FINAL;
    tw->snd_end = tw->snd_nxt = tw->fin ? tw->fin_final : tw->snd_max;
    tw->twin = st->twin = NULL;
    tw->rst = false;
    stream_free_protocol(st);
    stream_abort(tw, WHY_LOST, true);
}
