// SPDX-License-Identifier: Apache-2.0
#include "unit.h"
#include "wire/rule.h"

static struct rule rule(enum rule_verb verb, const char *text)
{
    struct rule r;
    struct err e = ERR_INIT;
    if (rule_parse(&r, verb, text, &e) < 0)
        fail_msg("%s", err_text(&e));
    return r;
}

static struct addr at(const char *host, uint16_t port)
{
    struct addr a;
    if (!addr_parse_ip(&a, host, port))
        fail_msg("%s", host);
    return a;
}

static bool dials(const char *text, const char *name, const char *host, uint16_t port)
{
    struct rule r = rule(RULE_ALLOW, text);
    struct addr to = at(host, port);
    return rule_allows_dial(&r, name, &to, false, false);
}

static void classes(void **state)
{
    static const struct {
        const char *host;
        enum addr_class class;
    } cases[] = {
        {"8.8.8.8", ADDR_PUBLIC},      {"172.15.255.255", ADDR_PUBLIC},      {"172.32.0.0", ADDR_PUBLIC},
        {"128.0.0.1", ADDR_PUBLIC},    {"100.128.0.0", ADDR_PUBLIC},         {"2001:db8::1", ADDR_PUBLIC},
        {"10.0.0.1", ADDR_PRIVATE},    {"172.16.0.1", ADDR_PRIVATE},         {"172.31.255.255", ADDR_PRIVATE},
        {"192.168.1.1", ADDR_PRIVATE}, {"100.64.0.1", ADDR_PRIVATE},         {"100.127.255.255", ADDR_PRIVATE},
        {"198.19.0.1", ADDR_PRIVATE},  {"fd00:ec2::254", ADDR_PRIVATE},      {"fc00::1", ADDR_PRIVATE},
        {"fec0::1", ADDR_PRIVATE},     {"127.0.0.1", ADDR_LOOPBACK},         {"127.255.0.1", ADDR_LOOPBACK},
        {"::1", ADDR_LOOPBACK},        {"169.254.169.254", ADDR_LINK_LOCAL}, {"fe80::1", ADDR_LINK_LOCAL},
        {"febf::1", ADDR_LINK_LOCAL},  {"0.0.0.0", ADDR_UNSPECIFIED},        {"0.1.2.3", ADDR_UNSPECIFIED},
        {"::", ADDR_UNSPECIFIED},      {"224.0.0.1", ADDR_MULTICAST},        {"255.255.255.255", ADDR_MULTICAST},
        {"240.0.0.1", ADDR_MULTICAST}, {"ff02::1", ADDR_MULTICAST},          {"::ffff:8.8.8.8", ADDR_MAPPED},
        {"::127.0.0.1", ADDR_MAPPED},  {"::ffff:0:7f00:1", ADDR_MAPPED},     {"2002:7f00:1::", ADDR_6TO4},
        {"2001:0:1::", ADDR_6TO4},     {"64:ff9b::7f00:1", ADDR_NAT64},      {"64:ff9b:1::1", ADDR_NAT64},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct addr a = at(cases[i].host, 1);
        if (addr_class(&a) != cases[i].class)
            fail_msg("%s is taken for %s", cases[i].host, addr_class_name(addr_class(&a)));
    }
}

static void names_cover_public_addresses_only(void **state)
{
    static const char *const special[] = {
        "127.0.0.1", "::1",        "10.0.0.1",        "fd00::1",        "169.254.169.254",
        "0.0.0.0",   "::",         "::ffff:8.8.8.8",  "2002:808:808::", "64:ff9b::808:808",
        "224.0.0.1", "100.64.0.1", "::ffff:127.0.0.1"};
    assert_true(dials("db.example:5432", "db.example", "8.8.8.8", 5432));
    assert_true(dials("db.example:5432", "DB.Example.", "8.8.8.8", 5432));
    assert_true(dials("*.example:*", "a.b.example", "2001:db8::1", 1));
    assert_true(dials("*:443", NULL, "8.8.8.8", 443));
    assert_false(dials("db.example:5432", "db.example", "8.8.8.8", 5433));
    assert_false(dials("db.example:5432", "xdb.example", "8.8.8.8", 5432));
    assert_false(dials("db.example:5432", NULL, "8.8.8.8", 5432));
    assert_false(dials("*.example:*", "example", "8.8.8.8", 1));
    assert_false(dials("*.example:*", "badexample", "8.8.8.8", 1));
    for (size_t i = 0; i < COUNT(special); i++) {
        assert_false(dials("db.example:1", "db.example", special[i], 1));
        assert_false(dials("*.example:1", "db.example", special[i], 1));
        assert_false(dials("*:*", "db.example", special[i], 1));
        assert_false(dials("*:*", NULL, special[i], 1));
    }
}

