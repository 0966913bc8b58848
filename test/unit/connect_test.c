// SPDX-License-Identifier: Apache-2.0
#include "scripted.h"
#include <stdio.h>
#include "link/connect.h"

static struct worker w; // of the authentication
static struct logins book;
static struct auth *auth;

static int setup(void **state)
{
    worker_init_bare(&w);
    logins_init(&book);
    return 0;
}

static int teardown(void **state)
{
    auth_free(auth);
    auth = NULL;
    logins_fini(&book);
    worker_fini(&w);
    return 0;
}

static void forget(void)
{
    auth_free(auth);
    auth = NULL;
    logins_fini(&book);
    logins_init(&book);
}

static struct login *login(void) { return logins_get(&book, "proxy:3128", "Aladdin", "open sesame"); }

static void new_auth(struct login *l, unsigned allowed, bool encrypted)
{
    auth_free(auth);
    auth = auth_new(&w, &(struct auth_options){.host = "proxy", .login = l, .allowed = allowed, .encrypted = encrypted});
}

static void over(struct scripted *s, const char *host)
{
    scripted_top(s, connect_over(scripted_init(s, NULL), &(struct connect_options){.proxy = "proxy:3128", .host = host, .port = 443,
                                                                                  .auth = auth}));
}

static void start(struct scripted *s, const char *host, struct login *l)
{
    new_auth(l, 0, false);
    over(s, host);
}

static void fini(struct scripted *s)
{
    if (auth)
        auth_end(auth);
    scripted_fini(s);
}

static void the_request(void **state)
{
    struct scripted s;
    new_auth(login(), AUTH_BASIC, false); // nothing else may be asked for: said at once
    over(&s, "2001:db8::1");
    assert_int_equal(link_open(s.top), LINK_AGAIN);
    scripted_hear(&s);
    assert_string_equal(s.heard, "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n"
                                 "Proxy-Connection: keep-alive\r\n"
                                 "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"); // RFC 7617 2
    fini(&s);
    start(&s, "relay.example", login());
    assert_int_equal(link_open(s.top), LINK_AGAIN);
    scripted_hear(&s);
    assert_string_equal(s.heard, "CONNECT relay.example:443 HTTP/1.1\r\nHost: relay.example:443\r\n"
                                 "Proxy-Connection: keep-alive\r\n\r\n");
    fini(&s);
    static const char *const bad[] = {"", "a b", "a\r\nX: y", "a/b", "[::1]", "\xc3\xa9"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        start(&s, bad[i], NULL);
        assert_int_equal(link_open(s.top), LINK_FAILED);
        assert_int_equal(s.top->err.kind, ERR_USAGE);
        scripted_hear(&s);
        assert_int_equal(s.heard_len, 0);
        fini(&s);
    }
}

static void answers(void **state)
{
    static const struct {
        const char *answer, *err; // err NULL: open
        bool user;
        enum advice advice;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\n\r\n", NULL, false},
        {"HTTP/1.0 299 fine\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", NULL, false},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nA: b\r\n\r\nHTTP/1.1 200\r\n\r\n", NULL, false},
        {"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=\"a\"\r\nproxy-authenticate: NTLM\r\n\r\n",
         "CONNECT via proxy:3128: proxy answered 407 (Basic, NTLM offered): name user and password in its URL or in the file of "
         "--proxy-login", false, ADVICE_PROXY_LOGIN},
        {"HTTP/1.1 407 x\r\n\r\n", "CONNECT via proxy:3128: proxy answered 407 (nothing offered): it offers no way to authenticate", false, ADVICE_PROXY_SCHEME},
        {"HTTP/1.1 407 x\r\nProxy-Authenticate: Odd\x1b a=b, Other\r\n\r\n",
         "CONNECT via proxy:3128: proxy's answer is not HTTP: a control character in the head", false, ADVICE_PROXY_STRANGE},
        {"HTTP/1.1 407 x\r\nProxy-Authenticate: Odd a=b, Other\r\n\r\n",
         "CONNECT via proxy:3128: proxy answered 407 (Odd, Other offered): none of that is known here", true, ADVICE_PROXY_SCHEME},
        {"HTTP/1.1 403 Forbidden\x9b\r\n\r\n", "CONNECT via proxy:3128: proxy answered 403 (Forbidden\\x9b)", false, ADVICE_PROXY_FORBIDS},
        {"HTTP/1.1 502\r\n\r\n", "CONNECT via proxy:3128: proxy answered 502", false, ADVICE_PROXY_UPSTREAM},
        {"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", "CONNECT via proxy:3128: proxy answered 302 (Found)", false, ADVICE_PORTAL},
        {"SSH-2.0-x\r\n", "CONNECT via proxy:3128: proxy's answer is not HTTP: not an HTTP/1 status line", false, ADVICE_PROXY_STRANGE},
        {"\x15\x03\x01\x02", "CONNECT via proxy:3128: proxy's answer is not HTTP: a control character in the head", false, ADVICE_PROXY_STRANGE},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct scripted s;
        start(&s, "relay.example", cases[i].user ? login() : NULL);
        assert_int_equal(link_open(s.top), LINK_AGAIN);
        scripted_say(&s, cases[i].answer, strlen(cases[i].answer));
        enum link_status st = link_open(s.top);
        assert_int_equal(st, cases[i].err ? LINK_FAILED : LINK_OK);
        if (cases[i].err)
            assert_string_equal(err_text(&s.top->err), cases[i].err);
        assert_int_equal(s.top->err.advice, cases[i].advice);
        fini(&s);
    }
}

