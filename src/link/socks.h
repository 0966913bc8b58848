// SPDX-License-Identifier: Apache-2.0
// SOCKS4a and SOCKS5 (RFC 1928, user and password by RFC 1929) through the proxy that the link below reaches. A granted CONNECT
// opens the tunnel; refusals fail with the proxy's name and its reason; bytes behind the reply belong to the tunnel. A login
// that was refused once is not presented again (login.h). The deadline is the caller's.
#pragma once
#include "link/login.h"

struct socks_options {
    bool v4;             // SOCKS4a
    const char *proxy;   // "proxy:1080", for messages
    const char *host;    // target, name or literal, unbracketed; the proxy resolves a name; copied
    uint16_t port;
    struct login *login; // of SOCKS4a only the user travels; NULL: none; outlives the link
};
struct link *socks_over(struct link *below, const struct socks_options *o);
