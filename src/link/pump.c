// SPDX-License-Identifier: Apache-2.0
#include "link/pump.h"

#define TURN_BUFS 16 // buffers a direction and wake, so that one pair does not hold the others up

enum moved { MOVED_ALL, MOVED_PART, MOVED_FAILED };

static void finish(struct pump *p, struct link *culprit)
{
    struct err err = ERR_INIT;
    if (culprit) {
        err_copy(&err, &culprit->err);
        link_shut(p->a, SHUT_ABORT);
        link_shut(p->b, SHUT_ABORT);
    }
    p->done = true;
    wake_cancel(&p->wake);
    link_close(p->a);
    link_close(p->b);
    p->a = p->b = NULL;
    p->on_done(p, culprit ? &err : NULL); // the last touch: it may free the pump
    err_fini(&err);
}

static enum moved move(struct link *from, struct link *to, bool *ended, uint64_t *bytes)
{
    for (int i = 0; i < TURN_BUFS; i++) {
        struct buf *b;
        if (*ended || (from->appetite = link_room(to)) == 0)
            return MOVED_ALL;
        switch (link_recv(from, &b)) {
        case LINK_OK:
            *bytes += b->len;
            link_send(to, b);
            break;
        case LINK_AGAIN:
            return MOVED_ALL;
        case LINK_END:
            *ended = true;
            link_shut(to, SHUT_END);
            break;
        case LINK_FAILED:
            return MOVED_FAILED;
        }
    }
    return MOVED_PART;
}

// A link that has given its end can show a failure only by its error.
static struct link *failed_silently(struct pump *p)
{
    if (p->a_ended && err_is(&p->a->err))
        return p->a;
    return p->b_ended && err_is(&p->b->err) ? p->b : NULL;
}

static void on_wake(struct wake *wake)
{
    struct pump *p = container_of(wake, struct pump, wake);
    enum moved ab = move(p->a, p->b, &p->a_ended, &p->a_to_b);
    if (ab == MOVED_FAILED) {
        finish(p, p->a);
        return;
    }
    enum moved ba = move(p->b, p->a, &p->b_ended, &p->b_to_a);
    if (ba == MOVED_FAILED) {
        finish(p, p->b);
        return;
    }
    // After its end a link has room again once nothing can be lost by closing it.
    bool over = p->a_ended && p->b_ended && link_room(p->a) > 0 && link_room(p->b) > 0;
    struct link *culprit = failed_silently(p);
    if (over || culprit)
        finish(p, culprit);
    else if (ab == MOVED_PART || ba == MOVED_PART)
        wake_post(p->w, wake);
}

void pump_start(struct pump *p, struct worker *w, struct link *a, struct link *b, struct buf *early,
                void (*on_done)(struct pump *pump, const struct err *err))
{
    *p = (struct pump){.w = w, .a = a, .b = b, .on_done = on_done};
    wake_init(&p->wake, on_wake);
    link_own(a, &p->wake);
    link_own(b, &p->wake);
    if (early) {
        p->a_to_b += early->len;
        link_send(b, early);
    }
    wake_post(w, &p->wake);
}

void pump_stop(struct pump *p)
{
    if (p->done)
        return;
    p->done = true;
    wake_cancel(&p->wake);
    link_shut(p->a, SHUT_ABORT);
    link_shut(p->b, SHUT_ABORT);
    link_close(p->a);
    link_close(p->b);
    p->a = p->b = NULL;
}