static void an_end_before_the_answer(void **state)
{
    struct scripted s;
    start(&s, "relay.example", NULL);
    assert_int_equal(link_open(s.top), LINK_AGAIN);
    scripted_say(&s, "HTTP/1.1 200", 12);
    link_shut(s.peer, SHUT_END);
    assert_int_equal(link_open(s.top), LINK_FAILED);
    assert_string_equal(err_text(&s.top->err), "CONNECT via proxy:3128: proxy closed the connection without an answer");
    fini(&s);
}

static void endless_interim_answers_end(void **state)
{
    struct scripted s;
    start(&s, "relay.example", NULL);
    assert_int_equal(link_open(s.top), LINK_AGAIN);
    enum link_status st = LINK_AGAIN;
    for (int i = 0; i < 100 && st == LINK_AGAIN; i++) {
        scripted_say(&s, "HTTP/1.1 100 x\r\n\r\n", 18);
        st = link_open(s.top);
    }
    assert_int_equal(st, LINK_FAILED);
    fini(&s);
}

static void bytes_behind_the_head_belong_to_the_tunnel(void **state)
{
    static char text[50000];
    for (int padding = 0; padding < 2; padding++) { // also where the head fills its buffer
        struct scripted s;
        struct buf *b;
        size_t n = (size_t)sprintf(text, "HTTP/1.1 200 OK\r\nX: "), got = 0;
        for (size_t i = 0; i < (padding ? 16300u : 3u); i++)
            text[n++] = 'x';
        n += (size_t)sprintf(text + n, "\r\n\r\n");
        for (size_t i = 0; i < 30000; i++)
            text[n++] = (char)(i % 251);
        start(&s, "relay.example", NULL);
        assert_int_equal(link_open(s.top), LINK_AGAIN);
        scripted_say(&s, text, n);
        assert_int_equal(link_open(s.top), LINK_OK);
        while (link_recv(s.top, &b) == LINK_OK) {
            for (size_t i = 0; i < b->len; i++, got++)
                assert_int_equal(buf_data(b)[i], got % 251);
            buf_put(b);
        }
        assert_int_equal(got, 30000);
        fini(&s);
    }
}

// --- authentication

static void say(struct scripted *s, const char *text) { scripted_say(s, text, strlen(text)); }

// What the proxy has heard since the last time.
static const char *heard(struct scripted *s)
{
    s->heard_len = 0;
    scripted_hear(s);
    return s->heard;
}

#define BASIC "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"
#define KEEP "HTTP/1.1 407 who?\r\nContent-Length: 4\r\n"

