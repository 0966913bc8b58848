// SPDX-License-Identifier: Apache-2.0
#include "agent/lessons.h"
#include <stdio.h>
#include <stdlib.h>
#include "temp.h"
#include "unit.h"

static const char home[] = "0123456789abcdef";

static void test_kept(void **state)
{
    char dir[64];
    temp_make(dir);
    struct lessons l;
    struct liveness_lesson cut = {.cut_ms = 20000, .strikes = 2, .answered = 9}, none;
    lessons_open(&l, dir);
    none = lessons_get(&l, home);
    assert_int_equal(none.cut_ms, 0);
    lessons_set(&l, home, &cut, 1000);
    lessons_close(&l, 2000);
    lessons_open(&l, dir);
    cut = lessons_get(&l, home);
    assert_int_equal(cut.cut_ms, 20000);
    assert_int_equal(cut.strikes, 2);
    cut.cut_ms = 0; // forgotten after long peace
    lessons_set(&l, home, &cut, 1000);
    cut.cut_ms = 18000;
    lessons_set(&l, home, &cut, 2000); // so soon after the other: written at the end
    lessons_close(&l, 3000);
    lessons_open(&l, dir);
    assert_int_equal(lessons_get(&l, home).cut_ms, 18000);
    lessons_set(&l, "", &cut, 4000); // no network
    assert_int_equal(l.count, 1);
    lessons_close(&l, 5000);
    temp_drop(dir);
}

static struct lessons_way way_to(const char *relay, const char *route, uint16_t mss)
{
    struct lessons_way way = {.mss = mss};
    snprintf(way.relay, sizeof(way.relay), "%s", relay);
    snprintf(way.route, sizeof(way.route), "%s", route);
    return way;
}

static void test_ways(void **state)
{
    char dir[64], name[16];
    temp_make(dir);
    struct lessons l;
    struct lessons_way way = way_to("a:443", "via p:3128", 1200), known;
    struct liveness_lesson cut = {.cut_ms = 20000};
    lessons_open(&l, dir);
    assert_false(lessons_way(&l, home, "a:443", &known));
    lessons_set_way(&l, home, &way, 1);
    lessons_set(&l, home, &cut, 2); // neither makes the other forgotten
    lessons_close(&l, 3);
    lessons_open(&l, dir);
    assert_true(lessons_way(&l, home, "a:443", &known));
    assert_string_equal(known.route, "via p:3128");
    assert_int_equal(known.mss, 1200);
    assert_int_equal(lessons_get(&l, home).cut_ms, 20000);
    assert_false(lessons_way(&l, "fedcba9876543210", "a:443", &known)); // another network
    lessons_forget_way(&l, home, "a:443", 4);
    assert_false(lessons_way(&l, home, "a:443", &known));
    for (unsigned i = 0; i < LESSONS_WAYS + 2; i++) {
        snprintf(name, sizeof(name), "r%u:443", i);
        way = way_to(name, "direct", (uint16_t)(1200 + i));
        lessons_set_way(&l, home, &way, 5);
    }
    lessons_close(&l, 6);
    lessons_open(&l, dir);
    assert_false(lessons_way(&l, home, "r1:443", &known)); // the oldest are gone
    assert_true(lessons_way(&l, home, "r2:443", &known) && known.mss == 1202);
    assert_true(lessons_way(&l, home, "r5:443", &known) && known.mss == 1205);
    assert_false(lessons_way(&l, home, "", &known));
    lessons_close(&l, 7);
    temp_drop(dir);
}

static void test_bounded(void **state)
{
    char dir[64], key[17];
    temp_make(dir);
    struct lessons l;
    struct liveness_lesson cut = {.strikes = 1};
    lessons_open(&l, dir);
    for (unsigned i = 0; i < LESSONS_MAX + 5; i++) {
        snprintf(key, sizeof(key), "%016x", i);
        cut.cut_ms = 10000 + i;
        lessons_set(&l, key, &cut, 1);
    }
    assert_int_equal(l.count, LESSONS_MAX);
    assert_int_equal(lessons_get(&l, "0000000000000000").cut_ms, 0); // the oldest are gone
    assert_int_equal(lessons_get(&l, key).cut_ms, 10000 + LESSONS_MAX + 4);
    lessons_close(&l, 2);
    temp_drop(dir);
}

static void test_nonsense(void **state)
{
    static const char *const texts[] = {
        "", "[", "[1]", "{\"x\":3}", "{\"0123456789abcdef\":{\"cut_ms\":-1}}", "{\"0123456789abcdef\":{\"cut_ms\":99999999}}",
        "{\"0123456789abcdef\":{\"cut_ms\":-1,\"ways\":{\"a\":3}}}", "{\"../../etc/passwd\":{\"cut_ms\":10000}}",
    };
    char dir[64], path[128];
    temp_make(dir);
    snprintf(path, sizeof(path), "%s/%s", dir, LESSONS_FILE);
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct lessons l;
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fputs(texts[i], f);
        fclose(f);
        lessons_open(&l, dir);
        assert_int_equal(l.count, 0);
        lessons_close(&l, 1);
    }
    temp_drop(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kept), cmocka_unit_test(test_ways), cmocka_unit_test(test_bounded),
                                       cmocka_unit_test(test_nonsense)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
