// SPDX-License-Identifier: Apache-2.0
#include "wire/ws.h"
#include <openssl/evp.h>
#include <string.h>

void ws_parser_init(struct ws_parser *p, bool from_client)
{
    *p = (struct ws_parser){.from_client = from_client};
}

// Header bytes known to belong to it so far: 2, and then all.
static size_t head_needed(const struct ws_parser *p)
{
    if (p->have < 2)
        return 2;
    uint8_t length = p->head[1] & 0x7f;
    return 2u + (length == 127 ? 8 : length == 126 ? 2 : 0) + (p->head[1] & 0x80 ? 4 : 0);
}

static enum ws_result bad(struct ws_parser *p, const char *why)
{
    p->why = why;
    return WS_BAD;
}

// What the first two bytes alone can break.
static const char *check_start(const struct ws_parser *p)
{
    uint8_t opcode = p->head[0] & 0x0f, length = p->head[1] & 0x7f;
    bool fin = p->head[0] & 0x80, masked = p->head[1] & 0x80;
    if (p->head[0] & 0x70)
        return "a reserved bit is set";
    if ((opcode > WS_BINARY && opcode < WS_CLOSE) || opcode > WS_PONG)
        return "an unknown opcode";
    if (ws_is_control(opcode) && (!fin || length > WS_CONTROL_MAX))
        return "a fragmented or long control frame";
    if (opcode == WS_CONT && !p->in_message)
        return "a continuation of nothing";
    if ((opcode == WS_TEXT || opcode == WS_BINARY) && p->in_message)
        return "a new message inside another";
    if (masked != p->from_client)
        return masked ? "a masked frame from the server" : "an unmasked frame from the client";
    return NULL;
}

static uint64_t big_endian(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}

static enum ws_result finish_head(struct ws_parser *p)
{
    struct ws_frame *f = &p->frame;
    const uint8_t *at = p->head + 2;
    *f = (struct ws_frame){.opcode = p->head[0] & 0x0f, .fin = p->head[0] & 0x80, .masked = p->head[1] & 0x80};
    f->length = p->head[1] & 0x7f;
    if (f->length >= 126) {
        size_t n = f->length == 126 ? 2 : 8;
        f->length = big_endian(at, n);
        at += n;
        if (f->length < (n == 2 ? 126u : 65536u))
            return bad(p, "a length not in its shortest form");
        if (f->length >> 63)
            return bad(p, "a length beyond 2^63");
    }
    if (f->masked)
        memcpy(f->mask, at, 4);
    p->have = 0;
    p->left = f->length;
    if (!ws_is_control(f->opcode)) {
        if (f->opcode != WS_CONT)
            p->message_opcode = f->opcode;
        p->in_message = !f->fin;
    }
    return WS_FRAME;
}

enum ws_result ws_parse(struct ws_parser *p, const uint8_t *data, size_t len, size_t *used)
{
    *used = 0;
    for (;;) {
        size_t n = head_needed(p) - p->have;
        if (n > len - *used)
            n = len - *used;
        if (n)
            memcpy(p->head + p->have, data + *used, n);
        bool started = p->have < 2;
        p->have += (uint8_t)n;
        *used += n;
        const char *why = started && p->have >= 2 ? check_start(p) : NULL;
        if (why)
            return bad(p, why);
        if (p->have >= 2 && p->have == head_needed(p))
            return finish_head(p);
        if (*used == len)
            return WS_MORE;
    }
}

void ws_payload(struct ws_parser *p, uint8_t *data, size_t n)
{
    if (p->frame.masked)
        ws_mask(data, n, p->frame.mask, p->frame.length - p->left);
    p->left -= n;
}

size_t ws_head_size(uint64_t length, bool masked)
{
    return (length < 126 ? 2u : length < 65536 ? 4u : 10u) + (masked ? 4u : 0u);
}