static void wide_blocks_stop_before_special_ones(void **state)
{
    assert_true(dials("0.0.0.0/0:22", NULL, "8.8.8.8", 22));
    assert_true(dials("0.0.0.0/0:22", NULL, "10.0.0.1", 22));
    assert_true(dials("0.0.0.0/0:22", "any.example", "10.0.0.1", 22));
    assert_true(dials("[::/0]:22", NULL, "fd00::1", 22));
    static const char *const never4[] = {"127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255"};
    static const char *const never6[] = {"::1",           "fe80::1",         "::",         "ff02::1", "::ffff:10.0.0.1",
                                         "2002:7f00:1::", "64:ff9b::7f00:1", "::127.0.0.1"};
    for (size_t i = 0; i < COUNT(never4); i++) {
        assert_false(dials("0.0.0.0/0:22", NULL, never4[i], 22));
        assert_false(dials("0.0.0.0/1:22", NULL, never4[i], 22));
        assert_false(dials("128.0.0.0/1:22", NULL, never4[i], 22));
    }
    for (size_t i = 0; i < COUNT(never6); i++)
        assert_false(dials("[::/0]:22", NULL, never6[i], 22));
}

static void addresses_named_are_covered(void **state)
{
    assert_true(dials("127.0.0.1:22", NULL, "127.0.0.1", 22));
    assert_true(dials("127.0.0.1:22", "localhost", "127.0.0.1", 22));
    assert_false(dials("127.0.0.1:22", NULL, "127.0.0.2", 22));
    assert_true(dials("127.0.0.0/8:22", NULL, "127.0.0.2", 22));
    assert_true(dials("[::1]:22", NULL, "::1", 22));
    assert_true(dials("169.254.169.254:80", NULL, "169.254.169.254", 80));
    assert_true(dials("[fe80::/64]:22", NULL, "fe80::2", 22));
    assert_true(dials("[64:ff9b::7f00:1]:22", NULL, "64:ff9b::7f00:1", 22));
    assert_true(dials("[::ffff:0:0/96]:22", NULL, "::ffff:10.0.0.1", 22));
    assert_false(dials("10.0.0.0/8:22", NULL, "::ffff:10.0.0.1", 22));
    assert_true(dials("[fd00::]/8:22", NULL, "fd12::1", 22));
    assert_true(dials("10.0.0.0/8:80-90", NULL, "10.9.9.9", 80));
    assert_true(dials("10.0.0.0/8:80-90", NULL, "10.9.9.9", 90));
    assert_false(dials("10.0.0.0/8:80-90", NULL, "10.9.9.9", 91));
    assert_false(dials("10.0.0.0/8:80-90", NULL, "10.9.9.9", 79));
}

static void udp_and_tcp_are_apart(void **state)
{
    struct rule tcp = rule(RULE_ALLOW, "8.8.8.8:53"), udp = rule(RULE_ALLOW, "8.8.8.8:53/udp");
    struct addr to = at("8.8.8.8", 53);
    assert_true(rule_allows_dial(&tcp, NULL, &to, false, false));
    assert_false(rule_allows_dial(&tcp, NULL, &to, true, false));
    assert_true(rule_allows_dial(&udp, NULL, &to, true, false));
    assert_false(rule_allows_dial(&udp, NULL, &to, false, false));
}

static void own_listeners_must_be_named(void **state)
{
    struct addr to = at("198.51.100.1", 443);
    struct rule any = rule(RULE_ALLOW, "*:443"), name = rule(RULE_ALLOW, "relay.example:443"),
                ip = rule(RULE_ALLOW, "198.51.100.1:443");
    assert_true(rule_allows_dial(&any, NULL, &to, false, false));
    assert_false(rule_allows_dial(&any, NULL, &to, false, true));
    assert_false(rule_allows_dial(&name, "relay.example", &to, false, true));
    assert_true(rule_allows_dial(&ip, NULL, &to, false, true));
}

static bool listens(const char *text, const char *host, uint16_t port)
{
    struct rule r = rule(RULE_LISTEN, text);
    struct addr a = at(host, port);
    return rule_allows_listen(&r, &a, false);
}

