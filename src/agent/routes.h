// SPDX-License-Identifier: Apache-2.0
// The routes of an uplink: found before its first attempt (dial/find.h), asked for again by HUP and conf_proxy, when the machine's network
// has changed, and when all of them failed and they came from somewhere that may answer otherwise now. They are the uplink's; the lanes borrow
// them. New ones that differ end the attempts by the old ones and make carriers stale that stand on a route that is gone (made before broken).
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "core/err.h"

struct uplink;
struct proxy_routes;

#define ROUTES_DOUBT_MS 5000   // between two questions because of failures,
#define ROUTES_NETWORK_MS 1000 // or because the machine's network changes
#define ROUTES_TEXT_MAX 1024

int routes_init(struct uplink *u, struct err *e); // -1 with *e set: what was said makes no sense (ERR_USAGE)
void routes_fini(struct uplink *u);
// True when there are routes to dial by. Asks if there are none, or if it is time to ask again; uplink_go_on follows then.
bool routes_ready(struct uplink *u);
void routes_ask(struct uplink *u); // again, from the beginning
void routes_doubt(struct uplink *u, uint64_t least_ms); // they may have changed: ask now, or with the next attempt if they are younger
// "via a:3128, then direct"; returns out.
const char *routes_text(const struct proxy_routes *r, char *out, size_t size);
