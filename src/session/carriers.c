// SPDX-License-Identifier: Apache-2.0
// Which carriers a session has, which of them each stream uses, and whether they still carry. A stream keeps its carrier until
// that is lost, or is suspect while a better one stands; then it is moved: all that is not acknowledged goes again, behind a
// REWIND (rule 3 of docs/protocol.md).
#include "session/frames.h"
#include "session/stream.h"

#define QUIET 4 // units of 2^20 us without DATA

void carrier_output(struct carrier *c)
{
    if (c && !c->has_output) {
        c->has_output = true;
        c->on_output(c);
    }
}

void carrier_ask_ping(struct carrier *c)
{
    if (c && !c->live.ping_due) {
        liveness_ask(&c->live, c->s->w->now_us);
        carrier_output(c);
    }
}

void carrier_ack_soon(struct carrier *c)
{
    if (!c || c->ack_due_us)
        return;
    c->ack_due_us = c->s->w->now_us + ACK_DELAY_US;
    carrier_output(c); // the deadline moved
}

bool session_is_up(const struct session *s) { return !list_empty(&s->carriers); }

uint32_t session_rtt_us(const struct session *s)
{
    uint32_t best = 0;
    list_each((struct list *)&s->carriers, it)
    {
        uint32_t rtt = list_entry(it, struct carrier, node)->live.srtt_us;
        if (rtt && (best == 0 || rtt < best))
            best = rtt;
    }
    return best;
}

// Choosing -----------------------------------------------------------------------------------------------------

static int rank(const struct carrier *c) { return c->live.suspect ? 0 : c->proven ? 2 : 1; }

static bool is_better(const struct carrier *a, const struct carrier *b, const struct carrier *favoured)
{
    if (rank(a) != rank(b))
        return rank(a) > rank(b);
    if (a->busy_count != b->busy_count)
        return a->busy_count < b->busy_count;
    if (a->stream_count != b->stream_count)
        return a->stream_count < b->stream_count;
    return a == favoured;
}

static struct carrier *choose(const struct session *s, const struct carrier *favoured)
{
    struct carrier *best = NULL;
    list_each((struct list *)&s->carriers, it)
    {
        struct carrier *c = list_entry(it, struct carrier, node);
        if (!best || is_better(c, best, favoured))
            best = c;
    }
    return best;
}

// A suspect one whose streams are better off elsewhere; a carrier's end then goes unnoticed by them.
static bool is_superseded(const struct carrier *c)
{
    if (!c->live.suspect)
        return false;
    list_each(&c->s->carriers, it)
        if (rank(list_entry(it, struct carrier, node)) > 0)
            return true;
    return false;
}

// Moving -------------------------------------------------------------------------------------------------------

void stream_unschedule(struct stream *st)
{
    if (!st->scheduled)
        return;
    list_del(&st->data);
    st->scheduled = false;
    st->carrier->busy_count--;
}

void stream_detach(struct stream *st)
{
    stream_unschedule(st);
    list_del(&st->control);
    list_del(&st->lazy);
    if (st->carrier)
        st->carrier->stream_count--;
    st->carrier = NULL;
}

static void attach_to(struct stream *st, struct carrier *c)
{
    st->carrier = c;
    if (c)
        c->stream_count++;
    if (st->due)
        stream_due(st, 0);
}

void stream_attach(struct stream *st, struct carrier *by) { attach_to(st, choose(st->s, by)); }

void stream_change(struct stream *st, struct carrier *to)
{
    if (st->twin)
        switch_carrier_lost(st);
    else
        stream_carrier_lost(st);
    stream_detach(st);
    attach_to(st, to);
    if (!to)
        return;
    st->s->stats.moved++;
    if (st->twin)
        switch_carrier_new(st);
    else
        stream_carrier_new(st);
}

static bool is_all_acked(const struct stream *st)
{
    return st->twin ? st->snd_nxt <= st->snd_una && bufq_empty(&st->snd) : st->snd_una >= st->snd_end;
}

