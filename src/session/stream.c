// SPDX-License-Identifier: Apache-2.0
// One end of a stream: offsets, acknowledgements, windows, FIN and RESET (docs/protocol.md, "Streams"), and the link that its
// owner sees. The rules referred to by number are those of docs/protocol.md.
#include "session/stream.h"
#include <stdarg.h>
#include <stdlib.h>
#include "core/log.h"

static struct stream *of(struct link *l) { return container_of(l, struct stream, link); }

void stream_due(struct stream *st, unsigned due)
{
    if (st->freed || !st->s)
        return;
    st->due |= (uint8_t)due;
    if (!list_linked(&st->control))
        list_push(st->carrier ? &st->carrier->control : &st->s->control, &st->control);
    carrier_output(st->carrier);
}

uint64_t stream_sendable(const struct stream *st)
{
    uint64_t end = st->snd_end < st->snd_limit ? st->snd_end : st->snd_limit;
    bool is_ready = st->answered || (st->twin ? !st->continued : st->opener);
    if (st->freed || !is_ready || st->asking || st->refused || (st->rst && st->rst_final == 0))
        return 0;
    return end > st->snd_nxt ? end - st->snd_nxt : 0;
}

void stream_schedule(struct stream *st)
{
    if (!st->carrier || st->scheduled || stream_sendable(st) == 0)
        return;
    st->scheduled = true;
    st->deficit = 0;
    st->carrier->busy_count++;
    list_push(&st->carrier->fresh, &st->data);
    carrier_output(st->carrier);
}

// Sending ------------------------------------------------------------------------------------------------------

static void clear_snd(struct stream *st)
{
    if (st->s)
        budget_give_sent(st->s->budget, st->snd.charge);
    bufq_clear(&st->snd);
    st->cur = NULL;
}

// Frees what the peer has acknowledged. The cursor's buffer goes only when all before snd_nxt is acknowledged.
static void drop_acked(struct stream *st, uint64_t acked)
{
    size_t before = st->snd.charge, n = (size_t)(acked - st->snd_una);
    if (st->snd_nxt <= acked) { // below: acknowledged by way of an earlier carrier
        st->snd_nxt = acked;
        st->cur = NULL;
    }
    bufq_drop(&st->snd, n < st->snd.bytes ? n : st->snd.bytes);
    st->snd_una = acked;
    if (st->snd.charge != before)
        budget_give_sent(st->s->budget, before - st->snd.charge);
}

static void rewind_to_una(struct stream *st)
{
    if (st->snd_nxt > st->snd_una)
        st->s->stats.replayed += st->snd_nxt - st->snd_una;
    st->snd_nxt = st->snd_una;
    st->cur = NULL;
}

// What is repeated on another carrier, or when the peer rewinds: all that is not acknowledged.
static void repeat_control(struct stream *st)
{
    unsigned due = 0;
    if (st->asking || (st->opener && !st->answered))
        due |= DUE_OPEN;
    if (!st->opener && st->answered && !st->opened_acked)
        due |= DUE_OPENED;
    if (st->fin && !st->rst && st->snd_una <= st->snd_end)
        due |= DUE_FIN;
    if (st->rst)
        due |= DUE_RESET;
    if (due)
        stream_due(st, due);
}

static void finish_if_done(struct stream *st)
{
    bool sent_all = st->fin && st->snd_una == st->snd_end + 1;
    bool got_all = st->rcv_final != NO_FINAL && st->rcv_nxt == st->rcv_final;
    if (!st->freed && sent_all && got_all && !st->rst) {
        stream_last_ack(st, st->rcv_final + 1);
        meet_remember(st);
        stream_free_protocol(st);
    }
}

// Ends the stream for good: the peer's RESET took effect, or ours (or our refusal) was acknowledged.
static void finish_reset(struct stream *st)
{
    if (!st->refused)
        meet_remember(st);
    clear_snd(st);
    stream_free_protocol(st);
}

void stream_finish(struct stream *st)
{
    finish_reset(st);
    link_wake(&st->link);
}

void stream_wake_room(struct stream *st)
{
    if (st->want_room) {
        st->want_room = false;
        link_wake(&st->link);
    }
}

