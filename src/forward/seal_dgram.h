// SPDX-License-Identifier: Apache-2.0
// The datagrams of a sealed flow: each is sealed by itself with ChaCha20-Poly1305 under keys exported from the TLS inside the
// flow's stream (docs/protocol.md, "Sealed streams"), and taken once. No I/O; heap memory.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SEAL_DGRAM_HEAD 8  // counter
#define SEAL_DGRAM_TAG 16
#define SEAL_DGRAM_MORE (SEAL_DGRAM_HEAD + SEAL_DGRAM_TAG)
#define SEAL_DGRAM_KEYS 88 // asker's key 32 and IV 12, then the answerer's
#define SEAL_DGRAM_WINDOW 1024 // how far behind the newest one a datagram may come

struct seal_dgram;

struct seal_dgram *seal_dgram_new(const uint8_t keys[SEAL_DGRAM_KEYS], bool asks);
void seal_dgram_free(struct seal_dgram *s); // NULL is allowed
// out holds len + SEAL_DGRAM_MORE bytes; returns how many were written.
size_t seal_dgram_put(struct seal_dgram *s, uint8_t *out, const uint8_t *data, size_t len);
// out holds len bytes. False: forged, known already, or too old.
bool seal_dgram_get(struct seal_dgram *s, uint8_t *out, size_t *out_len, const uint8_t *data, size_t len);
