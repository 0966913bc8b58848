// SPDX-License-Identifier: Apache-2.0
// Percent-encoding (RFC 3986 section 2.1). No I/O, no allocation.
#pragma once
#include <stdbool.h>
#include <stddef.h>

// Decodes `len` characters into out (`size` bytes, ended by 0). False: a broken escape, an encoded 0, or no room.
bool percent_decode(char *out, size_t size, const char *text, size_t len);
// Encodes all but unreserved characters and those in `keep`. False: no room.
bool percent_encode(char *out, size_t size, const char *text, const char *keep);
