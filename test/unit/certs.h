// SPDX-License-Identifier: Apache-2.0
// Keys and certificates for tests, made on the spot; whatever goes wrong here ends the program.
#pragma once
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include "link/tls.h"

struct cert {
    EVP_PKEY *key;
    X509 *x509;
    char cert_file[256], key_file[256]; // in a folder of its own, until cert_fini
    char folder[64];
};

// Signed by `issuer` (NULL: by itself). san: "DNS:relay.example,IP:127.0.0.1", NULL: none. Valid from `from` days to
// `to` days from now.
void cert_make(struct cert *c, const char *name, const char *san, const struct cert *issuer, bool is_ca, int from, int to);
void cert_fini(struct cert *c);

// What the two ends of a carrier have: the outer TLS to "relay.example", and the inner one by pin.
struct carrier_tls {
    struct cert web, agent, relay;
    SSL_CTX *outer_client, *outer_server, *inner_client, *inner_server;
    uint8_t relay_pin[1][32];
};

void carrier_tls_init(struct carrier_tls *t);
void carrier_tls_fini(struct carrier_tls *t);
struct tls_options carrier_tls_options(const struct carrier_tls *t, bool server, bool inner); // valid as long as it
