// SPDX-License-Identifier: Apache-2.0
#include "core/hash.h"
#include <stdlib.h>

#define HASH_FIRST 16

// Multiply and shift with a secret odd factor: a universal family, in one multiplication.
static uint32_t place(const struct hash *h, uint32_t key)
{
    return (uint32_t)((key + 1) * h->seed >> 32) & h->mask;
}

void hash_init(struct hash *h, uint64_t seed) { *h = (struct hash){.seed = seed | 1}; }

void hash_fini(struct hash *h)
{
    free(h->buckets);
    hash_init(h, h->seed);
}

struct hash_node *hash_find(const struct hash *h, uint32_t key)
{
    if (!h->buckets)
        return NULL;
    struct hash_node *n = h->buckets[place(h, key)];
    while (n && n->key != key)
        n = n->next;
    return n;
}

static void grow(struct hash *h)
{
    uint32_t size = h->buckets ? (h->mask + 1) * 2 : HASH_FIRST;
    struct hash_node **to = calloc(size, sizeof *to);
    if (!to)
        abort();
    struct hash_node **from = h->buckets;
    uint32_t old = from ? h->mask + 1 : 0;
    h->buckets = to;
    h->mask = size - 1;
    for (uint32_t i = 0; i < old; i++)
        for (struct hash_node *n = from[i], *next; n; n = next) {
            next = n->next;
            n->next = to[place(h, n->key)];
            to[place(h, n->key)] = n;
        }
    free(from);
}

void hash_add(struct hash *h, struct hash_node *n, uint32_t key)
{
    if (!h->buckets || h->count > h->mask)
        grow(h);
    n->key = key;
    struct hash_node **at = &h->buckets[place(h, key)];
    n->next = *at;
    *at = n;
    h->count++;
}

void hash_del(struct hash *h, struct hash_node *n)
{
    struct hash_node **at = &h->buckets[place(h, n->key)];
    while (*at != n)
        at = &(*at)->next;
    *at = n->next;
    h->count--;
}

void hash_each(struct hash *h, void (*fn)(struct hash_node *n, void *ctx), void *ctx)
{
    for (uint32_t i = 0; h->buckets && i <= h->mask; i++)
        for (struct hash_node *n = h->buckets[i], *next; n; n = next) {
            next = n->next;
            fn(n, ctx);
        }
}
