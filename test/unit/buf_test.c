// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "core/buf.h"

static void full_and_small_buffers_have_their_rooms(void **state)
{
    struct pool p;
    pool_init(&p);
    struct buf *b = buf_get(&p);
    assert_int_equal(b->start, BUF_HEADROOM);
    assert_int_equal(buf_tailroom(b), BUF_ROOM);
    assert_int_equal(p.out_count, 1);
    assert_int_equal(p.out_bytes, BUF_SIZE);
    struct buf *s = buf_get_small(&p, 8, 100);
    assert_true(s->small);
    assert_int_equal(s->start, 8);
    assert_true(buf_tailroom(s) >= 100 && s->cap < 140);
    assert_int_equal(p.out_bytes, BUF_SIZE + s->cap);
    assert_int_equal(buf_append(s, "hello", 5), 5);
    memcpy(buf_prepend(s, 3), "oh ", 3);
    assert_memory_equal(buf_data(s), "oh hello", 8);
    buf_skip(s, 6);
    assert_memory_equal(buf_data(s), "lo", 2);
    b->start = BUF_SIZE - 3;
    assert_int_equal(buf_append(b, "four", 4), 3); // only what fits
    buf_put(b);
    buf_put(s);
    buf_put(NULL);
    assert_int_equal(p.out_bytes, 0);
    pool_fini(&p);
}

static void copies_are_small_when_they_fit(void **state)
{
    static const uint8_t data[BUF_ROOM] = {1, 2, 3};
    struct pool p;
    pool_init(&p);
    size_t edge = BUF_SMALL_MAX - BUF_HEADROOM;
    struct buf *a = buf_copy(&p, data, edge), *b = buf_copy(&p, data, edge + 1), *c = buf_copy(&p, data, BUF_ROOM);
    assert_true(a->small);
    assert_false(b->small);
    assert_int_equal(c->len, BUF_ROOM);
    assert_memory_equal(buf_data(c), data, BUF_ROOM);
    buf_put(a);
    buf_put(b);
    buf_put(c);
    pool_fini(&p);
}

static void any_part_of_a_buffer_can_be_split_off(void **state)
{
    struct pool p;
    pool_init(&p);
    for (size_t n = 0; n <= BUF_SIZE; n += n < 4 || n > BUF_ROOM - 4 ? 1 : 1021) {
        struct buf *b = buf_get(&p);
        b->start = 0;
        b->len = BUF_SIZE;
        for (size_t i = 0; i < BUF_SIZE; i++)
            b->base[i] = (uint8_t)(i * 7 + i / 256);
        struct buf *piece = buf_split(b, n), *copy = buf_copy(&p, b->base, BUF_SIZE);
        assert_int_equal(piece->len, n);
        assert_int_equal(b->len, BUF_SIZE - n);
        assert_memory_equal(buf_data(piece), copy->base, n);
        assert_memory_equal(buf_data(b), copy->base + n, BUF_SIZE - n);
        assert_true(n > BUF_ROOM || piece->start == BUF_HEADROOM);
        buf_put(b);
        buf_put(piece);
        buf_put(copy);
    }
    pool_fini(&p);
}

static void the_pool_keeps_few_hot_ones(void **state)
{
    enum { N = 3 * POOL_HOT + 5 };
    struct pool p;
    struct buf *all[N];
    pool_init(&p);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++) {
            all[i] = buf_get(&p);
            memset(buf_data(all[i]), i, BUF_ROOM);
            all[i]->len = BUF_ROOM;
        }
        for (int i = 0; i < N; i++)
            assert_int_equal(buf_data(all[i])[BUF_ROOM - 1], (uint8_t)i);
        for (int i = 0; i < N; i++)
            buf_put(all[i]);
        assert_true(p.hot_count <= N);
    }
    bool more = pool_trim(&p); // in use until a moment ago: kept
    if (more)
        assert_int_equal(p.hot_count, N);
    pool_trim(&p); // idle since: given back
    assert_true(p.hot_count <= POOL_HOT);
    if (p.hot_count) { // not under AddressSanitizer
        assert_int_equal(p.hot_count, POOL_HOT);
        struct buf *last = p.hot;
        struct buf *b = buf_get(&p);
        assert_ptr_equal(b, last); // last in, first out: it is warm
        assert_int_equal(b->len, 0);
        assert_int_equal(b->start, BUF_HEADROOM);
        buf_put(b);
    }
    pool_fini(&p);
}

static void queues_count_content_and_charge(void **state)
{
    struct pool p;
    struct bufq q;
    pool_init(&p);
    bufq_init(&q);
    bufq_push(&q, buf_copy(&p, "cd", 2));
    bufq_push(&q, buf_copy(&p, "efg", 3));
    bufq_push_front(&q, buf_copy(&p, "ab", 2));
    assert_int_equal(q.bytes, 7);
    assert_int_equal(q.charge, p.out_bytes);
    bufq_drop(&q, 0);
    bufq_drop(&q, 3);
    assert_memory_equal(buf_data(q.head), "d", 1);
    bufq_drop(&q, 1); // to a buffer's very end
    assert_memory_equal(buf_data(q.head), "efg", 3);
    assert_int_equal(q.bytes, 3);
    assert_int_equal(q.charge, p.out_bytes);
    struct buf *b = bufq_pop(&q);
    assert_true(bufq_empty(&q));
    assert_null(q.tail);
    assert_null(bufq_pop(&q));
    bufq_push_front(&q, b);
    bufq_push(&q, buf_copy(&p, "h", 1));
    bufq_clear(&q);
    assert_int_equal(q.bytes + q.charge, 0);
    pool_fini(&p);
}

static struct buf *full_with(struct pool *p, size_t len)
{
    struct buf *b = buf_get(p);
    memset(buf_data(b), 'x', len);
    b->len = (uint32_t)len;
    return b;
}

static void tight_pushes_do_not_pin_full_buffers(void **state)
{
    struct pool p;
    struct bufq q;
    pool_init(&p);
    bufq_init(&q);
    bufq_push_tight(&q, full_with(&p, 10));
    assert_true(q.charge < 100);
    assert_int_equal(p.out_count, 0);
    for (int i = 0; i < 2000; i++)
        bufq_push_tight(&q, full_with(&p, 1));
    assert_int_equal(q.bytes, 2010);
    assert_true(q.charge < 3 * BUF_SMALL_MAX);
    bufq_push_tight(&q, full_with(&p, 8000)); // worth its buffer
    assert_int_equal(p.out_count, 1);
    size_t charge = q.charge;
    bufq_push_tight(&q, full_with(&p, 500)); // fits behind it
    assert_int_equal(q.charge, charge);
    assert_int_equal(q.bytes, 10510);
    assert_int_equal(q.charge, p.out_bytes);
    size_t seen = 0;
    for (struct buf *b = q.head; b; b = b->next)
        for (size_t i = 0; i < b->len; i++, seen++)
            assert_int_equal(buf_data(b)[i], 'x');
    assert_int_equal(seen, q.bytes);
    bufq_clear(&q);
    pool_fini(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_and_small_buffers_have_their_rooms), cmocka_unit_test(copies_are_small_when_they_fit),
        cmocka_unit_test(any_part_of_a_buffer_can_be_split_off),
        cmocka_unit_test(the_pool_keeps_few_hot_ones),             cmocka_unit_test(queues_count_content_and_charge),
        cmocka_unit_test(tight_pushes_do_not_pin_full_buffers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
