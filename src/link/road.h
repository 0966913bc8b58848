// SPDX-License-Identifier: Apache-2.0
// A way on which further connections of one kind can be had: to the same server by the same proxies. For links that need more
// than one connection below them; how they are made is the business of whoever provides the road.
#pragma once
#include "link/link.h"

struct road_call { // one connection being made; embedded in who wants it
    // A link, owned by the callee, which opens it (link_own it); or NULL, and err says why. From a wake.
    void (*on_done)(struct road_call *c, struct link *l, const struct err *err);
    void *of; // the road's; NULL: over
};

struct road {
    void (*dial)(struct road *r, struct road_call *c); // ends in one on_done
    void (*stop)(struct road *r, struct road_call *c); // no on_done comes any more; legal when over and when zeroed
    void (*fini)(struct road *r);                      // frees it; all calls are over
};
