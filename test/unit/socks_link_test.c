// SPDX-License-Identifier: Apache-2.0
// The SOCKS link and its codec: what is said, what is understood, in any pieces, and what a refusal is called.
#include "scripted.h"
#include "unit.h"
#include "link/socks.h"
#include "wire/socks_client.h"

static struct logins book;

static struct login *login(void) { return logins_get(&book, "proxy:1080", "user", "secret"); }

static int setup(void **state)
{
    logins_init(&book);
    return 0;
}

static int teardown(void **state)
{
    logins_fini(&book);
    return 0;
}

static void start(struct scripted *s, bool v4, const char *host, struct login *l)
{
    scripted_top(s, socks_over(scripted_init(s, NULL), &(struct socks_options){.v4 = v4, .proxy = "proxy:1080", .host = host,
                                                                              .port = 443, .login = l}));
}

struct step {
    const char *hear; // what the proxy must have heard since the step before
    size_t hear_len;
    const char *say;
    size_t say_len;
};
#define STEP(hear, say) {hear, sizeof(hear) - 1, say, sizeof(say) - 1}

static void talk(struct scripted *s, const struct step *steps, size_t count)
{
    assert_int_equal(link_open(s->top), LINK_AGAIN);
    for (size_t i = 0; i < count; i++) {
        s->heard_len = 0;
        scripted_hear(s);
        assert_int_equal(s->heard_len, steps[i].hear_len);
        assert_memory_equal(s->heard, steps[i].hear, steps[i].hear_len);
        for (size_t at = 0; at < steps[i].say_len; at++) { // byte by byte
            if (i + 1 < count || at + 1 < steps[i].say_len)
                assert_int_equal(link_open(s->top), LINK_AGAIN);
            scripted_say(s, steps[i].say + at, 1);
        }
        if (i + 1 < count)
            assert_int_equal(link_open(s->top), LINK_AGAIN);
    }
}

static void opens(bool v4, const char *host, struct login *l, const struct step *steps, size_t count)
{
    struct scripted s;
    struct buf *b;
    start(&s, v4, host, l);
    talk(&s, steps, count);
    scripted_say(&s, "early", 5);
    assert_int_equal(link_open(s.top), LINK_OK);
    assert_int_equal(link_recv(s.top, &b), LINK_OK);
    assert_int_equal(b->len, 5);
    assert_memory_equal(buf_data(b), "early", 5);
    buf_put(b);
    assert_int_equal(link_recv(s.top, &b), LINK_AGAIN);
    scripted_fini(&s);
}

static void conversations(void **state)
{
    static const struct step name[] = {
        STEP("\5\1\0", "\5\0"), STEP("\5\1\0\3\15relay.example\1\273", "\5\0\0\1\0\0\0\0\0\0")};
    static const struct step ip4[] = {STEP("\5\1\0", "\5\0"), STEP("\5\1\0\1\12\0\0\5\1\273", "\5\0\0\3\4abcd\0\7")};
    static const struct step ip6[] = {
        STEP("\5\1\0", "\5\0"), STEP("\5\1\0\4\40\1\15\270\0\0\0\0\0\0\0\0\0\0\0\1\1\273",
                                     "\5\0\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\7")};
    static const struct step known[] = {STEP("\5\2\0\2", "\5\2"), STEP("\1\4user\6secret", "\1\0"),
                                        STEP("\5\1\0\3\15relay.example\1\273", "\5\0\0\1\0\0\0\0\0\0")};
    static const struct step unasked[] = {STEP("\5\2\0\2", "\5\0"),
                                          STEP("\5\1\0\3\15relay.example\1\273", "\5\0\0\1\0\0\0\0\0\0")};
    static const struct step v4a[] = {STEP("\4\1\1\273\0\0\0\1\0relay.example\0", "\0\132\0\0\0\0\0\0")};
    static const struct step v4[] = {STEP("\4\1\1\273\12\0\0\5user\0", "\0\132\0\0\0\0\0\0")};
    opens(false, "relay.example", NULL, name, COUNT(name));
    opens(false, "10.0.0.5", NULL, ip4, COUNT(ip4));
    opens(false, "2001:db8::1", NULL, ip6, COUNT(ip6));
    opens(false, "relay.example", login(), known, COUNT(known));
    opens(false, "relay.example", login(), unasked, COUNT(unasked));
    opens(true, "relay.example", NULL, v4a, COUNT(v4a));
    opens(true, "10.0.0.5", login(), v4, COUNT(v4));
}

