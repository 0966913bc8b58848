// SPDX-License-Identifier: Apache-2.0
#include "half.h"
#include <stdlib.h>

uint8_t half_byte(uint64_t at) { return (uint8_t)(at * 131 + (at >> 8) * 17 + (at >> 16) * 7); }

int half_setup(void **state)
{
    struct worker *w = *state;
    memset(w, 0, sizeof *w);
    worker_init_bare(w);
    return 0;
}

int half_teardown(void **state)
{
    struct worker *w = *state;
    worker_turn(w);
    assert_int_equal(w->pool.out_bytes, 0);
    worker_fini(w);
    return 0;
}

static void own(struct half *h, struct stream *st)
{
    h->owned = realloc(h->owned, (h->owned_count + 1) * sizeof *h->owned);
    assert_non_null(h->owned);
    h->owned[h->owned_count++] = st;
}

void half_close(struct half *h, struct stream *st)
{
    for (size_t i = 0; i < h->owned_count; i++)
        if (h->owned[i] == st)
            h->owned[i] = NULL;
    link_close(stream_link(st));
    worker_turn(h->w);
}

// As a relay does.
static void pass_on(struct half *h, struct stream *st, const struct frame_open *open)
{
    static const uint8_t asker[32] = {1}, holder[32] = {2};
    struct frame_open next = *open;
    enum meet_result met = h->meet ? meet_pair(h->meet, st, open, asker, holder) : MEET_NONE;
    if (met == MEET_PAIRED)
        return;
    if (met == MEET_REFUSED || !switch_join(st, open, &h->switch_to->s, &next)) {
        stream_refuse(st, met ? WHY_PROTOCOL : WHY_ABSENT, "gone");
        link_close(stream_link(st));
    } else if (h->meet) {
        meet_wait(h->meet, st, open, asker, holder);
    }
}

static void on_open(struct session *s, struct stream *st, const struct frame_open *open)
{
    struct half *h = s->owner;
    h->asked = st;
    h->open = *open;
    h->opens++;
    if (h->switch_to) {
        pass_on(h, st, open);
        return;
    }
    own(h, st);
    if (h->auto_accept)
        stream_accept(st, NULL);
}

static void on_dgram(struct session *s, struct stream *st, const uint8_t *data, size_t len)
{
    struct half *h = s->owner;
    unsigned k = h->dgrams++ % COUNT(h->dgram_len);
    h->dgram_len[k] = len;
    h->dgram_first[k] = len ? data[0] : 0;
    memcpy(h->dgram_bytes, data, len);
}

static void on_goaway(struct session *s, uint16_t code, uint32_t retry_ms, const char *text)
{
    struct half *h = s->owner;
    h->goaways++;
    h->goaway_code = code;
    h->goaway_retry = retry_ms;
    strcpy(h->goaway_text, text);
}

static void on_suspect(struct session *s, struct carrier *c) { ((struct half *)s->owner)->suspicions++; }

static const struct session_ops ops = {
    .on_open = on_open, .on_dgram = on_dgram, .on_goaway = on_goaway, .on_suspect = on_suspect};

struct half *half_new(struct worker *w, bool is_agent, size_t budget)
{
    struct half *h = calloc(1, sizeof *h);
    assert_non_null(h);
    h->w = w;
    if (w->now_us == 0)
        half_pass_us(w, 1000000);
    budget_init(&h->budget, budget, NULL);
    session_init(&h->s, w, is_agent, (const uint8_t[16]){1}, &ops, h, &h->budget);
    return h;
}

void half_free(struct half *h)
{
    for (size_t i = 0; i < h->owned_count; i++)
        if (h->owned[i])
            link_close(stream_link(h->owned[i]));
    free(h->owned);
    session_fini(&h->s, NULL);
    worker_turn(h->w);
    assert_int_equal(h->budget.used, 0);
    assert_int_equal(h->budget.sent, 0);
    budget_fini(&h->budget);
    free(h);
}

static void on_output(struct carrier *c)
{
    struct half *h = c->owner;
    h->has_output = true;
}

void half_up(struct half *h)
{
    if (h->c.s)
        carrier_down(&h->c);
    carrier_up(&h->s, &h->c, on_output, h);
}

void half_down(struct half *h) { carrier_down(&h->c); }

struct half *half_start(struct worker *w, bool is_agent, size_t budget)
{
    struct half *h = half_new(w, is_agent, budget);
    half_up(h);
    hear(h);
    return h;
}

// Saying ---------------------------------------------------------------------------------------------------------

