// SPDX-License-Identifier: Apache-2.0
#include "link/poll.h"
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "link/poll_own.h"
#include "wire/base64url.h"

#define POST_LEAST 8192
#define POST_FIRST 65536
#define GET_LEAST 16384
#define FAST_MS 100     // a body that took less, and two round trips, may be larger the next time,
#define SLOW_MS 300     // and one that took longer than this and four shall be smaller
#define WIDE 131072     // where bodies are as large as that, more of them are under way
#define RATE_MS 200
#define RATE_MAX_MS 2000
#define QUEUE_MS 200
#define LIVELY_MS 3000  // after something came: two GETs, so that one is parked while the next is on its way
#define POSTS_SMALL 2
#define BULK_MS 1000
#define BULK_BYTES 32768
#define RETRY_MS 50      // doubled with each failure
#define RETRY_SOON_MS 20 // where the connection was lost, after the first time
#define RETRY_MAX_MS 2000
#define HOLD_LEAST_S 1

void poll_work(struct poll *p)
{
    if (!p->link.closed)
        wake_post_late(p->link.w, &p->work);
}

enum link_status poll_fail(struct poll *p, enum err_kind kind, enum err_why why, const char *fmt, ...)
{
    if (err_is(&p->link.err))
        return LINK_FAILED;
    va_list ap;
    va_start(ap, fmt);
    err_vset(&p->link.err, kind, why, fmt, ap);
    va_end(ap);
    err_prefix(&p->link.err, "long-poll at %s", p->where);
    timer_stop(p->link.w, &p->tick);
    link_wake(&p->link);
    return LINK_FAILED;
}

// The reason that is known stands in p->last.
static void give_up(struct poll *p, const char *what)
{
    if (err_is(&p->link.err))
        return;
    err_copy(&p->link.err, &p->last);
    if (!err_is(&p->link.err))
        err_set(&p->link.err, ERR_UNREACHED, WHY_TIMEOUT, "%s", what);
    err_prefix(&p->link.err, "long-poll at %s", p->where);
    timer_stop(p->link.w, &p->tick);
    link_wake(&p->link);
}

// --- what must be asked

static struct trip *free_trip(struct poll *p, bool is_post, unsigned most)
{
    struct trip *from = is_post ? p->trips : p->trips + POLL_POSTS, *found = NULL;
    unsigned count = is_post ? POLL_POSTS : POLL_GETS, busy = 0;
    for (unsigned i = 0; i < count; i++) {
        busy += from[i].state != TRIP_FREE;
        if (from[i].state == TRIP_FREE && !found)
            found = &from[i];
    }
    return busy < most ? found : NULL;
}

static void start_trip(struct trip *t, bool is_post, uint32_t number)
{
    *t = (struct trip){.state = TRIP_WAITING, .is_post = is_post, .number = number};
}

// GETs with lower numbers than this are over: the relay forgets who they were.
uint32_t poll_low(const struct poll *p)
{
    uint32_t low = p->gets + 1;
    for (unsigned i = POLL_POSTS; i < POLL_POSTS + POLL_GETS; i++) {
        if (p->trips[i].state != TRIP_FREE && p->trips[i].number < low)
            low = p->trips[i].number;
    }
    return low;
}

static unsigned posts_wanted(const struct poll *p)
{
    if (!p->begun)
        return 1;
    return p->post_most >= WIDE && poll_out_waiting(&p->up) >= p->post_most ? POLL_POSTS : POSTS_SMALL;
}

static void plan_posts(struct poll *p)
{
    struct poll_piece piece;
    struct trip *t;
    while ((t = free_trip(p, true, posts_wanted(p))) && poll_out_give(&p->up, p->posts + 1, p->post_most, &piece)) {
        start_trip(t, true, ++p->posts);
        t->piece = piece;
    }
}

