// SPDX-License-Identifier: Apache-2.0
// A local program that still speaks a proxy's protocol with us, before its connection goes anywhere: bounded in number, with a
// deadline, and, once refused, heard out until it has taken the refusal. Embedded first in a protocol's own caller, which is one
// allocation freed here; `callers` belongs to the protocol's server. Nothing fails but by closing the link.
#pragma once
#include "core/list.h"
#include "core/worker.h"
#include "link/link.h"

#define CALLER_REFUSED_MS 3000 // to take a refusal and close

enum caller_heard {
    CALLER_WAITS,
    CALLER_ENDED,   // its link has, or the caller is refused
    CALLER_IS_GONE, // caller_drop was called
};

struct caller;

struct callers {
    struct worker *w;
    struct list list;
    unsigned count, max;
    uint32_t ms; // for each to ask
    enum caller_heard (*hear)(struct caller *c); // its link can be read
    void (*fini)(struct caller *c);              // what the protocol keeps beside
};

struct caller {
    struct list node;
    struct callers *all;
    struct link *link;
    struct wake wake;
    struct timer deadline;
    bool refused;
    struct grave grave;
};

// `size` bytes beginning with a struct caller, zeroed behind it; owns the link. NULL: too many, and the link is closed.
struct caller *caller_new(struct callers *all, size_t size, struct link *link);
void caller_drop(struct caller *c); // its link has another owner
// The refusal was sent.
void caller_refuse(struct caller *c);
void callers_end(struct callers *all); // closes all
