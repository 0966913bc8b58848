// SPDX-License-Identifier: Apache-2.0
// An identity: an Ed25519 key, the self-signed certificate that carries it through the inner TLS (made anew at each
// start; only its key counts), and the pin: SHA-256 of the key's DER SubjectPublicKeyInfo, written base64url in 43
// characters. Blocking file access; the struct owns key and certificate.
#pragma once
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdint.h>
#include "core/err.h"

#define PIN_SIZE 32
#define PIN_TEXT_MAX 44 // 43 characters and the 0

struct identity {
    EVP_PKEY *key;
    X509 *cert;
    uint8_t pin[PIN_SIZE];
};

int identity_make(struct identity *id, struct err *e);
int identity_load(struct identity *id, const char *path, struct err *e); // refuses a file that others may read
// Loads the key in `path`, or makes one there (0600, atomically, durably; of two processes one wins and both use its
// key).
int identity_open(struct identity *id, const char *path, bool *made, struct err *e);
void identity_fini(struct identity *id);

bool identity_pin(EVP_PKEY *key, uint8_t pin[PIN_SIZE]);
char *pin_text(const uint8_t pin[PIN_SIZE], char *out); // PIN_TEXT_MAX bytes; returns out
bool pin_parse(uint8_t pin[PIN_SIZE], const char *text);
bool pin_equal(const uint8_t a[PIN_SIZE], const uint8_t b[PIN_SIZE]); // constant time