static unsigned gets_wanted(const struct poll *p)
{
    uint64_t now = p->link.w->now_ms;
    if (!p->begun || poll_in_is_done(&p->down))
        return 0;
    if (p->bulk_ms && now - p->bulk_ms < BULK_MS)
        return p->get_most >= WIDE ? POLL_GETS : 2;
    return p->lively_ms && now - p->lively_ms < LIVELY_MS ? 2 : 1;
}

static void plan_gets(struct poll *p)
{
    struct trip *t;
    while ((t = free_trip(p, false, gets_wanted(p))))
        start_trip(t, false, ++p->gets);
}

// The relay's end is in, and nothing goes there any more by which it would learn that: once more, for that alone.
static void plan_last(struct poll *p)
{
    struct trip *t;
    if (!poll_in_is_done(&p->down) || p->told_end || !(t = free_trip(p, true, POLL_POSTS)))
        return;
    p->told_end = true;
    start_trip(t, true, ++p->posts);
    t->piece = (struct poll_piece){.number = t->number, .offset = p->up.given};
}

// --- which connection asks it

static struct pconn *idle_conn(struct poll *p)
{
    struct pconn *best = NULL;
    for (unsigned i = 0; i < POLL_CONNS; i++) {
        struct pconn *c = &p->conns[i];
        if (c->state == PCONN_IDLE && p->link.w->now_ms - c->since_ms > POLL_IDLE_MS)
            pconn_close(c);
        else if (c->state == PCONN_IDLE && (!best || c->since_ms > best->since_ms))
            best = c;
    }
    return best;
}

static unsigned count_conns(const struct poll *p, enum pconn_state a, enum pconn_state b)
{
    unsigned n = 0;
    for (unsigned i = 0; i < POLL_CONNS; i++)
        n += p->conns[i].state == a || p->conns[i].state == b;
    return n;
}

static void dial_more(struct poll *p, unsigned wanted)
{
    if (p->link.w->now_ms < p->dial_ms)
        return;
    unsigned rising = count_conns(p, PCONN_DIALLING, PCONN_OPENING);
    for (unsigned i = 0; i < POLL_CONNS && rising < wanted; i++) {
        if (p->conns[i].state != PCONN_FREE)
            continue;
        pconn_dial(&p->conns[i]);
        rising++;
    }
}

static void assign(struct poll *p)
{
    unsigned wanted = 0;
    for (unsigned i = 0; i < POLL_POSTS + POLL_GETS; i++) {
        struct trip *t = &p->trips[i];
        if (t->state != TRIP_WAITING || p->link.w->now_ms < t->not_before_ms)
            continue;
        struct pconn *c = idle_conn(p);
        if (!c) {
            wanted++;
            continue;
        }
        if (t->is_post && poll_out_has(&p->up, t->number))
            poll_out_give(&p->up, t->number, p->post_most, &t->piece); // what is left of it
        pconn_ask(c, t);
    }
    dial_more(p, wanted);
}

// --- time

static uint64_t sooner(uint64_t a, uint64_t b) { return a < b ? a : b; }

static bool has_waiting(const struct poll *p)
{
    for (unsigned i = 0; i < POLL_POSTS + POLL_GETS; i++) {
        if (p->trips[i].state == TRIP_WAITING)
            return true;
    }
    return false;
}

static bool is_rising(const struct pconn *c) { return c->state == PCONN_DIALLING || c->state == PCONN_OPENING; }

static uint32_t patience(const struct poll *p) { return p->begun ? POLL_GIVE_UP_MS : POLL_BEGIN_MS; }

static void set_tick(struct poll *p)
{
    uint64_t now = p->link.w->now_ms, at = UINT64_MAX;
    for (unsigned i = 0; i < POLL_POSTS + POLL_GETS; i++) {
        const struct trip *t = &p->trips[i];
        if (t->state == TRIP_OUT)
            at = sooner(at, t->due_ms);
        else if (t->state == TRIP_WAITING && t->not_before_ms > now)
            at = sooner(at, t->not_before_ms);
    }
    for (unsigned i = 0; i < POLL_CONNS; i++) {
        if (is_rising(&p->conns[i]))
            at = sooner(at, p->conns[i].since_ms + POLL_PATIENCE_MS);
    }
    if (p->failing_ms)
        at = sooner(at, p->failing_ms + patience(p));
    if (has_waiting(p) && p->dial_ms > now)
        at = sooner(at, p->dial_ms);
    if (at == UINT64_MAX)
        timer_stop(p->link.w, &p->tick);
    else
        timer_set(p->link.w, &p->tick, at > now ? at - now : 0);
}

