// SPDX-License-Identifier: Apache-2.0
// A session: the conversation of two ends, which outlives its carriers. It has no clock and no socket: time is the
// worker's now_us, bytes come by carrier_recv and leave by carrier_fill, everything else is a wake. So the same code runs on links
// (conn.h) and in the simulation. A session owns its streams; a stream is also a link (link.h), which a pump or a
// flow of datagrams uses: its memory is freed when both the protocol and the owner of the link are done with it.
// What a peer can make it hold is bounded by its budget; a peer that breaks the protocol ends its session only.
#pragma once
#include "core/hash.h"
#include "link/link.h"
#include "session/budget.h"
#include "session/carrier.h"
#include "session/seen.h"
#include "wire/frame.h"

#define WINDOW_START (256 * 1024)
#define WINDOW_LEAN (32 * 1024) // of a stream whose data were dropped for want of memory, until its reader catches up
#define WINDOW_MAX (128 * 1024 * 1024)
#define WINDOW_EARLY 16384          // DATA an opener may send before OPENED: every accepter and switch takes as much
#define SWITCH_SHARE (4 * 1024 * 1024)  // bytes of one stream and direction that a switch may hold
#define STREAMS_MAX 4096            // streams each end may have open in one session
#define QUANTUM FRAME_DATA_MAX      // deficit round robin: one full frame, so that the next stream waits for no second one
#define DGRAM_QUEUE_MAX (512 * 1024) // bytes of datagrams waiting in one session
#define DGRAM_TTL_MS 1000           // default time to live
#define ACKS_HELD_MAX 16384        // last ACKs of freed streams kept; beyond it the oldest that was sent is forgotten
#define PING_LOADED_US 100000      // how often the round trip is measured while data flow
#define ACK_DELAY_US 20000          // an ACK that nothing else asks for waits this long

struct session;
struct stream;
struct meet;

struct session_ops {
    // The peer opened a stream: answer now or later with stream_accept, stream_refuse or switch_join, then own its
    // link (link_own, link_close). `open` is only valid during the call.
    void (*on_open)(struct session *s, struct stream *st, const struct frame_open *open);
    // A datagram of a flow, whole; data is only valid during the call.
    void (*on_dgram)(struct session *s, struct stream *st, const uint8_t *data, size_t len);
    void (*on_goaway)(struct session *s, uint16_t code, uint32_t retry_ms, const char *text);
    // A carrier became suspect: an agent dials another one. Called once each time, from carrier_tick. May be NULL.
    void (*on_suspect)(struct session *s, struct carrier *c);
};

struct session_stats {
    uint64_t bytes_in, bytes_out;     // stream data and datagrams, new bytes only
    uint64_t frames_in;
    uint64_t opened, refused, reset;  // streams
    uint64_t dgrams_in, dgrams_out;   // whole ones
    uint64_t dgrams_dropped_full, dgrams_dropped_stale, dgrams_dropped_part;
    uint64_t gap_dropped, known_trimmed, budget_dropped, replayed; // bytes
    uint64_t contradicted;       // what another agent said, which ended its stream at most
    uint64_t carriers_up, moved; // carriers that stood; streams that were moved to another one
};

struct session {
    struct worker *w;
    bool is_agent;
    uint8_t id[16], birth[8];
    bool has_birth;
    bool is_limbo;             // a meet's: no carrier ever
    const struct session_ops *ops;
    void *owner;               // the role's
    struct budget *budget;     // owned by the role; outlives the session
    struct meet *meet;         // the role's: streams between agents (meet.h); NULL: they end with the session
    struct list carriers;      // those that stand, struct carrier; empty: parked
    uint32_t carrier_number;   // highest one seen (relay) or used (agent)
    struct hash streams;       // by id
    struct list left;          // streams that are over, and whose owners have not closed or read all yet
    uint32_t stream_count, peer_stream_count;
    uint32_t husks;            // of stream_count: only resets on their way for streams that have gone elsewhere
    uint32_t next_id;          // of our next OPEN
    struct seen peer_seen;     // the peer's ids that were used; of our own, all below next_id were
    // What waits for the next carrier while none stands; then it is the carrier's.
    struct list control;       // streams with control frames to send
    struct list acks_due;      // last ACKs of freed streams
    struct bufq dgrams;        // queue of dgram.c
    uint32_t acks_held;        // last ACKs here and in all carriers
    bool goaway_due, goaway_sent, goaway_seen; // due: on no carrier yet
    uint16_t goaway_code;
    uint32_t goaway_retry_ms;
    char goaway_text[64];
    struct err err;            // set when the peer broke the protocol
    struct session_stats stats;
};