// What comes on a stream that is shared with another agent is that one's, and the relay between them has perhaps seen only part of it.
int stream_broken(struct stream *st, const char *fmt, ...)
{
    struct session *s = st->s;
    struct err e = ERR_INIT;
    va_list ap;
    va_start(ap, fmt);
    err_vset(&e, ERR_FAILED, WHY_PROTOCOL, fmt, ap);
    va_end(ap);
    int result = 0;
    if (s->is_agent && (st->tie || st->husk)) {
        s->stats.contradicted++;
        if (!err_is(&st->link.err))
            err_copy(&st->link.err, &e);
        stream_abort(st, WHY_PROTOCOL, true);
        link_wake(&st->link);
    } else {
        result = session_broken(s, "stream %u: %s", st->node.key, err_text(&e));
    }
    err_fini(&e);
    return result;
}

static int on_ack_all(struct stream *st)
{
    if (st->rst || st->refused) {
        finish_reset(st);
        return 0;
    }
    return stream_broken(st, "all acknowledged without RESET");
}

int stream_on_ack(struct stream *st, uint64_t acked, uint64_t limit, bool rewind)
{
    if (acked == ACKED_ALL)
        return on_ack_all(st);
    uint64_t most = st->snd_max + (st->fin && st->snd_max == st->snd_end);
    if (acked > most && st->rst)
        return 0; // a peer that obeyed RESET acknowledges an earlier FIN in this way
    if (acked > most)
        return stream_broken(st, "acknowledged %llu of %llu bytes sent", (unsigned long long)acked,
                             (unsigned long long)st->snd_max);
    if (acked > 0 && !st->opener && !st->opened_acked) {
        st->opened_acked = true;
        buf_put(st->note);
        st->note = NULL;
    }
    bool old = acked < st->snd_una;
    if (acked > st->snd_una) {
        uint64_t data = acked > st->snd_end ? st->snd_end : acked;
        if (data > st->snd_una)
            drop_acked(st, data);
        st->snd_una = acked; // final + 1 counts the FIN
    }
    if (rewind ? !old : limit > st->snd_limit) // rule 2
        st->snd_limit = limit;
    if (rewind) {
        if (st->snd_una <= st->snd_end)
            rewind_to_una(st);
        repeat_control(st);
    }
    finish_if_done(st);
    if (st->freed)
        return 0;
    stream_schedule(st);
    stream_wake_room(st);
    return 0;
}

// What a person can do about a refusal of the other end.
static enum advice advice_of(uint16_t code)
{
    switch (code) {
    case WHY_POLICY:
        return ADVICE_DENIED;
    case WHY_REFUSED:
    case WHY_UNREACHABLE:
    case WHY_TIMEOUT:
        return ADVICE_TARGET;
    case WHY_DNS:
        return ADVICE_TARGET_NAME;
    case WHY_ABSENT:
        return ADVICE_ABSENT;
    default:
        return ADVICE_NONE;
    }
}

int stream_on_opened(struct stream *st, const struct frame_opened *f)
{
    int result;
    if (st->tie && meet_on_opened(st, f, &result))
        return result;
    if (!session_is_own(st->s, st->node.key))
        return session_broken(st->s, "stream %u: OPENED for a stream the peer opened", st->node.key);
    if (st->answered || (st->rst && st->rst_code == WHY_MOVED))
        return 0; // a repetition; or to be heard where the stream has gone
    st->answered = true;
    buf_put(st->note);
    st->note = NULL;
    if (f->code) {
        st->s->stats.refused++;
        st->refused = true;
        err_set(&st->link.err, f->code == WHY_POLICY ? ERR_POLICY : ERR_FAILED, (enum err_why)f->code, "%s",
                f->text[0] ? f->text : err_why_name((enum err_why)f->code));
        err_advise(&st->link.err, advice_of(f->code));
        stream_last_ack(st, ACKED_ALL);
        finish_reset(st);
        link_wake(&st->link);
        return 0;
    }
    st->snd_limit = f->window; // instead of WINDOW_EARLY
    st->sealed = st->seal && f->sealed;
    if (f->address.len && (st->bound = malloc(sizeof *st->bound)))
        *st->bound = f->address;
    if (st->rcv_nxt || st->rcv_final == 0) // rule 1: what was held is acknowledged now
        stream_due(st, DUE_ACK);
    link_wake(&st->link);
    st->want_room = false;
    stream_schedule(st);
    stream_after_receive(st);
    return 0;
}

void stream_on_open_again(struct stream *st)
{
    if (st->joined && st->answered)
        stream_encode_opened(st);
    else if (st->answered && !st->opened_acked)
        stream_due(st, DUE_OPENED);
}

// Receiving ----------------------------------------------------------------------------------------------------

static uint64_t min64(uint64_t a, uint64_t b) { return a < b ? a : b; }

