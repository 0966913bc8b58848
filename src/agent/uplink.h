// SPDX-License-Identifier: Apache-2.0
// One relay as this agent uses it: keeps `want` carriers of one session up, each a lane (lane.h). One that is lost, suspect or on a
// network that has changed is replaced at once, and a suspect one ends only when another stands or it is dead. When none is
// left the owner says what that means (try again, waiting longer each time, or end). An address that failed is tried last the next
// time, and where there are others to try an attempt is short at first. Owns the session, the lanes and the contexts, and a
// copy of what the state knows of the relay. A session without a carrier is given up after UPLINK_PARK_MS.
#pragma once
#include "agent/agent.h"
#include "agent/lane.h"
#include "agent/lessons.h"
#include "agent/routes.h"
#include "core/log.h"
#include "dial/backoff.h"
#include "dial/find.h"
#include "session/meet.h"
#include "trust/agent_state.h"
#include "trust/saved_proxy.h"

#define UPLINK_TRY_MS 5000    // the first attempt, when there are other ways; doubled with each failure up to AGENT_OPEN_MS
#define UPLINK_TRY_ALL_MS 10000 // the same where several transports must have their turn in it
#define UPLINK_RTT_MS 300000  // the smallest round trip of the last one to two of these counts
#define UPLINK_LANES (AGENT_CARRIERS_MAX + 2) // those wanted, and what is being replaced
#define UPLINK_BESIDE_MS 250  // between two attempts to put a carrier beside others that stand
#define UPLINK_HEDGE_MS 2000  // while streams are held and none stands well: another attempt beside those that hang
#define UPLINK_BETTER_MS {60000, 300000, 900000} // a better way is tried after these times, and then again and again after the last
#define UPLINK_BETTER_SOON_MS 1000 // the same when the network has changed, after HUP, and when one of several carriers has moved up
#define UPLINK_REDIAL_MS 500  // a change of the network leaves younger attempts alone
#define UPLINK_STEADY_MS 10000     // a carrier that stood this long,
#define UPLINK_STEADY_BYTES 131072 // or carried this much, is replaced without any wait
#define UPLINK_PARK_MS 600000 // without a carrier for this long: the session's streams are given up

enum uplink_state { UPLINK_DOWN, UPLINK_DIALLING, UPLINK_OPENING, UPLINK_UP };

struct uplink;

struct uplink_ops {
    // WELCOME is in, the first carrier is about to carry the session; fresh: it is another session at the relay's end than before.
    void (*on_up)(struct uplink *u, const struct frame_welcome *welcome, bool fresh);
    // The last carrier, or an attempt while none stands, is over. The owner calls uplink_retry, or ends. refusal: the relay's, or NULL.
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
    struct meet *meet; // of streams between agents; NULL: none
    struct lane lanes[UPLINK_LANES];
    unsigned want;            // carriers to keep
    struct lessons *lessons;  // the agent's
    const struct agent_connect *connect;
    const struct saved_proxy *saved; // the agent's
    struct proxy_routes routes; // to it, in order of preference; routes.h
    struct find find;
    uint64_t routes_attempts;   // attempts when the routes changed last
    bool ask_due;               // the routes may have changed
    uint64_t asked_ms;          // when they were asked for last
    char find_error[ERR_TEXT_MAX]; // why that failed; "": it did not
    enum log_level chatter;     // for what goes well
    struct dial_options dial_options;
    struct paths_options paths_options;
    struct list hubs;         // HTTP/2 connections that its lanes share
    uint8_t pins[PAIRING_PINS + AGENT_NEXT_PINS][PIN_SIZE];
    char *headers;
    uint8_t instance[16];
    bool peel;
    struct backoff backoff;
    struct timer retry, hedge, park;
    struct timer better;        // when a better way is tried beside one that stands
    unsigned better_round;      // how often it was
    struct wake settle; // after a carrier came up
    bool eager;                 // the next uplink_retry waits for nothing: what was lost had stood well
    uint64_t beside_ms;         // of the last attempt beside a carrier that stood
    uint32_t given_up[FRAME_GIVEN_UP_MAX]; // carriers that ended, and the relay was not told yet
    unsigned given_up_count;
    bool missing;               // a carrier was lost or is suspect and no other has come since:
    uint64_t missing_ms;        // when that was
    uint64_t ended_ms;          // when one ended last, and why; 0: none did
    uint64_t resumed;           // how often the session went on after a loss,
    uint64_t took_ms;           // and how long it took the last time
    char ended[ERR_TEXT_MAX];
    bool end_sent;              // our end is out: the agent leaves
    bool out;                   // given up, last_error says why: the relay said stop, or is not who it should be
    enum err_kind out_kind;
    bool others;                // the agent has other relays
    bool tried;                 // an attempt failed since it was up last
    bool was_good;              // as it was seen last, and
    uint64_t good_ms;           // since when it is good
    uint64_t not_before_ms;     // the relay's wish
    uint32_t failures;          // in a row
    uint64_t gone_ms;           // since when it is not up, having been; 0: up, or its streams have left it
    uint32_t rtt_us[2];         // smallest round trip: of this UPLINK_RTT_MS, and of the one before; 0: none
    uint64_t rtt_ms;            // since when it is this one
    uint64_t attempts, ups;
    uint64_t tampered;          // connections that ended because bytes were changed on the way
    char last_error[ERR_WHOLE_MAX];
    char name[64];              // what the relay calls us
};

