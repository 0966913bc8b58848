// SPDX-License-Identifier: Apache-2.0
#include "unit.h"
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "temp.h"
#include "trust/store.h"

static char dir[64];
static struct store *store;
static const uint8_t alice[PIN_SIZE] = {1}, bob[PIN_SIZE] = {2}, carol[PIN_SIZE] = {3};

static int setup(void **state)
{
    struct err e = ERR_INIT;
    store = store_open(temp_make(dir), &e);
    return store ? 0 : -1;
}

static int teardown(void **state)
{
    store_close(store);
    temp_drop(dir);
    return 0;
}

static struct rule rule(enum rule_verb verb, const char *text)
{
    struct rule r;
    struct err e = ERR_INIT;
    assert_int_equal(rule_parse(&r, verb, text, &e), 0);
    return r;
}

struct invited {
    uint8_t token[PAIRING_TOKEN];
    char id[STORE_INVITATION_ID];
};

static struct invited invite(const char *name, unsigned uses, const char *allow)
{
    struct invited got;
    struct err e = ERR_INIT;
    struct rule r = rule(RULE_ALLOW, allow);
    struct store_invite i = {.name = name, .rules = &r, .rule_count = 1, .uses = uses, .ttl_s = 900};
    if (store_invite(store, &i, got.token, got.id, &e) < 0)
        fail_msg("%s", err_text(&e));
    return got;
}

static enum store_answer enroll(const struct invited *i, const uint8_t pin[PIN_SIZE], const char *name)
{
    char given[SPEC_NAME_MAX + 1] = "";
    struct err e = ERR_INIT;
    enum store_answer answer = store_enroll(store, i->token, pin, given, &e);
    if (answer == STORE_BROKEN)
        fail_msg("%s", err_text(&e));
    if (answer == STORE_ENROLLED)
        assert_string_equal(given, name);
    return answer;
}

static bool dials(const uint8_t pin[PIN_SIZE], const char *host, uint16_t port)
{
    struct err e = ERR_INIT;
    struct policy *p = store_policy(store, &e);
    struct addr to;
    assert_non_null(p);
    assert_true(addr_parse_ip(&to, host, port));
    bool allowed = policy_dial(p, pin, NULL, &to, false, NULL);
    policy_free(p);
    return allowed;
}

static bool knows(const uint8_t pin[PIN_SIZE])
{
    struct err e = ERR_INIT;
    struct policy *p = store_policy(store, &e);
    bool known = policy_knows(p, pin);
    policy_free(p);
    return known;
}

