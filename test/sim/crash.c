// SPDX-License-Identifier: Apache-2.0
// A deterministic simulation of streams between two agents whose relays die: two agents, one or two relays that forget
// everything at random moments (or one of their sessions), carriers that are cut anywhere, agents that leave one relay for the
// other. Each schedule is made from one seed. Nothing is lost but what was never answered: all has to arrive whole, once, in order;
// a service is dialled once; and in the end everything is freed everywhere.
//
//   crash [--seed N] [--count N] [--relays 1|2] [--verbose]
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/worker.h"
#include "session/meet.h"
#include "session/stream.h"

#define SIM_NAME "crash"
#include "fate.h"

#define AGENTS 2
#define RELAYS_MAX 2
#define PAIRS_MAX 12
#define STEPS_STORM 900
#define STEPS_CALM 200000
#define KEEP_MS 60000

static bool verbose;

// World --------------------------------------------------------------------------------------------------------

enum ending { END_FIN, END_ABORT, END_CLOSE };

struct world;
struct pair;

struct app { // one end of one stream
    struct world *world;
    struct pair *pair;
    int dir; // 0: the opener
    struct link *l;
    struct wake wake;
    bool ready; // nothing is owed to it
    bool is_open, fin_sent, got_end, failed, aborted, closed;
    enum err_why why;
    enum ending ending;
    uint64_t total, sent, got;
    uint32_t stall; // steps it does not read
};

struct pair {
    uint64_t key;
    struct app end[2];
    unsigned from, to; // agents
    bool datagram, accepts, refused;
    uint32_t dials, answer_in;
    struct stream *asked;
};

struct leg { // an agent's way to a relay: one carrier at a time
    struct world *world;
    unsigned agent, relay;
    struct session near, far; // the agent's, the relay's
    bool known;               // the agent knows the relay's birth
    bool is_here;             // the relay has a session of it
    struct carrier c[2];      // near, far
    bool standing, up[2], wants[2], cut;
    struct bufq q[2]; // q[i]: bytes from end i
};

struct agent {
    struct meet meet;
    struct budget budget;
    unsigned favourite; // relay
};

struct world {
    struct worker w;
    struct budget root, relay_budget[AGENTS];
    struct agent agent[AGENTS];
    struct meet meet[RELAYS_MAX];
    struct leg leg[AGENTS][RELAYS_MAX];
    unsigned relays;
    struct pair pair[PAIRS_MAX];
    unsigned pairs, pairs_wanted;
    bool storm;
    uint64_t crashes, resumed;
};

// Applications: they act only when they are owed nothing, so that a missing wake shows as a hang ---------------------

static void on_wake(struct wake *wake) { container_of(wake, struct app, wake)->ready = true; }

static void app_start(struct app *a, struct stream *st)
{
    a->l = stream_link(st);
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
            fail("pair %" PRIu64 ": end after %" PRIu64 " bytes", a->pair->key, a->got);
        a->got_end = true;
        return;
    case LINK_FAILED:
        app_failed(a);
        return;
    case LINK_AGAIN:
        return;
    }
}

static void app_finish_sending(struct app *a)
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
    struct buf *b = buf_get(&a->world->w.pool);
    for (uint64_t i = 0; i < n; i++)
        buf_data(b)[i] = pattern(a->pair->key, a->dir, a->sent + i);
    b->len = (uint32_t)n;
    link_send(a->l, b);
    a->sent += n;
    return true;
}

static void app_dgram(struct app *a)
{
    uint8_t data[100] = {(uint8_t)a->pair->key};
    if (a->sent++ == a->total)
        app_finish_sending(a);
    else
        stream_send_dgram(stream_of(a->l), data, sizeof data);
}

static void on_dgram(struct session *s, struct stream *st, const uint8_t *data, size_t len)
{
    (void)s;
    struct app *a = stream_user(st);
    if (a && !a->closed && (len != 100 || data[0] != (uint8_t)a->pair->key))
        fail("pair %" PRIu64 ": a datagram of another flow", a->pair->key);
}

static void app_wait(struct app *a, enum link_status status)
{
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
}

static void app_step_dgram(struct app *a)
{
    if (chance(30))
        app_dgram(a);
    if (!a->closed && err_is(&a->l->err))
        app_failed(a);
}

