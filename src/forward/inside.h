// SPDX-License-Identifier: Apache-2.0
// For the files of this folder only: what a forward needs to know of the things it lists.
#pragma once
#include "forward/conduit.h"
#include "forward/entry.h"
#include "forward/flow.h"

#define ENTRY_BUCKETS 1024

struct entry_flow; // entry_udp.c, as is
struct entry_sock;

struct entry {
    struct list node; // in forward.entries
    struct forward *fw;
    struct entry_options o; // at is NULL by then
    char *dest;
    struct listener *listener;
    struct entry_sock *socks; // udp: one an address
    size_t sock_count;
    struct entry_flow **buckets;
    uint64_t hash_seed;
    uint32_t flow_count, flows_max;
    uint64_t callers, turned_away, dropped;
    bool closed;
    struct grave grave;
};

int entry_udp_open(struct entry *en, struct err *e);
void entry_udp_close(struct entry *en);
const struct addr *entry_udp_addr(const struct entry *en, size_t i);
uint64_t entry_udp_unsent(const struct entry *en); // see udp_stats

void forward_sweep(struct forward *fw); // there are flows: look for idle ones
