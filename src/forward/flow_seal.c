// SPDX-License-Identifier: Apache-2.0
#include "forward/flow_seal.h"
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include "forward/seal_dgram.h"
#include "link/tls.h"

#define LABEL "EXPORTER-culvert-dgram-v1"

struct held {
    struct held *next;
    uint64_t since_ms;
    size_t len;
    uint8_t data[];
};

struct flow_seal {
    struct forward *fw;
    struct link *top;
    bool asks;
    struct seal_dgram *dgrams; // NULL: the TLS is not open yet
    struct held *first, **last;
    unsigned held_count;
    size_t held_bytes;
};

struct flow_seal *flow_seal_new(struct forward *fw, struct link *top, bool asks)
{
    struct flow_seal *s = calloc(1, sizeof(*s));
    if (!s)
        abort();
    *s = (struct flow_seal){.fw = fw, .top = top, .asks = asks};
    s->last = &s->first;
    return s;
}

struct link *flow_seal_link(const struct flow_seal *s) { return s->top; }

static void drop_first(struct flow_seal *s)
{
    struct held *h = s->first;
    size_t size = sizeof(*h) + h->len;
    s->first = h->next;
    if (!s->first)
        s->last = &s->first;
    s->held_count--;
    s->held_bytes -= size;
    s->fw->held_bytes -= size;
    OPENSSL_cleanse(h->data, h->len);
    free(h);
}

void flow_seal_free(struct flow_seal *s)
{
    if (!s)
        return;
    s->fw->stats.dgrams_dropped += s->held_count;
    while (s->first)
        drop_first(s);
    seal_dgram_free(s->dgrams);
    free(s);
}

bool flow_seal_hold(struct flow_seal *s, const void *data, size_t len)
{
    size_t size = sizeof(struct held) + len;
    struct held *h = NULL;
    if (s->held_count < FLOW_HELD_MAX && size <= FLOW_HELD_BYTES - s->held_bytes &&
        size <= FORWARD_HELD_MAX - s->fw->held_bytes)
        h = malloc(size);
    if (!h)
        return false;
    *h = (struct held){.since_ms = s->fw->w->now_ms, .len = len};
    memcpy(h->data, data, len);
    *s->last = h;
    s->last = &h->next;
    s->held_count++;
    s->held_bytes += size;
    s->fw->held_bytes += size;
    return true;
}

void flow_seal_release(struct flow_seal *s, void (*pass)(void *ctx, const void *data, size_t len), void *ctx)
{
    while (s->first) {
        if (s->fw->w->now_ms - s->first->since_ms <= DGRAM_TTL_MS)
            pass(ctx, s->first->data, s->first->len);
        else
            s->fw->stats.dgrams_dropped++;
        drop_first(s);
    }
}

static bool has_keys(struct flow_seal *s)
{
    uint8_t keys[SEAL_DGRAM_KEYS];
    struct link *tls = s->asks ? s->top->below : s->top;
    if (s->dgrams)
        return true;
    if (!tls_export(tls, LABEL, keys, sizeof(keys)))
        return false;
    s->dgrams = seal_dgram_new(keys, s->asks);
    OPENSSL_cleanse(keys, sizeof(keys));
    return true;
}

bool flow_seal_send(struct flow_seal *s, struct stream *st, const void *data, size_t len)
{
    uint8_t out[DGRAM_MAX];
    if (len > DGRAM_MAX - SEAL_DGRAM_MORE || !has_keys(s))
        return false;
    return stream_send_dgram(st, out, seal_dgram_put(s->dgrams, out, data, len));
}

bool flow_seal_open(struct flow_seal *s, uint8_t *out, size_t *out_len, const uint8_t *data, size_t len)
{
    return has_keys(s) && seal_dgram_get(s->dgrams, out, out_len, data, len);
}