static void app_step(struct app *a)
{
    if (!a->l || a->closed || !a->ready)
        return;
    if (!a->is_open) {
        app_wait(a, link_open(a->l));
        return;
    }
    if (a->pair->datagram) {
        app_step_dgram(a);
        return;
    }
    bool moved = chance(50) && app_write(a);
    if (a->closed || a->stall) {
        a->stall -= a->stall > 0;
        return;
    }
    if (chance(1))
        a->stall = (uint32_t)below(100);
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

// Agents and relays ---------------------------------------------------------------------------------------------

static struct pair *pair_of(struct world *world, const uint8_t uid[16])
{
    uint64_t key = get64(uid);
    if (key == 0 || key > world->pairs)
        fail("a stream nobody opened");
    return &world->pair[key - 1];
}

// The service is dialled: once, unless the first time it was refused.
static void on_open_agent(struct session *s, struct stream *st, const struct frame_open *open)
{
    struct leg *leg = s->owner;
    struct pair *p = pair_of(leg->world, open->uid);
    if (p->dials++ && !p->refused)
        fail("pair %" PRIu64 " was dialled twice", p->key);
    if (open->flags & OPEN_CONTINUE)
        fail("pair %" PRIu64 ": a stream that goes on was dialled", p->key);
    if (p->refused) {
        stream_refuse(st, WHY_REFUSED, "no");
        link_close(stream_link(st));
        return;
    }
    p->asked = st;
    app_start(&p->end[1], st);
}

static void on_open_relay(struct session *s, struct stream *st, const struct frame_open *open)
{
    struct leg *leg = s->owner;
    struct world *world = leg->world;
    struct pair *p = pair_of(world, open->uid);
    uint8_t pin[2][32] = {{(uint8_t)(1 + p->from)}, {(uint8_t)(1 + p->to)}};
    bool back = open->flags & OPEN_BACK;
    if (leg->agent != (back ? p->to : p->from) || (back && memcmp(open->identity, pin[0], 32) != 0))
        fail("pair %" PRIu64 ": asked for by who has no part in it", p->key);
    struct leg *peer = &world->leg[back ? p->from : p->to][leg->relay];
    switch (meet_pair(&world->meet[leg->relay], st, open, pin[0], pin[1])) {
    case MEET_PAIRED:
        return;
    case MEET_REFUSED:
        fail("pair %" PRIu64 ": both opened it", p->key);
    case MEET_NONE:
        break;
    }
    struct frame_open next = *open;
    next.has_identity = true;
    memcpy(next.identity, pin[back], 32);
    snprintf(next.agent, sizeof next.agent, "a%u", leg->agent);
    if (peer->is_here && (peer->up[1] || chance(50)) && switch_join(st, open, &peer->far, &next)) {
        meet_wait(&world->meet[leg->relay], st, open, pin[0], pin[1]);
        return;
    }
    stream_refuse(st, WHY_ABSENT, "not here");
    link_close(stream_link(st));
}

static void on_goaway(struct session *s, uint16_t code, uint32_t retry_ms, const char *text) {}

static const struct session_ops agent_ops = {.on_open = on_open_agent, .on_dgram = on_dgram, .on_goaway = on_goaway};
static const struct session_ops relay_ops = {.on_open = on_open_relay, .on_dgram = on_dgram, .on_goaway = on_goaway};

static void start_far(struct leg *leg)
{
    static const uint8_t id[16];
    session_init(&leg->far, &leg->world->w, false, id, &relay_ops, leg, &leg->world->relay_budget[leg->agent]);
    leg->known = leg->is_here = false;
}

static void start_near(struct leg *leg)
{
    static const uint8_t id[16];
    struct agent *a = &leg->world->agent[leg->agent];
    session_init(&leg->near, &leg->world->w, true, id, &agent_ops, leg, &a->budget);
    leg->near.meet = &a->meet;
}

// Carriers -------------------------------------------------------------------------------------------------------

static void on_output(struct carrier *c)
{
    bool *wants = c->owner;
    *wants = true;
}

static void end_down(struct leg *leg, int end)
{
    if (leg->up[end])
        carrier_down(&leg->c[end]);
    leg->up[end] = false;
}

static void leg_drop(struct leg *leg)
{
    for (int i = 0; i < 2; i++) {
        end_down(leg, i);
        bufq_clear(&leg->q[i]);
    }
    leg->standing = leg->cut = false;
}

static void end_up(struct leg *leg, int end)
{
    leg->c[end] = (struct carrier){0};
    leg->up[end] = leg->wants[end] = true;
    carrier_up(end ? &leg->far : &leg->near, &leg->c[end], on_output, &leg->wants[end]);
}

// WELCOME is read: another birth casts adrift what may go on, and ends the rest.
static void welcome(struct leg *leg)
{
    if (!leg->known) {
        meet_cast(&leg->world->agent[leg->agent].meet, &leg->near, false);
        session_end_streams(&leg->near, NULL);
    }
    leg->known = true;
    end_up(leg, 0);
}

static void leg_fill(struct leg *leg, int end)
{
    size_t most = (1 + below(3)) * BUF_SIZE;
    while (leg->up[end] && leg->wants[end] && leg->q[end].bytes < most) {
        struct buf *b = buf_get(&leg->world->w.pool);
        bool filled = carrier_fill(&leg->c[end], b);
        leg->wants[end] = filled;
        if (filled && !leg->cut)
            bufq_push(&leg->q[end], b);
        else
            buf_put(b);
    }
}

static void leg_deliver(struct leg *leg, int from)
{
    struct bufq *q = &leg->q[from];
    int to = !from;
    if (bufq_empty(q) || !leg->up[to])
        return;
    size_t n = chance(70) ? q->head->len : 1 + below(q->head->len);
    struct buf *b = buf_copy(&leg->world->w.pool, buf_data(q->head), n);
    bufq_drop(q, n);
    struct session *s = leg->c[to].s;
    if (carrier_recv(&leg->c[to], b) < 0)
        fail("%s %u: %s", to ? "relay" : "agent", to ? leg->relay : leg->agent, err_text(&s->err));
}

// Some of what is under way still arrives.
static void leg_cut(struct leg *leg)
{
    leg->cut = true;
    for (int i = 0; i < 2; i++) {
        size_t keep = below(leg->q[i].bytes + 1);
        struct bufq rest = {0};
        while (keep) {
            struct buf *b = bufq_pop(&leg->q[i]);
            b->len = b->len < keep ? b->len : (uint32_t)keep;
            keep -= b->len;
            bufq_push(&rest, b);
        }
        bufq_clear(&leg->q[i]);
        leg->q[i] = rest;
    }
}

static bool is_wanted(const struct leg *leg)
{
    return !leg->world->storm || leg->world->agent[leg->agent].favourite == leg->relay || chance(10);
}

static void leg_step(struct leg *leg)
{
    unsigned what = (unsigned)below(leg->world->storm ? 1000 : 900);
    if (!leg->standing) {
        if (is_wanted(leg) && chance(leg->world->storm ? 10 : 50)) {
            leg->standing = leg->is_here = true;
            end_up(leg, 1);
        }
    } else if (!leg->cut && !leg->up[0] && what < 300) {
        welcome(leg);
    } else if (what < 350) {
        leg_fill(leg, (int)below(2));
    } else if (what < 850) {
        leg_deliver(leg, (int)below(2));
    } else if (leg->cut && chance(20)) {
        leg_drop(leg);
    } else if (what >= 990 && !leg->cut) {
        leg_cut(leg);
    }
}

// Deaths -----------------------------------------------------------------------------------------------------------

static void forget(struct leg *leg, enum err_why why)
{
    struct err e = ERR_INIT;
    err_set(&e, ERR_FAILED, why, "forgotten");
    leg_drop(leg);
    session_fini(&leg->far, &e);
    err_fini(&e);
    start_far(leg);
}

static void kill_relay(struct world *world)
{
    unsigned r = (unsigned)below(world->relays);
    world->crashes++;
    for (unsigned a = 0; a < AGENTS; a++) // nobody is told anything any more
        leg_drop(&world->leg[a][r]);
    for (unsigned a = 0; a < AGENTS; a++)
        forget(&world->leg[a][r], WHY_LOST);
}

// An agent goes over to the other relay, for good or until it comes back; or all its carriers are cut.
static void change_relay(struct world *world)
{
    unsigned a = (unsigned)below(AGENTS);
    struct agent *agent = &world->agent[a];
    struct leg *old = &world->leg[a][agent->favourite];
    agent->favourite = (unsigned)below(world->relays);
    if (chance(50))
        leg_drop(old);
    if (&world->leg[a][agent->favourite] != old && chance(70))
        meet_cast(&agent->meet, &old->near, true);
}

// Adrift -------------------------------------------------------------------------------------------------------------

static void ask_one(struct tie *t, void *ctx)
{
    struct world *world = ctx;
    unsigned a = t->m == &world->agent[0].meet ? 0 : 1;
    struct leg *leg = &world->leg[a][below(world->relays)];
    bool answers = t->st->opener || (t->st->answered && !t->st->refused);
    if (!t->adrift_ms)
        return;
    if (!answers && world->w.now_ms - t->adrift_ms > KEEP_MS) { // whoever asked has had the refusal
        struct err e = ERR_INIT;
        err_set(&e, ERR_FAILED, WHY_LOST, "time is up");
        meet_lose(t, &e);
        err_fini(&e);
    } else if (!leg->up[0]) {
        return;
    } else if (meet_is_adrift(t)) {
        world->resumed += meet_ask(t, &leg->near);
    } else if (t->st->s != &leg->near && world->w.now_ms - t->asked_ms > 300) {
        meet_unask(t);
    }
}

// A session whose carrier is gone for long while another relay's stands is left.
static void leave_dead(struct world *world, unsigned a)
{
    for (unsigned r = 0; r < world->relays; r++)
        if (!world->leg[a][r].up[0] && world->leg[a][!r].up[0] && world->relays > 1 && chance(10))
            meet_cast(&world->agent[a].meet, &world->leg[a][r].near, true);
}

// Schedules ----------------------------------------------------------------------------------------------------

static void make_app(struct world *world, struct pair *p, int dir)
{
    static const uint64_t sizes[] = {0, 1, 100, 16328, 16329, 40000, 300000};
    struct app *a = &p->end[dir];
    unsigned how = (unsigned)below(100);
    *a = (struct app){.world = world, .pair = p, .dir = dir};
    a->ending = how < 75 ? END_FIN : how < 88 ? END_ABORT : END_CLOSE;
    a->total = p->datagram ? below(40) : chance(40) ? sizes[below(7)] : below(60000);
    if (p->datagram && a->ending == END_FIN)
        a->ending = END_ABORT;
    wake_init(&a->wake, on_wake);
}

static void open_pair(struct world *world)
{
    unsigned from = (unsigned)below(AGENTS), r = world->agent[from].favourite;
    struct leg *leg = &world->leg[from][r];
    if (!leg->up[0])
        return;
    struct pair *p = &world->pair[world->pairs++];
    *p = (struct pair){.key = world->pairs, .datagram = chance(15), .accepts = chance(85)};
    p->from = from;
    p->to = chance(95) ? !from : from;
    p->answer_in = (uint32_t)below(chance(50) ? 3 : chance(90) ? 100 : 3000); // also longer than the storm
    make_app(world, p, 0);
    make_app(world, p, 1);
    struct frame_open open = {.kind = OPEN_SERVICE, .datagram = p->datagram};
    put64(open.uid, p->key);
    snprintf(open.host, sizeof open.host, "service@a%u", p->to);
    app_start(&p->end[0], session_open(&leg->near, &open));
}

static void answer_step(struct pair *p)
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

static void tick(struct world *world)
{
    world->w.now_us += chance(90) ? below(2000) : below(40000);
    if (!world->storm && chance(2))
        world->w.now_us += below(3000000);
    world->w.now_ms = world->w.now_us / 1000;
    for (unsigned a = 0; a < AGENTS; a++)
        for (unsigned r = 0; r < world->relays; r++) {
            for (int i = 0; i < 2; i++)
                if (world->leg[a][r].up[i])
                    carrier_tick(&world->leg[a][r].c[i]); // a dead carrier is the storm's business here
        }
}

static void step(struct world *world)
{
    for (unsigned a = 0; a < AGENTS; a++) {
        for (unsigned r = 0; r < world->relays; r++)
            for (int i = 0; i < 3; i++)
                leg_step(&world->leg[a][r]);
        if (chance(world->storm ? 5 : 2))
            meet_each(&world->agent[a].meet, ask_one, world);
        if (chance(2))
            leave_dead(world, a);
    }
    for (unsigned i = 0; i < world->pairs; i++) {
        answer_step(&world->pair[i]);
        app_step(&world->pair[i].end[below(2)]);
    }
    if (world->pairs < world->pairs_wanted && chance(8))
        open_pair(world);
    if (world->storm && below(200) == 0)
        kill_relay(world);
    if (world->storm && below(300) == 0)
        forget(&world->leg[below(AGENTS)][below(world->relays)], WHY_MOVED);
    if (world->storm && world->relays > 1 && below(100) == 0)
        change_relay(world);
    if (chance(60))
        tick(world);
    worker_turn(&world->w);
}

static bool is_quiet(struct world *world)
{
    if (world->pairs < world->pairs_wanted)
        return false;
    for (unsigned i = 0; i < world->pairs; i++)
        for (int d = 0; d < 2; d++)
            if (world->pair[i].end[d].l)
                return false;
    for (unsigned a = 0; a < AGENTS; a++) {
        for (unsigned r = 0; r < world->relays; r++)
            if (world->leg[a][r].near.stream_count || world->leg[a][r].far.stream_count)
                return false;
        if (world->agent[a].meet.ties.count || world->agent[a].budget.used || world->relay_budget[a].used)
            return false;
    }
    return world->meet[0].ties.count == 0 && (world->relays == 1 || world->meet[1].ties.count == 0);
}

static void show(struct stream *st, void *ctx)
{
    fprintf(stderr,
            "  %s stream %u uid %" PRIu64 "%s: snd una %" PRIu64 " nxt %" PRIu64 " max %" PRIu64 " end %" PRIu64 " limit %" PRIu64
            " rcv nxt %" PRIu64 " read %" PRIu64 " final %" PRId64 " limit %" PRIu64 " due %x fin %d/%" PRId64 " rst %d/%" PRIu64
            " in %" PRId64 " opener %d answered %d asking %d refused %d tie %d twin %u\n",
            (const char *)ctx, st->node.key, get64(st->uid), st->datagram ? " flow" : "", st->snd_una, st->snd_nxt, st->snd_max,
            st->snd_end, st->snd_limit, st->rcv_nxt, st->rcv_read, (int64_t)st->rcv_final, st->limit_told, st->due, st->fin,
            (int64_t)st->fin_final, st->rst, st->rst_final, (int64_t)st->rst_in_final, st->opener, st->answered, st->asking,
            st->refused, st->tie != NULL, st->twin ? st->twin->node.key : 0);
}

static void hang(struct world *world)
{
    char name[40];
    for (unsigned a = 0; a < AGENTS; a++) {
        snprintf(name, sizeof name, "agent %u limbo", a);
        session_each_stream(&world->agent[a].meet.limbo, show, name);
        for (unsigned r = 0; r < world->relays; r++) {
            snprintf(name, sizeof name, "agent %u at relay %u", a, r);
            session_each_stream(&world->leg[a][r].near, show, name);
            snprintf(name, sizeof name, "relay %u for agent %u", r, a);
            session_each_stream(&world->leg[a][r].far, show, name);
        }
        fprintf(stderr, " agent %u: ties %u, budget %zu, at the relays %zu\n", a, world->agent[a].meet.ties.count,
                world->agent[a].budget.used, world->relay_budget[a].used);
    }
    for (unsigned i = 0; i < world->pairs; i++)
        for (int d = 0; d < 2; d++) {
            struct app *p = &world->pair[i].end[d];
            if (p->l)
                fprintf(stderr, "  pair %u end %d: open %d ready %d sent %" PRIu64 "/%" PRIu64 " got %" PRIu64 " fin %d end %d\n",
                        i + 1, d, p->is_open, p->ready, p->sent, p->total, p->got, p->fin_sent, p->got_end);
        }
    fail("hang");
}

static void check_end(struct pair *p, int dir)
{
    struct app *a = &p->end[dir], *b = &p->end[!dir];
    bool absent = p->end[0].failed && p->end[0].why == WHY_ABSENT && !p->end[0].is_open;
    if (p->datagram || a->aborted || absent) // what was never opened: nobody was there
        return;
    if (p->refused) {
        if (dir == 0 && (!a->failed || a->why != WHY_REFUSED))
            fail("pair %" PRIu64 ": the refusal did not arrive", p->key);
        return;
    }
    if (dir == 1 && !p->dials)
        return; // aborted before it was asked
    if (b->aborted) { // an abort travels behind the data, unless it came before the answer
        if (!a->failed && !(a->got_end && a->fin_sent))
            fail("pair %" PRIu64 " end %d: the abort did not arrive", p->key, dir);
        if (b->is_open && a->got != b->sent)
            fail("pair %" PRIu64 " end %d (why %d): %" PRIu64 " of %" PRIu64 " bytes before the abort", p->key, dir, a->why,
                 a->got, b->sent);
    } else if (!a->got_end || a->got != b->total) {
        fail("pair %" PRIu64 " end %d (why %d): got %" PRIu64 " of %" PRIu64, p->key, dir, a->why, a->got, b->total);
    }
}

static void set_up(struct world *world)
{
    bool tiny = chance(25);
    budget_init(&world->root, SIZE_MAX / 2, NULL);
    for (unsigned r = 0; r < world->relays; r++) {
        meet_init(&world->meet[r], &world->w, KEEP_MS);
    }
    for (unsigned a = 0; a < AGENTS; a++) {
        struct agent *agent = &world->agent[a];
        budget_init(&agent->budget, tiny ? 80000 + below(200000) : 256u << 20, &world->root);
        budget_init(&world->relay_budget[a], tiny ? 80000 + below(200000) : 256u << 20, &world->root);
        meet_init(&agent->meet, &world->w, 10 * KEEP_MS);
        meet_start_limbo(&agent->meet, &agent_ops, &world->leg[a][0], &agent->budget);
        agent->favourite = (unsigned)below(world->relays);
        for (unsigned r = 0; r < world->relays; r++) {
            world->leg[a][r] = (struct leg){.world = world, .agent = a, .relay = r};
            start_near(&world->leg[a][r]);
            start_far(&world->leg[a][r]);
        }
    }
}

static void tear_down(struct world *world)
{
    for (unsigned a = 0; a < AGENTS; a++)
        for (unsigned r = 0; r < world->relays; r++) {
            leg_drop(&world->leg[a][r]);
            session_fini(&world->leg[a][r].near, NULL);
            session_fini(&world->leg[a][r].far, NULL);
        }
    for (unsigned a = 0; a < AGENTS; a++)
        meet_fini(&world->agent[a].meet, NULL);
    for (unsigned r = 0; r < world->relays; r++)
        meet_fini(&world->meet[r], NULL);
    worker_turn(&world->w);
    for (unsigned a = 0; a < AGENTS; a++) {
        budget_fini(&world->agent[a].budget);
        budget_fini(&world->relay_budget[a]);
    }
    if (world->root.used || world->w.pool.out_bytes)
        fail("%zu bytes of buffers are still held", world->w.pool.out_bytes);
    budget_fini(&world->root);
}

static void schedule(struct world *world, uint64_t seed, unsigned relays)
{
    seed_now = rng_state = inner_state = seed;
    struct worker w = world->w;
    memset(world, 0, sizeof *world);
    world->w = w;
    world->w.fill_random = fill_by_seed;
    world->w.random_left = 0;
    list_init(&world->w.wakes);
    list_init(&world->w.late);
    list_init(&world->w.graves);
    world->w.now_us = 1000000;
    world->w.now_ms = 1000;
    world->storm = true;
    world->relays = relays;
    world->pairs_wanted = 1 + (unsigned)below(chance(80) ? 4 : PAIRS_MAX);
    set_up(world);
    uint64_t storm = below(STEPS_STORM);
    for (uint64_t i = 0; i < storm; i++)
        step(world);
    world->storm = false;
    for (uint64_t i = 0; !is_quiet(world); i++) {
        if (i == STEPS_CALM)
            hang(world);
        step(world);
    }
    for (unsigned i = 0; i < world->pairs; i++) {
        check_end(&world->pair[i], 0);
        check_end(&world->pair[i], 1);
    }
    tear_down(world);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"seed", required_argument, NULL, 's'}, {"count", required_argument, NULL, 'c'},
                                            {"relays", required_argument, NULL, 'r'}, {"verbose", no_argument, NULL, 'v'}, {0}};
    uint64_t seed = 1, count = 1000, crashes = 0, resumed = 0;
    unsigned relays = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) >= 0;) {
        if (c == 's')
            seed = strtoull(optarg, NULL, 0);
        else if (c == 'c')
            count = strtoull(optarg, NULL, 0);
        else if (c == 'r')
            relays = (unsigned)atoi(optarg);
        else if (c == 'v')
            verbose = true;
        else
            return 2;
    }
    if (relays > RELAYS_MAX)
        return 2;
    struct world *world = calloc(1, sizeof *world);
    if (!world)
        return 1;
    worker_init_bare(&world->w);
    printf("crash: %" PRIu64 " schedules from seed %" PRIu64 "\n", count, seed);
    for (uint64_t i = 0; i < count; i++) {
        if (verbose)
            printf("seed %" PRIu64 "\n", seed + i);
        schedule(world, seed + i, relays ? relays : 1 + (unsigned)((seed + i) % 2));
        crashes += world->crashes;
        resumed += world->resumed;
    }
    worker_fini(&world->w);
    free(world);
    printf("crash: %" PRIu64 " relays died, %" PRIu64 " streams asked to go on; all arrived whole, once, in order\n", crashes,
           resumed);
    return 0;
}
