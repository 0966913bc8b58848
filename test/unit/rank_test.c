// SPDX-License-Identifier: Apache-2.0
// Which relay is used, with exact times.
#include "agent/rank.h"
#include "unit.h"

#define SECOND 1000
#define FULL 0xffffffffu

static struct rank_one good(uint32_t rtt_ms, uint64_t since_ms)
{
    return (struct rank_one){.good = true, .stands = true, .rtt_us = rtt_ms * 1000, .good_ms = since_ms};
}

static struct rank_one trying(void) { return (struct rank_one){0}; }
static struct rank_one failed(void) { return (struct rank_one){.tried = true}; }
static struct rank_one draining(void) { return (struct rank_one){.stands = true, .gone = true}; }
static struct rank_one suspect(void) { return (struct rank_one){.stands = true}; }

static size_t decide(struct rank *r, const struct rank_one *c, size_t n, uint64_t now_ms)
{
    rank_decide(r, c, n, 0, now_ms);
    return r->home;
}

static struct rank at_home(size_t home, uint64_t now_ms)
{
    struct rank r;
    rank_init(&r, 60 * SECOND, false, now_ms);
    r.home = home;
    return r;
}

static void the_only_one_is_chosen_at_once(void **state)
{
    struct rank r;
    struct rank_one c[1] = {trying()};
    rank_init(&r, 0, false, 1000);
    assert_int_equal(decide(&r, c, 1, 1000), RANK_NONE);
    c[0] = good(50, 1100);
    assert_int_equal(decide(&r, c, 1, 1100), 0);
    assert_int_equal(r.again_ms, 0);
}

static void the_first_that_stands_waits_for_the_others(void **state)
{
    struct rank r;
    struct rank_one c[3] = {trying(), good(50, 1200), failed()};
    rank_init(&r, 0, false, 1000);
    assert_int_equal(decide(&r, c, 3, 1200), RANK_NONE);
    assert_int_equal(r.again_ms, 1200 + RANK_SETTLE_MIN_MS);
    assert_int_equal(decide(&r, c, 3, 1499), RANK_NONE);
    assert_int_equal(decide(&r, c, 3, 1500), 1);

    rank_init(&r, 0, false, 1000); // it comes in time, and is an equal
    decide(&r, c, 3, 1200);
    c[0] = good(60, 1300);
    assert_int_equal(decide(&r, c, 3, 1300), 0);
}

static void settling_is_in_proportion_and_bounded(void **state)
{
    struct rank r;
    struct rank_one c[2] = {trying(), good(300, 0)};
    rank_init(&r, 0, false, 1000);
    decide(&r, c, 2, 2600);
    assert_int_equal(r.again_ms, 2600 + 800);
    rank_init(&r, 0, false, 1000);
    decide(&r, c, 2, 9000);
    assert_int_equal(r.again_ms, 9000 + RANK_SETTLE_MAX_MS);
}

static void who_is_in_haste_takes_the_first(void **state)
{
    struct rank r;
    struct rank_one c[2] = {trying(), good(50, 1200)};
    rank_init(&r, 0, true, 1000);
    assert_int_equal(decide(&r, c, 2, 1200), 1);
}

static void order_decides_among_equals(void **state)
{
    struct rank r = at_home(RANK_NONE, 0);
    struct rank_one c[3] = {good(45, 0), good(44, 0), good(25, 0)};
    assert_int_equal(rank_best(&r, c, 3, RANK_NONE), 0); // all within 20 ms
    c[0] = good(46, 0);
    assert_int_equal(rank_best(&r, c, 3, RANK_NONE), 1);
    struct rank_one far[2] = {good(250, 0), good(200, 0)}; // within a quarter
    assert_int_equal(rank_best(&r, far, 2, RANK_NONE), 0);
    far[0] = good(251, 0);
    assert_int_equal(rank_best(&r, far, 2, RANK_NONE), 1);
    far[0] = good(0, 0); // not measured yet
    assert_int_equal(rank_best(&r, far, 2, RANK_NONE), 0);
    far[0] = suspect();
    assert_int_equal(rank_best(&r, far, 2, RANK_NONE), 1);
    assert_int_equal(rank_best(&r, far, 2, 1), RANK_NONE);
}

static void the_home_has_an_advantage(void **state)
{
    struct rank r = at_home(0, 0);
    struct rank_one c[2] = {good(64, 0), good(25, 0)};
    assert_int_equal(rank_best(&r, c, 2, RANK_NONE), 0);
    c[0] = good(66, 0);
    assert_int_equal(rank_best(&r, c, 2, RANK_NONE), 1);
}

