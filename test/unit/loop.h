// SPDX-License-Identifier: Apache-2.0
// For tests on a real loop: turns it until something is true; a guard of 30 s keeps a hanging test from waiting for ever.
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/worker.h"

struct loop_guard {
    struct timer timer;
    bool rang;
};

static inline void loop_on_guard(struct timer *t) { container_of(t, struct loop_guard, timer)->rang = true; }

#define loop_until(w, condition)                                                                                       \
    do {                                                                                                               \
        struct loop_guard guard_ = {0};                                                                                \
        timer_init(&guard_.timer, loop_on_guard);                                                                      \
        timer_set(w, &guard_.timer, 30000);                                                                            \
        while (!(condition)) {                                                                                         \
            if (guard_.rang)                                                                                           \
                fail_msg("hangs at: %s", #condition);                                                                  \
            uv_run(&(w)->loop, UV_RUN_ONCE);                                                                           \
        }                                                                                                              \
        timer_stop(w, &guard_.timer);                                                                                  \
    } while (0)
