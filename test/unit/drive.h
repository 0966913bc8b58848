// SPDX-License-Identifier: Apache-2.0
// Drives a worker in tests until something is true. A guard against hanging is the only clock: it fails the test, and
// nothing is proved by waiting.
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <time.h>
#include "core/worker.h"

#define DRIVE_GUARD_S 60

static inline uint64_t drive_seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec;
}

// Runs the loop until *done; a bare worker until *done or nothing is left to do.
static inline void drive_until(struct worker *w, const bool *done)
{
    if (w->bare) {
        for (int i = 0; i < 1000000 && !*done && !(list_empty(&w->wakes) && list_empty(&w->late)); i++)
            worker_turn(w);
        return;
    }
    uint64_t start = drive_seconds();
    while (!*done) {
        worker_poll(w, true);
        if (drive_seconds() - start > DRIVE_GUARD_S)
            fail_msg("hangs");
    }
}

// A bare worker until nothing is left to do.
static inline void drive_all(struct worker *w)
{
    static const bool never = false;
    drive_until(w, &never);
    worker_turn(w);
}

// A few turns, to let burials and last words happen.
static inline void drive_settle(struct worker *w)
{
    for (int i = 0; i < 8; i++) {
        if (w->bare)
            worker_turn(w);
        else
            worker_poll(w, false);
    }
}
