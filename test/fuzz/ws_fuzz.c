// SPDX-License-Identifier: Apache-2.0
// WebSocket frames, fed whole and in pieces: both ways must see the same frames and bytes. Byte 0: role; byte 1: piece size.
#include "fuzz.h"
#include "wire/ws.h"

struct seen {
    uint64_t hash, frames, bytes;
    bool bad;
};

static void mix(struct seen *s, uint64_t v)
{
    s->hash = (s->hash ^ v) * 0x100000001b3u;
}

static void note_payload(struct seen *s, const uint8_t *p, size_t n, struct utf8 *u)
{
    for (size_t i = 0; i < n; i++)
        mix(s, p[i]);
    s->bytes += n;
    utf8_feed(u, p, n);
}

static struct seen feed(const uint8_t *data, size_t size, bool from_client, size_t piece)
{
    struct seen s = {0};
    struct utf8 u = {0};
    struct ws_parser p;
    ws_parser_init(&p, from_client);
    while (size && !s.bad) {
        size_t n = size < piece ? size : piece, at = 0;
        uint8_t *copy = fuzz_copy(data, n);
        while (at < n && !s.bad) {
            if (p.left) {
                size_t take = n - at < p.left ? n - at : (size_t)p.left;
                ws_payload(&p, copy + at, take);
                note_payload(&s, copy + at, take, &u);
                at += take;
                continue;
            }
            size_t used = 0;
            enum ws_result r = ws_parse(&p, copy + at, n - at, &used);
            CHECK(used <= n - at);
            at += used;
            if (r == WS_MORE)
                CHECK(at == n);
            if (r == WS_BAD) {
                CHECK(p.why && *p.why);
                s.bad = true;
            }
            if (r == WS_FRAME) {
                s.frames++;
                mix(&s, p.frame.opcode);
                mix(&s, p.frame.length);
                CHECK(p.left == p.frame.length && p.frame.masked == from_client);
                CHECK(!ws_is_control(p.frame.opcode) || p.frame.length <= WS_CONTROL_MAX);
            }
        }
        free(copy);
        data += n;
        size -= n;
    }
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    bool from_client = data[0] & 1;
    struct seen whole = feed(data + 2, size - 2, from_client, SIZE_MAX);
    struct seen pieces = feed(data + 2, size - 2, from_client, 1 + data[1] % 19);
    CHECK(whole.hash == pieces.hash && whole.frames == pieces.frames && whole.bytes == pieces.bytes);
    CHECK(whole.bad == pieces.bad);
    uint8_t *copy = fuzz_copy(data + 2, size - 2);
    uint16_t code;
    ws_close_code(copy, size - 2, &code);
    free(copy);
    return 0;
}
