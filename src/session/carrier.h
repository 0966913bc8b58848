// SPDX-License-Identifier: Apache-2.0
// A carrier as the session sees it: one ordered byte pipe each way, up or gone. It finds frames in what arrives, without
// assembling DATA, and is filled with frames by the scheduler. No I/O: conn.h puts it on a link stack, the simulation on byte
// queues. The owner keeps the memory and calls carrier_down before it frees it.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "core/buf.h"
#include "wire/frame.h"

struct session;

struct carrier {
    struct session *s;
    void (*on_output)(struct carrier *c); // frames wait to be sent: post a wake that calls carrier_fill
    void *owner;
    uint32_t number;
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
};

// Makes it the session's carrier: everything unacknowledged is rewound. The old one, if any, is detached and told so by
// on_output: it has no session any more.
void carrier_up(struct session *s, struct carrier *c, void (*on_output)(struct carrier *c), void *owner);
// Takes it away; the session is parked until the next one. Legal when it is not up.
void carrier_down(struct carrier *c);
// Takes bytes as they come (a detached carrier throws them away); owns b. 0, or -1 when the peer broke the protocol (c->s->err says how).
int carrier_recv(struct carrier *c, struct buf *b);
// Appends frames to b, a fresh full buffer, as many as fit in FRAME_MAX bytes. False: nothing to send, b is unchanged.
bool carrier_fill(struct carrier *c, struct buf *b);
