// SPDX-License-Identifier: Apache-2.0
// Datagrams of one flow that wait until there is a way for them: a name is resolved, a seal is open. A few at most, oldest
// first, within FORWARD_HELD_MAX of all flows. Copies, wiped when they go; what is never passed on is counted as dropped.
// Embedded in its owner; all zero is empty.
#pragma once
#include "forward/forward.h"

#define HELD_MAX 16 // datagrams
#define HELD_BYTES 131072
#define HELD_ANY_AGE UINT64_MAX

struct held_dgram;

struct held {
    struct forward *fw;
    struct held_dgram *first, **last;
    unsigned count;
    size_t bytes;
};

// False: no room; the caller counts it.
bool held_add(struct held *h, struct forward *fw, const void *data, size_t len);
// Passes all on that have waited ttl_ms at most, and is empty then. `pass` must not touch `h`.
void held_release(struct held *h, uint64_t ttl_ms, void (*pass)(void *ctx, const void *data, size_t len), void *ctx);
void held_drop(struct held *h);
