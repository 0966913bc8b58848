// SPDX-License-Identifier: Apache-2.0
#include "core/hash.h"
#include <stdlib.h>

#define HASH_FIRST 16

static uint32_t mix(uint32_t key) { return key * 2654435761u >> 7; }

void hash_init(struct hash *h) { *h = (struct hash){0}; }

void hash_fini(struct hash *h)
{
    free(h->buckets);
    hash_init(h);
}

struct hash_node *hash_find(const struct hash *h, uint32_t key)
{
    if (!h->buckets)
        return NULL;
    struct hash_node *n = h->buckets[mix(key) & h->mask];
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
    for (uint32_t i = 0; h->buckets && i <= h->mask; i++)
        for (struct hash_node *n = h->buckets[i], *next; n; n = next) {
            next = n->next;
            n->next = to[mix(n->key) & (size - 1)];
            to[mix(n->key) & (size - 1)] = n;
        }
    free(h->buckets);
    h->buckets = to;
    h->mask = size - 1;
}

void hash_add(struct hash *h, struct hash_node *n, uint32_t key)
{
    if (!h->buckets || h->count > h->mask)
        grow(h);
    n->key = key;
    n->next = h->buckets[mix(key) & h->mask];
    h->buckets[mix(key) & h->mask] = n;
    h->count++;
}

void hash_del(struct hash *h, struct hash_node *n)
{
    struct hash_node **at = &h->buckets[mix(n->key) & h->mask];
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
