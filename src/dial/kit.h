// SPDX-License-Identifier: Apache-2.0
// What a process needs to get through its proxies beyond their URLs, shared by all its dials: the trust for https:// hops,
// which authentication is allowed, and the logins with what proxies said of them. Owned by the command line's connect flags.
#pragma once
#include <openssl/ssl.h>
#include "dial/proxy.h"
#include "link/auth.h"

struct proxy_kit {
    const char *ca_file; // --proxy-ca, borrowed; NULL: the system's
    unsigned schemes;    // AUTH_…: what --proxy-auth allows; 0: all
    SSL_CTX *tls;        // made for the first https:// hop
    struct logins logins;
};

void proxy_kit_init(struct proxy_kit *k, const char *ca_file, unsigned schemes);
void proxy_kit_fini(struct proxy_kit *k); // legal on a zeroed one
void proxy_kit_forgive(struct proxy_kit *k); // a person asks to try refused logins again; NULL is allowed
// The context of TLS to proxies, or NULL with *e set.
SSL_CTX *proxy_kit_tls(struct proxy_kit *k, struct err *e);
// The login of a hop, or NULL: it has none.
struct login *proxy_kit_login(struct proxy_kit *k, const struct proxy_url *hop);
