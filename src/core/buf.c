// SPDX-License-Identifier: Apache-2.0
#include "core/buf.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define POOL_IS_MALLOC 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOL_IS_MALLOC 1
#endif
#endif
#ifndef POOL_IS_MALLOC
#define POOL_IS_MALLOC 0
#endif

#define SLAB_BUFS 64

struct slab {
    struct list node;
    uint8_t *storage;
    struct buf bufs[SLAB_BUFS];
};

static void *must(void *p)
{
    if (!p || p == MAP_FAILED) {
        fputs("culvert: out of memory\n", stderr);
        abort();
    }
    return p;
}

void pool_init(struct pool *p)
{
    *p = (struct pool){0};
    list_init(&p->slabs);
}

void pool_fini(struct pool *p)
{
    assert(p->out_bytes == 0 && p->out_count == 0);
    list_each (&p->slabs, it) {
        struct slab *s = list_entry(it, struct slab, node);
        munmap(s->storage, (size_t)SLAB_BUFS * BUF_SIZE);
        free(s);
    }
    pool_init(p);
}

// New buffers are cold: their pages exist only once they are written to.
static void add_slab(struct pool *p)
{
    struct slab *s = must(calloc(1, sizeof(*s)));
    size_t bytes = (size_t)SLAB_BUFS * BUF_SIZE;
    s->storage = must(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    madvise(s->storage, bytes, MADV_NOHUGEPAGE); // a huge page would bring cold neighbours back
    list_push(&p->slabs, &s->node);
    for (size_t i = SLAB_BUFS; i-- > 0;) {
        struct buf *b = &s->bufs[i];
        *b = (struct buf){.pool = p, .base = s->storage + i * BUF_SIZE, .cap = BUF_SIZE, .next = p->cold};
        p->cold = b;
    }
    p->cold_count += SLAB_BUFS;
}

static struct buf *heap_buf(struct pool *p, size_t cap, bool small)
{
    struct buf *b = must(malloc(sizeof(*b) + cap));
    *b = (struct buf){.pool = p, .base = (uint8_t *)(b + 1), .cap = (uint32_t)cap, .small = small};
    p->out_bytes += cap;
    return b;
}

static struct buf *pool_take(struct pool *p)
{
    struct buf *b = p->hot;
    if (b) {
        p->hot = b->next;
        if (--p->hot_count < p->hot_low)
            p->hot_low = p->hot_count;
    } else {
        if (!p->cold)
            add_slab(p);
        b = p->cold;
        p->cold = b->next;
        p->cold_count--;
    }
    p->out_bytes += b->cap;
    return b;
}

struct buf *buf_get(struct pool *p)
{
    struct buf *b = POOL_IS_MALLOC ? heap_buf(p, BUF_SIZE, false) : pool_take(p);
    p->out_count++;
    b->next = NULL;
    b->start = BUF_HEADROOM;
    b->len = 0;
    return b;
}

struct buf *buf_get_small(struct pool *p, size_t head, size_t room)
{
    assert(head <= BUF_SMALL_MAX && room <= BUF_SMALL_MAX - head);
    struct buf *b = heap_buf(p, (head + room + 15) & ~(size_t)15, true);
    b->start = (uint32_t)head;
    return b;
}

struct buf *buf_copy(struct pool *p, const void *data, size_t len)
{
    assert(len <= BUF_SIZE);
    struct buf *b = len <= BUF_SMALL_MAX - BUF_HEADROOM ? buf_get_small(p, BUF_HEADROOM, len) : buf_get(p);
    if (len > buf_tailroom(b))
        b->start = (uint32_t)(b->cap - len);
    buf_append(b, data, len);
    return b;
}

struct buf *buf_split(struct buf *b, size_t n)
{
    assert(n <= b->len);
    struct buf *piece = buf_copy(b->pool, buf_data(b), n);
    buf_skip(b, n);
    return piece;
}

static void cool(struct pool *p, struct buf *b)
{
    madvise(b->base, b->cap, MADV_DONTNEED);
    b->next = p->cold;
    p->cold = b;
    p->cold_count++;
}

static void pool_give(struct pool *p, struct buf *b)
{
    if (p->hot_count < POOL_HOT_MAX) {
        b->next = p->hot;
        p->hot = b;
        p->hot_count++;
    } else {
        cool(p, b);
    }
}

bool pool_trim(struct pool *p)
{
    size_t idle = p->hot_low;
    for (; idle && p->hot_count > POOL_HOT; idle--) {
        struct buf *b = p->hot;
        p->hot = b->next;
        p->hot_count--;
        cool(p, b);
    }
    p->hot_low = p->hot_count;
    return p->hot_count > POOL_HOT;
}

void buf_put(struct buf *b)
{
    if (!b)
        return;
    struct pool *p = b->pool;
    assert(p->out_bytes >= b->cap);
    p->out_bytes -= b->cap;
    if (b->small) {
        free(b);
        return;
    }
    p->out_count--;
    if (POOL_IS_MALLOC)
        free(b);
    else
        pool_give(p, b);
}

size_t buf_append(struct buf *b, const void *data, size_t n)
{
    if (n > buf_tailroom(b))
        n = buf_tailroom(b);
    if (n)
        memcpy(buf_end(b), data, n);
    b->len += (uint32_t)n;
    return n;
}

void bufq_push(struct bufq *q, struct buf *b)
{
    b->next = NULL;
    if (q->tail)
        q->tail->next = b;
    else
        q->head = b;
    q->tail = b;
    q->bytes += b->len;
    q->charge += b->cap;
}

void bufq_push_front(struct bufq *q, struct buf *b)
{
    b->next = q->head;
    q->head = b;
    if (!q->tail)
        q->tail = b;
    q->bytes += b->len;
    q->charge += b->cap;
}

void bufq_push_tight(struct bufq *q, struct buf *b)
{
    if (b->len > BUF_SMALL_MAX - BUF_HEADROOM) {
        bufq_push(q, b);
        return;
    }
    if (q->tail && buf_tailroom(q->tail) >= b->len) {
        q->bytes += buf_append(q->tail, buf_data(b), b->len);
        buf_put(b);
        return;
    }
    // A second small one makes a third likely: leave room for it, so that single bytes do not cost a buffer each.
    struct buf *copy = b;
    if (q->tail)
        copy = buf_get_small(b->pool, BUF_HEADROOM, BUF_SMALL_MAX - BUF_HEADROOM);
    else if (!b->small)
        copy = buf_get_small(b->pool, BUF_HEADROOM, b->len);
    if (copy != b) {
        buf_append(copy, buf_data(b), b->len);
        buf_put(b);
    }
    bufq_push(q, copy);
}

struct buf *bufq_pop(struct bufq *q)
{
    struct buf *b = q->head;
    if (!b)
        return NULL;
    q->head = b->next;
    if (!q->head)
        q->tail = NULL;
    q->bytes -= b->len;
    q->charge -= b->cap;
    b->next = NULL;
    return b;
}

void bufq_drop(struct bufq *q, size_t n)
{
    assert(n <= q->bytes);
    while (q->head && n >= q->head->len) {
        n -= q->head->len;
        buf_put(bufq_pop(q));
        if (n == 0)
            break;
    }
    if (n == 0)
        return;
    buf_skip(q->head, n);
    q->bytes -= n;
}

void bufq_clear(struct bufq *q)
{
    struct buf *b;
    while ((b = bufq_pop(q)))
        buf_put(b);
}