// The peer has moved it to c, most likely away from a carrier that is dead. If that is ours and has been silent, there is no
// need to find it out once more; also where moving costs nothing the peer's choice is ours. Else we ask.
void stream_follow(struct stream *st, struct carrier *c)
{
    struct carrier *own = st->carrier;
    if (own == c)
        return;
    if (is_all_acked(st) || own->live.heard_us + LIVENESS_SILENCE_US < st->s->w->now_us)
        stream_change(st, c);
    else if (!own->live.ping_out)
        carrier_ask_ping(own);
}

// Balance ------------------------------------------------------------------------------------------------------

bool stream_is_quiet(const struct stream *st, uint64_t now_us)
{
    bool asked = !st->opener || st->answered;
    return asked && is_all_acked(st) && !st->due && !st->fin && !st->rst && !list_linked(&st->lazy) &&
           (uint32_t)(now_us >> 20) - st->moved_at > QUIET;
}

struct shift {
    struct carrier *from, *to;
    uint32_t left;
};

static void shift_one(struct stream *st, void *ctx)
{
    struct shift *x = ctx;
    if (x->left == 0 || st->carrier != x->from || !stream_is_quiet(st, st->s->w->now_us))
        return;
    x->left--;
    stream_change(st, x->to);
}

// After a loss all streams are on the carriers that were left. Those that are quiet move back for the price of a REWIND, by the
// agent's choice alone, which the relay follows: two that balance would chase each other.
void session_balance(struct session *s)
{
    struct shift x = {0};
    list_each(&s->carriers, it)
    {
        struct carrier *c = list_entry(it, struct carrier, node);
        if (rank(c) < 2)
            continue;
        if (!x.from || c->stream_count > x.from->stream_count)
            x.from = c;
        if (!x.to || c->stream_count < x.to->stream_count)
            x.to = c;
    }
    if (!x.from || x.from->stream_count - x.to->stream_count < 2)
        return;
    x.left = (x.from->stream_count - x.to->stream_count) / 2;
    session_each_stream(s, shift_one, &x);
}

// Losing -------------------------------------------------------------------------------------------------------

static void leave_one(struct stream *st, void *ctx)
{
    if (st->carrier == ctx)
        stream_change(st, choose(st->s, NULL));
}

// All that c had goes to the others, of which it is none any more, or to nobody.
static void leave(struct carrier *c)
{
    struct session *s = c->s;
    session_each_stream(s, leave_one, c);
    struct carrier *to = choose(s, NULL);
    carrier_pass_last_acks(c, to);
    dgram_pass_queue(c, to);
    if (to)
        carrier_output(to);
}

// Streams of a suspect carrier move as if it were lost; it stands aside meanwhile so that none comes back to it.
static void evacuate(struct carrier *c)
{
    struct list *next = c->node.next;
    list_del(&c->node);
    leave(c);
    list_push(next, &c->node);
}

static void join_one(struct stream *st, void *ctx)
{
    if (!st->carrier)
        stream_change(st, ctx);
}

// The first carrier takes what waited, in the order in which it came due.
static void take_parked(struct session *s, struct carrier *c)
{
    struct list *n;
    struct list waiting;
    list_init(&waiting);
    list_splice(&waiting, &s->control);
    while ((n = list_pop(&waiting)))
        join_one(list_entry(n, struct stream, control), c);
    session_each_stream(s, join_one, c);
    list_splice(&c->acks_due, &s->acks_due);
    c->acks_flush = !list_empty(&c->acks_due);
    struct buf *b;
    while ((b = bufq_pop(&s->dgrams)))
        bufq_push(&c->dgrams, b);
}

// Up and down --------------------------------------------------------------------------------------------------

static void start(struct carrier *c)
{
    struct session *s = c->s;
    uint64_t now = s->w->now_us;
    uint32_t random;
    worker_random(s->w, &random, sizeof random);
    liveness_init(&c->live, s->is_agent, c->lesson, random, now);
    if (c->birth_rtt_us)
        liveness_rtt(&c->live, c->birth_rtt_us);
    c->bytes_in = c->bytes_out = 0;
    c->up_us = now;
    c->has_output = c->suspected = c->pong_due = c->acks_flush = false;
    c->proven = s->is_agent;
    c->goaway_due = s->goaway_due || s->goaway_sent;
    c->head_have = c->body_have = 0;
    c->body = NULL;
    c->stream_count = c->busy_count = 0;
    c->ack_due_us = 0;
    list_init(&c->control);
    list_init(&c->fresh);
    list_init(&c->busy);
    list_init(&c->lazy);
    list_init(&c->acks_due);
    list_init(&c->acks_sent);
    list_init(&c->acks_pinged);
    bufq_init(&c->dgrams);
}

