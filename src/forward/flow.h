// SPDX-License-Identifier: Apache-2.0
// One flow of datagrams: a datagram stream of a session on one side, a socket's correspondent on the other. The base of
// entry flows, target flows and SOCKS associations: it owns the stream's link, notices its end, counts, and ends when idle.
// The stream's user pointer is the flow, so a role's session_ops.on_dgram is just flow_on_dgram.
#pragma once
#include "forward/flow_seal.h"
#include "forward/forward.h"

struct flow {
    struct list node;     // in forward.flows
    struct forward *fw;
    struct stream *st;    // NULL: over
    struct flow_seal *seal; // NULL: plain; set before flow_start, owned by the flow from then on
    struct wake wake;
    const char *kind;     // "local", "target" …: static
    char *dest;           // owned
    struct addr origin;
    uint32_t idle_ms;
    uint64_t opened_us, heard_ms; // last datagram either way
    uint64_t in, out, in_bytes, out_bytes, dropped; // in: from the session
    bool up; // OPENED came, or was sent
    bool asked; // on_open was called
    void (*deliver)(struct flow *f, const uint8_t *data, size_t len); // a datagram from the session
    void (*on_open)(struct flow *f); // sealed, answering end: the asker has proved a key; then the owner says when it is up
    void (*on_end)(struct flow *f, const struct err *err); // over: frees the flow's owner; err NULL: idle or closed
};

// kind, origin, idle_ms, seal, deliver, on_open and on_end are set by the caller. Takes over the stream's link. False: too many flows;
// then the stream is refused or reset and nothing is called.
bool flow_start(struct flow *f, struct forward *fw, struct stream *st, const char *dest);
bool flow_send(struct flow *f, const void *data, size_t len); // into the session
void flow_drop(struct flow *f); // counts a datagram that its owner could not pass on
void flow_stop(struct flow *f); // closes the stream; no on_end; legal when over
// Ends the flows that this end opened in s: the next datagram begins them anew, perhaps elsewhere.
void flow_end_opened(struct forward *fw, const struct session *s);
// For session_ops.on_dgram of both roles.
void flow_on_dgram(struct session *s, struct stream *st, const uint8_t *data, size_t len);
