// SPDX-License-Identifier: Apache-2.0
// Datagrams: queued encoded and bounded, dropped when stale, never behind a stall, put together again from parts. Entries of
// the queue are a struct entry and its bytes, packed into full buffers, so that a datagram costs two copies and no allocation.
#include "session/stream.h"

struct entry { // in front of each part in the queue
    uint64_t queued_us;
    uint32_t stream, seq;
    uint16_t age_ms, ttl_ms, len;
    uint8_t part, parts;
};

static uint16_t add_age(uint16_t age, uint64_t ms)
{
    uint64_t sum = age + ms;
    return sum > 0xffff ? 0xffff : (uint16_t)sum;
}

static void push_part(struct stream *st, const struct entry *e, const uint8_t *data)
{
    struct bufq *q = st->carrier ? &st->carrier->dgrams : &st->s->dgrams;
    struct buf *b = q->tail;
    if (!b || buf_tailroom(b) < sizeof *e + e->len) {
        b = buf_get(&st->s->w->pool);
        bufq_push(q, b);
    }
    buf_append(b, e, sizeof *e);
    buf_append(b, data, e->len);
    q->bytes += sizeof *e + e->len;
}

// The bound is the session's, however many carriers it has.
static bool has_room(struct session *s, size_t len)
{
    size_t charge = s->dgrams.charge;
    list_each(&s->carriers, n) charge += list_entry(n, struct carrier, node)->dgrams.charge;
    if (charge > DGRAM_QUEUE_MAX || len > DGRAM_QUEUE_MAX - charge) {
        s->stats.dgrams_dropped_full++;
        return false;
    }
    return true;
}

_Static_assert(sizeof(struct entry) + FRAME_PART_MAX <= BUF_ROOM, "a part and its entry fit a full buffer");

// A datagram, or its last part, goes out; a part before it is bytes alone.
static void count_out(struct stream *st, size_t len, bool is_whole)
{
    st->s->stats.dgrams_out += is_whole;
    st->s->stats.bytes_out += len;
    st->dgrams_out += is_whole;
    st->dgram_bytes_out += len;
}

static void count_in(struct stream *st, size_t len, bool is_whole)
{
    st->s->stats.dgrams_in += is_whole;
    st->s->stats.bytes_in += len;
    st->dgrams_in += is_whole;
    st->dgram_bytes_in += len;
}

bool dgram_queue(struct stream *st, const void *data, size_t len, uint16_t age_ms, uint16_t ttl_ms)
{
    struct session *s = st->s;
    if (len > DGRAM_MAX || !has_room(s, len))
        return false;
    count_out(st, len, true);
    uint8_t parts = (uint8_t)(len ? (len + FRAME_PART_MAX - 1) / FRAME_PART_MAX : 1);
    const uint8_t *at = data;
    struct entry e = {.queued_us = s->w->now_us, .stream = st->node.key, .seq = st->dgram_seq++, .age_ms = age_ms,
                      .ttl_ms = ttl_ms, .parts = parts};
    for (e.part = 0; e.part < parts; e.part++) {
        e.len = (uint16_t)(len < FRAME_PART_MAX ? len : FRAME_PART_MAX);
        push_part(st, &e, at);
        at += e.len;
        len -= e.len;
    }
    st->moved_at = (uint32_t)(s->w->now_us >> 20);
    carrier_output(st->carrier);
    return true;
}

bool dgram_pass(struct stream *to, const struct frame_dgram *f)
{
    struct session *s = to->s;
    if (f->len > FRAME_PART_MAX || !has_room(s, f->len))
        return false;
    struct entry e = {.queued_us = s->w->now_us, .stream = to->node.key, .seq = f->seq, .age_ms = f->age_ms,
                      .ttl_ms = f->ttl_ms, .len = (uint16_t)f->len, .part = f->part, .parts = f->parts};
    push_part(to, &e, f->data);
    count_out(to, f->len, f->part + 1 == f->parts);
    carrier_output(to->carrier);
    return true;
}

uint64_t session_dgrams_dropped(const struct session *s)
{
    return s->stats.dgrams_dropped_full + s->stats.dgrams_dropped_stale + s->stats.dgrams_dropped_part;
}

bool stream_send_dgram(struct stream *st, const void *data, size_t len)
{
    if (!st->datagram || st->freed || st->rst || !st->s || st->asking || st->s->is_limbo)
        return false;
    return dgram_queue(st, data, len, 0, DGRAM_TTL_MS);
}

