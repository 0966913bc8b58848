// SPDX-License-Identifier: Apache-2.0
#include "session/liveness.h"
#include <stddef.h>

#define BELIEVED 128 // answered PINGs, doubled by each strike, until a longer silence is tried again

static uint64_t later(uint64_t a, uint64_t b) { return a > b ? a : b; }
static uint64_t since(uint64_t from, uint64_t now) { return now > from ? now - from : 0; }

// Silence ------------------------------------------------------------------------------------------------------

// Nine tenths of what was cut: the network's clock is not ours.
static uint32_t longest(const struct liveness *l)
{
    uint32_t ms = l->lesson.cut_ms ? l->lesson.cut_ms / 10 * 9 : LIVENESS_IDLE_MAX_MS;
    if (ms < LIVENESS_IDLE_MIN_MS)
        return LIVENESS_IDLE_MIN_MS;
    return ms > LIVENESS_IDLE_MAX_MS ? LIVENESS_IDLE_MAX_MS : ms;
}

// xorshift32: agents that started together shall not ping together for ever.
static uint32_t next_random(struct liveness *l)
{
    uint32_t x = l->random;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return l->random = x;
}

static void draw_wait(struct liveness *l)
{
    l->wait_ms = l->interval_ms - (uint32_t)((uint64_t)next_random(l) * (l->interval_ms / 10) >> 32);
}

static uint32_t stretched(const struct liveness *l)
{
    uint32_t most = longest(l);
    return l->interval_ms + LIVENESS_IDLE_STEP_MS < most ? l->interval_ms + LIVENESS_IDLE_STEP_MS : most;
}

uint32_t liveness_interval(const struct liveness *l) { return stretched(l); }

// The silence was borne: the next one may be longer. What cuts once need not cut for ever, so after long peace it is forgotten.
static void idle_answered(struct liveness *l)
{
    struct liveness_lesson *k = &l->lesson;
    if (k->cut_ms && l->interval_ms >= longest(l) && ++k->answered >= BELIEVED << k->strikes) {
        k->cut_ms = 0;
        k->answered = 0;
    }
    l->interval_ms = stretched(l);
    draw_wait(l);
}

static void learn_cut(struct liveness_lesson *k, uint64_t ms)
{
    if (k->cut_ms == 0 || ms < k->cut_ms)
        k->cut_ms = (uint32_t)ms;
    k->strikes += k->strikes < LIVENESS_STRIKES_MAX;
    k->answered = 0;
}

void liveness_lost(struct liveness *l, bool unexplained, uint64_t now_us)
{
    uint64_t last = later(l->heard_us, l->moved_us);
    bool asked = l->ping_due || l->ping_out;
    uint64_t ms = asked ? l->silence_us / 4000 * 3 : since(last, now_us) / 1000; // cut in silence: somewhere before our PING
    bool idle = asked ? l->idle_ping : since(l->moved_us, now_us) >= LIVENESS_LATELY_US;
    if (l->is_agent && unexplained && idle && ms >= LIVENESS_CUT_MIN_MS && ms <= LIVENESS_IDLE_MAX_MS)
        learn_cut(&l->lesson, ms);
}

// Events -------------------------------------------------------------------------------------------------------

void liveness_init(struct liveness *l, bool is_agent, const struct liveness_lesson *lesson, uint32_t random, uint64_t now_us)
{
    *l = (struct liveness){.is_agent = is_agent, .heard_us = now_us, .moved_us = now_us, .random = random | 1};
    if (lesson)
        l->lesson = *lesson;
    uint32_t half = l->lesson.cut_ms / 2;
    l->interval_ms = half && half < LIVENESS_IDLE_MS ? half : LIVENESS_IDLE_MS;
    if (l->interval_ms < LIVENESS_IDLE_MIN_MS)
        l->interval_ms = LIVENESS_IDLE_MIN_MS;
    draw_wait(l);
    liveness_ask(l, now_us);
}

void liveness_heard(struct liveness *l, uint64_t now_us)
{
    l->heard_us = now_us;
    l->suspect = l->hurried = false;
}

void liveness_ask(struct liveness *l, uint64_t now_us)
{
    l->idle_ping = false;
    if (l->ping_due)
        return;
    l->ping_due = true;
    if (l->ping_out)
        return;
    l->asked_us = now_us;
    l->sampled = l->marked = false;
}

void liveness_moved(struct liveness *l, uint64_t now_us)
{
    bool pause = since(l->moved_us, now_us) > LIVENESS_LATELY_US;
    l->moved_us = now_us;
    if (pause && !l->ping_out && since(l->heard_us, now_us) > LIVENESS_SILENCE_US)
        liveness_ask(l, now_us);
}

void liveness_pinged(struct liveness *l, uint64_t now_us)
{
    l->ping_due = false;
    l->ping_out = true;
    l->pinged_us = now_us;
    l->sampled = l->marked = false;
}

void liveness_rtt(struct liveness *l, uint64_t rtt_us)
{
    uint32_t rtt = rtt_us == 0 ? 1 : rtt_us > UINT32_MAX / 8 ? UINT32_MAX / 8 : (uint32_t)rtt_us;
    if (l->srtt_us == 0) { // RFC 6298 section 2
        l->srtt_us = rtt;
        l->rttvar_us = rtt / 2;
        return;
    }
    uint32_t off = rtt > l->srtt_us ? rtt - l->srtt_us : l->srtt_us - rtt;
    l->rttvar_us = l->rttvar_us - l->rttvar_us / 4 + off / 4;
    l->srtt_us = l->srtt_us - l->srtt_us / 8 + rtt / 8;
}