static void sql(const char *text)
{
    char path[96];
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/%s", dir, STORE_FILE);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 5000);
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void a_token_lets_one_key_in(void **state)
{
    struct invited i = invite("site7", 1, "10.0.0.0/8:22");
    struct invited wrong = {.token = {1, 2, 3}};
    assert_int_equal(enroll(&wrong, alice, ""), STORE_REFUSED);
    assert_false(knows(alice));
    assert_int_equal(enroll(&i, alice, "site7"), STORE_ENROLLED);
    assert_true(dials(alice, "10.1.1.1", 22));
    assert_false(dials(alice, "10.1.1.1", 23));
    assert_int_equal(enroll(&i, bob, ""), STORE_REFUSED); // used up
    assert_false(knows(bob));
    assert_int_equal(enroll(&i, alice, "site7"), STORE_ENROLLED); // a retry
    assert_int_equal(enroll(&i, bob, ""), STORE_REFUSED);
}

static void tokens_expire(void **state)
{
    struct invited i = invite("site7", 2, "*:443");
    assert_int_equal(enroll(&i, alice, "site7"), STORE_ENROLLED);
    sql("UPDATE invitations SET expires = strftime('%s', 'now')");
    assert_int_equal(enroll(&i, bob, ""), STORE_REFUSED);
    assert_int_equal(enroll(&i, alice, "site7"), STORE_ENROLLED); // it is in already
}

static void several_uses_give_several_names(void **state)
{
    struct invited i = invite("edge", 2, "*:443");
    assert_int_equal(enroll(&i, alice, "edge"), STORE_ENROLLED);
    assert_int_equal(enroll(&i, alice, "edge"), STORE_ENROLLED); // the same key uses it once
    assert_int_equal(enroll(&i, bob, "edge-2"), STORE_ENROLLED);
    assert_int_equal(enroll(&i, carol, ""), STORE_REFUSED);
    assert_true(dials(bob, "198.51.100.1", 443));
}

static void a_second_invitation_adds_rules(void **state)
{
    struct invited first = invite("site7", 1, "10.0.0.0/8:22"), second = invite("other", 1, "10.0.0.0/8:80");
    assert_int_equal(enroll(&first, alice, "site7"), STORE_ENROLLED);
    assert_int_equal(enroll(&second, alice, "site7"), STORE_ENROLLED);
    assert_true(dials(alice, "10.1.1.1", 22));
    assert_true(dials(alice, "10.1.1.1", 80));
    assert_int_equal(enroll(&second, bob, ""), STORE_REFUSED);
}

static void revoked_keys_stay_out(void **state)
{
    struct invited i = invite("site7", 3, "10.0.0.0/8:22");
    struct err e = ERR_INIT;
    enum store_kind kind;
    char pin[PIN_TEXT_MAX];
    assert_int_equal(enroll(&i, alice, "site7"), STORE_ENROLLED);
    assert_int_equal(store_revoke(store, "site7", &kind, &e), 0);
    assert_int_equal(kind, STORE_AGENT);
    assert_false(knows(alice));
    assert_int_equal(enroll(&i, alice, ""), STORE_REFUSED); // the token it came by is withdrawn with it
    assert_int_equal(enroll(&i, bob, ""), STORE_REFUSED);
    assert_int_equal(store_revoke(store, "site7", &kind, &e), -1);
    assert_refused(&e, ERR_USAGE, "no agent, pin or invitation");
    struct invited again = invite("site7", 1, "*:443");
    assert_int_equal(enroll(&again, alice, "site7"), STORE_ENROLLED);
    assert_true(dials(alice, "198.51.100.1", 443));
    assert_false(dials(alice, "10.1.1.1", 22)); // afresh
    assert_int_equal(store_revoke(store, pin_text(alice, pin), &kind, &e), 0);
    assert_false(knows(alice));
}

static void invitations_can_be_withdrawn(void **state)
{
    struct invited i = invite("site7", 1, "*:443");
    struct err e = ERR_INIT;
    enum store_kind kind;
    assert_int_equal(store_revoke(store, i.id, &kind, &e), 0);
    assert_int_equal(kind, STORE_INVITATION);
    assert_int_equal(enroll(&i, alice, ""), STORE_REFUSED);
    assert_int_equal(store_revoke(store, i.id, &kind, &e), -1);
    assert_refused(&e, ERR_USAGE, i.id);
}

static void invitations_refused(void **state)
{
    struct invited i = invite("site7", 1, "*:443");
    struct store_invite bad = {.name = "site7", .uses = 1, .ttl_s = 1};
    struct err e = ERR_INIT;
    uint8_t token[PAIRING_TOKEN];
    char id[STORE_INVITATION_ID];
    assert_int_equal(enroll(&i, alice, "site7"), STORE_ENROLLED);
    assert_int_equal(store_invite(store, &bad, token, id, &e), -1);
    assert_refused(&e, ERR_USAGE, "an agent site7 exists");
    bad.name = "a b";
    assert_int_equal(store_invite(store, &bad, token, id, &e), -1);
    assert_refused(&e, ERR_USAGE, "no name");
    bad.name = "b";
    bad.uses = 0;
    assert_int_equal(store_invite(store, &bad, token, id, &e), -1);
    assert_refused(&e, ERR_USAGE, "at least one use");
}

static void collect(const struct store_invitation *i, void *ctx)
{
    strcat(ctx, i->name);
    strcat(ctx, " ");
}

static void open_invitations_are_listed(void **state)
{
    char names[256] = "";
    struct err e = ERR_INIT;
    struct invited used = invite("used", 1, "*:1");
    invite("open", 2, "*:1");
    assert_int_equal(enroll(&used, alice, "used"), STORE_ENROLLED);
    assert_int_equal(store_each_invitation(store, collect, names, &e), 0);
    assert_string_equal(names, "open ");
    sql("UPDATE invitations SET expires = 1");
    names[0] = 0;
    assert_int_equal(store_each_invitation(store, collect, names, &e), 0);
    assert_string_equal(names, "");
}

static void collect_identity(const struct store_identity *i, void *ctx)
{
    snprintf((char *)ctx + strlen(ctx), 100, "%s%s ", i->name, i->revoked ? ":revoked" : "");
}

static void collect_rule(const char *agent, enum rule_verb verb, const char *text, void *ctx)
{
    snprintf((char *)ctx + strlen(ctx), 100, "%s %s %s; ", agent, rule_verb_name(verb), text);
}

static void grants(void **state)
{
    struct invited i = invite("site7", 1, "10.0.0.0/8:22");
    struct err e = ERR_INIT;
    unsigned changed;
    char names[256] = "", rules[256] = "";
    enum store_kind kind;
    struct rule add[] = {rule(RULE_ALLOW, "10.0.0.0/8:80"), rule(RULE_LISTEN, "8080")};
    struct rule drop[] = {rule(RULE_ALLOW, "10.0.0.0/8:22-22"), rule(RULE_OFFER, "web")};
    assert_int_equal(enroll(&i, alice, "site7"), STORE_ENROLLED);
    assert_int_equal(store_grant(store, "site7", add, 2, drop, 2, &changed, &e), 0);
    assert_int_equal(changed, 3);
    assert_true(dials(alice, "10.1.1.1", 80));
    assert_false(dials(alice, "10.1.1.1", 22));
    assert_int_equal(store_grant(store, "site7", add, 2, NULL, 0, &changed, &e), 0);
    assert_int_equal(changed, 0);
    assert_int_equal(store_grant(store, "nobody", add, 2, NULL, 0, &changed, &e), -1);
    assert_refused(&e, ERR_USAGE, "no agent \"nobody\"");
    assert_int_equal(store_each_identity(store, collect_identity, names, &e), 0);
    assert_string_equal(names, "site7 ");
    assert_int_equal(store_each_rule(store, collect_rule, rules, &e), 0);
    assert_string_equal(rules, "site7 allow 10.0.0.0/8:80; site7 allow-listen 8080; ");
    assert_int_equal(store_revoke(store, "site7", &kind, &e), 0);
    rules[0] = 0;
    assert_int_equal(store_each_rule(store, collect_rule, rules, &e), 0);
    assert_string_equal(rules, "");
    assert_int_equal(store_grant(store, "site7", add, 2, NULL, 0, &changed, &e), -1);
    err_fini(&e);
    names[0] = 0;
    assert_int_equal(store_each_identity(store, collect_identity, names, &e), 0);
    assert_string_equal(names, "site7:revoked ");
}

static void rules_are_bounded_all_or_nothing(void **state)
{
    struct invited i = invite("site7", 1, "*:1");
    struct err e = ERR_INIT;
    unsigned changed;
    struct rule *many = calloc(POLICY_RULES_MAX, sizeof *many);
    for (unsigned k = 0; k < POLICY_RULES_MAX; k++) {
        char text[32];
        snprintf(text, sizeof text, "*:%u", k + 2);
        many[k] = rule(RULE_ALLOW, text);
    }
    assert_int_equal(enroll(&i, alice, "site7"), STORE_ENROLLED);
    assert_int_equal(store_grant(store, "site7", many, POLICY_RULES_MAX, NULL, 0, &changed, &e), -1);
    assert_refused(&e, ERR_USAGE, "at most");
    assert_false(dials(alice, "198.51.100.1", 2));
    assert_int_equal(store_grant(store, "site7", many, POLICY_RULES_MAX - 1, NULL, 0, &changed, &e), 0);
    assert_true(dials(alice, "198.51.100.1", POLICY_RULES_MAX));
    free(many);
}

// What another connection, so another process, changes is seen; what this one changes is its own business.
static void other_writers_show(void **state)
{
    struct err e = ERR_INIT;
    enum store_kind kind;
    struct invited i = invite("site7", 1, "*:443");
    uint32_t before = store_version(store);
    assert_int_not_equal(before, 0);
    assert_int_equal(enroll(&i, alice, "site7"), STORE_ENROLLED);
    assert_int_equal(store_version(store), before);
    struct store *other = store_open(dir, &e);
    assert_non_null(other);
    assert_int_equal(store_version(store), before);
    assert_int_equal(store_revoke(other, "site7", &kind, &e), 0);
    assert_int_not_equal(store_version(store), before);
    assert_false(knows(alice));
    store_close(other);
}

// The process ends right after the answer: no close, no checkpoint.
static void answers_are_durable(void **state)
{
    struct invited i = invite("site7", 1, "*:443");
    struct err e = ERR_INIT;
    int status;
    store_close(store);
    pid_t child = fork();
    if (child == 0) {
        struct store *s = store_open(dir, &e);
        char name[SPEC_NAME_MAX + 1];
        _exit(s && store_enroll(s, i.token, alice, name, &e) == STORE_ENROLLED ? 7 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), 7);
    store = store_open(dir, &e);
    assert_non_null(store);
    assert_true(knows(alice));
    assert_int_equal(enroll(&i, bob, ""), STORE_REFUSED);
}

static void tokens_are_not_on_the_disk(void **state)
{
    struct invited i = invite("site7", 1, "*:443");
    char path[112];
    static const char *const ends[] = {"", "-wal"};
    for (size_t k = 0; k < COUNT(ends); k++) {
        struct stat st;
        snprintf(path, sizeof path, "%s/%s%s", dir, STORE_FILE, ends[k]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        char *bytes = malloc((size_t)st.st_size + 1);
        int fd = open(path, O_RDONLY);
        assert_int_equal(read(fd, bytes, (size_t)st.st_size), st.st_size);
        close(fd);
        assert_null(memmem(bytes, (size_t)st.st_size, i.token, sizeof i.token));
        free(bytes);
    }
}

static void odd_files_are_refused(void **state)
{
    struct err e = ERR_INIT;
    char path[96];
    sql("PRAGMA user_version = 99");
    assert_null(store_open(dir, &e));
    assert_refused(&e, ERR_USAGE, "newer culvert");
    store_close(store);
    store = NULL;
    snprintf(path, sizeof path, "%s/%s-wal", dir, STORE_FILE);
    unlink(path);
    snprintf(path, sizeof path, "%s/%s", dir, STORE_FILE);
    FILE *f = fopen(path, "w");
    for (int k = 0; k < 100; k++)
        fputs("this is no database at all\n", f);
    fclose(f);
    assert_null(store_open(dir, &e));
    assert_refused(&e, ERR_FAILED, "no store of a relay");
    assert_null(store_open("/dev/null/x", &e));
    err_fini(&e);
}

static void listeners_are_written_down(void **state)
{
    struct invited i = invite("site7", 1, "*:443");
    struct err e = ERR_INIT;
    struct addr own[3], other;
    struct verdict v;
    assert_int_equal(enroll(&i, alice, "site7"), STORE_ENROLLED);
    assert_true(addr_parse_ip(&own[0], "198.51.100.1", 443));
    assert_true(addr_parse_ip(&own[1], "2001:db8::1", 443));
    assert_true(addr_unix(&own[2], "/run/x"));
    assert_true(addr_parse_ip(&other, "198.51.100.2", 443));
    assert_int_equal(store_set_own(store, &other, 1, &e), 0);
    assert_int_equal(store_set_own(store, own, 3, &e), 0);
    struct policy *p = store_policy(store, &e);
    assert_int_equal(store_add_own(store, p, &e), 0);
    assert_false(policy_dial(p, alice, "x.example", &own[0], false, &v));
    assert_false(policy_dial(p, alice, "x.example", &own[1], false, &v));
    assert_non_null(strstr(v.text, "a listener of this relay"));
    assert_true(policy_dial(p, alice, "x.example", &other, false, &v));
    policy_free(p);
}

// Two processes at once: nobody is let in twice, nobody is lost.
static void two_writers(void **state)
{
    struct invited i = invite("edge", 10, "*:443");
    struct err e = ERR_INIT;
    int status;
    char names[1024] = "";
    store_close(store);
    pid_t children[2];
    for (uint8_t c = 0; c < 2; c++) {
        children[c] = fork();
        if (children[c] == 0) {
            struct store *s = store_open(dir, &e);
            int in = 0;
            for (uint8_t k = 0; s && k < 10; k++) {
                char name[SPEC_NAME_MAX + 1];
                enum store_answer answer = STORE_BROKEN; // busy for longer than STORE_BUSY_MS, on a slow disk
                for (int tries = 0; tries < 10 && answer == STORE_BROKEN; tries++)
                    answer = store_enroll(s, i.token, (uint8_t[PIN_SIZE]){c, k}, name, &e);
                in += answer == STORE_ENROLLED;
            }
            _exit(in);
        }
    }
    int in = 0;
    for (int c = 0; c < 2; c++) {
        assert_int_equal(waitpid(children[c], &status, 0), children[c]);
        in += WEXITSTATUS(status);
    }
    store = store_open(dir, &e);
    assert_int_equal(in, 10);
    assert_int_equal(store_each_identity(store, collect_identity, names, &e), 0);
    int count = 0;
    for (char *at = names; (at = strchr(at, ' ')); at++)
        count++;
    assert_int_equal(count, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_token_lets_one_key_in, setup, teardown),
        cmocka_unit_test_setup_teardown(tokens_expire, setup, teardown),
        cmocka_unit_test_setup_teardown(several_uses_give_several_names, setup, teardown),
        cmocka_unit_test_setup_teardown(a_second_invitation_adds_rules, setup, teardown),
        cmocka_unit_test_setup_teardown(revoked_keys_stay_out, setup, teardown),
        cmocka_unit_test_setup_teardown(invitations_can_be_withdrawn, setup, teardown),
        cmocka_unit_test_setup_teardown(invitations_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(open_invitations_are_listed, setup, teardown),
        cmocka_unit_test_setup_teardown(grants, setup, teardown),
        cmocka_unit_test_setup_teardown(rules_are_bounded_all_or_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(other_writers_show, setup, teardown),
        cmocka_unit_test_setup_teardown(answers_are_durable, setup, teardown),
        cmocka_unit_test_setup_teardown(tokens_are_not_on_the_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(odd_files_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(listeners_are_written_down, setup, teardown),
        cmocka_unit_test_setup_teardown(two_writers, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