static void the_body_is_drained_and_the_connection_kept(void **state)
{
    static const char *const answers[] = {
        KEEP "Proxy-Authenticate: Basic realm=\"a, b\"\r\n\r\nbody",
        "HTTP/1.1 100 x\r\n\r\nHTTP/1.1 407 x\r\nTransfer-Encoding: chunked\r\nProxy-Authenticate: Basic\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        "HTTP/1.0 407 x\r\nContent-Length: 0\r\nProxy-Connection: keep-alive\r\nProxy-Authenticate: basic realm=x\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        for (size_t piece = 1; piece < 200; piece += 61) {
            struct scripted s;
            forget();
            start(&s, "relay.example", login());
            assert_int_equal(link_open(s.top), LINK_AGAIN);
            assert_null(strstr(heard(&s), "Authorization"));
            for (size_t at = 0, len = strlen(answers[i]); at < len; at += piece) {
                assert_int_equal(link_open(s.top), LINK_AGAIN);
                scripted_say(&s, answers[i] + at, len - at < piece ? len - at : piece);
            }
            assert_int_equal(link_open(s.top), LINK_AGAIN);
            assert_non_null(strstr(heard(&s), BASIC));
            say(&s, "HTTP/1.1 200 OK\r\n\r\n");
            assert_int_equal(link_open(s.top), LINK_OK);
            assert_int_equal(login()->state, LOGIN_GOOD);
            fini(&s);
        }
    }
    struct scripted s; // what it took the last time is said at once
    start(&s, "relay.example", login());
    assert_int_equal(link_open(s.top), LINK_AGAIN);
    assert_non_null(strstr(heard(&s), BASIC));
    fini(&s);
}

static void another_connection_where_the_proxy_ends_this_one(void **state)
{
    static const char *const answers[] = {
        KEEP "Connection: close\r\nProxy-Authenticate: Basic\r\n\r\n", "HTTP/1.1 407 x\r\nProxy-Authenticate: Basic\r\n\r\n",
        "HTTP/1.0 407 x\r\nContent-Length: 0\r\nProxy-Authenticate: Basic\r\n\r\n",
        "HTTP/1.1 407 x\r\nContent-Length: 9999999\r\nProxy-Authenticate: Basic\r\n\r\n",
    };
    static char endless[300000];
    memset(endless, 'x', sizeof(endless) - 1);
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        struct scripted s, t;
        forget();
        start(&s, "relay.example", login());
        assert_int_equal(link_open(s.top), LINK_AGAIN);
        say(&s, answers[i]);
        if (strstr(answers[i], "9999999"))
            say(&s, endless);
        assert_int_equal(link_open(s.top), LINK_FAILED);
        assert_true(connect_again(s.top));
        fini(&s);
        over(&t, "relay.example");
        assert_int_equal(link_open(t.top), LINK_AGAIN);
        assert_non_null(strstr(heard(&t), BASIC));
        say(&t, "HTTP/1.0 407 x\r\nProxy-Authenticate: Basic realm=\"a\"\r\n\r\n");
        assert_int_equal(link_open(t.top), LINK_FAILED);
        assert_false(connect_again(t.top));
        assert_string_equal(err_text(&t.top->err), "CONNECT via proxy:3128: proxy answered 407 (user or password refused; Basic offered): "
                                                   "correct them; they are not tried again until then");
        fini(&t);
        start(&t, "relay.example", login()); // not even a question
        assert_int_equal(link_open(t.top), LINK_FAILED);
        assert_string_equal(heard(&t), "");
        fini(&t);
    }
}

static void a_proxy_that_does_not_keep_its_word(void **state)
{
    struct scripted s;
    start(&s, "relay.example", login());
    assert_int_equal(link_open(s.top), LINK_AGAIN);
    say(&s, KEEP "Proxy-Authenticate: Basic\r\n\r\nbody");
    link_shut(s.peer, SHUT_END);
    assert_int_equal(link_open(s.top), LINK_FAILED);
    assert_true(connect_again(s.top));
    fini(&s);
}

// What is sent for a 407 with this challenge; "" when nothing is.
static const char *reply(const char *challenge, struct login *l, unsigned allowed, bool encrypted, char *err)
{
    static char out[5000];
    static struct scripted s;
    new_auth(l, allowed, encrypted);
    over(&s, "relay.example");
    assert_int_equal(link_open(s.top), LINK_AGAIN);
    heard(&s);
    scripted_say(&s, KEEP, strlen(KEEP));
    scripted_say(&s, challenge, strlen(challenge));
    say(&s, "\r\n\r\nbody");
    enum link_status st = link_open(s.top);
    strcpy(err, st == LINK_FAILED ? err_text(&s.top->err) : "");
    const char *at = strstr(heard(&s), "Proxy-Authorization: ");
    snprintf(out, sizeof(out), "%.*s", at ? (int)strcspn(at + 21, "\r") : 0, at ? at + 21 : "");
    fini(&s);
    return out;
}

