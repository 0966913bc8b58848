// SPDX-License-Identifier: Apache-2.0
// Frames: the vectors of docs/protocol.md, round trips, truncations, and what does not fit.
#include "unit.h"
#include <stdio.h>
#include <stdlib.h>
#include "wire/frame.h"

#define FULL (FRAME_HEAD + FRAME_CONTROL_MAX)

static void fill(void *p, size_t n, uint8_t from)
{
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)p)[i] = (uint8_t)(from + i);
}

static struct frame_hello hello(void)
{
    struct frame_hello f = {.ver_min = 1, .ver_max = 1, .carrier = 7, .has_exporter = true, .has_token = true, .name = "site7",
                            .given_up = {5, 6}, .given_up_count = 2};
    fill(f.session, 16, 0x10);
    fill(f.instance, 16, 0x20);
    fill(f.exporter, 32, 0x40);
    fill(f.token, 16, 0x80);
    return f;
}

static struct frame_welcome welcome(void)
{
    struct frame_welcome f = {.ver = 1, .flags = WELCOME_PEEL, .name = "site7", .next_pin_count = 1};
    fill(f.session, 16, 0x10);
    fill(f.birth, 8, 0x30);
    fill(f.next_pins[0], 32, 0xa0);
    return f;
}

static struct frame_welcome refusal(void)
{
    struct frame_welcome f = {.ver = 1, .status = WELCOME_WAIT, .retry_ms = 5000, .text = "draining"};
    return f;
}

static struct frame_open open_tcp(void)
{
    struct frame_open f = {.kind = OPEN_TCP, .window = 262144, .port = 22, .host = "db.example"};
    fill(f.uid, 16, 0x50);
    return f;
}

static struct frame_open open_service(void)
{
    struct frame_open f = {.kind = OPEN_SERVICE, .window = 262144, .host = "dns@site7", .has_identity = true, .datagram = true,
                           .agent = "site9", .ttl_ms = 1000};
    fill(f.uid, 16, 0x50);
    fill(f.identity, 32, 0xc0);
    return f;
}

static struct frame_open open_accepted(void)
{
    struct frame_open f = {.kind = OPEN_ACCEPTED, .window = 262144, .listener = 3};
    fill(f.uid, 16, 0x50);
    addr_parse_ip(&f.origin, "2001:db8::1", 49152);
    return f;
}

static struct frame_opened opened(const char *ip)
{
    struct frame_opened f = {.window = 262144};
    if (ip && ip[0] == '/')
        addr_unix(&f.address, ip);
    else if (ip)
        addr_parse_ip(&f.address, ip, 8022);
    return f;
}

static size_t encode(unsigned k, uint8_t *out)
{
    struct frame_hello h = hello();
    struct frame_welcome w = welcome(), r = refusal();
    struct frame_open o;
    struct frame_opened a;
    struct frame_dgram d = {.seq = 9, .age_ms = 3, .ttl_ms = 1000, .part = 0, .parts = 1, .len = 2};
    switch (k) {
    case 0:
        return frame_put_hello(out, &h);
    case 1:
        return frame_put_welcome(out, &w);
    case 2:
        return frame_put_welcome(out, &r);
    case 3:
        return frame_put_ping(out, FRAME_PING, 0x1122334455667788, 15000);
    case 4:
        return frame_put_ping(out, FRAME_PONG, 0x1122334455667788, 15000);
    case 5:
        return frame_put_goaway(out, 1, 30000, "bye");
    case 6:
        o = open_tcp();
        return frame_put_open(out, 5, &o);
    case 7:
        o = open_service();
        return frame_put_open(out, 5, &o);
    case 8:
        o = open_accepted();
        return frame_put_open(out, 6, &o);
    case 9:
        a = opened("192.0.2.1");
        return frame_put_opened(out, 5, &a);
    case 10:
        a = opened("/run/x");
        return frame_put_opened(out, 5, &a);
    case 11:
        a = (struct frame_opened){.code = WHY_REFUSED, .text = "connection refused"};
        return frame_put_opened(out, 5, &a);
    case 12:
        frame_put_head(out, 8 + 5, FRAME_DATA, 5);
        put64(out + FRAME_HEAD, 16328);
        memcpy(out + FRAME_DATA_HEAD, "hello", 5);
        return FRAME_DATA_HEAD + 5;
    case 13:
        return frame_put_ack(out, FRAME_ACK, 5, 16333, 278477);
    case 14:
        return frame_put_fin(out, 5, 16333);
    case 15:
        return frame_put_ack(out, FRAME_ACK, 5, 16334, 278477);
    case 16:
        return frame_put_reset(out, 5, WHY_ABORTED, 16333);
    case 17:
        return frame_put_ack(out, FRAME_ACK, 5, ACKED_ALL, 0);
    case 18:
        d.len = 2;
        memcpy(out + frame_put_dgram_head(out, 7, &d), "hi", 2);
        return FRAME_HEAD + FRAME_DGRAM_FIXED + 2;
    case 19:
        return frame_put_ack(out, FRAME_REWIND, 5, 4096, 266240);
    case 20:
        o = (struct frame_open){.kind = OPEN_SERVICE, .window = 262144, .host = "ssh@site7", .sealed = true};
        fill(o.uid, 16, 0x50);
        return frame_put_open(out, 5, &o);
    case 21:
        a = (struct frame_opened){.window = 262144, .sealed = true};
        return frame_put_opened(out, 5, &a);
    default:
        return 0;
    }
}

