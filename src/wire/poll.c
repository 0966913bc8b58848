// SPDX-License-Identifier: Apache-2.0
#include "wire/poll.h"
#include <stdio.h>
#include <string.h>

static const char tag[] = "cp1.";

// --- requests

size_t poll_put_query(char *out, const struct poll_request *r)
{
    char rest[80];
    if (r->is_post)
        snprintf(rest, sizeof(rest), "p.%llu.%s", (unsigned long long)r->offset, r->abort ? "x" : r->end ? "e" : "d");
    else
        snprintf(rest, sizeof(rest), "g.%u.%u.%u", r->number, r->hold_s, r->most);
    return (size_t)snprintf(out, POLL_TARGET_MAX, "%s%s.%llu.%u.%u.%s", tag, r->id, (unsigned long long)r->acked, r->low, r->attempt,
                            rest);
}

// Our query, also behind others': a configured path may have its own, and boxes add theirs behind.
static struct http_text query_of(struct http_text target)
{
    const char *end = target.at + target.len, *at = memchr(target.at, '?', target.len);
    while (at) {
        at++;
        const char *next = memchr(at, '&', (size_t)(end - at));
        size_t len = (size_t)((next ? next : end) - at);
        if (len >= sizeof(tag) - 1 && memcmp(at, tag, sizeof(tag) - 1) == 0)
            return (struct http_text){at + sizeof(tag) - 1, len - (sizeof(tag) - 1)};
        at = next;
    }
    return (struct http_text){NULL, 0};
}

bool poll_is_target(struct http_text target) { return query_of(target).at; }

static struct http_text take_field(struct http_text *q)
{
    const char *dot = memchr(q->at, '.', q->len);
    struct http_text field = {q->at, dot ? (size_t)(dot - q->at) : q->len};
    size_t used = field.len + (dot ? 1 : 0);
    *q = (struct http_text){q->at + used, q->len - used};
    return field;
}

// One text for one value: decimal, without zeros in front.
static bool take_number(struct http_text *q, uint64_t most, uint64_t *out)
{
    struct http_text f = take_field(q);
    uint64_t n = 0;
    if (f.len == 0 || f.len > 20 || (f.len > 1 && f.at[0] == '0'))
        return false;
    for (size_t i = 0; i < f.len; i++) {
        if (f.at[i] < '0' || f.at[i] > '9')
            return false;
        unsigned digit = (unsigned)(f.at[i] - '0');
        if (n > (most - digit) / 10)
            return false;
        n = n * 10 + digit;
    }
    *out = n;
    return n <= most;
}

static bool take_u32(struct http_text *q, uint32_t most, uint32_t *out)
{
    uint64_t n;
    if (!take_number(q, most, &n))
        return false;
    *out = (uint32_t)n;
    return true;
}

static bool take_id(struct http_text *q, char id[POLL_ID_TEXT + 1])
{
    struct http_text f = take_field(q);
    if (f.len != POLL_ID_TEXT)
        return false;
    for (size_t i = 0; i < f.len; i++) {
        char c = f.at[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_'))
            return false;
    }
    memcpy(id, f.at, f.len);
    id[f.len] = 0;
    return true;
}

static bool take_post(struct poll_request *r, struct http_text *q)
{
    if (!take_number(q, POLL_OFFSET_MAX, &r->offset))
        return false;
    struct http_text f = take_field(q);
    r->end = http_text_is(f, "e");
    r->abort = http_text_is(f, "x");
    return r->end || r->abort || http_text_is(f, "d");
}

static bool take_get(struct poll_request *r, struct http_text *q)
{
    return take_u32(q, UINT32_MAX, &r->number) && r->number > 0 && take_u32(q, POLL_HOLD_S, &r->hold_s) &&
           take_u32(q, POLL_BODY_MAX, &r->most) && r->most > 0;
}

bool poll_get_request(struct poll_request *r, struct http_text method, struct http_text target)
{
    struct http_text q = query_of(target);
    *r = (struct poll_request){0};
    if (!q.at || q.len == 0 || q.at[q.len - 1] == '.' || !take_id(&q, r->id) || !take_number(&q, POLL_OFFSET_MAX + 1, &r->acked) ||
        !take_u32(&q, UINT32_MAX, &r->low) || !take_u32(&q, UINT32_MAX, &r->attempt))
        return false;
    struct http_text kind = take_field(&q);
    r->is_post = http_text_is(kind, "p");
    if (!r->is_post && !http_text_is(kind, "g"))
        return false;
    if (!http_text_is(method, r->is_post ? "POST" : "GET"))
        return false;
    return (r->is_post ? take_post(r, &q) : take_get(r, &q)) && q.len == 0;
}

// --- answers

enum { ANSWER_END = 1, ANSWER_ABORT = 2, ANSWER_AGAIN = 4 };

static void put64(uint8_t *out, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(v >> (56 - 8 * i));
}

static uint64_t get64(const uint8_t *in)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v = v << 8 | in[i];
    return v;
}

