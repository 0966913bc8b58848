// SPDX-License-Identifier: Apache-2.0
#include "unit.h"
#include "trust/policy.h"

static const uint8_t alice[PIN_SIZE] = {1}, bob[PIN_SIZE] = {2}, carol[PIN_SIZE] = {3};

static void grant(struct policy *p, const uint8_t pin[PIN_SIZE], enum rule_verb verb, const char *text)
{
    struct rule r;
    struct err e = ERR_INIT;
    if (rule_parse(&r, verb, text, &e) < 0)
        fail_msg("%s", err_text(&e));
    assert_true(policy_add_rule(p, pin, &r));
}

static struct addr at(const char *host, uint16_t port)
{
    struct addr a;
    if (!addr_parse_ip(&a, host, port))
        fail_msg("%s", host);
    return a;
}

static struct policy *two(void)
{
    struct policy *p = policy_new();
    assert_true(policy_add(p, bob, "bob"));
    assert_true(policy_add(p, alice, "alice"));
    assert_false(policy_add(p, alice, "again"));
    grant(p, alice, RULE_ALLOW, "*.example:443");
    grant(p, alice, RULE_ALLOW, "10.0.0.0/8:22");
    grant(p, alice, RULE_ALLOW, "unix:/run/a");
    grant(p, alice, RULE_ALLOW, "web@bob");
    grant(p, alice, RULE_LISTEN, "8000-8099");
    grant(p, alice, RULE_LISTEN, "unix:/run/l");
    grant(p, alice, RULE_OFFER, "ssh");
    return p;
}

static void subjects(void **state)
{
    struct policy *p = two();
    uint8_t pin[PIN_SIZE];
    struct rule r = {0};
    assert_true(policy_knows(p, alice));
    assert_false(policy_knows(p, carol));
    assert_string_equal(policy_name(p, bob), "bob");
    assert_null(policy_name(p, carol));
    assert_true(policy_find(p, "alice", pin));
    assert_memory_equal(pin, alice, PIN_SIZE);
    assert_false(policy_find(p, "carol", pin));
    assert_false(policy_add_rule(p, carol, &r));
    for (size_t i = 0; i < POLICY_RULES_MAX; i++)
        assert_true(policy_add_rule(p, bob, &r));
    assert_false(policy_add_rule(p, bob, &r));
    policy_free(p);
    policy_free(NULL);
}

static void answers_tell_the_rule(void **state)
{
    struct policy *p = two();
    struct verdict v;
    struct addr web = at("198.51.100.7", 443), lan = at("10.1.2.3", 22), lan_web = at("10.1.2.3", 443);
    assert_true(policy_dial(p, alice, "www.example", &web, false, &v));
    assert_string_equal(v.text, "allowed: 198.51.100.7:443 for www.example by the rule allow *.example:443 of alice");
    assert_true(policy_dial(p, alice, "10.1.2.3", &lan, false, &v));
    assert_string_equal(v.text, "allowed: 10.1.2.3:22 by the rule allow 10.0.0.0/8:22 of alice");
    assert_false(policy_dial(p, alice, "www.example", &lan_web, false, &v));
    assert_non_null(strstr(v.text, "private address"));
    assert_false(policy_dial(p, alice, "www.example", &web, true, &v));
    assert_false(policy_dial(p, bob, "www.example", &web, false, &v));
    assert_string_equal(v.text, "denied: no rule of bob allows 198.51.100.7:443 for www.example");
    assert_false(policy_dial(p, carol, "www.example", &web, false, &v));
    assert_non_null(strstr(v.text, "unknown or revoked"));
    assert_true(policy_dial(p, alice, NULL, &lan, false, NULL));
    policy_free(p);
}

static void the_other_questions(void **state)
{
    struct policy *p = two();
    struct verdict v;
    struct addr good = at("127.0.0.1", 8042), wide = at("0.0.0.0", 8042), path;
    assert_true(policy_dial_unix(p, alice, "/run/a", &v));
    assert_false(policy_dial_unix(p, alice, "/run/l", &v));
    assert_false(policy_dial_unix(p, carol, "/run/a", &v));
    assert_true(policy_service(p, alice, "web", "bob", &v));
    assert_false(policy_service(p, alice, "web", "carol", &v));
    assert_false(policy_service(p, bob, "web", "bob", &v));
    assert_true(policy_listen(p, alice, &good, false, &v));
    assert_false(policy_listen(p, alice, &good, true, &v));
    assert_false(policy_listen(p, alice, &wide, false, &v));
    assert_false(policy_listen(p, bob, &good, false, &v));
    assert_true(policy_may_resolve_listen(p, alice, 8099, false));
    assert_false(policy_may_resolve_listen(p, alice, 8100, false));
    assert_false(policy_may_resolve_listen(p, alice, 8000, true));
    assert_false(policy_may_resolve_listen(p, bob, 8000, false));
    assert_true(policy_listen_unix(p, alice, "/run/l", &v));
    assert_false(policy_listen_unix(p, alice, "/run/a", &v));
    assert_true(policy_offer(p, alice, "ssh", &v));
    assert_false(policy_offer(p, alice, "web", &v));
    assert_false(policy_offer(p, carol, "ssh", NULL));
    assert_true(addr_unix(&path, "/run/a"));
    assert_true(policy_dial(p, alice, NULL, &path, false, &v));
    assert_true(addr_unix(&path, "/run/l"));
    assert_false(policy_dial(p, alice, NULL, &path, false, &v));
    assert_true(policy_listen(p, alice, &path, false, &v));
    policy_free(p);
}

static void own_listeners(void **state)
{
    struct policy *p = two();
    struct verdict v;
    struct addr own = at("198.51.100.7", 443), mapped = at("::ffff:198.51.100.7", 443), other = at("198.51.100.7", 444);
    assert_true(policy_dial(p, alice, "www.example", &own, false, &v));
    policy_add_own(p, &own);
    assert_false(policy_dial(p, alice, "www.example", &own, false, &v));
    assert_non_null(strstr(v.text, "a listener of this relay"));
    assert_false(policy_dial(p, alice, "www.example", &mapped, false, &v));
    assert_false(policy_dial(p, alice, "www.example", &other, false, &v)); // port 444 has no rule
    grant(p, alice, RULE_ALLOW, "198.51.100.7:443");
    assert_true(policy_dial(p, alice, "www.example", &own, false, &v));
    struct addr any = at("::", 443), loop = at("::1", 443);
    grant(p, alice, RULE_ALLOW, "*:443");
    policy_add_own(p, &any); // reads this machine's addresses
    assert_false(policy_dial(p, alice, "localhost", &loop, false, &v));
    assert_non_null(strstr(v.text, "a listener of this relay"));
    policy_free(p);
}

static void resolving_is_for_those_who_could_use_it(void **state)
{
    struct policy *p = two();
    assert_true(policy_may_resolve(p, alice, "a.example", 443, false));
    assert_true(policy_may_resolve(p, alice, "anything", 22, false)); // it may be in 10/8
    assert_false(policy_may_resolve(p, alice, "anything", 443, false));
    assert_false(policy_may_resolve(p, alice, "a.example", 443, true));
    assert_false(policy_may_resolve(p, bob, "a.example", 443, false));
    assert_false(policy_may_resolve(p, carol, "a.example", 443, false));
    policy_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(subjects),
        cmocka_unit_test(answers_tell_the_rule),
        cmocka_unit_test(the_other_questions),
        cmocka_unit_test(own_listeners),
        cmocka_unit_test(resolving_is_for_those_who_could_use_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
