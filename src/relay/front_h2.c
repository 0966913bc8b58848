// SPDX-License-Identifier: Apache-2.0
// HTTP/2 at the front: the caller's connection goes to a hub, and each of its streams is a caller of its own, which speaks HTTP/1.1.
#include "core/log.h"
#include "link/h2.h"
#include "relay/front.h"

static bool on_stream(struct h2 *h, struct link *l)
{
    struct front_caller *parent = h2_owner(h);
    return front_stream(parent, l) != NULL;
}

static void forget_parent(struct front_caller *parent)
{
    list_each(&parent->f->callers, it)
    {
        struct front_caller *k = list_entry(it, struct front_caller, node);
        if (k->parent == parent)
            k->parent = NULL;
    }
}

static void on_over(struct h2 *h, const struct err *err)
{
    struct front_caller *k = h2_owner(h);
    forget_parent(k);
    k->hub = NULL; // it frees itself
    front_end_saying(k, "HTTP/2", err);
}

static const struct h2_ops ops = {.on_stream = on_stream, .on_over = on_over};

void front_h2(struct front_caller *k)
{
    struct front *f = k->f;
    k->stage = FRONT_HUB;
    timer_set(f->w, &k->deadline, FRONT_LIFE_MS); // the hub has its own for all else
    k->hub = h2_server_over(k->top, &(struct h2_options){.who = "caller", .ops = &ops, .owner = k}, &f->hubs, NULL);
    k->top = NULL;
}

void front_h2_end(struct front_caller *k)
{
    if (!k->hub)
        return;
    forget_parent(k);
    h2_free(k->hub);
    k->hub = NULL;
}

void front_drain(struct front *f)
{
    list_each(&f->callers, it)
    {
        struct front_caller *k = list_entry(it, struct front_caller, node);
        if (k->hub)
            h2_drain(k->hub);
    }
}
