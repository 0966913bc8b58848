// SPDX-License-Identifier: Apache-2.0
// Short texts over links in tests: sent whole, and expected whole in one buffer.
#pragma once
#include "unit.h"
#include "core/worker.h"
#include "link/link.h"

static inline void text_send(struct link *l, const char *text) { link_send(l, buf_copy(&l->w->pool, text, strlen(text))); }

static inline void text_recv(struct link *l, const char *text)
{
    struct buf *b;
    assert_int_equal(link_recv(l, &b), LINK_OK);
    assert_int_equal(b->len, strlen(text));
    assert_memory_equal(buf_data(b), text, b->len);
    buf_put(b);
}