void liveness_ponged(struct liveness *l, uint64_t now_us)
{
    if (!l->ping_out)
        return;
    liveness_heard(l, now_us);
    liveness_rtt(l, since(l->pinged_us, now_us));
    l->ping_out = false;
    if (l->ping_due)
        l->asked_us = now_us;
    if (l->idle_ping)
        idle_answered(l);
    l->idle_ping = false;
}

void liveness_peer_interval(struct liveness *l, uint32_t ms)
{
    l->peer_interval_ms = ms < LIVENESS_SILENCE_US / 1000  ? LIVENESS_SILENCE_US / 1000
                          : ms > LIVENESS_PEER_MAX_MS ? LIVENESS_PEER_MAX_MS
                                                       : ms;
}

void liveness_hurry(struct liveness *l, uint64_t now_us)
{
    l->ping_out = l->ping_due = l->suspect = false;
    l->hurried = true;
    liveness_ask(l, now_us);
}

bool liveness_wants_progress(const struct liveness *l) { return l->ping_out || l->ping_due; }

// Only what was in the way of the PING counts: later bytes that the first hop takes from us do not show that the path lives.
void liveness_progress(struct liveness *l, uint64_t acked, uint64_t waiting, uint64_t now_us)
{
    if (!l->sampled) {
        l->sampled = true;
        l->acked = acked;
        l->progress_us = 0;
    }
    if (l->ping_out && !l->marked) {
        l->marked = true;
        l->mark = acked + waiting;
    }
    l->sample_us = now_us;
    if (acked > l->acked && (!l->marked || l->acked < l->mark))
        l->progress_us = now_us;
    l->acked = acked;
}

// Verdicts -----------------------------------------------------------------------------------------------------

// Of a path that was never measured nothing is known but that it was just opened: it gets twice the least.
static uint64_t patience(const struct liveness *l)
{
    uint64_t least = l->hurried ? LIVENESS_HURRY_US : l->srtt_us ? LIVENESS_PATIENCE_US : 2 * LIVENESS_PATIENCE_US;
    uint64_t srtt = l->srtt_us;
    if (l->hurried)
        return later(least, 2 * srtt);
    return later(least, later(srtt + 4 * (uint64_t)l->rttvar_us, 2 * srtt));
}

static uint64_t suspect_at(const struct liveness *l)
{
    uint64_t from = later(l->ping_out ? l->pinged_us : l->asked_us, l->heard_us);
    if (l->sampled)
        from = later(from, l->progress_us);
    return from + patience(l);
}

static bool is_moving(const struct liveness *l) { return l->sampled && (!l->marked || l->acked < l->mark); }

static bool is_pinging(const struct liveness *l) { return l->ping_out || l->ping_due; }

// When silence asks for a PING. Idle, that is the agent's task alone.
static uint64_t ping_at(const struct liveness *l)
{
    uint64_t active = l->heard_us + LIVENESS_SILENCE_US;
    if (active <= l->moved_us + LIVENESS_LATELY_US)
        return active;
    return l->is_agent ? later(l->heard_us, l->moved_us) + (uint64_t)l->wait_ms * 1000 : UINT64_MAX;
}

// The relay's own end of patience with an agent that should have pinged.
static uint64_t missed_at(const struct liveness *l)
{
    if (l->is_agent || l->peer_interval_ms == 0)
        return UINT64_MAX;
    return later(l->heard_us, l->moved_us) + (uint64_t)l->peer_interval_ms * 2500;
}

static uint64_t sooner(uint64_t a, uint64_t b) { return a < b ? a : b; }

uint64_t liveness_deadline(const struct liveness *l)
{
    if (l->suspect)
        return sooner(l->suspect_us + LIVENESS_SUSPECT_US, is_moving(l) ? l->sample_us + LIVENESS_SAMPLE_US : UINT64_MAX);
    if (!is_pinging(l))
        return sooner(ping_at(l), missed_at(l));
    return is_moving(l) ? sooner(suspect_at(l), l->sample_us + LIVENESS_SAMPLE_US) : suspect_at(l);
}

static enum liveness_verdict check_pinging(struct liveness *l, uint64_t now_us)
{
    uint64_t at = suspect_at(l);
    if (now_us < at) { // also when progress has shown that it was only slow
        l->suspect = false;
        return LIVENESS_FINE;
    }
    uint64_t end = l->suspect ? l->suspect_us + LIVENESS_SUSPECT_US : at;
    if (now_us >= end + LIVENESS_LATE_US) {
        liveness_hurry(l, now_us);
        return LIVENESS_FINE;
    }
    if (!l->suspect) {
        l->suspect = true;
        l->suspect_us = now_us;
    }
    return now_us >= l->suspect_us + LIVENESS_SUSPECT_US ? LIVENESS_DEAD : LIVENESS_SUSPECT;
}

enum liveness_verdict liveness_check(struct liveness *l, uint64_t now_us)
{
    if (is_pinging(l))
        return check_pinging(l, now_us);
    uint64_t missed = missed_at(l);
    if (now_us >= missed) {
        if (now_us < missed + LIVENESS_LATE_US)
            return LIVENESS_DEAD;
        liveness_hurry(l, now_us);
    } else if (now_us >= ping_at(l)) {
        liveness_ask(l, now_us);
        l->idle_ping = since(l->moved_us, now_us) >= LIVENESS_LATELY_US;
        l->silence_us = since(later(l->heard_us, l->moved_us), now_us);
    }
    return LIVENESS_FINE;
}
