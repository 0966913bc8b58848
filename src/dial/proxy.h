// SPDX-License-Identifier: Apache-2.0
// Which proxies lie between here and a relay: those told (--proxy), else those saved (conf_proxy), else those of the invitation, else
// those of the environment (https_proxy, HTTPS_PROXY, all_proxy, ALL_PROXY; http_proxy for plain ws) unless no_proxy or NO_PROXY takes
// the relay out, else what the system's settings say. A PAC script and the system's settings have to be asked, which find.h does; here
// is no I/O, and the environment is a function, for tests. The answer is one route or several, in the order in which they are to be tried.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "core/err.h"
#include "wire/found.h"
#include "wire/pairing.h"
#include "wire/url.h"

#define PROXY_HOPS PAIRING_PROXIES
#define PROXY_SOURCE_MAX 256

struct proxy_route {
    struct proxy_url hops[PROXY_HOPS]; // in order from here; http, https and socks kinds
    size_t count;                      // 0: direct
    char source[PROXY_SOURCE_MAX];     // where it comes from, for messages; see proxy_routes
    char path[256];                    // "direct", "via proxy:3128": for messages
    uint64_t id;                       // the same for the same hops with the same logins; never 0
};

struct proxy_routes {
    struct proxy_route *of; // owned; at least one once it is known
    size_t count;           // 0: not known yet
    bool asked;             // the answer may be another one later
    char source[PROXY_SOURCE_MAX]; // "--proxy", "conf_proxy", "environment https_proxy", "PAC http://…", "the system's settings", ""
    bool failed;            // and somebody who was asked could not answer: note says who
    char note[FOUND_TEXT_MAX]; // a sentence about what was not asked, or not understood; or ""
};

struct proxy_wishes { // borrowed; each a chain, in order
    const struct proxy_url *told;
    size_t told_count;
    const struct proxy_url *saved;
    size_t saved_count;
    const struct proxy_url *invited;
    size_t invited_count;
    const char *(*env)(const char *name);
};

struct proxy_question { // what has to be asked
    char pac[URL_PAC_MAX + 1]; // this script; "": the system's settings
    char from[64];             // who named it
    bool optional;             // without an answer it is direct
    struct proxy_url login;    // for the proxies that a script names, if it was told with one
};

// 0: *out is the answer. 1: *q is to be asked, and proxy_found gives the answer. -1 with *e set (ERR_USAGE) when a hop is of a kind
// that cannot be used or a variable is not a URL. One told or saved as "none" is direct, "auto" skips the invitation.
int proxy_find(struct proxy_routes *out, struct proxy_question *q, const struct relay_url *relay, const struct proxy_wishes *w,
               struct err *e);
// 0, or -1 with *e set when there is no answer (ERR_UNREACHED).
int proxy_found(struct proxy_routes *out, const struct proxy_question *q, const struct found *f, struct err *e);
// The route with this id, or NULL.
const struct proxy_route *proxy_routes_find(const struct proxy_routes *r, uint64_t id);
void proxy_route_wipe(struct proxy_route *r); // a copy's passwords
void proxy_routes_fini(struct proxy_routes *r); // wipes the passwords; legal on a zeroed one
