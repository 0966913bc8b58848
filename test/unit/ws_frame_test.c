// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "wire/ws.h"

static void the_accept_key_of_the_rfc(void **state)
{
    char out[WS_ACCEPT_LEN + 1];
    ws_accept("dGhlIHNhbXBsZSBub25jZQ==", 24, out); // RFC 6455 1.3
    assert_string_equal(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_true(ws_key_ok("dGhlIHNhbXBsZSBub25jZQ==", 24));
    static const char *const bad[] = {"", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ===", "dGhlIHNhbXBsZSBub25jZ===",
                                      "dGhlIHNhbXBsZSBub25j-Q==", "dGhlIHNhbXBsZSBub25jZQAA", "dGhl HNhbXBsZSBub25jZQ=="};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(ws_key_ok(bad[i], strlen(bad[i])));
}

static void masking_at_every_size_and_place(void **state)
{
    static const uint8_t key[4] = {0x37, 0xfa, 0x21, 0x3d};
    uint8_t hello[] = {0x7f, 0x9f, 0x4d, 0x51, 0x58}; // RFC 6455 5.7
    ws_mask(hello, 5, key, 0);
    assert_memory_equal(hello, "Hello", 5);
    uint8_t data[400], plain[400];
    for (size_t len = 0; len < 300; len++) {
        for (size_t place = 0; place < 9; place++) {
            for (uint64_t offset = 0; offset < 5; offset++) {
                for (size_t i = 0; i < sizeof(data); i++)
                    data[i] = plain[i] = (uint8_t)(i * 7 + len);
                ws_mask(data + place, len, key, offset);
                for (size_t i = 0; i < sizeof(data); i++) {
                    bool in = i >= place && i < place + len;
                    uint8_t k = in ? key[(offset + i - place) & 3] : 0;
                    assert_int_equal(data[i], plain[i] ^ k);
                }
            }
        }
    }
}

static void headers_there_and_back_in_any_pieces(void **state)
{
    static const uint64_t lengths[] = {0, 1, 125, 126, 127, 65535, 65536, (UINT64_C(1) << 63) - 1};
    static const uint8_t key[4] = {1, 2, 3, 4};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        for (int masked = 0; masked < 2; masked++) {
            uint8_t head[WS_HEAD_MAX];
            size_t n = ws_head_write(head, WS_BINARY, true, lengths[i], masked ? key : NULL), used, at = 0;
            assert_int_equal(n, ws_head_size(lengths[i], masked));
            struct ws_parser p;
            ws_parser_init(&p, masked);
            for (; at < n - 1; at++) {
                assert_int_equal(ws_parse(&p, head + at, 1, &used), WS_MORE);
                assert_int_equal(used, 1);
                assert_int_equal(ws_parse(&p, head + at, 0, &used), WS_MORE);
            }
            assert_int_equal(ws_parse(&p, head + at, 1, &used), WS_FRAME);
            assert_true(p.left == lengths[i] && p.frame.length == lengths[i]);
            assert_int_equal(p.frame.opcode, WS_BINARY);
            assert_true(p.frame.fin);
            assert_int_equal(p.frame.masked, masked);
            if (masked)
                assert_memory_equal(p.frame.mask, key, 4);
        }
    }
}

struct wrong {
    bool from_client;
    uint8_t bytes[WS_HEAD_MAX];
    size_t len;
    bool bad;
};

