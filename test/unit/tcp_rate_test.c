// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "link/tcp_rate.h"

#define TURN_US 2000

// A path that takes `rate` bytes a second, for so many ms, and of `every` times finds the kernel nearly dry once (0: never).
static void slow_path(struct tcp_rate *r, uint64_t *now_us, uint64_t rate, unsigned ms, unsigned every)
{
    for (unsigned turn = 0; turn < ms * 1000 / TURN_US; turn++) {
        *now_us += TURN_US;
        if (r->waits)
            tcp_rate_asked(r, every && turn % every == 0 ? 0 : tcp_rate_unsent(r) / 2);
        tcp_rate_begin(r, *now_us);
        tcp_rate_wrote(r, rate * TURN_US / 1000000, true);
    }
}

// A source that gives `bytes` each turn, all of which the kernel takes.
static void willing_path(struct tcp_rate *r, uint64_t *now_us, size_t bytes, unsigned turns, unsigned turn_us)
{
    while (turns--) {
        *now_us += turn_us;
        tcp_rate_begin(r, *now_us);
        tcp_rate_wrote(r, bytes, false);
    }
}

static bool near(size_t got, uint64_t want) { return got >= want - want / 16 && got <= want + want / 16; }

static void what_never_waits_is_not_bounded_by_time(void **state)
{
    struct tcp_rate r;
    uint64_t now_us = 1000000;
    tcp_rate_init(&r);
    assert_int_equal(tcp_rate_queue(&r), TCP_QUEUE_MAX);
    willing_path(&r, &now_us, 100, 1000, 1000);
    assert_int_equal(tcp_rate_queue(&r), TCP_QUEUE_MAX);
    assert_int_equal(tcp_rate_unsent(&r), TCP_UNSENT_MAX);
    assert_false(tcp_rate_is_slow(&r));
}

static void a_slow_path_holds_the_shortest_time(void **state)
{
    static const uint64_t rates[] = {100000, 1250000, 12500000, 25000000, 125000000, 150000000, 1000000000};
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        struct tcp_rate r;
        uint64_t now_us = 1000000, unsent = rates[i] / 1000 * TCP_BEHIND_US_MIN / 1000, queue = unsent / 4;
        tcp_rate_init(&r);
        slow_path(&r, &now_us, rates[i], 10000, 0);
        bool slow = queue < TCP_QUEUE_MAX / 2;
        assert_true(near(tcp_rate_unsent(&r), unsent > TCP_UNSENT_MAX ? TCP_UNSENT_MAX : unsent < TCP_BEHIND_MIN ? TCP_BEHIND_MIN : unsent));
        assert_true(near(tcp_rate_queue(&r), !slow ? TCP_QUEUE_MAX : queue < TCP_BEHIND_MIN ? TCP_BEHIND_MIN : queue));
        assert_true(tcp_rate_is_slow(&r) == slow);
    }
}

static void a_kernel_that_runs_dry_gets_more(void **state)
{
    struct tcp_rate r;
    uint64_t now_us = 1000000;
    tcp_rate_init(&r);
    slow_path(&r, &now_us, 12500000, 10000, 0);
    assert_int_equal(r.behind_us, TCP_BEHIND_US_MIN);
    slow_path(&r, &now_us, 12500000, 2000, 20); // one late turn says nothing
    assert_int_equal(r.behind_us, TCP_BEHIND_US_MIN);
    slow_path(&r, &now_us, 12500000, 2000, 4);
    assert_int_equal(r.behind_us, TCP_BEHIND_US_MAX);
    assert_int_equal(tcp_rate_queue(&r), TCP_QUEUE_MAX);
    slow_path(&r, &now_us, 12500000, 10000, 0);
    assert_int_equal(r.behind_us, TCP_BEHIND_US_MIN);
}

static void the_rate_follows_the_path(void **state)
{
    struct tcp_rate r;
    uint64_t now_us = 1000000;
    tcp_rate_init(&r);
    slow_path(&r, &now_us, 1250000, 1000, 0);
    assert_true(near(r.bytes_s, 1250000));
    slow_path(&r, &now_us, 12500000, 1000, 0);
    assert_true(near(r.bytes_s, 12500000));
    willing_path(&r, &now_us, 100, 1000, 1000); // a source that has little shows nothing of the path
    assert_true(near(r.bytes_s, 12500000));
    willing_path(&r, &now_us, 1000000, 1000, 1000); // a path that takes more does
    assert_true(near(r.bytes_s, 1000000000));
    slow_path(&r, &now_us, 1250000, 1000, 0);
    assert_true(near(r.bytes_s, 1250000));
}

static void a_pause_of_the_source_is_not_measured(void **state)
{
    struct tcp_rate r;
    uint64_t now_us = 1000000;
    tcp_rate_init(&r);
    slow_path(&r, &now_us, 12500000, 1000, 0);
    for (int i = 0; i < 20; i++) {
        slow_path(&r, &now_us, 12500000, 40, 0);
        willing_path(&r, &now_us, 0, 1, TURN_US); // it asks for more, and there is nothing
        now_us += 500000;
    }
    assert_true(near(r.bytes_s, 12500000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_never_waits_is_not_bounded_by_time), cmocka_unit_test(a_slow_path_holds_the_shortest_time),
        cmocka_unit_test(a_kernel_that_runs_dry_gets_more),        cmocka_unit_test(the_rate_follows_the_path),
        cmocka_unit_test(a_pause_of_the_source_is_not_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
