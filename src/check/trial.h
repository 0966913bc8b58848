// SPDX-License-Identifier: Apache-2.0
// One connection of a probe, opened as far as the probe wants and no further: the first hop's TCP, some or all proxies of a way, the
// outer TLS. Says how far it came and how long each step took. Embedded in its probe; ends in one on_done, at the latest after
// TRIAL_MS, and may be stopped at any time. The stack is the trial's until trial_stop.
#pragma once
#include "dial/hops.h"
#include "dial/race.h"
#include "dial/resolve.h"

#define TRIAL_MS 8000
#define TRIAL_CONNECT_MS 4000 // until TCP to the first hop stands

enum trial_stage { TRIAL_NAME, TRIAL_CONNECT, TRIAL_HOPS, TRIAL_TLS, TRIAL_OPEN };

struct trial_options { // borrowed until trial_stop
    const struct proxy_route *route; // the hops to pass; all of them
    struct proxy_kit *kit;
    const char *host; // behind them
    uint16_t port;
    SSL_CTX *tls;     // with it TLS is spoken there; NULL: not
    const char *name; // … to this name
    const char *sni;
    bool report;      // an untrusted certificate goes into the facts
    bool outer;       // fill the facts of the outer TLS
    bool h2;          // offer HTTP/2; where it is agreed on, the top is a link for requests over it
    struct list *hubs; // for it and for proxies
    uint16_t mss;     // 0: not limited
};

struct trial {
    struct worker *w;
    struct resolver *resolver;
    struct trial_options o;
    struct resolve resolve;
    struct race race;
    struct hops hops;
    struct link *top; // owned
    struct wake wake;
    struct timer deadline;
    enum trial_stage stage;
    bool by_h2;          // HTTP/2 was agreed on
    struct addr reached;
    uint64_t began_us, connected_us, passed_us; // 0: not reached
    void (*on_done)(struct trial *t, const struct err *err); // NULL: open
};

void trial_start(struct trial *t, struct worker *w, struct resolver *r, const struct trial_options *o,
                 void (*on_done)(struct trial *t, const struct err *err));
void trial_stop(struct trial *t); // closes the stack; legal when it is over, and on a zeroed one
