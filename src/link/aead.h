// SPDX-License-Identifier: Apache-2.0
// One AEAD of TLS 1.3 with one key, for one direction: sealed or opened in pieces, in place or not. OpenSSL does it; AES-GCM on a
// processor with VAES is done by libIPSec_MB where that is installed, in a third of the time (docs/performance.md). The owner
// frees it, which wipes the key. False from any call: the library failed, or the tag is not right.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AEAD_NONCE 12
#define AEAD_TAG 16
#define AEAD_KEY_MAX 32

enum aead_by { AEAD_BY_ANY, AEAD_BY_OPENSSL, AEAD_BY_IPSEC_MB };

struct aead;

size_t aead_key_len(int cipher_nid); // 0: not one of the three of RFC 8446 that are used here
// NULL: not known, or not to be had by `by`.
struct aead *aead_new(int cipher_nid, const uint8_t *key, bool seals, enum aead_by by);
void aead_free(struct aead *a); // NULL is allowed

// The next message: its nonce, and what is authenticated but not sealed.
bool aead_begin(struct aead *a, const uint8_t nonce[AEAD_NONCE], const uint8_t *more, size_t more_len);
bool aead_update(struct aead *a, uint8_t *to, const uint8_t *from, size_t len); // to is from, or apart from it
bool aead_seal_end(struct aead *a, uint8_t tag[AEAD_TAG]);
bool aead_open_end(struct aead *a, const uint8_t tag[AEAD_TAG]);
