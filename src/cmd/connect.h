// SPDX-License-Identifier: Apache-2.0
// The connect flags of `agent` and `join`: option values → struct agent_connect. The parsed values live in struct
// connect; connect_fini wipes them.
#pragma once
#include "agent/agent.h"
#include "cmd/options.h"
#include "dial/kit.h"
#include "trust/agent_state.h"

#define CONNECT_HEADERS 16 // --header

struct connect {
    const char *headers[CONNECT_HEADERS];
    struct relay_url relays[AGENT_RELAYS];
    struct proxy_url proxies[PAIRING_PROXIES];
    struct proxy_kit kit;
    struct agent_connect c;
};

int connect_parse(const struct options *o, struct connect *out, struct err *e);
// Asks at the terminal for the password of a user without one. 0, or -1 with *e set; nothing when nobody can be asked.
int connect_ask_password(struct proxy_url *p, const char *what, struct err *e);
void connect_fini(struct connect *c);
