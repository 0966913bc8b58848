// SPDX-License-Identifier: Apache-2.0
// Long-poll's requests, answers and offsets, without any network: what is lost, repeated, delayed or overtaken does no harm.
#include "unit.h"
#include <stdio.h>
#include <stdlib.h>
#include "core/buf.h"
#include "wire/poll.h"

#define ID "0123456789abcdefghij-_"

static struct http_text text(const char *s) { return (struct http_text){s, strlen(s)}; }

static bool parse(struct poll_request *r, const char *method, const char *target)
{
    return poll_get_request(r, text(method), text(target));
}

// --- requests and answers

static void test_requests_are_read_as_written(void **state)
{
    struct poll_request in = {.id = ID, .acked = POLL_OFFSET_MAX + 1, .low = 7, .attempt = 3, .number = 9, .hold_s = 25, .most = POLL_BODY_MAX}, out;
    char query[POLL_TARGET_MAX], target[POLL_TARGET_MAX + 8] = "/t?a=b&";
    size_t n = poll_put_query(query, &in);
    assert_int_equal(n, strlen(query));
    strcat(target, query);
    assert_true(parse(&out, "GET", target));
    assert_memory_equal(&in, &out, sizeof in);
    assert_false(parse(&out, "POST", target));
    in = (struct poll_request){.id = ID, .is_post = true, .acked = 5, .low = 1, .offset = POLL_OFFSET_MAX, .end = true};
    poll_put_query(query, &in);
    snprintf(target, sizeof target, "?%s&x", query);
    assert_true(parse(&out, "POST", target));
    assert_memory_equal(&in, &out, sizeof in);
    assert_false(parse(&out, "GET", target));
    in.end = false;
    in.abort = true;
    poll_put_query(query, &in);
    snprintf(target, sizeof target, "/?%s", query);
    assert_true(parse(&out, "POST", target) && out.abort && !out.end);
}

static void test_what_is_not_rightly_made_is_not_ours(void **state)
{
    static const char *const bad[] = {
        "/", "/?", "/?cp1", "/?cp1.", "/cp1." ID ".0.0.0.g.1.25.1", "/?x=cp1." ID ".0.0.0.g.1.25.1",
        "/?cp1.0123456789abcdefghij-.0.0.0.g.1.25.1", "/?cp1.0123456789abcdefghij-_x.0.0.0.g.1.25.1",
        "/?cp1.0123456789abcdefghij-!.0.0.0.g.1.25.1", "/?cp1." ID ".0.0.0.g.0.25.1", "/?cp1." ID ".0.0.0.g.1.26.1",
        "/?cp1." ID ".0.0.0.g.1.25.0", "/?cp1." ID ".0.0.0.g.1.25.262145", "/?cp1." ID ".00.0.0.g.1.25.1",
        "/?cp1." ID ".-1.0.0.g.1.25.1", "/?cp1." ID ".0.0.0.g.1.25.1.", "/?cp1." ID ".0.0.0.g.1.25", "/?cp1." ID ".0.0.0.h.1.25.1",
        "/?cp1." ID ".0.4294967296.0.g.1.25.1", "/?cp1." ID ".9223372036854775809.0.0.g.1.25.1",
        "/?cp1." ID ".99999999999999999999.0.0.g.1.25.1", "/?cp1." ID "..0.0.g.1.25.1"};
    struct poll_request r;
    for (size_t i = 0; i < COUNT(bad); i++) {
        if (parse(&r, "GET", bad[i]))
            fail_msg("taken: %s", bad[i]);
    }
    assert_true(parse(&r, "GET", "/?cp1." ID ".0.0.0.g.1.25.1"));
    assert_false(parse(&r, "HEAD", "/?cp1." ID ".0.0.0.g.1.25.1"));
    assert_false(parse(&r, "POST", "/?cp1." ID ".0.0.0.p.1.z"));
    assert_false(parse(&r, "POST", "/?cp1." ID ".0.0.0.p.9223372036854775808.d"));
    assert_true(parse(&r, "POST", "/?cp1." ID ".0.0.0.p.9223372036854775807.d"));
}

static void test_answers_are_read_as_written(void **state)
{
    struct poll_answer in = {.end = true, .acked = 0x0102030405060708, .offset = 0x1112131415161718, .len = 0x20304}, out;
    uint8_t b[POLL_ANSWER_HEAD];
    poll_put_answer(b, &in);
    assert_true(poll_get_answer(&out, b));
    assert_true(out.end && !out.abort && out.acked == in.acked && out.offset == in.offset && out.len == in.len);
    b[0] = '<';
    assert_false(poll_get_answer(&out, b));
    in.len = POLL_BODY_MAX + 1;
    poll_put_answer(b, &in);
    assert_false(poll_get_answer(&out, b));
    in = (struct poll_answer){.acked = UINT64_MAX};
    poll_put_answer(b, &in);
    assert_false(poll_get_answer(&out, b));
}

