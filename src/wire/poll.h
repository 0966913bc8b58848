// SPDX-License-Identifier: Apache-2.0
// Long-poll without I/O: what its requests and answers look like, and the offsets that make it a byte stream over requests which
// are lost, repeated, delayed and overtaken (docs/protocol.md, "Long-poll"). A sender holds what is not acknowledged and cuts
// it into pieces; a receiver puts pieces in order. Each direction ends with one more virtual byte, so that an end is acknowledged like
// data. The structs own their buffers until their fini; nothing a peer says allocates more than POLL_AHEAD_MAX.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/buf.h"
#include "wire/http.h"

#define POLL_ID 16                      // bytes
#define POLL_ID_TEXT 22                 // characters
#define POLL_BODY_MAX (256 * 1024)      // bytes of the stream in one request or answer
#define POLL_PIECES_MAX 8               // given and not acknowledged
#define POLL_RUNS_MAX 4                 // of bytes that came too early
#define POLL_AHEAD_MAX (1024 * 1024)    // bytes of them
#define POLL_HOLD_S 25                  // a GET is parked that long at most
#define POLL_ANSWER_HEAD 24             // bytes before the data in an answer's body
#define POLL_TARGET_MAX 160             // characters that poll_put_query adds
#define POLL_OFFSET_MAX (UINT64_MAX >> 1)

// --- requests: the query of a request target, "cp1.ID.g.…" or "cp1.ID.p.…"

struct poll_request {
    char id[POLL_ID_TEXT + 1];
    bool is_post;
    uint64_t acked;     // of the stream down: everything before it has come
    uint32_t low;       // GETs with lower numbers are over
    uint32_t attempt;   // makes each request's URL another one
    uint32_t number;    // GET: rises from 1; a repeated GET has the same
    uint32_t hold_s;    // GET: parked that long at most
    uint32_t most;      // GET: largest piece
    uint64_t offset;    // POST: of its first byte in the stream up
    bool end, abort;    // POST: the stream ends behind it; both directions are abandoned
};

// Writes "cp1.…" into out (POLL_TARGET_MAX bytes); returns its length.
size_t poll_put_query(char *out, const struct poll_request *r);
// Whether the target's query is one of ours at all.
bool poll_is_target(struct http_text target);
// False: malformed, or not with this method.
bool poll_get_request(struct poll_request *r, struct http_text method, struct http_text target);

// --- answers: the first POLL_ANSWER_HEAD bytes of a body

struct poll_answer {
    bool end, abort;  // the stream down ends behind it; both directions are abandoned
    bool again;       // to a POST: not all of it was kept, it must be sent again
    uint64_t acked;   // of the stream up
    uint64_t offset;  // of the data that follow
    uint32_t len;     // and how many they are
};

void poll_put_answer(uint8_t out[POLL_ANSWER_HEAD], const struct poll_answer *a);
bool poll_get_answer(struct poll_answer *a, const uint8_t in[POLL_ANSWER_HEAD]); // false: somebody else's page

// --- the sender of one direction

struct poll_piece {
    uint32_t number; // whose it is; 0: nobody's
    uint64_t offset;
    uint32_t len;    // bytes of data
    bool end;        // and the end behind them
};

struct poll_out {
    struct bufq held;    // from acked on
    uint64_t acked;      // the receiver has everything before it
    uint64_t given;      // everything before it was cut into pieces
    uint64_t top;        // the highest that `given` ever was
    uint64_t end;        // behind the last byte
    bool ended;          // no more comes; the end counts as a byte at `end`
    uint32_t low;        // pieces of lower numbers have no taker any more
    struct poll_piece pieces[POLL_PIECES_MAX];
    unsigned count;
};

void poll_out_fini(struct poll_out *o);
void poll_out_push(struct poll_out *o, struct buf *b); // owns it; not after ended
// The receiver has everything before `acked`. False: it was never sent.
bool poll_out_ack(struct poll_out *o, uint64_t acked);
// Whoever has a lower number will not take its piece any more: what was not acknowledged is for others.
void poll_out_low(struct poll_out *o, uint32_t low);
// The piece of `number`: the one it had, else one that lost its taker, else the next bytes, `most` at most. False: there is none now.
bool poll_out_give(struct poll_out *o, uint32_t number, uint32_t most, struct poll_piece *out);
bool poll_out_has(const struct poll_out *o, uint32_t number); // it was given a piece which is not acknowledged
// All pieces are given up: what is not acknowledged will be cut anew.
void poll_out_recut(struct poll_out *o);
// Bytes not cut yet.
static inline uint64_t poll_out_waiting(const struct poll_out *o) { return o->end > o->given ? o->end - o->given : 0; }
static inline bool poll_out_is_done(const struct poll_out *o) { return o->ended && o->acked == o->end + 1; }
// Copies up to `most` bytes at `offset` into b. False: they are acknowledged and gone.
bool poll_out_copy(const struct poll_out *o, uint64_t offset, size_t most, struct buf *b);

// --- the receiver of one direction

struct poll_run {
    uint64_t offset;
    struct bufq data;
};

struct poll_in {
    struct bufq ready;   // in order, not read yet
    uint64_t next;       // everything before it has come; behind the end: one more
    struct poll_run runs[POLL_RUNS_MAX];
    unsigned count;
    size_t ahead;        // bytes in runs
    bool has_final;
    uint64_t final;
    uint64_t dropped;    // bytes known already,
    uint64_t refused;    // or too early
};

void poll_in_fini(struct poll_in *in);
// Bytes at `offset`; owns b. False: it contradicts an end that was told.
bool poll_in_take(struct poll_in *in, uint64_t offset, struct buf *b);
// The stream ends at `final`. False: it contradicts.
bool poll_in_end(struct poll_in *in, uint64_t final);
static inline bool poll_in_is_done(const struct poll_in *in) { return in->has_final && in->next == in->final + 1; }
