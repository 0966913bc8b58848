// SPDX-License-Identifier: Apache-2.0
// Datagrams of flows: order, time to live, parts, and bounds.
#include "half.h"

static struct worker w;

// Two halves with one flow; *st is the opener's.
static void flow(struct half **a, struct half **b, struct stream **st, size_t budget)
{
    *a = half_new(&w, true, ONE_MB);
    *b = half_new(&w, false, budget);
    half_up(*a);
    half_up(*b);
    (*b)->auto_accept = true;
    *st = half_open(*a, OPEN_UDP);
    half_settle(*a, *b);
}

static void test_datagrams_keep_order_and_edges(void **state)
{
    static const size_t sizes[] = {0, 1, 1200, FRAME_PART_MAX - 1, FRAME_PART_MAX, FRAME_PART_MAX + 1, 40000, DGRAM_MAX};
    static uint8_t data[DGRAM_MAX];
    struct half *a, *b;
    struct stream *st;
    flow(&a, &b, &st, ONE_MB);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = half_byte(i);
    for (uint8_t i = 0; i < COUNT(sizes); i++) {
        data[0] = i;
        assert_true(stream_send_dgram(st, data, sizes[i]));
    }
    half_settle(a, b);
    assert_int_equal(b->dgrams, COUNT(sizes));
    for (uint8_t i = 0; i < COUNT(sizes); i++) {
        assert_int_equal(b->dgram_len[i], sizes[i]);
        assert_int_equal(b->dgram_first[i], i ? i : 0);
    }
    assert_memory_equal(b->dgram_bytes, data, DGRAM_MAX);
    assert_false(stream_send_dgram(st, data, DGRAM_MAX + 1));
    assert_int_equal(b->budget.used, 0);
    half_free(a);
    half_free(b);
}

static void test_a_datagram_is_stale_exactly_after_its_time(void **state)
{
    struct half *a, *b;
    struct stream *st;
    flow(&a, &b, &st, ONE_MB);
    stream_send_dgram(st, "x", 1);
    half_pass_us(&w, DGRAM_TTL_MS * 1000 + 999); // still the last millisecond
    stream_send_dgram(st, "y", 1);
    hear(a);
    assert_int_equal(heard_times(a, FRAME_DGRAM, 1), 2);
    stream_send_dgram(st, "x", 1);
    half_pass_us(&w, DGRAM_TTL_MS * 1000 + 1000);
    stream_send_dgram(st, "y", 1);
    hear(a);
    assert_int_equal(heard_times(a, FRAME_DGRAM, 1), 1);
    assert_int_equal(a->s.stats.dgrams_dropped_stale, 1);
    struct frame_dgram f = {.age_ms = 11, .ttl_ms = 10, .parts = 1, .data = (const uint8_t *)"z", .len = 1};
    assert_int_equal(say_dgram(b, 1, &f), 0);
    assert_int_equal(b->dgrams, 0);
    f.age_ms = 10;
    say_dgram(b, 1, &f);
    assert_int_equal(b->dgrams, 1);
    half_free(a);
    half_free(b);
}

static void test_datagrams_go_before_streams(void **state)
{
    struct half *h = half_new(&w, true, 16 * ONE_MB);
    half_up(h);
    hear(h);
    half_send(half_open_to(h, ONE_MB), 10 * FRAME_DATA_MAX);
    struct stream *st = half_open(h, OPEN_UDP);
    struct buf *b = buf_get(&w.pool);
    carrier_fill(&h->c, b);
    stream_send_dgram(st, "hi", 2);
    b->len = 0;
    carrier_fill(&h->c, b);
    struct frame_head head;
    frame_get_head(&head, buf_data(b));
    assert_int_equal(head.type, FRAME_DGRAM);
    buf_put(b);
    half_free(h);
}

static int part(struct half *h, uint32_t seq, uint8_t k, uint8_t of, size_t n)
{
    static uint8_t data[FRAME_PART_MAX];
    memset(data, k + 1, n);
    struct frame_dgram f = {.seq = seq, .ttl_ms = 1000, .part = k, .parts = of, .data = data, .len = n};
    return say_dgram(h, 1, &f);
}

static void test_a_missing_part_drops_the_whole(void **state)
{
    struct half *h = half_new(&w, false, ONE_MB);
    half_up(h);
    say_open(h, 1, OPEN_UDP, 0);
    part(h, 1, 0, 3, 100);
    part(h, 1, 2, 3, 100); // 1 is missing
    assert_int_equal(h->dgrams, 0);
    part(h, 2, 1, 2, 100); // without a beginning
    part(h, 3, 0, 2, 100);
    part(h, 4, 1, 2, 100); // of another datagram
    part(h, 5, 0, 2, 100);
    part(h, 6, 0, 2, 100); // a new one begins
    part(h, 6, 1, 2, 50);
    assert_int_equal(h->dgrams, 1);
    assert_int_equal(h->dgram_len[0], 150);
    assert_int_equal(h->s.stats.dgrams_dropped_part, 4);
    assert_int_equal(h->budget.used, 0);
    half_free(h);
}

