// SPDX-License-Identifier: Apache-2.0
// Challenges, Digest answers, and bodies that are skipped.
#include "unit.h"
#include <stdio.h>
#include "wire/challenge.h"
#include "wire/digest.h"
#include "wire/skip.h"

// "Scheme(token){name=value;…} …" of a header.
static const char *seen(const char *header)
{
    static char out[1024];
    struct http_text list = {header, strlen(header)};
    struct challenge c;
    size_t at = 0;
    out[0] = 0;
    while (challenge_next(&list, &c)) {
        at += (size_t)snprintf(out + at, sizeof(out) - at, "%s%.*s", at ? " " : "", (int)c.scheme.len, c.scheme.at);
        if (c.token.len)
            at += (size_t)snprintf(out + at, sizeof(out) - at, "(%.*s)", (int)c.token.len, c.token.at);
        for (size_t i = 0; i < c.count; i++)
            at += (size_t)snprintf(out + at, sizeof(out) - at, "{%.*s=%.*s}", (int)c.params[i].name.len, c.params[i].name.at,
                                   (int)c.params[i].value.len, c.params[i].value.at);
    }
    return out;
}

static void lists(void **state)
{
    static const char *const cases[][2] = {
        {"", ""},
        {"Basic", "Basic"},
        {"NTLM, Negotiate", "NTLM Negotiate"},
        {",, NTLM ,, Basic realm=x,", "NTLM Basic{realm=x}"},
        {"Basic realm=\"a, b\", Digest realm=\"c \\\" , d\", nonce=n", "Basic{realm=\"a, b\"} Digest{realm=\"c \\\" , d\"}{nonce=n}"},
        {"Negotiate YII/+a==, Basic realm = \"x\"", "Negotiate(YII/+a==) Basic{realm=\"x\"}"},
        {"NTLM TlRM", "NTLM(TlRM)"},
        {"NTLM TlRMA=", "NTLM(TlRMA=)"},
        {"Digest qop=\"auth, auth-int\", algorithm=MD5,  Basic realm=\"\"", "Digest{qop=\"auth, auth-int\"}{algorithm=MD5} Basic{realm=\"\"}"},
        {"Basic realm=\"no end", "Basic"},
        {"Basic realm=, NTLM", "Basic(realm=) NTLM"},
        {"@, Basic", ""},
        {"Basic@ realm=x", ""},
        {"A b c, D", "A"},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_string_equal(seen(cases[i][0]), cases[i][1]);
}

static void first(const char *header, struct challenge *c)
{
    struct http_text list = {header, strlen(header)};
    assert_true(challenge_next(&list, c));
}

static void values(void **state)
{
    struct challenge c;
    char out[8];
    first("Digest Realm=\"a\\\"b\\\\c\", nonce=plain, long=\"12345678\", empty=\"\"", &c);
    assert_true(challenge_get(&c, "realm", out, sizeof(out)));
    assert_string_equal(out, "a\"b\\c");
    assert_true(challenge_get(&c, "NONCE", out, sizeof(out)));
    assert_string_equal(out, "plain");
    assert_false(challenge_get(&c, "long", out, sizeof(out)));
    assert_true(challenge_get(&c, "empty", out, sizeof(out)));
    assert_string_equal(out, "");
    assert_false(challenge_get(&c, "absent", out, sizeof(out)));
}

#define RFC "realm=\"http-auth@example.org\", qop=\"auth, auth-int\", " \
            "nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""

static const char *answer(const char *challenge, struct digest_ask ask)
{
    static char out[DIGEST_ANSWER_MAX];
    struct challenge c;
    struct digest d;
    first(challenge, &c);
    if (!digest_parse(&d, &c))
        return "not understood";
    return digest_answer(&d, &ask, out) ? out : "not answered";
}

// RFC 7616 3.9.1, and RFC 2617 3.5 in RFC 2069's form as its errata have it.
static void the_rfcs_vectors(void **state)
{
    struct digest_ask ask = {.user = "Mufasa", .password = "Circle of Life", .method = "GET", .uri = "/dir/index.html",
                             .cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", .nc = 1};
    assert_string_equal(answer("Digest " RFC ", algorithm=SHA-256", ask),
                        "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", algorithm=SHA-256, "
                        "nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, "
                        "cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, "
                        "response=\"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1\", "
                        "opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"");
    assert_non_null(strstr(answer("Digest " RFC ", algorithm=MD5", ask), "response=\"8ca523f5e9506fed4657c9700eebdbec\""));
    assert_non_null(strstr(answer("Digest " RFC, ask), "response=\"8ca523f5e9506fed4657c9700eebdbec\""));
    assert_null(strstr(answer("Digest " RFC, ask), "algorithm"));
    ask = (struct digest_ask){.user = "Mufasa", .password = "CircleOfLife", .method = "GET", .uri = "/dir/index.html",
                              .cnonce = "x", .nc = 1};
    assert_non_null(strstr(answer("Digest realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"", ask),
                           "response=\"1949323746fe6a43ef61f9606e7febea\""));
}

// Computed with Python's hashlib from the formulas of RFC 7616 3.4.
static void other_forms(void **state)
{
    struct digest_ask ask = {.user = "us\"er", .password = "p\xc3\xa4ss", .method = "CONNECT", .uri = "relay.example:443",
                             .cnonce = "c1", .nc = 0x1a2b};
    const char *sess = answer("Digest realm=\"a \\\"b\\\"\", nonce=\"n\\\\1\", qop=auth, algorithm=MD5-sess", ask);
    assert_non_null(strstr(sess, "username=\"us\\\"er\", realm=\"a \\\"b\\\"\""));
    assert_non_null(strstr(sess, "nonce=\"n\\\\1\", nc=00001a2b"));
    assert_non_null(strstr(sess, "algorithm=MD5-sess"));
    assert_non_null(strstr(sess, "response=\"cc4dc4f26f3f63332b9ffbe5288404c6\""));
    const char *hashed = answer("Digest realm=r, nonce=n, qop=\"auth\", algorithm=sha-256-SESS, userhash=true", ask);
    assert_non_null(strstr(hashed, "username=\"368ce702e797580c8bab89b666a4e4a091e8046cf0eb1b74d576533fc0aeda3d\""));
    assert_non_null(strstr(hashed, "userhash=true"));
    assert_non_null(strstr(hashed, "response=\"1c7341d4104d4cae118a9458893b1b83f99ad831ddc5bad48aa4e42bc4b41963\""));
    static const char *const unknown[] = {
        "Digest nonce=n", "Digest realm=r", "Digest realm=r, nonce=n, algorithm=SHA-512-256, qop=auth",
        "Digest realm=r, nonce=n, qop=auth-int", "Digest realm=r, nonce=n, algorithm=MD5-sess", "Digest realm=r, nonce=n, algorithm=-sess",
    };
    for (size_t i = 0; i < COUNT(unknown); i++)
        assert_string_equal(answer(unknown[i], ask), "not understood");
    char big[4096] = "Digest realm=r, qop=auth, nonce=";
    memset(big + strlen(big), 'x', 600);
    assert_string_equal(answer(big, ask), "not understood");
    memset(big, 'q', sizeof(big) - 1);
    ask.user = big;
    assert_string_equal(answer("Digest realm=r, nonce=n, qop=auth", ask), "not answered");
    ask.user = "a\r\nX: y";
    assert_string_equal(answer("Digest realm=r, nonce=n, qop=auth", ask), "not answered");
}

static void bodies(void **state)
{
    static const struct {
        const char *head, *body;
        int used; // -1: bad; -2: no end announced
    } cases[] = {
        {"Content-Length: 5\r\n", "helloX", 5},
        {"Content-Length: 0\r\n", "X", 0},
        {"Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\nX", 15},
        {"Transfer-Encoding: chunked\r\n", "A;x=y\r\n0123456789\r\n00\r\nT: r\r\nU: s\r\n\r\nX", 37},
        {"Transfer-Encoding: chunked\r\n", "0\r\n\r\n", 5},
        {"Transfer-Encoding: chunked\r\n", "\r\n", -1},
        {"Transfer-Encoding: chunked\r\n", "x\r\n", -1},
        {"Transfer-Encoding: chunked\r\n", "1\r\nab\r\n", -1},
        {"Transfer-Encoding: chunked\r\n", "1111111111111111\r\n", -1},
        {"", "", -2},
        {"Transfer-Encoding: gzip\r\n", "", -2},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        for (size_t piece = 1; piece < 8; piece++) {
            char text[200];
            struct http_head h;
            struct http_skip s;
            size_t used, total = 0, len = strlen(cases[i].body);
            const char *why;
            int n = snprintf(text, sizeof(text), "HTTP/1.1 407 x\r\n%s\r\n", cases[i].head);
            assert_int_equal(http_parse(&h, false, text, (size_t)n, &used, &why), HTTP_OK);
            if (!http_skip_start(&s, &h)) {
                assert_int_equal(cases[i].used, -2);
                continue;
            }
            while (total < len && s.state != SKIP_OVER && s.state != SKIP_BAD)
                total += http_skip_feed(&s, cases[i].body + total, len - total < piece ? len - total : piece);
            assert_int_equal(s.state, cases[i].used < 0 ? SKIP_BAD : SKIP_OVER);
            if (cases[i].used >= 0)
                assert_int_equal(total, cases[i].used);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists), cmocka_unit_test(values), cmocka_unit_test(the_rfcs_vectors),
        cmocka_unit_test(other_forms), cmocka_unit_test(bodies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