static void refusals(void **state)
{
    static const struct {
        bool v4, login;
        const char *say[3];
        size_t len[3];
        enum err_why why;
        const char *text;
    } cases[] = {
        {false, false, {"\5\377"}, {2}, WHY_POLICY, "wants a user and a password"},
        {false, false, {"\5\2"}, {2}, WHY_POLICY, "wants a user and a password"},
        {false, true, {"\5\377"}, {2}, WHY_POLICY, "takes neither no login nor user and password"},
        {false, true, {"\5\1"}, {2}, WHY_POLICY, "takes neither"},
        {false, false, {"HTTP/1.1 400"}, {12}, WHY_PROTOCOL, "(it begins with \"H\"); is it an HTTP proxy? Then write http://proxy:1080"},
        {true, false, {"HTTP/1.1 400"}, {12}, WHY_PROTOCOL, "not SOCKS4a (it begins with \"H\")"},
        {false, false, {"\5\0", "\5\1"}, {2, 2}, WHY_REFUSED, "refused relay.example port 443: general failure (code 1)"},
        {false, false, {"\5\0", "\5\2\0\1\0\0\0\0\0\0"}, {2, 10}, WHY_POLICY, "not allowed by its rules (code 2)"},
        {false, false, {"\5\0", "\5\4\0\1"}, {2, 4}, WHY_UNREACHABLE, "host unreachable"},
        {false, false, {"\5\0", "\5\5\0\1"}, {2, 4}, WHY_REFUSED, "connection refused"},
        {false, false, {"\5\0", "\5\6\0\1"}, {2, 4}, WHY_TIMEOUT, "TTL expired"},
        {false, false, {"\5\0", "\5\143\0\1"}, {2, 4}, WHY_REFUSED, "a code it made up (code 99)"},
        {false, false, {"\5\0", "\5\0\0\7\0\0\0\0\0\0"}, {2, 10}, WHY_PROTOCOL, "makes no sense"},
        {false, false, {"\5\0", "\4\0"}, {2, 2}, WHY_PROTOCOL, "not SOCKS5"},
        {true, false, {"\0\133\0\0\0\0\0\0"}, {8}, WHY_REFUSED, "request rejected or failed (code 91)"},
        {true, false, {"\0\135\0\0\0\0\0\0"}, {8}, WHY_REFUSED, "identd names another user (code 93)"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct scripted s;
        enum link_status st = LINK_AGAIN;
        start(&s, cases[i].v4, "relay.example", cases[i].login ? login() : NULL);
        assert_int_equal(link_open(s.top), LINK_AGAIN);
        for (size_t j = 0; j < 3 && cases[i].say[j]; j++) {
            scripted_say(&s, cases[i].say[j], cases[i].len[j]);
            st = link_open(s.top);
        }
        assert_int_equal(st, LINK_FAILED);
        assert_int_equal(s.top->err.why, cases[i].why);
        assert_non_null(strstr(err_text(&s.top->err), cases[i].v4 ? "SOCKS4a via proxy:1080: " : "SOCKS5 via proxy:1080: "));
        assert_refused(&s.top->err, ERR_UNREACHED, cases[i].text);
        link_fail(s.top, ERR_FAILED, WHY_NONE, "over");
        scripted_fini(&s);
    }
}

static void an_end_instead_of_an_answer(void **state)
{
    struct scripted s;
    start(&s, false, "relay.example", NULL);
    assert_int_equal(link_open(s.top), LINK_AGAIN);
    link_shut(s.peer, SHUT_END);
    scripted_turn(&s);
    assert_int_equal(link_open(s.top), LINK_FAILED);
    assert_non_null(strstr(err_text(&s.top->err), "without an answer"));
    scripted_fini(&s);
    char name[300];
    memset(name, 'a', sizeof(name));
    name[256] = 0;
    start(&s, false, name, NULL);
    assert_int_equal(link_open(s.top), LINK_FAILED);
    assert_int_equal(s.top->err.kind, ERR_USAGE);
    scripted_fini(&s);
}

static void to_the_login(struct scripted *s)
{
    start(s, false, "relay.example", login());
    assert_int_equal(link_open(s->top), LINK_AGAIN);
    scripted_say(s, "\5\2", 2);
}

static bool presented(struct scripted *s)
{
    scripted_hear(s);
    return memmem(s->heard, s->heard_len, "secret", 6) != NULL;
}

// Two links at once: one presents the password, the other waits for what it learns.
static void a_wrong_password_is_presented_once(void **state)
{
    struct scripted a, b, c;
    to_the_login(&a);
    to_the_login(&b);
    assert_int_equal(link_open(a.top), LINK_AGAIN);
    assert_int_equal(link_open(b.top), LINK_AGAIN);
    assert_true(presented(&a));
    assert_false(presented(&b));
    scripted_say(&a, "\1\1", 2);
    assert_int_equal(link_open(a.top), LINK_FAILED);
    assert_non_null(strstr(err_text(&a.top->err), "refused user or password"));
    assert_true(list_linked(&b.wake.node)); // its debt is paid
    assert_int_equal(link_open(b.top), LINK_FAILED);
    assert_false(presented(&b));
    to_the_login(&c);
    assert_int_equal(link_open(c.top), LINK_FAILED);
    assert_false(presented(&c));
    scripted_fini(&c);
    logins_forgive(&book);
    to_the_login(&c);
    assert_int_equal(link_open(c.top), LINK_AGAIN);
    assert_true(presented(&c));
    scripted_fini(&a);
    scripted_fini(&b);
    scripted_fini(&c);
}

// Without an answer nothing is known: the next one has its turn.
static void who_goes_hands_its_turn_on(void **state)
{
    struct scripted a, b;
    to_the_login(&a);
    to_the_login(&b);
    assert_int_equal(link_open(a.top), LINK_AGAIN);
    assert_int_equal(link_open(b.top), LINK_AGAIN);
    scripted_fini(&a);
    assert_int_equal(link_open(b.top), LINK_AGAIN);
    assert_true(presented(&b));
    scripted_say(&b, "\1\0", 2);
    assert_int_equal(link_open(b.top), LINK_AGAIN);
    to_the_login(&a);
    assert_int_equal(link_open(a.top), LINK_AGAIN); // known to be good: nobody waits
    assert_true(presented(&a));
    scripted_fini(&a);
    scripted_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(conversations, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals, setup, teardown),
        cmocka_unit_test(an_end_instead_of_an_answer),
        cmocka_unit_test_setup_teardown(a_wrong_password_is_presented_once, setup, teardown),
        cmocka_unit_test_setup_teardown(who_goes_hands_its_turn_on, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
