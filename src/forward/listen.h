// SPDX-License-Identifier: Apache-2.0
// A listener for TCP or Unix connections: up to LISTEN_ADDRS sockets that belong together, and an accept loop which gives
// out ready tcp links. When descriptors run out it pauses and tries again by a timer; callers wait in the kernel's
// backlog, and those that waited through a pause are turned away with a reserve descriptor rather than left hanging. A Unix path is
// created with mode 0600, a stale one is replaced, a live one is an error, and it is removed at the end if it is still
// ours. The listener is heap memory of its owner.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "core/addr.h"
#include "core/err.h"
#include "core/worker.h"
#include "link/link.h"
#include "wire/spec.h"

#define LISTEN_ADDRS 16
#define LISTEN_BACKLOG 1024
#define LISTEN_BATCH 64     // connections accepted in one go
#define LISTEN_PAUSE_MS 100 // without descriptors; doubled up to a second

struct listener;

// A caller: `link` is an open tcp link (tcp_take with the listener's flags), owned by the callee; `peer` is unmapped, and
// has length 0 where a Unix caller has no name.
typedef void listen_fn(void *owner, struct link *link, const struct addr *peer);

struct listen_options {
    const struct addr *at; // copied; with port 0 the first one's choice is tried for the others too; see listen_may_skip
    size_t count;
    bool dual;             // "::" takes IPv4 as well, and 0.0.0.0 stands in where there is no IPv6 (spec "*")
    int flags;             // for tcp_take
    listen_fn *on_accept;
    void *owner;
};

struct listen_stats {
    uint64_t accepted, pauses, turned_away;
};

// What can be bound without asking DNS: literals, "*" (dual), "localhost", Unix paths. False: resolve the name, then use
// the answer as `at`. out holds 2.
bool listen_addrs(const struct spec_addr *spec, struct addr out[2], size_t *count, bool *dual);
// NULL with *e set: "listen 127.0.0.1:80: Permission denied".
struct listener *listener_open(struct worker *w, const struct listen_options *o, struct err *e);
void listener_close(struct listener *l); // NULL is allowed; legal in on_accept
void listener_pause(struct listener *l, bool paused); // the owner's own limit; callers wait in the backlog
const struct addr *listener_addr(const struct listener *l, size_t i); // as bound, with its port; NULL: no such one
const struct listen_stats *listener_stats(const struct listener *l);

// Shared with the UDP side: a bound, non-blocking socket of `type`, or -1 with *e ("listen 127.0.0.1:53: …") and errno set.
int listen_socket(const struct addr *at, int type, bool dual, struct err *e);
// at[i] could not be had because of `errnum`: true where that is IPv6, which is not here, and IPv4 stands beside it.
bool listen_may_skip(const struct addr *at, size_t count, size_t i, int errnum);
