// SPDX-License-Identifier: Apache-2.0
#include "session/budget.h"
#include <assert.h>

void budget_init(struct budget *b, size_t max, struct budget *parent)
{
    *b = (struct budget){.parent = parent, .max = max};
    list_init(&b->waiters);
    list_init(&b->siblings);
    list_init(&b->children);
    if (!parent)
        return;
    list_push(&parent->children, &b->siblings);
    parent->child_count++;
}

void budget_fini(struct budget *b)
{
    assert(list_empty(&b->waiters) && list_empty(&b->children));
    list_del(&b->siblings);
    if (b->parent)
        b->parent->child_count--;
}

// What is b's own of its parent.
static size_t reserve_of(const struct budget *b)
{
    if (!b->parent)
        return 0;
    return b->parent->max / 64 < BUDGET_RESERVE ? b->parent->max / 64 : BUDGET_RESERVE;
}

static size_t beyond(size_t held, size_t reserve) { return held > reserve ? held - reserve : 0; }

static size_t beyond_reserve(const struct budget *b)
{
    return beyond(b->sent, reserve_of(b) / 2) + beyond(b->used - b->sent, reserve_of(b) / 2);
}

// Room for what is in nobody's reserve.
static bool has_common(const struct budget *b, size_t n)
{
    const struct list *first = list_first((struct list *)&b->children);
    size_t reserve = first ? reserve_of(list_entry(first, struct budget, siblings)) : 0, half = b->max / 2;
    size_t max = b->max - (reserve && b->child_count > half / reserve ? half : b->child_count * reserve);
    return b->common <= max && n <= max - b->common;
}

static bool in_reserve(const struct budget *b, size_t held, size_t n)
{
    return held <= reserve_of(b) / 2 && n <= reserve_of(b) / 2 - held;
}

bool budget_has(const struct budget *b, size_t n)
{
    for (; b; b = b->parent) {
        if (!has_common(b, n))
            return false;
        if (in_reserve(b, b->used - b->sent, n))
            break;
    }
    return true;
}

bool budget_has_to_send(const struct budget *b, size_t n)
{
    for (; b; b = b->parent) {
        if (b->sent > b->max / 2 || n > b->max / 2 - b->sent || !has_common(b, n))
            return false;
        if (in_reserve(b, b->sent, n))
            break;
    }
    return true;
}

static void count(struct budget *b, ptrdiff_t used, ptrdiff_t sent)
{
    ptrdiff_t common = used; // the parent's: what its child has beyond its reserve
    for (; b; b = b->parent) {
        size_t before = beyond_reserve(b);
        b->used += (size_t)used;
        b->sent += (size_t)sent;
        b->common += (size_t)common;
        common = (ptrdiff_t)(beyond_reserve(b) - before);
    }
}

void budget_take(struct budget *b, size_t n) { count(b, (ptrdiff_t)n, 0); }

void budget_take_sent(struct budget *b, size_t n) { count(b, (ptrdiff_t)n, (ptrdiff_t)n); }

static size_t slack(const struct budget *b) { return b->max / 8 < BUDGET_SLACK_MAX ? b->max / 8 : BUDGET_SLACK_MAX; }

static bool has_some(const struct budget *b)
{
    size_t little = reserve_of(b) / 4;
    return budget_has(b, slack(b)) ||
           (little && (in_reserve(b, b->sent, little) || in_reserve(b, b->used - b->sent, little)));
}

static void serve_own(struct budget *b)
{
    // One round at most: who is still short of room waits again, behind the others.
    struct list round;
    list_init(&round);
    list_splice(&round, &b->waiters);
    struct list *n;
    while ((n = list_first(&round)) && has_some(b)) {
        list_del(n);
        struct budget_waiter *w = list_entry(n, struct budget_waiter, node);
        w->on_room(w);
    }
    list_splice(&round, &b->waiters);
    list_splice(&b->waiters, &round);
}

static void serve(struct budget *b)
{
    if (!has_some(b))
        return;
    serve_own(b);
    list_each(&b->children, n)
        serve(list_entry(n, struct budget, siblings));
}

static void give(struct budget *b, size_t n, size_t sent)
{
    struct budget *short_of = b; // the highest that was full: whoever waits below it may have room now
    for (struct budget *at = b; at; at = at->parent) {
        assert(n <= at->used && sent <= at->sent);
        if (!has_common(at, slack(at)))
            short_of = at;
    }
    count(b, -(ptrdiff_t)n, -(ptrdiff_t)sent);
    if (short_of != b || !list_empty(&b->waiters))
        serve(short_of);
    if (short_of != b && !list_empty(&b->waiters) && has_some(b)) // by its reserve
        serve_own(b);
}

static bool is_full(const struct budget *b)
{
    return !has_common(b, slack(b)) || b->sent > b->max / 2 || b->max / 2 - b->sent < slack(b);
}

static bool has_waiters(const struct budget *b)
{
    if (!list_empty(&b->waiters))
        return true;
    list_each((struct list *)&b->children, n)
        if (has_waiters(list_entry(n, struct budget, siblings)))
            return true;
    return false;
}

bool budget_is_short(const struct budget *b) { return is_full(b) && has_waiters(b); }

void budget_give(struct budget *b, size_t n) { give(b, n, 0); }

void budget_give_sent(struct budget *b, size_t n) { give(b, n, n); }

void budget_wait(struct budget *b, struct budget_waiter *w)
{
    if (!list_linked(&w->node))
        list_push(&b->waiters, &w->node);
    for (; b; b = b->parent)
        if (b->on_short && is_full(b))
            b->on_short(b);
}
