// SPDX-License-Identifier: Apache-2.0
// AES-GCM by libIPSec_MB, which has code for the wide AES instructions (VAES) that OpenSSL 3.0 lacks. The library is loaded at the
// first use, on processors that have them, and stays; without either, gcm_vaes_new answers NULL and nothing is lost but
// time. Its dispatch table is the one thing that lives for the whole process; threads may come at once. For aead.c alone.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gcm_vaes;

// key_len 16 or 32; NULL: not to be had here.
struct gcm_vaes *gcm_vaes_new(const uint8_t *key, size_t key_len, bool seals);
void gcm_vaes_free(struct gcm_vaes *g); // NULL is allowed; wipes
bool gcm_vaes_begin(struct gcm_vaes *g, const uint8_t nonce[12], const uint8_t *more, size_t more_len);
bool gcm_vaes_update(struct gcm_vaes *g, uint8_t *to, const uint8_t *from, size_t len);
bool gcm_vaes_seal_end(struct gcm_vaes *g, uint8_t tag[16]);
bool gcm_vaes_open_end(struct gcm_vaes *g, const uint8_t tag[16]); // compares in constant time
