// SPDX-License-Identifier: Apache-2.0
#include "core/worker.h"
#include "core/watch.h"
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#define ROUNDS_MAX 64 // rounds of wakes before sockets get their turn again

void worker_clock(struct worker *w)
{
    if (w->bare)
        return;
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    w->now_us = (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
    w->now_ms = w->now_us / 1000;
}

// --- wakes and graves

void wake_init(struct wake *wake, void (*run)(struct wake *wake))
{
    list_init(&wake->node);
    wake->run = run;
}

void wake_post(struct worker *w, struct wake *wake)
{
    if (!list_linked(&wake->node))
        list_push(&w->wakes, &wake->node);
}

void wake_post_late(struct worker *w, struct wake *wake)
{
    if (!list_linked(&wake->node))
        list_push(&w->late, &wake->node);
}

void wake_cancel(struct wake *wake) { list_del(&wake->node); }

// One round: what is posted meanwhile waits for the next.
static void run_wakes(struct list *from)
{
    struct list round, *n;
    list_init(&round);
    list_splice(&round, from);
    while ((n = list_pop(&round))) {
        struct wake *wake = list_entry(n, struct wake, node);
        wake->run(wake);
    }
}

static void run_graves(struct worker *w)
{
    struct list *n;
    while ((n = list_pop(&w->graves))) {
        struct grave *g = list_entry(n, struct grave, node);
        g->bury(g);
    }
}

void worker_bury(struct worker *w, struct grave *g, void (*bury)(struct grave *grave))
{
    g->bury = bury;
    list_init(&g->node);
    list_push(&w->graves, &g->node);
}

void worker_turn(struct worker *w)
{
    for (int i = 0; i < ROUNDS_MAX && !list_empty(&w->wakes); i++)
        run_wakes(&w->wakes);
    run_wakes(&w->late);
    run_graves(w);
}

// --- timers: a binary heap by due_ms; slot is the place + 1

static void heap_place(struct worker *w, uint32_t i, struct timer *t)
{
    w->heap[i] = t;
    t->slot = i + 1;
}

static void heap_up(struct worker *w, uint32_t i)
{
    struct timer *t = w->heap[i];
    for (; i > 0 && w->heap[(i - 1) / 2]->due_ms > t->due_ms; i = (i - 1) / 2)
        heap_place(w, i, w->heap[(i - 1) / 2]);
    heap_place(w, i, t);
}

static void heap_down(struct worker *w, uint32_t i)
{
    struct timer *t = w->heap[i];
    for (;;) {
        uint32_t c = 2 * i + 1;
        if (c >= w->heap_len)
            break;
        if (c + 1 < w->heap_len && w->heap[c + 1]->due_ms < w->heap[c]->due_ms)
            c++;
        if (w->heap[c]->due_ms >= t->due_ms)
            break;
        heap_place(w, i, w->heap[c]);
        i = c;
    }
    heap_place(w, i, t);
}

static void heap_grow(struct worker *w)
{
    uint32_t cap = w->heap_cap ? w->heap_cap * 2 : 64;
    struct timer **heap = realloc(w->heap, cap * sizeof(*heap));
    if (!heap) {
        fputs("culvert: out of memory\n", stderr);
        abort();
    }
    w->heap = heap;
    w->heap_cap = cap;
}

void timer_init(struct timer *t, void (*run)(struct timer *timer))
{
    *t = (struct timer){.run = run};
}

void timer_set(struct worker *w, struct timer *t, uint64_t delay_ms)
{
    uint64_t old = t->due_ms;
    t->due_ms = delay_ms > UINT64_MAX - 1 - w->now_ms ? UINT64_MAX - 1 : w->now_ms + delay_ms;
    if (!t->slot) {
        if (w->heap_len == w->heap_cap)
            heap_grow(w);
        heap_place(w, w->heap_len++, t);
        heap_up(w, t->slot - 1);
    } else if (t->due_ms < old) {
        heap_up(w, t->slot - 1);
    } else {
        heap_down(w, t->slot - 1);
    }
}

void timer_stop(struct worker *w, struct timer *t)
{
    if (!t->slot)
        return;
    uint32_t i = t->slot - 1;
    struct timer *last = w->heap[--w->heap_len];
    t->slot = 0;
    if (last == t)
        return;
    heap_place(w, i, last);
    heap_up(w, i);
    heap_down(w, last->slot - 1);
}

// Runs each timer once at most, so that one set again with no delay cannot hold the loop.
uint64_t worker_run_timers(struct worker *w)
{
    for (uint32_t left = w->heap_len; left > 0 && w->heap_len && w->heap[0]->due_ms <= w->now_ms; left--) {
        struct timer *t = w->heap[0];
        timer_stop(w, t);
        t->run(t);
    }
    if (!w->heap_len)
        return UINT64_MAX;
    return w->heap[0]->due_ms > w->now_ms ? w->heap[0]->due_ms - w->now_ms : 0;
}

// --- the loop

static int sleep_ms(struct worker *w)
{
    int uv = uv_backend_timeout(&w->loop); // 0: a handle of libuv was opened or closed, or its timer is due
    if (uv == 0 || !list_empty(&w->wakes) || !list_empty(&w->late) || !list_empty(&w->graves))
        return 0;
    if (!w->heap_len)
        return uv;
    uint64_t due = w->heap[0]->due_ms, left = due > w->now_ms ? due - w->now_ms : 0;
    int ms = left < INT_MAX ? (int)left : INT_MAX;
    return uv < 0 || ms < uv ? ms : uv;
}

void worker_poll(struct worker *w, bool may_sleep)
{
    bool uv_ready = watch_poll(w, may_sleep ? sleep_ms(w) : 0);
    if (uv_ready || uv_backend_timeout(&w->loop) == 0)
        uv_run(&w->loop, UV_RUN_NOWAIT);
    worker_run_timers(w);
    worker_turn(w);
    worker_turn(w); // the wakes that the flushing of sockets has posted: a poll less
    if (w->pool.hot_count > POOL_HOT && !timer_is_set(&w->trim))
        timer_set(w, &w->trim, POOL_TRIM_MS);
}

static void on_prepare(uv_prepare_t *h) { (void)h; }

static void on_trim(struct timer *t)
{
    struct worker *w = container_of(t, struct worker, trim);
    if (pool_trim(&w->pool))
        timer_set(w, t, POOL_TRIM_MS);
}

static void fill_random(void *out, size_t len)
{
    for (uint8_t *p = out; len > 0;) {
        ssize_t n = getrandom(p, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            fputs("culvert: no random bytes from the system\n", stderr);
            abort();
        }
        p += n;
        len -= (size_t)n;
    }
}

static void init_common(struct worker *w, unsigned k, unsigned n)
{
    *w = (struct worker){.k = k, .n = n, .fill_random = fill_random};
    pool_init(&w->pool);
    timer_init(&w->trim, on_trim);
    list_init(&w->wakes);
    list_init(&w->late);
    list_init(&w->graves);
}

int worker_init(struct worker *w, unsigned k, unsigned n)
{
    init_common(w, k, n);
    int rc = uv_loop_init(&w->loop);
    if (rc < 0)
        return rc;
    uv_prepare_init(&w->loop, &w->anchor);
    uv_prepare_start(&w->anchor, on_prepare);
    worker_clock(w);
    return watch_start(w);
}

void worker_init_bare(struct worker *w)
{
    init_common(w, 0, 1);
    w->bare = true;
}

void worker_run(struct worker *w)
{
    w->stopped = false;
    while (!w->stopped)
        worker_poll(w, true);
}

void worker_stop(struct worker *w) { w->stopped = true; }

static void close_handle(uv_handle_t *h, void *ctx)
{
    (void)ctx;
    if (!uv_is_closing(h))
        uv_close(h, NULL);
}

static void close_loop(struct worker *w)
{
    uv_walk(&w->loop, close_handle, NULL);
    while (uv_run(&w->loop, UV_RUN_DEFAULT))
        ;
    int rc = uv_loop_close(&w->loop);
    assert(rc == 0);
    (void)rc;
}

void worker_fini(struct worker *w)
{
    run_graves(w);
    if (!w->bare) {
        close_loop(w);
        watch_stop(w);
    }
    run_graves(w);
    free(w->heap);
    OPENSSL_cleanse(w->random, sizeof(w->random));
    pool_fini(&w->pool);
}

// --- random bytes

void worker_random(struct worker *w, void *out, size_t len)
{
    if (len > sizeof(w->random) / 4) {
        w->fill_random(out, len);
        return;
    }
    if (w->random_left < len) {
        w->fill_random(w->random, sizeof(w->random));
        w->random_left = sizeof(w->random);
    }
    uint8_t *from = w->random + sizeof(w->random) - w->random_left;
    memcpy(out, from, len);
    OPENSSL_cleanse(from, len);
    w->random_left -= (uint32_t)len;
}
