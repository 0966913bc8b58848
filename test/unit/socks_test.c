// SPDX-License-Identifier: Apache-2.0
#include "unit.h"
#include <stdlib.h>
#include "wire/socks.h"

// Feeds `len` bytes in pieces of `step`, answering logins with `ok`; collects what is said. Returns the last event and
// in *left the bytes it did not take.
static enum socks_event feed(struct socks *s, const void *data, size_t len, size_t step, bool ok, uint8_t *said,
                             size_t *said_len, size_t *left)
{
    const uint8_t *at = data;
    enum socks_event event = SOCKS_MORE;
    *said_len = 0;
    while (len) {
        size_t n = step < len ? step : len;
        uint8_t *piece = malloc(n); // so that a read beyond it shows
        memcpy(piece, at, n);
        size_t used = socks_feed(s, piece, n, &event);
        free(piece);
        assert_true(used <= n);
        memcpy(said + *said_len, s->out, s->out_len);
        *said_len += s->out_len;
        at += used;
        len -= used;
        if (event == SOCKS_ASK) {
            event = socks_login(s, ok);
            memcpy(said + *said_len, s->out, s->out_len);
            *said_len += s->out_len;
        }
        if (event != SOCKS_MORE)
            break;
    }
    *left = len;
    return event;
}

#define FEED(s, text, step) feed(s, text, sizeof(text) - 1, step, true, said, &said_len, &left)

static void connects_at_every_cut(void **state)
{
    static const char talk[] = "\x05\x02\x01\x00"
                               "\x05\x01\x00\x03\x0b"
                               "example.org\x01\xbb"
                               "GET";
    uint8_t said[64];
    size_t said_len, left;
    for (size_t step = 1; step <= sizeof talk; step++) {
        struct socks s;
        socks_init(&s, false);
        assert_int_equal(FEED(&s, talk, step), SOCKS_ASKED);
        assert_true(left >= 3 || step < sizeof talk);
        assert_memory_equal(said, "\x05\x00", 2);
        assert_int_equal(said_len, 2);
        assert_int_equal(s.command, SOCKS_CONNECT);
        assert_true(s.dest.is_name);
        assert_string_equal(s.dest.host, "example.org");
        assert_int_equal(s.dest.port, 443);
        struct addr bound;
        assert_true(addr_parse_ip(&bound, "192.0.2.1", 0x1234));
        socks_reply(&s, SOCKS_OK, &bound);
        assert_int_equal(s.out_len, 10);
        assert_memory_equal(s.out, "\x05\x00\x00\x01\xc0\x00\x02\x01\x12\x34", 10);
        assert_int_equal(s.state, SOCKS_DONE);
    }
}

static void login_at_every_cut(void **state)
{
    static const char talk[] = "\x05\x01\x02"
                               "\x01\x04user\x11secret-and-longer"
                               "\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00";
    uint8_t said[64];
    size_t said_len, left;
    for (size_t step = 1; step <= sizeof talk; step++) {
        struct socks s;
        socks_init(&s, true);
        assert_int_equal(FEED(&s, talk, step), SOCKS_ASKED);
        assert_int_equal(said_len, 4);
        assert_memory_equal(said, "\x05\x02\x01\x00", 4);
        assert_int_equal(s.command, SOCKS_UDP);
        assert_false(s.dest.is_name);
        assert_string_equal(s.dest.host, "0.0.0.0");
        assert_int_equal(s.dest.port, 0);
        assert_int_equal(s.password[0], 0);
        assert_null(memmem(s.in, sizeof s.in, "longer", 6));
    }
}

static void login_carries_any_bytes(void **state)
{
    struct socks s;
    enum socks_event event;
    uint8_t talk[3 + 513] = {5, 1, 2, 1, 255};
    memset(talk + 5, 'u', 255);
    talk[260] = 255;
    memset(talk + 261, 'p', 255);
    socks_init(&s, true);
    assert_int_equal(socks_feed(&s, talk, sizeof talk, &event), 3);
    assert_int_equal(socks_feed(&s, talk + 3, 513, &event), 513);
    assert_int_equal(event, SOCKS_ASK);
    assert_int_equal(s.user_len, 255);
    assert_int_equal(s.password_len, 255);
    assert_int_equal(s.password[254], 'p');
    assert_int_equal(socks_login(&s, false), SOCKS_REFUSED);
    assert_memory_equal(s.out, "\x01\x01", 2);
    assert_int_equal(socks_feed(&s, talk, 3, &event), 0); // nothing goes on after a refusal
    assert_int_equal(event, SOCKS_REFUSED);
}

