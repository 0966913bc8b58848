// SPDX-License-Identifier: Apache-2.0
#include "unit.h"
#include <stdio.h>
#include "wire/spec.h"

static void addresses(void **state)
{
    static const struct {
        const char *text, *bare, *same;
    } good[] = {
        {"8080", SPEC_LOOPBACK, "127.0.0.1:8080"},     {"443", "*", "*:443"},
        {"0", SPEC_LOOPBACK, "127.0.0.1:0"},           {"*:443", SPEC_LOOPBACK, "*:443"},
        {"localhost:1", "*", "localhost:1"},           {"[::1]:65535", "*", "[::1]:65535"},
        {"[fe80::1%eth0]:1", "*", "[fe80::1%eth0]:1"}, {"unix:/run/a", "*", "unix:/run/a"},
        {"unix:/a%3ab%25", "*", "unix:/a%3Ab%25"},
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        struct spec_addr a, again;
        struct err e = ERR_INIT;
        char text[SPEC_TEXT_MAX];
        if (spec_addr_parse(&a, good[i].text, good[i].bare, &e) < 0)
            fail_msg("%s", err_text(&e));
        assert_string_equal(spec_addr_text(&a, text), good[i].same);
        assert_int_equal(spec_addr_parse(&again, text, good[i].bare, &e), 0);
        assert_memory_equal(&a, &again, sizeof a);
    }
}

static void addresses_refused(void **state)
{
    static const char *const bad[][2] = {
        {"", "missing"},           {":80", "*"},           {"80a", "no port"},     {"host", "no port"},
        {"70000", "out of range"}, {"host:", "missing"},   {"::1:80", "*"},        {"host:70000", "out of range"},
        {"a:80:b", "too much"},    {"unix:run", "whole"},  {"unix:", "whole"},     {"unix:/a:b", "too much"},
        {"unix:/a\nb", "control"},
        {"[::1:80", "no IPv6"},    {"a b:80", "contain"},  {"[::g]:1", "no IPv6"}, {"h:99999999999999999999", "range"},
        {"\xc3\xa4:80", "xn--"},   {"a..b:80", "1 to 63"}, {"[]:1", "no IPv6"},
    };
    struct spec_addr a;
    struct err e = ERR_INIT;
    char path[SPEC_PATH_MAX + 8];
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_int_equal(spec_addr_parse(&a, bad[i][0], SPEC_LOOPBACK, &e), -1);
        assert_refused(&e, ERR_USAGE, bad[i][1]);
    }
    snprintf(path, sizeof path, "unix:/%0*d", SPEC_PATH_MAX - 1, 0);
    assert_int_equal(spec_addr_parse(&a, path, "*", &e), 0);
    assert_int_equal(strlen(a.path), SPEC_PATH_MAX);
    snprintf(path, sizeof path, "unix:/%0*d", SPEC_PATH_MAX, 0);
    assert_int_equal(spec_addr_parse(&a, path, "*", &e), -1);
    assert_refused(&e, ERR_USAGE, "107");
}

static void destinations(void **state)
{
    static const char *const good[] = {"localhost:80", "192.0.2.1:22", "[2001:db8::1]:22", "unix:/run/x%3Ay",
                                       "web@site7"};
    struct spec_dest d;
    struct err e = ERR_INIT;
    char text[SPEC_TEXT_MAX];
    bool udp;
    for (size_t i = 0; i < COUNT(good); i++) {
        assert_int_equal(spec_dest_parse(&d, good[i], &e), 0);
        assert_string_equal(spec_dest_text(&d, text), good[i]);
    }
    assert_int_equal(spec_dest_udp_parse(&d, &udp, "[::1]:53/udp", &e), 0);
    assert_true(udp && d.port == 53);
    assert_int_equal(spec_dest_udp_parse(&d, &udp, "dns@b/udp", &e), 0);
    assert_true(udp && d.kind == SPEC_SERVICE);
    assert_int_equal(spec_dest_udp_parse(&d, &udp, "unix:/run/udp", &e), 0);
    assert_false(udp);
    assert_string_equal(d.path, "/run/udp");

    static const char *const bad[][2] = {
        {"", "missing"},      {"host", "no port"},  {"host:0", "range"},    {"*:80", "contain"},
        {"::1:80", "colons"}, {":80", "missing"},   {"u@h:22", "service"},  {"@b", "no name"},
        {"a@", "no name"},    {"a@b@c", "no name"}, {"a:b", "no port"},     {"-a@b", "no name"},
        {"unix:x", "whole"},  {"a b@c", "no name"}, {"host:+1", "no port"}, {"unix:/a:b", "%3A"},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_int_equal(spec_dest_parse(&d, bad[i][0], &e), -1);
        assert_refused(&e, ERR_USAGE, bad[i][1]);
    }
}

