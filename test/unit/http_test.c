// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "wire/http.h"
#include "wire/skip.h"

static enum http_result parse(struct http_head *h, bool is_request, const char *text, const char **why)
{
    size_t used;
    *why = NULL;
    return http_parse(h, is_request, text, strlen(text), &used, why);
}

#define REQ(fields) "GET / HTTP/1.1\r\nHost: a\r\n" fields "\r\n"

// What must be taken, and what must not, with the words it is refused with.
static void requests_are_strict(void **state)
{
    static const struct {
        const char *text, *why; // why NULL: taken
    } cases[] = {
        {REQ(""), NULL},
        {"GET / HTTP/1.0\r\n\r\n", NULL},
        {"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n", NULL},
        {REQ("X:\r\n"), NULL},
        {REQ("X:\t a b \t\r\n"), NULL},
        {REQ("X: \xc3\xa9\r\n"), NULL},
        {REQ("Content-Length: 5\r\nContent-Length: 5\r\n"), NULL},
        {REQ("Transfer-Encoding: Chunked\r\n"), NULL},
        {"GET / HTTP/1.1\nHost: a\n\n", "a bare LF in the head"},
        {"GET / HTTP/1.1\rHost: a\r\n\r\n", "a bare CR in the head"},
        {REQ("X: a\rb\r\n"), "a bare CR in the head"},
        {REQ("X: a\nb: c\r\n"), "a bare LF in the head"},
        {REQ("X: a\x01\r\n"), "a control character in the head"},
        {REQ("X: a\x7f\r\n"), "a control character in the head"},
        {REQ("X: a\r\n folded\r\n"), "a folded header line"},
        {REQ("X: a\r\n\tfolded\r\n"), "a folded header line"},
        {REQ("X : a\r\n"), "a bad header name"},
        {REQ(": a\r\n"), "a bad header name"},
        {REQ("X\r\n"), "a bad header name"},
        {REQ("X(y): a\r\n"), "a bad header name"},
        {REQ("X\xc3: a\r\n"), "a bad header name"},
        {"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "not an HTTP request line"},
        {" GET / HTTP/1.1\r\nHost: a\r\n\r\n", "not an HTTP request line"},
        {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "no request target"},
        {"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "not HTTP/1"},
        {"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", "no request target"},
        {"GET /\r\n\r\n", "no request target"},
        {"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "not HTTP/1"},
        {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "not HTTP/1"},
        {"GET / http/1.1\r\nHost: a\r\n\r\n", "not HTTP/1"},
        {"GET / HTTP/1.10\r\nHost: a\r\n\r\n", "not HTTP/1"},
        {"GET / HTTP/1.1\r\n\r\n", "no Host header"},
        {REQ("Host: b\r\n"), "several Host headers"},
        {REQ("Content-Length: 5\r\nContent-Length: 6\r\n"), "a contradictory body length"},
        {REQ("Content-Length: 5, 5\r\n"), "a contradictory body length"},
        {REQ("Content-Length: +5\r\n"), "a contradictory body length"},
        {REQ("Content-Length: \r\n"), "a contradictory body length"},
        {REQ("Content-Length: 0x5\r\n"), "a contradictory body length"},
        {REQ("Content-Length: 9999999999999999999\r\n"), "a contradictory body length"},
        {REQ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), "a contradictory body length"},
        {REQ("Transfer-Encoding: gzip, chunked\r\n"), "a contradictory body length"},
        {REQ("Transfer-Encoding: xchunked\r\n"), "a contradictory body length"},
        {REQ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), "a contradictory body length"},
        {"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "a contradictory body length"},
    };
    struct http_head h;
    const char *why;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enum http_result r = parse(&h, true, cases[i].text, &why);
        if (r != (cases[i].why ? HTTP_BAD : HTTP_OK) || (why && strcmp(why, cases[i].why) != 0))
            fail_msg("case %zu: %s: %d %s", i, cases[i].text, r, why ? why : "");
    }
}

static void responses_are_read(void **state)
{
    static const struct {
        const char *text;
        int status; // 0: refused
        const char *reason;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\n\r\n", 200, "OK"},
        {"HTTP/1.0 200 Connection established\r\n\r\n", 200, "Connection established"},
        {"HTTP/1.1 407\r\n\r\n", 407, ""},
        {"HTTP/1.1 407 \r\n\r\n", 407, ""},
        {"HTTP/1.1 999 x\r\n\r\n", 999, "x"},
        {"HTTP/1.1 200OK\r\n\r\n", 0, NULL},
        {"HTTP/1.1 099 x\r\n\r\n", 0, NULL},
        {"HTTP/1.1 20 x\r\n\r\n", 0, NULL},
        {"HTTP/1.1  200 x\r\n\r\n", 0, NULL},
        {"HTTP/2 200 x\r\n\r\n", 0, NULL},
        {"ICY 200 OK\r\n\r\n", 0, NULL},
        {"SSH-2.0-OpenSSH_9.2p1\r\n", 0, NULL},
    };
    struct http_head h;
    const char *why;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enum http_result r = parse(&h, false, cases[i].text, &why);
        assert_int_equal(r, cases[i].status ? HTTP_OK : HTTP_BAD);
        if (!cases[i].status)
            continue;
        assert_int_equal(h.status, cases[i].status);
        assert_true(http_text_is(h.reason, cases[i].reason));
    }
}

