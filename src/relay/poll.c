// SPDX-License-Identifier: Apache-2.0
#include "relay/poll.h"
#include <stdlib.h>
#include <string.h>
#include "link/poll_server.h"

static const char headers[] = "Content-Type: application/octet-stream\r\nCache-Control: no-store, no-transform\r\n";

struct carrier_id { // a carrier that can be asked
    struct hash_node node;
    char id[POLL_ID_TEXT + 1];
    struct front *f;
    struct link *l;
    bool known;       // its agent is
    struct list asks; // in hand
    unsigned count;
};

struct ask { // one request
    struct list node;
    struct front_caller *k;
    struct poll_guest guest;
    struct carrier_id *of; // not to be touched without guest.l
    struct poll_request r;
    enum { ASK_BODY, ASK_PARKED, ASK_OVER, ASK_ANSWER } phase; // OVER: the same was asked again: no data by this one
    bool again;  // POST: not all of it was kept
    uint64_t at; // POST: of the next byte; GET: of the next one to send
    uint64_t to; // GET: where the answer's data end
};

// --- carriers by their ids

static bool is_known(const struct carrier_id *c) { return c->known && !poll_server_failed(c->l); }

static uint32_t key_of(const char id[POLL_ID_TEXT + 1])
{
    uint32_t key;
    memcpy(&key, id, sizeof(key));
    return key;
}

static struct carrier_id *find(const struct front *f, const char id[POLL_ID_TEXT + 1])
{
    for (struct hash_node *n = hash_find(&f->polls, key_of(id)); n; n = hash_next(n)) {
        struct carrier_id *c = container_of(n, struct carrier_id, node);
        if (!strcmp(c->id, id))
            return c;
    }
    return NULL;
}

static void on_gone(void *ctx)
{
    struct carrier_id *c = ctx;
    struct hash *polls = &c->f->polls;
    while (list_pop(&c->asks))
        ; // they have heard that it is gone
    hash_del(polls, &c->node);
    if (polls->count == 0)
        hash_fini(polls);
    free(c);
}

// Those who wait with a request are no strangers any more.
static void on_known(void *ctx)
{
    struct carrier_id *c = ctx;
    c->known = true;
    poll_server_known(c->l);
    list_each(&c->asks, it) front_excuse(list_entry(it, struct ask, node)->k);
}

static struct carrier_id *begin(struct front_caller *k, const char id[POLL_ID_TEXT + 1])
{
    struct front *f = k->f;
    struct carrier_id *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    memcpy(c->id, id, sizeof c->id);
    c->f = f;
    list_init(&c->asks);
    hash_add(&f->polls, &c->node, key_of(id));
    c->l = poll_server_new(f->w, k->top->facts, on_gone, c);
    if (c->l->facts)
        c->l->facts->peer = k->peer;
    return front_adopt(k, c->l, on_known, c) ? c : NULL; // closed, it goes by itself
}

// --- answering

static void say(struct front_caller *k, const struct ask *a, const struct poll_piece *piece)
{
    struct poll_answer answer = {.abort = !a->guest.l || poll_server_failed(a->guest.l)};
    uint8_t head[POLL_ANSWER_HEAD];
    if (!answer.abort) {
        answer.again = a->again;
        answer.acked = poll_server_acked(a->guest.l);
        answer.offset = piece->offset;
        answer.len = piece->len;
        answer.end = piece->end;
    }
    poll_put_answer(head, &answer);
    front_say(k, 200, "OK", headers, POLL_ANSWER_HEAD + answer.len);
    front_send(k, buf_copy(&k->f->w->pool, head, sizeof head));
}

static void say_nothing(struct front_caller *k, const struct ask *a)
{
    say(k, a, &(struct poll_piece){0});
    front_done(k);
}

static void send_data(struct front_caller *k)
{
    struct ask *a = k->state;
    if (err_is(&k->top->err)) {
        front_end(k);
        return;
    }
    while (a->at < a->to && front_room(k) > 0) {
        struct buf *b = buf_get(&k->f->w->pool);
        if (!a->guest.l || !poll_server_copy(a->guest.l, a->at, (size_t)(a->to - a->at), b)) {
            buf_put(b);
            front_end(k); // another request has acknowledged it, or the carrier is gone
            return;
        }
        a->at += b->len;
        front_send(k, b);
        timer_set(k->f->w, &k->deadline, POLL_BODY_MS);
    }
    if (a->at == a->to)
        front_done(k);
}

static void answer_get(struct front_caller *k)
{
    struct ask *a = k->state;
    struct poll_piece piece;
    if (!a->guest.l || poll_server_failed(a->guest.l)) {
        say_nothing(k, a);
        return;
    }
    if (!poll_server_give(a->guest.l, &a->r, &piece))
        return; // parked
    a->phase = ASK_ANSWER;
    a->at = piece.offset;
    a->to = piece.offset + piece.len;
    say(k, a, &piece);
    timer_set(k->f->w, &k->deadline, POLL_BODY_MS);
    send_data(k);
}

