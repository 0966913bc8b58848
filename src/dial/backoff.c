// SPDX-License-Identifier: Apache-2.0
#include "dial/backoff.h"

uint32_t backoff_next(struct backoff *b, uint32_t random, uint32_t cap_ms)
{
    uint32_t cap = cap_ms == 0 || cap_ms > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : cap_ms;
    if (b->step_ms == 0)
        b->step_ms = BACKOFF_MIN_MS;
    else
        b->step_ms = b->step_ms > BACKOFF_MAX_MS / 2 ? BACKOFF_MAX_MS : b->step_ms * 2;
    uint32_t step = b->step_ms < cap ? b->step_ms : cap;
    uint32_t half = step / 2;
    return step - (uint32_t)(((uint64_t)random * half) >> 32);
}
