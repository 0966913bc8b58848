// SPDX-License-Identifier: Apache-2.0
// The agent's side: ties, limbo, asking and being asked. What a relay does is in pair.c.
#include "session/meet.h"
#include <stdlib.h>
#include "session/stream.h"

struct done_uid {
    struct hash_node node;
    struct list order;
    uint8_t uid[16];
    bool opener; // which end of it was here: an agent may use its own service
    uint64_t at_ms;
};

// The index -----------------------------------------------------------------------------------------------------

void meet_init(struct meet *m, struct worker *w, uint32_t keep_ms)
{
    uint64_t seed[2];
    *m = (struct meet){.w = w, .keep_ms = keep_ms};
    worker_random(w, seed, sizeof seed);
    hash_init(&m->ties, seed[0]);
    hash_init(&m->done, seed[1]);
    list_init(&m->done_order);
}

void meet_start_limbo(struct meet *m, const struct session_ops *ops, void *owner, struct budget *budget)
{
    static const uint8_t none[16];
    session_init(&m->limbo, m->w, true, none, ops, owner, budget);
    m->limbo.is_limbo = true;
}

// Peers choose uids; where they fall depends on the table's secret.
static uint32_t key_of(const struct hash *h, const uint8_t uid[16])
{
    uint64_t mixed = (get64(uid) ^ h->seed) * h->seed + get64(uid + 8);
    return (uint32_t)((mixed ^ mixed >> 29) * h->seed >> 32);
}

struct tie *meet_tie(struct meet *m, struct stream *st, const struct frame_open *open)
{
    size_t len = strlen(open->host) + 1;
    struct tie *t = calloc(1, sizeof *t + len);
    if (!t)
        abort();
    t->m = m;
    t->st = st;
    st->tie = t;
    memcpy(t->host, open->host, len);
    memcpy(t->asker, open->identity, sizeof t->asker);
    hash_add(&m->ties, &t->node, key_of(&m->ties, st->uid));
    return t;
}

struct tie *meet_find(const struct meet *m, const uint8_t uid[16], struct tie *after)
{
    struct hash_node *n = after ? hash_next(&after->node) : hash_find(&m->ties, key_of(&m->ties, uid));
    for (; n; n = hash_next(n)) {
        struct tie *t = container_of(n, struct tie, node);
        if (memcmp(t->st->uid, uid, 16) == 0)
            return t;
    }
    return NULL;
}

static void set_adrift(struct tie *t, bool adrift)
{
    if (adrift && !t->adrift_ms) {
        t->adrift_ms = t->m->w->now_ms ? t->m->w->now_ms : 1;
        t->m->adrift_count++;
    } else if (!adrift && t->adrift_ms) {
        t->adrift_ms = 0;
        t->m->adrift_count--;
    }
}

void meet_untie(struct stream *st)
{
    struct tie *t = st->tie;
    if (!t)
        return;
    set_adrift(t, false);
    hash_del(&t->m->ties, &t->node);
    st->tie = NULL;
    free(t);
}

struct each {
    void (*fn)(struct tie *t, void *ctx);
    void *ctx;
};

static void each_one(struct hash_node *n, void *ctx)
{
    struct each *e = ctx;
    e->fn(container_of(n, struct tie, node), e->ctx);
}

void meet_each(struct meet *m, void (*fn)(struct tie *t, void *ctx), void *ctx)
{
    struct each e = {fn, ctx};
    hash_each(&m->ties, each_one, &e);
}

bool meet_is_adrift(const struct tie *t) { return t->m->limbo.is_limbo && t->st->s == &t->m->limbo; }

// Streams that are over (rule 11) ---------------------------------------------------------------------------------

static void forget_done(struct meet *m, struct done_uid *d)
{
    hash_del(&m->done, &d->node);
    list_del(&d->order);
    free(d);
}

static void trim_done(struct meet *m, uint32_t most)
{
    struct list *n;
    while ((n = list_first(&m->done_order))) {
        struct done_uid *d = list_entry(n, struct done_uid, order);
        if (m->done.count <= most && m->w->now_ms - d->at_ms < m->keep_ms)
            return;
        forget_done(m, d);
    }
}

