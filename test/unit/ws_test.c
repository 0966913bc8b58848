// SPDX-License-Identifier: Apache-2.0
// The WebSocket link against a peer played in bytes: the handshakes, what breaks them, pings, Close and its patience.
#include "scripted.h"
#include <stdio.h>
#include "link/head.h"
#include "link/ws.h"
#include "wire/ws.h"

static void client(struct scripted *s, const struct mem_plan *plan, const char *protocol)
{
    struct ws_client_options o = {.host = "relay.example:8443", .path = "/x?y", .protocol = protocol, .headers = "X-A: b\r\n"};
    scripted_top(s, ws_client_over(scripted_init(s, plan), &o));
    assert_int_equal(link_open(s->top), LINK_AGAIN);
    scripted_hear(s);
}

static void accept_of(const struct scripted *s, char accept[WS_ACCEPT_LEN + 1])
{
    const char *key = strstr(s->heard, "Sec-WebSocket-Key: ");
    assert_non_null(key);
    ws_accept(key + 19, WS_KEY_LEN, accept);
}

static void open_client(struct scripted *s, const struct mem_plan *plan)
{
    char text[512], accept[WS_ACCEPT_LEN + 1];
    client(s, plan, WS_SUBPROTOCOL);
    accept_of(s, accept);
    int n = snprintf(text, sizeof(text),
                     "HTTP/1.1 101 x\r\nconnection: keep-alive, upgrade\r\nUPGRADE: WebSocket\r\nSec-WebSocket-Accept: %s\r\n"
                     "Sec-WebSocket-Protocol: culvert.v1\r\n\r\n", accept);
    scripted_say(s, text, (size_t)n);
    assert_int_equal(link_open(s->top), LINK_OK);
    s->heard_len = 0;
}

static void the_request_and_the_answer(void **state)
{
    struct scripted s;
    char key[2][25];
    for (int i = 0; i < 2; i++) {
        client(&s, NULL, i ? NULL : WS_SUBPROTOCOL);
        static const char start[] = "GET /x?y HTTP/1.1\r\nHost: relay.example:8443\r\nUpgrade: websocket\r\n"
                                    "Connection: Upgrade\r\nSec-WebSocket-Key: ";
        assert_memory_equal(s.heard, start, sizeof(start) - 1);
        memcpy(key[i], s.heard + sizeof(start) - 1, 24);
        assert_true(ws_key_ok(key[i], 24));
        assert_string_equal(s.heard + sizeof(start) - 1 + 24,
                            i ? "\r\nSec-WebSocket-Version: 13\r\nX-A: b\r\n\r\n"
                              : "\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: culvert.v1\r\nX-A: b\r\n\r\n");
        scripted_fini(&s);
    }
    assert_memory_not_equal(key[0], key[1], 24);
    open_client(&s, NULL);
    scripted_fini(&s);
}