static void forwards(void **state)
{
    static const struct {
        const char *text, *listen, *dest;
        bool udp;
    } good[] = {
        {"8080:localhost:80", "127.0.0.1:8080", "localhost:80", false},
        {"127.0.0.1:8080:localhost:80", "127.0.0.1:8080", "localhost:80", false},
        {"*:5353:[2001:db8::1]:53/udp", "*:5353", "[2001:db8::1]:53", true},
        {"[::1]:1:[::1]:2", "[::1]:1", "[::1]:2", false},
        {"unix:/a:unix:/b", "unix:/a", "unix:/b", false},
        {"unix:/a%3A:h:1", "unix:/a%3A", "h:1", false},
        {"0:unix:/b/udp", "127.0.0.1:0", "unix:/b/udp", false},
        {"22:ssh@site7", "127.0.0.1:22", "ssh@site7", false},
        {"53:dns@site7/udp", "127.0.0.1:53", "dns@site7", true},
    };
    struct spec_forward f;
    struct err e = ERR_INIT;
    char text[SPEC_TEXT_MAX];
    for (size_t i = 0; i < COUNT(good); i++) {
        if (spec_local_parse(&f, good[i].text, &e) < 0)
            fail_msg("%s", err_text(&e));
        assert_string_equal(spec_addr_text(&f.listen, text), good[i].listen);
        assert_string_equal(spec_dest_text(&f.dest, text), good[i].dest);
        assert_int_equal(f.udp, good[i].udp);
        assert_false(f.socks);
    }
    assert_int_equal(spec_reverse_parse(&f, "1080", &e), 0);
    assert_true(f.socks && f.listen.port == 1080);
    assert_int_equal(spec_reverse_parse(&f, "*:0:localhost:22", &e), 0);
    assert_false(f.socks);
    assert_int_equal(spec_socks_parse(&f, "[::]:1080", &e), 0);
    assert_true(f.socks);
}

static void forwards_refused(void **state)
{
    static const struct {
        int (*parse)(struct spec_forward *f, const char *text, struct err *e);
        const char *text, *part;
    } bad[] = {
        {spec_local_parse, "8080", "ADDR:DEST"},
        {spec_local_parse, "8080:", "missing"},
        {spec_local_parse, "8080:80", "no port"},
        {spec_local_parse, "unix:/a:h:53/udp", "streams only"},
        {spec_local_parse, ":8080:h:1", "*"},
        {spec_local_parse, "::1:8080:h:1", "brackets"},
        {spec_reverse_parse, "22:ssh@b", "comes out here"},
        {spec_reverse_parse, "8080/udp", "contain"},
        {spec_socks_parse, "8080:h:1", "too much"},
        {spec_socks_parse, "x", "-D"},
    };
    struct spec_forward f;
    struct err e = ERR_INIT;
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_int_equal(bad[i].parse(&f, bad[i].text, &e), -1);
        assert_refused(&e, ERR_USAGE, bad[i].part);
    }
}

static void offers(void **state)
{
    struct spec_offer o;
    struct err e = ERR_INIT;
    assert_int_equal(spec_offer_parse(&o, "web=localhost:80", &e), 0);
    assert_string_equal(o.name, "web");
    assert_false(o.udp);
    assert_int_equal(spec_offer_parse(&o, "dns=127.0.0.1:53/udp", &e), 0);
    assert_true(o.udp);
    assert_int_equal(spec_offer_parse(&o, "web", &e), -1);
    assert_refused(&e, ERR_USAGE, "NAME=DEST");
    assert_int_equal(spec_offer_parse(&o, "we b=h:1", &e), -1);
    assert_refused(&e, ERR_USAGE, "no name");
    assert_int_equal(spec_offer_parse(&o, "web=a@b", &e), -1);
    assert_refused(&e, ERR_USAGE, "this agent");
}

static void names(void **state)
{
    char longest[66];
    memset(longest, 'a', sizeof longest);
    longest[64] = 0;
    assert_false(spec_is_name(longest));
    longest[63] = 0;
    assert_true(spec_is_name(longest));
    assert_true(spec_is_name("site-7.example_x"));
    assert_false(spec_is_name(""));
    assert_false(spec_is_name("*"));
    assert_false(spec_is_name(".a"));
}

static void listen_rules_of_explain(void **state)
{
    struct spec_addr a;
    struct err e = ERR_INIT;
    bool udp;
    assert_int_equal(spec_addr_udp_parse(&a, &udp, "*:53/udp", SPEC_LOOPBACK, &e), 0);
    assert_true(udp);
    assert_int_equal(spec_addr_udp_parse(&a, &udp, "unix:/x/udp", SPEC_LOOPBACK, &e), 0);
    assert_false(udp);
    assert_string_equal(a.path, "/x/udp");
    assert_int_equal(spec_addr_udp_parse(&a, &udp, "1:2:3", SPEC_LOOPBACK, &e), -1);
    assert_refused(&e, ERR_USAGE, "too much");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses), cmocka_unit_test(addresses_refused),       cmocka_unit_test(destinations),
        cmocka_unit_test(forwards),  cmocka_unit_test(forwards_refused),        cmocka_unit_test(offers),
        cmocka_unit_test(names),     cmocka_unit_test(listen_rules_of_explain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
