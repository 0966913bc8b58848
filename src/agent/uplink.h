// SPDX-License-Identifier: Apache-2.0
// An agent's way to its relay: dials, opens a carrier, attaches the session, and does it again after each loss, waiting longer
// each time. What a loss means (try again, or end) is its owner's to say. Owns the dial, the conn and the contexts; the
// session is the owner's.
#pragma once
#include "agent/agent.h"
#include "dial/backoff.h"
#include "dial/dial.h"
#include "session/conn.h"
#include "trust/agent_state.h"

enum uplink_state { UPLINK_DOWN, UPLINK_DIALLING, UPLINK_OPENING, UPLINK_UP };

struct uplink_ops {
    // WELCOME is in, the carrier is about to carry the session; fresh: it is another session at the relay's end than before.
    void (*on_up)(void *owner, const struct frame_welcome *welcome, bool fresh);
    // The carrier, or the attempt, is over. The owner calls uplink_retry, or ends. refusal: the relay's, or NULL.
    void (*on_down)(void *owner, const struct err *err, const struct frame_welcome *refusal, bool was_up);
    void *owner;
};

struct uplink {
    struct worker *w;
    struct resolver *resolver;
    struct session *session;
    const struct agent_relay *relay; // borrowed
    struct uplink_ops ops;
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
    struct timer retry, deadline; // deadline: of dialling
    uint64_t attempts, ups, up_ms;
    uint64_t carried;           // bytes of the carrier that was lost last
    char last_error[ERR_TEXT_MAX];
    char name[64];              // what the relay calls us
};

// Reads what the flags name (CA file); 0, or -1 with *e set. `relay` must stay.
int uplink_init(struct uplink *u, struct worker *w, struct resolver *r, struct session *s, const struct agent_relay *relay,
                const struct agent_connect *c, const struct identity *id, const struct uplink_ops *ops, struct err *e);
void uplink_fini(struct uplink *u);
void uplink_pins(struct uplink *u);  // the relay's pins have changed: for the next attempt
void uplink_start(struct uplink *u); // now; nothing when it is on its way or up
// After a wait. cap_ms limits the step (0: none), least_ms is waited in any case (a relay's wish).
void uplink_retry(struct uplink *u, uint32_t cap_ms, uint32_t least_ms);
void uplink_drop(struct uplink *u);  // closes the carrier or the attempt, without on_down
const struct link_facts *uplink_facts(const struct uplink *u); // NULL: not up
