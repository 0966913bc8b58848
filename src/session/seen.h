// SPDX-License-Identifier: Apache-2.0
// A set of stream ids that were used, as ranges that collapse: ids rise by 2 and are nearly used in order, so it stays a handful of
// ranges for ever. At most SEEN_RANGES_MAX ranges are kept; a peer that leaves more holes than that breaks the protocol
// (seen_add answers false).
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define SEEN_RANGES_MAX 4096

struct seen_range {
    uint32_t first, last; // ids / 2, inclusive
};

struct seen {
    struct seen_range *ranges; // ascending, never touching
    uint32_t count, cap;
};

void seen_init(struct seen *s);
void seen_fini(struct seen *s);
bool seen_has(const struct seen *s, uint32_t id);
bool seen_add(struct seen *s, uint32_t id); // idempotent
