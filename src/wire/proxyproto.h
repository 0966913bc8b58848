// SPDX-License-Identifier: Apache-2.0
// The PROXY protocol, versions 1 (a line) and 2 (binary), as a receiver: by it a front tells, before all else, whose
// connection it passes on. Parsed without I/O from the bytes collected so far; nothing is allocated, extensions (TLVs) are
// passed over. The specification is HAProxy's doc/proxy-protocol.txt.
#pragma once
#include "core/addr.h"
#include "wire/http.h"

#define PROXYPROTO_MAX 1024 // the longest header taken: a line has at most 107 bytes, addresses 52, and there may be extensions

struct proxyproto {
    struct addr from, to; // len 0: not said (the front's own connection, or of an unknown kind)
};

// OK: *used is the header's length. MORE: not whole yet. BAD: *why is a static sentence; it is none, or one too long.
enum http_result proxyproto_parse(struct proxyproto *p, const uint8_t *data, size_t len, size_t *used, const char **why);
