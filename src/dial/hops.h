// SPDX-License-Identifier: Apache-2.0
// Puts the proxies of a route over a TCP connection, one after the other, each once the one before stands: a CONNECT or a SOCKS
// request each, with TLS in front for https:// and h2://. Over TLS a proxy may choose HTTP/2: then the request is a stream of a connection (h2.h)
// that later dials share; where an https:// one refuses that, it is asked again by HTTP/1.1. Names of a socks5:// hop's target are resolved here, and left to the proxy if that fails. Who
// refused, and what it answered, is in the error. Where a proxy ends the connection while it is being answered, the owner starts the hops again
// over a new one; what was learned stays. Embedded in its owner; may be stopped at any time.
#pragma once
#include "dial/kit.h"
#include "dial/proxy.h"
#include "dial/resolve.h"

#define HOPS_MS 15000     // for all proxies of a route to open the way
#define HOPS_NAME_MS 2000 // to find an address for a socks5:// hop, before the name is left to the proxy

struct hops {
    struct worker *w;
    struct resolver *resolver;
    struct proxy_kit *kit;
    const struct proxy_route *route;
    const char *host; // behind the last hop
    uint16_t port;
    struct list *hubs; // where HTTP/2 connections to proxies are listed; NULL: none is made
    struct link *top; // owned
    struct auth *auths[PROXY_HOPS]; // of the HTTP hops, over all connections
    size_t at;        // the hop that is being opened; those before stand
    bool put;         // its link is in the stack
    bool bare;        // only TLS, or a stream of HTTP/2 for its request: that comes next
    bool h2;          // it is asked by HTTP/2
    bool no_h2;       // that was refused,
    bool anew;        // and how to authenticate is chosen anew
    bool shared;      // over a connection that stood already
    bool again;       // in on_done: over a new connection it has a chance
    struct resolve resolve;
    struct wake wake;
    struct timer deadline, unnamed;
    // The stack with all hops open, owned by the callee (link_own it); or NULL, and err.
    void (*on_done)(struct hops *h, struct link *top, const struct err *err);
};

// kit, route and host must stay.
void hops_init(struct hops *h, struct worker *w, struct resolver *r, struct proxy_kit *kit, const struct proxy_route *route,
               const char *host, uint16_t port, struct list *hubs, void (*on_done)(struct hops *h, struct link *top, const struct err *err));
void hops_fini(struct hops *h); // legal on a zeroed one
struct h2;
// A shared connection to the first hop, if there is one that takes more; then hops_start_over needs no connection.
struct h2 *hops_hub(const struct hops *h);
void hops_start_over(struct hops *h, struct h2 *hub);
// `base`: a connected link to the first hop; owned. Ends in one on_done.
void hops_start(struct hops *h, struct link *base);
void hops_stop(struct hops *h); // no on_done comes any more; legal when over and when zeroed