void stream_ack_values(struct stream *st, bool rewind, uint64_t *acked, uint64_t *limit)
{
    bool fin = st->rcv_final != NO_FINAL && st->rcv_nxt == st->rcv_final;
    bool is_taken = !st->refused && (st->answered || !st->opener);
    *acked = is_taken ? st->rcv_nxt + fin : 0;
    uint64_t want = st->rcv_read + st->window;
    if (rewind) {
        uint64_t least = *acked + FRAME_DATA_MAX; // rule 2
        st->limit_told = want > least ? want : least;
        st->dropped = false;
    } else if (!st->dropped && want > st->limit_told) { // rule 8
        st->limit_told = want;
    }
    if (st->limit_told > st->limit_max)
        st->limit_max = st->limit_told;
    st->ack_told = *acked;
    *limit = st->limit_told;
}

// How much may come before it is acknowledged at once.
static uint64_t ack_chunk(const struct stream *st) { return min64(st->window / 4, 128 * 1024); }

static uint64_t ack_owed(const struct stream *st) { return st->rcv_nxt - min64(st->ack_told, st->rcv_nxt); }

bool stream_ack_rides(const struct stream *st)
{
    return list_linked(&st->lazy) && ack_owed(st) >= ack_chunk(st) / 8;
}

static void ack_later(struct stream *st)
{
    if (ack_owed(st) >= ack_chunk(st)) {
        stream_due(st, DUE_ACK);
        return;
    }
    if ((st->due & DUE_ACK) || list_linked(&st->lazy) || !st->carrier)
        return; // without a carrier: the next one begins with REWIND
    list_push(&st->carrier->lazy, &st->lazy);
    carrier_ack_soon(st->carrier);
}

static void on_receive_room(struct budget_waiter *w)
{
    struct stream *st = container_of(w, struct stream, room_waiter);
    stream_due(st, DUE_REWIND);
}

// The peer's RESET takes effect: in order, or at once.
static void apply_reset(struct stream *st)
{
    st->rst_in = true;
    st->s->stats.reset++;
    if (st->rst_in_final == 0) {
        budget_give(st->s->budget, st->rcv.charge);
        bufq_clear(&st->rcv);
    }
    stream_last_ack(st, ACKED_ALL);
    finish_reset(st);
    if (!err_is(&st->link.err))
        err_set(&st->link.err, ERR_FAILED, (enum err_why)st->rst_in_code, "the other end: %s",
                err_why_name((enum err_why)st->rst_in_code));
    link_wake(&st->link);
}

void stream_after_receive(struct stream *st)
{
    bool is_held = st->opener && !st->answered && st->rst_in_final; // rule 1: OPENED comes first
    if (st->rst_in_final != NO_FINAL && st->rcv_nxt >= st->rst_in_final && !is_held) {
        apply_reset(st);
        return;
    }
    if (st->rcv_final != NO_FINAL && st->rcv_nxt == st->rcv_final) {
        finish_if_done(st);
        if (!st->freed)
            ack_later(st);
        link_wake(&st->link);
    }
}

int stream_on_data(struct stream *st, uint64_t offset, struct buf *b)
{
    struct session *s = st->s;
    uint64_t end = offset + b->len;
    if (end < offset || end > st->limit_max || (st->rcv_final != NO_FINAL && end > st->rcv_final)) {
        buf_put(b);
        return stream_broken(st, "DATA beyond %s", st->rcv_final != NO_FINAL ? "its end" : "its window");
    }
    if (offset > st->rcv_nxt || st->dropped) {
        s->stats.gap_dropped += b->len;
        goto drop;
    }
    if (end <= st->rcv_nxt) {
        s->stats.known_trimmed += b->len;
        stream_due(st, DUE_ACK); // rule 2
        goto drop;
    }
    s->stats.known_trimmed += st->rcv_nxt - offset;
    st->moved_at = (uint32_t)(s->w->now_us >> 20);
    buf_skip(b, (size_t)(st->rcv_nxt - offset));
    s->stats.bytes_in += b->len;
    if (st->rst || !st->attached) { // rule 4: nobody reads any more
        st->rcv_nxt = st->rcv_read = end;
        buf_put(b);
    } else {
        size_t charge = st->rcv.charge;
        if (!budget_has(s->budget, b->cap)) {
            s->stats.bytes_in -= b->len;
            s->stats.budget_dropped += b->len;
            st->dropped = true;
            st->window = st->window / 4 > WINDOW_LEAN ? st->window / 4 : WINDOW_LEAN; // less is sent in vain the next time
            budget_wait(s->budget, &st->room_waiter);
            goto drop;
        }
        bool was_empty = bufq_empty(&st->rcv);
        bufq_push_tight(&st->rcv, b);
        budget_take(s->budget, st->rcv.charge - charge);
        st->rcv_nxt = end;
        if (was_empty)
            link_wake(&st->link);
    }
    ack_later(st);
    stream_after_receive(st);
    return 0;
drop:
    buf_put(b);
    return 0;
}