static void steps_cannot_be_skipped(void **state)
{
    static const struct {
        bool login;
        const char *bytes;
        size_t len;
        const char *said;
        size_t said_len;
    } cases[] = {
        {true, "\x05\x01\x00", 3, "\x05\xff", 2},                                          // does not offer a login
        {true, "\x05\x00", 2, "\x05\xff", 2},                                              // offers nothing
        {true, "\x05\x01\x02\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50", 13, "\x05\x02", 2}, // request instead of login
        {true, "\x05\x01\x02\x01\x00\x00", 6, "\x05\x02", 2},                              // empty user
        {false, "\x05\x01\x02", 3, "\x05\xff", 2},
        {false, "\x04\x01\x00\x50\x7f\x00\x00\x01\x00", 9, "", 0}, // SOCKS4
        {false, "GET / HTTP/1.1", 14, "", 0},
        {false, "\x05\x01\x00\x01\x01u\x01p", 8, "\x05\x00", 2}, // login nobody asked for
        {false, "\x05\x01\x00\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50", 13,
         "\x05\x00\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00", 12},
        {false, "\x05\x01\x00\x05\x01\x00\x02\x7f\x00\x00\x01\x00\x50", 13,
         "\x05\x00\x05\x08\x00\x01\x00\x00\x00\x00\x00\x00", 12},
        {false, "\x05\x01\x00\x05\x01\x00\x03\x00\x00\x50", 10, "\x05\x00\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00",
         12}, // empty name
        {false,
         "\x05\x01\x00\x05\x01\x00\x03\x02"
         "a\x00\x00\x50",
         12, "\x05\x00\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00", 12},
        {false, "\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x00", 13,
         "\x05\x00\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00", 12},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        for (size_t step = 1; step < 16; step++) {
            struct socks s;
            uint8_t said[64];
            size_t said_len, left;
            socks_init(&s, cases[i].login);
            if (feed(&s, cases[i].bytes, cases[i].len, step, true, said, &said_len, &left) != SOCKS_REFUSED)
                fail_msg("case %zu in steps of %zu", i, step);
            assert_int_equal(said_len, cases[i].said_len);
            assert_memory_equal(said, cases[i].said, said_len);
            assert_int_equal(s.state, SOCKS_FAILED);
        }
}

static void longest_name(void **state)
{
    struct socks s;
    enum socks_event event;
    uint8_t talk[262] = {5, 1, 0, 3, 255};
    memset(talk + 5, 'n', 255);
    talk[261] = 80;
    socks_init(&s, false);
    assert_int_equal(socks_feed(&s, (const uint8_t *)"\x05\x01\x00", 3, &event), 3);
    assert_int_equal(socks_feed(&s, talk, sizeof talk, &event), sizeof talk);
    assert_int_equal(event, SOCKS_ASKED);
    assert_int_equal(strlen(s.dest.host), 255);
    assert_int_equal(s.dest.port, 80);
}

static void a_name_is_a_host(void **state)
{
    static const struct {
        const char *name;
        const char *host; // NULL: refused
    } cases[] = {
        {"unix:/run/docker.sock", NULL}, {"unix:x", NULL}, {"/run/x", NULL}, {"a\n", NULL}, {"a b", NULL}, {"\x7f", NULL},
        {"a:1", NULL}, {"::1::2", NULL}, {"[a]", NULL}, {"[]", NULL}, {"it@agent", NULL}, {"::1%a b", NULL},
        {"::1", "::1"}, {"[2001:db8::1]", "2001:db8::1"}, {"fe80::1%eth0", "fe80::1%eth0"}, {"192.0.2.1", "192.0.2.1"},
        {"a_b-c.example.", "a_b-c.example."}, {"b\xc3\xbc" "cher.example", "b\xc3\xbc" "cher.example"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct socks s;
        struct socks_dest d;
        uint8_t said[64], talk[64] = "\x05\x01\x00\x05\x01\x00\x03", dgram[64] = "\0\0\0\x03";
        size_t n = strlen(cases[i].name), said_len, left, used;
        dgram[4] = talk[7] = (uint8_t)n;
        memcpy(talk + 8, cases[i].name, n);
        memcpy(dgram + 5, cases[i].name, n);
        dgram[6 + n] = talk[9 + n] = 80;
        socks_init(&s, false);
        enum socks_event event = feed(&s, talk, n + 10, 64, true, said, &said_len, &left);
        assert_int_equal(event, cases[i].host ? SOCKS_ASKED : SOCKS_REFUSED);
        assert_int_equal(socks_udp_parse(dgram, n + 7, &d, &used), cases[i].host != NULL);
        if (cases[i].host) {
            assert_string_equal(s.dest.host, cases[i].host);
            assert_string_equal(d.host, cases[i].host);
        } else {
            assert_memory_equal(said, "\x05\x00\x05\x01", 4);
        }
    }
}

static void ip6_both_ways(void **state)
{
    struct socks s;
    struct addr bound;
    uint8_t said[64];
    size_t said_len, left;
    socks_init(&s, false);
    assert_int_equal(
        FEED(&s, "\x05\x01\x00\x05\x01\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x16",
             99),
        SOCKS_ASKED);
    assert_string_equal(s.dest.host, "2001:db8::1");
    assert_int_equal(s.dest.port, 22);
    assert_true(addr_parse_ip(&bound, "2001:db8::2", 22));
    socks_reply(&s, SOCKS_OK, &bound);
    assert_int_equal(s.out_len, SOCKS_REPLY_MAX);
    assert_true(addr_parse_ip(&bound, "::ffff:127.0.0.1", 22));
    socks_reply(&s, socks_code(WHY_POLICY), &bound);
    assert_memory_equal(s.out, "\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x16", 10);
    assert_int_equal(s.state, SOCKS_FAILED);
}

static void udp_headers(void **state)
{
    struct socks_dest d;
    struct addr from;
    uint8_t head[SOCKS_UDP_HEAD_MAX];
    size_t used;
    assert_true(socks_udp_parse((const uint8_t *)"\0\0\0\x03\x02"
                                                 "ab\x00\x35xyz",
                                12, &d, &used));
    assert_int_equal(used, 9);
    assert_string_equal(d.host, "ab");
    assert_int_equal(d.port, 53);
    assert_false(socks_udp_parse((const uint8_t *)"\0\0\1\x03\x02"
                                                  "ab\x00\x35xyz",
                                 12, &d, &used)); // a fragment
    assert_false(socks_udp_parse((const uint8_t *)"\0\0\0\x02\x02"
                                                  "ab\x00\x35xyz",
                                 12, &d, &used));
    assert_false(socks_udp_parse((const uint8_t *)"\0\0\0\x01\x7f\0\0\1\0\0", 10, &d, &used)); // port 0
    for (size_t len = 0; len < 9; len++) {
        uint8_t *cut = malloc(len + 1);
        memcpy(cut,
               "\0\0\0\x03\x02"
               "ab\x00\x35",
               len);
        assert_false(socks_udp_parse(cut, len, &d, &used));
        free(cut);
    }
    assert_true(addr_parse_ip(&from, "192.0.2.9", 53));
    assert_int_equal(socks_udp_head(head, &from), 10);
    assert_true(socks_udp_parse(head, 10, &d, &used));
    assert_string_equal(d.host, "192.0.2.9");
    assert_true(addr_parse_ip(&from, "::1", 53));
    assert_int_equal(socks_udp_head(head, &from), 22);
    assert_true(socks_udp_parse(head, 22, &d, &used));
    assert_string_equal(d.host, "::1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connects_at_every_cut),
        cmocka_unit_test(login_at_every_cut),
        cmocka_unit_test(login_carries_any_bytes),
        cmocka_unit_test(steps_cannot_be_skipped),
        cmocka_unit_test(longest_name),
        cmocka_unit_test(a_name_is_a_host),
        cmocka_unit_test(ip6_both_ways),
        cmocka_unit_test(udp_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
