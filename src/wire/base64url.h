// SPDX-License-Identifier: Apache-2.0
// base64url (RFC 4648 section 5) without padding: how pins and tokens are written. No I/O, no allocation. Decoding is
// strict: one text for one value (no padding, no spaces, spare bits 0), so that texts can be compared as texts.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BASE64URL_LEN(bytes) (((bytes) * 4 + 2) / 3) // characters for that many bytes, without the final 0

// Writes BASE64URL_LEN(len) characters and a 0; returns out.
char *base64url_encode(char *out, const void *data, size_t len);
// Decodes `text_len` characters into exactly `len` bytes. False when the length or a character is wrong.
bool base64url_decode(void *out, size_t len, const char *text, size_t text_len);