int stream_on_fin(struct stream *st, uint64_t final)
{
    if (final < st->rcv_nxt || (st->rcv_final != NO_FINAL && st->rcv_final != final))
        return stream_broken(st, "FIN at %llu contradicts what was sent", (unsigned long long)final);
    if (st->rcv_final == final) {
        if (st->rcv_nxt == final)
            stream_due(st, DUE_ACK);
        return 0;
    }
    st->rcv_final = final;
    if (st->rst || !st->attached)
        st->rcv_read = st->rcv_nxt;
    stream_after_receive(st);
    return 0;
}

int stream_on_reset(struct stream *st, uint16_t code, uint64_t final)
{
    if (final >= st->rst_in_final)
        return 0; // known; only one that goes at once overtakes another
    if (st->tie && meet_on_reset(st, code, final))
        return 0;
    if (st->rst && st->rst_code == WHY_MOVED && code != WHY_MOVED)
        return 0; // to be heard where the stream has gone
    st->rst_in_code = code;
    st->rst_in_final = st->rst || !st->attached ? 0 : final; // rule 4: obeyed at once
    stream_after_receive(st);
    return 0;
}

// Carriers -----------------------------------------------------------------------------------------------------

void stream_carrier_lost(struct stream *st)
{
    if (st->snd_una <= st->snd_end)
        rewind_to_una(st);
}

void stream_carrier_new(struct stream *st)
{
    repeat_control(st);
    if (!st->opener || st->answered || st->rcv_nxt)
        stream_due(st, DUE_REWIND);
    stream_schedule(st);
}

// Ending -------------------------------------------------------------------------------------------------------

void stream_abort(struct stream *st, enum err_why why, bool at_once)
{
    if (st->freed || st->rst || !st->s)
        return;
    if (!st->opener && !st->answered) { // a refusal is the answer that an OPEN expects
        stream_refuse(st, why, NULL);
        return;
    }
    if (st->refused)
        return;
    st->rst = true;
    st->due &= (uint8_t)~DUE_FIN;
    st->rst_code = (uint16_t)why;
    st->rst_final = at_once || (st->opener && !st->answered) ? 0 : st->snd_end;
    if (st->rst_final == 0)
        clear_snd(st);
    if (!err_is(&st->link.err))
        err_set(&st->link.err, ERR_FAILED, why, "%s", err_why_name(why));
    budget_give(st->s->budget, st->rcv.charge);
    bufq_clear(&st->rcv);
    st->rcv_read = st->rcv_nxt;
    stream_due(st, DUE_RESET);
    if (st->rst_in_final != NO_FINAL) { // rule 4
        st->rst_in_final = 0;
        apply_reset(st);
    } else { // what was dropped for want of memory needs none any more
        list_del(&st->room_waiter.node);
        stream_due(st, st->dropped ? DUE_REWIND : DUE_ACK);
    }
}

void stream_outlive(struct stream *st)
{
    list_del(&st->left);
    budget_give(st->s->budget, st->rcv.charge);
    st->s = NULL;
}

void stream_session_gone(struct stream *st, const struct err *why)
{
    clear_snd(st);
    if (!st->freed)
        stream_free_protocol(st);
    if (!err_is(&st->link.err) && !(st->rcv_final != NO_FINAL && st->rcv_nxt == st->rcv_final && st->fin)) {
        if (why && err_is(why))
            err_copy(&st->link.err, why);
        else
            err_set(&st->link.err, ERR_FAILED, WHY_LOST, "session ended");
    }
    st->rst_in = err_is(&st->link.err);
    stream_outlive(st);
    link_wake(&st->link);
}

// The link that the owner sees -------------------------------------------------------------------------------------

static enum link_status op_open(struct link *l)
{
    struct stream *st = of(l);
    if (st->answered && !st->refused)
        return LINK_OK; // also when it has ended since: recv tells
    return err_is(&l->err) ? LINK_FAILED : LINK_AGAIN;
}

