// SPDX-License-Identifier: Apache-2.0
// PAC answers, the URLs of scripts, and the lines of the helper process.
#include "unit.h"
#include <stdio.h>
#include <stdlib.h>
#include "wire/found.h"

static const char *shown(const struct proxy_url *of, size_t count)
{
    static char text[4096];
    char one[URL_PAC_MAX + 8];
    text[0] = 0;
    for (size_t i = 0; i < count; i++) {
        strcat(text, i ? " " : "");
        strcat(text, proxy_url_text(&of[i], one));
    }
    return text;
}

static const char *answer(const char *text)
{
    static struct proxy_url of[PAC_ENTRIES];
    return shown(of, pac_answer_parse(of, PAC_ENTRIES, text));
}

static void test_answers(void **state)
{
    static const char *const cases[][2] = {
        {"DIRECT", "none"},
        {"PROXY a:3128", "http://a:3128"},
        {"PROXY a:3128; SOCKS5 b:1080;DIRECT", "http://a:3128 socks5h://b:1080 none"},
        {" ; proxy\ta:1 ;; https b:2;HTTP c:3 ; ", "http://a:1 https://b:2 http://c:3"},
        {"SOCKS b:1080", "socks5h://b:1080 socks4a://b:1080"},
        {"SOCKS4 b:1; SOCKS4A c:2", "socks4a://b:1 socks4a://c:2"},
        {"PROXY [2001:db8::1]:8080", "http://[2001:db8::1]:8080"},
        {"PROXY a", "http://a:80"},
        {"PROXY a:1; PROXY A:1; DIRECT; DIRECT", "http://a:1 none"},
        {"QUIC a:1; DIRECT", "none"},
        {"PROXY; DIRECT", "none"},
        {"PROXY a:1 b:2; DIRECT", "none"},
        {"PROXY a:99999; PROXY a/x:1; PROXY \x1b[31m:1; DIRECT", "none"},
        {"", ""},
        {"undefined", ""},
        {";;;", ""},
        {"PROXYa:1", ""},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        if (strcmp(answer(cases[i][0]), cases[i][1]))
            fail_msg("\"%s\" gives \"%s\" instead of \"%s\"", cases[i][0], answer(cases[i][0]), cases[i][1]);
}

static void test_no_more_than_fits(void **state)
{
    char text[4096] = "";
    struct proxy_url of[PAC_ENTRIES + 1];
    for (int i = 0; i < 100; i++)
        sprintf(text + strlen(text), "PROXY p%d:1;", i);
    assert_int_equal(pac_answer_parse(of, PAC_ENTRIES, text), PAC_ENTRIES);
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = 0;
    assert_int_equal(pac_answer_parse(of, PAC_ENTRIES, text), 0);
    memcpy(text, "PROXY ", 6);
    assert_int_equal(pac_answer_parse(of, PAC_ENTRIES, text), 0);
}

static void test_urls(void **state)
{
    struct err e = ERR_INIT;
    struct pac_url u;
    assert_int_equal(pac_url_parse(&u, "http://wpad/wpad.dat", &e), 0);
    assert_true(u.kind == PAC_HTTP && u.port == 80 && !strcmp(u.host, "wpad") && !strcmp(u.path, "/wpad.dat"));
    assert_int_equal(pac_url_parse(&u, "https://[::1]:8443?a=b#c", &e), 0);
    assert_true(u.kind == PAC_HTTPS && u.port == 8443 && !strcmp(u.host, "::1") && !strcmp(u.path, "/?a=b"));
    assert_int_equal(pac_url_parse(&u, "file:///etc/my%20proxy.pac", &e), 0);
    assert_true(u.kind == PAC_FILE && !strcmp(u.path, "/etc/my proxy.pac"));
    assert_int_equal(pac_url_parse(&u, "file://localhost/x", &e), 0);
    assert_string_equal(u.path, "/x");
    static const char *const bad[] = {"ftp://a/b", "file://a/b", "file:x", "wpad", "http://", "http://a:0/", "http://u:p@a/", "http://a/ b",
                                      "http://a/\n", "file:///%zz", ""};
    for (size_t i = 0; i < COUNT(bad); i++) {
        if (pac_url_parse(&u, bad[i], &e) == 0)
            fail_msg("\"%s\" was taken", bad[i]);
        assert_int_equal(e.kind, ERR_USAGE);
        err_fini(&e);
    }
}

static void test_scripts(void **state)
{
    const char *why;
    assert_true(pac_is_script("function FindProxyForURL(u, h) {}", 33, &why));
    assert_false(pac_is_script("<html>", 6, &why));
    assert_non_null(strstr(why, "no PAC script"));
    assert_false(pac_is_script("FindProxyForURL\0", 16, &why));
    assert_false(pac_is_script("", 0, &why));
    char *large = calloc(1, PAC_SCRIPT_MAX + 1);
    memset(large, ' ', PAC_SCRIPT_MAX + 1);
    memcpy(large, "FindProxyForURL", 15);
    assert_true(pac_is_script(large, PAC_SCRIPT_MAX, &why));
    assert_false(pac_is_script(large, PAC_SCRIPT_MAX + 1, &why));
    free(large);
}

static struct found *found(const char *text)
{
    static struct found f;
    found_parse(&f, text, strlen(text));
    return &f;
}

static void test_lines(void **state)
{
    struct found *f = found("pac http://x/p.pac\nanswer PROXY a:1; HTTPS b:2\nend \n");
    assert_true(f->whole && f->count == 2);
    assert_string_equal(f->pac, "http://x/p.pac");
    assert_string_equal(shown(f->of, f->count), "http://a:1 https://b:2");
    f = found("use http://u:p%40w@a:1\nuse socks://b:1080\nuse direct://\nuse direct://\nuse nonsense\nuse ftp://x\nend\n");
    assert_true(f->whole);
    assert_string_equal(shown(f->of, f->count), "http://u:***@a:1 socks5h://b:1080 socks4a://b:1080 none");
    assert_string_equal(f->of[0].password, "p@w");
    f = found("note n\033[31m\nfail because\n");
    assert_false(f->whole);
    assert_string_equal(f->fail, "because");
    assert_string_equal(f->note, "n\\x1b[31m");
    f = found("end\nuse http://a:1\n"); // nothing counts behind the end
    assert_int_equal(f->count, 0);
    f = found("use http://a:1"); // nor without one
    assert_int_equal(f->count, 0);
    found_parse(f, "use http://a\0b:1\nend\n", 21);
    assert_true(f->whole && f->count == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers), cmocka_unit_test(test_no_more_than_fits), cmocka_unit_test(test_urls),
        cmocka_unit_test(test_scripts), cmocka_unit_test(test_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
