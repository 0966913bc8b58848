// SPDX-License-Identifier: Apache-2.0
// Payloads of session frames: byte 0 is the type. What decodes must encode and decode to the same again.
#include "fuzz.h"
#include "wire/frame.h"

static uint8_t out[FRAME_HEAD + FRAME_CONTROL_MAX];

static size_t payload(size_t whole)
{
    struct frame_head h;
    CHECK(whole >= FRAME_HEAD && whole <= sizeof(out));
    frame_get_head(&h, out);
    CHECK(h.length == whole - FRAME_HEAD);
    return h.length;
}

static void hello(const uint8_t *in, size_t len)
{
    struct frame_hello a, b;
    memset(&a, 0, sizeof(a));
    if (frame_get_hello(&a, in, len) == 0) {
        CHECK(memchr(a.name, 0, sizeof(a.name)));
        CHECK(frame_get_hello(&b, out + FRAME_HEAD, payload(frame_put_hello(out, &a))) == 0);
        CHECK(a.given_up_count <= FRAME_GIVEN_UP_MAX && a.given_up_count == b.given_up_count);
        CHECK(a.carrier == b.carrier && a.has_token == b.has_token && strcmp(a.name, b.name) == 0);
    }
}

static void welcome(const uint8_t *in, size_t len)
{
    struct frame_welcome a, b;
    if (frame_get_welcome(&a, in, len) == 0) {
        CHECK(memchr(a.name, 0, sizeof(a.name)) && memchr(a.text, 0, sizeof(a.text)) && a.next_pin_count <= 4);
        CHECK(frame_get_welcome(&b, out + FRAME_HEAD, payload(frame_put_welcome(out, &a))) == 0);
        CHECK(a.status == b.status && a.next_pin_count == b.next_pin_count && strcmp(a.text, b.text) == 0);
    }
}

static void same_state(const struct frame_state *a, const struct frame_state *b)
{
    CHECK(a->is_set == b->is_set && a->acked == b->acked && a->sent == b->sent && a->acked != ACKED_ALL);
    CHECK(a->has_final == b->has_final && a->final == b->final && a->final <= FRAME_FINAL_MAX);
}

static void open(const uint8_t *in, size_t len)
{
    struct frame_open a, b;
    if (frame_get_open(&a, in, len) == 0) {
        CHECK(memchr(a.host, 0, sizeof(a.host)) && memchr(a.agent, 0, sizeof(a.agent)));
        CHECK(frame_get_open(&b, out + FRAME_HEAD, payload(frame_put_open(out, 3, &a))) == 0);
        CHECK(a.kind == b.kind && a.port == b.port && a.window == b.window && strcmp(a.host, b.host) == 0);
        CHECK(a.listener == b.listener && a.has_identity == b.has_identity && a.origin.len == b.origin.len);
        same_state(&a.state, &b.state);
    }
}

static void opened(const uint8_t *in, size_t len)
{
    struct frame_opened a, b;
    if (frame_get_opened(&a, in, len) == 0) {
        CHECK(memchr(a.text, 0, sizeof(a.text)));
        CHECK(frame_get_opened(&b, out + FRAME_HEAD, payload(frame_put_opened(out, 3, &a))) == 0);
        CHECK(a.code == b.code && a.window == b.window && a.address.len == b.address.len);
        same_state(&a.state, &b.state);
    }
}

static void dgram(const uint8_t *in, size_t len)
{
    struct frame_dgram d;
    if (frame_get_dgram(&d, in, len) == 0) {
        CHECK(d.data >= in && d.len <= len && (size_t)(d.data - in) <= len - d.len && d.part < d.parts);
        CHECK(frame_put_dgram_head(out, 3, &d) == FRAME_HEAD + FRAME_DGRAM_FIXED);
    }
}

static void small(uint8_t type, const uint8_t *in, size_t len)
{
    uint64_t x = 0, y = 0;
    uint32_t ms;
    uint16_t code;
    char text[FRAME_TEXT_MAX + 1];
    if (type == FRAME_PING || type == FRAME_PONG)
        (void)!frame_get_ping(&x, &ms, in, len);
    if (type == FRAME_GOAWAY && frame_get_goaway(&code, &ms, text, in, len) == 0)
        CHECK(memchr(text, 0, sizeof(text)));
    if ((type == FRAME_ACK || type == FRAME_REWIND) && frame_get_ack(&x, &y, in, len) == 0)
        CHECK(memcmp(out + FRAME_HEAD, in, payload(frame_put_ack(out, type, 3, x, y))) == 0);
    if (type == FRAME_FIN && frame_get_fin(&x, in, len) == 0)
        CHECK(memcmp(out + FRAME_HEAD, in, payload(frame_put_fin(out, 3, x))) == 0);
    if (type == FRAME_RESET && frame_get_reset(&code, &x, in, len) == 0)
        CHECK(memcmp(out + FRAME_HEAD, in, payload(frame_put_reset(out, 3, code, x))) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size - 1 > FRAME_PAYLOAD_MAX)
        return 0;
    uint8_t *in = fuzz_copy(data + 1, size - 1);
    size_t len = size - 1;
    switch (data[0]) {
    case FRAME_HELLO:
        hello(in, len);
        break;
    case FRAME_WELCOME:
        welcome(in, len);
        break;
    case FRAME_OPEN:
        open(in, len);
        break;
    case FRAME_OPENED:
        opened(in, len);
        break;
    case FRAME_DGRAM:
        dgram(in, len);
        break;
    default:
        small(data[0], in, len);
    }
    free(in);
    return 0;
}
