// SPDX-License-Identifier: Apache-2.0
// The frames of the session protocol culvert/1 (docs/protocol.md), encoded and decoded without I/O or allocation.
// Big-endian. A frame is `length:24 type:8 stream:32` and at most FRAME_PAYLOAD_MAX bytes of payload, so that a frame, its
// WebSocket header and its TLS record line up. Decoders take a whole payload, check every length by subtracting from what
// is left, and refuse what does not fit; they never read beyond it.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/addr.h"
#include "core/err.h"

#define FRAME_HEAD 8
#define FRAME_PAYLOAD_MAX 16336
#define FRAME_MAX (FRAME_HEAD + FRAME_PAYLOAD_MAX)
#define FRAME_DATA_HEAD (FRAME_HEAD + 8)
#define FRAME_DATA_MAX 16328
#define FRAME_CONTROL_MAX 1024 // payload of every frame but DATA, DGRAM and PAD
#define FRAME_DGRAM_FIXED 10
#define FRAME_PART_MAX (FRAME_PAYLOAD_MAX - FRAME_DGRAM_FIXED)
#define DGRAM_MAX 65507 // largest UDP payload over IPv4
#define FRAME_GIVEN_UP_MAX 16
#define FRAME_TEXT_MAX 200
#define FRAME_PROBE_MAX (128 * 1024) // what PROBE may ask for
#define ACKED_ALL UINT64_MAX // `acked` that answers RESET and refusals
#define FRAME_FINAL_MAX (UINT64_MAX - 2) // largest final offset: final + 1, which acknowledges FIN, is not ACKED_ALL

enum frame_type {
    FRAME_PAD = 0x00,
    FRAME_HELLO = 0x01,
    FRAME_WELCOME = 0x02,
    FRAME_PING = 0x03,
    FRAME_PONG = 0x04,
    FRAME_GOAWAY = 0x05,
    FRAME_UDPPATH = 0x06,
    FRAME_PROBE = 0x07,
    FRAME_OPEN = 0x10,
    FRAME_OPENED = 0x11,
    FRAME_DATA = 0x12,
    FRAME_ACK = 0x13,
    FRAME_FIN = 0x14,
    FRAME_RESET = 0x15,
    FRAME_DGRAM = 0x20,
    FRAME_REWIND = 0x30,
};

enum open_kind {
    OPEN_TCP = 1,        // dial host:port; host "unix:/path" dials a Unix socket
    OPEN_UDP = 2,        // a flow to host:port
    OPEN_SERVICE = 3,    // host is NAME@AGENT, towards the offering agent NAME
    OPEN_LISTEN_TCP = 4, // listen on host:port; "unix:/path" listens on a Unix socket; lives as long as the stream
    OPEN_LISTEN_UDP = 5,
    OPEN_ACCEPTED = 6,   // towards the listener's owner: a caller came; TLV listener names the listening stream
};

enum tlv_tag {
    TLV_EXPORTER = 1, // HELLO: 32 bytes, exporter of the outer TLS
    TLV_NAME = 2,     // HELLO: name wished for; WELCOME: name given
    TLV_TOKEN = 3,    // HELLO: 16 bytes
    TLV_GIVEN_UP = 4, // HELLO: carrier numbers, 4 bytes each, at most FRAME_GIVEN_UP_MAX
    TLV_FEATURES = 5,
    TLV_TEXT = 6,     // WELCOME, OPENED: a reason for people, <= FRAME_TEXT_MAX bytes
    TLV_NEXT_PIN = 7, // WELCOME: 32 bytes, may repeat
    TLV_RETRY = 8,    // WELCOME: ms, 4 bytes
    TLV_ORIGIN = 16,  // OPEN: the caller's address
    TLV_LISTENER = 17, // OPEN accepted: 4 bytes
    TLV_IDENTITY = 18, // OPEN service: 32 bytes, set by the relay
    TLV_TTL = 19,      // OPEN udp: ms, 2 bytes
    TLV_DATAGRAM = 20, // OPEN service, accepted: no bytes; the stream is a flow of datagrams
    TLV_AGENT = 21,    // OPEN service: the asking agent's name, set by the relay
    TLV_STATE = 22,    // OPEN service, OPENED: acked 8, sent 8, of a stream that goes on
    TLV_FINAL = 23,    // OPEN service, OPENED: the sender's final offset, once it is fixed
    TLV_SEALED = 24,   // OPEN service, OPENED: no bytes; both agents speak TLS inside the stream
};

// flags of OPEN
#define OPEN_CONTINUE 1 // the stream is known to both ends
#define OPEN_BACK 2     // with it: asked for by the end that accepted the stream

enum welcome_status { WELCOME_OK = 0, WELCOME_STOP = 1, WELCOME_WAIT = 2, WELCOME_ELSEWHERE = 3 };
#define WELCOME_PEEL 1
#define WELCOME_RESUMED 2
#define WELCOME_DIFFERS 4 // both ends have an outer TLS, and not the same one: a box sits in between
#define WELCOME_FRONTED 8 // the relay has no outer TLS here: what the agent has ends at a front of the relay's, or before