int say(struct half *h, const void *bytes, size_t n)
{
    const uint8_t *at = bytes;
    int r = 0;
    while (n && r == 0) {
        size_t k = n < BUF_ROOM ? n : BUF_ROOM;
        struct buf *b = buf_get(&h->w->pool);
        buf_append(b, at, k);
        r = carrier_recv(&h->c, b);
        at += k;
        n -= k;
    }
    return r;
}

int say_open(struct half *h, uint32_t id, uint8_t kind, uint64_t window)
{
    uint8_t out[FRAME_HEAD + FRAME_CONTROL_MAX];
    struct frame_open f = {.kind = kind, .window = window, .uid = {(uint8_t)id, (uint8_t)(id >> 8), 7}, .host = "host", .port = 80};
    return say(h, out, frame_put_open(out, id, &f));
}

int say_opened(struct half *h, uint32_t id, uint16_t code, uint64_t window)
{
    uint8_t out[FRAME_HEAD + FRAME_CONTROL_MAX];
    struct frame_opened f = {.code = code, .window = window};
    return say(h, out, frame_put_opened(out, id, &f));
}

int say_data(struct half *h, uint32_t id, uint64_t offset, size_t n)
{
    uint8_t out[FRAME_MAX];
    int r = 0;
    do {
        size_t k = n < FRAME_DATA_MAX ? n : FRAME_DATA_MAX;
        frame_put_head(out, (uint32_t)(8 + k), FRAME_DATA, id);
        put64(out + FRAME_HEAD, offset);
        for (size_t i = 0; i < k; i++)
            out[FRAME_DATA_HEAD + i] = half_byte(offset + i);
        r = say(h, out, FRAME_DATA_HEAD + k);
        offset += k;
        n -= k;
    } while (n && r == 0);
    return r;
}

static int say_acks(struct half *h, uint8_t type, uint32_t id, uint64_t acked, uint64_t limit)
{
    uint8_t out[64];
    return say(h, out, frame_put_ack(out, type, id, acked, limit));
}

int say_ack(struct half *h, uint32_t id, uint64_t acked, uint64_t limit) { return say_acks(h, FRAME_ACK, id, acked, limit); }

int say_rewind(struct half *h, uint32_t id, uint64_t acked, uint64_t limit)
{
    return say_acks(h, FRAME_REWIND, id, acked, limit);
}

int say_fin(struct half *h, uint32_t id, uint64_t final)
{
    uint8_t out[64];
    return say(h, out, frame_put_fin(out, id, final));
}

int say_reset(struct half *h, uint32_t id, uint16_t code, uint64_t final)
{
    uint8_t out[64];
    return say(h, out, frame_put_reset(out, id, code, final));
}

int say_dgram(struct half *h, uint32_t id, const struct frame_dgram *f)
{
    uint8_t out[FRAME_MAX];
    size_t n = frame_put_dgram_head(out, id, f);
    memcpy(out + n, f->data, f->len);
    return say(h, out, n + f->len);
}

int say_raw(struct half *h, uint8_t type, uint32_t id, const void *payload, size_t n)
{
    uint8_t out[FRAME_HEAD + 32768] = {0};
    frame_put_head(out, (uint32_t)n, type, id);
    if (payload)
        memcpy(out + FRAME_HEAD, payload, n);
    return say(h, out, FRAME_HEAD + n);
}

// Hearing --------------------------------------------------------------------------------------------------------

static void note(struct half *h, const uint8_t *at, const struct frame_head *head)
{
    assert_true(h->heard_count < HEARD_MAX);
    struct heard *x = &h->heard[h->heard_count++];
    *x = (struct heard){.type = head->type, .stream = head->stream, .len = head->length};
    memcpy(x->payload, at + FRAME_HEAD, head->length < HEARD_BYTES ? head->length : HEARD_BYTES);
}

static void check_data(const uint8_t *at, const struct frame_head *head)
{
    uint64_t offset = get64(at + FRAME_HEAD);
    for (uint32_t i = 0; i < head->length - 8; i++)
        if (at[FRAME_DATA_HEAD + i] != half_byte(offset + i))
            fail_msg("stream %u: byte %llu is wrong", head->stream, (unsigned long long)offset + i);
}

unsigned hear(struct half *h)
{
    h->heard_count = 0;
    struct buf *b = buf_get(&h->w->pool);
    while (carrier_fill(&h->c, b)) {
        while (b->len) {
            struct frame_head head;
            frame_get_head(&head, buf_data(b));
            assert_true(FRAME_HEAD + head.length <= b->len);
            note(h, buf_data(b), &head);
            if (head.type == FRAME_DATA)
                check_data(buf_data(b), &head);
            buf_skip(b, FRAME_HEAD + head.length);
        }
        b->start = BUF_HEADROOM;
    }
    buf_put(b);
    return h->heard_count;
}

