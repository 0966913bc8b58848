// SPDX-License-Identifier: Apache-2.0
#include "fate.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "core/worker.h"

static const char *name_now;
static uint64_t seed_now, state, inner_state; // the schedule's, and what the sessions themselves draw

// splitmix64
static uint64_t rnd(uint64_t *from)
{
    uint64_t z = *from += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void fill_by_seed(void *out, size_t len)
{
    for (uint8_t *at = out; len; at++, len--)
        *at = (uint8_t)rnd(&inner_state);
}

void fate_start(const char *name, uint64_t seed, struct worker *w)
{
    name_now = name;
    seed_now = state = inner_state = seed;
    w->fill_random = fill_by_seed;
    w->random_left = 0;
    list_init(&w->wakes);
    list_init(&w->late);
    list_init(&w->graves);
    w->now_ms = 1000;
    w->now_us = 1000 * w->now_ms;
}

uint64_t below(uint64_t n) { return rnd(&state) % n; }
bool chance(unsigned percent) { return below(100) < percent; }

void fail(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "%s: seed %" PRIu64 ": ", name_now, seed_now);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    abort();
}
