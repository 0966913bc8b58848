// SPDX-License-Identifier: Apache-2.0
#include "link/poll_server.h"
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

struct server {
    struct link link;
    struct poll_out down;
    struct poll_in up;
    struct list guests;
    struct wake news;      // late: what a turn sends goes in one answer
    struct timer forgotten;
    bool known, room_owed;
    uint32_t most;         // no more waits than the next GET takes: the session's schedule decides late
    void (*on_gone)(void *ctx);
    void *ctx;
};

static struct server *of(const struct link *l) { return container_of(l, struct server, link); }

static void tell_guests(struct server *s)
{
    list_each(&s->guests, it) wake_post(s->link.w, list_entry(it, struct poll_guest, node)->wake);
}

static void on_news(struct wake *wake) { tell_guests(container_of(wake, struct server, news)); }

static bool fail(struct server *s, enum err_why why, const char *text)
{
    link_fail(&s->link, ERR_FAILED, why, "long-poll: %s", text);
    link_wake(&s->link);
    tell_guests(s);
    return false;
}

static void on_forgotten(struct timer *t)
{
    fail(container_of(t, struct server, forgotten), WHY_LOST, "the agent asks no more");
}

static void wait_for_guests(struct server *s)
{
    if (list_empty(&s->guests))
        timer_set(s->link.w, &s->forgotten, s->known ? POLL_FORGOTTEN_MS : POLL_STRANGER_MS);
    else
        timer_stop(s->link.w, &s->forgotten);
}

// --- for who answers requests

void poll_server_known(struct link *l)
{
    of(l)->known = true;
    wait_for_guests(of(l));
}

void poll_server_join(struct link *l, struct poll_guest *g)
{
    g->l = l;
    list_push(&of(l)->guests, &g->node);
    wait_for_guests(of(l));
}

void poll_server_leave(struct poll_guest *g)
{
    if (!g->l)
        return;
    struct server *s = of(g->l);
    g->l = NULL;
    list_del(&g->node);
    if (!s->link.closed)
        wait_for_guests(s);
}

static size_t room_left(const struct server *s)
{
    uint64_t waiting = poll_out_waiting(&s->down);
    size_t held = s->down.held.bytes;
    if (waiting >= s->most || held >= POLL_HELD_MAX)
        return 0;
    size_t a = (size_t)(s->most - waiting), b = POLL_HELD_MAX - held;
    return a < b ? a : b;
}

static void pay_room(struct server *s)
{
    if (!s->room_owed || !(s->down.ended ? poll_out_is_done(&s->down) : room_left(s) > 0))
        return;
    s->room_owed = false;
    link_wake(&s->link);
}

bool poll_server_hear(struct link *l, const struct poll_request *r)
{
    struct server *s = of(l);
    if (err_is(&l->err))
        return false;
    if (r->abort)
        return fail(s, WHY_ABORTED, "aborted by the agent");
    if (!poll_out_ack(&s->down, r->acked))
        return fail(s, WHY_PROTOCOL, "the agent acknowledges what was never sent");
    uint32_t low = s->down.low;
    poll_out_low(&s->down, r->low);
    if (s->down.low != low)
        tell_guests(s); // those that are over, and those that get what these have left
    pay_room(s);
    return true;
}

bool poll_server_take(struct link *l, uint64_t offset, struct buf *b)
{
    struct server *s = of(l);
    bool strange = !s->known && offset > s->up.next && s->up.ahead + b->len > POLL_STRANGER_MAX;
    if (err_is(&l->err) || strange) { // what is not kept will be sent again
        s->up.refused += b->len;
        buf_put(b);
        return strange;
    }
    if (!poll_in_take(&s->up, offset, b))
        return fail(s, WHY_PROTOCOL, "the agent sends behind its end");
    if (!bufq_empty(&s->up.ready) || poll_in_is_done(&s->up))
        link_wake(l);
    return true;
}

bool poll_server_end(struct link *l, uint64_t final)
{
    struct server *s = of(l);
    if (err_is(&l->err))
        return false;
    if (!poll_in_end(&s->up, final))
        return fail(s, WHY_PROTOCOL, "the agent contradicts its end");
    if (poll_in_is_done(&s->up))
        link_wake(l);
    return true;
}