static void the_strongest_is_taken(void **state)
{
    char err[ERR_TEXT_MAX];
    static const char both[] = "Proxy-Authenticate: Basic realm=x, Digest realm=r, nonce=n1, qop=auth, algorithm=MD5, Digest realm=r, "
                               "nonce=n2, qop=auth, algorithm=SHA-256";
    const char *sent = reply(both, login(), 0, true, err);
    assert_true(strncmp(sent, "Digest username=\"Aladdin\"", 25) == 0);
    assert_non_null(strstr(sent, "SHA-256"));
    assert_non_null(strstr(sent, "nonce=\"n2\""));
    assert_non_null(strstr(sent, "uri=\"relay.example:443\""));
    assert_string_equal(reply(both, login(), AUTH_NEGOTIATE, true, err), "");
    assert_non_null(strstr(err, "(Basic, Digest offered): --proxy-auth allows negotiate only"));
    static const char unknown[] = "Proxy-Authenticate: Basic realm=x\r\nProxy-Authenticate: Digest realm=r, nonce=n, algorithm=X";
    assert_true(strncmp(reply(unknown, login(), 0, true, err), "Basic ", 6) == 0);
    assert_string_equal(reply(unknown, login(), 0, false, err), ""); // in the clear: not while there is something stronger
    assert_non_null(strstr(err, "Basic would show the password to everybody"));
    assert_non_null(strstr(err, "--proxy-auth basic"));
    assert_string_equal(reply(both, NULL, 0, false, err), "");
    assert_non_null(strstr(err, "--proxy-login"));
    assert_true(strncmp(reply("Proxy-Authenticate: Basic realm=x", login(), 0, false, err), "Basic ", 6) == 0);
}

static void digest_over_several_rounds(void **state)
{
    struct scripted s;
    start(&s, "relay.example", login());
    assert_int_equal(link_open(s.top), LINK_AGAIN);
    say(&s, KEEP "Proxy-Authenticate: Digest realm=r, nonce=n1, qop=auth\r\n\r\nbody");
    assert_int_equal(link_open(s.top), LINK_AGAIN);
    assert_non_null(strstr(heard(&s), "nonce=\"n1\", nc=00000001"));
    say(&s, KEEP "Proxy-Authenticate: Digest realm=r, nonce=n2, qop=auth, stale=TRUE\r\n\r\nbody");
    assert_int_equal(link_open(s.top), LINK_AGAIN);
    assert_non_null(strstr(heard(&s), "nonce=\"n2\", nc=00000001"));
    say(&s, KEEP "Proxy-Authenticate: Digest realm=r, nonce=n3, qop=auth\r\n\r\nbody");
    assert_int_equal(link_open(s.top), LINK_FAILED);
    assert_string_equal(heard(&s), "");
    assert_non_null(strstr(err_text(&s.top->err), "user or password refused; Digest offered"));
    fini(&s);
    logins_forgive(&book);
    start(&s, "relay.example", login());
    char text[200];
    for (int i = 0; i < 20 && link_open(s.top) == LINK_AGAIN; i++) {
        snprintf(text, sizeof(text), KEEP "Proxy-Authenticate: Digest realm=r, nonce=n%d, qop=auth, stale=true\r\n\r\nbody", i);
        say(&s, text);
    }
    assert_non_null(strstr(err_text(&s.top->err), "again and again"));
    fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_request, setup, teardown),
        cmocka_unit_test_setup_teardown(answers, setup, teardown),
        cmocka_unit_test_setup_teardown(an_end_before_the_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(endless_interim_answers_end, setup, teardown),
        cmocka_unit_test_setup_teardown(the_body_is_drained_and_the_connection_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(another_connection_where_the_proxy_ends_this_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_proxy_that_does_not_keep_its_word, setup, teardown),
        cmocka_unit_test_setup_teardown(the_strongest_is_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(digest_over_several_rounds, setup, teardown),
        cmocka_unit_test_setup_teardown(bytes_behind_the_head_belong_to_the_tunnel, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
