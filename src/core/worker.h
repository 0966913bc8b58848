// SPDX-License-Identifier: Apache-2.0
// One event loop and all its state: worker k of n (n is 1 today). Everything that runs hangs on a worker through its
// pointer; workers share nothing. A turn is: poll; timers; wakes until none is left (bounded, then the loop polls
// without sleeping); late wakes (sockets flush here, one writev each); burials. No callback ever runs on somebody
// else's stack: who has news posts a wake. Objects are freed by worker_bury after the turn, so a pointer seen in a turn
// stays valid in it. Nothing here may block. Sockets are watched by the worker's own epoll, one system call a turn; libuv is
// kept for what is rare (signals, news from other threads) and is itself one of the watched descriptors.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>
#include "core/buf.h"
#include "core/list.h"

struct wake {
    struct list node;
    void (*run)(struct wake *wake);
};

struct timer {
    uint64_t due_ms;                  // on the worker's clock
    uint32_t slot;                    // place in the heap + 1; 0: not set
    void (*run)(struct timer *timer); // runs in the timer phase; may set the timer again
};

struct grave {
    struct list node;
    void (*bury)(struct grave *grave); // frees the object; the chance to act is over
};

// A watched descriptor: heap memory of the worker, freed after the turn. The owner closes fd itself after watch_free.
struct watch {
    struct worker *w;
    int fd;
    int events; // what is asked for now: UV_READABLE | UV_WRITABLE
    bool edges, dead;
    struct grave grave;
    // events UV_READABLE | UV_WRITABLE; an error or a hang-up sets both, and UV_DISCONNECT where the peer has ended
    void (*on)(void *ctx, int events);
    void *ctx;
};

struct worker {
    unsigned k, n;
    uv_loop_t loop;
    uv_prepare_t anchor; // an active handle: without any, libuv would not let us sleep
    bool bare; // no loop: a simulation runs the turns
    bool stopped;
    uint64_t now_ms, now_us; // CLOCK_MONOTONIC, read once a turn; a simulation sets both
    int epoll_fd;     // all watches, and libuv's descriptor
    struct pool pool;
    struct timer trim; // of the pool
    struct list wakes, late, graves;
    struct timer **heap;
    uint32_t heap_len, heap_cap;
    uint8_t random[1024]; // unpredictable bytes not handed out yet
    uint32_t random_left;
    void (*fill_random)(void *out, size_t len); // the system's; a simulation has its own
    void *role; // the relay or the agent that owns this worker
};

int worker_init(struct worker *w, unsigned k, unsigned n); // 0, or a libuv error
void worker_init_bare(struct worker *w);                   // no loop: call worker_turn by hand
void worker_run(struct worker *w);                         // until worker_stop
void worker_poll(struct worker *w, bool may_sleep);        // one poll, which does not sleep while wakes wait, and its turn
void worker_stop(struct worker *w);
void worker_turn(struct worker *w); // wakes, late wakes, burials
void worker_fini(struct worker *w); // closes all handles; frees what is buried
void worker_clock(struct worker *w); // rereads now_ms and now_us

void wake_init(struct wake *wake, void (*run)(struct wake *wake));
void wake_post(struct worker *w, struct wake *wake);      // once, however often posted before it runs
void wake_post_late(struct worker *w, struct wake *wake); // after all wakes of this turn
void wake_cancel(struct wake *wake);                      // legal at any time

void timer_init(struct timer *t, void (*run)(struct timer *timer));
void timer_set(struct worker *w, struct timer *t, uint64_t delay_ms); // moves it when it is set already
void timer_stop(struct worker *w, struct timer *t);
static inline bool timer_is_set(const struct timer *t) { return t->slot != 0; }
// A bare worker's timers: runs all that are due at w->now_ms; returns the ms to the next one, UINT64_MAX when none.
uint64_t worker_run_timers(struct worker *w);

void worker_bury(struct worker *w, struct grave *g, void (*bury)(struct grave *grave));

struct watch *watch_new(struct worker *w, int fd, void (*on)(void *ctx, int events), void *ctx); // NULL: cannot watch
void watch_want(struct watch *watch, int events); // 0 stops; costs a system call when it changes
// Watches both directions for good, edge-triggered: an event comes once when something becomes possible, so the owner remembers
// it until a short read or write says otherwise. One system call in all. Watch a socket after connect was called, not before.
struct watch *watch_edges(struct worker *w, int fd, void (*on)(void *ctx, int events), void *ctx);
void watch_free(struct watch *watch); // before its fd is closed; no callback comes after this; NULL is allowed

// Unpredictable bytes (WebSocket mask keys, ids): from the system's generator in blocks.
void worker_random(struct worker *w, void *out, size_t len);
