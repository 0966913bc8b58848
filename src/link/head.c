// SPDX-License-Identifier: Apache-2.0
#include "link/head.h"

static void fill_text(struct head_reader *r)
{
    struct buf *b;
    while ((b = r->rest.head)) {
        size_t n = buf_append(r->text, buf_data(b), b->len);
        bufq_drop(&r->rest, n);
        if (buf_tailroom(r->text) == 0)
            return;
    }
}

enum link_status head_read(struct head_reader *r, struct link *from, bool is_request, struct http_head *h,
                           const char **why)
{
    *why = NULL;
    if (!r->text) {
        r->text = buf_get(&from->w->pool);
        r->text->start = 0; // HTTP_HEAD_MAX is all of it
    }
    for (;;) {
        struct buf *b;
        fill_text(r);
        switch (http_parse(h, is_request, (char *)buf_data(r->text), r->text->len, &r->used, why)) {
        case HTTP_OK:
            return LINK_OK;
        case HTTP_BAD:
            return LINK_FAILED;
        case HTTP_MORE:
            *why = NULL;
        }
        enum link_status s = link_recv(from, &b);
        if (s != LINK_OK)
            return s;
        bufq_push(&r->rest, b);
    }
}

void head_done(struct head_reader *r)
{
    struct buf *b = r->text;
    r->text = NULL;
    buf_skip(b, r->used);
    r->used = 0;
    if (b->len)
        bufq_push_front(&r->rest, b);
    else
        buf_put(b);
}

void head_rest(struct head_reader *r, struct bufq *to)
{
    struct buf *b;
    if (r->text) {
        bufq_push(to, r->text);
        r->text = NULL;
    }
    while ((b = bufq_pop(&r->rest)))
        bufq_push(to, b);
}

void head_fini(struct head_reader *r)
{
    buf_put(r->text);
    r->text = NULL;
    bufq_clear(&r->rest);
}
