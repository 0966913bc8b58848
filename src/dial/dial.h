// SPDX-License-Identifier: Apache-2.0
// From a relay's URL to a carrier's stack: resolves the first hop, races its addresses to a TCP connection, and puts on
// top what route and transport say: tcp [· hops]… [· tls] · ws · tls(inner, pinned). The stack is handed over unopened above the
// proxies: who takes it (conn_agent) drives its handshakes under its own deadline. Embedded in its owner; may be stopped at any time.
#pragma once
#include <openssl/ssl.h>
#include "dial/hops.h"
#include "dial/kit.h"
#include "dial/proxy.h"
#include "dial/race.h"
#include "dial/resolve.h"
#include "dial/transport.h"

#define DIAL_AVOID 16

struct dial_options { // borrowed until on_done
    const struct relay_url *relay;
    const struct proxy_route *route;
    struct proxy_kit *kit;     // what its hops need; may be NULL when there are none
    SSL_CTX *outer, *inner;    // outer NULL when the relay is plain ws
    bool outer_report;         // an untrusted outer certificate is reported instead of refused
    const uint8_t (*pins)[32]; // of the relay's identity
    size_t pin_count;
    const char *host;          // Host header and name to verify; NULL: the relay's
    const char *sni;           // SNI and name to verify; NULL: as host; "" none, and the name as host
    const char *headers;       // each ended by CRLF; NULL: none
    struct addr avoid[DIAL_AVOID]; // tried last: they led nowhere, or are being tried already
    size_t avoid_count;
    struct list *hubs; // of HTTP/2 connections, to be shared (h2.h); NULL: none is made
    bool fresh;        // none that stands is to be shared: it may be bad
    enum transport transport;
    uint16_t mss;              // the largest segment of the TCP connection, both ways; 0: what the network says
    struct addr only;          // the first hop's address, instead of looking its name up; len 0: look
    bool bare;                 // nothing above the outer TLS (road.h)
};

// The Host header, and the name that the web certificate must be for.
void dial_host_header(const struct dial_options *o, char *out, size_t size);
void dial_verify_name(const struct dial_options *o, char *out, size_t size);

struct dial {
    struct worker *w;
    struct resolver *resolver;
    const struct dial_options *o;
    struct resolve resolve;
    struct race race;
    struct hops hops;
    struct addr reached; // of the first hop; len 0: none yet
    char first[600]; // the first hop, for messages: "relay.example:443", "proxy proxy:3128"
    // May be NULL. The first hop's name is known, or a literal; transport and mss of the options may still be changed.
    void (*on_addresses)(struct dial *d, const struct addr *addrs, size_t count);
    void (*on_reached)(struct dial *d); // may be NULL: the TCP connection to the first hop stands
    // The inner TLS on top of everything, owned by the callee; or NULL, and err: "dial relay.example:443: …".
    void (*on_done)(struct dial *d, struct link *inner, const struct err *err);
};

void dial_start(struct dial *d, struct worker *w, struct resolver *r, const struct dial_options *o,
                void (*on_done)(struct dial *d, struct link *inner, const struct err *err));
void dial_stop(struct dial *d); // no on_done comes any more; legal when over and when zeroed