// Reads what the flags name (CA file); 0, or -1 with *e set. `ops`, `budget`, `lessons`, `c` and `saved` must stay.
int uplink_init(struct uplink *u, struct worker *w, struct resolver *r, struct budget *budget, struct lessons *lessons,
                const struct agent_relay *relay, const struct agent_connect *c, const struct saved_proxy *saved, const struct identity *id, const struct uplink_ops *ops, void *owner,
                struct err *e);
void uplink_fini(struct uplink *u); // legal on a zeroed one
void uplink_set_relay(struct uplink *u, const struct agent_relay *relay); // the state knows more of it: for the next attempt
// Now, or when the relay wishes at the earliest; nothing when it is on its way, up or given up.
void uplink_start(struct uplink *u);
// After a wait. cap_ms limits the step (0: none), least_ms is waited in any case (a relay's wish).
void uplink_retry(struct uplink *u, uint32_t cap_ms, uint32_t least_ms);
void uplink_drop(struct uplink *u);  // closes the carrier or the attempt, without on_down
void uplink_give_up(struct uplink *u, const struct err *why); // ends the session and its streams; never dials again
void uplink_revive(struct uplink *u); // forgets waits, wishes and having been given up, and looks for a better way
// Up, answers (not all its carriers are suspect), and takes new streams.
bool uplink_is_good(const struct uplink *u);
// Its smallest round trip of late; notes the newest one. 0: unknown.
uint32_t uplink_rtt(struct uplink *u);
enum uplink_state uplink_state(const struct uplink *u);
static inline bool uplink_is_up(const struct uplink *u) { return uplink_state(u) == UPLINK_UP; }
const struct lane *uplink_lane(const struct uplink *u); // its best one that stands; NULL: not up
const struct link_facts *uplink_facts(const struct uplink *u); // of that; NULL: not up
// A carrier is suspect: another is dialled (session_ops.on_suspect).
void uplink_on_suspect(struct uplink *u, struct carrier *c);
// The machine's network has changed, or it slept.
void uplink_on_network(struct uplink *u, enum network_event what);
// Sends our end on all carriers, once what the session had to say is out. False: not yet.
bool uplink_send_end(struct uplink *u);

// For routes.c
void uplink_on_no_routes(struct uplink *u, const struct err *err); // none are known, and none were found: as an attempt that failed
void uplink_go_on(struct uplink *u); // there are routes, or others than before

// For lane.c
void uplink_hello(struct uplink *u, struct frame_hello *hello);
uint32_t uplink_open_ms(const struct uplink *u, const struct lane *l);
bool uplink_on_lane_up(struct lane *l, const struct frame_welcome *welcome);
void uplink_on_lane_down(struct lane *l, const struct err *err, const struct frame_welcome *refusal);
