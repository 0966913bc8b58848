// SPDX-License-Identifier: Apache-2.0
// One link under test over a memory link, whose other end is played by the test in bytes.
#pragma once
#include "drive.h"
#include <string.h>
#include "link/mem.h"

struct scripted {
    struct worker w;
    struct link *top, *peer; // peer: the raw other end
    struct wake wake;
    char heard[70000];       // what the peer has got
    size_t heard_len;
};

static inline void scripted_news(struct wake *wake) { (void)wake; }

// Returns the base link to put the link under test on.
static inline struct link *scripted_init(struct scripted *s, const struct mem_plan *plan)
{
    struct link *base;
    worker_init_bare(&s->w);
    mem_pair(&s->w, &base, &s->peer, plan, NULL);
    wake_init(&s->wake, scripted_news);
    link_own(s->peer, &s->wake);
    s->heard_len = 0;
    return base;
}

static inline void scripted_top(struct scripted *s, struct link *top)
{
    s->top = top;
    link_own(top, &s->wake);
}

static inline void scripted_turn(struct scripted *s) { drive_all(&s->w); }

static inline void scripted_say(struct scripted *s, const void *data, size_t len)
{
    for (size_t at = 0; at < len; at += BUF_ROOM)
        link_send(s->peer, buf_copy(&s->w.pool, (const char *)data + at, len - at < BUF_ROOM ? len - at : BUF_ROOM));
    scripted_turn(s);
}

// Collects what the peer was sent; returns how that ended.
static inline enum link_status scripted_hear(struct scripted *s)
{
    struct buf *b;
    enum link_status st;
    scripted_turn(s);
    while ((st = link_recv(s->peer, &b)) == LINK_OK) {
        assert_true(s->heard_len + b->len < sizeof(s->heard));
        memcpy(s->heard + s->heard_len, buf_data(b), b->len);
        s->heard_len += b->len;
        buf_put(b);
    }
    s->heard[s->heard_len] = 0;
    return st;
}

static inline void scripted_fini(struct scripted *s)
{
    wake_cancel(&s->wake);
    link_close(s->top);
    link_close(s->peer);
    drive_settle(&s->w);
    worker_fini(&s->w);
}