static void test_parts_beyond_the_largest_datagram(void **state)
{
    struct half *h = half_new(&w, false, ONE_MB);
    half_up(h);
    say_open(h, 1, OPEN_UDP, 0);
    for (uint8_t k = 0; k < 5; k++) // 5 * 16326 are more than 65507
        assert_int_equal(part(h, 1, k, 5, FRAME_PART_MAX), 0);
    assert_int_equal(h->dgrams, 0);
    for (int k = 0; k < 255; k++) // as many as can be, of nothing
        part(h, 2, (uint8_t)k, 255, 0);
    assert_int_equal(h->dgrams, 1);
    assert_int_equal(h->dgram_len[0], 0);
    half_free(h);
}

static void test_unfinished_parts_are_charged(void **state)
{
    struct half *h = half_new(&w, false, 20 * BUF_SIZE);
    half_up(h);
    for (uint32_t id = 1; id < 200; id += 2) {
        say_open(h, id, OPEN_UDP, 0);
        struct frame_dgram f = {.ttl_ms = 1000, .parts = 3, .data = h->dgram_bytes, .len = FRAME_PART_MAX};
        assert_int_equal(say_dgram(h, id, &f), 0);
        f.part = 1;
        assert_int_equal(say_dgram(h, id, &f), 0);
    }
    assert_true(h->budget.used <= 20 * BUF_SIZE);
    assert_true(w.pool.out_bytes < 22 * BUF_SIZE);
    assert_true(h->s.stats.dgrams_dropped_full > 0);
    half_free(h);
}

static void test_the_queue_is_bounded(void **state)
{
    struct half *a, *b;
    struct stream *st;
    unsigned sent = 0;
    flow(&a, &b, &st, ONE_MB);
    while (stream_send_dgram(st, a->dgram_bytes, 1000))
        sent++;
    assert_true(sent > 450 && sent < 530);
    assert_true(w.pool.out_bytes < DGRAM_QUEUE_MAX + 3 * BUF_SIZE);
    half_settle(a, b);
    assert_int_equal(b->dgrams, sent);
    assert_true(stream_send_dgram(st, "x", 1));
    half_free(a);
    half_free(b);
}

static void test_datagrams_wait_for_a_carrier_but_not_for_long(void **state)
{
    struct half *a, *b;
    struct stream *st;
    flow(&a, &b, &st, ONE_MB);
    half_down(a);
    half_down(b);
    stream_send_dgram(st, "old", 3);
    half_pass_us(&w, 2000000);
    stream_send_dgram(st, "new", 3);
    half_up(a);
    half_up(b);
    half_settle(a, b);
    assert_int_equal(b->dgrams, 1);
    assert_memory_equal(b->dgram_bytes, "new", 3);
    half_free(a);
    half_free(b);
}

static void test_data_and_datagrams_do_not_mix(void **state)
{
    struct half *h = half_new(&w, false, ONE_MB);
    struct frame_dgram f = {.ttl_ms = 10, .parts = 1, .data = (const uint8_t *)"x", .len = 1};
    half_up(h);
    say_open(h, 1, OPEN_UDP, 0);
    say_open(h, 3, OPEN_TCP, 0);
    assert_int_equal(say_data(h, 1, 0, 1), -1);
    assert_int_equal(say_dgram(h, 3, &f), -1);
    assert_int_equal(say_dgram(h, 5, &f), 0); // no such flow (any more)
    assert_false(stream_send_dgram(h->asked, "x", 1));
    half_free(h);
}

static void test_none_come_after_the_end(void **state)
{
    struct half *a, *b;
    struct stream *st;
    flow(&a, &b, &st, ONE_MB);
    half_close(b, b->asked);
    stream_send_dgram(st, "x", 1);
    half_carry(a, b, 10);
    assert_int_equal(b->dgrams, 0);
    half_settle(a, b);
    assert_false(stream_send_dgram(st, "x", 1));
    half_close(a, st);
    half_free(a);
    half_free(b);
}

#define T(name) HALF_TEST(name, &w)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_datagrams_keep_order_and_edges), T(test_a_datagram_is_stale_exactly_after_its_time),
        T(test_datagrams_go_before_streams), T(test_a_missing_part_drops_the_whole),
        T(test_parts_beyond_the_largest_datagram), T(test_unfinished_parts_are_charged), T(test_the_queue_is_bounded),
        T(test_datagrams_wait_for_a_carrier_but_not_for_long), T(test_data_and_datagrams_do_not_mix),
        T(test_none_come_after_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
