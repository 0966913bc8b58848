// SPDX-License-Identifier: Apache-2.0
#include "apps.h"
#include <stdio.h>
#include "fate.h"

static void on_wake(struct wake *wake) { container_of(wake, struct app, wake)->ready = true; }

void app_start(struct app *a, struct stream *st)
{
    a->l = stream_link(st);
    a->id = stream_id(st);
    stream_set_user(st, a);
    a->ready = true;
    wake_init(&a->wake, on_wake);
    link_own(a->l, &a->wake);
}

static void app_close(struct app *a)
{
    if (!a->closed && a->l)
        link_close(a->l);
    wake_cancel(&a->wake);
    a->closed = true;
    a->l = NULL;
}

static void app_failed(struct app *a)
{
    a->failed = true;
    a->why = a->l->err.why;
    app_close(a);
}

void app_check(struct app *a)
{
    if (!a->closed && err_is(&a->l->err))
        app_failed(a);
}

static void app_read(struct app *a)
{
    struct buf *b;
    switch (link_recv(a->l, &b)) {
    case LINK_OK:
        for (uint32_t i = 0; i < b->len; i++)
            if (buf_data(b)[i] != pattern(a->pair->key, !a->dir, a->got + i))
                fail("pair %" PRIu64 ": byte %" PRIu64 " is wrong", a->pair->key, a->got + i);
        a->got += b->len;
        buf_put(b);
        return;
    case LINK_END:
        if (!a->got_end && a->got != a->pair->end[!a->dir].sent)
            fail("pair %" PRIu64 ": end after %" PRIu64 " of %" PRIu64 " bytes", a->pair->key, a->got,
                 a->pair->end[!a->dir].sent);
        a->got_end = true;
        return;
    case LINK_FAILED:
        app_failed(a);
        return;
    case LINK_AGAIN:
        return;
    }
}

void app_finish_sending(struct app *a)
{
    if (a->ending == END_FIN) {
        link_shut(a->l, SHUT_END);
        a->fin_sent = true;
        return;
    }
    a->aborted = true;
    if (a->ending == END_ABORT)
        link_shut(a->l, SHUT_ABORT);
    app_close(a);
}

// True: it sent something.
static bool app_write(struct app *a)
{
    if (a->fin_sent)
        return false;
    if (a->sent == a->total) {
        app_finish_sending(a);
        return true;
    }
    if (link_room(a->l) == 0)
        return false;
    uint64_t n = 1 + below(chance(50) ? 200 : BUF_ROOM);
    if (n > a->total - a->sent)
        n = a->total - a->sent;
    struct buf *b = buf_get(&a->w->pool);
    for (uint64_t i = 0; i < n; i++)
        buf_data(b)[i] = pattern(a->pair->key, a->dir, a->sent + i);
    b->len = (uint32_t)n;
    link_send(a->l, b);
    a->sent += n;
    return true;
}

bool app_may_act(const struct app *a) { return a->l && a->ready; }

bool app_open(struct app *a)
{
    enum link_status status = link_open(a->l);
    if (status == LINK_OK) {
        a->is_open = true;
    } else if (status == LINK_FAILED) {
        app_failed(a);
    } else if (a->pair->datagram || a->dir || a->sent == a->total || !chance(30) || !app_write(a)) { // else: early data
        a->ready = false;
        if (a->dir == 0 && a->ending == END_CLOSE && chance(2)) { // gives up while it waits
            a->aborted = true;
            app_close(a);
        }
    }
    return a->is_open;
}

void app_move(struct app *a, unsigned stall_max)
{
    bool moved = chance(50) && app_write(a);
    if (a->closed || a->stall) {
        a->stall -= a->stall > 0;
        return;
    }
    if (chance(1))
        a->stall = (uint32_t)below(stall_max);
    uint64_t got = a->got;
    bool had_end = a->got_end;
    app_read(a);
    if (a->closed)
        return;
    moved |= got != a->got || had_end != a->got_end;
    if (a->got_end && a->fin_sent) {
        app_close(a);
        return;
    }
    if (!moved && !a->fin_sent) // it might just not have tried
        moved = app_write(a);
    if (!moved && !a->closed)
        a->ready = false;
}

// Pairs --------------------------------------------------------------------------------------------------------

static void app_plan(struct pair *p, struct worker *w, int dir)
{
    static const uint64_t sizes[] = {0, 1, 100, 16328, 16329, 40000, 300000};
    struct app *a = &p->end[dir];
    unsigned how = (unsigned)below(100);
    *a = (struct app){.w = w, .pair = p, .dir = dir};
    a->ending = how < 75 ? END_FIN : how < 88 ? END_ABORT : END_CLOSE;
    a->total = p->datagram ? below(40) : chance(40) ? sizes[below(7)] : below(60000);
    if (p->datagram && a->ending == END_FIN)
        a->ending = END_ABORT;
    wake_init(&a->wake, on_wake);
}

void pair_plan(struct pair *p, struct worker *w)
{
    p->answer_in = (uint32_t)below(chance(50) ? 3 : chance(90) ? 100 : 3000); // also longer than the storm
    app_plan(p, w, 0);
    app_plan(p, w, 1);
}

void pair_answer(struct pair *p)
{
    if (!p->asked || p->answer_in-- > 0)
        return;
    struct app *a = &p->end[1];
    struct stream *st = p->asked;
    p->asked = NULL;
    if (a->closed)
        return;
    if (p->accepts) {
        stream_accept(st, NULL);
        a->ready = true;
    } else {
        p->refused = true;
        stream_refuse(st, WHY_REFUSED, "no");
        app_close(a);
    }
}

bool pair_is_over(const struct pair *p) { return !p->end[0].l && !p->end[1].l; }

static void check_end(const struct pair *p, int dir)
{
    const struct app *a = &p->end[dir], *b = &p->end[!dir];
    if (p->datagram || a->aborted)
        return;
    if (p->refused) {
        if (dir == 0 && (!a->failed || a->why != WHY_REFUSED))
            fail("pair %" PRIu64 ": the refusal did not arrive", p->key);
        return;
    }
    if (dir == 1 && !a->closed)
        return; // aborted before it was asked
    if (b->aborted) { // an abort travels behind the data, unless it came before the answer
        if (!a->failed && !(a->got_end && a->fin_sent))
            fail("pair %" PRIu64 " end %d: the abort did not arrive", p->key, dir);
        if (b->is_open && a->got != b->sent)
            fail("pair %" PRIu64 " end %d (stream %u, why %d): %" PRIu64 " of %" PRIu64 " bytes before the abort", p->key,
                 dir, a->id, a->why, a->got, b->sent);
    } else if (!a->got_end || a->got != b->total) {
        fail("pair %" PRIu64 " end %d (stream %u, why %d): got %" PRIu64 " of %" PRIu64, p->key, dir, a->id, a->why, a->got,
             b->total);
    }
}

void pair_check(const struct pair *p)
{
    check_end(p, 0);
    check_end(p, 1);
}

void pair_show(const struct pair *p)
{
    for (int d = 0; d < 2; d++) {
        const struct app *a = &p->end[d];
        if (a->l)
            fprintf(stderr,
                    "  pair %" PRIu64 " end %d: stream %u open %d ready %d sent %" PRIu64 "/%" PRIu64 " got %" PRIu64
                    " fin %d end %d\n",
                    p->key, d, stream_id(stream_of(a->l)), a->is_open, a->ready, a->sent, a->total, a->got, a->fin_sent,
                    a->got_end);
    }
}
