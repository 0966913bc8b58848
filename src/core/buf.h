// SPDX-License-Identifier: Apache-2.0
// Fixed buffers with headroom, and queues of them. A buffer has one owner at a time: who is handed one frees it with
// buf_put or hands it on. Full buffers hold BUF_SIZE bytes and come from the worker's pool, which keeps at most
// POOL_HOT idle ones with memory behind them for long: pool_trim gives the memory of those that lay idle since the last call
// back to the system, so that a busy worker does not pay for page faults; small ones are
// plain heap memory, for the few bytes that would waste a full one. Under AddressSanitizer the pool is malloc, so that a use
// after buf_put shows. Running out of memory ends the process: every user is bounded by a budget long before.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "core/list.h"

#define BUF_SIZE 16384     // storage of a full buffer
#define BUF_HEADROOM 16    // kept free in front by buf_get: a WebSocket header of a client takes 8
#define BUF_ROOM (BUF_SIZE - BUF_HEADROOM)
#define BUF_SMALL_MAX 2048 // largest storage of a small buffer
#define POOL_HOT 4         // idle full buffers that keep their memory: 64 KiB
#define POOL_HOT_MAX 16384 // the same between two calls of pool_trim: 256 MiB
#define POOL_TRIM_MS 500   // how often the worker trims while there is something to trim

struct pool;

struct buf {
    struct buf *next; // in a bufq, or in the pool's free list
    struct pool *pool;
    uint8_t *base;    // storage
    uint32_t cap;     // bytes of storage: what it is charged with in a budget
    uint32_t start;   // first byte of content
    uint32_t len;     // bytes of content
    bool small;
};

struct pool {
    struct buf *hot, *cold;
    size_t hot_low; // fewest hot ones since the last trim: these were not needed
    size_t hot_count, cold_count, out_count; // out_count: full buffers in use
    size_t out_bytes;                        // storage of all buffers in use, small ones too
    struct list slabs;
};

void pool_init(struct pool *p);
void pool_fini(struct pool *p); // every buffer must be back

// Gives back the memory of buffers that lay idle since the last call. True: call again in POOL_TRIM_MS.
bool pool_trim(struct pool *p);
// A full, empty buffer with BUF_HEADROOM in front.
struct buf *buf_get(struct pool *p);
// A small, empty buffer with `head` bytes in front and room for `room` bytes, head + room <= BUF_SMALL_MAX.
struct buf *buf_get_small(struct pool *p, size_t head, size_t room);
// A buffer holding a copy of the `len` <= BUF_SIZE bytes at `data`: small when they fit; beyond BUF_ROOM with less headroom.
struct buf *buf_copy(struct pool *p, const void *data, size_t len);
// Takes the first n <= b->len bytes off b, as a copy.
struct buf *buf_split(struct buf *b, size_t n);
void buf_put(struct buf *b); // NULL is allowed

static inline uint8_t *buf_data(const struct buf *b) { return b->base + b->start; }
static inline uint8_t *buf_end(const struct buf *b) { return b->base + b->start + b->len; }
static inline size_t buf_tailroom(const struct buf *b) { return b->cap - b->start - b->len; }
// Drops n <= len bytes from the front.
static inline void buf_skip(struct buf *b, size_t n)
{
    b->start += (uint32_t)n;
    b->len -= (uint32_t)n;
}
// Makes room for n <= start bytes in front and returns where they go.
static inline uint8_t *buf_prepend(struct buf *b, size_t n)
{
    b->start -= (uint32_t)n;
    b->len += (uint32_t)n;
    return buf_data(b);
}
// Appends up to n bytes, as many as fit; returns how many.
size_t buf_append(struct buf *b, const void *data, size_t n);

// A queue of buffers in order. `bytes` counts content, `charge` storage.
struct bufq {
    struct buf *head, *tail;
    size_t bytes, charge;
};

static inline void bufq_init(struct bufq *q) { *q = (struct bufq){0}; }
static inline bool bufq_empty(const struct bufq *q) { return q->head == NULL; }
void bufq_push(struct bufq *q, struct buf *b);       // takes b as it is
void bufq_push_front(struct bufq *q, struct buf *b); // takes b as it is
// Takes b, but copies few bytes into the tail's spare room or into a small buffer instead of keeping a full one for them.
void bufq_push_tight(struct bufq *q, struct buf *b);
struct buf *bufq_pop(struct bufq *q);      // NULL when empty
void bufq_drop(struct bufq *q, size_t n);  // discards the first n <= bytes bytes, freeing emptied buffers
void bufq_clear(struct bufq *q);