// `id` 16 bytes; for an agent chosen by it, for a relay taken from HELLO.
void session_init(struct session *s, struct worker *w, bool is_agent, const uint8_t id[16], const struct session_ops *ops,
                  void *owner, struct budget *budget);
// Ends all streams (their links fail with `why`; NULL: "session ended") and frees what the session owns.
void session_fini(struct session *s, const struct err *why);
// Ends all streams but keeps the session: another birth (docs/protocol.md).
void session_end_streams(struct session *s, const struct err *why);

// Opens a stream; open->window is filled in; open->uid is random when all zero. NULL when out of ids, drained or with
// STREAMS_MAX open already, of which the peer would refuse more, or when open->host is no text that a frame may carry
// (frame_is_text): the peer would end the session. link_open of the result answers AGAIN until OPENED comes.
struct stream *session_open(struct session *s, struct frame_open *open);
void session_goaway(struct session *s, uint16_t code, uint32_t retry_ms, const char *text);
bool session_is_up(const struct session *s);    // a carrier stands
uint32_t session_rtt_us(const struct session *s); // of its quickest carrier; 0: unknown
size_t session_held(const struct session *s); // bytes of the budget that its own streams hold; walks them
// Takes every carrier away and tells their owners by on_output: they carry nothing any more.
void session_detach(struct session *s);
uint64_t session_dgrams_dropped(const struct session *s); // for whatever reason; of one in parts each part that was lost

// Streams ------------------------------------------------------------------------------------------------------

enum stream_state { STREAM_OPENING, STREAM_ASKED, STREAM_OPEN, STREAM_REFUSED, STREAM_RESET, STREAM_FREED };

struct stream_info { // for tables
    uint32_t id;
    uint8_t kind;
    enum stream_state state;
    uint8_t uid[16];
    uint64_t bytes_in, bytes_out; // of a flow: of its datagrams
    uint64_t packets_in, packets_out;
    uint64_t window, unacked, queued;
    uint64_t opened_us;
    bool switched, datagram, sealed;
    bool speaks; // switched: of the two halves, the one that stands for both
};

struct link *stream_link(struct stream *st);
struct stream *stream_of(struct link *l);
struct session *stream_session(const struct stream *st); // NULL once the session is gone
uint32_t stream_id(const struct stream *st);
void stream_get_info(const struct stream *st, struct stream_info *info);
void stream_set_user(struct stream *st, void *user);
void *stream_user(const struct stream *st);
bool stream_is_datagram(const struct stream *st);
bool stream_is_unsent(const struct stream *st); // opened here, and not even OPEN has left

// Answers an OPEN. `bound`: the address told to the peer (the target's, or the listener's with its port); may be NULL.
void stream_accept(struct stream *st, const struct addr *bound);
// The same for a stream that was asked to be sealed: no address is told, and OPENED agrees to seal. Its owner then speaks TLS
// over the link.
void stream_accept_sealed(struct stream *st);
// Whether OPENED agreed to seal, once link_open gave OK.
bool stream_is_sealed(const struct stream *st);
// `text` for people, may be NULL. The link is closed by the caller afterwards, as always.
void stream_refuse(struct stream *st, enum err_why why, const char *text);
// The address in OPENED, once link_open gave OK.
const struct addr *stream_bound(const struct stream *st);
// Ends it at once with a code other than "aborted".
void stream_reset(struct stream *st, enum err_why why);
// One datagram of 0…DGRAM_MAX bytes on a flow. False: dropped (queue full or flow over) and counted.
bool stream_send_dgram(struct stream *st, const void *data, size_t len);

typedef void session_each_fn(struct stream *st, void *ctx);
void session_each_stream(struct session *s, session_each_fn *fn, void *ctx); // fn must not end streams

// The frame switch: passes the stream `from`, just opened by its session's peer, on to the peer of `to` as `open`
// (kind, host, identity … filled by the caller; uid and window are from's). From then on neither side of it has a
// link to own; the far end answers OPENED. False: `to` cannot open streams; refuse it.
bool switch_join(struct stream *from, const struct frame_open *asked, struct session *to, struct frame_open *open);
