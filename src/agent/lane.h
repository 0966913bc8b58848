// SPDX-License-Identifier: Apache-2.0
// One connection of an uplink to its relay: a race of paths, the open stack that it hands over, and the carrier that this becomes. It knows the
// way through the machine's network by which it was opened, so that a change of it can be judged. Embedded in the uplink, which
// says when to dial and what an end means; a lane that has ended is free and may be dialled again.
#pragma once
#include "dial/network.h"
#include "dial/paths.h"
#include "session/conn.h"

#define LANE_HEDGE_TRIES 2

struct uplink;

enum lane_state { LANE_FREE, LANE_DIALLING, LANE_OPENING, LANE_UP };

struct lane {
    struct uplink *u;
    enum lane_state state;
    struct paths paths;
    struct conn *conn;
    struct way way;              // by which it was opened
    bool better;                 // dialled beside one that stands, to take its place by a better way
    struct network_route route;  // by which it was opened; key "" when not known
    uint64_t route_id;           // of the proxies it goes by (struct proxy_route)
    struct liveness_lesson lesson; // what was known of that network
    uint64_t began_ms, open_us;  // when it was dialled; when its stack began to open
    uint64_t up_ms;
    bool stale;                  // its network changed, or the machine slept: another shall take its place
};

void lane_init(struct lane *l, struct uplink *u);
// Must be free. hedge: another one hangs, so the way that is tried first is tried once more, and no others.
void lane_dial(struct lane *l, bool hedge);
void lane_dial_better(struct lane *l, const struct way *than); // the same, by a better way only, of which there must be one
// Whether a stands on a better way than b.
bool lane_is_better(const struct lane *a, const struct lane *b);
bool lane_is_best(const struct lane *l); // there is no better way
// For paths_options.
bool lane_recall(struct paths *p, const struct addr *to, struct way *way);
void lane_drop(struct lane *l); // ends whatever it is, and tells nobody
// It stands, is not suspect and has its network.
bool lane_is_good(const struct lane *l);
static inline bool lane_is_rising(const struct lane *l) { return l->state == LANE_DIALLING || l->state == LANE_OPENING; }