static void listeners(void **state)
{
    assert_true(listens("8080", "127.0.0.1", 8080));
    assert_false(listens("8080", "0.0.0.0", 8080));
    assert_false(listens("8080", "127.0.0.1", 8081));
    assert_true(listens("8000-8099", "127.0.0.1", 8042));
    assert_false(listens("8000-8099", "127.0.0.1", 0));
    assert_true(listens("0", "127.0.0.1", 0));
    assert_false(listens("0", "127.0.0.1", 80));
    assert_true(listens("127.0.0.1:*", "127.0.0.1", 0));
    assert_true(listens("localhost:80", "::1", 80));
    assert_false(listens("localhost:80", "::", 80));
    assert_true(listens("*:80", "0.0.0.0", 80));
    assert_true(listens("*:80", "::", 80));
    assert_true(listens("*:80", "198.51.100.1", 80));
    assert_true(listens("198.51.100.1:80", "198.51.100.1", 80));
    assert_true(listens("0.0.0.0:80", "0.0.0.0", 80));
    assert_false(listens("0.0.0.0/0:80", "0.0.0.0", 80));
    struct rule udp = rule(RULE_LISTEN, "*:53/udp"), path = rule(RULE_LISTEN, "unix:/run/a");
    struct addr a = at("0.0.0.0", 53);
    assert_true(rule_allows_listen(&udp, &a, true));
    assert_false(rule_allows_listen(&udp, &a, false));
    assert_true(rule_allows_listen_unix(&path, "/run/a"));
    assert_false(rule_allows_listen_unix(&path, "/run/ab"));
    assert_false(rule_allows_unix(&path, "/run/a"));
    assert_false(rule_allows_dial(&udp, NULL, &a, true, false));
}

static void services_offers_and_paths(void **state)
{
    struct rule one = rule(RULE_ALLOW, "web@b"), all = rule(RULE_ALLOW, "*@b"), any = rule(RULE_ALLOW, "web@*");
    assert_true(rule_allows_service(&one, "web", "b"));
    assert_false(rule_allows_service(&one, "web", "c"));
    assert_false(rule_allows_service(&one, "ssh", "b"));
    assert_true(rule_allows_service(&all, "ssh", "b"));
    assert_true(rule_allows_service(&any, "web", "x"));
    struct rule offer = rule(RULE_OFFER, "web"), path = rule(RULE_ALLOW, "unix:/run/a%3Ab");
    assert_true(rule_allows_offer(&offer, "web"));
    assert_false(rule_allows_offer(&offer, "ssh"));
    assert_false(rule_allows_offer(&one, "web"));
    assert_false(rule_allows_service(&offer, "web", ""));
    assert_true(rule_allows_unix(&path, "/run/a:b"));
    assert_false(rule_allows_unix(&path, "/run/a"));
}

static void refused(void **state)
{
    static const struct {
        enum rule_verb verb;
        const char *text, *part;
    } bad[] = {
        {RULE_ALLOW, "", "empty"},
        {RULE_ALLOW, "host", "no ports"},
        {RULE_ALLOW, "host:", "missing"},
        {RULE_ALLOW, "host:0", "range"},
        {RULE_ALLOW, "host:90-80", "backwards"},
        {RULE_ALLOW, "host:1-70000", "range"},
        {RULE_ALLOW, "host:80/tcp", "no port"},
        {RULE_ALLOW, "localhost:80", "127.0.0.1"},
        {RULE_ALLOW, "a.localhost:80", "127.0.0.1"},
        {RULE_ALLOW, "fd00::/8:22", "brackets"},
        {RULE_ALLOW, "10.0.0.1/8:22", "host bits"},
        {RULE_ALLOW, "10.0.0.0/33:22", "block"},
        {RULE_ALLOW, "[fd00::/8:22", "no ports"},
        {RULE_ALLOW, "a*.example:1", "contain"},
        {RULE_ALLOW, "a b@c", "no name"},
        {RULE_ALLOW, "unix:x", "whole"},
        {RULE_LISTEN, "example.org:80", "address"},
        {RULE_LISTEN, "web@b", "no port"},
        {RULE_LISTEN, "x", "no port"},
        {RULE_OFFER, "a@b", "no name"},
        {RULE_OFFER, "", "empty"},
    };
    struct rule r;
    struct err e = ERR_INIT;
    for (size_t i = 0; i < COUNT(bad); i++) {
        if (rule_parse(&r, bad[i].verb, bad[i].text, &e) == 0)
            fail_msg("\"%s\" was taken", bad[i].text);
        assert_refused(&e, ERR_USAGE, bad[i].part);
    }
}

static void sameness(void **state)
{
    struct rule a = rule(RULE_ALLOW, "DB.example.:22"), b = rule(RULE_ALLOW, "db.example:22"),
                c = rule(RULE_ALLOW, "[::1]:22"), d = rule(RULE_ALLOW, "[::1/128]:22"),
                u = rule(RULE_ALLOW, "db.example:22/udp");
    assert_true(rule_same(&a, &b));
    assert_true(rule_same(&c, &d));
    assert_false(rule_same(&a, &c));
    assert_false(rule_same(&b, &u));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes),
        cmocka_unit_test(names_cover_public_addresses_only),
        cmocka_unit_test(wide_blocks_stop_before_special_ones),
        cmocka_unit_test(addresses_named_are_covered),
        cmocka_unit_test(udp_and_tcp_are_apart),
        cmocka_unit_test(own_listeners_must_be_named),
        cmocka_unit_test(listeners),
        cmocka_unit_test(services_offers_and_paths),
        cmocka_unit_test(refused),
        cmocka_unit_test(sameness),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
