// SPDX-License-Identifier: Apache-2.0
// A hash table from 32-bit ids to intrusive nodes: chains, doubling. Owns its bucket array only. Ids come from peers and are
// bounded in number by their users; where they fall depends on a seed that no peer knows, so that nobody can choose ids
// which share a chain.
#pragma once
#include <stddef.h>
#include <stdint.h>

struct hash_node {
    struct hash_node *next;
    uint32_t key;
};

struct hash {
    struct hash_node **buckets;
    uint32_t mask, count; // mask + 1 buckets
    uint64_t seed;        // odd
};

void hash_init(struct hash *h, uint64_t seed);
void hash_fini(struct hash *h); // nodes are left alone
struct hash_node *hash_find(const struct hash *h, uint32_t key);
// The next node with the same key: for users whose keys are parts of longer ones.
static inline struct hash_node *hash_next(const struct hash_node *n)
{
    const struct hash_node *at = n->next;
    while (at && at->key != n->key)
        at = at->next;
    return (struct hash_node *)(uintptr_t)at;
}
void hash_add(struct hash *h, struct hash_node *n, uint32_t key);
void hash_del(struct hash *h, struct hash_node *n);
// Walks all; the current one may be deleted in fn.
void hash_each(struct hash *h, void (*fn)(struct hash_node *n, void *ctx), void *ctx);
