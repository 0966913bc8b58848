// SPDX-License-Identifier: Apache-2.0
// One relay as this agent uses it: dials, opens a carrier, attaches the session, and does it again after each loss, waiting
// longer each time. What a loss means (try again, or end) is its owner's to say. An address that failed is tried last the next
// time, and where there are others to try an attempt is short at first. Owns the session, the dial, the conn and the
// contexts, and a copy of what the state knows of the relay. A session without a carrier is given up after UPLINK_PARK_MS.
#pragma once
#include "agent/agent.h"
#include "dial/backoff.h"
#include "dial/dial.h"
#include "session/conn.h"
#include "trust/agent_state.h"

#define UPLINK_TRY_MS 5000    // the first attempt, when there are other ways; doubled with each failure up to AGENT_OPEN_MS
#define UPLINK_RTT_MS 300000  // the smallest round trip of the last one to two of these counts
#define UPLINK_PARK_MS 600000 // without a carrier for this long: the session's streams are given up

enum uplink_state { UPLINK_DOWN, UPLINK_DIALLING, UPLINK_OPENING, UPLINK_UP };

struct uplink;

struct uplink_ops {
    // WELCOME is in, the carrier is about to carry the session; fresh: it is another session at the relay's end than before.
    void (*on_up)(struct uplink *u, const struct frame_welcome *welcome, bool fresh);
    // The carrier, or the attempt, is over. The owner calls uplink_retry, or ends. refusal: the relay's, or NULL.
    void (*on_down)(struct uplink *u, const struct err *err, const struct frame_welcome *refusal, bool was_up);
    const struct session_ops *session; // of its session, whose owner is the uplink
};

struct uplink {
    struct worker *w;
    struct resolver *resolver;
    void *owner;
    const struct uplink_ops *ops;
    struct agent_relay relay; // a copy: the state's may move
    bool elsewhere;           // reached by another URL than the one joined by: nothing of it is written to the state
    struct session session;
    struct budget *budget;
    enum uplink_state state;
    struct proxy_route route;
    struct dial_options dial_options;
    uint8_t pins[PAIRING_PINS + AGENT_NEXT_PINS][PIN_SIZE];
    char *headers;
    uint8_t instance[16];
    bool peel;
    struct dial dial;
    struct conn *conn;
    struct backoff backoff;
    struct timer retry, deadline, park; // deadline: of dialling
    bool end_sent;              // our end is out: the agent leaves
    bool out;                   // given up, last_error says why: the relay said stop, or is not who it should be
    enum err_kind out_kind;
    bool others;                // the agent has other relays
    bool tried;                 // an attempt failed since it was up last
    bool was_good;              // as it was seen last, and
    uint64_t good_ms;           // since when it is good
    uint64_t not_before_ms;     // the relay's wish
    uint32_t failures;          // in a row
    uint64_t dialled_us;        // when its stack began to open
    uint32_t rtt_us[2];         // smallest round trip: of this UPLINK_RTT_MS, and of the one before; 0: none
    uint64_t rtt_ms;            // since when it is this one
    uint64_t attempts, ups, up_ms;
    uint64_t carried;           // bytes of the carrier that was lost last
    char last_error[ERR_TEXT_MAX];
    char name[64];              // what the relay calls us
};

// Reads what the flags name (CA file); 0, or -1 with *e set. `ops` and `budget` must stay.
int uplink_init(struct uplink *u, struct worker *w, struct resolver *r, struct budget *budget, const struct agent_relay *relay,
                const struct agent_connect *c, const struct identity *id, const struct uplink_ops *ops, void *owner,
                struct err *e);
void uplink_fini(struct uplink *u); // legal on a zeroed one
void uplink_set_relay(struct uplink *u, const struct agent_relay *relay); // the state knows more of it: for the next attempt
// Now, or when the relay wishes at the earliest; nothing when it is on its way, up or given up.
void uplink_start(struct uplink *u);
// After a wait. cap_ms limits the step (0: none), least_ms is waited in any case (a relay's wish).
void uplink_retry(struct uplink *u, uint32_t cap_ms, uint32_t least_ms);
void uplink_drop(struct uplink *u);  // closes the carrier or the attempt, without on_down
void uplink_give_up(struct uplink *u, const struct err *why); // ends the session and its streams; never dials again
void uplink_revive(struct uplink *u); // forgets waits, wishes and having been given up
// Up, answers (not all its carriers are suspect), and takes new streams.
bool uplink_is_good(const struct uplink *u);
// Its smallest round trip of late; notes the newest one. 0: unknown.
uint32_t uplink_rtt(struct uplink *u);
static inline bool uplink_is_up(const struct uplink *u) { return u->state == UPLINK_UP; }
const struct link_facts *uplink_facts(const struct uplink *u); // NULL: not up
