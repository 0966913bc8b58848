// SPDX-License-Identifier: Apache-2.0
// What both roles forward with: the place where all open conduits (TCP) and flows (UDP) of a worker are counted,
// bounded and listed. Owned by the relay or the agent; everything in src/forward takes a pointer to it.
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "core/list.h"
#include "core/worker.h"
#include "dial/resolve.h"
#include "forward/udp.h"
#include "session/session.h"

#define FORWARD_CONDUITS_MAX 65536
#define FORWARD_FLOWS_MAX 16384
#define FORWARD_HELD_MAX (4 * 1024 * 1024) // datagrams of all flows that wait for a name to be resolved or for a seal
#define FORWARD_OPEN_MS 30000 // a caller waits this long for the far end's answer
#define FORWARD_UDP_IDLE_MS 60000

// Policy on one address, an IP address with its port or a Unix path; `name` as it was asked for, a name or a literal. to NULL:
// whether any address that the name may turn out to have could be allowed, asked before it is resolved.
typedef bool forward_allows_fn(void *ctx, const char *name, uint16_t port, const struct addr *to, bool udp);

struct forward_stats {
    uint64_t conduits, conduits_failed, conduits_reset, conduits_limited; // all ever
    uint64_t bytes_in, bytes_out; // of finished conduits: from the caller, to the caller
    uint64_t flows, flows_failed, flows_limited, flows_idle;
    uint64_t dgrams_in, dgrams_out; // from the session, into it
    uint64_t dgrams_dropped; // not passed on, either way; what a socket did not take is udp.unsent
};

struct seal_way;
struct frame_open;

// Where else a stream may be opened that `from` refused (err, a code of its peer's), or that has not left it (err NULL), or that
// waits since (from NULL); NULL: nowhere, or with *later set, not yet: conduits_ask_again comes. `asked` is the caller's, to note whom it asked; zero at first.
typedef struct session *forward_elsewhere_fn(void *owner, struct session *from, const struct frame_open *open,
                                             const struct err *err, uint32_t *asked, bool *later);

struct forward {
    struct worker *w;
    struct resolver *resolver; // the role's
    const struct seal_way *seal; // how streams to other agents' services are sealed; NULL: never
    forward_elsewhere_fn *elsewhere; // NULL: there is one session only
    void *elsewhere_owner;
    struct udp_io udp;
    uint32_t udp_idle_ms;
    struct list conduits, flows, entries;
    uint32_t conduit_count, flow_count;
    size_t held_bytes; // see FORWARD_HELD_MAX
    struct timer sweep; // looks for idle flows, a few times an idle time
    struct forward_stats stats;
};

void forward_init(struct forward *fw, struct worker *w, struct resolver *resolver, uint32_t udp_idle_ms);
void forward_fini(struct forward *fw); // closes entries, conduits and flows, without callbacks

// Strings for JSON, which takes nothing but UTF-8. What a peer or a caller chose, which may mean something to a terminal too, is
// escaped as in the log; what was chosen or written here stays as it is where it can, so that a program may use it.
json_t *forward_foreign_json(const char *text);
json_t *forward_own_json(const char *text);

// Snapshots for the tables, new references: arrays of objects.
json_t *forward_streams_json(const struct forward *fw); // one a conduit
json_t *forward_flows_json(const struct forward *fw);
json_t *forward_stats_json(const struct forward *fw);
