// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include "check/report.h"
#include "check/show.h"
#include "unit.h"

static struct report *filled(void)
{
    struct report *r = report_new();
    struct err e = ERR_INIT;
    struct finding *a = report_add(r, "names", "name", "relay.example", 100);
    struct finding *b = report_add(r, "directly", "tls", "TLS", 100);
    struct finding *c = report_add(r, "names", "name", "other", 100); // behind the first of its group
    finding_end(a, CHECK_OK, ADVICE_NONE, 112, "%s", "192.0.2.1");
    err_set(&e, ERR_UNTRUSTED, WHY_POLICY, "not trusted");
    err_advise(&e, ADVICE_CA);
    finding_fail(b, &e, 130);
    finding_more(b, "verified", json_false());
    finding_end(c, CHECK_SKIPPED, ADVICE_NONE, 100, "not asked");
    err_fini(&e);
    snprintf(r->relay, sizeof(r->relay), "wss://relay.example/");
    snprintf(r->why, sizeof(r->why), "not trusted");
    r->status = ERR_UNTRUSTED;
    r->advice = ADVICE_CA;
    return r;
}

static void rows_of_a_group_stay_together(void **state)
{
    struct report *r = filled();
    static const char *const subjects[] = {"relay.example", "other", "TLS"};
    size_t i = 0;
    list_each(&r->findings, it) assert_string_equal(list_entry(it, struct finding, node)->subject, subjects[i++]);
    assert_int_equal(i, 3);
    report_free(r);
    report_free(NULL);
}

static void json_has_what_is_promised(void **state)
{
    struct report *r = filled();
    json_t *o = show_json(r), *probes = json_object_get(o, "probes"), *tls = json_array_get(probes, 2);
    assert_int_equal(json_integer_value(json_object_get(o, "exit")), 4);
    assert_true(json_is_null(json_object_get(o, "choice")));
    assert_string_equal(json_string_value(json_object_get(o, "advice")), "ca");
    assert_string_equal(json_string_value(json_object_get(tls, "result")), "refused");
    assert_string_equal(json_string_value(json_object_get(tls, "advice")), "ca");
    assert_int_equal(json_integer_value(json_object_get(tls, "ms")), 30);
    assert_true(json_is_false(json_object_get(tls, "verified")));
    assert_true(json_is_null(json_object_get(json_array_get(probes, 1), "ms")));
    json_decref(o);
    report_free(r);
}

static char *table(const struct report *r)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    show_table(out, r);
    fclose(out);
    return text;
}

static void the_table_suits_the_locale(void **state)
{
    struct report *r = filled();
    setenv("LC_ALL", "C", 1);
    char *plain = table(r);
    for (const char *p = plain; *p; p++)
        assert_true(*p == '\n' || (*p >= ' ' && *p < 0x7f));
    assert_non_null(strstr(plain, "NO TLS"));
    assert_non_null(strstr(plain, "-> if you know that CA"));
    setenv("LC_ALL", "de_DE.UTF-8", 1);
    char *pretty = table(r);
    assert_non_null(strstr(pretty, "✘ TLS"));
    assert_non_null(strstr(pretty, "✔ relay.example"));
    assert_null(strchr(pretty, '\x1b'));
    free(plain);
    free(pretty);
    report_free(r);
}

// What the text says already is for machines only.
static void no_advice_is_told_twice(void **state)
{
    struct report *r = filled();
    struct err e = ERR_INIT;
    err_set(&e, ERR_UNREACHED, WHY_POLICY, "wants a login: give one");
    err_advised(&e, ADVICE_PROXY_LOGIN);
    finding_fail(report_add(r, "proxy", "proxy", "answer", 0), &e, 1);
    char *text = table(r);
    assert_null(strstr(text, advice_text(ADVICE_PROXY_LOGIN)));
    free(text);
    err_fini(&e);
    report_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_a_group_stay_together),
        cmocka_unit_test(json_has_what_is_promised),
        cmocka_unit_test(the_table_suits_the_locale),
        cmocka_unit_test(no_advice_is_told_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
