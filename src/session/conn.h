// SPDX-License-Identifier: Apache-2.0
// A carrier on a real link stack: drives the stack open, exchanges HELLO and WELCOME inside the inner TLS, peels that TLS when
// both ends agree, then feeds the session and is filled by it, asking for room first. It owns the stack. Every failure, also a
// deadline, ends in on_down exactly once, from a wake; the owner frees it with conn_free, legal at any time.
#pragma once
#include "core/worker.h"
#include "link/link.h"
#include "session/carrier.h"
#include "session/session.h"

#define CONN_REFUSED_MS 2000    // for a refused agent to go
#define CONN_HANDSHAKE_MS 10000 // for HELLO at the relay; an agent's whole open has its own deadline

struct conn;

struct conn_ops {
    // Relay, once: HELLO is in. Answer with conn_welcome or conn_refuse, now or later.
    void (*on_hello)(struct conn *c, const struct frame_hello *hello);
    // Agent: WELCOME is in, status 0; when this returns true the carrier joins the session's others. False drops it.
    bool (*on_welcome)(struct conn *c, const struct frame_welcome *welcome);
    // The carrier is gone: err says why. welcome: the refusal, when that was it (status is not 0), else NULL.
    void (*on_down)(struct conn *c, const struct err *err, const struct frame_welcome *refusal);
};

struct conn {
    struct worker *w;
    struct link *top, *inner; // inner: the inner TLS, where peeling happens; it is the top
    struct carrier carrier;
    struct session *session;
    const struct conn_ops *ops;
    void *owner;
    struct wake wake;
    struct timer deadline, tick;
    struct grave grave;
    int state; // enum conn_state in conn.c
    bool is_agent;
    bool peel_wanted, peeled;
    uint16_t welcome_flags; // WELCOME_…
    uint64_t asked_us; // agent: when HELLO left
    struct frame_hello hello;
    struct buf *early; // HELLO or WELCOME being collected
    struct err err;
};

// Agent: `inner` is the top of a stack that need not be open yet; hello is sent once it is (its exporter is filled in from the
// facts when peel_wanted). open_ms: deadline until WELCOME.
struct conn *conn_agent(struct worker *w, struct link *inner, const struct frame_hello *hello, bool peel_wanted,
                        uint32_t open_ms, struct session *session, const struct conn_ops *ops, void *owner);
// Relay: HELLO must come within CONN_HANDSHAKE_MS of now.
struct conn *conn_relay(struct worker *w, struct link *inner, bool peel_wanted, const struct conn_ops *ops, void *owner);
// Sends WELCOME and adds the carrier to the session's; session id, birth, version and the peel flag are filled in.
void conn_welcome(struct conn *c, struct session *session, struct frame_welcome *welcome);
// Sends a WELCOME with a status other than 0 and closes behind it; on_down follows.
void conn_refuse(struct conn *c, enum welcome_status status, uint32_t retry_ms, const char *text);
// Agent: what a WELCOME with a status other than 0 that answered `asked` says to people.
void conn_refusal(struct err *e, const struct frame_hello *asked, const struct frame_welcome *refusal);
const struct link_facts *conn_facts(const struct conn *c);
void conn_free(struct conn *c); // closes the stack; no on_down comes any more