unsigned hear_late(struct half *h)
{
    half_pass_us(h->w, ACK_DELAY_US);
    carrier_tick(&h->c);
    return hear(h);
}

int heard_place(const struct half *h, uint8_t type, uint32_t stream)
{
    for (unsigned i = 0; i < h->heard_count; i++)
        if (h->heard[i].type == type && h->heard[i].stream == stream)
            return (int)i;
    return -1;
}

const struct heard *heard(const struct half *h, uint8_t type, uint32_t stream)
{
    int i = heard_place(h, type, stream);
    return i < 0 ? NULL : &h->heard[i];
}

unsigned heard_times(const struct half *h, uint8_t type, uint32_t stream)
{
    unsigned n = 0;
    for (unsigned i = 0; i < h->heard_count; i++)
        n += h->heard[i].type == type && h->heard[i].stream == stream;
    return n;
}

static const struct heard *must(const struct half *h, uint8_t type, uint32_t stream)
{
    const struct heard *x = heard(h, type, stream);
    if (!x)
        fail_msg("no frame %02x of stream %u was sent", type, stream);
    return x;
}

uint64_t heard_acked(const struct half *h, uint8_t type, uint32_t stream) { return get64(must(h, type, stream)->payload); }
uint64_t heard_limit(const struct half *h, uint8_t type, uint32_t stream) { return get64(must(h, type, stream)->payload + 8); }
uint64_t heard_offset(const struct half *h, uint8_t type, uint32_t stream) { return get64(must(h, type, stream)->payload); }

size_t heard_data(const struct half *h, uint32_t stream)
{
    size_t n = 0;
    for (unsigned i = 0; i < h->heard_count; i++)
        if (h->heard[i].type == FRAME_DATA && h->heard[i].stream == stream)
            n += h->heard[i].len - 8;
    return n;
}

// Owners ---------------------------------------------------------------------------------------------------------

struct stream *half_open(struct half *h, uint8_t kind)
{
    struct frame_open open = {.kind = kind, .host = "host", .port = 80};
    struct stream *st = session_open(&h->s, &open);
    if (st)
        own(h, st);
    return st;
}

struct stream *half_open_to(struct half *h, uint64_t window)
{
    struct stream *st = half_open(h, OPEN_TCP);
    hear(h);
    assert_int_equal(say_opened(h, stream_id(st), 0, window), 0);
    hear(h);
    return st;
}

struct stream *half_asked(struct half *h, uint32_t id, uint64_t window)
{
    assert_int_equal(say_open(h, id, OPEN_TCP, window), 0);
    stream_accept(h->asked, NULL);
    hear(h);
    return h->asked;
}

void half_send(struct stream *st, size_t n)
{
    uint64_t at = st->snd_end;
    while (n) {
        struct buf *b = buf_get(&st->link.w->pool);
        size_t k = n < FRAME_DATA_MAX ? n : FRAME_DATA_MAX;
        for (size_t i = 0; i < k; i++)
            buf_data(b)[i] = half_byte(at + i);
        b->len = (uint32_t)k;
        link_send(stream_link(st), b);
        at += k;
        n -= k;
    }
}

size_t half_read(struct stream *st, size_t most, enum link_status *end)
{
    size_t got = 0;
    enum link_status r = LINK_OK;
    while (got < most) {
        struct buf *b;
        uint64_t at = st->rcv_read;
        r = link_recv(stream_link(st), &b);
        if (r != LINK_OK)
            break;
        for (uint32_t i = 0; i < b->len; i++)
            if (buf_data(b)[i] != half_byte(at + i))
                fail_msg("byte %llu read is wrong", (unsigned long long)at + i);
        got += b->len;
        buf_put(b);
    }
    if (end)
        *end = r;
    return got;
}

void half_pass_us(struct worker *w, uint64_t us)
{
    w->now_us += us;
    w->now_ms = w->now_us / 1000;
}

size_t half_carry(struct half *from, struct half *to, unsigned most)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < most; i++) {
        struct buf *b = buf_get(&from->w->pool);
        if (!carrier_fill(&from->c, b)) {
            buf_put(b);
            break;
        }
        bytes += b->len;
        if (carrier_recv(&to->c, b) < 0)
            fail_msg("%s", err_text(&to->s.err));
    }
    return bytes;
}

void half_settle(struct half *a, struct half *b)
{
    while (half_carry(a, b, 1000) + half_carry(b, a, 1000))
        worker_turn(a->w);
}
