// SPDX-License-Identifier: Apache-2.0
#include "forward/held.h"
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

struct held_dgram {
    struct held_dgram *next;
    uint64_t since_ms;
    size_t len;
    uint8_t data[];
};

static void drop_first(struct held *h)
{
    struct held_dgram *d = h->first;
    size_t size = sizeof(*d) + d->len;
    h->first = d->next;
    h->count--;
    h->bytes -= size;
    h->fw->held_bytes -= size;
    OPENSSL_cleanse(d->data, d->len);
    free(d);
}

bool held_add(struct held *h, struct forward *fw, const void *data, size_t len)
{
    size_t size = sizeof(struct held_dgram) + len;
    struct held_dgram *d = NULL;
    h->fw = fw;
    if (h->count < HELD_MAX && size <= HELD_BYTES - h->bytes && size <= FORWARD_HELD_MAX - fw->held_bytes)
        d = malloc(size);
    if (!d)
        return false;
    *d = (struct held_dgram){.since_ms = fw->w->now_ms, .len = len};
    memcpy(d->data, data, len);
    if (!h->first)
        h->last = &h->first;
    *h->last = d;
    h->last = &d->next;
    h->count++;
    h->bytes += size;
    fw->held_bytes += size;
    return true;
}

void held_release(struct held *h, uint64_t ttl_ms, void (*pass)(void *ctx, const void *data, size_t len), void *ctx)
{
    while (h->first) {
        if (h->fw->w->now_ms - h->first->since_ms <= ttl_ms)
            pass(ctx, h->first->data, h->first->len);
        else
            h->fw->stats.dgrams_dropped++;
        drop_first(h);
    }
}

void held_drop(struct held *h)
{
    if (h->first)
        h->fw->stats.dgrams_dropped += h->count;
    while (h->first)
        drop_first(h);
}