static const char *const vectors[] = {
#include "frame_vectors.inc"
};

static size_t from_hex(const char *hex, uint8_t *out)
{
    size_t n = 0;
    for (; hex[0]; hex += 2) {
        unsigned byte;
        sscanf(hex, "%2x", &byte);
        out[n++] = (uint8_t)byte;
    }
    return n;
}

static void vectors_are_what_is_encoded(void **state)
{
    uint8_t want[FULL], got[FULL];
    for (unsigned k = 0; k < COUNT(vectors); k++) {
        size_t n = from_hex(vectors[k], want);
        memset(got, 0xee, sizeof got);
        assert_int_equal(encode(k, got), n);
        assert_memory_equal(got, want, n);
    }
    assert_int_equal(encode(COUNT(vectors), got), 0);
}

static void vectors_are_those_of_the_document(void **state)
{
    FILE *f = fopen(PROTOCOL_MD, "r");
    assert_non_null(f);
    static char text[200000], joined[200000];
    size_t n = fread(text, 1, sizeof text - 1, f), m = 0;
    fclose(f);
    for (size_t i = 0; i < n; i++) // lines are broken between bytes
        if (text[i] != ' ' && text[i] != '\n')
            joined[m++] = text[i];
    for (unsigned k = 0; k < COUNT(vectors); k++)
        if (!strstr(joined, vectors[k]))
            fail_msg("docs/protocol.md lacks vector %u: %s", k, vectors[k]);
}

// Decodes a payload and encodes it again; 0: refused.
static size_t again(const uint8_t *in, size_t len, uint8_t type, uint32_t stream, uint8_t *out)
{
    union {
        struct frame_hello hello;
        struct frame_welcome welcome;
        struct frame_open open;
        struct frame_opened opened;
        struct frame_dgram dgram;
    } f;
    uint64_t a, b;
    uint32_t ms;
    uint16_t code;
    char text[FRAME_TEXT_MAX + 1];
    switch (type) {
    case FRAME_HELLO:
        return frame_get_hello(&f.hello, in, len) < 0 ? 0 : frame_put_hello(out, &f.hello);
    case FRAME_WELCOME:
        return frame_get_welcome(&f.welcome, in, len) < 0 ? 0 : frame_put_welcome(out, &f.welcome);
    case FRAME_PING:
    case FRAME_PONG:
        return frame_get_ping(&a, &ms, in, len) < 0 ? 0 : frame_put_ping(out, type, a, ms);
    case FRAME_GOAWAY:
        return frame_get_goaway(&code, &ms, text, in, len) < 0 ? 0 : frame_put_goaway(out, code, ms, text);
    case FRAME_OPEN:
        return frame_get_open(&f.open, in, len) < 0 ? 0 : frame_put_open(out, stream, &f.open);
    case FRAME_OPENED:
        return frame_get_opened(&f.opened, in, len) < 0 ? 0 : frame_put_opened(out, stream, &f.opened);
    case FRAME_ACK:
    case FRAME_REWIND:
        return frame_get_ack(&a, &b, in, len) < 0 ? 0 : frame_put_ack(out, type, stream, a, b);
    case FRAME_FIN:
        return frame_get_fin(&a, in, len) < 0 ? 0 : frame_put_fin(out, stream, a);
    case FRAME_RESET:
        return frame_get_reset(&code, &a, in, len) < 0 ? 0 : frame_put_reset(out, stream, code, a);
    case FRAME_DGRAM: {
        if (frame_get_dgram(&f.dgram, in, len) < 0)
            return 0;
        size_t head = frame_put_dgram_head(out, stream, &f.dgram);
        memcpy(out + head, f.dgram.data, f.dgram.len);
        return head + f.dgram.len;
    }
    default: // DATA is decoded by the carrier
        memcpy(out, in - FRAME_HEAD, FRAME_HEAD + len);
        return FRAME_HEAD + len;
    }
}

