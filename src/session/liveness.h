// SPDX-License-Identifier: Apache-2.0
// Whether a carrier still carries: when to ask by PING, when to suspect it, when to give it up (docs/protocol.md, "Liveness").
// Plain values, no clock and no I/O: its owner (carrier.h) tells what came and went with the time of it, asks for the next
// moment to look, and does what the verdict says. Slowness is no death: bytes that still move one way or the other put off
// every suspicion. It also learns how long a silence the network between both ends bears. Nothing in it can fail.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define LIVENESS_SILENCE_US 1000000    // of an active carrier, before a PING
#define LIVENESS_LATELY_US 5000000     // active: a stream's frame passed within that time
#define LIVENESS_PATIENCE_US 1500000   // the least time a PING may go unanswered
#define LIVENESS_HURRY_US 1000000      // the same after a sleep or a change of the network
#define LIVENESS_SUSPECT_US 15000000   // a suspect carrier that nothing replaces is given up after this
#define LIVENESS_LATE_US 3000000       // looked at so much too late: we did not run, so nothing is proved
#define LIVENESS_SAMPLE_US 250000      // how often TCP is asked for progress while a PING is unanswered
#define LIVENESS_IDLE_MS 15000         // the first silence of an idle carrier that ends in a PING,
#define LIVENESS_IDLE_STEP_MS 5000     // stretched by this with each answer,
#define LIVENESS_IDLE_MAX_MS 40000     // up to here,
#define LIVENESS_IDLE_MIN_MS 5000      // and never shortened below this
#define LIVENESS_CUT_MIN_MS 8000       // a shorter silence at the end of a carrier says nothing about the network
#define LIVENESS_STRIKES_MAX 6         // cuts of one network that are counted
#define LIVENESS_PEER_MAX_MS 60000     // an interval that a peer announces counts for no more than this

// What one network has taught: kept by the agent from carrier to carrier. All zero: nothing yet.
struct liveness_lesson {
    uint32_t cut_ms;   // the shortest silence known to be cut; 0: none
    uint16_t strikes;  // how often: so long it is believed
    uint16_t answered; // PINGs answered at the longest interval that cut_ms allows
};

struct liveness {
    bool is_agent;
    bool ping_due;                   // a PING is to be written: liveness_pinged says when it was
    bool ping_out;                   // one is unanswered
    bool idle_ping;                  // the one due or out was asked for by silence alone
    bool suspect;
    bool hurried;                    // patience is LIVENESS_HURRY_US until something is heard
    bool sampled, marked;            // acked and progress_us, mark are known
    uint64_t asked_us, pinged_us;    // since when ping_due, ping_out
    uint64_t heard_us, moved_us;     // last byte in; last frame of a stream, in or out
    uint64_t suspect_us;             // since when
    uint64_t acked, mark;            // bytes TCP has acknowledged; when those before the PING are
    uint64_t progress_us, sample_us; // when `acked` last rose; when it was last looked at
    uint64_t silence_us;             // before the last idle PING
    uint32_t srtt_us, rttvar_us;     // RFC 6298; 0: unknown
    uint32_t interval_ms, wait_ms;   // of idle PINGs; the next one, with jitter
    uint32_t peer_interval_ms;       // what the peer's last PING announced
    uint32_t random;                 // state of the jitter
    struct liveness_lesson lesson;
};

enum liveness_verdict {
    LIVENESS_FINE,
    LIVENESS_SUSPECT, // and again at every later look while it lasts
    LIVENESS_DEAD,    // give the carrier up
};

// A PING is due at once: it measures the new path. `lesson` may be NULL; `random` is any 32 unpredictable bits.
void liveness_init(struct liveness *l, bool is_agent, const struct liveness_lesson *lesson, uint32_t random, uint64_t now_us);

void liveness_heard(struct liveness *l, uint64_t now_us); // bytes came
void liveness_moved(struct liveness *l, uint64_t now_us); // a frame of a stream goes out or came in: the first after a pause asks
void liveness_ask(struct liveness *l, uint64_t now_us);   // somebody wants a PING
void liveness_pinged(struct liveness *l, uint64_t now_us); // it was written
void liveness_ponged(struct liveness *l, uint64_t now_us); // the answer to the newest came
void liveness_rtt(struct liveness *l, uint64_t rtt_us);    // a round trip measured elsewhere (HELLO to WELCOME)
void liveness_peer_interval(struct liveness *l, uint32_t ms); // what a PING of the peer said
// The machine slept, the network changed: a PING at once, with little patience. What was unanswered proves nothing any more.
void liveness_hurry(struct liveness *l, uint64_t now_us);
// What TCP knows of our direction: bytes acknowledged since the connection began, and bytes handed over that are not yet. Wanted
// right behind a PING and at each look while it is unanswered; leave it out when unknown.
void liveness_progress(struct liveness *l, uint64_t acked, uint64_t waiting, uint64_t now_us);
bool liveness_wants_progress(const struct liveness *l);

// When liveness_check wants to be called next; UINT64_MAX: when something happened.
uint64_t liveness_deadline(const struct liveness *l);
enum liveness_verdict liveness_check(struct liveness *l, uint64_t now_us);
// What our PING announces: the silence after which the next one comes at the latest.
uint32_t liveness_interval(const struct liveness *l);
// The carrier has ended. unexplained: neither end nor anybody known meant it to. What there is to learn from it is in `lesson`.
void liveness_lost(struct liveness *l, bool unexplained, uint64_t now_us);
