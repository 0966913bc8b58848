// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include "core/err.h"

static void set_prefix_move_copy(void **state)
{
    struct err e = ERR_INIT, f = ERR_INIT;
    assert_false(err_is(&e));
    assert_string_equal(err_text(&e), "no error");
    assert_int_equal(err_set(&e, ERR_UNREACHED, WHY_REFUSED, "proxy answered %d", 407), -1);
    err_prefix(&e, "CONNECT via %s", "proxy:3128");
    err_prefix(&e, "dial relay.example:443");
    assert_string_equal(err_text(&e), "dial relay.example:443: CONNECT via proxy:3128: proxy answered 407");
    assert_int_equal(e.kind, ERR_UNREACHED);
    assert_int_equal(e.why, WHY_REFUSED);
    err_copy(&f, &e);
    assert_ptr_not_equal(e.text, f.text);
    err_set(&e, ERR_FAILED, WHY_LOST, "again: %s", err_text(&e)); // its own text as an argument
    assert_string_equal(err_text(&e), "again: dial relay.example:443: CONNECT via proxy:3128: proxy answered 407");
    err_move(&f, &e);
    assert_false(err_is(&e));
    assert_int_equal(f.why, WHY_LOST);
    err_move(&f, &f);
    assert_true(err_is(&f));
    err_fini(&f);
    err_fini(&e);
}

static void the_text_is_bounded(void **state)
{
    char big[4000];
    struct err e = ERR_INIT;
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = 0;
    err_set(&e, ERR_FAILED, WHY_NONE, "%s", big);
    err_prefix(&e, "%s", big);
    assert_int_equal(strlen(err_text(&e)), ERR_TEXT_MAX - 1);
    err_fini(&e);
}

static void errno_becomes_kind_and_why(void **state)
{
    static const struct {
        int errnum;
        enum err_kind kind;
        enum err_why why;
    } cases[] = {
        {ECONNREFUSED, ERR_UNREACHED, WHY_REFUSED}, {EHOSTUNREACH, ERR_UNREACHED, WHY_UNREACHABLE},
        {ETIMEDOUT, ERR_UNREACHED, WHY_TIMEOUT},    {ECONNRESET, ERR_FAILED, WHY_ABORTED},
        {EMFILE, ERR_FAILED, WHY_LIMIT},            {EINVAL, ERR_FAILED, WHY_INTERNAL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct err e = ERR_INIT;
        assert_int_equal(err_errno(&e, cases[i].errnum, "connect to %s", "192.0.2.1:22"), -1);
        assert_int_equal(e.kind, cases[i].kind);
        assert_int_equal(e.why, cases[i].why);
        assert_memory_equal(err_text(&e), "connect to 192.0.2.1:22: ", 25);
        assert_non_null(strstr(err_text(&e), strerror(cases[i].errnum)));
        err_fini(&e);
    }
}

static void every_code_has_a_name(void **state)
{
    for (int i = WHY_NONE; i <= WHY_INTERNAL; i++)
        assert_string_not_equal(err_why_name((enum err_why)i), "unknown");
    assert_string_equal(err_why_name((enum err_why)99), "unknown");
    assert_string_equal(err_why_name((enum err_why)-1), "unknown");
    assert_string_equal(err_why_name(WHY_POLICY), "policy");
}

static void advice_stays_and_is_told_behind(void **state)
{
    struct err e = ERR_INIT, copy = ERR_INIT;
    char whole[ERR_WHOLE_MAX];
    err_set(&e, ERR_UNREACHED, WHY_REFUSED, "connect a:1: refused");
    assert_string_equal(err_whole(&e, whole, sizeof(whole)), "connect a:1: refused");
    assert_int_equal(err_advise(&e, ADVICE_CLOSED), -1);
    err_advise(&e, ADVICE_SILENT); // who is nearest to the failure knows best
    err_prefix(&e, "dial a:1");
    err_copy(&copy, &e);
    assert_int_equal(copy.advice, ADVICE_CLOSED);
    assert_non_null(strstr(err_whole(&copy, whole, sizeof(whole)), "refused; check that the relay runs"));
    err_set(&e, ERR_FAILED, WHY_NONE, "another");
    assert_int_equal(e.advice, ADVICE_NONE);
    err_fini(&e);
    err_fini(&copy);
}

static void every_advice_has_a_name_and_a_sentence(void **state)
{
    for (int i = ADVICE_NONE + 1; i < ADVICE_COUNT; i++) {
        assert_string_not_equal(advice_name((enum advice)i), "");
        assert_true(strlen(advice_text((enum advice)i)) < ERR_WHOLE_MAX - ERR_TEXT_MAX);
        assert_string_not_equal(advice_text((enum advice)i), "");
    }
    assert_string_equal(advice_name(ADVICE_NONE), "");
    assert_string_equal(advice_text(ADVICE_COUNT), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_prefix_move_copy),
        cmocka_unit_test(the_text_is_bounded),
        cmocka_unit_test(errno_becomes_kind_and_why),
        cmocka_unit_test(every_code_has_a_name),
        cmocka_unit_test(advice_stays_and_is_told_behind),
        cmocka_unit_test(every_advice_has_a_name_and_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
