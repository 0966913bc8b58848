// SPDX-License-Identifier: Apache-2.0
// Names to addresses, off the loop's back: c-ares on sockets that the worker watches, /etc/hosts first, IPv4 and IPv6
// asked at the same time. Nothing blocks and no question waits for another one; literals are answered without asking
// anybody. A changed resolv.conf counts from the next question on. One resolver a worker, owned by its role; a question is
// embedded in its asker, who may cancel it at any time. Answers always come from a wake, also the immediate ones.
#pragma once
#include <stddef.h>
#include "core/addr.h"
#include "core/err.h"
#include "core/worker.h"

#define RESOLVE_MAX 16       // addresses of one answer; more are left out
#define RESOLVE_MS 10000     // deadline of one question
#define RESOLVER_TEXT_MAX 80 // a server, "[2001:db8::1]:53"
#define RESOLVE_PATIENCE_MS 50 // how long the first family's answer waits for the other's (RFC 8305 section 3)

struct resolver;

struct resolve {
    struct worker *w;
    struct wake wake;
    struct timer timer; // the deadline, then the patience
    struct lookup *lookups[2];
    struct addr addrs[RESOLVE_MAX]; // port filled in
    size_t count;
    struct err err;
    char host[256];
    uint16_t port;
    bool busy;
    bool here; // a literal, or known without DNS
    // addrs: `count` of them, IPv6 and IPv4 taking turns; or none, and err says why (WHY_DNS). The question may be asked again or freed in it.
    void (*on_done)(struct resolve *q, const struct addr *addrs, size_t count, const struct err *err);
};

struct resolver *resolver_new(struct worker *w, struct err *e); // NULL with *e set
// Asks these servers ("192.0.2.1:53,[2001:db8::1]:53") instead of resolv.conf's. False: not such a list.
bool resolver_servers(struct resolver *r, const char *csv);
// The servers that are asked, in their order; at most max; returns how many.
size_t resolver_list(const struct resolver *r, char (*out)[RESOLVER_TEXT_MAX], size_t max);
void resolver_free(struct resolver *r); // all questions must be over or cancelled; NULL is allowed

// q need not be initialised, but must not be running. `host`: name, IPv4, IPv6 without brackets.
void resolve_start(struct resolver *r, struct resolve *q, const char *host, uint16_t port,
                   void (*on_done)(struct resolve *q, const struct addr *addrs, size_t count, const struct err *err));
void resolve_cancel(struct resolve *q); // legal when it is over, and on a zeroed question