static void wrong_answers_are_named(void **state)
{
    static const struct {
        const char *answer; // %s: the right accept
        const char *err;
    } cases[] = {
        {"HTTP/1.1 403 Forbidden\r\n\r\n", "the server answered 403 (Forbidden)"},
        {"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n", "101 without an upgrade to WebSocket"},
        {"HTTP/1.1 101 x\r\nConnection: upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", "101 without an upgrade to WebSocket"},
        {"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x%s\r\n\r\n",
         "101 with a wrong Sec-WebSocket-Accept"},
        {"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "101 with a wrong Sec-WebSocket-Accept"},
        {"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n",
         "101 without the subprotocol that was asked for"},
        {"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n"
         "Sec-WebSocket-Protocol: Culvert.v1\r\n\r\n", "101 without the subprotocol that was asked for"},
        {"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n"
         "Sec-WebSocket-Protocol: culvert.v1\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
         "101 with an extension that was not asked for"},
        {"hello\r\n", "the answer is not HTTP: not an HTTP/1 status line"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct scripted s;
        char text[1024], accept[WS_ACCEPT_LEN + 1];
        client(&s, NULL, WS_SUBPROTOCOL);
        accept_of(&s, accept);
        const char *hole = strstr(cases[i].answer, "%s");
        int n = hole ? snprintf(text, sizeof(text), "%.*s%s%s", (int)(hole - cases[i].answer), cases[i].answer, accept, hole + 2)
                     : snprintf(text, sizeof(text), "%s", cases[i].answer);
        scripted_say(&s, text, (size_t)n);
        assert_int_equal(link_open(s.top), LINK_FAILED);
        if (!strstr(err_text(&s.top->err), cases[i].err))
            fail_msg("%s", err_text(&s.top->err));
        assert_memory_equal(err_text(&s.top->err), "WebSocket at relay.example:8443/x?y: ", 37);
        scripted_fini(&s);
    }
}

#define UPGRADE "Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define V13 "Sec-WebSocket-Version: 13\r\n"
#define SUB "Sec-WebSocket-Protocol: chat, culvert.v1\r\n"

static void server(struct scripted *s, const char *request, const char *protocol, const char *rest)
{
    struct http_head h;
    const char *why;
    size_t used;
    struct link *base = scripted_init(s, NULL);
    assert_int_equal(http_parse(&h, true, request, strlen(request), &used, &why), HTTP_OK);
    struct buf *b = rest ? buf_copy(&s->w.pool, rest, strlen(rest)) : NULL;
    scripted_top(s, ws_server_over(base, &h, protocol, b));
}

static void the_server_is_strict(void **state)
{
    static const struct {
        const char *request;
        const char *status;
    } cases[] = {
        {"GET / HTTP/1.1\r\n" UPGRADE KEY V13 SUB "\r\n", "HTTP/1.1 101 "},
        {"POST / HTTP/1.1\r\n" UPGRADE KEY V13 SUB "\r\n", "HTTP/1.1 400 "},
        {"GET / HTTP/1.0\r\n" UPGRADE KEY V13 SUB "\r\n", "HTTP/1.1 400 "},
        {"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n" KEY V13 SUB "\r\n", "HTTP/1.1 400 "},
        {"GET / HTTP/1.1\r\n" UPGRADE V13 SUB "\r\n", "HTTP/1.1 400 "},
        {"GET / HTTP/1.1\r\n" UPGRADE KEY KEY V13 SUB "\r\n", "HTTP/1.1 400 "},
        {"GET / HTTP/1.1\r\n" UPGRADE "Sec-WebSocket-Key: short\r\n" V13 SUB "\r\n", "HTTP/1.1 400 "},
        {"GET / HTTP/1.1\r\n" UPGRADE KEY SUB "\r\n", "HTTP/1.1 426 "},
        {"GET / HTTP/1.1\r\n" UPGRADE KEY "Sec-WebSocket-Version: 8\r\n" SUB "\r\n", "HTTP/1.1 426 "},
        {"GET / HTTP/1.1\r\n" UPGRADE KEY V13 "\r\n", "HTTP/1.1 400 "},
        {"GET / HTTP/1.1\r\n" UPGRADE KEY V13 "Sec-WebSocket-Protocol: chat\r\n\r\n", "HTTP/1.1 400 "},
        {"GET / HTTP/1.1\r\n" UPGRADE KEY V13 SUB "Content-Length: 1\r\n\r\n", "HTTP/1.1 400 "},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct scripted s;
        server(&s, cases[i].request, WS_SUBPROTOCOL, NULL);
        bool ok = strstr(cases[i].status, "101");
        assert_int_equal(link_open(s.top), ok ? LINK_OK : LINK_FAILED);
        assert_int_equal(scripted_hear(&s), ok ? LINK_AGAIN : LINK_END);
        if (strncmp(s.heard, cases[i].status, strlen(cases[i].status)) != 0)
            fail_msg("case %zu: %s", i, s.heard);
        if (ok)
            assert_string_equal(s.heard, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                         "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
                                         "Sec-WebSocket-Protocol: culvert.v1\r\n\r\n");
        scripted_fini(&s);
    }
}

static void open_server(struct scripted *s, const char *rest)
{
    server(s, "GET / HTTP/1.1\r\n" UPGRADE KEY V13 "\r\n", NULL, rest);
    assert_int_equal(link_open(s->top), LINK_OK);
    scripted_hear(s);
    s->heard_len = 0;
}

// A frame as a client sends it, masked with "abcd".
static size_t frame(char *out, uint8_t opcode, bool fin, const char *payload, size_t len)
{
    size_t n = ws_head_write((uint8_t *)out, opcode, fin, len, (const uint8_t *)"abcd");
    memcpy(out + n, payload, len);
    ws_mask((uint8_t *)out + n, len, (const uint8_t *)"abcd", 0);
    return n + len;
}

static void say_frame(struct scripted *s, uint8_t opcode, bool fin, const char *payload)
{
    char text[256];
    scripted_say(s, text, frame(text, opcode, fin, payload, strlen(payload)));
}

static void must_read(struct scripted *s, const char *want)
{
    struct buf *b;
    assert_int_equal(link_recv(s->top, &b), LINK_OK);
    assert_int_equal(b->len, strlen(want));
    assert_memory_equal(buf_data(b), want, b->len);
    buf_put(b);
}

static void frames_of_one_buffer_come_as_one(void **state)
{
    struct scripted s;
    struct buf *b;
    char text[512];
    size_t n = 0;
    open_server(&s, NULL);
    n += frame(text + n, WS_BINARY, false, "one ", 4);
    n += frame(text + n, WS_PING, true, "p1", 2);
    n += frame(text + n, WS_CONT, false, "", 0);
    n += frame(text + n, WS_CONT, true, "two ", 4);
    n += frame(text + n, WS_PONG, true, "unasked", 7);
    n += frame(text + n, WS_BINARY, true, "three", 5);
    scripted_say(&s, text, n);
    must_read(&s, "one two three");
    assert_int_equal(link_recv(s.top, &b), LINK_AGAIN);
    scripted_hear(&s);
    assert_int_equal(s.heard_len, 4);
    assert_memory_equal(s.heard, "\x8a\x02p1", 4); // the pong, unmasked
    scripted_fini(&s);
}

static void what_was_read_behind_the_request_is_not_lost(void **state)
{
    struct scripted s;
    char text[64];
    size_t n = frame(text, WS_BINARY, true, "early", 5);
    text[n] = 0;
    open_server(&s, text);
    must_read(&s, "early");
    scripted_fini(&s);
}

static void only_the_newest_ping_waits_for_room(void **state)
{
    struct mem_plan tiny = {.queue_max = 200};
    struct scripted s;
    struct buf *b;
    open_client(&s, &tiny);
    while (link_room(s.top) > 0)
        link_send(s.top, buf_copy(&s.w.pool, "0123456789012345678901234567890123456789", 40));
    scripted_say(&s, "\x89\x01" "a", 3);
    scripted_say(&s, "\x89\x01" "b", 3);
    assert_int_equal(link_recv(s.top, &b), LINK_AGAIN);
    scripted_hear(&s);
    size_t before = s.heard_len;
    assert_int_equal(link_recv(s.top, &b), LINK_AGAIN); // now there is room
    scripted_hear(&s);
    assert_int_equal(s.heard_len - before, 2 + 4 + 1);
    ws_mask((uint8_t *)s.heard + before + 6, 1, (uint8_t *)s.heard + before + 2, 0);
    assert_int_equal(s.heard[before + 6], 'b');
    scripted_fini(&s);
}

static void client_frames_have_fresh_masks(void **state)
{
    struct scripted s;
    uint8_t masks[50][4];
    open_client(&s, NULL);
    for (int i = 0; i < 50; i++) {
        s.heard_len = 0;
        link_send(s.top, buf_copy(&s.w.pool, "same", 4));
        scripted_hear(&s);
        assert_int_equal(s.heard_len, 10);
        assert_memory_equal(s.heard, "\x82\x84", 2);
        memcpy(masks[i], s.heard + 2, 4);
        ws_mask((uint8_t *)s.heard + 6, 4, masks[i], 0);
        assert_memory_equal(s.heard + 6, "same", 4);
        for (int j = 0; j < i; j++)
            assert_memory_not_equal(masks[i], masks[j], 4);
    }
    scripted_fini(&s);
}

static void broken_rules_are_answered_with_their_code(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        int code;
    } cases[] = {
        {"\x82\x00", 2, 1002},                 // unmasked
        {"\xc2\x80", 2, 1002},                 // RSV
        {"\x81\x80" "abcd", 6, 1003},          // text on a binary stream
        {"\x88\x81" "abcd" "x", 7, 1002},      // Close of one byte
        {"\x88\x82" "\0\0\0\0" "\x03\xed", 8, 1002}, // 1005 on the wire
        {"\x88\x83" "\0\0\0\0" "\x03\xe8\xff", 9, 1007},
        {"\x80\x80" "abcd", 6, 1002},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct scripted s;
        struct buf *b;
        char text[64];
        open_server(&s, NULL);
        size_t n = frame(text, WS_BINARY, true, "good", 4);
        memcpy(text + n, cases[i].bytes, cases[i].len);
        scripted_say(&s, text, n + cases[i].len);
        must_read(&s, "good"); // what came before still counts
        assert_int_equal(link_recv(s.top, &b), LINK_FAILED);
        assert_int_equal(s.top->err.why, WHY_PROTOCOL);
        assert_int_equal(scripted_hear(&s), LINK_END);
        assert_int_equal(s.heard_len, 4);
        assert_memory_equal(s.heard, "\x88\x02", 2);
        assert_int_equal((uint8_t)s.heard[2] << 8 | (uint8_t)s.heard[3], cases[i].code);
        scripted_fini(&s);
    }
}

static void the_peers_close_is_an_end_and_is_echoed_once(void **state)
{
    struct scripted s;
    struct buf *b;
    open_server(&s, NULL);
    say_frame(&s, WS_BINARY, true, "last");
    say_frame(&s, WS_CLOSE, true, "\x0b\xb8" "bye"); // 3000
    say_frame(&s, WS_BINARY, true, "not data any more");
    must_read(&s, "last");
    assert_int_equal(link_recv(s.top, &b), LINK_END);
    link_send(s.top, buf_copy(&s.w.pool, "our last", 8));
    link_shut(s.top, SHUT_END);
    assert_int_equal(scripted_hear(&s), LINK_END);
    assert_int_equal(s.heard_len, 10 + 4);
    assert_memory_equal(s.heard, "\x82\x08our last\x88\x02\x0b\xb8", 14);
    assert_true(link_room(s.top) > 0);
    assert_int_equal(link_recv(s.top, &b), LINK_END);
    scripted_fini(&s);
}

static void our_close_waits_for_the_peers_but_not_for_ever(void **state)
{
    for (int answered = 0; answered < 2; answered++) {
        struct scripted s;
        struct buf *b;
        open_server(&s, NULL);
        link_shut(s.top, SHUT_END);
        assert_int_equal(scripted_hear(&s), LINK_AGAIN);
        assert_memory_equal(s.heard, "\x88\x02\x03\xe8", 4);
        assert_int_equal(link_room(s.top), 0);
        say_frame(&s, WS_BINARY, true, "still under way");
        must_read(&s, "still under way");
        if (answered)
            say_frame(&s, WS_CLOSE, true, "");
        else
            s.w.now_ms += WS_CLOSE_MS;
        if (!answered)
            worker_run_timers(&s.w);
        assert_int_equal(link_recv(s.top, &b), answered ? LINK_END : LINK_FAILED);
        assert_int_equal(s.top->err.why, answered ? WHY_NONE : WHY_TIMEOUT);
        assert_int_equal(worker_run_timers(&s.w), UINT64_MAX); // the deadline is gone
        assert_int_equal(scripted_hear(&s), answered ? LINK_END : LINK_FAILED);
        assert_true(link_room(s.top) > 0);
        scripted_fini(&s);
    }
}

static void an_end_without_close_is_a_failure(void **state)
{
    struct scripted s;
    struct buf *b;
    open_server(&s, NULL);
    say_frame(&s, WS_BINARY, true, "data");
    link_shut(s.peer, SHUT_END);
    must_read(&s, "data");
    assert_int_equal(link_recv(s.top, &b), LINK_FAILED);
    assert_int_equal(s.top->err.why, WHY_ABORTED);
    scripted_fini(&s);
}

static void a_huge_announced_length_costs_nothing(void **state)
{
    struct scripted s;
    struct buf *b;
    open_server(&s, NULL);
    size_t before = s.w.pool.out_bytes;
    scripted_say(&s, "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0abc", 17);
    must_read(&s, "abc");
    assert_int_equal(link_recv(s.top, &b), LINK_AGAIN);
    assert_int_equal(s.w.pool.out_bytes, before);
    scripted_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_request_and_the_answer),
        cmocka_unit_test(wrong_answers_are_named),
        cmocka_unit_test(the_server_is_strict),
        cmocka_unit_test(frames_of_one_buffer_come_as_one),
        cmocka_unit_test(what_was_read_behind_the_request_is_not_lost),
        cmocka_unit_test(only_the_newest_ping_waits_for_room),
        cmocka_unit_test(client_frames_have_fresh_masks),
        cmocka_unit_test(broken_rules_are_answered_with_their_code),
        cmocka_unit_test(the_peers_close_is_an_end_and_is_echoed_once),
        cmocka_unit_test(our_close_waits_for_the_peers_but_not_for_ever),
        cmocka_unit_test(an_end_without_close_is_a_failure),
        cmocka_unit_test(a_huge_announced_length_costs_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
