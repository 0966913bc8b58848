// SPDX-License-Identifier: Apache-2.0
// WebSocket frames (RFC 6455) without I/O: a parser that is fed any pieces and keeps at most one frame header, a
// header encoder, masking, the accept key, close codes, and UTF-8 checked while it streams. Nothing is allocated; a
// length that the peer announces is only counted down.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WS_HEAD_MAX 14
#define WS_CONTROL_MAX 125
#define WS_ACCEPT_LEN 28 // base64 of SHA-1
#define WS_KEY_LEN 24    // base64 of 16 bytes

enum ws_opcode { WS_CONT = 0, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

enum ws_code { // of a Close frame
    WS_CODE_NORMAL = 1000,
    WS_CODE_GOING = 1001,
    WS_CODE_PROTOCOL = 1002,
    WS_CODE_DATA = 1003,    // a kind of data that is not taken here
    WS_CODE_ABSENT = 1005,  // never on the wire
    WS_CODE_PAYLOAD = 1007, // text that is not UTF-8
};

struct ws_frame {
    uint8_t opcode;
    bool fin, masked;
    uint8_t mask[4];
    uint64_t length;
};

enum ws_result {
    WS_MORE,  // the header is not whole yet; all bytes were used
    WS_FRAME, // a header: `frame` is valid, its payload of `left` bytes follows
    WS_BAD,   // the peer broke a rule: `why` is a static sentence, the code to close with is 1002
};

struct ws_parser {
    bool from_client;         // its frames must be masked; the other side's must not
    bool in_message;          // a data message is not finished
    uint8_t message_opcode;   // of the message that the last data frame belongs to
    uint8_t have;             // bytes of `head`
    uint8_t head[WS_HEAD_MAX];
    struct ws_frame frame;
    uint64_t left;            // payload bytes of the frame that ws_payload has not seen
    const char *why;
};

void ws_parser_init(struct ws_parser *p, bool from_client);
// Reads on in a header; only while left is 0. *used bytes of data belong to it.
enum ws_result ws_parse(struct ws_parser *p, const uint8_t *data, size_t len, size_t *used);
// Takes n <= left payload bytes, which are unmasked in place.
void ws_payload(struct ws_parser *p, uint8_t *data, size_t n);

static inline bool ws_is_control(uint8_t opcode) { return opcode & 8; }

// Bytes of a header for that length: 2, 4 or 10, and 4 more with a mask.
size_t ws_head_size(uint64_t length, bool masked);
// Writes the header to out (ws_head_size bytes) and returns its size. mask NULL: unmasked.
size_t ws_head_write(uint8_t *out, uint8_t opcode, bool fin, uint64_t length, const uint8_t mask[4]);
// XORs data with the key, whose byte 0 belongs to the payload's byte 0; `offset` is where in the payload data starts.
void ws_mask(uint8_t *data, size_t len, const uint8_t key[4], uint64_t offset);

// The answer to a Sec-WebSocket-Key; ends out with 0.
void ws_accept(const char *key, size_t key_len, char out[WS_ACCEPT_LEN + 1]);
// Whether it is the base64 form of 16 bytes.
bool ws_key_ok(const char *key, size_t len);
// The code of a Close payload (1005 when it is empty), or 0 when the payload breaks RFC 6455 7.4 (an unused or private
// code, one byte, a reason that is not UTF-8: then *code_to_send is 1007, else 1002).
uint16_t ws_close_code(const uint8_t *payload, size_t len, uint16_t *code_to_send);

// UTF-8 as a stream; zero is the start.
struct utf8 {
    uint8_t missing;   // continuation bytes still to come
    uint8_t low, high; // bounds of the next one
};
bool utf8_feed(struct utf8 *u, const uint8_t *data, size_t len); // false: not UTF-8, whatever comes
static inline bool utf8_is_whole(const struct utf8 *u) { return u->missing == 0; }
