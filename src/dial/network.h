// SPDX-License-Identifier: Apache-2.0
// The machine's own network, as a carrier is concerned by it: says when addresses, links or routes have changed (rtnetlink,
// gathered for NETWORK_SETTLE_MS) and when the machine has slept, and answers by which way an address is reached now. A jump of
// the wall clock is neither. Where the system offers less (no rtnetlink in a sandbox) it says less and fails at nothing: then only
// PING finds out. Questions to the kernel are answered at once, nothing waits.
#pragma once
#include "core/addr.h"
#include "core/err.h"
#include "core/worker.h"

#define NETWORK_SETTLE_MS 50   // changes come in flocks
#define NETWORK_GAP_MS 250     // between two reports of them
#define NETWORK_CLOCK_MS 20000 // how often the clocks are compared if nothing else tells
#define NETWORK_SLEPT_US 1000000 // a shorter stop is no sleep

enum network_event { NETWORK_CHANGED, NETWORK_SLEPT };

struct network {
    struct worker *w;
    void (*on_event)(struct network *n, enum network_event what);
    void *owner;
    int fd, clock_fd; // -1: none
    struct watch *watch, *clock_watch;
    struct timer settle, clock;
    uint64_t told_ms;    // of the last NETWORK_CHANGED
    uint64_t asleep_us;  // in all, since the machine started
    uint64_t changes;
};

void network_start(struct network *n, struct worker *w, void (*on_event)(struct network *n, enum network_event what), void *owner);
void network_stop(struct network *n); // legal on a zeroed one
// For the clocks' comparison: CLOCK_MONOTONIC stands still in a sleep, CLOCK_BOOTTIME does not. True once for each sleep.
bool network_slept(struct network *n, uint64_t monotonic_us, uint64_t boot_us);

struct network_route {
    struct addr source, gateway; // of an on-link way there is no gateway (len 0)
    char device[16];
    char key[17];                // names the network: a hash of device, gateway and its hardware address, or of the source
};

// The way to `to` as the kernel would choose it now. False: none, or not known.
bool network_route(const struct addr *to, struct network_route *r);
bool network_same_route(const struct network_route *a, const struct network_route *b);
// Whether `a` (its port does not matter) is still an address of this machine.
bool network_is_local(const struct addr *a);
