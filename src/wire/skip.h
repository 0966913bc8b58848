// SPDX-License-Identifier: Apache-2.0
// Finds the end of an HTTP/1 body, and its content: of a known length, or chunked (RFC 9112 7.1) with its trailers. Keeps
// nothing; fed in any pieces.
#pragma once
#include "wire/http.h"

struct http_skip {
    enum { SKIP_LENGTH, SKIP_SIZE, SKIP_EXTENSION, SKIP_DATA, SKIP_DATA_END, SKIP_TRAILER, SKIP_OVER, SKIP_BAD } state;
    uint64_t left;  // of the body or the chunk
    unsigned digits, line; // of the chunk's size; characters of a trailer line
};

// False: its end is not announced: it lasts as long as the connection.
bool http_skip_start(struct http_skip *s, const struct http_head *h);
// How many of these bytes belong to the body. Afterwards state tells: over, bad, or more to come.
size_t http_skip_feed(struct http_skip *s, const char *data, size_t len);
// For who does read it: the same up to the first piece of content, which is *len bytes at data + *from (0: none in these
// bytes). Returns where to go on.
size_t http_skip_data(struct http_skip *s, const char *data, size_t size, size_t *from, size_t *len);