void meet_remember(struct stream *st)
{
    struct tie *t = st->tie;
    if (!t || !t->m->limbo.is_limbo || st->twin)
        return;
    trim_done(t->m, MEET_DONE_MAX - 1);
    struct done_uid *d = calloc(1, sizeof *d);
    if (!d)
        abort();
    memcpy(d->uid, st->uid, 16);
    d->opener = st->opener;
    d->at_ms = t->m->w->now_ms;
    hash_add(&t->m->done, &d->node, key_of(&t->m->done, st->uid));
    list_push(&t->m->done_order, &d->order);
}

static bool is_done(const struct meet *m, const uint8_t uid[16], bool opener)
{
    for (struct hash_node *n = hash_find(&m->done, key_of(&m->done, uid)); n; n = hash_next(n)) {
        struct done_uid *d = container_of(n, struct done_uid, node);
        if (memcmp(d->uid, uid, 16) == 0 && d->opener == opener && m->w->now_ms - d->at_ms < m->keep_ms)
            return true;
    }
    return false;
}

static void end_one(struct tie *t, void *why)
{
    if (meet_is_adrift(t))
        meet_lose(t, why);
}

void meet_fini(struct meet *m, const struct err *why)
{
    meet_each(m, end_one, (void *)(uintptr_t)why);
    if (m->limbo.is_limbo)
        session_fini(&m->limbo, why);
    trim_done(m, 0);
    hash_fini(&m->ties);
    hash_fini(&m->done);
    m->limbo.is_limbo = false;
}

// From session to session -------------------------------------------------------------------------------------------

void stream_leave(struct stream *st)
{
    struct session *s = st->s;
    if (st->twin)
        switch_carrier_lost(st);
    else
        stream_carrier_lost(st);
    stream_detach(st);
    hash_del(&s->streams, &st->node);
    st->due = 0;
    dgram_clear_parts(st);
    s->stream_count--;
    s->peer_stream_count -= !session_is_own(s, st->node.key);
}

void stream_enter(struct stream *st, struct session *s, uint32_t id)
{
    st->s = s;
    hash_add(&s->streams, &st->node, id);
    s->stream_count++;
    s->peer_stream_count += !session_is_own(s, id);
    stream_attach(st, NULL);
}

// The stream has gone elsewhere: its id here is reset, and the relay passes that on to a peer that has not noticed.
void stream_leave_husk(const struct stream *st, struct session *s, uint32_t id)
{
    struct frame_open open = {.kind = st->kind, .datagram = st->datagram};
    struct stream *h = stream_new(s, id, &open, NULL);
    h->attached = false;
    h->husk = true;
    s->husks++;
    h->answered = h->rst = true;
    h->rst_code = WHY_MOVED;
    h->limit_max = st->limit_max;
    h->rcv_nxt = h->rcv_read = st->rcv_nxt;
    h->rcv_final = st->rcv_final;
    stream_due(h, DUE_RESET);
}

// True: the peer may know it, so that it must not be opened as if it were new.
static bool is_known(const struct stream *st)
{
    return st->answered || st->snd_una || st->rcv_nxt || st->rcv_final != NO_FINAL;
}

static void drop_note(struct stream *st)
{
    buf_put(st->note);
    st->note = NULL;
}

static void to_limbo(struct stream *st, bool tell)
{
    struct meet *m = st->tie->m;
    struct session *old = st->s;
    uint32_t id = st->node.key;
    stream_leave(st);
    if (tell)
        stream_leave_husk(st, old, id);
    if (m->limbo.stream_count == 0)
        m->limbo.next_id = 1;
    stream_enter(st, &m->limbo, m->limbo.next_id);
    m->limbo.next_id += 2;
    if (st->asking)
        drop_note(st);
    st->asking = st->opener ? is_known(st) : st->answered && !st->refused;
    set_adrift(st->tie, true);
    if (m->on_adrift)
        m->on_adrift(m);
}

