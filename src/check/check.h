// SPDX-License-Identifier: Apache-2.0
// `culvert check`: looks at each step from here to a relay by itself, side by side, and says what works, who refused, and what can be
// done. Everything that is asked is harmless: names, connections, requests without credentials, and one session of its own at a
// relay that was joined. Runs a worker of its own until all is known; what it was given is borrowed until it returns.
#pragma once
#include "check/report.h"
#include "dial/kit.h"
#include "dial/transport.h"
#include "trust/agent_state.h"

#define CHECK_IDLE_MS 300000 // longest silence that --long waits for

struct check_options {
    const struct relay_url *relay;
    const struct agent_relay *known;  // what is known of it; NULL: not joined
    const struct identity *id;        // this agent's key; key NULL: none
    const struct proxy_url *proxies;  // --proxy; count 0: auto
    size_t proxy_count;
    const struct proxy_url *saved;    // conf_proxy
    size_t saved_count;
    struct proxy_kit *kit;
    const char *ca_file, *host, *sni, *headers; // as in struct dial_options; headers each ended by CRLF
    struct transport_list transports; // to try; none: the usual ones
    bool outer_report;
    bool peel_never;
    bool idle;                        // --long
    bool progress;                    // a line on stderr that tells what is going on
};

// NULL with *e set when the check itself cannot run. The report is the caller's.
struct report *check_run(const struct check_options *o, struct err *e);
