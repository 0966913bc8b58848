// SPDX-License-Identifier: Apache-2.0
#include "session/budget.h"
#include <assert.h>

void budget_init(struct budget *b, size_t max, struct budget *parent)
{
    *b = (struct budget){.parent = parent, .max = max};
    list_init(&b->waiters);
    list_init(&b->siblings);
    list_init(&b->children);
    if (parent)
        list_push(&parent->children, &b->siblings);
}

void budget_fini(struct budget *b)
{
    assert(list_empty(&b->waiters) && list_empty(&b->children));
    list_del(&b->siblings);
}

bool budget_has(const struct budget *b, size_t n)
{
    for (; b; b = b->parent)
        if (b->used > b->max || n > b->max - b->used)
            return false;
    return true;
}

void budget_take(struct budget *b, size_t n)
{
    for (; b; b = b->parent)
        b->used += n;
}

bool budget_has_to_send(const struct budget *b, size_t n)
{
    for (const struct budget *at = b; at; at = at->parent)
        if (at->sent > at->max / 2 || n > at->max / 2 - at->sent)
            return false;
    return budget_has(b, n);
}

void budget_take_sent(struct budget *b, size_t n)
{
    budget_take(b, n);
    for (; b; b = b->parent)
        b->sent += n;
}

void budget_give_sent(struct budget *b, size_t n)
{
    for (struct budget *at = b; at; at = at->parent)
        at->sent -= n;
    budget_give(b, n);
}

static size_t slack(const struct budget *b) { return b->max / 8 < BUDGET_SLACK_MAX ? b->max / 8 : BUDGET_SLACK_MAX; }

static void serve_own(struct budget *b)
{
    // One round at most: who is still short of room waits again, behind the others.
    struct list round;
    list_init(&round);
    list_splice(&round, &b->waiters);
    struct list *n;
    while ((n = list_first(&round)) && budget_has(b, slack(b))) {
        list_del(n);
        struct budget_waiter *w = list_entry(n, struct budget_waiter, node);
        w->on_room(w);
    }
    list_splice(&round, &b->waiters);
    list_splice(&b->waiters, &round);
}

static void serve(struct budget *b)
{
    if (!budget_has(b, slack(b)))
        return;
    serve_own(b);
    list_each(&b->children, n)
        serve(list_entry(n, struct budget, siblings));
}

void budget_give(struct budget *b, size_t n)
{
    struct budget *short_of = b; // the highest that was full: whoever waits below it may have room now
    for (struct budget *at = b; at; at = at->parent) {
        assert(n <= at->used);
        if (at->used > at->max || at->max - at->used < slack(at))
            short_of = at;
        at->used -= n;
    }
    if (short_of != b || !list_empty(&b->waiters))
        serve(short_of);
}

static bool is_full(const struct budget *b)
{
    return b->used > b->max || b->max - b->used < slack(b) || b->sent > b->max / 2 || b->max / 2 - b->sent < slack(b);
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

void budget_wait(struct budget *b, struct budget_waiter *w)
{
    if (!list_linked(&w->node))
        list_push(&b->waiters, &w->node);
    for (; b; b = b->parent)
        if (b->on_short && is_full(b))
            b->on_short(b);
}