static void on_tick(struct timer *timer) { poll_work(container_of(timer, struct poll, tick)); }

// A connection that does not come to stand, or does not answer.
static void end_late(struct poll *p)
{
    uint64_t now = p->link.w->now_ms;
    for (unsigned i = 0; i < POLL_CONNS; i++) {
        struct pconn *c = &p->conns[i];
        struct trip *t = c->trip;
        if (is_rising(c) && now - c->since_ms >= POLL_PATIENCE_MS) {
            err_set(&p->last, ERR_UNREACHED, WHY_TIMEOUT, "another connection did not come to stand in %d s", POLL_PATIENCE_MS / 1000);
            poll_note_failure(p);
            pconn_close(c);
        }
        if (c->state != PCONN_BUSY || now < t->due_ms)
            continue;
        err_set(&p->last, ERR_UNREACHED, WHY_TIMEOUT, "a %s was not answered in %llu s", t->is_post ? "POST" : "GET",
                (unsigned long long)(now - t->out_ms) / 1000);
        pconn_close(c);
        poll_trip_failed(p, t, true);
    }
}

static void on_work(struct wake *wake)
{
    struct poll *p = container_of(wake, struct poll, work);
    if (p->link.closed || err_is(&p->link.err) || !p->opened)
        return;
    end_late(p);
    if (p->failing_ms && p->link.w->now_ms - p->failing_ms >= patience(p)) {
        give_up(p, "nothing was answered");
        return;
    }
    plan_posts(p);
    plan_last(p);
    plan_gets(p);
    assign(p);
    set_tick(p);
}

// --- what came of it

static size_t room_left(const struct poll *p)
{
    uint64_t waiting = poll_out_waiting(&p->up);
    uint64_t most = p->post_most > 2 * BUF_SIZE ? p->post_most : 2 * BUF_SIZE;
    size_t held = p->up.held.bytes;
    if (waiting >= most || held >= POLL_QUEUE_MAX)
        return 0;
    return most - waiting < POLL_QUEUE_MAX - held ? (size_t)(most - waiting) : POLL_QUEUE_MAX - held;
}

static void pay_room(struct poll *p)
{
    if (!p->room_owed || !(p->up.ended ? poll_out_is_done(&p->up) : room_left(p) > 0))
        return;
    p->room_owed = false;
    link_wake(&p->link);
}

void poll_heard(struct poll *p, const struct poll_answer *a)
{
    p->failing_ms = 0;
    if (!poll_out_ack(&p->up, a->acked))
        poll_fail(p, ERR_FAILED, WHY_PROTOCOL, "the relay acknowledges what was never sent");
    pay_room(p);
}

// Bodies as large as the network carries in good time: what is interactive waits behind them.
static void adapt_posts(struct poll *p, uint32_t len, uint64_t ms)
{
    if (ms > SLOW_MS + 4 * p->least_ms && p->post_most / 2 >= POST_LEAST)
        p->post_most /= 2;
    else if (ms < FAST_MS + 2 * p->least_ms && len == p->post_most && p->post_most * 2 <= p->post_cap)
        p->post_most *= 2;
}

// How long a GET takes says little, since it was parked: what all of them together may bring is what came in a round trip and QUEUE_MS.
static void adapt_gets(struct poll *p, uint32_t got)
{
    uint64_t now = p->link.w->now_ms, ms = now - p->rate_ms;
    p->rate_bytes += got;
    if (ms < RATE_MS)
        return;
    uint64_t each = p->rate_bytes * (p->least_ms + QUEUE_MS) / ms / (p->get_most >= WIDE ? POLL_GETS : 2);
    p->rate_ms = now;
    p->rate_bytes = 0;
    if (ms > RATE_MAX_MS || got < p->get_most / 4 * 3)
        return;
    uint64_t low = p->get_most / 2, high = p->get_most * 2;
    each = each < low ? low : each > high ? high : each;
    p->get_most = each < GET_LEAST ? GET_LEAST : each > POLL_BODY_MAX ? POLL_BODY_MAX : (uint32_t)each;
}