bool poll_server_thirsty(const struct link *l) { return of(l)->up.ready.bytes < POLL_READY_MAX; }

bool poll_server_give(struct link *l, const struct poll_request *r, struct poll_piece *piece)
{
    struct server *s = of(l);
    s->most = r->most > 2 * BUF_SIZE ? r->most : 2 * BUF_SIZE;
    *piece = (struct poll_piece){.offset = s->down.given};
    if (err_is(&l->err) || r->number < s->down.low)
        return true; // whoever asked has his answer already
    if (!poll_out_give(&s->down, r->number, r->most, piece))
        return false;
    pay_room(s);
    return true;
}

bool poll_server_copy(struct link *l, uint64_t offset, size_t most, struct buf *b)
{
    return !l->closed && poll_out_copy(&of(l)->down, offset, most, b);
}

uint64_t poll_server_refused(const struct link *l) { return of(l)->up.refused; }

uint64_t poll_server_acked(const struct link *l) { return of(l)->up.next; }

bool poll_server_failed(const struct link *l) { return l->closed || err_is(&l->err); }

// --- the link

static enum link_status server_open(struct link *l) { return err_is(&l->err) ? LINK_FAILED : LINK_OK; }

static enum link_status server_recv(struct link *l, struct buf **out)
{
    struct server *s = of(l);
    bool was_full = !poll_server_thirsty(l);
    if ((*out = bufq_pop(&s->up.ready))) {
        if (was_full && poll_server_thirsty(l))
            tell_guests(s);
        return LINK_OK;
    }
    if (err_is(&l->err))
        return LINK_FAILED;
    return poll_in_is_done(&s->up) ? LINK_END : LINK_AGAIN;
}

static void server_send(struct link *l, struct buf *b)
{
    struct server *s = of(l);
    if (err_is(&l->err) || s->down.ended || b->len == 0) {
        buf_put(b);
        return;
    }
    poll_out_push(&s->down, b);
    wake_post_late(l->w, &s->news);
}

static size_t server_room(struct link *l)
{
    struct server *s = of(l);
    if (err_is(&l->err) || poll_out_is_done(&s->down))
        return BUF_SIZE;
    size_t room = s->down.ended ? 0 : room_left(s);
    s->room_owed = room == 0;
    return room;
}

static void server_shut(struct link *l, enum link_shut how)
{
    struct server *s = of(l);
    if (how == SHUT_ABORT) {
        fail(s, WHY_ABORTED, "aborted");
        return;
    }
    s->down.ended = true;
    wake_post_late(l->w, &s->news);
}

// Requests in hand are answered by an abort.
static void server_fini(struct link *l)
{
    struct server *s = of(l);
    list_each(&s->guests, it)
    {
        struct poll_guest *g = list_entry(it, struct poll_guest, node);
        list_del(&g->node);
        g->l = NULL;
        wake_post(l->w, g->wake);
    }
    wake_cancel(&s->news);
    timer_stop(l->w, &s->forgotten);
    poll_out_fini(&s->down);
    poll_in_fini(&s->up);
    if (s->on_gone)
        s->on_gone(s->ctx);
    free(l->facts);
    free(s);
}

static const struct link_ops server_ops = {
    .name = "long-poll",
    .open = server_open,
    .recv = server_recv,
    .send = server_send,
    .room = server_room,
    .shut = server_shut,
    .fini = server_fini,
};

struct link *poll_server_new(struct worker *w, const struct link_facts *facts, void (*on_gone)(void *ctx), void *ctx)
{
    struct server *s = calloc(1, sizeof(*s));
    if (!s)
        abort();
    link_init(&s->link, &server_ops, w, NULL);
    s->link.facts = calloc(1, sizeof(*s->link.facts));
    if (!s->link.facts)
        abort();
    if (facts)
        *s->link.facts = *facts;
    s->link.facts->has_exporter = false; // no one connection is the carrier
    OPENSSL_cleanse(s->link.facts->exporter, sizeof(s->link.facts->exporter));
    list_init(&s->guests);
    wake_init(&s->news, on_news);
    timer_init(&s->forgotten, on_forgotten);
    s->most = POLL_BODY_MAX;
    s->on_gone = on_gone;
    s->ctx = ctx;
    wait_for_guests(s);
    return &s->link;
}