void poll_put_answer(uint8_t out[POLL_ANSWER_HEAD], const struct poll_answer *a)
{
    memcpy(out, "cp1", 3);
    out[3] = (uint8_t)((a->end ? ANSWER_END : 0) | (a->abort ? ANSWER_ABORT : 0) | (a->again ? ANSWER_AGAIN : 0));
    put64(out + 4, a->acked);
    put64(out + 12, a->offset);
    for (int i = 0; i < 4; i++)
        out[20 + i] = (uint8_t)(a->len >> (24 - 8 * i));
}

bool poll_get_answer(struct poll_answer *a, const uint8_t in[POLL_ANSWER_HEAD])
{
    if (memcmp(in, "cp1", 3) != 0)
        return false;
    *a = (struct poll_answer){.end = in[3] & ANSWER_END, .abort = in[3] & ANSWER_ABORT, .again = in[3] & ANSWER_AGAIN,
                               .acked = get64(in + 4), .offset = get64(in + 12)};
    a->len = (uint32_t)(get64(in + 16) & UINT32_MAX);
    return a->offset <= POLL_OFFSET_MAX && a->acked <= POLL_OFFSET_MAX + 1 && a->len <= POLL_BODY_MAX;
}

// --- the sender

void poll_out_fini(struct poll_out *o)
{
    bufq_clear(&o->held);
    *o = (struct poll_out){0};
}

void poll_out_push(struct poll_out *o, struct buf *b)
{
    o->end += b->len;
    bufq_push_tight(&o->held, b);
}

static void remove_piece(struct poll_out *o, unsigned i)
{
    o->count--;
    memmove(&o->pieces[i], &o->pieces[i + 1], (o->count - i) * sizeof(o->pieces[0]));
}

static uint64_t behind(const struct poll_piece *p) { return p->offset + p->len + p->end; }

bool poll_out_ack(struct poll_out *o, uint64_t acked)
{
    if (acked > o->top)
        return false;
    if (acked <= o->acked)
        return true;
    if (o->given < acked)
        o->given = acked;
    uint64_t data = acked < o->end ? acked : o->end;
    if (data > o->acked)
        bufq_drop(&o->held, (size_t)(data - o->acked));
    o->acked = acked;
    for (unsigned i = o->count; i-- > 0;) {
        struct poll_piece *p = &o->pieces[i];
        if (behind(p) <= acked) {
            remove_piece(o, i);
        } else if (p->offset < acked) { // a part of it came, and the rest was cut off
            p->len -= (uint32_t)(acked - p->offset);
            p->offset = acked;
        }
    }
    return true;
}

void poll_out_low(struct poll_out *o, uint32_t low)
{
    if (low <= o->low)
        return;
    o->low = low;
    for (unsigned i = 0; i < o->count; i++) {
        if (o->pieces[i].number < low)
            o->pieces[i].number = 0;
    }
}

void poll_out_recut(struct poll_out *o)
{
    o->count = 0;
    o->given = o->acked;
}

static struct poll_piece *find(const struct poll_out *o, uint32_t number)
{
    for (unsigned i = 0; i < o->count; i++) {
        if (o->pieces[i].number == number)
            return (struct poll_piece *)&o->pieces[i];
    }
    return NULL;
}

bool poll_out_has(const struct poll_out *o, uint32_t number) { return find(o, number); }

static struct poll_piece *cut(struct poll_out *o, uint32_t most)
{
    uint64_t all = o->end + o->ended;
    if (o->given == all || o->count == POLL_PIECES_MAX)
        return NULL;
    uint64_t data = poll_out_waiting(o);
    struct poll_piece *p = &o->pieces[o->count++];
    *p = (struct poll_piece){.offset = o->given, .len = data < most ? (uint32_t)data : most};
    p->end = o->ended && p->offset + p->len == o->end;
    o->given = behind(p);
    if (o->top < o->given)
        o->top = o->given;
    return p;
}