struct frame_head {
    uint32_t length;
    uint8_t type;
    uint32_t stream;
};

struct frame_hello {
    uint8_t ver_min, ver_max;
    uint16_t flags;
    uint8_t session[16], instance[16];
    uint32_t carrier;
    uint32_t given_up[FRAME_GIVEN_UP_MAX]; // carriers of this session that the agent will use no more
    unsigned given_up_count;
    bool has_exporter, has_token;
    uint8_t exporter[32], token[16];
    char name[64];
};

struct frame_welcome {
    uint8_t ver, status;
    uint16_t flags;
    uint8_t session[16], birth[8];
    char name[64];
    char text[FRAME_TEXT_MAX + 1];
    uint32_t retry_ms;
    uint8_t next_pins[4][32];
    unsigned next_pin_count;
};

struct frame_state { // where a stream that goes on stands at the sender of the frame
    bool is_set, has_final;
    uint64_t acked, sent; // held in order of what came; highest offset ever sent
    uint64_t final;
};

struct frame_open {
    uint8_t kind, flags;
    uint64_t window;
    uint8_t uid[16];
    uint16_t port;
    char host[256];
    struct addr origin; // len 0: absent
    uint32_t listener;  // 0: absent
    bool has_identity, datagram, sealed;
    uint8_t identity[32];
    char agent[64];
    uint16_t ttl_ms;    // 0: absent
    struct frame_state state;
};

struct frame_opened {
    uint16_t code; // enum err_why
    uint64_t window;
    struct addr address;
    bool sealed;
    char text[FRAME_TEXT_MAX + 1];
    struct frame_state state;
};

struct frame_dgram {
    uint32_t seq;
    uint16_t age_ms, ttl_ms;
    uint8_t part, parts;
    const uint8_t *data;
    size_t len;
};

void frame_put_head(uint8_t *out, uint32_t length, uint8_t type, uint32_t stream);
void frame_get_head(struct frame_head *h, const uint8_t in[FRAME_HEAD]);

// Whether it may stand in a frame: one with control bytes makes the frame malformed at the other end.
bool frame_is_text(const char *text);
// Encoders write a whole frame, head included, to out (room for FRAME_HEAD + FRAME_CONTROL_MAX) and return its size.
size_t frame_put_hello(uint8_t *out, const struct frame_hello *f);
size_t frame_put_welcome(uint8_t *out, const struct frame_welcome *f);
size_t frame_put_open(uint8_t *out, uint32_t stream, const struct frame_open *f);
size_t frame_put_opened(uint8_t *out, uint32_t stream, const struct frame_opened *f);
size_t frame_put_ping(uint8_t *out, uint8_t type, uint64_t opaque, uint32_t interval_ms);
size_t frame_put_goaway(uint8_t *out, uint16_t code, uint32_t retry_ms, const char *text);
size_t frame_put_probe(uint8_t *out, uint32_t bytes);
size_t frame_put_ack(uint8_t *out, uint8_t type, uint32_t stream, uint64_t acked, uint64_t limit); // ACK, REWIND
size_t frame_put_fin(uint8_t *out, uint32_t stream, uint64_t final);
size_t frame_put_reset(uint8_t *out, uint32_t stream, uint16_t code, uint64_t final);
// Only the fixed part of a DGRAM frame and its head: FRAME_HEAD + FRAME_DGRAM_FIXED bytes.
size_t frame_put_dgram_head(uint8_t *out, uint32_t stream, const struct frame_dgram *f);

// Decoders: 0, or -1 for a payload that is too short, too long or out of range. Unknown TLVs are skipped.
int frame_get_hello(struct frame_hello *f, const uint8_t *in, size_t len);
int frame_get_welcome(struct frame_welcome *f, const uint8_t *in, size_t len);
int frame_get_open(struct frame_open *f, const uint8_t *in, size_t len);
int frame_get_opened(struct frame_opened *f, const uint8_t *in, size_t len);
int frame_get_ping(uint64_t *opaque, uint32_t *interval_ms, const uint8_t *in, size_t len);
int frame_get_goaway(uint16_t *code, uint32_t *retry_ms, char text[FRAME_TEXT_MAX + 1], const uint8_t *in, size_t len);
int frame_get_probe(uint32_t *bytes, const uint8_t *in, size_t len); // more than FRAME_PROBE_MAX counts as that
int frame_get_ack(uint64_t *acked, uint64_t *limit, const uint8_t *in, size_t len);
int frame_get_fin(uint64_t *final, const uint8_t *in, size_t len);
int frame_get_reset(uint16_t *code, uint64_t *final, const uint8_t *in, size_t len);
int frame_get_dgram(struct frame_dgram *f, const uint8_t *in, size_t len);

static inline uint64_t get64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v = v << 8 | p[i];
    return v;
}
static inline void put64(uint8_t *p, uint64_t v)
{
    for (int i = 7; i >= 0; i--, v >>= 8)
        p[i] = (uint8_t)v;
}
