// SPDX-License-Identifier: Apache-2.0
#include "unit.h"
#include "temp.h"
#include "trust/keeper.h"

#define GUARD_MS 60000 // against hanging only

static char dir[64];
static struct worker w;
static struct keeper *keeper;
static const uint8_t alice[PIN_SIZE] = {1};

static struct {
    unsigned policies, answers, until_policies, until_answers;
    enum store_answer answer;
    uint64_t ticket;
    char name[SPEC_NAME_MAX + 1];
    bool known_when_answered;
    uint64_t reloaded;
    bool known_when_reloaded;
} seen;

static void maybe_stop(void)
{
    if (seen.policies >= seen.until_policies && seen.answers >= seen.until_answers)
        worker_stop(&w);
}

static void on_policy(void *owner)
{
    seen.policies++;
    maybe_stop();
}

static void on_enroll(void *owner, uint64_t ticket, enum store_answer answer, const char *name, const struct err *err)
{
    assert_ptr_equal(owner, &seen);
    seen.answers++;
    seen.answer = answer;
    seen.ticket = ticket;
    snprintf(seen.name, sizeof seen.name, "%s", name);
    seen.known_when_answered = policy_knows(keeper_policy(keeper), alice);
    maybe_stop();
}

static void on_reload(void *owner, uint64_t ticket)
{
    assert_true(ticket > seen.reloaded);
    seen.reloaded = ticket;
    seen.known_when_reloaded = policy_knows(keeper_policy(keeper), alice);
    worker_stop(&w);
}

static const struct keeper_ops ops = {on_policy, on_enroll, on_reload};

static void on_guard(struct timer *t)
{
    fail_msg("the keeper does not answer");
}

static struct timer guard;

static int setup(void **state)
{
    struct err e = ERR_INIT;
    memset(&seen, 0, sizeof seen);
    temp_make(dir);
    if (worker_init(&w, 0, 1) != 0)
        return -1;
    timer_init(&guard, on_guard);
    timer_set(&w, &guard, GUARD_MS);
    keeper = keeper_start(&w, dir, &ops, &seen, &e);
    return keeper ? 0 : -1;
}

static int teardown(void **state)
{
    keeper_stop(keeper);
    timer_stop(&w, &guard);
    worker_fini(&w);
    temp_drop(dir);
    return 0;
}

static void run_until(unsigned policies, unsigned answers)
{
    seen.until_policies = policies;
    seen.until_answers = answers;
    worker_run(&w);
}

static void invite(uint8_t token[PAIRING_TOKEN])
{
    struct err e = ERR_INIT;
    char id[STORE_INVITATION_ID];
    struct rule r;
    struct store *s = store_open(dir, &e);
    assert_int_equal(rule_parse(&r, RULE_ALLOW, "*:443", &e), 0);
    struct store_invite i = {.name = "site7", .rules = &r, .rule_count = 1, .uses = 1, .ttl_s = 900};
    assert_int_equal(store_invite(s, &i, token, id, &e), 0);
    store_close(s);
}

static void enrolment_comes_back_with_its_policy(void **state)
{
    uint8_t token[PAIRING_TOKEN];
    invite(token);
    assert_false(policy_knows(keeper_policy(keeper), alice));
    assert_true(keeper_enroll(keeper, token, alice, 42));
    assert_int_equal(seen.answers, 0); // never from within the call
    run_until(1, 1);
    assert_int_equal(seen.answer, STORE_ENROLLED);
    assert_int_equal(seen.ticket, 42);
    assert_string_equal(seen.name, "site7");
    assert_true(seen.known_when_answered);
    assert_true(keeper_enroll(keeper, (uint8_t[PAIRING_TOKEN]){9}, (uint8_t[PIN_SIZE]){9}, 43));
    run_until(1, 2);
    assert_int_equal(seen.answer, STORE_REFUSED);
}

static void another_process_revokes(void **state)
{
    uint8_t token[PAIRING_TOKEN];
    struct err e = ERR_INIT;
    enum store_kind kind;
    invite(token);
    assert_true(keeper_enroll(keeper, token, alice, 1));
    run_until(1, 1);
    unsigned before = seen.policies;
    struct store *s = store_open(dir, &e);
    assert_int_equal(store_revoke(s, "site7", &kind, &e), 0);
    store_close(s);
    while (policy_knows(keeper_policy(keeper), alice)) // by polling alone; the guard ends a wait in vain
        run_until(++before, 1);
}

static void own_listeners_get_into_the_policy(void **state)
{
    uint8_t token[PAIRING_TOKEN];
    struct addr own;
    invite(token);
    assert_true(keeper_enroll(keeper, token, alice, 1));
    run_until(1, 1);
    assert_true(addr_parse_ip(&own, "198.51.100.1", 443));
    assert_true(policy_dial(keeper_policy(keeper), alice, "x", &own, false, NULL));
    unsigned before = seen.policies;
    keeper_set_own(keeper, &own, 1);
    while (policy_dial(keeper_policy(keeper), alice, "x", &own, false, NULL))
        run_until(++before, 1);
    struct err e = ERR_INIT;
    struct store *other = store_open(dir, &e); // as explain does
    struct policy *p = store_policy(other, &e);
    assert_int_equal(store_add_own(other, p, &e), 0);
    assert_false(policy_dial(p, alice, "x", &own, false, NULL));
    policy_free(p);
    store_close(other);
}

static void a_reload_is_told_once_it_is_in_force(void **state)
{
    uint8_t token[PAIRING_TOKEN];
    struct err e = ERR_INIT;
    enum store_kind kind;
    invite(token);
    assert_true(keeper_enroll(keeper, token, alice, 1));
    run_until(1, 1);
    struct store *s = store_open(dir, &e);
    assert_int_equal(store_revoke(s, "site7", &kind, &e), 0);
    store_close(s);
    keeper_reload(keeper, 0); // tells nobody
    keeper_reload(keeper, 6);
    keeper_reload(keeper, 7);
    while (seen.reloaded < 7)
        run_until(seen.policies + 1, 1);
    assert_false(seen.known_when_reloaded);
}

static void the_queue_is_bounded(void **state)
{
    unsigned taken = 0;
    while (keeper_enroll(keeper, (uint8_t[PAIRING_TOKEN]){9}, alice, taken))
        taken++;
    assert_int_equal(taken, KEEPER_JOBS_MAX); // answers count until they are delivered
    run_until(0, 1);
    assert_true(keeper_enroll(keeper, (uint8_t[PAIRING_TOKEN]){9}, alice, 1));
} // and the keeper stops with jobs waiting

static void start_fails_in_words(void **state)
{
    struct err e = ERR_INIT;
    assert_null(keeper_start(&w, "/dev/null/x", &ops, &seen, &e));
    assert_non_null(strstr(err_text(&e), "/dev/null"));
    err_fini(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(enrolment_comes_back_with_its_policy, setup, teardown),
        cmocka_unit_test_setup_teardown(another_process_revokes, setup, teardown),
        cmocka_unit_test_setup_teardown(own_listeners_get_into_the_policy, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reload_is_told_once_it_is_in_force, setup, teardown),
        cmocka_unit_test_setup_teardown(the_queue_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(start_fails_in_words, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
