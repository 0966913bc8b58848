// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "core/log.h"

static char captured[65536];

static int start_capture(int fds[2])
{
    assert_int_equal(pipe(fds), 0);
    int saved = dup(STDERR_FILENO);
    dup2(fds[1], STDERR_FILENO);
    close(fds[1]);
    return saved;
}

static void end_capture(int fds[2], int saved)
{
    dup2(saved, STDERR_FILENO);
    close(saved);
    size_t n = 0;
    for (ssize_t got; (got = read(fds[0], captured + n, sizeof(captured) - 1 - n)) > 0;)
        n += (size_t)got;
    captured[n] = 0;
    close(fds[0]);
}

static void emit(enum log_format format, const char *value)
{
    int fds[2], saved = start_capture(fds);
    log_setup(LOG_INFO, format);
    log_event(LOG_DEBUG, "not shown", LS("x", "y"));
    log_event(LOG_WARN, "agent joined", LS("agent", value), LN("port", -443), LS("none", NULL));
    end_capture(fds, saved);
}

static void text_is_one_line_of_keys(void **state)
{
    emit(LOG_TEXT, "site 7\n\x1b[31m\"");
    assert_ptr_equal(strchr(captured, '\n'), captured + strlen(captured) - 1);
    assert_non_null(strstr(captured, "Z warn  agent joined agent=\"site 7\\x0a\\x1b[31m\\\"\" port=-443 none=\"\"\n"));
    assert_null(strstr(captured, "not shown"));
    emit(LOG_TEXT, "site7");
    assert_non_null(strstr(captured, " agent=site7 "));
}

static void journal_has_a_priority_and_no_time(void **state)
{
    emit(LOG_JOURNAL, "site7");
    assert_string_equal(captured, "<4>agent joined agent=site7 port=-443 none=\"\"\n");
}

static void json_parses_whatever_comes(void **state)
{
    char all[256];
    for (int i = 1; i < 256; i++)
        all[i - 1] = (char)i;
    all[255] = 0;
    emit(LOG_JSON, all);
    json_t *o = json_loads(captured, 0, NULL);
    assert_non_null(o);
    assert_string_equal(json_string_value(json_object_get(o, "message")), "agent joined");
    assert_string_equal(json_string_value(json_object_get(o, "level")), "warn");
    assert_int_equal(json_integer_value(json_object_get(o, "port")), -443);
    const char *agent = json_string_value(json_object_get(o, "agent"));
    assert_memory_equal(agent, "\\x01\\x02", 8);
    json_decref(o);
}

static void long_values_and_many_fields_stay_one_line(void **state)
{
    char *big = malloc(100000);
    memset(big, '"', 99999);
    big[99999] = 0;
    for (int format = LOG_TEXT; format <= LOG_JSON; format++) {
        int fds[2], saved = start_capture(fds);
        log_setup(LOG_INFO, (enum log_format)format);
        log_event(LOG_INFO, big, LS("a", big), LS("b", big), LS("c", big), LS("d", big), LS("e", big), LS("f", big),
                  LS("g", big), LS("h", big), LS("i", big), LS("j", big), LS("k", big), LS("l", big));
        end_capture(fds, saved);
        assert_ptr_equal(strchr(captured, '\n'), captured + strlen(captured) - 1);
        if (format == LOG_JSON) {
            json_t *o = json_loads(captured, 0, NULL);
            assert_non_null(o);
            assert_true(strlen(json_string_value(json_object_get(o, "a"))) < LOG_VALUE_MAX);
            json_decref(o);
        }
    }
    free(big);
}

static void escape_cuts_whole_escapes(void **state)
{
    char out[12];
    assert_string_equal(log_escape(out, sizeof(out), "ab\\\0", 4), "ab\\\\\\x00");
    assert_string_equal(log_escape(out, sizeof(out), "12345678901", 11), "12345678901");
    assert_string_equal(log_escape(out, sizeof(out), "123456789012", 12), "12345678…");
    assert_string_equal(log_escape(out, sizeof(out), "1234567\n\n\n", 10), "1234567…");
    assert_string_equal(log_escape(out, 1, "abc", 3), "");
    assert_string_equal(log_escape(out, 3, "abc", 3), "");
    assert_string_equal(log_escape(out, sizeof(out), "", 0), "");
}

static uint64_t second(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    return (uint64_t)ts.tv_sec;
}

static unsigned count(FILE *f, const char *text)
{
    char line[512];
    unsigned n = 0;
    rewind(f);
    while (fgets(line, sizeof(line), f))
        n += strstr(line, text) != NULL;
    return n;
}

static void a_flood_is_cut_and_counted(void **state)
{
    FILE *f = tmpfile();
    int saved = dup(STDERR_FILENO);
    unsigned sent = 0, told = 0, left = 0;
    dup2(fileno(f), STDERR_FILENO);
    log_setup(LOG_INFO, LOG_TEXT);
    uint64_t first = second();
    for (; sent < 20 * LOG_BURST; sent++)
        log_event(LOG_INFO, "refused again", LS("to", "nobody"));
    log_event(LOG_INFO, "something else");
    unsigned seconds = (unsigned)(second() - first) + 1;
    fflush(f);
    unsigned shown = count(f, "refused again to=nobody");
    while (second() == first + seconds - 1) // the next second's line tells
        ;
    log_event(LOG_INFO, "refused again", LS("to", "nobody"));
    dup2(saved, STDERR_FILENO);
    close(saved);
    assert_true(shown >= LOG_BURST && shown <= seconds * LOG_BURST);
    assert_int_equal(count(f, "something else"), 1);
    assert_int_equal(count(f, "refused again to=nobody"), shown + 1);
    char line[512];
    rewind(f);
    while (fgets(line, sizeof(line), f)) {
        const char *at = strstr(line, "lines left out message=\"refused again\" lines=");
        if (at && sscanf(strrchr(at, '=') + 1, "%u", &left) == 1)
            told += left;
    }
    assert_int_equal(told + shown, sent);
    fclose(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_one_line_of_keys),
        cmocka_unit_test(journal_has_a_priority_and_no_time),
        cmocka_unit_test(json_parses_whatever_comes),
        cmocka_unit_test(long_values_and_many_fields_stay_one_line),
        cmocka_unit_test(escape_cuts_whole_escapes),
        cmocka_unit_test(a_flood_is_cut_and_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