size_t ws_head_write(uint8_t *out, uint8_t opcode, bool fin, uint64_t length, const uint8_t mask[4])
{
    size_t n = 0;
    uint8_t bit = mask ? 0x80 : 0;
    out[n++] = (uint8_t)(opcode | (fin ? 0x80 : 0));
    if (length < 126) {
        out[n++] = (uint8_t)(bit | length);
    } else {
        size_t bytes = length < 65536 ? 2 : 8;
        out[n++] = (uint8_t)(bit | (bytes == 2 ? 126 : 127));
        for (size_t i = bytes; i-- > 0;)
            out[n++] = (uint8_t)(length >> (8 * i));
    }
    if (mask) {
        memcpy(out + n, mask, 4);
        n += 4;
    }
    return n;
}

typedef uint8_t lane __attribute__((vector_size(32))); // the compiler's own width, whatever the machine's

// The widest registers that the machine has; a build that is instrumented or not GCC's takes what every machine has.
#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
__attribute__((target_clones("avx2", "default")))
#endif
void ws_mask(uint8_t *data, size_t len, const uint8_t key[4], uint64_t offset)
{
    uint8_t turned[32];
    for (size_t i = 0; i < sizeof(turned); i++)
        turned[i] = key[(offset + i) & 3];
    lane k;
    memcpy(&k, turned, sizeof(k));
    for (; len >= 2 * sizeof(k); data += 2 * sizeof(k), len -= 2 * sizeof(k)) {
        lane a, b; // copies: data is not aligned
        memcpy(&a, data, sizeof(a));
        memcpy(&b, data + sizeof(a), sizeof(b));
        a ^= k;
        b ^= k;
        memcpy(data, &a, sizeof(a));
        memcpy(data + sizeof(a), &b, sizeof(b));
    }
    uint64_t word;
    memcpy(&word, turned, sizeof(word));
    for (; len >= sizeof(word); data += sizeof(word), len -= sizeof(word)) {
        uint64_t v;
        memcpy(&v, data, sizeof(v));
        v ^= word;
        memcpy(data, &v, sizeof(v));
    }
    for (size_t i = 0; i < len; i++)
        data[i] ^= turned[i];
}

void ws_accept(const char *key, size_t key_len, char out[WS_ACCEPT_LEN + 1])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; // RFC 6455 1.3
    uint8_t text[WS_KEY_LEN + sizeof(guid)], hash[20];
    if (key_len > WS_KEY_LEN)
        key_len = WS_KEY_LEN;
    memcpy(text, key, key_len);
    memcpy(text + key_len, guid, sizeof(guid) - 1);
    EVP_Digest(text, key_len + sizeof(guid) - 1, hash, NULL, EVP_sha1(), NULL);
    EVP_EncodeBlock((uint8_t *)out, hash, sizeof(hash));
}

bool ws_key_ok(const char *key, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (len != WS_KEY_LEN || memcmp(key + 22, "==", 2) != 0)
        return false;
    for (size_t i = 0; i < 22; i++)
        if (!key[i] || !strchr(digits, key[i]))
            return false;
    return true;
}

static bool code_ok(uint16_t code)
{
    if (code >= 3000)
        return code <= 4999;
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014);
}

uint16_t ws_close_code(const uint8_t *payload, size_t len, uint16_t *code_to_send)
{
    struct utf8 u = {0};
    if (len == 0)
        return WS_CODE_ABSENT;
    uint16_t code = len >= 2 ? (uint16_t)big_endian(payload, 2) : 0;
    *code_to_send = WS_CODE_PROTOCOL;
    if (!code_ok(code))
        return 0;
    *code_to_send = WS_CODE_PAYLOAD;
    return utf8_feed(&u, payload + 2, len - 2) && utf8_is_whole(&u) ? code : 0;
}

// The bounds of a second byte (Unicode table 3-7) leave out overlong forms, surrogates and what lies beyond U+10FFFF.
static bool utf8_lead(struct utf8 *u, uint8_t c)
{
    if (c < 0xc2 || c > 0xf4)
        return false;
    u->missing = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
    u->low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    u->high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    return true;
}

bool utf8_feed(struct utf8 *u, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        uint8_t c = data[i];
        if (u->missing) {
            if (c < u->low || c > u->high)
                return false;
            u->missing--;
            u->low = 0x80;
            u->high = 0xbf;
        } else if (c >= 0x80 && !utf8_lead(u, c)) {
            return false;
        }
    }
    return true;
}