void carrier_up(struct session *s, struct carrier *c, void (*on_output)(struct carrier *c), void *owner)
{
    bool parked = !session_is_up(s);
    c->s = s;
    c->on_output = on_output;
    c->owner = owner;
    start(c);
    list_init(&c->node);
    list_push(&s->carriers, &c->node);
    s->stats.carriers_up++;
    if (parked)
        take_parked(s, c);
    list_each(&s->carriers, it)
    {
        struct carrier *old = list_entry(it, struct carrier, node);
        if (is_superseded(old)) {
            evacuate(old);
            carrier_output(old); // its deadline is now
        }
    }
    carrier_output(c);
}

void carrier_down(struct carrier *c)
{
    struct session *s = c->s;
    if (!s)
        return;
    list_del(&c->node);
    s->goaway_due |= s->goaway_sent && !session_is_up(s);
    leave(c);
    buf_put(c->body);
    c->body = NULL;
    c->head_have = c->body_have = 0;
    c->s = NULL;
}

void session_detach(struct session *s)
{
    while (session_is_up(s)) {
        struct carrier *c = list_entry(list_first(&s->carriers), struct carrier, node);
        carrier_down(c);
        c->on_output(c);
    }
}

// Time ---------------------------------------------------------------------------------------------------------

uint64_t carrier_deadline(const struct carrier *c)
{
    if (!c->s)
        return UINT64_MAX;
    if (is_superseded(c))
        return c->s->w->now_us;
    uint64_t at = liveness_deadline(&c->live);
    return c->ack_due_us && c->ack_due_us < at ? c->ack_due_us : at;
}

static void send_delayed_acks(struct carrier *c)
{
    c->ack_due_us = 0;
    c->acks_flush = !list_empty(&c->acks_due);
    if (c->acks_flush)
        carrier_output(c);
    struct list *n;
    while ((n = list_pop(&c->lazy)))
        stream_due(list_entry(n, struct stream, lazy), DUE_ACK);
}

static void look_at_progress(struct carrier *c)
{
    uint64_t acked, waiting;
    if (c->progress && c->progress(c, &acked, &waiting))
        liveness_progress(&c->live, acked, waiting, c->s->w->now_us);
}

void carrier_sample(struct carrier *c)
{
    if (c->s && c->live.ping_out && !c->live.marked)
        look_at_progress(c);
}

static enum carrier_verdict on_suspect(struct carrier *c)
{
    struct session *s = c->s;
    if (!c->suspected && s->ops->on_suspect)
        s->ops->on_suspect(s, c);
    c->suspected = true;
    if (!is_superseded(c))
        return CARRIER_FINE;
    evacuate(c);
    return CARRIER_DEAD;
}

enum carrier_verdict carrier_tick(struct carrier *c)
{
    if (!c->s)
        return CARRIER_FINE;
    uint64_t now = c->s->w->now_us;
    if (c->ack_due_us && now >= c->ack_due_us)
        send_delayed_acks(c);
    if (liveness_wants_progress(&c->live))
        look_at_progress(c);
    enum liveness_verdict v = liveness_check(&c->live, now);
    if (v == LIVENESS_DEAD)
        return CARRIER_DEAD;
    if (v == LIVENESS_SUSPECT)
        return on_suspect(c);
    c->suspected = false;
    if (c->live.ping_due && !c->live.ping_out)
        carrier_output(c);
    return CARRIER_FINE;
}

void carrier_hurry(struct carrier *c)
{
    if (!c->s)
        return;
    liveness_hurry(&c->live, c->s->w->now_us);
    carrier_output(c);
}
