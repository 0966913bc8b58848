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

// Throws the queue away: the source sends again from what the far end has. An acknowledged FIN, and what one end only claims to have
// before the other has said what it sent, lie beyond snd_max.
static void rewind_queue(struct stream *st)
{
    clear_queue(st);
    st->snd_nxt = st->snd_end = min64(st->snd_una, st->snd_max);
}

// Where the end that st leads to says it stands: the direction towards it is kept in st, the other in the twin. What was passed on
// may be more than an older question says, and is acknowledged by an end that has done nothing wrong.
void switch_note_state(struct stream *st, const struct frame_state *f, uint64_t window)
{
    st->snd_una = f->acked;
    st->snd_limit = window;
    if (f->is_set && f->sent > st->twin->snd_max)
        st->twin->snd_max = f->sent;
    if (f->has_final)
        st->twin->fin_final = f->final;
}

static void on_room(struct budget_waiter *w)
{
    stream_due(container_of(w, struct stream, room_waiter), DUE_REWIND);
}

bool switch_join(struct stream *from, const struct frame_open *asked, struct session *to, struct frame_open *open)
{
    memcpy(open->uid, asked->uid, 16);
    open->datagram = from->datagram; // what passes for one must pass for the other
    open->window = min64(asked->window, asked->state.acked + SWITCH_SHARE);
    struct stream *st = session_open(to, open);
    if (!st)
        return false;
    st->attached = from->attached = false;
    st->twin = from;
    from->twin = st;
    bool goes_on = asked->flags & OPEN_CONTINUE;
    from->continued = st->continued = goes_on || asked->state.is_set;
    from->known = st->known = goes_on;
    from->limit_told = from->limit_max = goes_on ? 0 : WINDOW_EARLY; // until OPENED tells more
    switch_note_state(from, &asked->state, asked->window);
    rewind_queue(from);
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

// The half becomes an end that nobody owns.
static void orphan(struct stream *st, const struct stream *tw)
{
    st->rcv_nxt = st->rcv_read = tw->snd_end;
    st->rcv_final = tw->fin_final;
    st->fin = st->fin_final != NO_FINAL;
    st->snd_end = st->snd_nxt = st->fin ? st->fin_final : st->snd_max;
    st->twin = NULL;
    st->rst = false;
}

static void separate(struct stream *st)
{
    struct stream *tw = st->twin;
    const struct stream was = *st;
    clear_queue(st);
    clear_queue(tw);
    meet_untie(st);
    meet_untie(tw);
    orphan(st, tw);
    orphan(tw, &was);
}

// Ends what separate() has left. is_reset: its peer's RESET was to be passed on. Where that crossed a refusal nobody else answers it.
static void abandon(struct stream *st, bool is_reset, enum err_why why)
{
    if (st->refused && is_reset) {
        stream_last_ack(st, ACKED_ALL);
        stream_finish(st);
    } else {
        stream_abort(st, why, true);
    }
}

static void part(struct stream *st, enum err_why why)
{
    struct stream *tw = st->twin;
    bool is_reset = tw->rst, is_twin_reset = st->rst;
    separate(st);
    abandon(st, is_reset, why);
    abandon(tw, is_twin_reset, why);
}

bool switch_is_sound_question(const struct stream *st, const struct frame_open *open)
{
    const struct frame_state *f = &open->state;
    bool goes_on = open->flags & OPEN_CONTINUE;
    if (!goes_on && (f->acked || (open->flags & OPEN_BACK)))
        return false; // whoever was not answered holds nothing
    if (!f->has_final)
        return true;
    uint64_t known = st ? st->twin->fin_final : NO_FINAL, passed = st ? st->twin->snd_max : 0;
    return f->is_set && f->final >= f->sent && f->final >= passed && (known == NO_FINAL || f->final == known);
}

// Whether no end acknowledges what the other never sent.
static bool is_sound(const struct stream *st)
{
    bool is_after = st->fin_final == NO_FINAL || st->fin_final >= st->snd_max;
    return is_after && st->snd_una <= st->snd_max + (st->fin_final != NO_FINAL && st->fin_final == st->snd_max);
}

static void encode_opened(struct stream *st, const struct frame_opened *f)
{
    uint8_t text[FRAME_HEAD + FRAME_CONTROL_MAX];
    buf_put(st->note);
    st->note = buf_copy(&st->s->w->pool, text, frame_put_opened(text, st->node.key, f));
    stream_due(st, DUE_OPENED);
}

// The end that st leads to may go on: what the other one holds, and what it takes.
static void go_on(struct stream *st, const struct addr *address, bool sealed)
{
    struct stream *tw = st->twin;
    struct frame_opened f = {.sealed = sealed, .state = {.is_set = true, .acked = tw->snd_una, .sent = st->snd_max}};
    st->limit_told = f.window = min64(tw->snd_limit, tw->snd_una + SWITCH_SHARE);
    if (!st->opener || f.window > st->limit_max) // our OPEN has told it one already, which counts until REWIND
        st->limit_max = f.window;
    f.state.has_final = st->fin_final != NO_FINAL;
    f.state.final = f.state.has_final ? st->fin_final : 0;
    if (address)
        f.address = *address;
    if (!st->opener)
        encode_opened(st, &f);
}

static void meet(struct stream *st, const struct addr *address, bool sealed)
{
    struct stream *tw = st->twin;
    if (!is_sound(st) || !is_sound(tw)) {
        part(st, WHY_MOVED); // an old question of an end that has gone on elsewhere meanwhile, or a lie: they ask again
        return;
    }
    rewind_queue(st);
    rewind_queue(tw);
    st->answered = tw->answered = true;
    go_on(st, NULL, sealed);
    go_on(tw, address, sealed);
    stream_due(st, DUE_REWIND);
    stream_due(tw, DUE_REWIND);
}

bool switch_has_met(const struct stream *st)
{
    return !st->twin || !st->continued || (st->answered && !st->refused && !st->twin->refused);
}

void switch_meet(struct stream *st, bool sealed) { meet(st, NULL, sealed); }

int switch_on_opened(struct stream *st, const struct frame_opened *f)
{
    struct stream *tw = st->twin;
    if (!st->answered)
        meet_untie(st);
    struct frame_state state = f->state;
    if (tw->known && !st->known && !state.is_set) // asked as a new stream, and asked again while it was dialled
        state = (struct frame_state){.is_set = true, .acked = st->snd_una, .sent = tw->snd_max};
    if (st->opener && !st->answered && !f->code && state.is_set) {
        switch_note_state(st, &state, f->window);
        buf_put(st->note);
        st->note = NULL;
        meet(st, &f->address, f->sealed);
        return 0;
    }
    if (!st->opener)
        return session_broken(st->s, "stream %u: OPENED for a stream the peer opened", st->node.key);
    if (!st->answered && !f->code && st->known)
        return session_broken(st->s, "stream %u: OPENED without the state that a stream goes on with", st->node.key);
    if (!st->answered && !f->code && st->continued && !(is_sound(st) && is_sound(tw))) {
        part(st, WHY_MOVED);
        return 0;
    }
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
        if (st->continued) { // to an end that knew nothing of it: all goes from the beginning
            rewind_queue(st);
            rewind_queue(tw);
            stream_due(st, DUE_REWIND);
            stream_due(tw, DUE_REWIND);
        }
        encode_opened(tw, &out);
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
    if (!st->rst && !st->refused && st->opener && !st->answered && st->continued) // it was over there when its answer was lost
        return switch_on_opened(st, &(struct frame_opened){.code = WHY_DONE});
    if (!st->rst && !st->refused && st->continued)
        return 0; // an end that obeyed a RESET which came by another relay: it will pass here too
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
    if (acked > most && (st->rst || (st->fin_final != NO_FINAL && acked == st->fin_final + 1)))
        return 0; // a peer that obeyed RESET, or left the id, acknowledges a FIN in this way, whatever was missing before it
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
        stream_last_ack(st, tw->rst ? ACKED_ALL : tw->snd_una); // who has sent RESET waits for its answer
        stream_last_ack(tw, st->rst ? ACKED_ALL : st->snd_una);
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
    if (code == WHY_MOVED && !st->answered && (st->continued || st->tie || tw->tie)) { // asks elsewhere, or has met its peer elsewhere
        stream_last_ack(st, ACKED_ALL);
        separate(st);
        stream_free_protocol(st);
        stream_abort(tw, WHY_MOVED, true);
        return 0;
    }
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
    if (st->rst) // who sent it may be gone from this id, and repeats nothing
        stream_due(st, DUE_RESET);
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

// An end that had asked is told to ask again; one that has met its peer is reset.
void switch_session_gone(struct stream *st, const struct err *why)
{
    struct stream *tw = st->twin;
    bool is_asking = st->tie != NULL, is_reset = st->rst;
    separate(st);
    stream_free_protocol(st);
    bool again = is_asking || (why && why->why == WHY_MOVED);
    abandon(tw, is_reset, again ? WHY_MOVED : WHY_LOST);
}
