// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "dial/backoff.h"

static void test_steps(void **state)
{
    static const uint32_t steps[] = {100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000, 30000};
    struct backoff low = {0}, high = {0};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        assert_int_equal(backoff_next(&high, 0, 0), steps[i]);
        assert_int_equal(backoff_next(&low, UINT32_MAX, 0), steps[i] - steps[i] / 2 + 1);
    }
    backoff_reset(&high);
    assert_int_equal(backoff_next(&high, 0, 0), 100);
}

static void test_cap(void **state)
{
    struct backoff b = {0};
    for (int i = 0; i < 8; i++)
        assert_true(backoff_next(&b, 0, 1000) <= 1000);
    assert_int_equal(backoff_next(&b, 0, 1000), 1000);
    assert_int_equal(backoff_next(&b, 0x80000000, 1000), 750);
    assert_true(backoff_next(&b, 0, 0) > 1000); // the cap held the wait down, not the steps
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps), cmocka_unit_test(test_cap)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
