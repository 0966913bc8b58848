// SPDX-License-Identifier: Apache-2.0
// What both simulations share: randomness from one seed, the bytes that a stream carries, and how a schedule is condemned. The
// state is that of the one schedule that runs.
#pragma once
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>

struct worker;

// The next schedule, of the simulation of this name. Its bare worker has nothing to do yet, its clock begins
// anew, and its random bytes (hash seeds, jitter, ids) come from the seed too.
void fate_start(const char *name, uint64_t seed, struct worker *w);
uint64_t below(uint64_t n);
bool chance(unsigned percent);
void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *fmt, ...);

// The byte at that offset of one direction of a pair.
static inline uint8_t pattern(uint64_t key, int dir, uint64_t off)
{
    return (uint8_t)(off * 131 + (off >> 8) * 17 + (off >> 16) * 29 + key * 7 + (uint64_t)dir * 3);
}
