// SPDX-License-Identifier: Apache-2.0
// What a sealed flow has besides a plain one: the link that seals its stream, the keys of its datagrams once that is open, and the
// datagrams that wait for it, a few. Owned by its flow, which closes the link.
#pragma once
#include "forward/seal.h"

struct flow_seal;

// top: seal_over's link (asks), or the answering end's TLS link.
struct flow_seal *flow_seal_new(struct forward *fw, struct link *top, bool asks);
void flow_seal_free(struct flow_seal *s); // NULL is allowed; not the link
struct link *flow_seal_link(const struct flow_seal *s);
// A datagram that comes before the other end has answered. False: no room.
bool flow_seal_hold(struct flow_seal *s, const void *data, size_t len);
// The held ones, oldest first, those that are not stale; each is passed once.
void flow_seal_release(struct flow_seal *s, void (*pass)(void *ctx, const void *data, size_t len), void *ctx);
// Seals and sends; false: dropped.
bool flow_seal_send(struct flow_seal *s, struct stream *st, const void *data, size_t len);
// Opens one from the session; out holds DGRAM_MAX bytes. False: not authentic, or no keys yet.
bool flow_seal_open(struct flow_seal *s, uint8_t *out, size_t *out_len, const uint8_t *data, size_t len);
