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
#include "apps.h"
#include "fate.h"

#define AGENTS 2
#define RELAYS_MAX 2
#define CALLS_MAX 12
#define STEPS_STORM 900
#define STEPS_CALM 200000
#define KEEP_MS 60000
#define STALL_MAX 100 // steps

static bool verbose;

// World --------------------------------------------------------------------------------------------------------

struct world;

struct call {
    struct pair pair;
    unsigned from, to; // agents
    uint32_t dials;
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
    struct call call[CALLS_MAX];
    unsigned calls, calls_wanted;
    bool storm;
    uint64_t crashes, resumed;
};

// Datagrams ----------------------------------------------------------------------------------------------------

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

static void app_step(struct app *a)
{
    if (!app_may_act(a))
        return;
    if (!a->is_open) {
        app_open(a);
    } else if (!a->pair->datagram) {
        app_move(a, STALL_MAX);
    } else {
        if (chance(30))
            app_dgram(a);
        app_check(a);
    }
}

// Agents and relays ---------------------------------------------------------------------------------------------

static struct call *call_of(struct world *world, const uint8_t uid[16])
{
    uint64_t key = get64(uid);
    if (key == 0 || key > world->calls)
        fail("a stream nobody opened");
    return &world->call[key - 1];
}

// The service is dialled: once, unless the first time it was refused.
static void on_open_agent(struct session *s, struct stream *st, const struct frame_open *open)
{
    struct leg *leg = s->owner;
    struct call *call = call_of(leg->world, open->uid);
    struct pair *p = &call->pair;
    if (call->dials++ && !p->refused)
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
    struct call *call = call_of(world, open->uid);
    uint8_t pin[2][32] = {{(uint8_t)(1 + call->from)}, {(uint8_t)(1 + call->to)}};
    bool back = open->flags & OPEN_BACK;
    if (leg->agent != (back ? call->to : call->from) || (back && memcmp(open->identity, pin[0], 32) != 0))
        fail("pair %" PRIu64 ": asked for by who has no part in it", call->pair.key);
    struct leg *peer = &world->leg[back ? call->from : call->to][leg->relay];
    switch (meet_pair(&world->meet[leg->relay], st, open, pin[0], pin[1])) {
    case MEET_PAIRED:
        return;
    case MEET_REFUSED:
        fail("pair %" PRIu64 ": both opened it", call->pair.key);
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
    if (s->stats.contradicted)
        fail("agent %u: its peer contradicts itself", leg->agent);
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

static void open_call(struct world *world)
{
    unsigned from = (unsigned)below(AGENTS), r = world->agent[from].favourite;
    struct leg *leg = &world->leg[from][r];
    if (!leg->up[0])
        return;
    struct call *call = &world->call[world->calls++];
    struct pair *p = &call->pair;
    *call = (struct call){.pair.key = world->calls, .from = from};
    p->datagram = chance(15);
    p->accepts = chance(85);
    call->to = chance(95) ? !from : from;
    pair_plan(p, &world->w);
    struct frame_open open = {.kind = OPEN_SERVICE, .datagram = p->datagram};
    put64(open.uid, p->key);
    snprintf(open.host, sizeof open.host, "service@a%u", call->to);
    app_start(&p->end[0], session_open(&leg->near, &open));
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
    for (unsigned i = 0; i < world->calls; i++) {
        struct pair *p = &world->call[i].pair;
        pair_answer(p);
        app_step(&p->end[below(2)]);
    }
    if (world->calls < world->calls_wanted && chance(8))
        open_call(world);
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
    if (world->calls < world->calls_wanted)
        return false;
    for (unsigned i = 0; i < world->calls; i++)
        if (!pair_is_over(&world->call[i].pair))
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
    for (unsigned i = 0; i < world->calls; i++)
        pair_show(&world->call[i].pair);
    fail("hang");
}

// Never opened, for nobody was there.
static bool found_nobody(const struct pair *p)
{
    const struct app *opener = &p->end[0];
    return opener->failed && opener->why == WHY_ABSENT && !opener->is_open;
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
    struct worker w = world->w;
    memset(world, 0, sizeof *world);
    world->w = w;
    fate_start("crash", seed, &world->w);
    world->storm = true;
    world->relays = relays;
    world->calls_wanted = 1 + (unsigned)below(chance(80) ? 4 : CALLS_MAX);
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
    for (unsigned i = 0; i < world->calls; i++)
        if (!found_nobody(&world->call[i].pair))
            pair_check(&world->call[i].pair);
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
