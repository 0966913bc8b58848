// SPDX-License-Identifier: Apache-2.0
// HTTP CONNECT (RFC 9110 9.3.6) through the proxy that the link below reaches. Any 2xx opens the tunnel; 1xx are
// skipped; a 407 is answered if that is possible, on the same connection after its body; other answers fail with the proxy's name and
// its status; bytes behind the head belong to the tunnel. Where the answer must go over a new connection, it fails and connect_again
// tells. The head is bounded by HTTP_HEAD_MAX, the body of a 407 by CONNECT_DRAIN_MAX, the deadline is the caller's.
#pragma once
#include "link/auth.h"
#include "link/link.h"

#define CONNECT_DRAIN_MAX (256 * 1024)

struct connect_options {
    const char *proxy; // "proxy:3128", for messages
    const char *host;  // target, unbracketed; copied
    uint16_t port;
    struct auth *auth; // borrowed until it is open or closed; NULL: no authentication
};
struct link *connect_over(struct link *below, const struct connect_options *o);
// After a failure: the same over a new connection has a chance.
bool connect_again(const struct link *l);
// What a person can do about a proxy's answer other than 2xx to CONNECT.
enum advice connect_advice(int status);
