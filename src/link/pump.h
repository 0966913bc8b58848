// SPDX-License-Identifier: Apache-2.0
// Joins two open links and moves bytes both ways: asks the destination for room before it reads the source, passes an
// end on as an end and a failure as an abort, and reports once when both directions are over. The pump owns both
// links from pump_start on and closes them. Embedded in its owner; a few hundred bytes, no buffers of its own.
#pragma once
#include "link/link.h"

struct pump {
    struct worker *w;
    struct link *a, *b;
    struct wake wake;
    bool a_ended, b_ended; // a_ended: a's end was passed on to b
    uint64_t a_to_b, b_to_a; // bytes moved
    void (*on_done)(struct pump *pump, const struct err *err); // err NULL: both ended in order. From a wake; the pump may be freed in it
    bool done;
};
// `early`: bytes already read from a that go to b first; owned; may be NULL.
void pump_start(struct pump *p, struct worker *w, struct link *a, struct link *b, struct buf *early,
                void (*on_done)(struct pump *pump, const struct err *err));
void pump_stop(struct pump *p); // aborts both links without on_done; legal after done
