// SPDX-License-Identifier: Apache-2.0
#include "link/link.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

void link_init(struct link *l, const struct link_ops *ops, struct worker *w, struct link *below)
{
    *l = (struct link){.ops = ops, .w = w, .below = below};
    list_init(&l->grave.node);
    if (below) {
        assert(!below->above && !below->closed);
        below->above = l;
        l->w = below->w;
        l->facts = below->facts;
    }
}

void link_own(struct link *top, struct wake *owner)
{
    assert(!top->above);
    top->owner = owner;
}

void link_wake(struct link *l)
{
    if (l->closed) // a stream may live longer than the links over it
        return;
    while (l->above)
        l = l->above;
    if (l->owner)
        wake_post(l->w, l->owner);
}

enum link_status link_failed_below(struct link *l, const char *fmt, ...)
{
    if (err_is(&l->err))
        return LINK_FAILED;
    err_copy(&l->err, &l->below->err);
    if (!err_is(&l->err))
        err_set(&l->err, ERR_FAILED, WHY_INTERNAL, "%s failed", l->below->ops->name);
    if (fmt) {
        char place[ERR_TEXT_MAX];
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(place, sizeof(place), fmt, ap);
        va_end(ap);
        err_prefix(&l->err, "%s", place);
    }
    return LINK_FAILED;
}

enum link_status link_fail(struct link *l, enum err_kind kind, enum err_why why, const char *fmt, ...)
{
    if (err_is(&l->err))
        return LINK_FAILED; // the first one told is the cause
    va_list ap;
    va_start(ap, fmt);
    err_vset(&l->err, kind, why, fmt, ap);
    va_end(ap);
    return LINK_FAILED;
}

static enum link_status pass_failure(struct link *l, const char *via)
{
    return via ? link_failed_below(l, "via %s", via) : link_failed_below(l, NULL);
}

enum link_status link_pass_recv(struct link *l, struct bufq *rest, const char *via, struct buf **out)
{
    if (err_is(&l->err))
        return LINK_FAILED;
    if ((*out = bufq_pop(rest)))
        return LINK_OK;
    l->below->appetite = l->appetite;
    enum link_status s = link_recv(l->below, out);
    return s == LINK_FAILED ? pass_failure(l, via) : s;
}

size_t link_pass_room(struct link *l, const char *via)
{
    if (err_is(&l->err))
        return BUF_SIZE;
    size_t room = link_room(l->below);
    if (room && err_is(&l->below->err))
        pass_failure(l, via);
    return room;
}

void link_pass_send(struct link *l, struct buf *b) { link_send(l->below, b); }

void link_pass_shut(struct link *l, enum link_shut how)
{
    if (how == SHUT_ABORT)
        link_fail(l, ERR_FAILED, WHY_ABORTED, "aborted");
    link_shut(l->below, how);
}

void link_note_path(struct link *l, const char *proxy)
{
    struct link_facts *f = l->facts;
    if (!f)
        return;
    size_t at = strcmp(f->path, "direct") == 0 ? 0 : strlen(f->path);
    snprintf(f->path + at, sizeof(f->path) - at, "%s%s", at ? ", " : "via ", proxy);
}

static void bury(struct grave *g)
{
    struct link *l = container_of(g, struct link, grave);
    err_fini(&l->err);
    l->ops->fini(l);
}

void link_close(struct link *top)
{
    if (!top || top->closed)
        return;
    assert(!top->above);
    for (struct link *l = top; l; l = l->below) {
        l->closed = true;
        worker_bury(l->w, &l->grave, bury);
    }
}