static void a_better_one_is_used_once_it_is_steady(void **state)
{
    struct rank r = at_home(1, 0);
    struct rank_one c[2] = {good(20, 5 * SECOND), good(20, 0)};
    assert_int_equal(decide(&r, c, 2, 5 * SECOND), 1);
    assert_int_equal(r.again_ms, 65 * SECOND);
    c[0] = failed(); // gone meanwhile: begins anew
    assert_int_equal(decide(&r, c, 2, 30 * SECOND), 1);
    assert_int_equal(r.again_ms, 0);
    c[0] = good(20, 40 * SECOND);
    assert_int_equal(decide(&r, c, 2, 40 * SECOND), 1);
    assert_int_equal(decide(&r, c, 2, 100 * SECOND - 1), 1);
    assert_int_equal(decide(&r, c, 2, 100 * SECOND), 0);
}

static void coming_back_is_spread_over_a_comeback_time(void **state)
{
    struct rank r = at_home(1, 0);
    struct rank_one c[2] = {good(20, 0), good(20, 0)};
    rank_decide(&r, c, 2, FULL, 0);
    assert_int_equal(r.again_ms, 120 * SECOND - 1);
    rank_decide(&r, c, 2, 0, 60 * SECOND); // drawn once
    assert_int_equal(r.home, 1);
    rank_decide(&r, c, 2, 0, 120 * SECOND - 1);
    assert_int_equal(r.home, 0);
}

static void a_home_that_fails_is_left_at_once(void **state)
{
    struct rank r = at_home(0, 0);
    struct rank_one c[2] = {trying(), good(20, 0)};
    assert_int_equal(decide(&r, c, 2, 1000), 0); // it may come back
    assert_int_equal(r.again_ms, 1000 + RANK_PATIENCE_MS);
    c[0] = failed();
    assert_int_equal(decide(&r, c, 2, 1001), 1);
}

static void patience_with_the_home_ends(void **state)
{
    struct rank r = at_home(0, 0);
    struct rank_one c[2] = {trying(), good(20, 0)};
    decide(&r, c, 2, 1000);
    assert_int_equal(decide(&r, c, 2, 2499), 0);
    assert_int_equal(decide(&r, c, 2, 2500), 1);

    r = at_home(0, 0);
    c[0] = suspect();
    decide(&r, c, 2, 1000);
    assert_int_equal(decide(&r, c, 2, 1999), 0);
    assert_int_equal(decide(&r, c, 2, 2000), 1);

    r = at_home(0, 0); // back in time
    decide(&r, c, 2, 1000);
    c[0] = good(20, 2000);
    assert_int_equal(decide(&r, c, 2, 2000), 0);
    c[0] = trying();
    decide(&r, c, 2, 3000);
    assert_int_equal(decide(&r, c, 2, 4499), 0);
}

static void a_draining_home_is_left_at_once_if_there_is_another(void **state)
{
    struct rank r = at_home(0, 0);
    struct rank_one c[2] = {draining(), trying()};
    assert_int_equal(decide(&r, c, 2, 1000), 0);
    c[1] = good(20, 1100);
    assert_int_equal(decide(&r, c, 2, 1100), 1);
}

static void with_nowhere_to_go_it_stays(void **state)
{
    struct rank r = at_home(0, 0);
    struct rank_one c[2] = {failed(), failed()};
    assert_int_equal(decide(&r, c, 2, 1000), 0);
    assert_int_equal(decide(&r, c, 2, 100000), 0);
    assert_int_equal(r.again_ms, 0);
}

static void the_order_begins_with_the_home(void **state)
{
    struct rank r = at_home(2, 0);
    struct rank_one c[5] = {failed(), good(90, 0), good(30, 0), good(20, 0), trying()};
    size_t out[5];
    rank_order(&r, c, 5, out);
    static const size_t expected[] = {2, 3, 1, 0, 4};
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(out[i], expected[i]);
    r.home = RANK_NONE;
    rank_order(&r, c, 5, out);
    static const size_t without[] = {2, 3, 1, 0, 4}; // 20 and 30 ms are equals
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(out[i], without[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_only_one_is_chosen_at_once),
        cmocka_unit_test(the_first_that_stands_waits_for_the_others),
        cmocka_unit_test(settling_is_in_proportion_and_bounded),
        cmocka_unit_test(who_is_in_haste_takes_the_first),
        cmocka_unit_test(order_decides_among_equals),
        cmocka_unit_test(the_home_has_an_advantage),
        cmocka_unit_test(a_better_one_is_used_once_it_is_steady),
        cmocka_unit_test(coming_back_is_spread_over_a_comeback_time),
        cmocka_unit_test(a_home_that_fails_is_left_at_once),
        cmocka_unit_test(patience_with_the_home_ends),
        cmocka_unit_test(a_draining_home_is_left_at_once_if_there_is_another),
        cmocka_unit_test(with_nowhere_to_go_it_stays),
        cmocka_unit_test(the_order_begins_with_the_home),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
