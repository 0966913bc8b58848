// SPDX-License-Identifier: Apache-2.0
#include "unit.h"
#include <stdlib.h>
#include "session/seen.h"

static void in_order_stays_one_range(void **state)
{
    struct seen s;
    seen_init(&s);
    for (uint32_t id = 1; id < 100000; id += 2) {
        assert_false(seen_has(&s, id));
        assert_true(seen_add(&s, id));
        assert_true(seen_has(&s, id));
    }
    assert_int_equal(s.count, 1);
    assert_false(seen_has(&s, 100001));
    seen_fini(&s);
}

static void a_filled_hole_joins_its_neighbours(void **state)
{
    struct seen s;
    seen_init(&s);
    seen_add(&s, 2);
    seen_add(&s, 6);
    seen_add(&s, 10);
    assert_int_equal(s.count, 3);
    seen_add(&s, 4);
    assert_int_equal(s.count, 2);
    seen_add(&s, 8);
    assert_int_equal(s.count, 1);
    assert_true(seen_add(&s, 4)); // again
    assert_int_equal(s.count, 1);
    assert_false(seen_has(&s, 0));
    assert_true(seen_add(&s, 0)); // grows downwards
    assert_int_equal(s.count, 1);
    assert_false(seen_has(&s, 12));
    seen_fini(&s);
}

static void any_order_agrees_with_a_plain_table(void **state)
{
    static bool plain[4000];
    for (unsigned seed = 1; seed < 20; seed++) {
        struct seen s;
        srand(seed);
        seen_init(&s);
        memset(plain, 0, sizeof plain);
        for (int i = 0; i < 3000; i++) {
            uint32_t n = (uint32_t)rand() % COUNT(plain);
            assert_int_equal(seen_has(&s, 2 * n + 1), plain[n]);
            assert_true(seen_add(&s, 2 * n + 1));
            plain[n] = true;
        }
        unsigned ranges = 0;
        for (uint32_t n = 0; n < COUNT(plain); n++) {
            assert_int_equal(seen_has(&s, 2 * n + 1), plain[n]);
            ranges += plain[n] && (n == 0 || !plain[n - 1]);
        }
        assert_int_equal(s.count, ranges);
        seen_fini(&s);
    }
}

static void the_largest_id(void **state)
{
    struct seen s;
    seen_init(&s);
    assert_true(seen_add(&s, UINT32_MAX));
    assert_true(seen_add(&s, UINT32_MAX - 2));
    assert_true(seen_has(&s, UINT32_MAX) && seen_has(&s, UINT32_MAX - 2));
    assert_false(seen_has(&s, 1));
    assert_int_equal(s.count, 1);
    seen_fini(&s);
}

static void holes_are_bounded(void **state)
{
    struct seen s;
    seen_init(&s);
    for (uint32_t i = 0; i < SEEN_RANGES_MAX; i++)
        assert_true(seen_add(&s, 4 * i));
    assert_false(seen_add(&s, 4 * SEEN_RANGES_MAX));
    assert_false(seen_has(&s, 4 * SEEN_RANGES_MAX));
    assert_true(seen_add(&s, 2)); // joins two
    assert_true(seen_add(&s, 4 * SEEN_RANGES_MAX));
    seen_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_order_stays_one_range), cmocka_unit_test(a_filled_hole_joins_its_neighbours),
        cmocka_unit_test(any_order_agrees_with_a_plain_table), cmocka_unit_test(the_largest_id),
        cmocka_unit_test(holes_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
