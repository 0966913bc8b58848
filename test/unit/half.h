// SPDX-License-Identifier: Apache-2.0
// One session under test on a bare worker. The test is its peer: it says frames and hears what the session answers, or
// carries bytes between two halves by hand. Time stands still unless the test moves it.
#pragma once
#include "unit.h"
#include "core/worker.h"
#include "session/meet.h"
#include "session/session.h"
#include "session/stream.h"

#define ONE_MB (1024 * 1024)
#define HEARD_MAX 4096
#define HEARD_BYTES 48

struct heard {
    uint8_t type;
    uint32_t stream;
    size_t len;
    uint8_t payload[HEARD_BYTES]; // its beginning
};

struct half {
    struct worker *w;
    struct session s;
    struct budget budget;
    struct carrier c;
    bool has_output;
    struct stream *asked; // newest the peer opened
    struct frame_open open;
    bool auto_accept;
    unsigned opens, goaways, dgrams, suspicions;
    uint16_t goaway_code;
    uint32_t goaway_retry;
    char goaway_text[FRAME_TEXT_MAX + 1];
    size_t dgram_len[64];
    uint8_t dgram_first[64];
    uint8_t dgram_bytes[DGRAM_MAX]; // the newest
    struct heard heard[HEARD_MAX];
    unsigned heard_count;
    struct half *switch_to;
    struct meet *meet;     // with switch_to: where OPENs of one uid are paired; NULL: they are not
    struct stream **owned; // closed by half_close, or at the end
    size_t owned_count;
};

// A test on this bare worker, new for it; afterwards none of its buffers may be out.
#define HALF_TEST(name, w) cmocka_unit_test_prestate_setup_teardown(name, half_setup, half_teardown, w)
int half_setup(void **state); // *state: the worker
int half_teardown(void **state);

struct half *half_new(struct worker *w, bool is_agent, size_t budget);
struct half *half_start(struct worker *w, bool is_agent, size_t budget); // with a carrier, whose first words are heard
void half_free(struct half *h); // nothing of it may be left
void half_up(struct half *h);   // a new carrier; what it says first is still to be heard
void half_down(struct half *h);

// The peer says…; 0, or -1 when that broke the protocol.
int say(struct half *h, const void *bytes, size_t n);
int say_open(struct half *h, uint32_t id, uint8_t kind, uint64_t window);
int say_opened(struct half *h, uint32_t id, uint16_t code, uint64_t window);
int say_data(struct half *h, uint32_t id, uint64_t offset, size_t n); // byte k of a stream is half_byte(k)
int say_ack(struct half *h, uint32_t id, uint64_t acked, uint64_t limit);
int say_rewind(struct half *h, uint32_t id, uint64_t acked, uint64_t limit);
int say_fin(struct half *h, uint32_t id, uint64_t final);
int say_reset(struct half *h, uint32_t id, uint16_t code, uint64_t final);
int say_dgram(struct half *h, uint32_t id, const struct frame_dgram *f);
int say_raw(struct half *h, uint8_t type, uint32_t id, const void *payload, size_t n);
uint8_t half_byte(uint64_t at);

// All frames that it sends now; the former ones are forgotten. Answers how many.
unsigned hear(struct half *h);
unsigned hear_late(struct half *h); // after ACK_DELAY_US: what waits for company goes alone
// The first of this kind among them, NULL: none.
const struct heard *heard(const struct half *h, uint8_t type, uint32_t stream);
unsigned heard_times(const struct half *h, uint8_t type, uint32_t stream);
int heard_place(const struct half *h, uint8_t type, uint32_t stream); // -1: none
uint64_t heard_acked(const struct half *h, uint8_t type, uint32_t stream); // ACK, REWIND; fails when there is none
uint64_t heard_limit(const struct half *h, uint8_t type, uint32_t stream);
uint64_t heard_offset(const struct half *h, uint8_t type, uint32_t stream); // DATA, FIN
size_t heard_data(const struct half *h, uint32_t stream); // bytes in all DATA frames

// Owners' side.
struct stream *half_open(struct half *h, uint8_t kind);
void half_close(struct half *h, struct stream *st); // now, and what closing frees
struct stream *half_open_to(struct half *h, uint64_t window); // opened, answered, all control heard
struct stream *half_asked(struct half *h, uint32_t id, uint64_t window); // the peer opened it, accepted, control heard
void half_send(struct stream *st, size_t n); // n bytes of the pattern, asking for no room
size_t half_read(struct stream *st, size_t most, enum link_status *end); // checks the pattern from the stream's rcv_read
void half_pass_us(struct worker *w, uint64_t us);
// Carries what `from` sends to `to`, `most` buffers; answers the bytes.
size_t half_carry(struct half *from, struct half *to, unsigned most);
void half_settle(struct half *a, struct half *b); // until nobody sends
