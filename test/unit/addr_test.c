// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "core/addr.h"

static void literals_and_their_texts(void **state)
{
    static const struct {
        const char *in, *text, *host;
    } good[] = {
        {"192.0.2.1", "192.0.2.1:22", "192.0.2.1"},
        {"2001:DB8::1", "[2001:db8::1]:22", "2001:db8::1"},
        {"[2001:db8::1]", "[2001:db8::1]:22", "2001:db8::1"},
        {"::", "[::]:22", "::"},
        {"fe80::1%3", "[fe80::1%3]:22", "fe80::1%3"},
        {"fe80::1%lo", "[fe80::1%1]:22", "fe80::1%1"},
    };
    static const char *const bad[] = {"", "[]", "localhost", "192.0.2", "192.0.2.256", "192.0.2.1.", "[192.0.2.1]",
                                      "[::1", "::1]", "0x7f.1", "fe80::1%", "fe80::1%nosuchlink", "1::2::3", " ::1"};
    char out[ADDR_TEXT_MAX];
    struct addr a;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(addr_parse_ip(&a, good[i].in, 22));
        assert_string_equal(addr_text(&a, out), good[i].text);
        assert_string_equal(addr_host(&a, out), good[i].host);
        assert_int_equal(addr_port(&a), 22);
        addr_set_port(&a, 65535);
        assert_int_equal(addr_port(&a), 65535);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(addr_parse_ip(&a, bad[i], 22));
}

static void unix_paths(void **state)
{
    char path[120], out[ADDR_TEXT_MAX];
    struct addr a, b;
    assert_true(addr_unix(&a, "/run/x"));
    assert_string_equal(addr_text(&a, out), "unix:/run/x");
    assert_string_equal(addr_host(&a, out), "unix:/run/x");
    assert_true(addr_is_loopback(&a));
    assert_int_equal(addr_port(&a), 0);
    memset(path, 'p', sizeof(path));
    path[107] = 0;
    assert_true(addr_unix(&b, path));
    assert_int_equal(strlen(addr_text(&b, out)), 5 + 107);
    assert_false(addr_equal(&a, &b));
    memset(path, 'p', sizeof(path));
    path[108] = 0;
    assert_false(addr_unix(&b, path));
    assert_false(addr_unix(&b, ""));
    struct sockaddr_un abstract = {.sun_family = AF_UNIX, .sun_path = "\0name\n"};
    assert_true(addr_from(&b, (struct sockaddr *)&abstract, offsetof(struct sockaddr_un, sun_path) + 6));
    assert_string_equal(addr_text(&b, out), "unix:@name?");
    assert_true(addr_from(&b, (struct sockaddr *)&abstract, sizeof(sa_family_t)));
    assert_string_equal(addr_text(&b, out), "unix:");
    assert_false(addr_from(&b, (struct sockaddr *)&abstract, 0));
    assert_string_equal(addr_text(&b, out), "none");
}

static void equality_and_loopback(void **state)
{
    struct addr a, b, c;
    addr_parse_ip(&a, "127.0.0.1", 1);
    addr_parse_ip(&b, "127.0.0.1", 2);
    addr_parse_ip(&c, "::ffff:127.0.0.1", 1);
    assert_true(addr_equal_host(&a, &b));
    assert_false(addr_equal(&a, &b));
    assert_false(addr_equal_host(&a, &c));
    assert_true(addr_is_loopback(&a) && addr_is_loopback(&c));
    addr_unmap(&c);
    assert_true(addr_equal(&a, &c));
    addr_unmap(&c);
    assert_true(addr_equal(&a, &c));
    static const char *const not_loopback[] = {"128.0.0.1", "126.255.255.255", "0.0.0.0", "::", "::2", "::ffff:10.0.0.1"};
    for (size_t i = 0; i < sizeof(not_loopback) / sizeof(not_loopback[0]); i++) {
        addr_parse_ip(&a, not_loopback[i], 0);
        assert_false(addr_is_loopback(&a));
    }
    struct addr none = {0};
    assert_false(addr_equal(&a, &none));
    assert_false(addr_is_loopback(&none));
}

static void cidr_blocks(void **state)
{
    static const struct {
        const char *block, *addr;
        bool in;
    } cases[] = {
        {"10.0.0.0/8", "10.255.0.1", true},      {"10.0.0.0/8", "11.0.0.0", false},
        {"0.0.0.0/0", "203.0.113.9", true},      {"0.0.0.0/0", "::1", false},
        {"192.0.2.1", "192.0.2.1", true},        {"192.0.2.1", "192.0.2.2", false},
        {"192.0.2.128/25", "192.0.2.128", true}, {"192.0.2.128/25", "192.0.2.127", false},
        {"fd00::/8", "fdff::1", true},           {"[fd00::]/8", "fdff::1", true},
        {"[fd00::/8]", "fe00::1", false},        {"::/0", "2001:db8::1", true},
        {"2001:db8::1", "2001:db8::1", true},    {"[2001:db8::1]", "2001:db8::2", false},
        {"2001:db8::/33", "2001:db8:7fff::1", true}, {"2001:db8::/33", "2001:db8:8000::1", false},
        {"10.0.0.0/8", "::ffff:10.0.0.1", false},
    };
    static const char *const bad[] = {"", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/08", "10.0.0.0/-1",
                                      "10.0.0.0/8x", "fd00::/129", "fd00::1/64", "[fd00::/8", "fd00::]/8", "[[fd00::]/8]x",
                                      "[10.0.0.0]/8", "10.0.0.0/8/8", "fe80::1%1/64", "name/8", "[", "]", "[]", "[]/0"};
    struct cidr c;
    struct addr a;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_true(cidr_parse(&c, cases[i].block));
        assert_true(addr_parse_ip(&a, cases[i].addr, 0));
        assert_int_equal(cidr_has(&c, &a), cases[i].in);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (cidr_parse(&c, bad[i]))
            fail_msg("%s was taken", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(literals_and_their_texts),
        cmocka_unit_test(unix_paths),
        cmocka_unit_test(equality_and_loopback),
        cmocka_unit_test(cidr_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
