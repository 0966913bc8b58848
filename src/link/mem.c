// SPDX-License-Identifier: Apache-2.0
#include "link/mem.h"
#include <stdlib.h>

#define MEM_QUEUE_MAX (256 * 1024)

struct mem;

// What lies between the two ends; outlives the end that is closed first.
struct cable {
    struct mem *end[2];
    struct bufq queue[2]; // queue[i]: sent by end i, not read yet
    bool ended[2], aborted[2]; // by end i
};

struct mem {
    struct link link;
    struct cable *cable;
    int side;
    struct mem_plan plan;
    uint32_t steps, recvs, rooms, opens;
    bool room_owed;
};

static struct mem *of(struct link *l) { return container_of(l, struct mem, link); }

static void wake_side(struct cable *c, int side)
{
    if (c->end[side])
        link_wake(&c->end[side]->link);
}

static void abort_cable(struct mem *m)
{
    m->cable->aborted[m->side] = true;
    wake_side(m->cable, !m->side);
}

// Counts a step of recv or send; true when the plan lets it fail.
static bool fails(struct mem *m)
{
    if (++m->steps != m->plan.fail_at)
        return false;
    link_fail(&m->link, ERR_FAILED, WHY_ABORTED, "memory link failed at step %u", m->steps);
    abort_cable(m);
    return true;
}

static enum link_status mem_open(struct link *l)
{
    struct mem *m = of(l);
    if (err_is(&l->err))
        return LINK_FAILED;
    if (m->opens == m->plan.open_again)
        return LINK_OK;
    m->opens++;
    link_wake(l);
    return LINK_AGAIN;
}

static struct buf *take(struct mem *m, struct bufq *q)
{
    struct buf *b = bufq_pop(q);
    size_t cut = m->plan.cut;
    if (!cut || b->len <= cut)
        return b;
    struct buf *piece = buf_split(b, cut);
    bufq_push_front(q, b);
    return piece;
}

static size_t room_left(const struct mem *m)
{
    size_t max = m->plan.queue_max ? m->plan.queue_max : MEM_QUEUE_MAX;
    size_t queued = m->cable->queue[m->side].bytes;
    return queued < max ? max - queued : 0;
}

static enum link_status mem_recv(struct link *l, struct buf **out)
{
    struct mem *m = of(l);
    struct cable *c = m->cable;
    struct bufq *q = &c->queue[!m->side];
    if (err_is(&l->err) || fails(m))
        return LINK_FAILED;
    m->recvs++;
    if (m->recvs == m->plan.again_at || (m->plan.again_every && m->recvs % m->plan.again_every == 0)) {
        link_wake(l);
        return LINK_AGAIN;
    }
    if (!bufq_empty(q)) {
        *out = take(m, q);
        struct mem *peer = c->end[!m->side];
        if (peer && peer->room_owed && room_left(peer) > 0) {
            peer->room_owed = false;
            link_wake(&peer->link);
        }
        return LINK_OK;
    }
    if (c->aborted[!m->side])
        return link_fail(l, ERR_FAILED, WHY_ABORTED, "memory link aborted by its peer");
    return c->ended[!m->side] ? LINK_END : LINK_AGAIN;
}

static void mem_send(struct link *l, struct buf *b)
{
    struct mem *m = of(l);
    struct cable *c = m->cable;
    if (!err_is(&l->err) && fails(m))
        link_wake(l);
    if (err_is(&l->err) || !c->end[!m->side] || b->len == 0) {
        buf_put(b);
        return;
    }
    bufq_push(&c->queue[m->side], b);
    wake_side(c, !m->side);
}

static size_t mem_room(struct link *l)
{
    struct mem *m = of(l);
    if (err_is(&l->err) || !m->cable->end[!m->side])
        return MEM_QUEUE_MAX;
    m->rooms++;
    if (m->rooms == m->plan.noroom_at || (m->plan.noroom_every && m->rooms % m->plan.noroom_every == 0)) {
        link_wake(l);
        return 0;
    }
    if (m->cable->ended[m->side])
        return MEM_QUEUE_MAX; // what was sent outlives this end
    size_t room = room_left(m);
    m->room_owed = room == 0;
    return room;
}

static void mem_shut(struct link *l, enum link_shut how)
{
    struct mem *m = of(l);
    if (how == SHUT_END) {
        m->cable->ended[m->side] = true;
        wake_side(m->cable, !m->side);
        return;
    }
    link_fail(l, ERR_FAILED, WHY_ABORTED, "memory link aborted here");
    abort_cable(m);
}

static void mem_fini(struct link *l)
{
    struct mem *m = of(l);
    struct cable *c = m->cable;
    c->end[m->side] = NULL;
    bufq_clear(&c->queue[!m->side]);
    if (!c->ended[m->side])
        c->aborted[m->side] = true;
    if (c->end[!m->side]) {
        wake_side(c, !m->side);
    } else {
        bufq_clear(&c->queue[m->side]);
        free(c);
    }
    free(l->facts);
    free(m);
}

static const struct link_ops mem_ops = {
    .name = "mem",
    .open = mem_open,
    .recv = mem_recv,
    .send = mem_send,
    .room = mem_room,
    .shut = mem_shut,
    .fini = mem_fini,
};

static struct link *mem_new(struct worker *w, struct cable *c, int side, const struct mem_plan *plan)
{
    struct mem *m = calloc(1, sizeof(*m));
    if (!m)
        abort();
    link_init(&m->link, &mem_ops, w, NULL);
    m->link.facts = calloc(1, sizeof(*m->link.facts));
    m->cable = c;
    m->side = side;
    if (plan)
        m->plan = *plan;
    c->end[side] = m;
    return &m->link;
}

void mem_pair(struct worker *w, struct link **a, struct link **b, const struct mem_plan *plan_a,
              const struct mem_plan *plan_b)
{
    struct cable *c = calloc(1, sizeof(*c));
    if (!c)
        abort();
    *a = mem_new(w, c, 0, plan_a);
    *b = mem_new(w, c, 1, plan_b);
}

struct bufq *mem_in_flight(struct link *l) { return &of(l)->cable->queue[of(l)->side]; }
