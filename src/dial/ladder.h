// SPDX-License-Identifier: Apache-2.0
// Which way to a relay is tried when: pure decisions from what is known of the tries and from the time, so that tests are exact. No
// clock, no I/O, no memory of its own. A *way* is a route (direct, or through proxies), a transport and a limit of TCP's segments.
// All routes begin with the first transport, LADDER_STAGGER_MS apart, or at once when everything before has failed; what worked
// in this network the last time goes before them. A try whose handshake stalls may sit in front of a hole for large packets: after
// LADDER_STALL_MS the same way is tried with smaller segments, of two sizes. One that was refused, by whatever said no to it once the way to
// the relay was open, brings the next transport at once, and one that is merely silent brings it LADDER_SILENT_MS after it
// began. What does not even connect brings nothing: all transports use the same port. Where a name has several
// addresses, one that accepted and then failed, or stalls, brings another one. A size of segments that did not even bring TLS up is not
// tried again by another transport.
#pragma once
#include <stdint.h>
#include "dial/transport.h"

#define LADDER_STAGGER_MS 250
#define LADDER_STALL_MS 1500
#define LADDER_SILENT_MS 3000 // for the first transport; LADDER_STALL_MS for each further one
#define LADDER_MSS 1340 // packets of 1380 bytes, 1400 with IPv6: passes most tunnels, and costs a twelfth of the speed at most
#define LADDER_MSS_MIN 1200 // LADDER_STAGGER_MS later
#define LADDER_ROUTES 8
#define LADDER_TRIES 12 // of one race, in all

struct way {
    size_t route; // its index
    enum transport transport;
    uint16_t mss; // 0: not limited
};

struct ladder_try {
    struct way way;
    uint64_t started_ms;
    uint64_t reached_ms; // a TCP connection stands; 0: not yet
    uint64_t stood_ms;   // the way to the relay is open, its handshakes began
    bool secured;        // the outer TLS is done
    bool over;           // it failed
    bool final;          // for a reason that no other transport changes
    size_t addresses;    // of its first hop; 0: not known yet
};

struct ladder {
    struct transport_list transports;
    size_t routes;
    bool has_first, has_floor;
    struct way first; // worked the last time
    struct way floor; // only ways better than this one are tried
    size_t most;      // tries, up to LADDER_TRIES
    struct ladder_try tries[LADDER_TRIES];
    size_t count;
};

void ladder_init(struct ladder *l, const struct transport_list *transports, size_t routes);
// The next way to try: true, with *out, when it is due; else *again_ms says when it will be as things are, UINT64_MAX: never.
bool ladder_next(const struct ladder *l, uint64_t now_ms, struct way *out, uint64_t *again_ms);
// Notes that a way is tried now; its index. There must be room (ladder_next says nothing when there is none).
size_t ladder_start(struct ladder *l, const struct way *way, uint64_t now_ms);
bool ladder_runs(const struct ladder *l); // some try is not over
// Whether a is preferred to b: the transport counts more than the route, and that more than the segments' size.
bool ladder_better(const struct transport_list *transports, const struct way *a, const struct way *b);
static inline bool way_equal(const struct way *a, const struct way *b)
{
    return a->route == b->route && a->transport == b->transport && a->mss == b->mss;
}