static void rules_of_the_header(void **state)
{
    static const struct wrong cases[] = {
        {false, {0x82, 0x00}, 2, false},
        {false, {0x82, 0x80}, 2, true},                    // masked by the server
        {true, {0x82, 0x00}, 2, true},                     // unmasked by the client
        {false, {0xc2, 0x00}, 2, true},                    // RSV1
        {false, {0xa2, 0x00}, 2, true},                    // RSV2
        {false, {0x92, 0x00}, 2, true},                    // RSV3
        {false, {0x83, 0x00}, 2, true},                    // unknown opcodes
        {false, {0x87, 0x00}, 2, true},
        {false, {0x8b, 0x00}, 2, true},
        {false, {0x8f, 0x00}, 2, true},
        {false, {0x89, 0x7d}, 2, false},
        {false, {0x89, 0x7e}, 2, true},                    // a control frame over 125
        {false, {0x09, 0x00}, 2, true},                    // a control frame in fragments
        {false, {0x80, 0x00}, 2, true},                    // continues nothing
        {false, {0x82, 0x7e, 0x00, 0x7e}, 4, false},
        {false, {0x82, 0x7e, 0x00, 0x7d}, 4, true},        // not the shortest form
        {false, {0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0}, 10, false},
        {false, {0x82, 0x7f, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 10, true},
        {false, {0x82, 0x7f, 0x80, 0, 0, 0, 0, 0, 0, 0}, 10, true}, // beyond 2^63
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ws_parser p;
        size_t used;
        ws_parser_init(&p, cases[i].from_client);
        enum ws_result r = ws_parse(&p, cases[i].bytes, cases[i].len, &used);
        if (r != (cases[i].bad ? WS_BAD : WS_FRAME))
            fail_msg("case %zu: %d", i, r);
        if (cases[i].bad)
            assert_non_null(p.why);
    }
}

static enum ws_result feed(struct ws_parser *p, uint8_t a, uint8_t b)
{
    uint8_t head[2] = {a, b};
    size_t used;
    return ws_parse(p, head, 2, &used);
}

static void fragments_and_control_frames_between(void **state)
{
    struct ws_parser p;
    ws_parser_init(&p, false);
    assert_int_equal(feed(&p, 0x01, 0), WS_FRAME); // text begins
    assert_true(p.in_message);
    assert_int_equal(feed(&p, 0x89, 0), WS_FRAME); // ping between
    assert_true(p.in_message);
    assert_int_equal(feed(&p, 0x00, 0), WS_FRAME);
    assert_int_equal(p.message_opcode, WS_TEXT);
    assert_int_equal(feed(&p, 0x80, 0), WS_FRAME); // and ends
    assert_false(p.in_message);
    assert_int_equal(feed(&p, 0x80, 0), WS_BAD);
    ws_parser_init(&p, false);
    assert_int_equal(feed(&p, 0x02, 0), WS_FRAME);
    assert_int_equal(feed(&p, 0x82, 0), WS_BAD); // another inside
}

static void payloads_in_pieces_are_unmasked(void **state)
{
    static const uint8_t key[4] = {9, 8, 7, 6};
    for (size_t cut = 1; cut < 40; cut++) {
        uint8_t bytes[WS_HEAD_MAX + 100];
        size_t n = ws_head_write(bytes, WS_BINARY, true, 100, key), used;
        for (int i = 0; i < 100; i++)
            bytes[n + i] = (uint8_t)i;
        ws_mask(bytes + n, 100, key, 0);
        struct ws_parser p;
        ws_parser_init(&p, true);
        assert_int_equal(ws_parse(&p, bytes, n + 100, &used), WS_FRAME);
        assert_int_equal(used, n);
        for (size_t at = 0; at < 100; at += cut)
            ws_payload(&p, bytes + n + at, at + cut < 100 ? cut : 100 - at);
        assert_int_equal(p.left, 0);
        for (int i = 0; i < 100; i++)
            assert_int_equal(bytes[n + i], i);
    }
}

static void close_codes(void **state)
{
    static const uint16_t good[] = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999};
    static const uint16_t bad[] = {0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535};
    uint16_t answer = 0;
    assert_int_equal(ws_close_code(NULL, 0, &answer), WS_CODE_ABSENT);
    assert_int_equal(ws_close_code((const uint8_t *)"\x03", 1, &answer), 0);
    assert_int_equal(answer, WS_CODE_PROTOCOL);
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        uint8_t p[] = {(uint8_t)(good[i] >> 8), (uint8_t)good[i], 'b', 'y', 'e'};
        assert_int_equal(ws_close_code(p, sizeof(p), &answer), good[i]);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint8_t p[] = {(uint8_t)(bad[i] >> 8), (uint8_t)bad[i]};
        assert_int_equal(ws_close_code(p, sizeof(p), &answer), 0);
        assert_int_equal(answer, WS_CODE_PROTOCOL);
    }
    assert_int_equal(ws_close_code((const uint8_t *)"\x03\xe8\xff", 3, &answer), 0);
    assert_int_equal(answer, WS_CODE_PAYLOAD);
    assert_int_equal(ws_close_code((const uint8_t *)"\x03\xe8\xc3", 3, &answer), 0);
}

// A second, plain way to say what UTF-8 is: encode every code point, and see that nothing else is taken.
static size_t encode(uint32_t c, uint8_t out[4])
{
    if (c < 0x80) {
        out[0] = (uint8_t)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; c >>= 6)
        out[i] = (uint8_t)(0x80 | (c & 0x3f));
    out[0] = (uint8_t)((0xf00 >> n & 0xff) | c);
    return n;
}

static void utf8_all_code_points(void **state)
{
    for (uint32_t c = 0; c < 0x110000 + 100; c++) {
        uint8_t out[4];
        struct utf8 u = {0};
        size_t n = encode(c, out);
        bool ok = c < 0x110000 && !(c >= 0xd800 && c < 0xe000);
        bool got = utf8_feed(&u, out, n) && utf8_is_whole(&u);
        if (got != ok)
            fail_msg("U+%04X", c);
        struct utf8 v = {0};
        bool bytewise = true;
        for (size_t i = 0; i < n; i++) {
            assert_true(i == 0 || !bytewise || !utf8_is_whole(&v));
            bytewise = bytewise && utf8_feed(&v, out + i, 1);
        }
        assert_int_equal(bytewise && utf8_is_whole(&v), ok);
    }
    static const char *const bad[] = {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xe0\x9f\xbf", "\xf0\x80\x80\x80",
                                      "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xc3(", "\xe2\x82("};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct utf8 u = {0};
        assert_false(utf8_feed(&u, (const uint8_t *)bad[i], strlen(bad[i])));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_accept_key_of_the_rfc),
        cmocka_unit_test(masking_at_every_size_and_place),
        cmocka_unit_test(headers_there_and_back_in_any_pieces),
        cmocka_unit_test(rules_of_the_header),
        cmocka_unit_test(fragments_and_control_frames_between),
        cmocka_unit_test(payloads_in_pieces_are_unmasked),
        cmocka_unit_test(close_codes),
        cmocka_unit_test(utf8_all_code_points),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
