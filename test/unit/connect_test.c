// SPDX-License-Identifier: Apache-2.0
#include "scripted.h"
#include <stdio.h>
#include "link/connect.h"

static void start(struct scripted *s, const char *host, const char *user, const char *password)
{
    struct connect_options o = {.proxy = "proxy:3128", .host = host, .port = 443, .user = user, .password = password};
    scripted_top(s, connect_over(scripted_init(s, NULL), &o));
}

static void the_request(void **state)
{
    struct scripted s;
    start(&s, "2001:db8::1", "Aladdin", "open sesame");
    assert_int_equal(link_open(s.top), LINK_AGAIN);
    scripted_hear(&s);
    assert_string_equal(s.heard, "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n"
                                 "Proxy-Connection: keep-alive\r\n"
                                 "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"); // RFC 7617 2
    scripted_fini(&s);
    start(&s, "relay.example", NULL, NULL);
    assert_int_equal(link_open(s.top), LINK_AGAIN);
    scripted_hear(&s);
    assert_string_equal(s.heard, "CONNECT relay.example:443 HTTP/1.1\r\nHost: relay.example:443\r\n"
                                 "Proxy-Connection: keep-alive\r\n\r\n");
    scripted_fini(&s);
    static const char *const bad[] = {"", "a b", "a\r\nX: y", "a/b", "[::1]", "\xc3\xa9"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        start(&s, bad[i], NULL, NULL);
        assert_int_equal(link_open(s.top), LINK_FAILED);
        assert_int_equal(s.top->err.kind, ERR_USAGE);
        scripted_hear(&s);
        assert_int_equal(s.heard_len, 0);
        scripted_fini(&s);
    }
}

static void answers(void **state)
{
    static const struct {
        const char *answer, *err; // err NULL: open
        bool user;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\n\r\n", NULL, false},
        {"HTTP/1.0 299 fine\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", NULL, false},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nA: b\r\n\r\nHTTP/1.1 200\r\n\r\n", NULL, false},
        {"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=\"a\"\r\nproxy-authenticate: NTLM\r\n\r\n",
         "CONNECT via proxy:3128: proxy answered 407 (Basic, NTLM offered)", false},
        {"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=\"a\"\r\n\r\n",
         "CONNECT via proxy:3128: proxy answered 407 (user or password refused; Basic offered)", true},
        {"HTTP/1.1 407 x\r\n\r\n", "CONNECT via proxy:3128: proxy answered 407 (nothing offered)", false},
        {"HTTP/1.1 403 Forbidden\x9b\r\n\r\n", "CONNECT via proxy:3128: proxy answered 403 (Forbidden\\x9b)", false},
        {"HTTP/1.1 502\r\n\r\n", "CONNECT via proxy:3128: proxy answered 502", false},
        {"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", "CONNECT via proxy:3128: proxy answered 302 (Found)", false},
        {"SSH-2.0-x\r\n", "CONNECT via proxy:3128: proxy's answer is not HTTP: not an HTTP/1 status line", false},
        {"\x15\x03\x01\x02", "CONNECT via proxy:3128: proxy's answer is not HTTP: a control character in the head", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct scripted s;
        start(&s, "relay.example", cases[i].user ? "u" : NULL, cases[i].user ? "p" : NULL);
        assert_int_equal(link_open(s.top), LINK_AGAIN);
        scripted_say(&s, cases[i].answer, strlen(cases[i].answer));
        enum link_status st = link_open(s.top);
        assert_int_equal(st, cases[i].err ? LINK_FAILED : LINK_OK);
        if (cases[i].err)
            assert_string_equal(err_text(&s.top->err), cases[i].err);
        scripted_fini(&s);
    }
}

static void an_end_before_the_answer(void **state)
{
    struct scripted s;
    start(&s, "relay.example", NULL, NULL);
    assert_int_equal(link_open(s.top), LINK_AGAIN);
    scripted_say(&s, "HTTP/1.1 200", 12);
    link_shut(s.peer, SHUT_END);
    assert_int_equal(link_open(s.top), LINK_FAILED);
    assert_string_equal(err_text(&s.top->err), "CONNECT via proxy:3128: proxy closed the connection without an answer");
    scripted_fini(&s);
}

static void endless_interim_answers_end(void **state)
{
    struct scripted s;
    start(&s, "relay.example", NULL, NULL);
    assert_int_equal(link_open(s.top), LINK_AGAIN);
    enum link_status st = LINK_AGAIN;
    for (int i = 0; i < 100 && st == LINK_AGAIN; i++) {
        scripted_say(&s, "HTTP/1.1 100 x\r\n\r\n", 18);
        st = link_open(s.top);
    }
    assert_int_equal(st, LINK_FAILED);
    scripted_fini(&s);
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
        start(&s, "relay.example", NULL, NULL);
        assert_int_equal(link_open(s.top), LINK_AGAIN);
        scripted_say(&s, text, n);
        assert_int_equal(link_open(s.top), LINK_OK);
        while (link_recv(s.top, &b) == LINK_OK) {
            for (size_t i = 0; i < b->len; i++, got++)
                assert_int_equal(buf_data(b)[i], got % 251);
            buf_put(b);
        }
        assert_int_equal(got, 30000);
        scripted_fini(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_request),
        cmocka_unit_test(answers),
        cmocka_unit_test(an_end_before_the_answer),
        cmocka_unit_test(endless_interim_answers_end),
        cmocka_unit_test(bytes_behind_the_head_belong_to_the_tunnel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