bool poll_out_give(struct poll_out *o, uint32_t number, uint32_t most, struct poll_piece *out)
{
    struct poll_piece *p = number < o->low ? NULL : find(o, number);
    if (number < o->low)
        return false;
    if (!p)
        p = find(o, 0);
    if (!p)
        p = cut(o, most);
    if (!p)
        return false;
    p->number = number;
    *out = *p;
    return true;
}

bool poll_out_copy(const struct poll_out *o, uint64_t offset, size_t most, struct buf *b)
{
    if (offset < o->acked || offset > o->end || most > o->end - offset)
        return false;
    uint64_t skip = offset - o->acked;
    for (const struct buf *from = o->held.head; from && most; from = from->next) {
        if (skip >= from->len) {
            skip -= from->len;
            continue;
        }
        size_t n = from->len - (size_t)skip;
        n = buf_append(b, buf_data(from) + skip, n < most ? n : most);
        skip = 0;
        most -= n;
        if (buf_tailroom(b) == 0)
            break;
    }
    return true;
}

// --- the receiver

void poll_in_fini(struct poll_in *in)
{
    bufq_clear(&in->ready);
    for (unsigned i = 0; i < in->count; i++)
        bufq_clear(&in->runs[i].data);
    *in = (struct poll_in){0};
}

static void drop(struct poll_in *in, struct buf *b)
{
    in->dropped += b->len;
    buf_put(b);
}

// In order now, or known already.
static void deliver(struct poll_in *in, uint64_t offset, struct buf *b)
{
    uint64_t known = in->next - offset;
    if (known >= b->len) {
        drop(in, b);
        return;
    }
    in->dropped += known;
    buf_skip(b, (size_t)known);
    in->next += b->len;
    bufq_push_tight(&in->ready, b);
}

static void close_end(struct poll_in *in)
{
    if (in->has_final && in->next == in->final)
        in->next++;
}

static void join_run(struct poll_in *in, unsigned i)
{
    struct poll_run r = in->runs[i];
    struct buf *b;
    in->count--;
    memmove(&in->runs[i], &in->runs[i + 1], (in->count - i) * sizeof(in->runs[0]));
    in->ahead -= r.data.bytes;
    while ((b = bufq_pop(&r.data))) {
        uint64_t at = r.offset;
        r.offset += b->len;
        deliver(in, at, b);
    }
}

static void join_runs(struct poll_in *in)
{
    for (unsigned i = 0; i < in->count;) {
        if (in->runs[i].offset > in->next) {
            i++;
        } else {
            join_run(in, i);
            i = 0;
        }
    }
}

// Of a run that lies beyond: its own bytes behind `offset` are trimmed, so that a repeated piece adds nothing.
static void keep(struct poll_in *in, uint64_t offset, struct buf *b)
{
    struct poll_run *r = NULL;
    for (unsigned i = 0; i < in->count && !r; i++) {
        uint64_t from = in->runs[i].offset, to = from + in->runs[i].data.bytes;
        if (offset >= from && offset <= to)
            r = &in->runs[i];
    }
    if (!r && in->count < POLL_RUNS_MAX) {
        r = &in->runs[in->count++];
        *r = (struct poll_run){.offset = offset};
    }
    uint64_t known = r ? r->offset + r->data.bytes - offset : 0;
    if (r && known >= b->len) {
        if (r->data.bytes == 0)
            in->count--;
        drop(in, b);
        return;
    }
    if (!r || in->ahead + b->len > POLL_AHEAD_MAX) {
        if (r && r->data.bytes == 0)
            in->count--;
        in->refused += b->len;
        buf_put(b);
        return;
    }
    in->dropped += known;
    buf_skip(b, (size_t)known);
    in->ahead += b->len;
    bufq_push_tight(&r->data, b);
}

bool poll_in_take(struct poll_in *in, uint64_t offset, struct buf *b)
{
    if (b->len > POLL_OFFSET_MAX - offset || (in->has_final && offset + b->len > in->final)) {
        buf_put(b);
        return false;
    }
    if (offset > in->next) {
        keep(in, offset, b);
        return true;
    }
    deliver(in, offset, b);
    join_runs(in);
    close_end(in);
    return true;
}

bool poll_in_end(struct poll_in *in, uint64_t final)
{
    if (in->has_final)
        return in->final == final;
    for (unsigned i = 0; i < in->count; i++) {
        if (in->runs[i].offset + in->runs[i].data.bytes > final)
            return false;
    }
    if (in->next > final)
        return false;
    in->has_final = true;
    in->final = final;
    close_end(in);
    return true;
}
