// SPDX-License-Identifier: Apache-2.0
// Which of several relays an agent uses: pure decisions from what is known of each and from the time, so that tests are exact. No
// clock, no I/O, no memory of its own. The relay that is used is the *home*. Of those that stand and answer, all whose round
// trip is near the smallest are equals, and the one named first is the best of them. A home that does not answer is left at once
// when an attempt to reach it has failed, or after RANK_PATIENCE_MS (suspect: RANK_SUSPECT_MS); a better one is moved to only after it has been better, and
// has stood, for the comeback time and a random part of it, so that a thousand agents do not return together.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RANK_NONE SIZE_MAX
#define RANK_NEAR_US 20000        // round trips that differ by this much, or by a quarter, are equal; of the home by twice that
#define RANK_PATIENCE_MS 1500     // a home that was cut may come back within this,
#define RANK_SUSPECT_MS 1000      // one that is suspect, and so was silent for seconds already, within this
#define RANK_SETTLE_MIN_MS 300    // at the start the first that stands waits so long for the others,
#define RANK_SETTLE_MAX_MS 1000   // or half as long as it took itself
#define RANK_COMEBACK_MS 60000    // default of the comeback time

struct rank_one {      // a relay, in the order of preference
    bool good;         // stands, answers and takes new streams
    bool stands;       // stands, but perhaps is draining or suspect
    bool gone;         // draining or given up: no patience with it
    bool tried;        // an attempt has succeeded or failed since it was last good (at the start: ever)
    uint32_t rtt_us;   // smallest round trip of late; 0: unknown, taken for as good as the best
    uint64_t good_ms;  // since when it is good without a break
};

struct rank {
    size_t home;          // RANK_NONE before the first
    uint32_t comeback_ms;
    uint64_t start_ms;
    uint64_t first_ms;    // when the first stood; 0: none yet
    uint64_t lost_ms;     // since when the home is not good; 0: it is
    size_t better;        // which would be better than the home,
    uint64_t better_ms;   // since when,
    uint32_t jitter_ms;   // and what is waited beyond the comeback time
    uint64_t again_ms;    // when to ask again without any event; 0: no need
    bool hasty;           // takes the first that stands
};

void rank_init(struct rank *r, uint32_t comeback_ms, bool hasty, uint64_t now_ms);
// Decides; r->home may have changed. `random`: 32 unpredictable bits.
void rank_decide(struct rank *r, const struct rank_one *c, size_t n, uint32_t random, uint64_t now_ms);
// The best of the good ones but `not` (RANK_NONE: all); the home gets its advantage. RANK_NONE: none is good.
size_t rank_best(const struct rank *r, const struct rank_one *c, size_t n, size_t not);
// All of them from the home and the best on, good ones first; out holds n.
void rank_order(const struct rank *r, const struct rank_one *c, size_t n, size_t *out);
