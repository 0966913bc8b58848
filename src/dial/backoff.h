// SPDX-License-Identifier: Apache-2.0
// How long to wait before the next attempt: doubling from 100 ms to 30 s, each wait drawn from the upper half of its
// step, so that a thousand agents of a restarted relay do not come back at once. No clock and no random source of its own.
#pragma once
#include <stdint.h>

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 30000

struct backoff {
    uint32_t step_ms; // 0: none yet
};

// The next wait, in (step/2 … step]; `random` is any 32 unpredictable bits. `cap_ms` limits the step, 0: BACKOFF_MAX_MS.
uint32_t backoff_next(struct backoff *b, uint32_t random, uint32_t cap_ms);
static inline void backoff_reset(struct backoff *b) { b->step_ms = 0; }