static void drop_front(struct bufq *q, size_t n)
{
    q->bytes -= n;
    struct buf *b = q->head;
    buf_skip(b, (uint32_t)n);
    if (b->len == 0)
        buf_put(bufq_pop(q));
}

size_t dgram_fill(struct carrier *c, struct buf *out, size_t room)
{
    struct session *s = c->s;
    struct bufq *q = &c->dgrams;
    size_t wrote = 0;
    while (q->head) {
        struct entry e;
        const uint8_t *at = buf_data(q->head);
        memcpy(&e, at, sizeof e);
        size_t need = FRAME_HEAD + FRAME_DGRAM_FIXED + e.len;
        uint16_t age = add_age(e.age_ms, (s->w->now_us - e.queued_us) / 1000);
        if (age > e.ttl_ms) {
            s->stats.dgrams_dropped_stale++;
            drop_front(q, sizeof e + e.len);
            continue;
        }
        if (need > room - wrote)
            break;
        struct frame_dgram f = {.seq = e.seq, .age_ms = age, .ttl_ms = e.ttl_ms, .part = e.part, .parts = e.parts, .len = e.len};
        uint8_t *to = out->base + wrote;
        size_t head = frame_put_dgram_head(to, e.stream, &f);
        memcpy(to + head, at + sizeof e, e.len);
        wrote += need;
        drop_front(q, sizeof e + e.len);
    }
    return wrote;
}

void dgram_pass_queue(struct carrier *c, struct carrier *to)
{
    struct buf *b;
    while ((b = bufq_pop(&c->dgrams)))
        bufq_push(to ? &to->dgrams : &c->s->dgrams, b);
}

void dgram_clear_parts(struct stream *st)
{
    if (st->parts.charge)
        budget_give(st->s->budget, st->parts.charge);
    bufq_clear(&st->parts);
    st->part_next = 0;
}

static void deliver(struct stream *st, const uint8_t *data, size_t len)
{
    struct session *s = st->s;
    count_in(st, len, true);
    if (s->ops->on_dgram)
        s->ops->on_dgram(s, st, data, len);
}

// False: the budget is full, and the datagram is lost.
static bool keep_part(struct stream *st, const struct frame_dgram *f)
{
    struct session *s = st->s;
    if (!budget_has(s->budget, BUF_SIZE)) {
        s->stats.dgrams_dropped_full++;
        dgram_clear_parts(st);
        return false;
    }
    size_t charge = st->parts.charge;
    bufq_push_tight(&st->parts, buf_copy(&s->w->pool, f->data, f->len));
    budget_take(s->budget, st->parts.charge - charge);
    return true;
}

// Collects parts in order; whatever is missing drops the whole datagram.
static void collect(struct stream *st, const struct frame_dgram *f)
{
    struct session *s = st->s;
    if (f->part != st->part_next || (f->part && f->seq != st->part_seq) || f->len > DGRAM_MAX - st->parts.bytes) {
        s->stats.dgrams_dropped_part++;
        dgram_clear_parts(st);
        if (f->part)
            return;
    }
    if (!keep_part(st, f))
        return;
    st->part_seq = f->seq;
    st->part_next = (uint8_t)(f->part + 1);
    if (st->part_next < f->parts)
        return;
    uint8_t whole[DGRAM_MAX];
    size_t n = 0;
    for (const struct buf *b = st->parts.head; b; b = b->next) {
        memcpy(whole + n, buf_data(b), b->len);
        n += b->len;
    }
    dgram_clear_parts(st);
    deliver(st, whole, n);
}

int dgram_receive(struct stream *st, const struct frame_dgram *f)
{
    struct session *s = st->s;
    if (!st->datagram)
        return stream_broken(st, "DGRAM on a stream");
    st->moved_at = (uint32_t)(s->w->now_us >> 20);
    if (f->age_ms > f->ttl_ms) {
        s->stats.dgrams_dropped_stale++;
    } else if (st->twin) {
        count_in(st, f->len, f->part + 1 == f->parts);
        dgram_pass(st->twin, f);
    } else if (!st->attached || st->rst) {
        return 0;
    } else if (f->parts == 1 && f->len <= DGRAM_MAX) {
        deliver(st, f->data, f->len);
    } else {
        collect(st, f);
    }
    return 0;
}
