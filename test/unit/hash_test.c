// SPDX-License-Identifier: Apache-2.0
#include "unit.h"
#include <stdlib.h>
#include "core/hash.h"

#define MANY 5000

static struct hash_node nodes[MANY];

static void found_until_deleted(void **state)
{
    struct hash h;
    hash_init(&h, 0x9e3779b97f4a7c15);
    assert_null(hash_find(&h, 1));
    for (uint32_t i = 0; i < MANY; i++)
        hash_add(&h, &nodes[i], 2 * i + 1);
    assert_int_equal(h.count, MANY);
    for (uint32_t i = 0; i < MANY; i += 2)
        hash_del(&h, &nodes[i]);
    for (uint32_t i = 0; i < MANY; i++)
        assert_ptr_equal(hash_find(&h, 2 * i + 1), i % 2 ? &nodes[i] : NULL);
    assert_null(hash_find(&h, 2));
    assert_int_equal(h.count, MANY / 2);
    hash_fini(&h);
    assert_null(hash_find(&h, 1));
}

struct walk {
    struct hash *h;
    unsigned seen;
};

static void see_and_delete(struct hash_node *n, void *ctx)
{
    struct walk *walk = ctx;
    walk->seen++;
    hash_del(walk->h, n);
}

static void a_walk_may_delete_as_it_goes(void **state)
{
    struct hash h;
    struct walk walk = {&h, 0};
    hash_init(&h, 77);
    hash_each(&h, see_and_delete, &walk);
    for (uint32_t i = 0; i < MANY; i++)
        hash_add(&h, &nodes[i], i * 7919);
    hash_each(&h, see_and_delete, &walk);
    assert_int_equal(walk.seen, MANY);
    assert_int_equal(h.count, 0);
    hash_fini(&h);
}

static unsigned longest_chain(const struct hash *h)
{
    unsigned longest = 0;
    for (uint32_t i = 0; i <= h->mask; i++) {
        unsigned n = 0;
        for (const struct hash_node *at = h->buckets[i]; at; at = at->next)
            n++;
        longest = n > longest ? n : longest;
    }
    return longest;
}

// Ids that fall together under one seed are spread by another.
static void nobody_chooses_a_chain(void **state)
{
    struct hash h;
    uint64_t known = 0xd1342543de82ef95;
    static uint32_t keys[1000];
    hash_init(&h, known);
    unsigned n = 0;
    for (uint32_t key = 1; n < COUNT(keys) && key < 8000000; key += 2)
        if (((key + 1) * known >> 32 & 2047) == 0)
            keys[n++] = key;
    assert_int_equal(n, COUNT(keys));
    for (unsigned i = 0; i < n; i++)
        hash_add(&h, &nodes[i], keys[i]);
    assert_true(longest_chain(&h) > 500); // the attack works where the seed is known
    hash_fini(&h);
    srand(1);
    for (int round = 0; round < 20; round++) {
        hash_init(&h, (uint64_t)rand() << 33 ^ (uint64_t)rand() << 12 ^ (uint64_t)rand());
        for (unsigned i = 0; i < n; i++)
            hash_add(&h, &nodes[i], keys[i]);
        assert_true(longest_chain(&h) < 64);
        hash_fini(&h);
    }
}

static void ids_in_order_spread(void **state)
{
    struct hash h;
    hash_init(&h, 0xd1342543de82ef95);
    for (uint32_t i = 0; i < MANY; i++)
        hash_add(&h, &nodes[i], 2 * i + 1);
    assert_true(longest_chain(&h) <= 8);
    hash_fini(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(found_until_deleted), cmocka_unit_test(a_walk_may_delete_as_it_goes),
        cmocka_unit_test(nobody_chooses_a_chain), cmocka_unit_test(ids_in_order_spread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