static void a_head_may_come_in_any_pieces(void **state)
{
    static const char text[] = "GET /x?y HTTP/1.1\r\nHost: a.example\r\nX-One:  two three \r\n\r\nbody";
    size_t whole = sizeof(text) - 1 - 4, used;
    struct http_head h;
    const char *why;
    for (size_t n = 0; n < sizeof(text) - 1; n++) {
        char *copy = malloc(n + 1); // so that AddressSanitizer sees a read beyond
        memcpy(copy, text, n);
        enum http_result r = http_parse(&h, true, copy, n, &used, &why);
        assert_int_equal(r, n < whole ? HTTP_MORE : HTTP_OK);
        if (r == HTTP_OK) {
            assert_int_equal(used, whole);
            assert_true(http_text_is(h.method, "GET"));
            assert_true(http_text_is(h.target, "/x?y"));
            assert_true(http_text_is(*http_get(&h, "x-oNE"), "two three"));
            assert_null(http_get(&h, "X-On"));
        }
        free(copy);
    }
}

static void heads_are_bounded(void **state)
{
    static char text[2 * HTTP_HEAD_MAX];
    struct http_head h;
    const char *why;
    size_t used, n = (size_t)sprintf(text, "GET / HTTP/1.1\r\nHost: a\r\nX: ");
    memset(text + n, 'x', 2 * HTTP_HEAD_MAX - n);
    assert_int_equal(http_parse(&h, true, text, HTTP_HEAD_MAX - 1, &used, &why), HTTP_MORE);
    assert_int_equal(http_parse(&h, true, text, HTTP_HEAD_MAX, &used, &why), HTTP_BAD);
    assert_string_equal(why, "the head is too long");
    memcpy(text + HTTP_HEAD_MAX - 4, "\r\n\r\n", 4); // just fits
    assert_int_equal(http_parse(&h, true, text, HTTP_HEAD_MAX, &used, &why), HTTP_OK);
    memcpy(text + HTTP_HEAD_MAX - 4, "x\r\n\r", 4);
    text[HTTP_HEAD_MAX] = '\n'; // just does not
    assert_int_equal(http_parse(&h, true, text, HTTP_HEAD_MAX + 1, &used, &why), HTTP_BAD);
    for (int extra = 0; extra < 2; extra++) {
        n = (size_t)sprintf(text, "GET / HTTP/1.1\r\nHost: a\r\n");
        for (int i = 1; i < HTTP_HEADERS_MAX + extra; i++)
            n += (size_t)sprintf(text + n, "X: %d\r\n", i);
        strcpy(text + n, "\r\n");
        assert_int_equal(parse(&h, true, text, &why), extra ? HTTP_BAD : HTTP_OK);
    }
    assert_string_equal(why, "too many header lines");
}

