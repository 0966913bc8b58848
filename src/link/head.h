// SPDX-License-Identifier: Apache-2.0
// Collects HTTP heads from a link, piece by piece, up to HTTP_HEAD_MAX, and keeps what was read behind them. Embedded
// in links and in whoever waits for a request; owns its buffers until head_fini.
#pragma once
#include "link/link.h"
#include "wire/http.h"

struct head_reader {
    struct buf *text; // the head so far; may hold bytes behind it
    struct bufq rest; // read, but not in text
    size_t used;      // length of the parsed head
};

// OK: *h is whole and points into text until head_done. AGAIN: a wake is owed by `from`. END: it ended before.
// FAILED: with *why set the head is bad, else `from` failed.
enum link_status head_read(struct head_reader *r, struct link *from, bool is_request, struct http_head *h,
                           const char **why);
// Drops the parsed head; what was read behind it stays for the next head_read or for head_rest.
void head_done(struct head_reader *r);
// Moves what is left to `to`.
void head_rest(struct head_reader *r, struct bufq *to);
void head_fini(struct head_reader *r);
