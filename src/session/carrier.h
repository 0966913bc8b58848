// SPDX-License-Identifier: Apache-2.0
// A carrier as the session sees it: one ordered byte pipe each way, up or gone. It finds frames in what arrives, without
// assembling DATA, and is filled with frames by the scheduler. A session has any number of them; each stream sends by one at a
// time, and moves to another when that one is lost, or is suspect while a better one stands. No I/O: conn.h puts it on a link
// stack, the simulation on byte queues. The owner keeps the memory and calls carrier_down before it frees it.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "core/buf.h"
#include "core/list.h"
#include "session/liveness.h"
#include "wire/frame.h"

struct session;

struct carrier {
    struct session *s; // NULL: it is not up
    struct list node;  // in the session's carriers
    void (*on_output)(struct carrier *c); // frames wait to be sent, or it was detached: post a wake that calls carrier_fill
    void *owner;
    // What the owner may set before carrier_up (zero the rest):
    uint32_t number;   // of HELLO
    const struct liveness_lesson *lesson; // what the network has taught; copied; what comes of it is in live.lesson
    uint64_t birth_rtt_us;                // a round trip measured on the way up; 0: none
    // TCP_INFO: bytes acknowledged, and handed over but not acknowledged; false: unknown. NULL: never known.
    bool (*progress)(struct carrier *c, uint64_t *acked, uint64_t *waiting);
    // the frame being read: head and, for control frames, payload; DATA passes in pieces
    uint8_t head[FRAME_HEAD];
    uint32_t head_have;
    struct frame_head frame;
    uint32_t body_have; // payload bytes seen of the current frame
    uint8_t fixed[8];   // offset of a DATA frame
    struct buf *body;   // control and datagram payload being collected
    uint64_t bytes_in, bytes_out;
    uint64_t up_us;
    bool has_output;    // on_output was called and carrier_fill not since
    bool proven;        // the peer is known to use it too: something came by it (an agent: WELCOME)
    bool suspected;     // the owner of the session knows that it is suspect

    struct liveness live;
    uint64_t ping_opaque, pong_opaque;
    bool pong_due, goaway_due;
    uint32_t pad_due;          // bytes of PAD that a PROBE asked for
    uint32_t stream_count;     // streams that send by it
    uint32_t busy_count;       // of these, with data to send
    struct list control;       // streams with control frames to send
    struct list fresh, busy;   // streams with data to send: were empty; deficit round robin
    struct list lazy;          // streams whose ACK may wait until ack_due_us
    uint64_t ack_due_us;       // 0: none
    // Last ACKs of freed streams (rule 6, docs/protocol.md): to be sent, sent, sent before the PING that is unanswered.
    struct list acks_due, acks_sent, acks_pinged;
    bool acks_flush;           // those due wait no longer
    struct bufq dgrams;        // queue of dgram.c
};

enum carrier_verdict { CARRIER_FINE, CARRIER_DEAD };

// Adds it to the session's carriers. The first one gets every stream, and all that is unacknowledged goes again; beside others
// it gets the streams of those that are suspect, and new ones.
void carrier_up(struct session *s, struct carrier *c, void (*on_output)(struct carrier *c), void *owner);
// Takes it away: its streams move to the other carriers; without any the session is parked. Legal when it is not up.
void carrier_down(struct carrier *c);
// The next moment at which carrier_tick wants to be called (worker's us clock), UINT64_MAX: never.
uint64_t carrier_deadline(const struct carrier *c);
// Does what is due: delayed ACKs, PING, suspicion. CARRIER_DEAD: the peer was silent too long, or it is suspect and a better
// one stands, which has its streams already: close it.
enum carrier_verdict carrier_tick(struct carrier *c);
// Looks at TCP's progress right behind a PING; call it after carrier_fill. Cheap when there is nothing to look at.
void carrier_sample(struct carrier *c);
// The machine slept, the network changed: PING at once, with little patience.
void carrier_hurry(struct carrier *c);
// Takes bytes as they come (a detached carrier throws them away); owns b. 0, or -1 when the peer broke the protocol (c->s->err says how).
int carrier_recv(struct carrier *c, struct buf *b);
// Appends frames to b, a fresh full buffer, as many as fit in FRAME_MAX bytes. False: nothing to send, b is unchanged.
bool carrier_fill(struct carrier *c, struct buf *b);
