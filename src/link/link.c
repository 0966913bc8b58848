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
