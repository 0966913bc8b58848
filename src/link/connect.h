// SPDX-License-Identifier: Apache-2.0
// HTTP CONNECT (RFC 9110 9.3.6) through the proxy that the link below reaches. Any 2xx opens the tunnel; 1xx are
// skipped; other answers fail with the proxy's name, its status, and what it offered; bytes behind the head belong to
// the tunnel. The head is bounded by HTTP_HEAD_MAX, the deadline is the caller's.
#pragma once
#include "link/link.h"

struct connect_options {
    const char *proxy; // "proxy:3128", for messages
    const char *host;  // target, unbracketed; copied
    uint16_t port;
    const char *user, *password; // Basic; NULL: none; copied, wiped at fini
};
struct link *connect_over(struct link *below, const struct connect_options *o);
