// SPDX-License-Identifier: Apache-2.0
#include "dial/race.h"
#include <stdlib.h>
#include <string.h>
#include "link/tcp.h"

struct race_attempt {
    struct race *r;
    struct link *link; // NULL: not started, or over
    struct wake wake;
    struct addr to;
};

static void clear(struct race *r)
{
    for (size_t i = 0; i < r->count; i++) {
        wake_cancel(&r->attempts[i].wake);
        link_close(r->attempts[i].link);
    }
    free(r->attempts);
    r->attempts = NULL;
    r->count = 0;
    timer_stop(r->w, &r->stagger);
    timer_stop(r->w, &r->deadline);
}

static void finish(struct race *r, struct link *link, const struct addr *to)
{
    struct addr reached = to ? *to : (struct addr){0};
    struct err err = ERR_INIT;
    err_move(&err, &r->err);
    clear(r);
    r->on_done(r, link, link ? &reached : NULL, link ? NULL : &err); // r may be gone in it
    err_fini(&err);
}

// The reason that says most: an address that answered beats one that could not even be tried.
static enum err_why pick(enum err_why a, enum err_why b)
{
    return a == WHY_NONE || (a == WHY_UNREACHABLE && b != WHY_NONE) ? b : a;
}

static void add_failure(struct race *r, const struct err *e)
{
    if (!err_is(&r->err)) {
        err_set(&r->err, ERR_UNREACHED, pick(e->why, WHY_UNREACHABLE), "%s", err_text(e));
        return;
    }
    struct err both = ERR_INIT;
    err_set(&both, ERR_UNREACHED, pick(r->err.why, e->why), "%s; %s", err_text(&r->err), err_text(e));
    err_move(&r->err, &both);
}

static void start_next(struct race *r)
{
    if (r->started == r->count)
        return;
    struct race_attempt *a = &r->attempts[r->started++];
    a->link = tcp_dial(r->w, &a->to, r->flags);
    link_own(a->link, &a->wake);
    wake_post(r->w, &a->wake);
    if (r->started < r->count)
        timer_set(r->w, &r->stagger, RACE_STAGGER_MS);
}

static void on_attempt(struct wake *wake)
{
    struct race_attempt *a = container_of(wake, struct race_attempt, wake);
    struct race *r = a->r;
    enum link_status st = link_open(a->link);
    if (st == LINK_AGAIN)
        return;
    struct link *link = a->link;
    a->link = NULL;
    if (st == LINK_OK) {
        link_own(link, NULL);
        finish(r, link, &a->to);
        return;
    }
    add_failure(r, &link->err);
    link_close(link);
    if (++r->failed == r->count)
        finish(r, NULL, NULL);
    else
        start_next(r);
}

static void on_stagger(struct timer *timer) { start_next(container_of(timer, struct race, stagger)); }

static void on_deadline(struct timer *timer)
{
    struct race *r = container_of(timer, struct race, deadline);
    for (size_t i = 0; i < r->started; i++) {
        struct err e = ERR_INIT;
        char text[ADDR_TEXT_MAX];
        if (!r->attempts[i].link)
            continue;
        err_set(&e, ERR_UNREACHED, WHY_TIMEOUT, "connect %s: no answer in %d s", addr_text(&r->attempts[i].to, text),
                RACE_MS / 1000);
        add_failure(r, &e);
        err_fini(&e);
    }
    finish(r, NULL, NULL);
}

void race_start(struct race *r, struct worker *w, const struct addr *addrs, size_t count, int flags,
                void (*on_done)(struct race *r, struct link *link, const struct addr *to, const struct err *err))
{
    memset(r, 0, sizeof(*r));
    r->w = w;
    r->flags = flags;
    r->on_done = on_done;
    r->count = count < RACE_MAX ? count : RACE_MAX;
    r->attempts = calloc(r->count, sizeof(*r->attempts));
    if (!r->attempts)
        abort(); // as everywhere: bounded long before
    for (size_t i = 0; i < r->count; i++) {
        struct race_attempt *a = &r->attempts[i];
        a->r = r;
        a->to = addrs[i];
        wake_init(&a->wake, on_attempt);
    }
    timer_init(&r->stagger, on_stagger);
    timer_init(&r->deadline, on_deadline);
    timer_set(w, &r->deadline, RACE_MS);
    start_next(r);
}

void race_stop(struct race *r)
{
    if (!r->attempts)
        return;
    clear(r);
    err_fini(&r->err);
}
