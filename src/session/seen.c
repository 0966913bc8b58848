// SPDX-License-Identifier: Apache-2.0
#include "session/seen.h"
#include <stdlib.h>
#include <string.h>

void seen_init(struct seen *s) { *s = (struct seen){0}; }

void seen_fini(struct seen *s)
{
    free(s->ranges);
    seen_init(s);
}

// The first range whose last is not below n - 1: the one that n is in, touches, or comes before.
static uint32_t place(const struct seen *s, uint32_t n)
{
    uint32_t lo = 0, hi = s->count;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (s->ranges[mid].last + 1 < n)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

bool seen_has(const struct seen *s, uint32_t id)
{
    uint32_t n = id / 2, k = place(s, n);
    for (; k < s->count && s->ranges[k].first <= n; k++)
        if (n <= s->ranges[k].last)
            return true;
    return false;
}

static bool insert(struct seen *s, uint32_t k, uint32_t n)
{
    if (s->count == SEEN_RANGES_MAX)
        return false;
    if (s->count == s->cap) {
        uint32_t cap = s->cap ? s->cap * 2 : 4;
        struct seen_range *r = realloc(s->ranges, cap * sizeof *r);
        if (!r)
            abort();
        s->ranges = r;
        s->cap = cap;
    }
    memmove(s->ranges + k + 1, s->ranges + k, (s->count - k) * sizeof *s->ranges);
    s->ranges[k] = (struct seen_range){n, n};
    s->count++;
    return true;
}

bool seen_add(struct seen *s, uint32_t id)
{
    uint32_t n = id / 2, k = place(s, n);
    if (k == s->count || s->ranges[k].first > n + 1)
        return insert(s, k, n);
    struct seen_range *r = &s->ranges[k];
    if (n + 1 == r->first) {
        r->first = n;
    } else if (n == r->last + 1) {
        r->last = n;
        if (k + 1 < s->count && s->ranges[k + 1].first == n + 1) { // the hole is filled: two become one
            r->last = s->ranges[k + 1].last;
            memmove(r + 1, r + 2, (s->count - k - 2) * sizeof *r);
            s->count--;
        }
    }
    return true;
}