static void test_the_vectors_of_the_protocol(void **state)
{
    struct poll_request r;
    char query[POLL_TARGET_MAX];
    uint8_t b[POLL_ANSWER_HEAD];
    static const char get[] = "/?cp1.AAECAwQFBgcICQoLDA0ODw.0.1.0.g.1.25.262144", post[] = "/?cp1.AAECAwQFBgcICQoLDA0ODw.2.2.0.p.1536.d";
    static const uint8_t answer[] = {'c', 'p', '1', 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
    assert_true(parse(&r, "GET", get));
    assert_true(r.acked == 0 && r.low == 1 && r.attempt == 0 && r.number == 1 && r.hold_s == 25 && r.most == POLL_BODY_MAX);
    poll_put_query(query, &r);
    assert_string_equal(query, get + 2);
    assert_true(parse(&r, "POST", post));
    assert_true(r.acked == 2 && r.low == 2 && r.offset == 1536 && !r.end && !r.abort);
    poll_put_query(query, &r);
    assert_string_equal(query, post + 2);
    poll_put_answer(b, &(struct poll_answer){.acked = 1536, .len = 2});
    assert_memory_equal(b, answer, sizeof answer);
}

// --- one direction

struct pipe {
    struct pool pool;
    struct poll_out out;
    struct poll_in in;
};

static void pipe_init(struct pipe *p)
{
    memset(p, 0, sizeof *p);
    pool_init(&p->pool);
}

static void pipe_fini(struct pipe *p)
{
    poll_out_fini(&p->out);
    poll_in_fini(&p->in);
    assert_int_equal(p->pool.out_bytes, 0);
    pool_fini(&p->pool);
}

static uint8_t nth(uint64_t i) { return (uint8_t)(i * 167 + (i >> 8) * 13); }

static void push(struct pipe *p, size_t n)
{
    while (n) {
        struct buf *b = buf_get(&p->pool);
        while (n && buf_tailroom(b)) {
            uint8_t c = nth(p->out.end + b->len);
            buf_append(b, &c, 1);
            n--;
        }
        poll_out_push(&p->out, b);
    }
}

// A piece as it travels: its bytes at the time it was answered.
static struct buf *load(struct pipe *p, const struct poll_piece *piece)
{
    struct buf *b = buf_get(&p->pool);
    if (!poll_out_copy(&p->out, piece->offset, piece->len, b)) {
        buf_put(b);
        return NULL;
    }
    assert_int_equal(b->len, piece->len);
    for (uint32_t i = 0; i < b->len; i++)
        assert_int_equal(buf_data(b)[i], nth(piece->offset + i));
    return b;
}

static void arrive(struct pipe *p, const struct poll_piece *piece)
{
    struct buf *b = load(p, piece);
    if (!b)
        return;
    assert_true(poll_in_take(&p->in, piece->offset, b));
    if (piece->end)
        assert_true(poll_in_end(&p->in, piece->offset + piece->len));
}

static uint64_t read_all(struct pipe *p, uint64_t at)
{
    struct buf *b;
    while ((b = bufq_pop(&p->in.ready))) {
        for (uint32_t i = 0; i < b->len; i++)
            assert_int_equal(buf_data(b)[i], nth(at + i));
        at += b->len;
        buf_put(b);
    }
    return at;
}

static void test_a_repeated_get_gets_the_same_bytes_until_they_are_acked(void **state)
{
    struct pipe p;
    struct poll_piece a, b, c;
    pipe_init(&p);
    push(&p, 100);
    assert_true(poll_out_give(&p.out, 1, 60, &a));
    assert_int_equal(a.len, 60);
    push(&p, 100);
    assert_true(poll_out_give(&p.out, 1, 1000, &b));
    assert_memory_equal(&a, &b, sizeof a);
    assert_true(poll_out_give(&p.out, 2, 1000, &b));
    assert_int_equal(b.offset, 60);
    assert_int_equal(b.len, 140);
    assert_false(poll_out_give(&p.out, 3, 1000, &c)); // parked
    assert_true(poll_out_ack(&p.out, 60));
    assert_false(poll_out_has(&p.out, 1));
    assert_null(load(&p, &a)); // gone: who asks for it has it
    assert_true(poll_out_give(&p.out, 2, 1, &c));
    assert_memory_equal(&b, &c, sizeof b);
    assert_true(poll_out_ack(&p.out, 30)); // an old request overtaken by a newer one
    assert_int_equal(p.out.acked, 60);
    assert_false(poll_out_ack(&p.out, 201));
    pipe_fini(&p);
}

static void test_what_a_ghost_took_is_given_to_others(void **state)
{
    struct pipe p;
    struct poll_piece a, b;
    pipe_init(&p);
    push(&p, 50);
    assert_true(poll_out_give(&p.out, 1, 1000, &a)); // a copy of a request that was answered already: nobody reads it
    assert_false(poll_out_give(&p.out, 2, 1000, &b));
    poll_out_low(&p.out, 2);
    assert_true(poll_out_give(&p.out, 2, 1000, &b));
    assert_int_equal(b.offset, 0);
    assert_int_equal(b.len, 50);
    assert_false(poll_out_give(&p.out, 1, 1000, &a)); // over
    pipe_fini(&p);
}

static void test_of_a_piece_that_was_cut_off_the_rest_is_given(void **state)
{
    struct pipe p;
    struct poll_piece a;
    pipe_init(&p);
    push(&p, 100);
    assert_true(poll_out_give(&p.out, 1, 1000, &a));
    assert_true(poll_out_ack(&p.out, 40));
    assert_true(poll_out_give(&p.out, 1, 1000, &a));
    assert_int_equal(a.offset, 40);
    assert_int_equal(a.len, 60);
    arrive(&p, &a);
    pipe_fini(&p);
}

static void test_the_end_is_acknowledged_like_a_byte(void **state)
{
    struct pipe p;
    struct poll_piece a, b;
    pipe_init(&p);
    push(&p, 10);
    assert_true(poll_out_give(&p.out, 1, 1000, &a));
    assert_false(a.end);
    p.out.ended = true;
    assert_true(poll_out_give(&p.out, 1, 1000, &b));
    assert_false(b.end); // the same again
    assert_true(poll_out_give(&p.out, 2, 1000, &b));
    assert_true(b.end && b.len == 0 && b.offset == 10);
    arrive(&p, &b);
    assert_false(poll_in_is_done(&p.in));
    arrive(&p, &a);
    assert_true(poll_in_is_done(&p.in));
    assert_int_equal(p.in.next, 11);
    assert_true(poll_out_ack(&p.out, 10));
    assert_false(poll_out_is_done(&p.out));
    assert_true(poll_out_ack(&p.out, 11));
    assert_true(poll_out_is_done(&p.out));
    assert_false(poll_in_end(&p.in, 9));
    assert_false(poll_in_take(&p.in, 8, buf_copy(&p.pool, "abcd", 4)));
    assert_true(poll_in_take(&p.in, 8, buf_copy(&p.pool, "ab", 2)));
    pipe_fini(&p);
}

static void test_pieces_may_be_cut_anew(void **state)
{
    struct pipe p;
    struct poll_piece a, b, c;
    pipe_init(&p);
    push(&p, 100);
    assert_true(poll_out_give(&p.out, 1, 80, &a) && poll_out_give(&p.out, 2, 80, &b));
    poll_out_recut(&p.out);
    assert_true(poll_out_give(&p.out, 3, 30, &c) && c.offset == 0 && c.len == 30);
    arrive(&p, &b);
    arrive(&p, &c);
    arrive(&p, &a); // it came through after all
    assert_int_equal(p.in.next, 100);
    assert_true(poll_out_ack(&p.out, 100));
    assert_int_equal(p.out.count, 0);
    assert_false(poll_out_give(&p.out, 4, 30, &c));
    read_all(&p, 0);
    pipe_fini(&p);
}

static void test_bytes_that_come_too_early_are_bounded(void **state)
{
    struct pipe p;
    pipe_init(&p);
    for (uint64_t i = 0; i < 200; i++)
        assert_true(poll_in_take(&p.in, 10 + 20000 * i, buf_get(&p.pool)));
    assert_int_equal(p.in.count, 0);
    for (uint64_t i = 0; i < 100; i++) {
        struct buf *b = buf_get(&p.pool);
        b->len = 16000;
        assert_true(poll_in_take(&p.in, 10 + 16000 * i, b));
    }
    assert_int_equal(p.in.count, 1);
    assert_true(p.in.ahead <= POLL_AHEAD_MAX);
    for (uint64_t i = 0; i < 50; i++)
        assert_true(poll_in_take(&p.in, (1 << 30) + 100 * i, buf_copy(&p.pool, "x", 1)));
    assert_int_equal(p.in.count, POLL_RUNS_MAX);
    assert_int_equal(p.in.refused, 50 - (POLL_RUNS_MAX - 1) + 16000 * (100 - POLL_AHEAD_MAX / 16000));
    pipe_fini(&p);
}

// --- a network that loses, repeats, delays and overtakes

#define WAITERS 3
#define FLIGHT 64
#define STREAM 60000

struct shot { // something on its way
    enum { NOTHING, REQUEST, ANSWER } kind;
    uint32_t number, low;
    uint64_t acked;
    bool has;
    struct poll_piece piece;
    struct buf *data;
};

struct lab {
    struct pipe p;
    struct shot shots[FLIGHT];
    uint32_t numbers, gets[WAITERS]; // the agent's GETs; 0: none
    uint64_t read;
    unsigned seed;
    size_t sent;
};

static unsigned draw(struct lab *x, unsigned n)
{
    x->seed = x->seed * 1103515245 + 12345;
    return (x->seed >> 16) % n;
}

static void shoot(struct lab *x, struct shot s)
{
    struct shot *at = &x->shots[draw(x, FLIGHT)];
    if (at->kind) { // lost
        buf_put(s.data);
        return;
    }
    *at = s;
}

static uint32_t low_of(const struct lab *x)
{
    uint32_t low = x->numbers + 1;
    for (int i = 0; i < WAITERS; i++)
        low = x->gets[i] && x->gets[i] < low ? x->gets[i] : low;
    return low;
}

static void ask(struct lab *x, int i)
{
    if (!x->gets[i])
        x->gets[i] = ++x->numbers;
    shoot(x, (struct shot){.kind = REQUEST, .number = x->gets[i], .low = low_of(x), .acked = x->p.in.next});
}

static void serve(struct lab *x, const struct shot *r)
{
    struct shot a = {.kind = ANSWER, .number = r->number};
    assert_true(poll_out_ack(&x->p.out, r->acked));
    poll_out_low(&x->p.out, r->low);
    a.has = poll_out_give(&x->p.out, r->number, 1 + draw(x, 3000), &a.piece);
    if (a.has && !(a.data = load(&x->p, &a.piece)))
        return; // gone meanwhile: the connection is closed
    shoot(x, a);
}

static void hear(struct lab *x, struct shot *a)
{
    for (int i = 0; i < WAITERS; i++) {
        if (x->gets[i] != a->number)
            continue;
        bool cut = a->has && a->data->len > 1 && draw(x, 4) == 0;
        if (cut)
            a->data->len /= 2;
        else
            x->gets[i] = 0;
        if (!a->has)
            break;
        assert_true(poll_in_take(&x->p.in, a->piece.offset, a->data));
        a->data = NULL;
        if (cut)
            break; // it will be asked for again
        if (a->piece.end)
            assert_true(poll_in_end(&x->p.in, a->piece.offset + a->piece.len));
        break;
    }
    buf_put(a->data);
    a->data = NULL;
}

static void step(struct lab *x)
{
    struct shot *s = &x->shots[draw(x, FLIGHT)], now = *s;
    unsigned luck = draw(x, 10);
    if (x->sent < STREAM && draw(x, 4) == 0) {
        size_t n = 1 + draw(x, 900);
        n = n < STREAM - x->sent ? n : STREAM - x->sent;
        push(&x->p, n);
        x->sent += n;
    }
    x->p.out.ended = x->sent == STREAM;
    if (draw(x, 3) == 0)
        ask(x, (int)draw(x, WAITERS));
    if (now.kind == NOTHING)
        return;
    if (now.kind == REQUEST && luck < 3) { // repeated: it stays on its way
        serve(x, &now);
        return;
    }
    *s = (struct shot){0};
    if (luck == 9)
        buf_put(now.data); // lost
    else if (now.kind == REQUEST)
        serve(x, &now);
    else
        hear(x, &now);
    x->read = read_all(&x->p, x->read);
}

static void test_a_bad_network_does_no_harm(void **state)
{
    for (unsigned seed = 1; seed <= 300; seed++) {
        static struct lab x;
        memset(&x, 0, sizeof x);
        pipe_init(&x.p);
        x.seed = seed * 7919;
        int steps = 0;
        while (!(poll_in_is_done(&x.p.in) && poll_out_is_done(&x.p.out))) {
            step(&x);
            if (++steps > 2000000)
                fail_msg("seed %u hangs: %llu of %llu", seed, (unsigned long long)x.p.in.next, (unsigned long long)x.p.out.end);
        }
        assert_int_equal(x.read, STREAM);
        for (int i = 0; i < FLIGHT; i++)
            buf_put(x.shots[i].data);
        pipe_fini(&x.p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_are_read_as_written),
        cmocka_unit_test(test_what_is_not_rightly_made_is_not_ours),
        cmocka_unit_test(test_answers_are_read_as_written),
        cmocka_unit_test(test_the_vectors_of_the_protocol),
        cmocka_unit_test(test_a_repeated_get_gets_the_same_bytes_until_they_are_acked),
        cmocka_unit_test(test_what_a_ghost_took_is_given_to_others),
        cmocka_unit_test(test_of_a_piece_that_was_cut_off_the_rest_is_given),
        cmocka_unit_test(test_the_end_is_acknowledged_like_a_byte),
        cmocka_unit_test(test_pieces_may_be_cut_anew),
        cmocka_unit_test(test_bytes_that_come_too_early_are_bounded),
        cmocka_unit_test(test_a_bad_network_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