static void post_done(struct poll *p, struct trip *t, const struct pconn *c)
{
    uint64_t ms = p->link.w->now_ms - t->out_ms;
    p->begun = true;
    if (p->least_ms == 0 || ms < p->least_ms)
        p->least_ms = ms ? (uint32_t)ms : 1;
    adapt_posts(p, t->piece.len, ms - (ms < p->least_ms ? ms : p->least_ms));
    if (c->answer.again && poll_out_has(&p->up, t->number)) { // it came too early for the relay to keep
        t->state = TRIP_WAITING;
        t->not_before_ms = p->link.w->now_ms + (t->tries < 8 ? 5u << t->tries : RETRY_MAX_MS);
        t->tries++;
    } else {
        t->state = TRIP_FREE;
    }
}

static void get_done(struct poll *p, struct trip *t, const struct pconn *c)
{
    uint64_t now = p->link.w->now_ms;
    t->state = TRIP_FREE;
    if (c->got == 0)
        return;
    p->lively_ms = now;
    if (c->got >= BULK_BYTES)
        p->bulk_ms = now;
    adapt_gets(p, c->got);
}

void poll_trip_done(struct poll *p, struct trip *t, const struct pconn *c)
{
    p->dial_failures = 0;
    err_fini(&p->last);
    if (t->is_post)
        post_done(p, t, c);
    else
        get_done(p, t, c);
    poll_work(p);
}

// A parked GET that was cut shows how long a box lets anything be parked.
static void learn_hold(struct poll *p, const struct trip *t)
{
    uint64_t s = (p->link.w->now_ms - t->out_ms) / 1000;
    if (s < HOLD_LEAST_S)
        return;
    s = s > p->hold_s ? p->hold_s / 2 : s * 2 / 3;
    p->hold_s = s < HOLD_LEAST_S ? HOLD_LEAST_S : (uint32_t)s;
}

void poll_note_failure(struct poll *p)
{
    if (!p->failing_ms)
        p->failing_ms = p->link.w->now_ms;
}

void poll_recut(struct poll *p)
{
    for (unsigned i = 0; i < POLL_CONNS; i++) {
        if (p->conns[i].state == PCONN_BUSY && p->conns[i].trip->is_post)
            pconn_close(&p->conns[i]);
    }
    for (unsigned i = 0; i < POLL_POSTS; i++)
        p->trips[i].state = TRIP_FREE;
    p->post_cap = p->post_most /= 2;
    poll_out_recut(&p->up);
    poll_work(p);
}

void poll_trip_failed(struct poll *p, struct trip *t, bool soon)
{
    uint64_t wait = (uint64_t)(soon ? RETRY_SOON_MS : RETRY_MS) << (t->tries < 6 ? t->tries : 6);
    if (t->tries == 0 && soon)
        wait = 0;
    if (!t->is_post)
        learn_hold(p, t);
    poll_note_failure(p);
    t->state = TRIP_WAITING;
    t->tries++;
    t->not_before_ms = p->link.w->now_ms + (wait < RETRY_MAX_MS ? wait : RETRY_MAX_MS);
    if (t->is_post && t->piece.len + t->piece.end > 0 && !poll_out_has(&p->up, t->number))
        t->state = TRIP_FREE; // another answer has acknowledged it
    poll_work(p);
}

// --- the link

static enum link_status poll_open(struct link *l)
{
    if (err_is(&l->err))
        return LINK_FAILED;
    return poll_of(l)->opened ? LINK_OK : LINK_AGAIN;
}