static void every_frame_comes_back_the_same(void **state)
{
    uint8_t frame[FULL], out[FULL];
    for (unsigned k = 0; k < COUNT(vectors); k++) {
        struct frame_head h;
        size_t n = from_hex(vectors[k], frame);
        frame_get_head(&h, frame);
        assert_int_equal(FRAME_HEAD + h.length, n);
        assert_int_equal(again(frame + FRAME_HEAD, h.length, h.type, h.stream, out), n);
        assert_memory_equal(out, frame, n);
    }
}

// Cut anywhere a payload is refused, or means exactly what is left of it: TLVs and texts are at the end.
static void every_truncation_is_refused(void **state)
{
    uint8_t frame[FULL], out[FULL];
    static const unsigned tlvs[] = {4, 2, 2, 0, 0, 3, 0, 4, 2, 0, 0, 1, 13, 0, 0, 0, 0, 0, 2, 0, 1, 1}; // cuts that are whole payloads
    for (unsigned k = 0; k < COUNT(vectors); k++) {
        struct frame_head h;
        unsigned whole = 0;
        from_hex(vectors[k], frame);
        frame_get_head(&h, frame);
        for (size_t len = 0; len < h.length; len++) {
            uint8_t *exact = malloc(FRAME_HEAD + len + 1); // the sanitizer sees a read beyond
            memcpy(exact + 1, frame, FRAME_HEAD + len);
            size_t n = again(exact + 1 + FRAME_HEAD, len, h.type, h.stream, out);
            if (n) {
                assert_int_equal(n, FRAME_HEAD + len);
                assert_memory_equal(out + FRAME_HEAD, frame + FRAME_HEAD, len);
                whole++;
            }
            free(exact);
        }
        if (whole != tlvs[k])
            fail_msg("vector %u: %u truncations were taken", k, whole);
    }
}

static void a_byte_too_many_is_refused(void **state)
{
    uint8_t frame[FULL] = {0}, out[FULL];
    static const uint8_t fixed[] = {FRAME_PING, FRAME_PONG, FRAME_ACK, FRAME_FIN, FRAME_RESET, FRAME_REWIND};
    static const size_t len[] = {12, 12, 16, 8, 10, 16};
    for (unsigned i = 0; i < COUNT(fixed); i++) {
        assert_true(again(frame + FRAME_HEAD, len[i], fixed[i], 1, out) > 0);
        assert_int_equal(again(frame + FRAME_HEAD, len[i] + 1, fixed[i], 1, out), 0);
    }
}

static void unknown_tlvs_are_skipped(void **state)
{
    uint8_t frame[FULL], out[FULL];
    for (unsigned k = 0; k < COUNT(vectors); k++) {
        struct frame_head h;
        from_hex(vectors[k], frame);
        frame_get_head(&h, frame);
        if (h.type != FRAME_HELLO && h.type != FRAME_WELCOME && h.type != FRAME_OPEN && h.type != FRAME_OPENED)
            continue;
        memcpy(frame + FRAME_HEAD + h.length, "\xee\0\3abc", 6);
        assert_int_equal(again(frame + FRAME_HEAD, h.length + 6, h.type, h.stream, out), FRAME_HEAD + h.length);
        assert_memory_equal(out + FRAME_HEAD, frame + FRAME_HEAD, h.length);
        assert_int_equal(again(frame + FRAME_HEAD, h.length + 5, h.type, h.stream, out), 0);
    }
}

static int open_with(const void *tlv, size_t n)
{
    uint8_t frame[FULL];
    struct frame_open o = open_tcp(), f;
    size_t len = frame_put_open(frame, 5, &o);
    memcpy(frame + len, tlv, n);
    return frame_get_open(&f, frame + FRAME_HEAD, len - FRAME_HEAD + n);
}

