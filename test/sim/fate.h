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
static uint64_t rng_state;

// splitmix64
static inline uint64_t rnd(void)
{
    uint64_t z = rng_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
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