struct cast {
    struct meet *m;
    bool tell;
};

static void cast_one(struct stream *st, void *ctx)
{
    struct cast *c = ctx;
    if (st->tie && st->tie->m == c->m)
        to_limbo(st, c->tell);
}

void meet_cast(struct meet *m, struct session *s, bool tell)
{
    struct cast c = {m, tell};
    if (s != &m->limbo)
        session_each_stream(s, cast_one, &c);
}

void meet_lose(struct tie *t, const struct err *why) { stream_session_gone(t->st, why); }

// Asking ------------------------------------------------------------------------------------------------------------

static void encode_open(struct stream *st, const struct frame_open *open)
{
    uint8_t out[FRAME_HEAD + FRAME_CONTROL_MAX];
    size_t n = frame_put_open(out, st->node.key, open);
    drop_note(st);
    st->note = buf_copy(&st->s->w->pool, out, n);
    stream_due(st, DUE_OPEN);
}

static void fill_state(struct stream *st, struct frame_state *f, uint64_t *window)
{
    *f = (struct frame_state){.is_set = true, .sent = st->snd_max, .has_final = st->fin, .final = st->fin ? st->snd_end : 0};
    stream_ack_values(st, true, &f->acked, window);
    list_del(&st->room_waiter.node); // what was dropped is asked for with this
}

static void ask_continue(struct stream *st)
{
    struct tie *t = st->tie;
    struct frame_open open = {.kind = OPEN_SERVICE, .flags = OPEN_CONTINUE, .datagram = st->datagram, .sealed = st->opener ? st->seal : st->sealed};
    memcpy(open.uid, st->uid, 16);
    snprintf(open.host, sizeof open.host, "%s", t->host);
    if (!st->opener) {
        open.flags |= OPEN_BACK;
        open.has_identity = true;
        memcpy(open.identity, t->asker, sizeof open.identity);
        st->opened_acked = true; // whoever goes on was answered
    }
    fill_state(st, &open.state, &open.window);
    encode_open(st, &open);
}

// Rule 9: the peer may know it, or not.
static void ask_again(struct stream *st)
{
    struct frame_open open;
    if (!st->note || frame_get_open(&open, buf_data(st->note) + FRAME_HEAD, st->note->len - FRAME_HEAD) < 0)
        return;
    open.state = (struct frame_state){.is_set = true, .sent = st->snd_max, .has_final = st->fin, .final = st->fin ? st->snd_end : 0};
    st->tie->again = true;
    st->snd_limit = st->datagram ? 0 : WINDOW_EARLY;
    encode_open(st, &open);
    stream_carrier_new(st);
}

bool meet_ask(struct tie *t, struct session *to)
{
    struct stream *st = t->st;
    if (!st->opener && (!st->answered || st->refused))
        return false;
    uint32_t id = session_take_id(to);
    if (!id)
        return false;
    stream_leave(st);
    stream_enter(st, to, id);
    t->asked_ms = t->m->w->now_ms;
    st->joined = false;
    st->asking = st->opener ? is_known(st) : true;
    if (st->asking)
        ask_continue(st);
    else
        ask_again(st);
    return true;
}

void meet_unask(struct tie *t)
{
    if (!meet_is_adrift(t))
        to_limbo(t->st, true);
}

static void set_answered(struct stream *st, bool sealed)
{
    if (st->answered)
        return;
    drop_note(st);
    st->answered = true;
    st->sealed = st->seal && sealed;
    st->want_room = false;
    link_wake(&st->link);
}

// What the peer says it holds, or has sent, is less than it has told before: an old question that has waited at a relay while they went
// on at another one. Whoever went on from there would send what is not asked for, or wait for what is not repeated.
static bool is_stale(const struct stream *st, const struct frame_state *f)
{
    return f->is_set && (f->acked < st->snd_una || f->sent < st->rcv_nxt);
}

