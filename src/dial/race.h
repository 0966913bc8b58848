// SPDX-License-Identifier: Apache-2.0
// Happy eyeballs (RFC 8305): connects to several addresses with a stagger, keeps the first that stands and aborts the
// others. Exactly the given addresses are dialled, so that what policy has checked is what is reached. Ends in on_done
// once, from a wake. Embedded in its owner; the attempts are heap memory that the race frees.
#pragma once
#include <stddef.h>
#include "core/addr.h"
#include "core/err.h"
#include "core/worker.h"
#include "link/link.h"

#define RACE_STAGGER_MS 250
#define RACE_MS 20000 // deadline of the whole race
#define RACE_MAX 16   // attempts

struct race {
    struct worker *w;
    struct race_attempt *attempts;
    size_t count, started, failed;
    int flags;
    struct timer stagger, deadline;
    struct err err;
    // A connected tcp link, owned by the callee (link_own it), and the address it reached; or NULL, and err tells each
    // address's failure: "connect 10.0.0.5:22: Connection refused".
    void (*on_done)(struct race *r, struct link *link, const struct addr *to, const struct err *err);
};

// addrs: 1…RACE_MAX, in order of preference, copied; `flags` as for tcp_dial. Unix addresses are fine.
void race_start(struct race *r, struct worker *w, const struct addr *addrs, size_t count, int flags,
                void (*on_done)(struct race *r, struct link *link, const struct addr *to, const struct err *err));
void race_stop(struct race *r); // no on_done comes any more; legal when it is over, and on a zeroed race