static void nul_is_refused(void **state)
{
    static const char text[] = "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n";
    static const char name[] = "GET / HTTP/1.1\r\nHost: a\r\nX\0: ab\r\n\r\n";
    struct http_head h;
    const char *why;
    size_t used;
    assert_int_equal(http_parse(&h, true, text, sizeof(text) - 1, &used, &why), HTTP_BAD);
    assert_int_equal(http_parse(&h, true, name, sizeof(name) - 1, &used, &why), HTTP_BAD);
}

static void tokens_are_found_in_lists_over_several_lines(void **state)
{
    struct http_head h;
    const char *why;
    assert_int_equal(parse(&h, true, REQ("Connection: keep-alive , \r\nX: y\r\nconnection: ,, uPgrade,close\r\n"), &why), HTTP_OK);
    assert_true(http_has_token(&h, "Connection", "upgrade"));
    assert_true(http_has_token(&h, "Connection", "keep-alive"));
    assert_true(http_has_token(&h, "Connection", "close"));
    assert_false(http_has_token(&h, "Connection", "grade"));
    assert_false(http_has_token(&h, "Connection", "up"));
    assert_false(http_has_token(&h, "Upgrade", "upgrade"));
    assert_int_equal(http_count(&h, "Connection"), 2);
}

static void body_framing(void **state)
{
    struct http_head h;
    const char *why;
    int64_t length;
    bool chunked;
    parse(&h, true, REQ(""), &why);
    assert_true(http_body(&h, &length, &chunked) && length == -1 && !chunked);
    parse(&h, true, REQ("Content-Length: 007\r\n"), &why);
    assert_true(http_body(&h, &length, &chunked) && length == 7 && !chunked);
    parse(&h, true, REQ("Transfer-Encoding: chunked\r\n"), &why);
    assert_true(http_body(&h, &length, &chunked) && length == -1 && chunked);
    // A tunnel's 200 may say nonsense; who has a use for the length asks.
    assert_int_equal(parse(&h, false, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", &why), HTTP_OK);
    assert_false(http_body(&h, &length, &chunked));
}

static void test_content_of_bodies(void **state)
{
    static const char *const heads[] = {"Transfer-Encoding: chunked", "Content-Length: 9"};
    static const char *const bodies[] = {"4;x=y\r\nabcd\r\n5\r\nefghi\r\n0\r\nT: v\r\n\r\nGET", "abcdefghiGET"};
    (void)state;
    for (size_t i = 0; i < 2; i++)
        for (size_t step = 1; step < 40; step++) {
            char text[200], content[64];
            struct http_head h;
            struct http_skip s;
            const char *why;
            size_t used, got = 0, at = 0, size = strlen(bodies[i]);
            snprintf(text, sizeof text, "POST / HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n", heads[i]);
            assert_int_equal(http_parse(&h, true, text, strlen(text), &used, &why), HTTP_OK);
            assert_true(http_skip_start(&s, &h));
            while (s.state != SKIP_OVER) {
                size_t n = size - at < step ? size - at : step, from, len;
                used = http_skip_data(&s, bodies[i] + at, n, &from, &len);
                assert_true(used > 0 && s.state != SKIP_BAD);
                memcpy(content + got, bodies[i] + at + from, len);
                got += len;
                at += used;
            }
            assert_int_equal(got, 9);
            assert_memory_equal(content, "abcdefghi", 9);
            assert_string_equal(bodies[i] + at, "GET");
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_strict),
        cmocka_unit_test(responses_are_read),
        cmocka_unit_test(a_head_may_come_in_any_pieces),
        cmocka_unit_test(heads_are_bounded),
        cmocka_unit_test(nul_is_refused),
        cmocka_unit_test(tokens_are_found_in_lists_over_several_lines),
        cmocka_unit_test(body_framing),
        cmocka_unit_test(test_content_of_bodies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
