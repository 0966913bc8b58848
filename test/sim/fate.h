// SPDX-License-Identifier: Apache-2.0
// What both simulations share: randomness from one seed, the bytes that a stream carries, and how a schedule is condemned. Each
// program includes it once; the state is its own.
#pragma once
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t seed_now;
static uint64_t rng_state, inner_state; // the schedule's, and what the sessions themselves draw

// splitmix64
static inline uint64_t rnd_from(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline uint64_t rnd(void) { return rnd_from(&rng_state); }

// For the worker's random bytes: hash seeds, jitter, ids.
static inline void fill_by_seed(void *out, size_t len)
{
    for (uint8_t *at = out; len; at++, len--)
        *at = (uint8_t)rnd_from(&inner_state);
}

static inline uint64_t below(uint64_t n) { return rnd() % n; }
static inline bool chance(unsigned percent) { return below(100) < percent; }

static inline void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, SIM_NAME ": seed %" PRIu64 ": ", seed_now);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    abort();
}

// The byte at that offset of one direction of a pair.
static inline uint8_t pattern(uint64_t key, int dir, uint64_t off)
{
    return (uint8_t)(off * 131 + (off >> 8) * 17 + (off >> 16) * 29 + key * 7 + (uint64_t)dir * 3);
}
