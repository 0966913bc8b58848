// SPDX-License-Identifier: Apache-2.0
// Opens one carrier's stack by the first way that leads to the relay: each try is a dial of its own (dial.h), begun when ladder.h says
// so, and judged by the finished inner handshake, since anybody may accept a connection. The first one that stands is handed over, open; the others
// are closed. When all have failed, the error is that of the try that came furthest, and what was met on other routes is said behind it; each
// failure is in the log at debug level. Embedded in its owner; may be stopped at any time. The tries are heap memory, LADDER_TRIES at most, owned here.
#pragma once
#include "dial/dial.h"
#include "dial/ladder.h"

struct paths;

struct paths_options { // borrowed until on_done
    const struct dial_options *dial;  // what all tries have in common: route, transport, mss and avoid are not looked at
    const struct proxy_route *routes; // in order of preference
    size_t route_count;               // 1 … LADDER_ROUTES
    struct transport_list transports; // at least one
    struct addr avoid;                // it led nowhere the time before; len 0: none
    uint32_t reach_ms;                // deadline of the first handshake's begin
    uint32_t open_ms;                 // and from then on, of one that ends well
    // May be NULL. Once, when the first address is known, and with it the network: fills *way with what worked there, or returns false.
    bool (*on_network)(struct paths *p, const struct addr *to, struct way *way);
};

struct path_try;

struct paths {
    struct worker *w;
    struct resolver *resolver;
    const struct paths_options *o;
    struct ladder ladder;
    struct path_try *tries[LADDER_TRIES]; // of the ladder's
    struct timer next, deadline;
    bool stood, asked;
    struct way way;      // in on_done: of the one that won,
    uint64_t open_us;    // and when its handshakes began
    struct addr reached; // by it, or where the furthest one failed; len 0: nowhere
    size_t addresses;    // the largest number that a first hop's name had
    // The inner TLS on top of an open stack, owned by the callee (link_own it); or NULL, and err. Never from within paths_start.
    void (*on_done)(struct paths *p, struct link *top, const struct err *err);
};

// floor: only ways better than it, of which there must be one; NULL: all. most: tries, 0: LADDER_TRIES.
void paths_start(struct paths *p, struct worker *w, struct resolver *r, const struct paths_options *o, const struct way *floor, size_t most,
                 void (*on_done)(struct paths *p, struct link *top, const struct err *err));
void paths_stop(struct paths *p); // no on_done comes any more; legal when over and when zeroed
