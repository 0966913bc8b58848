// SPDX-License-Identifier: Apache-2.0
#include "link/tcp_rate.h"

#define SAMPLE_US 100000
#define PAUSE_US 5000      // without anything to write: what was measured before says nothing
#define START_US 40000     // congestion control's start doubles its rate each round trip
#define SHRUNK(us) ((us) - (us) / 16)
#define LOW(unsent) ((unsent) / 8)
#define LOW_SHARE 8 // of the times; less often it was only us who came late

void tcp_rate_init(struct tcp_rate *r) { *r = (struct tcp_rate){.behind_us = START_US}; }

static void restart(struct tcp_rate *r, uint64_t now_us)
{
    r->since_us = now_us;
    r->bytes = 0;
    r->waited = false;
    r->asked = r->low = 0;
}

static void take_sample(struct tcp_rate *r, uint64_t took_us)
{
    uint64_t rate = r->bytes * 1000000 / took_us;
    if (r->waited || (r->bytes_s && rate > r->bytes_s)) // else the path would have taken more
        r->bytes_s = rate ? rate : 1;
    uint32_t us = r->low > r->asked / LOW_SHARE ? r->behind_us * 2 : r->waited ? SHRUNK(r->behind_us) : r->behind_us;
    r->behind_us = us < TCP_BEHIND_US_MIN ? TCP_BEHIND_US_MIN : us < TCP_BEHIND_US_MAX ? us : TCP_BEHIND_US_MAX;
}

void tcp_rate_begin(struct tcp_rate *r, uint64_t now_us)
{
    uint64_t took = now_us - r->since_us;
    if (!r->waits && now_us - r->last_us > PAUSE_US) {
        restart(r, now_us);
    } else if (took >= SAMPLE_US) {
        take_sample(r, took);
        restart(r, now_us);
    }
    r->last_us = now_us;
}

void tcp_rate_asked(struct tcp_rate *r, size_t unsent)
{
    r->asked++;
    r->low += unsent < LOW(tcp_rate_unsent(r));
}

void tcp_rate_wrote(struct tcp_rate *r, size_t bytes, bool waits)
{
    r->bytes += bytes;
    r->waits = waits;
    r->waited |= waits;
}

static size_t bound(const struct tcp_rate *r, uint64_t us, size_t most)
{
    uint64_t bytes = r->bytes_s / 1000 * us / 1000;
    if (!r->bytes_s || bytes > most)
        return most;
    return bytes < TCP_BEHIND_MIN ? TCP_BEHIND_MIN : (size_t)bytes;
}

// Beyond half of the most, a millisecond or two, more turns would cost more than they gain.
static size_t queue_for(const struct tcp_rate *r, uint64_t us)
{
    size_t bytes = bound(r, us / 4, TCP_QUEUE_MAX);
    return bytes < TCP_QUEUE_MAX / 2 ? bytes : TCP_QUEUE_MAX;
}

size_t tcp_rate_queue(const struct tcp_rate *r) { return queue_for(r, r->behind_us); }
size_t tcp_rate_unsent(const struct tcp_rate *r) { return bound(r, r->behind_us, TCP_UNSENT_MAX); }
bool tcp_rate_is_slow(const struct tcp_rate *r) { return queue_for(r, TCP_BEHIND_US_MIN) < TCP_QUEUE_MAX; }
