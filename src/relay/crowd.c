// SPDX-License-Identifier: Apache-2.0
// Whose callers are counted, and which fronts are believed.
#include <string.h>
#include "relay/front.h"

// One IPv6 customer has a whole /64.
static bool same_place(const struct addr *a, const struct addr *b)
{
    if (a->len && b->len && a->sa.sa_family == AF_INET6 && b->sa.sa_family == AF_INET6)
        return !memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, 8);
    return addr_equal_host(a, b);
}

bool front_trusts(const struct front *f, const struct addr *a)
{
    struct addr plain = *a;
    addr_unmap(&plain);
    for (size_t i = 0; i < f->trusted_count; i++)
        if (cidr_has(&f->trusted[i], &plain))
            return true;
    return false;
}

unsigned front_count_of(const struct front *f, const struct addr *peer, bool streams)
{
    unsigned n = 0;
    list_each((struct list *)&f->callers, it)
    {
        const struct front_caller *k = list_entry(it, struct front_caller, node);
        n += k->single && !k->excused && (k->parent != NULL) == streams && same_place(&k->peer, peer);
    }
    return n;
}

bool front_is_crowded(const struct front_caller *k)
{
    return k->single && front_count_of(k->f, &k->peer, k->parent) > (k->parent ? FRONT_STREAMS_MAX : FRONT_ADDRESS_MAX);
}

bool front_speaks_for_many(const struct front *f, enum front_kind kind, const struct addr *peer)
{
    return front_trusts(f, peer) || (kind == FRONT_PLAIN && f->trusted_count == 0);
}
