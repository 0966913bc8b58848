// SPDX-License-Identifier: Apache-2.0
#include "forward/caller.h"
#include <stdlib.h>

static void bury(struct grave *g) { free(container_of(g, struct caller, grave)); }

void caller_drop(struct caller *c)
{
    struct worker *w = c->all->w;
    c->all->fini(c);
    wake_cancel(&c->wake);
    timer_stop(w, &c->deadline);
    list_del(&c->node);
    c->all->count--;
    worker_bury(w, &c->grave, bury);
}

static void hang_up(struct caller *c)
{
    link_close(c->link);
    caller_drop(c);
}

void caller_refuse(struct caller *c)
{
    c->refused = true;
    link_shut(c->link, SHUT_END);
    timer_set(c->all->w, &c->deadline, CALLER_REFUSED_MS);
}

static enum caller_heard hear_out(struct caller *c)
{
    struct buf *b;
    enum link_status s;
    while ((s = link_recv(c->link, &b)) == LINK_OK)
        buf_put(b);
    return s == LINK_AGAIN ? CALLER_WAITS : CALLER_ENDED;
}

static void on_wake(struct wake *wake)
{
    struct caller *c = container_of(wake, struct caller, wake);
    enum caller_heard heard = c->refused ? CALLER_ENDED : c->all->hear(c);
    if (heard == CALLER_IS_GONE)
        return;
    if (c->refused)
        heard = hear_out(c);
    if (heard == CALLER_ENDED)
        hang_up(c);
}

static void on_deadline(struct timer *timer) { hang_up(container_of(timer, struct caller, deadline)); }

struct caller *caller_new(struct callers *all, size_t size, struct link *link)
{
    struct caller *c = all->count < all->max ? calloc(1, size) : NULL;
    if (!c) {
        link_close(link);
        return NULL;
    }
    c->all = all;
    c->link = link;
    wake_init(&c->wake, on_wake);
    timer_init(&c->deadline, on_deadline);
    timer_set(all->w, &c->deadline, all->ms);
    list_push(&all->list, &c->node);
    all->count++;
    link_own(link, &c->wake);
    wake_post(all->w, &c->wake);
    return c;
}

void callers_end(struct callers *all)
{
    list_each(&all->list, it) hang_up(list_entry(it, struct caller, node));
}