// A round trip under load is longer than an idle one, and it is the one that the window has to cover.
static void measure_again(struct carrier *c)
{
    if (c && !c->live.ping_out && c->s->w->now_us - c->live.pinged_us > PING_LOADED_US)
        carrier_ask_ping(c);
}

// Raises the limit when a quarter of the window was read, and widens the window of a reader that half empties it in less
// than two round trips; where it takes little more than one, it is the window that holds the sender back, and a long path
// would take a second to fill by doubling.
static void window_update(struct stream *st)
{
    struct session *s = st->s;
    uint64_t now = s->w->now_us, rtt = st->carrier && st->carrier->live.srtt_us ? st->carrier->live.srtt_us : 100000;
    if (st->tune_us == 0 || now - st->tune_us > 10000000) { // the first bytes, or idle for 10 s: start again
        if (st->tune_us)
            st->window = WINDOW_START;
        st->tune_us = now;
        st->tune_read = st->rcv_read;
    } else if (st->rcv_read - st->tune_read >= st->window / 2) {
        uint32_t wider = st->window * (now - st->tune_us < rtt + rtt / 4 ? 4 : 2);
        if (wider > WINDOW_MAX)
            wider = WINDOW_MAX;
        if (now - st->tune_us < 2 * rtt && wider > st->window && budget_has(s->budget, wider - st->window))
            st->window = wider;
        st->tune_us = now;
        st->tune_read = st->rcv_read;
        measure_again(st->carrier);
    }
    uint64_t want = st->rcv_read + st->window;
    // FIN may have overtaken data that still needs room.
    bool is_needed = st->rcv_final == NO_FINAL || st->limit_told < st->rcv_final;
    if (!st->dropped && is_needed && want > st->limit_told && want - st->limit_told >= st->window / 4)
        stream_due(st, DUE_ACK);
}

static enum link_status op_recv(struct link *l, struct buf **out)
{
    struct stream *st = of(l);
    size_t charge = st->rcv.charge;
    if (st->opener && !st->answered && st->s)
        return LINK_AGAIN;
    struct buf *b = bufq_pop(&st->rcv);
    if (b) {
        st->rcv_read += b->len;
        if (st->s) {
            budget_give(st->s->budget, charge - st->rcv.charge);
            if (!st->freed)
                window_update(st);
        }
        *out = b;
        return LINK_OK;
    }
    if (err_is(&l->err))
        return LINK_FAILED;
    if (st->rcv_final != NO_FINAL && st->rcv_read == st->rcv_final)
        return LINK_END;
    return LINK_AGAIN;
}

static void on_send_room(struct budget_waiter *w)
{
    struct stream *st = container_of(w, struct stream, send_waiter);
    stream_wake_room(st);
}

static size_t op_room(struct link *l)
{
    struct stream *st = of(l);
    if (err_is(&l->err) || st->freed || st->rst || st->fin)
        return BUF_SIZE; // what is sent now is thrown away; recv tells why. Behind a FIN: closing loses nothing
    uint64_t unsent = st->snd_end - st->snd_nxt;
    if ((!st->answered && !st->opener) || st->snd_end >= st->snd_limit || unsent >= UNSENT_MAX) {
        st->want_room = true;
        return 0;
    }
    if (!budget_has_to_send(st->s->budget, BUF_SIZE)) {
        st->want_room = true;
        budget_wait(st->s->budget, &st->send_waiter);
        return 0;
    }
    return (size_t)min64(st->snd_limit - st->snd_end, UNSENT_MAX - unsent);
}

static void op_send(struct link *l, struct buf *b)
{
    struct stream *st = of(l);
    if (st->freed || st->rst || st->fin || !st->s) {
        buf_put(b);
        return;
    }
    size_t charge = st->snd.charge;
    st->snd_end += b->len;
    st->s->stats.bytes_out += b->len;
    bufq_push_tight(&st->snd, b);
    budget_take_sent(st->s->budget, st->snd.charge - charge);
    stream_schedule(st);
}

static void op_shut(struct link *l, enum link_shut how)
{
    struct stream *st = of(l);
    if (how == SHUT_ABORT) {
        stream_abort(st, WHY_ABORTED, false);
    } else if (!st->fin && !st->freed && !st->rst) {
        st->fin = true;
        stream_due(st, DUE_FIN);
    }
}

// Whether the owner left nothing open: its end was passed on, and it has read all.
static bool is_over(const struct stream *st)
{
    return st->fin && st->rcv_final != NO_FINAL && st->rcv_read == st->rcv_final;
}

