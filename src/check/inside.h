// SPDX-License-Identifier: Apache-2.0
// The inside of the check, for the files of this folder only. A probe is one thing that is looked at: it makes its rows when it
// begins, fills them when it knows, and ends by itself; all run side by side on the check's worker. Probes of a way to the relay start
// when the way is known to be open, so that a proxy that refuses is told of once.
#pragma once
#include "check/ask.h"
#include "check/check.h"
#include "check/talk.h"
#include "check/trial.h"
#include "dial/proxy.h"

#define CHECK_ROUTES 4 // of those that were told or found; more are left out
#define CHECK_WAYS (CHECK_ROUTES + 1) // and the direct one beside them

struct check;

struct probe {
    struct list node;
    struct check *c;
    void (*fini)(struct probe *p); // stops what runs; frees nothing of the probe itself
    struct grave grave;
};

struct check_way {
    struct check *c;
    struct proxy_route route;
    bool found;          // an agent would try it
    char group[400];     // "via proxy:3128 (https_proxy)", "directly"
    struct finding *connect, *tls, *web, *h2, *proxies[PROXY_HOPS], *tunnels[TRANSPORTS]; // NULL: not looked at
    bool secured;        // TLS (or none, with ws://) stands, whoever ends it
    bool usable;
    enum transport transport; // the best that is
    uint16_t mss;        // it needs this limit; 0: not
    bool holed;          // packets of full size vanish there
    bool sized;          // that is looked at, or was
    struct err err;      // why not
    char issuer[256];
};

struct check {
    struct worker w;
    const struct check_options *o;
    struct resolver *resolver;
    struct report *report;
    struct check_way ways[CHECK_WAYS];
    size_t way_count;
    SSL_CTX *tls, *tls_h2, *inner;
    uint8_t pins[PAIRING_PINS + AGENT_NEXT_PINS][PIN_SIZE];
    size_t pin_count;
    struct dial_options dial;     // without route, transport and mss
    char host[URL_HOST_MAX + 16]; // Host header
    char name[URL_HOST_MAX + 1];  // to verify
    struct list probes;
    struct list hubs;             // HTTP/2 connections
    struct wake settled;          // no probe is left
    enum { CHECK_WAYS_PHASE, CHECK_IDLE_PHASE, CHECK_OVER } phase;
    time_t date;                  // a Date that was read, and when by this machine's clock
    time_t date_at;
    char date_of[200];
    struct err found;             // why no proxies were found
    uint64_t began_ms;
    struct timer tick;            // progress
    unsigned turn;
};

// check.c
void probe_start(struct probe *p, struct check *c, void (*fini)(struct probe *p));
void probe_over(struct probe *p); // freed (as heap memory) after the turn
void check_note_date(struct check *c, const struct answer *a, const char *of);
// By that way, with everything else as an agent would do it.
void check_dial_options(const struct check_way *way, enum transport transport, uint16_t mss, struct dial_options *out);
// Of a relay that was not joined: the relay's side answers by that transport, which is all that can be told.
void check_way_answers(struct check_way *way, enum transport transport);
void check_way_stands(struct check_way *way); // its TLS stands: what runs over it is looked at

// found.c
int check_find_ways(struct check *c, struct err *e); // runs the worker until they are known

// Each starts its probe, or several.
void names_probe(struct check *c, const char *group, const char *host, uint16_t port, bool of_proxy);
void address_probe(struct check *c, const char *group, const struct addr *to, bool of_proxy);
void proxy_probe(struct check_way *way, size_t hop);
void web_probe(struct check_way *way);
void portal_probe(struct check *c);
void upgrade_probe(struct check_way *way);
void alpn_probe(struct check_way *way);
void tunnel_probe(struct check_way *way, enum transport transport);
void idle_probe(struct check_way *way);