// They have met: what the peer holds, and what it takes.
static int go_on(struct stream *st, const struct frame_state *f, uint64_t window, bool sealed)
{
    set_adrift(st->tie, false);
    st->tie->again = st->asking = false;
    set_answered(st, sealed);
    if (stream_on_ack(st, f->acked, window, true) < 0)
        return -1;
    if (st->freed)
        return 0;
    stream_carrier_new(st);
    stream_due(st, DUE_ACK);
    stream_wake_room(st);
    stream_after_receive(st); // a RESET or FIN that was held until the answer
    return 0;
}

// The peer has freed it: all had arrived there.
static int on_done(struct stream *st)
{
    bool got_all = st->rcv_final != NO_FINAL && st->rcv_nxt == st->rcv_final;
    stream_last_ack(st, ACKED_ALL);
    if (st->rst || (st->fin && got_all)) {
        stream_finish(st);
        return 0;
    }
    struct err e = ERR_INIT;
    err_set(&e, ERR_FAILED, WHY_LOST, "the other end has given the stream up");
    stream_session_gone(st, &e);
    err_fini(&e);
    return 0;
}

static void on_refused(struct stream *st, const struct frame_opened *f)
{
    struct err e = ERR_INIT;
    const char *name = err_why_name((enum err_why)f->code);
    err_set(&e, f->code == WHY_POLICY ? ERR_POLICY : ERR_FAILED, (enum err_why)f->code,
            "the stream cannot go on: %s", f->text[0] ? f->text : name);
    st->s->stats.refused++;
    stream_last_ack(st, ACKED_ALL);
    stream_session_gone(st, &e);
    err_fini(&e);
}

bool meet_on_opened(struct stream *st, const struct frame_opened *f, int *result)
{
    bool is_asked = st->asking || (!st->answered && (st->tie->again || f->code == WHY_MOVED));
    *result = 0;
    if (!is_asked || (!st->asking && !f->code)) {
        set_adrift(st->tie, false);
        st->tie->again = false;
        return false;
    }
    if (f->code == WHY_NONE && is_stale(st, &f->state)) {
        to_limbo(st, true);
    } else if (f->code == WHY_NONE && f->state.is_set) {
        drop_note(st);
        *result = go_on(st, &f->state, f->window, f->sealed);
    } else if (f->code == WHY_DONE) {
        *result = on_done(st);
    } else if (f->code == WHY_ABSENT || f->code == WHY_MOVED || f->code == WHY_LIMIT) {
        stream_last_ack(st, ACKED_ALL);
        to_limbo(st, false);
    } else if (f->code == WHY_NONE) {
        set_adrift(st->tie, false);
        st->tie->again = st->asking = false;
        set_answered(st, f->sealed);
        drop_note(st);
        *result = stream_broken(st, "OPENED without the state that a stream goes on with");
    } else if (st->asking) {
        on_refused(st, f);
    } else {
        return false;
    }
    return true;
}

bool meet_on_reset(struct stream *st, uint16_t code, uint64_t final)
{
    if (code != WHY_MOVED || final || !st->tie->m->limbo.is_limbo)
        return false;
    stream_last_ack(st, ACKED_ALL);
    to_limbo(st, false);
    return true;
}

// Being asked ---------------------------------------------------------------------------------------------------------

static void turn_away(struct stream *fresh, enum err_why why, const char *text)
{
    fresh->attached = false;
    stream_refuse(fresh, why, text);
}

void meet_drop(struct stream *fresh)
{
    fresh->attached = false;
    stream_free_protocol(fresh);
}

// The relay vouches for who asks; it must be who this stream is shared with.
static bool is_peer(const struct tie *t, const struct frame_open *open)
{
    const char *name = strchr(t->host, '@');
    if (strcmp(t->host, open->host) != 0 || t->st->datagram != open->datagram)
        return false;
    if (t->st->opener)
        return name && strcmp(name + 1, open->agent) == 0;
    return open->has_identity && memcmp(open->identity, t->asker, sizeof t->asker) == 0;
}

