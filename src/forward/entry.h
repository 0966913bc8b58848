// SPDX-License-Identifier: Apache-2.0
// An entry: a place where callers come in (TCP, Unix or UDP), each of whom gets a stream or a flow to the other end of a
// session. The agent's -L and the relay's side of -R are this. A refusal shows to a TCP caller as a reset, and in the log
// with its reason. Heap memory, listed in its forward. Closing it stops the listening; TCP callers that are in stay, UDP
// flows, which share its socket, end.
#pragma once
#include "forward/forward.h"
#include "forward/listen.h"

// UDP callers of one entry at a time, and of all entries of a session: sources are easily forged, so the last quarter of a
// session's streams is left for connections.
#define ENTRY_FLOWS_MAX (STREAMS_MAX / 4 * 3)

struct entry;

struct entry_options {
    const struct addr *at; // see listen_options
    size_t count;
    bool dual, udp;
    const char *kind;      // "local", "reverse": static
    const char *dest;      // where it comes out, for messages and tables; copied
    uint32_t flows_max;    // 0: ENTRY_FLOWS_MAX
    uint32_t idle_ms;      // udp; 0: the forward's
    // A caller came: fill *open (zeroed but for origin and datagram) and return the session to open it on; NULL: turn
    // the caller away.
    struct session *(*on_caller)(void *owner, struct frame_open *open);
    void *owner;
};

struct entry *entry_open(struct forward *fw, const struct entry_options *o, struct err *e); // NULL with *e set
void entry_close(struct entry *en); // NULL is allowed; no on_caller comes any more
const struct addr *entry_addr(const struct entry *en, size_t i); // as bound, with its port; NULL: no such one
// For its rows in a table: callers and turned_away at all its addresses, packets_dropped either way. New reference.
json_t *entry_counts(const struct entry *en);
