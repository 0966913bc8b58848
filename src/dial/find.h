// SPDX-License-Identifier: Apache-2.0
// Finds the routes to a relay: what proxy.h knows at once, and where a PAC script or the system's settings have to be asked, by the
// helper process (helper.h), which is started for one question, has a deadline, and is killed by its id in the end. Ends in one
// on_done, always from a wake or a timer. Embedded in its owner; may be stopped at any time.
#pragma once
#include "core/worker.h"
#include "dial/proxy.h"

#define FIND_MS 15000 // of the helper, above the deadlines of its steps

struct find {
    struct worker *w;
    struct proxy_question question;
    const char *program; // that is the helper; borrowed; NULL: this one
    int pid;             // 0: none runs
    int out;             // its answer
    struct watch *watch;
    struct timer deadline;
    struct wake wake;
    char *answer; // FOUND_ANSWER_MAX bytes, heap, while it runs
    size_t len;
    struct proxy_routes routes; // until on_done
    struct err err;
    bool busy;
    // `routes`: taken over by the callee, who moves them and calls proxy_routes_fini in the end; or NULL, and err. May start again in it.
    void (*on_done)(struct find *f, struct proxy_routes *routes, const struct err *err);
};

// ca_file: trust for fetching https:// scripts; NULL: the system's. relay, wishes and ca_file are not needed after the call.
void find_start(struct find *f, struct worker *w, const struct relay_url *relay, const struct proxy_wishes *wishes, const char *ca_file,
                void (*on_done)(struct find *f, struct proxy_routes *routes, const struct err *err));
void find_stop(struct find *f); // no on_done comes any more; legal when over and when zeroed
