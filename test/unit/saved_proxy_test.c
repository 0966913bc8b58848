// SPDX-License-Identifier: Apache-2.0
// What conf_proxy keeps: forms, the file and its mode, and that a bad one changes nothing.
#include "unit.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "trust/file.h"
#include "trust/saved_proxy.h"

static char folder[64], file[96];

static int setup(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/culvert-saved-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(file, sizeof(file), "%s/%s", folder, SAVED_PROXY_FILE);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(file);
    rmdir(folder);
    return 0;
}

static void test_there_and_back(void **state)
{
    struct saved_proxy s = {0}, t = {0};
    struct err e = ERR_INIT;
    struct stat st;
    assert_int_equal(saved_proxy_read(&t, folder, &e), 0);
    assert_int_equal(t.count, 0);
    assert_int_equal(saved_proxy_parse(&s, "  https://me:p%40s%3As@a.test\n\n socks5h://[::1]:1 \r\n", "x", &e), 0);
    assert_int_equal(s.count, 2);
    assert_int_equal(saved_proxy_write(&s, folder, &e), 0);
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(saved_proxy_read(&t, folder, &e), 0);
    assert_int_equal(t.count, 2);
    assert_string_equal(t.of[0].password, "p@s:s");
    assert_string_equal(t.of[1].host, "::1");
    t.count = 0;
    assert_int_equal(saved_proxy_write(&t, folder, &e), 0);
    assert_int_equal(saved_proxy_write(&t, folder, &e), 0); // none is there any more
    assert_false(file_exists(file));
    assert_int_equal(saved_proxy_read(&s, folder, &e), 0);
    assert_int_equal(s.count, 0);
}

static void test_what_does_not_parse(void **state)
{
    static const char *const bad[] = {"http://a:99999", "gopher://a", "pac+ftp://a", "none\nhttp://a", "auto\nhttp://a",
                                      "pac+http://a\nhttp://b", "a\nb\nc\nd\ne"};
    struct saved_proxy s = {0};
    struct err e = ERR_INIT;
    assert_int_equal(saved_proxy_parse(&s, "http://kept:1", "x", &e), 0);
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_int_equal(saved_proxy_parse(&s, bad[i], "conf_proxy", &e), -1);
        assert_refused(&e, ERR_USAGE, "conf_proxy");
        assert_string_equal(s.of[0].host, "kept");
        assert_int_equal(s.count, 1);
    }
    assert_int_equal(saved_proxy_write(&s, folder, &e), 0);
    assert_int_equal(chmod(file, 0644), 0);
    assert_int_equal(saved_proxy_read(&s, folder, &e), -1); // others can read it
    assert_refused(&e, ERR_USAGE, file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_there_and_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_does_not_parse, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
