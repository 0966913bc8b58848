// SPDX-License-Identifier: Apache-2.0
#include "agent/rank.h"

void rank_init(struct rank *r, uint32_t comeback_ms, bool hasty, uint64_t now_ms)
{
    *r = (struct rank){.home = RANK_NONE, .better = RANK_NONE, .comeback_ms = comeback_ms, .hasty = hasty,
                       .start_ms = now_ms};
}

// `skip`: bits of those left out.
static size_t best_of(const struct rank *r, const struct rank_one *c, size_t n, uint64_t skip)
{
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < n; i++) {
        if (c[i].good && !(skip >> i & 1) && c[i].rtt_us && c[i].rtt_us < least)
            least = c[i].rtt_us;
    }
    uint64_t margin = least / 4 > RANK_NEAR_US ? least / 4 : RANK_NEAR_US;
    for (size_t i = 0; i < n; i++) {
        if (!c[i].good || skip >> i & 1)
            continue;
        if (c[i].rtt_us == 0 || c[i].rtt_us - least <= margin * (i == r->home ? 2 : 1))
            return i;
    }
    return RANK_NONE;
}

size_t rank_best(const struct rank *r, const struct rank_one *c, size_t n, size_t not)
{
    return best_of(r, c, n, not == RANK_NONE ? 0 : (uint64_t)1 << not);
}

static void ask_again(struct rank *r, uint64_t at_ms)
{
    if (r->again_ms == 0 || at_ms < r->again_ms)
        r->again_ms = at_ms;
}

static void move(struct rank *r, size_t to)
{
    r->home = to;
    r->lost_ms = 0;
    r->better = RANK_NONE;
}

static bool all_tried(const struct rank_one *c, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!c[i].good && !c[i].tried && !c[i].gone)
            return false;
    }
    return true;
}

// The first that stands gives the others a moment, or what is measured at the start would only tell who was dialled first.
static void choose_first(struct rank *r, const struct rank_one *c, size_t n, uint64_t now_ms)
{
    size_t best = rank_best(r, c, n, RANK_NONE);
    if (best == RANK_NONE)
        return;
    if (r->first_ms == 0)
        r->first_ms = now_ms;
    uint64_t settle = (r->first_ms - r->start_ms) / 2;
    settle = settle < RANK_SETTLE_MIN_MS ? RANK_SETTLE_MIN_MS : settle > RANK_SETTLE_MAX_MS ? RANK_SETTLE_MAX_MS : settle;
    if (r->hasty || all_tried(c, n) || now_ms >= r->first_ms + settle)
        move(r, best);
    else
        ask_again(r, r->first_ms + settle);
}

static void leave_lost(struct rank *r, const struct rank_one *c, size_t n, uint64_t now_ms)
{
    const struct rank_one *home = &c[r->home];
    size_t best = rank_best(r, c, n, r->home);
    uint32_t patience = home->stands ? RANK_SUSPECT_MS : RANK_PATIENCE_MS;
    r->better = RANK_NONE;
    if (r->lost_ms == 0)
        r->lost_ms = now_ms;
    if (best == RANK_NONE)
        return;
    if (home->gone || (!home->stands && home->tried) || now_ms >= r->lost_ms + patience)
        move(r, best);
    else
        ask_again(r, r->lost_ms + patience);
}

static void come_back(struct rank *r, const struct rank_one *c, size_t n, uint32_t random, uint64_t now_ms)
{
    size_t best = rank_best(r, c, n, RANK_NONE);
    r->lost_ms = 0;
    if (best == r->home) {
        r->better = RANK_NONE;
        return;
    }
    if (best != r->better) {
        r->better = best;
        r->better_ms = now_ms;
        r->jitter_ms = (uint32_t)(((uint64_t)random * r->comeback_ms) >> 32);
    }
    uint64_t since = c[best].good_ms > r->better_ms ? c[best].good_ms : r->better_ms;
    uint64_t due = since + r->comeback_ms + r->jitter_ms;
    if (now_ms >= due)
        move(r, best);
    else
        ask_again(r, due);
}

void rank_decide(struct rank *r, const struct rank_one *c, size_t n, uint32_t random, uint64_t now_ms)
{
    r->again_ms = 0;
    if (r->home == RANK_NONE)
        choose_first(r, c, n, now_ms);
    else if (!c[r->home].good)
        leave_lost(r, c, n, now_ms);
    else
        come_back(r, c, n, random, now_ms);
}

void rank_order(const struct rank *r, const struct rank_one *c, size_t n, size_t *out)
{
    uint64_t done = 0;
    for (size_t count = 0; count < n; count++) {
        size_t next = count == 0 ? r->home : RANK_NONE;
        if (next == RANK_NONE)
            next = best_of(r, c, n, done);
        for (size_t i = 0; next == RANK_NONE; i++) {
            if (!(done >> i & 1))
                next = i;
        }
        out[count] = next;
        done |= (uint64_t)1 << next;
    }
}
