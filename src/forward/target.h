// SPDX-License-Identifier: Apache-2.0
// The far end of a stream that the peer has opened: dials what it names, asking `allows` about names and each address,
// answers the stream (stream_accept with the address reached, or stream_refuse with the reason) and carries bytes or
// datagrams until the end. Owns the stream's link from target_open on; nothing is left to do for the caller. Whether the
// peer may ask at all (a service, a Unix path without `allows`) is the caller's business before.
#pragma once
#include "forward/forward.h"

struct target_ask {
    const char *host;  // name, IPv4, IPv6 without brackets, or "unix:/path"
    uint16_t port;
    bool udp;          // the stream is a flow of datagrams
    uint32_t idle_ms;  // udp; 0: the forward's
    // Policy on a name and on each address; NULL: all allowed. Asked while the stream's session lives; ctx must live as long.
    forward_allows_fn *allows;
    void *ctx;
    struct addr origin; // who asked, where known
    const struct frame_open *sealed; // the OPEN of a stream that is to be sealed; NULL: it is plain
};

void target_open(struct forward *fw, struct stream *st, const struct target_ask *ask);