static enum link_status poll_recv(struct link *l, struct buf **out)
{
    struct poll *p = poll_of(l);
    if ((*out = bufq_pop(&p->down.ready))) {
        if (p->stalled && p->down.ready.bytes < POLL_QUEUE_MAX / 4) {
            p->stalled = false;
            for (unsigned i = 0; i < POLL_CONNS; i++)
                wake_post(l->w, &p->conns[i].wake);
        }
        return LINK_OK;
    }
    if (err_is(&l->err))
        return LINK_FAILED;
    return poll_in_is_done(&p->down) ? LINK_END : LINK_AGAIN;
}

static void poll_send(struct link *l, struct buf *b)
{
    struct poll *p = poll_of(l);
    if (err_is(&l->err) || p->up.ended || b->len == 0) {
        buf_put(b);
        return;
    }
    poll_out_push(&p->up, b);
    poll_work(p);
}

static size_t poll_room(struct link *l)
{
    struct poll *p = poll_of(l);
    if (err_is(&l->err) || poll_out_is_done(&p->up))
        return BUF_SIZE;
    size_t room = p->up.ended ? 0 : room_left(p);
    p->room_owed = room == 0;
    return room;
}

// The relay is told where that costs nothing: by a connection that waits for its next request.
static void tell_abort(struct poll *p)
{
    struct pconn *c = p->begun ? idle_conn(p) : NULL;
    struct trip last = {.is_post = true, .aborts = true};
    if (!c)
        return;
    pconn_ask(c, &last);
    link_shut(c->link, SHUT_END);
    c->trip = NULL;
    c->state = PCONN_IDLE;
}

static void poll_shut(struct link *l, enum link_shut how)
{
    struct poll *p = poll_of(l);
    if (how == SHUT_END) {
        p->up.ended = true;
        poll_work(p);
        return;
    }
    if (!err_is(&l->err))
        tell_abort(p);
    poll_fail(p, ERR_FAILED, WHY_ABORTED, "aborted");
}

static void poll_fini(struct link *l)
{
    struct poll *p = poll_of(l);
    for (unsigned i = 0; i < POLL_CONNS; i++)
        pconn_close(&p->conns[i]);
    p->road->fini(p->road);
    timer_stop(l->w, &p->tick);
    wake_cancel(&p->work);
    poll_out_fini(&p->up);
    poll_in_fini(&p->down);
    err_fini(&p->last);
    free(p->host);
    free(p->path);
    free(p->headers);
    free(p->where);
    free(l->facts);
    free(p);
}

static const struct link_ops poll_ops = {
    .name = "long-poll",
    .open = poll_open,
    .recv = poll_recv,
    .send = poll_send,
    .room = poll_room,
    .shut = poll_shut,
    .fini = poll_fini,
};

static char *copy(const char *text)
{
    char *out = strdup(text ? text : "");
    if (!out)
        abort();
    return out;
}

struct link *poll_over(struct link *first, const struct poll_options *o)
{
    struct poll *p = calloc(1, sizeof(*p));
    uint8_t id[POLL_ID];
    if (!p)
        abort();
    link_init(&p->link, &poll_ops, first->w, NULL);
    p->link.facts = calloc(1, sizeof(*p->link.facts));
    if (!p->link.facts)
        abort();
    if (first->facts)
        *p->link.facts = *first->facts;
    p->host = copy(o->host);
    p->path = copy(o->path);
    p->headers = copy(o->headers);
    p->where = copy(o->where);
    p->road = o->road;
    worker_random(first->w, id, sizeof(id));
    base64url_encode(p->id, id, sizeof(id));
    p->post_most = POST_FIRST;
    p->post_cap = POLL_BODY_MAX;
    p->get_most = POLL_BODY_MAX;
    p->hold_s = POLL_HOLD_S;
    wake_init(&p->work, on_work);
    timer_init(&p->tick, on_tick);
    for (unsigned i = 0; i < POLL_CONNS; i++)
        pconn_init(&p->conns[i], p);
    pconn_take(&p->conns[0], first);
    return &p->link;
}
