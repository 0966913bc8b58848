// SPDX-License-Identifier: Apache-2.0
// Which proxies lie between here and a relay: those told, else those of the invitation, else those of the environment
// (https_proxy, HTTPS_PROXY, all_proxy, ALL_PROXY; http_proxy for plain ws) unless no_proxy or NO_PROXY takes the relay out. No
// I/O; the environment is a function, for tests.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "core/err.h"
#include "wire/pairing.h"
#include "wire/url.h"

#define PROXY_HOPS PAIRING_PROXIES

struct proxy_route {
    struct proxy_url hops[PROXY_HOPS]; // in order from here; http, https and socks kinds
    size_t count;                      // 0: direct
    char source[64];                   // "--proxy", "the invitation", "https_proxy": for messages
    char path[256];                    // "direct", "via proxy:3128": for messages
};

// `told`: --proxy flags; `invited`: of the pairing. One told as "none" is direct, "auto" means look in the
// environment. 0, or -1 with *e set (ERR_USAGE) when a hop is of a kind that cannot be used or a variable is not a URL.
int proxy_find(struct proxy_route *out, const struct relay_url *relay, const struct proxy_url *told, size_t told_count,
               const struct proxy_url *invited, size_t invited_count, const char *(*env)(const char *name),
               struct err *e);
void proxy_route_wipe(struct proxy_route *r); // passwords