static void op_fini(struct link *l)
{
    struct stream *st = of(l);
    st->attached = false;
    if (st->s && !st->freed && !is_over(st))
        stream_abort(st, WHY_ABORTED, false);
    if (st->s)
        budget_give(st->s->budget, st->rcv.charge);
    bufq_clear(&st->rcv);
    st->want_room = false;
    list_del(&st->send_waiter.node);
    list_del(&st->left);
    stream_release(st);
}

static const struct link_ops stream_ops = {
    .name = "stream", .open = op_open, .recv = op_recv, .send = op_send, .room = op_room, .shut = op_shut, .fini = op_fini,
};

void stream_init_link(struct stream *st)
{
    link_init(&st->link, &stream_ops, st->s->w, NULL);
    list_init(&st->room_waiter.node);
    list_init(&st->send_waiter.node);
    list_init(&st->left);
    st->room_waiter.on_room = on_receive_room;
    st->send_waiter.on_room = on_send_room;
    st->attached = true;
}

// What owners call -------------------------------------------------------------------------------------------------

struct link *stream_link(struct stream *st) { return &st->link; }
struct stream *stream_of(struct link *l) { return of(l); }
struct session *stream_session(const struct stream *st) { return st->s; }
uint32_t stream_id(const struct stream *st) { return st->node.key; }
void stream_set_user(struct stream *st, void *user) { st->user = user; }
void *stream_user(const struct stream *st) { return st->user; }
bool stream_is_datagram(const struct stream *st) { return st->datagram; }
bool stream_is_unsent(const struct stream *st) { return st->opener && st->s && !st->open_sent; }
const struct addr *stream_bound(const struct stream *st) { return st->bound; }
bool stream_is_sealed(const struct stream *st) { return st->sealed; }

static void answer(struct stream *st, const struct frame_opened *f)
{
    uint8_t out[FRAME_HEAD + FRAME_CONTROL_MAX];
    size_t n = frame_put_opened(out, st->node.key, f);
    st->note = buf_copy(&st->s->w->pool, out, n);
    st->answered = true;
    if (st->joined) // its opener may hold that bytes have come already
        stream_encode_opened(st);
    stream_due(st, DUE_OPENED);
}

void stream_accept(struct stream *st, const struct addr *bound)
{
    if (st->freed || st->answered || st->opener || !st->s)
        return;
    struct frame_opened f = {.code = 0, .window = st->limit_told};
    if (bound)
        f.address = *bound;
    answer(st, &f);
    stream_schedule(st);
}

void stream_accept_sealed(struct stream *st)
{
    if (st->freed || st->answered || st->opener || !st->s)
        return;
    st->sealed = true;
    answer(st, &(struct frame_opened){.window = st->limit_told, .sealed = true});
    stream_schedule(st);
}

void stream_refuse(struct stream *st, enum err_why why, const char *text)
{
    if (st->freed || st->answered || st->opener || !st->s)
        return;
    struct frame_opened f = {.code = (uint16_t)why};
    if (text)
        log_escape(f.text, sizeof f.text, text, strlen(text));
    st->refused = true;
    st->s->stats.refused++;
    answer(st, &f);
    if (!err_is(&st->link.err))
        err_set(&st->link.err, why == WHY_POLICY ? ERR_POLICY : ERR_FAILED, why, "refused");
}

void stream_reset(struct stream *st, enum err_why why) { stream_abort(st, why, true); }

void stream_get_info(const struct stream *st, struct stream_info *info)
{
    *info = (struct stream_info){
        .id = st->node.key, .kind = st->kind, .switched = st->twin != NULL, .datagram = st->datagram,
        .sealed = st->seal, .speaks = st->twin && !st->opener && (st->twin->opener || st < st->twin),
        .state = st->freed     ? STREAM_FREED
                 : st->rst     ? STREAM_RESET
                 : st->refused ? STREAM_REFUSED
                 : st->answered || st->twin ? STREAM_OPEN
                 : st->opener  ? STREAM_OPENING
                               : STREAM_ASKED,
        .bytes_in = st->datagram ? st->dgram_bytes_in : st->twin ? st->twin->snd_end : st->rcv_nxt,
        .bytes_out = st->datagram ? st->dgram_bytes_out : st->snd_end,
        .packets_in = st->dgrams_in, .packets_out = st->dgrams_out, .window = st->window,
        .unacked = st->snd_end > st->snd_una ? st->snd_end - st->snd_una : 0, .queued = st->rcv.bytes, .opened_us = st->opened_us,
    };
    memcpy(info->uid, st->uid, sizeof info->uid);
}