static void carriers_given_up(void **state)
{
    static const struct {
        const char *tlv;
        size_t len;
        int result;
        unsigned count;
    } rows[] = {
        {"\4\0\4\0\0\1\2", 7, 0, 1},
        {"\4\0\0", 3, 0, 0},
        {"\4\0\3\0\0\1", 6, -1, 0},                     // no whole number
        {"\4\0\4\0\0\0\1\4\0\4\0\0\0\2", 14, -1, 0}, // twice
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct frame_hello f, h = hello();
        uint8_t frame[FULL];
        h.given_up_count = 0;
        size_t n = frame_put_hello(frame, &h);
        memcpy(frame + n, rows[i].tlv, rows[i].len);
        assert_int_equal(frame_get_hello(&f, frame + FRAME_HEAD, n + rows[i].len - FRAME_HEAD), rows[i].result);
        if (rows[i].result == 0)
            assert_int_equal(f.given_up_count, rows[i].count);
    }
    struct frame_hello f, h = hello();
    uint8_t frame[FULL], many[3 + 4 * (FRAME_GIVEN_UP_MAX + 1)] = {4, 0, 4 * (FRAME_GIVEN_UP_MAX + 1)};
    h.given_up_count = 0;
    size_t n = frame_put_hello(frame, &h);
    memcpy(frame + n, many, sizeof many);
    assert_int_equal(frame_get_hello(&f, frame + FRAME_HEAD, n + sizeof many - FRAME_HEAD), -1);
}

static void values_out_of_range_are_refused(void **state)
{
    struct frame_hello f, h = hello();
    uint8_t frame[FULL];
    size_t n;
    h.ver_min = 2; // above the highest
    n = frame_put_hello(frame, &h);
    assert_int_equal(frame_get_hello(&f, frame + FRAME_HEAD, n - FRAME_HEAD), -1);
    h = hello();
    h.name[2] = '\n';
    n = frame_put_hello(frame, &h);
    assert_int_equal(frame_get_hello(&f, frame + FRAME_HEAD, n - FRAME_HEAD), -1);
    assert_int_equal(open_with("\x11\0\4\0\0\0\1", 7), 0);
    assert_int_equal(open_with("\x11\0\3\0\0\1", 6), -1);        // listener
    assert_int_equal(open_with("\x12\0\4\0\0\0\1", 7), -1);      // identity
    assert_int_equal(open_with("\x14\0\1x", 4), -1);             // datagram
    assert_int_equal(open_with("\x13\0\1x", 4), -1);             // ttl
    assert_int_equal(open_with("\x10\0\1\0", 4), 0);             // origin: none
    assert_int_equal(open_with("\x10\0\1\2", 4), -1);            // unknown family
    assert_int_equal(open_with("\x10\0\7\4\x7f\0\0\1\0\x50", 10), 0);
    assert_int_equal(open_with("\x10\0\x8\4\x7f\0\0\1\0\x50 ", 11), -1); // too long
    assert_int_equal(open_with("\x10\0\6\4\x7f\0\0\1\0", 9), -1);
    assert_int_equal(open_with("\x10\0\4\1\2a\0", 7), -1);       // a path with a 0
    uint8_t path[120] = {0x10, 0, 110, 1, 108};
    memset(path + 5, 'a', 108);
    assert_int_equal(open_with(path, 113), -1); // longer than sun_path
    path[2] = 109, path[4] = 107;
    assert_int_equal(open_with(path, 112), 0);
    struct frame_dgram d;
    assert_int_equal(frame_get_dgram(&d, (const uint8_t *)"\0\0\0\0\0\0\0\0\0\0", 10), -1); // of no parts
    assert_int_equal(frame_get_dgram(&d, (const uint8_t *)"\0\0\0\0\0\0\0\0\3\3", 10), -1);
    assert_int_equal(frame_get_dgram(&d, (const uint8_t *)"\0\0\0\0\0\0\0\0\2\3", 10), 0);
}

static void final_offsets_leave_room_for_their_acks(void **state)
{
    uint64_t final;
    uint16_t code;
    uint8_t frame[64];
    frame_put_fin(frame, 1, FRAME_FINAL_MAX);
    assert_int_equal(frame_get_fin(&final, frame + FRAME_HEAD, 8), 0);
    assert_true(final + 1 != ACKED_ALL);
    frame_put_fin(frame, 1, FRAME_FINAL_MAX + 1);
    assert_int_equal(frame_get_fin(&final, frame + FRAME_HEAD, 8), -1);
    frame_put_reset(frame, 1, 1, FRAME_FINAL_MAX + 1);
    assert_int_equal(frame_get_reset(&code, &final, frame + FRAME_HEAD, 10), -1);
}

