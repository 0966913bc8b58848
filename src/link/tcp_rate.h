// SPDX-License-Identifier: Apache-2.0
// How much a carrier may hold behind its scheduler. What waits there delays whatever the scheduler would send next, so it is
// bounded by a time at the rate at which the path takes bytes. The rate is measured from what the kernel accepts while it makes
// us wait, 100 ms at a time. The time is as short as the kernel bears without running dry, for then congestion control would
// believe that there is nothing to send: it shrinks from sample to sample, and doubles when the kernel was close to that. No
// I/O and no clock: who writes tells when and how much. Cannot fail; part of a tcp link.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TCP_QUEUE_MAX (256 * 1024)  // bytes waiting in a tcp link before room is 0
#define TCP_UNSENT_MAX (128 * 1024) // TCP_NOTSENT_LOWAT: in the kernel, beyond what the window lets go
#define TCP_BEHIND_MIN (16 * 1024)  // of each, whatever the rate
#define TCP_BEHIND_US_MIN 4000      // the time: in the kernel, which asks for more at half of that; in the link a quarter
#define TCP_BEHIND_US_MAX 160000

struct tcp_rate {
    uint64_t bytes_s;         // 0: not known, the path has never made us wait
    uint32_t behind_us;       // the time
    uint64_t since_us, bytes; // what is being measured: from when, how many
    uint64_t last_us;         // the last turn
    uint32_t asked, low;      // how often the kernel asked for more since then; how often it was nearly dry
    bool waited;              // it refused since then
    bool waits;               // it has refused and not asked for more yet
};

void tcp_rate_init(struct tcp_rate *r);
// Before a turn's writes.
void tcp_rate_begin(struct tcp_rate *r, uint64_t now_us);
// When the kernel asks for more: bytes that it still has.
void tcp_rate_asked(struct tcp_rate *r, size_t unsent);
// Behind the writes. waits: the kernel takes no more now.
void tcp_rate_wrote(struct tcp_rate *r, size_t bytes, bool waits);
// Bytes that may wait in the link, and unsent in the kernel.
size_t tcp_rate_queue(const struct tcp_rate *r);
size_t tcp_rate_unsent(const struct tcp_rate *r);
// The path is slow enough for all this to matter.
bool tcp_rate_is_slow(const struct tcp_rate *r);
