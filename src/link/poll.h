// SPDX-License-Identifier: Apache-2.0
// Long-poll, the agent's end: a byte stream made of whole HTTP requests with whole answers, for networks where nothing else passes.
// It stands over a road and not over a link, since it needs several connections: one GET is always parked, some more while much
// comes, and POSTs go beside them. Requests that fail are repeated, and offsets make that harmless (wire/poll.h). The link is the
// base of its chain and owns the road. It fails when the server refuses, or when nothing was answered for POLL_GIVE_UP_MS.
#pragma once
#include "link/road.h"

#define POLL_POSTS 4            // at once, while all of them are full; 2 that are not
#define POLL_GETS 4             // while much comes; 1 when idle
#define POLL_CONNS (POLL_POSTS + POLL_GETS + 1)
#define POLL_QUEUE_MAX (1024 * 1024) // bytes sent and not acknowledged
#define POLL_GIVE_UP_MS 15000   // without any answer
#define POLL_BEGIN_MS 6000      // the same, before the first one
#define POLL_PATIENCE_MS 10000  // for an answer, beyond what a body takes and a GET is parked
#define POLL_IDLE_MS 8000       // a connection that was not used for longer is not trusted

struct poll_options {
    const char *host;    // Host header; copied
    const char *path;    // request target; copied
    const char *headers; // further header lines, each ended by CRLF; NULL: none; copied
    const char *where;   // "relay.example:443", for messages; copied
    struct road *road;   // owned, also when it fails
};
// `first`: the first of its connections, owned, not open yet or open; its facts become the stream's.
struct link *poll_over(struct link *first, const struct poll_options *o);
