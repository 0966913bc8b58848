// SPDX-License-Identifier: Apache-2.0
// Keys and certificates for tests, made on the spot.
#pragma once
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdbool.h>

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