// --- asking

static void read_body(struct front_caller *k)
{
    struct ask *a = k->state;
    for (;;) {
        struct buf *b;
        if (!a->guest.l || poll_server_failed(a->guest.l)) {
            say_nothing(k, a);
            return;
        }
        if (!poll_server_thirsty(a->guest.l))
            return; // its wake comes when it is read
        enum link_status s = front_recv(k, &b);
        if (s == LINK_AGAIN)
            return;
        if (s == LINK_FAILED) {
            front_end(k);
            return;
        }
        if (s == LINK_END)
            break;
        if (a->at - a->r.offset + b->len > POLL_BODY_MAX) {
            buf_put(b);
            front_end(k);
            return;
        }
        uint64_t at = a->at;
        a->at += b->len;
        timer_set(k->f->w, &k->deadline, POLL_BODY_MS);
        uint64_t before = poll_server_refused(a->guest.l);
        poll_server_take(a->guest.l, at, b);
        a->again |= poll_server_refused(a->guest.l) != before;
    }
    if (a->r.end)
        poll_server_end(a->guest.l, a->at);
    say_nothing(k, a);
}

static void poll_on_wake(struct front_caller *k)
{
    struct ask *a = k->state;
    if (a->phase == ASK_BODY)
        read_body(k);
    else if (a->phase == ASK_ANSWER)
        send_data(k);
    else if (front_is_gone(k))
        front_end(k);
    else if (a->phase == ASK_OVER)
        say_nothing(k, a);
    else
        answer_get(k);
}

static void poll_on_late(struct front_caller *k)
{
    struct ask *a = k->state;
    if (a->phase == ASK_PARKED || a->phase == ASK_OVER)
        say_nothing(k, a);
    else
        front_end(k);
}

static void poll_on_gone(struct front_caller *k)
{
    struct ask *a = k->state;
    if (!a)
        return;
    if (a->guest.l)
        a->of->count--;
    list_del(&a->node);
    poll_server_leave(&a->guest);
    free(a);
    k->state = NULL;
}

// --- claiming

static bool begins(const struct poll_request *r) { return r->is_post && r->offset == 0 && r->acked == 0 && !r->end && !r->abort; }

static bool poll_claims(const struct front_caller *k, const struct http_head *h)
{
    struct poll_request r;
    return poll_is_target(h->target) && poll_get_request(&r, h->method, h->target) && front_is_our_path(k->f, h->target) &&
           (begins(&r) || find(k->f, r.id));
}

static bool poll_knows(const struct front_caller *k, const struct http_head *h)
{
    struct poll_request r;
    poll_get_request(&r, h->method, h->target);
    const struct carrier_id *c = find(k->f, r.id);
    return c && is_known(c);
}

// Who asks again has given his first request up, or some box repeats it: it shall hold nothing any more. If it was the box's,
// the agent takes its empty answer for what it is, and asks under the next number.
static void supersede(struct carrier_id *c, const struct poll_request *r)
{
    list_each(&c->asks, it)
    {
        struct ask *a = list_entry(it, struct ask, node);
        if (a->phase != ASK_PARKED || a->r.number != r->number)
            continue;
        a->phase = ASK_OVER;
        wake_post(c->f->w, &a->k->wake);
    }
}

static void poll_take(struct front_caller *k, const struct http_head *h)
{
    struct poll_request r;
    poll_get_request(&r, h->method, h->target); // claimed: it is right
    struct carrier_id *c = find(k->f, r.id);
    if (!c)
        c = begin(k, r.id);
    if (c && !r.is_post)
        supersede(c, &r);
    struct ask *a = c && c->count < POLL_ASKS_MAX ? calloc(1, sizeof *a) : NULL;
    if (!a) {
        front_answer(k, 503, "Service Unavailable", "Cache-Control: no-store\r\nRetry-After: 1\r\n");
        return;
    }
    k->state = a;
    a->r = r;
    a->at = r.offset;
    a->of = c;
    a->guest.wake = &k->wake;
    a->phase = r.is_post ? ASK_BODY : ASK_PARKED;
    a->k = k;
    if (is_known(c))
        front_excuse(k);
    c->count++;
    list_push(&c->asks, &a->node);
    poll_server_join(c->l, &a->guest);
    poll_server_hear(c->l, &r);
    timer_set(k->f->w, &k->deadline, r.is_post ? POLL_BODY_MS : r.hold_s * 1000u);
    wake_post(k->f->w, &k->wake);
}

const struct front_owner front_poll = {
    .name = "poll", .claims = poll_claims, .knows = poll_knows, .take = poll_take, .on_wake = poll_on_wake, .on_late = poll_on_late, .on_gone = poll_on_gone};
