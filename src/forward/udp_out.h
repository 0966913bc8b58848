// SPDX-License-Identifier: Apache-2.0
// A UDP socket towards a destination that may still have to be resolved: datagrams are held, a few, until it is there. A name
// is asked about before it is resolved, and each address before it is used. Embedded in its owner.
#pragma once
#include "dial/resolve.h"
#include "forward/forward.h"
#include "forward/held.h"

struct udp_out {
    struct forward *fw;
    struct udp_sock sock;
    struct resolve resolve;
    forward_allows_fn *allows;
    void *ctx;
    char host[256];
    struct addr to; // once ready
    bool ready;
    struct held held;
    // The socket is there (err NULL) or will never be: then the owner stops it. From a wake.
    void (*on_ready)(struct udp_out *o, const struct err *err);
    void (*on_reply)(struct udp_out *o, const uint8_t *data, size_t len); // the owner may stop it
};

// on_ready, on_reply, allows (NULL: all allowed) and ctx are set by the caller.
// False: no rule could allow any address of that name, which nobody was asked for; nothing has begun.
bool udp_out_start(struct udp_out *o, struct forward *fw, const char *host, uint16_t port);
bool udp_out_send(struct udp_out *o, const uint8_t *data, size_t len); // false: dropped
void udp_out_stop(struct udp_out *o); // legal when stopped
