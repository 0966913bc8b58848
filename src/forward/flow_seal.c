// SPDX-License-Identifier: Apache-2.0
#include "forward/flow_seal.h"
#include <openssl/crypto.h>
#include <stdlib.h>
#include "forward/held.h"
#include "forward/seal_dgram.h"
#include "link/tls.h"

#define LABEL "EXPORTER-culvert-dgram-v1"

struct flow_seal {
    struct forward *fw;
    struct link *top;
    bool asks;
    struct seal_dgram *dgrams; // NULL: the TLS is not open yet
    struct held held;
};

struct flow_seal *flow_seal_new(struct forward *fw, struct link *top, bool asks)
{
    struct flow_seal *s = calloc(1, sizeof(*s));
    if (!s)
        abort();
    *s = (struct flow_seal){.fw = fw, .top = top, .asks = asks};
    return s;
}

struct link *flow_seal_link(const struct flow_seal *s) { return s->top; }

void flow_seal_free(struct flow_seal *s)
{
    if (!s)
        return;
    held_drop(&s->held);
    seal_dgram_free(s->dgrams);
    free(s);
}

bool flow_seal_hold(struct flow_seal *s, const void *data, size_t len) { return held_add(&s->held, s->fw, data, len); }

void flow_seal_release(struct flow_seal *s, void (*pass)(void *ctx, const void *data, size_t len), void *ctx)
{
    held_release(&s->held, DGRAM_TTL_MS, pass, ctx);
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
