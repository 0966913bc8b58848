// SPDX-License-Identifier: Apache-2.0
#include "core/watch.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS_MAX 256 // descriptors served in one go; the rest is served in the next turn

static int to_events(uint32_t e)
{
    int events = 0;
    if (e & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        events |= UV_READABLE;
    if (e & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        events |= UV_WRITABLE;
    if (e & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        events |= UV_DISCONNECT;
    return events;
}

bool watch_poll(struct worker *w, int ms)
{
    struct epoll_event ev[EVENTS_MAX];
    bool uv_ready = false;
    int n = epoll_wait(w->epoll_fd, ev, EVENTS_MAX, ms);
    worker_clock(w);
    for (int i = 0; i < n; i++) {
        struct watch *watch = ev[i].data.ptr; // its memory stays until the turn is over
        if (!watch)
            uv_ready = true;
        else if (!watch->dead)
            watch->on(watch->ctx, to_events(ev[i].events));
    }
    return uv_ready;
}

int watch_start(struct worker *w)
{
    struct epoll_event uv = {.events = EPOLLIN, .data.ptr = NULL};
    w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (w->epoll_fd < 0)
        return -errno;
    return epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, uv_backend_fd(&w->loop), &uv) < 0 ? -errno : 0;
}

void watch_stop(struct worker *w)
{
    close(w->epoll_fd);
    w->epoll_fd = -1;
}

static int control(struct watch *watch, int op, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = watch};
    return epoll_ctl(watch->w->epoll_fd, op, watch->fd, &ev);
}

static struct watch *make(struct worker *w, int fd, void (*on)(void *ctx, int events), void *ctx, uint32_t events)
{
    struct watch *watch = w->bare ? NULL : calloc(1, sizeof(*watch));
    if (!watch)
        return NULL;
    *watch = (struct watch){.w = w, .fd = fd, .on = on, .ctx = ctx};
    list_init(&watch->grave.node);
    if (control(watch, EPOLL_CTL_ADD, events) < 0) {
        free(watch);
        return NULL;
    }
    return watch;
}

struct watch *watch_new(struct worker *w, int fd, void (*on)(void *ctx, int events), void *ctx)
{
    struct watch *watch = make(w, fd, on, ctx, 0); // tells whether it can be watched at all
    if (watch)
        control(watch, EPOLL_CTL_DEL, 0);
    return watch;
}

struct watch *watch_edges(struct worker *w, int fd, void (*on)(void *ctx, int events), void *ctx)
{
    struct watch *watch = make(w, fd, on, ctx, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    if (watch)
        watch->edges = true;
    return watch;
}

void watch_want(struct watch *watch, int events)
{
    if (watch->events == events || watch->edges)
        return;
    uint32_t e = (events & UV_READABLE ? EPOLLIN : 0) | (events & UV_WRITABLE ? EPOLLOUT : 0);
    control(watch, !events ? EPOLL_CTL_DEL : watch->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, e);
    watch->events = events;
}

static void bury(struct grave *g) { free(container_of(g, struct watch, grave)); }

void watch_free(struct watch *watch)
{
    if (!watch || watch->dead)
        return;
    // Closing alone does not end it: a child between its start and its exec still holds the descriptor.
    if (watch->edges || watch->events)
        control(watch, EPOLL_CTL_DEL, 0);
    watch->dead = true;
    worker_bury(watch->w, &watch->grave, bury);
}