static void the_largest_of_each_fit(void **state)
{
    uint8_t frame[FULL + 1], out[FULL];
    struct frame_hello h = hello();
    struct frame_welcome w = welcome();
    struct frame_open o = open_service();
    struct frame_opened a = {.code = 1};
    frame[FULL] = 0x77;
    memset(h.name, 'n', sizeof h.name - 1);
    h.given_up_count = FRAME_GIVEN_UP_MAX;
    memset(w.name, 'n', sizeof w.name - 1);
    memset(w.text, 't', FRAME_TEXT_MAX);
    w.next_pin_count = 4;
    w.retry_ms = 1;
    memset(o.host, 'h', 255);
    memset(o.agent, 'a', sizeof o.agent - 1);
    o.listener = 9;
    memset(a.text, 't', FRAME_TEXT_MAX);
    char path[108] = {0};
    memset(path, 'p', 107);
    assert_true(addr_unix(&o.origin, path) && addr_unix(&a.address, path));
    size_t n = frame_put_hello(frame, &h);
    assert_int_equal(again(frame + FRAME_HEAD, n - FRAME_HEAD, FRAME_HELLO, 0, out), n);
    n = frame_put_welcome(frame, &w);
    assert_int_equal(again(frame + FRAME_HEAD, n - FRAME_HEAD, FRAME_WELCOME, 0, out), n);
    n = frame_put_open(frame, 1, &o);
    assert_int_equal(again(frame + FRAME_HEAD, n - FRAME_HEAD, FRAME_OPEN, 1, out), n);
    assert_memory_equal(out, frame, n);
    n = frame_put_opened(frame, 1, &a);
    assert_int_equal(again(frame + FRAME_HEAD, n - FRAME_HEAD, FRAME_OPENED, 1, out), n);
    char text[FRAME_TEXT_MAX + 2];
    memset(text, 't', FRAME_TEXT_MAX + 1);
    text[FRAME_TEXT_MAX + 1] = 0;
    n = frame_put_goaway(frame, 1, 2, text); // cut
    assert_int_equal(n, FRAME_HEAD + 6 + FRAME_TEXT_MAX);
    uint16_t code;
    uint32_t ms;
    char back[FRAME_TEXT_MAX + 1];
    frame[n] = 't';
    assert_int_equal(frame_get_goaway(&code, &ms, back, frame + FRAME_HEAD, 6 + FRAME_TEXT_MAX), 0);
    assert_int_equal(frame_get_goaway(&code, &ms, back, frame + FRAME_HEAD, 7 + FRAME_TEXT_MAX), -1);
    assert_int_equal(frame[FULL], 0x77);
}

static void heads(void **state)
{
    uint8_t b[FRAME_HEAD];
    struct frame_head h;
    frame_put_head(b, 0xabcdef, 0x12, 0x89abcdef);
    assert_memory_equal(b, "\xab\xcd\xef\x12\x89\xab\xcd\xef", 8);
    frame_get_head(&h, b);
    assert_int_equal(h.length, 0xabcdef);
    assert_int_equal(h.type, 0x12);
    assert_int_equal(h.stream, 0x89abcdef);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_are_what_is_encoded), cmocka_unit_test(vectors_are_those_of_the_document),
        cmocka_unit_test(every_frame_comes_back_the_same), cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(a_byte_too_many_is_refused), cmocka_unit_test(unknown_tlvs_are_skipped),
        cmocka_unit_test(values_out_of_range_are_refused),
        cmocka_unit_test(carriers_given_up), cmocka_unit_test(final_offsets_leave_room_for_their_acks),
        cmocka_unit_test(the_largest_of_each_fit), cmocka_unit_test(heads),
    };
    if (argc > 1 && strcmp(argv[1], "--print") == 0) { // for the document
        uint8_t out[FULL];
        for (unsigned k = 0; encode(k, out); k++) {
            size_t n = encode(k, out);
            for (size_t i = 0; i < n; i++)
                printf("%02x", out[i]);
            puts("");
        }
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