// Both have asked: one question is enough. Of two questions at two relays the opener's is kept.
static bool keeps_own(const struct stream *st, const struct session *s)
{
    bool has_asked = !meet_is_adrift(st->tie) && (st->asking || (st->opener && !st->answered));
    return has_asked && (st->opener || st->s == s);
}

// True: with what the peer says, or as its question counts as an answer, it is over here, and freed.
static bool is_over_with(struct stream *st, uint64_t acked, bool sealed)
{
    struct session *old = st->s;
    uint32_t old_id = st->node.key;
    if (st->opener)
        set_answered(st, sealed);
    if (st->fin && !st->rst && acked == st->snd_end + 1 && st->rcv_final != NO_FINAL && st->rcv_nxt == st->rcv_final)
        stream_finish(st);
    else if (st->rst_in_final != NO_FINAL) // a RESET that was held until the answer
        stream_after_receive(st);
    if (st->freed && !old->is_limbo)
        stream_leave_husk(st, old, old_id);
    return st->freed;
}

void stream_encode_opened(struct stream *st)
{
    uint8_t out[FRAME_HEAD + FRAME_CONTROL_MAX];
    struct frame_opened f = {0};
    if (st->note && buf_data(st->note)[3] == FRAME_OPENED) // the first answer: not known to have arrived
        (void)!frame_get_opened(&f, buf_data(st->note) + FRAME_HEAD, st->note->len - FRAME_HEAD);
    f.sealed = st->sealed;
    if (!st->refused)
        fill_state(st, &f.state, &f.window);
    drop_note(st);
    st->note = buf_copy(&st->s->w->pool, out, frame_put_opened(out, st->node.key, &f));
    stream_due(st, DUE_OPENED);
}

// The stream takes the id on which its peer asked.
static int join(struct stream *st, struct stream *fresh, const struct frame_open *open)
{
    struct session *s = fresh->s, *old = st->s;
    uint32_t id = fresh->node.key, old_id = st->node.key;
    bool is_live = !meet_is_adrift(st->tie);
    meet_drop(fresh);
    stream_leave(st);
    if (is_live)
        stream_leave_husk(st, old, old_id);
    stream_enter(st, s, id);
    if (st->asking || st->opener)
        drop_note(st);
    st->asking = false;
    st->joined = true;
    if (!st->opener && !st->answered) { // its dial goes on
        set_adrift(st->tie, false);
        st->snd_limit = open->window;
        return 1;
    }
    stream_encode_opened(st);
    if (st->refused)
        return 1;
    st->opened_acked |= (open->flags & OPEN_CONTINUE) != 0;
    return go_on(st, &open->state, open->window, open->sealed) < 0 ? -1 : 1;
}

int meet_on_open(struct session *s, struct stream *fresh, const struct frame_open *open)
{
    struct meet *m = s->meet;
    bool as_opener = open->flags & OPEN_BACK;
    struct tie *t = meet_find(m, open->uid, NULL);
    while (t && t->st->opener != as_opener)
        t = meet_find(m, open->uid, t);
    if (!t && is_done(m, open->uid, as_opener)) {
        turn_away(fresh, WHY_DONE, NULL);
        return 1;
    }
    if (!t && (open->flags & OPEN_CONTINUE)) {
        turn_away(fresh, WHY_ABSENT, "this agent does not know the stream");
        return 1;
    }
    if (!t) {
        meet_tie(m, fresh, open);
        return 0;
    }
    struct stream *st = t->st;
    uint64_t most = st->snd_max + (st->fin && st->snd_max == st->snd_end);
    if (!is_peer(t, open) || (open->state.acked > most && !st->rst)) {
        turn_away(fresh, WHY_POLICY, "not a stream of yours");
    } else if (keeps_own(st, s)) {
        meet_drop(fresh);
    } else if (is_stale(st, &open->state)) {
        turn_away(fresh, WHY_MOVED, NULL);
    } else if (is_over_with(st, open->state.acked, open->sealed)) {
        turn_away(fresh, WHY_DONE, NULL);
    } else {
        return join(st, fresh, open);
    }
    return 1;
}
