// SPDX-License-Identifier: Apache-2.0
// For tests on a real loop: turns it until something is true; a guard of 30 s keeps a hanging test from waiting for ever.
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/worker.h"

#define LOOP_TICK_MS 20 // poll must not sleep on while the condition became true in the same turn
#define LOOP_TICKS (30000 / LOOP_TICK_MS)

struct loop_guard {
    struct worker *w;
    struct timer timer;
    unsigned ticks;
};

static inline void loop_on_tick(struct timer *t)
{
    struct loop_guard *g = container_of(t, struct loop_guard, timer);
    g->ticks++;
    timer_set(g->w, t, LOOP_TICK_MS);
}

#define loop_until(worker, condition)                                                                                  \
    do {                                                                                                               \
        struct loop_guard guard_ = {.w = (worker)};                                                                    \
        timer_init(&guard_.timer, loop_on_tick);                                                                       \
        timer_set(guard_.w, &guard_.timer, LOOP_TICK_MS);                                                              \
        while (!(condition)) {                                                                                         \
            if (guard_.ticks > LOOP_TICKS)                                                                             \
                fail_msg("hangs at: %s", #condition);                                                                  \
            worker_poll(guard_.w, true);                                                                               \
        }                                                                                                              \
        timer_stop(guard_.w, &guard_.timer);                                                                           \
    } while (0)
