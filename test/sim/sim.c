// SPDX-License-Identifier: Apache-2.0
// A deterministic simulation of the session layer. Each schedule is made from one seed: two ends, or A – relay – B with the
// switch in the middle; up to three carriers a leg at once, which cut bytes anywhere, die, stall and go on with what is old by
// then, are suspected, closed and replaced, while streams move between them; readers that stall, budgets that run out,
// refusals, aborts, half-closes, datagrams; sometimes a relay that forgets. When the storm is over everything has to arrive
// whole, once, in order, and everything has to be freed.
//
//   sim [--seed N] [--count N] [--kind ends|switch|both] [--verbose]
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/worker.h"
#include "session/stream.h"
#include "apps.h"
#include "fate.h"

#define CALLS_MAX 24
#define LEGS_MAX 2
#define PIPES_MAX 5 // of a leg: three that stand, others on their way out
#define STEPS_STORM 700
#define STEPS_CALM 400000
#define STALL_MAX 200 // steps

static bool verbose;
static struct {
    uint64_t carriers, moved, suspected, dead, replayed, late; // over all schedules
} total;

// World --------------------------------------------------------------------------------------------------------

struct call {
    struct pair pair;
    bool lossy; // a relay forgot, anything may be cut short
    uint64_t dgrams_seen[2];
};

struct pipe_end {
    struct pipe *pipe;
    int end;
    struct carrier c;
    struct bufq q;    // bytes from this end
    bool up;          // the session at this end uses it
    bool wants;       // on_output was called
    uint32_t stalled; // steps in which nothing from this end arrives
};

struct pipe { // one carrier, both directions
    struct pipe_end end[2]; // 0: the agent's
    bool cut;         // killed: nothing more is put in; what is in may still arrive, up to the cut
    bool tried;       // the agent has read WELCOME, or never will
};

struct leg {
    struct session *end[2]; // 0: the agent
    struct pipe *pipe[PIPES_MAX];
    unsigned most; // carriers at once
    bool dial;     // one is suspect
};

struct world {
    struct worker w;
    struct budget root, budget[4];
    struct session s[4]; // A, R (relay's for A), then R' (relay's for B), B
    bool live[4];
    unsigned session_count;
    struct leg leg[LEGS_MAX];
    unsigned legs;
    struct call call[CALLS_MAX];
    unsigned calls, calls_wanted;
    bool storm, tiny_budget, draining;
    unsigned silent; // percent of steps in which time passes and nothing else
};

// Datagrams ----------------------------------------------------------------------------------------------------

static void app_dgram(struct app *a)
{
    uint8_t data[40000];
    struct stream *st = stream_of(a->l);
    if (a->sent == a->total) {
        app_finish_sending(a);
        return;
    }
    uint32_t number = (uint32_t)++a->sent;
    size_t len = chance(80) ? 4 + below(300) : 4 + below(sizeof data - 4);
    memcpy(data, &number, 4);
    for (size_t i = 4; i < len; i++)
        data[i] = pattern(a->pair->key, a->dir, number + i);
    stream_send_dgram(st, data, len);
}

static void on_dgram(struct session *s, struct stream *st, const uint8_t *data, size_t len)
{
    (void)s;
    struct app *a = stream_user(st);
    uint32_t number;
    if (!a || a->closed)
        return;
    if (len < 4)
        fail("a datagram of %zu bytes", len);
    memcpy(&number, data, 4);
    for (size_t i = 4; i < len; i++)
        if (data[i] != pattern(a->pair->key, !a->dir, number + i))
            fail("pair %" PRIu64 ": datagram %u is damaged at %zu", a->pair->key, number, i);
    uint64_t bit = UINT64_C(1) << number, *seen = &container_of(a->pair, struct call, pair)->dgrams_seen[a->dir];
    if (*seen & bit) // one that is late, by an earlier carrier, is legal
        fail("pair %" PRIu64 ": datagram %u came twice", a->pair->key, number);
    *seen |= bit;
}

static void app_step(struct app *a)
{
    if (!app_may_act(a) || (!a->is_open && !app_open(a)))
        return;
    if (!a->pair->datagram) {
        app_move(a, STALL_MAX);
        return;
    }
    if (chance(30))
        app_dgram(a);
    app_check(a);
}

// Sessions -----------------------------------------------------------------------------------------------------

static struct call *call_of(struct world *world, const uint8_t uid[16])
{
    uint64_t key;
    memcpy(&key, uid, 8);
    if (key == 0 || key > world->calls)
        fail("a stream nobody opened");
    return &world->call[key - 1];
}

static void on_open_end(struct session *s, struct stream *st, const struct frame_open *open)
{
    struct pair *p = &call_of(s->owner, open->uid)->pair;
    if (p->end[1].l || p->end[1].closed)
        fail("pair %" PRIu64 " was opened twice", p->key);
    p->asked = st;
    app_start(&p->end[1], st);
}

static void on_open_relay(struct session *s, struct stream *st, const struct frame_open *open)
{
    struct world *world = s->owner;
    unsigned other = s == &world->s[1] ? 2 : 1;
    struct frame_open next = {.kind = open->kind, .datagram = open->datagram};
    strcpy(next.host, open->host);
    if (!world->live[other] || !switch_join(st, open, &world->s[other], &next)) {
        call_of(world, open->uid)->lossy = true;
        stream_refuse(st, WHY_ABSENT, "gone");
        link_close(stream_link(st));
    }
}

static void on_goaway(struct session *s, uint16_t code, uint32_t retry_ms, const char *text);

static void on_suspect(struct session *s, struct carrier *c)
{
    struct world *world = s->owner;
    if (!c->live.suspect)
        fail("suspicion without a suspect");
    total.suspected++;
    for (unsigned k = 0; k < world->legs; k++)
        if (world->leg[k].end[0] == s)
            world->leg[k].dial = true;
}

static const struct session_ops end_ops = {
    .on_open = on_open_end, .on_dgram = on_dgram, .on_goaway = on_goaway, .on_suspect = on_suspect};
static const struct session_ops relay_ops = {.on_open = on_open_relay, .on_dgram = on_dgram, .on_goaway = on_goaway};

static void start_session(struct world *world, unsigned i)
{
    uint8_t id[16] = {(uint8_t)i};
    bool is_agent = i == 0 || i == 3;
    bool is_switch = world->session_count == 4 && !is_agent;
    session_init(&world->s[i], &world->w, is_agent, id, is_switch ? &relay_ops : &end_ops, world, &world->budget[i]);
    world->live[i] = true;
}

// Pipes --------------------------------------------------------------------------------------------------------

static void on_output(struct carrier *c)
{
    struct pipe_end *e = c->owner;
    e->wants = true;
}

static bool is_standing(const struct pipe_end *e) { return e->up && e->c.s; }

static void pipe_free(struct pipe *p)
{
    if (!p)
        return;
    for (int i = 0; i < 2; i++) {
        carrier_down(&p->end[i].c);
        bufq_clear(&p->end[i].q);
    }
    free(p);
}

static void end_up(struct session *s, struct pipe_end *e)
{
    e->up = e->wants = true;
    carrier_up(s, &e->c, on_output, e);
}

static void end_down(struct pipe_end *e)
{
    carrier_down(&e->c);
    e->up = false;
}

static void pipe_fill(struct world *world, struct pipe_end *e)
{
    if (!is_standing(e) || !e->wants)
        return;
    size_t most = (1 + below(4)) * BUF_SIZE;
    while (e->q.bytes < most) {
        struct buf *b = buf_get(&world->w.pool);
        if (!carrier_fill(&e->c, b)) {
            buf_put(b);
            e->wants = false;
            return;
        }
        if (e->pipe->cut)
            buf_put(b); // lost in the sender's socket
        else
            bufq_push(&e->q, b);
    }
}

static void pipe_deliver(struct world *world, struct pipe_end *e)
{
    struct pipe_end *to = &e->pipe->end[!e->end];
    if (e->stalled) {
        e->stalled--;
        return;
    }
    if (bufq_empty(&e->q) || !is_standing(to))
        return;
    struct buf *b = e->q.head;
    size_t n = chance(70) ? b->len : 1 + below(b->len);
    if (n == b->len) {
        b = bufq_pop(&e->q);
    } else {
        b = buf_copy(&world->w.pool, buf_data(b), n);
        bufq_drop(&e->q, n);
    }
    struct session *s = to->c.s;
    if (carrier_recv(&to->c, b) < 0)
        fail("%s: %s", s->is_agent ? "agent" : "relay", err_text(&s->err));
}

static void pipe_cut(struct pipe *p)
{
    if (p->cut)
        return;
    p->cut = p->tried = true;
    for (int i = 0; i < 2; i++) { // some of what is under way still arrives
        struct bufq *q = &p->end[i].q, rest = {0};
        size_t keep = below(q->bytes + 1);
        while (!bufq_empty(q)) {
            struct buf *b = bufq_pop(q);
            if (b->len > keep)
                b->len = (uint32_t)keep;
            keep -= b->len;
            if (b->len)
                bufq_push(&rest, b);
            else
                buf_put(b);
        }
        *q = rest;
    }
}

// One end closes it; the other learns that later.
static void pipe_close(struct pipe *p, int end)
{
    pipe_cut(p);
    end_down(&p->end[end]);
}

static void pipe_stall(struct pipe *p)
{
    uint32_t steps = (uint32_t)below(chance(50) ? 100 : 1500);
    unsigned which = (unsigned)below(3); // one way, the other, or both
    for (unsigned i = 0; i < 2; i++)
        if (which == 2 || which == i)
            p->end[i].stalled = steps;
}

// A new carrier: the relay has it first (WELCOME queued), the agent some time later (WELCOME read), or never. HELLO may name
// those that the agent has given up.
static void leg_connect(struct leg *leg, unsigned slot)
{
    struct pipe *p = calloc(1, sizeof *p);
    if (!p)
        abort();
    for (int i = 0; i < 2; i++)
        p->end[i].pipe = p, p->end[i].end = i;
    bool names = chance(50);
    for (unsigned i = 0; i < PIPES_MAX; i++)
        if (leg->pipe[i] && leg->pipe[i]->tried && !leg->pipe[i]->end[0].up && names)
            pipe_close(leg->pipe[i], 1);
    leg->pipe[slot] = p;
    leg->dial = false;
    end_up(leg->end[1], &p->end[1]);
}

static unsigned leg_good(const struct leg *leg)
{
    unsigned n = 0;
    for (unsigned i = 0; i < PIPES_MAX; i++)
        n += leg->pipe[i] && !leg->pipe[i]->cut;
    return n;
}

static void leg_dial(struct world *world, struct leg *leg, unsigned slot)
{
    unsigned good = leg_good(leg);
    unsigned percent = good == 0 ? 30 : leg->dial ? 20 : good < leg->most ? 10 : 0;
    if (chance(world->storm ? percent : 2 * percent))
        leg_connect(leg, slot);
}

static void leg_step(struct world *world, struct leg *leg)
{
    unsigned slot = (unsigned)below(PIPES_MAX);
    struct pipe *p = leg->pipe[slot];
    unsigned what = (unsigned)below(world->storm ? 1000 : 900);
    if (!p) {
        leg_dial(world, leg, slot);
    } else if (p->cut && !p->end[0].up && !p->end[1].up) {
        pipe_free(p);
        leg->pipe[slot] = NULL;
    } else if (what < 200 && !p->tried) {
        p->tried = true;
        if (chance(90))
            end_up(leg->end[0], &p->end[0]);
        else
            pipe_cut(p);
    } else if (what < 400) {
        pipe_fill(world, &p->end[below(2)]);
    } else if (what < 860) {
        pipe_deliver(world, &p->end[below(2)]);
    } else if (what < 900 && p->cut) {
        end_down(&p->end[below(2)]);
    } else if (what >= 993) {
        pipe_cut(p);
    } else if (what >= 990) {
        pipe_close(p, (int)below(2)); // lost patience; the other end has not noticed
    } else if (what >= 980) {
        pipe_stall(p);
    }
}

static void legs_step(struct world *world)
{
    for (unsigned k = 0; k < world->legs; k++)
        for (unsigned i = 0; i < 3 + world->leg[k].most * 2; i++)
            leg_step(world, &world->leg[k]);
}

// Somebody balances: any stream moves to any carrier.
static void move_one(struct stream *st, void *ctx)
{
    struct session *s = ctx;
    if (!st->carrier || chance(80))
        return;
    struct list *n = list_first(&s->carriers);
    for (uint64_t k = below(PIPES_MAX); k > 0; k--)
        n = n->next == &s->carriers ? list_first(&s->carriers) : n->next;
    stream_change(st, list_entry(n, struct carrier, node));
}

// The relay (or the relay's half for one agent) forgets the session; the agent learns it by another birth.
static void leg_forget(struct world *world, unsigned k)
{
    struct leg *leg = &world->leg[k];
    unsigned relay = k == 0 ? 1 : 2, agent = k == 0 ? 0 : 3;
    for (unsigned i = 0; i < world->calls; i++)
        world->call[i].lossy = true;
    for (unsigned i = 0; i < PIPES_MAX; i++) {
        pipe_free(leg->pipe[i]);
        leg->pipe[i] = NULL;
    }
    struct err why = ERR_INIT;
    err_set(&why, ERR_FAILED, WHY_LOST, "forgotten");
    session_fini(&world->s[relay], &why);
    session_end_streams(&world->s[agent], &why);
    err_fini(&why);
    start_session(world, relay);
}

// Schedules ----------------------------------------------------------------------------------------------------

static void open_call(struct world *world)
{
    unsigned from = world->session_count == 4 ? (chance(50) ? 0 : 3) : (unsigned)below(2);
    struct call *call = &world->call[world->calls++];
    struct pair *p = &call->pair;
    *call = (struct call){.pair.key = world->calls};
    p->datagram = chance(15);
    p->accepts = chance(85);
    pair_plan(p, &world->w);
    struct frame_open open = {.kind = p->datagram ? OPEN_UDP : OPEN_TCP, .port = 80};
    memcpy(open.uid, &p->key, 8);
    strcpy(open.host, "host");
    struct stream *st = session_open(&world->s[from], &open);
    if (!st && !world->draining)
        fail("cannot open");
    if (!st) { // after GOAWAY nobody opens: what is open still arrives
        world->calls_wanted = --world->calls;
        return;
    }
    app_start(&p->end[0], st);
}

static void on_goaway(struct session *s, uint16_t code, uint32_t retry_ms, const char *text)
{
    struct world *world = s->owner;
    if (!world->draining || code != 7 || retry_ms != 250 || strcmp(text, "drain") != 0)
        fail("a GOAWAY that nobody sent");
}

static void drain(struct world *world)
{
    unsigned i = (unsigned)below(world->session_count);
    if (!world->live[i])
        return;
    world->draining = true;
    session_goaway(&world->s[i], 7, 250, "drain");
}

static void tick_pipe(struct pipe *p)
{
    for (int i = 0; i < 2; i++)
        if (is_standing(&p->end[i]) && carrier_tick(&p->end[i].c) == CARRIER_DEAD) {
            total.dead++;
            pipe_close(p, i);
        }
}

static void pass_us(struct world *world, uint64_t us)
{
    world->w.now_us += us;
    world->w.now_ms = world->w.now_us / 1000;
    for (unsigned k = 0; k < world->legs; k++)
        for (unsigned i = 0; i < PIPES_MAX; i++)
            if (world->leg[k].pipe[i])
                tick_pipe(world->leg[k].pipe[i]);
}

// Nothing happens until the next thing that is due: so paths become silent ones.
static void silence(struct world *world)
{
    uint64_t at = UINT64_MAX, now = world->w.now_us;
    for (unsigned i = 0; i < world->session_count; i++)
        list_each(&world->s[i].carriers, n)
        {
            uint64_t due = carrier_deadline(list_entry(n, struct carrier, node));
            at = due < at ? due : at;
        }
    if (at != UINT64_MAX)
        pass_us(world, at > now ? at - now : 0);
}

static void step(struct world *world)
{
    legs_step(world);
    for (unsigned i = 0; i < world->calls; i++) {
        struct pair *p = &world->call[i].pair;
        pair_answer(p);
        app_step(&p->end[below(2)]);
    }
    if (world->calls < world->calls_wanted && chance(8))
        open_call(world);
    if (world->storm && below(8000) == 0)
        drain(world);
    if (world->storm && below(1500) == 0)
        leg_forget(world, (unsigned)below(world->legs));
    if (chance(60))
        pass_us(world, chance(90) ? below(2000) : below(40000));
    if (world->storm && chance(world->silent))
        silence(world);
    if (world->storm && chance(2)) {
        struct session *s = &world->s[below(world->session_count)];
        session_each_stream(s, move_one, s);
    }
    worker_turn(&world->w);
}

static bool is_quiet(struct world *world)
{
    if (world->calls < world->calls_wanted)
        return false;
    for (unsigned i = 0; i < world->calls; i++)
        if (!pair_is_over(&world->call[i].pair))
            return false;
    for (unsigned i = 0; i < world->session_count; i++)
        if (world->s[i].stream_count || world->budget[i].used)
            return false;
    return true;
}

static void stream_trace(const struct stream *st)
{
    fprintf(stderr,
            "  stream %u: snd una %" PRIu64 " nxt %" PRIu64 " max %" PRIu64 " end %" PRIu64 " limit %" PRIu64 " rcv nxt %" PRIu64
            " read %" PRIu64 " final %" PRId64 " told %" PRIu64 " limit %" PRIu64 " due %x fin %d/%" PRId64 " rst %d/%" PRIu64
            " in %" PRId64 " dropped %d answered %d acked %d scheduled %d linked %d\n",
            st->node.key, st->snd_una, st->snd_nxt, st->snd_max, st->snd_end, st->snd_limit, st->rcv_nxt, st->rcv_read,
            (int64_t)st->rcv_final, st->ack_told, st->limit_told, st->due, st->fin, (int64_t)st->fin_final, st->rst, st->rst_final,
            (int64_t)st->rst_in_final, st->dropped, st->answered, st->opened_acked, st->scheduled, list_linked(&st->control));
}

static void show(struct stream *st, void *ctx)
{
    stream_trace(st);
    struct stream_info info;
    stream_get_info(st, &info);
    fprintf(stderr, "  session %u stream %u state %d in %" PRIu64 " out %" PRIu64 " unacked %" PRIu64 " queued %" PRIu64 "\n",
            *(unsigned *)ctx, info.id, info.state, info.bytes_in, info.bytes_out, info.unacked, info.queued);
}

static void hang(struct world *world)
{
    for (unsigned i = 0; i < world->session_count; i++) {
        fprintf(stderr, " session %u: %u streams, budget %zu of %zu\n", i, world->s[i].stream_count, world->budget[i].used,
                world->budget[i].max);
        session_each_stream(&world->s[i], show, &i);
    }
    for (unsigned i = 0; i < world->calls; i++)
        pair_show(&world->call[i].pair);
    fail("hang");
}

static void wire_up(struct world *world, bool with_switch)
{
    world->session_count = with_switch ? 4 : 2;
    world->legs = with_switch ? 2 : 1;
    budget_init(&world->root, SIZE_MAX / 2, NULL);
    for (unsigned i = 0; i < world->session_count; i++) {
        size_t max = world->tiny_budget ? 80000 + below(200000) : 256u << 20;
        budget_init(&world->budget[i], max, &world->root);
        start_session(world, i);
    }
    world->leg[0] = (struct leg){.end = {&world->s[0], &world->s[1]}, .most = 1 + (unsigned)below(3)};
    world->leg[1] = (struct leg){.end = {&world->s[3], &world->s[2]}, .most = 1 + (unsigned)below(3)};
    world->silent = chance(50) ? 0 : (unsigned)below(20);
}

static void add_up(const struct session_stats *s)
{
    total.carriers += s->carriers_up;
    total.moved += s->moved;
    total.replayed += s->replayed;
    total.late += s->gap_dropped + s->known_trimmed;
}

static void tear_down(struct world *world)
{
    for (unsigned k = 0; k < world->legs; k++) {
        for (unsigned i = 0; i < PIPES_MAX; i++)
            pipe_free(world->leg[k].pipe[i]);
    }
    for (unsigned i = 0; i < world->session_count; i++)
        add_up(&world->s[i].stats), session_fini(&world->s[i], NULL);
    worker_turn(&world->w);
    for (unsigned i = 0; i < world->session_count; i++) {
        if (world->budget[i].used)
            fail("budget %u: %zu bytes are still held", i, world->budget[i].used);
        budget_fini(&world->budget[i]);
    }
    budget_fini(&world->root);
    if (world->w.pool.out_bytes)
        fail("%zu bytes of buffers are still held", world->w.pool.out_bytes);
}

static void schedule(struct world *world, uint64_t seed, bool with_switch)
{
    struct worker w = world->w;
    memset(world, 0, sizeof *world);
    world->w = w;
    fate_start("sim", seed, &world->w);
    world->storm = true;
    world->tiny_budget = chance(25);
    world->calls_wanted = 1 + (unsigned)below(chance(80) ? 4 : CALLS_MAX);
    wire_up(world, with_switch);
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
        if (!world->call[i].lossy)
            pair_check(&world->call[i].pair);
    tear_down(world);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"seed", required_argument, NULL, 's'}, {"count", required_argument, NULL, 'c'},
                                            {"kind", required_argument, NULL, 'k'}, {"verbose", no_argument, NULL, 'v'}, {0}};
    uint64_t seed = 1, count = 1000;
    const char *kind = "both";
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) >= 0;) {
        if (c == 's')
            seed = strtoull(optarg, NULL, 0);
        else if (c == 'c')
            count = strtoull(optarg, NULL, 0);
        else if (c == 'k')
            kind = optarg;
        else if (c == 'v')
            verbose = true;
        else
            return 2;
    }
    struct world *world = calloc(1, sizeof *world);
    if (!world)
        return 1;
    worker_init_bare(&world->w);
    printf("sim: %" PRIu64 " schedules from seed %" PRIu64 " (%s)\n", count, seed, kind);
    for (uint64_t i = 0; i < count; i++) {
        bool with_switch = strcmp(kind, "switch") == 0 || (strcmp(kind, "both") == 0 && (seed + i) % 2);
        if (verbose)
            printf("seed %" PRIu64 " %s\n", seed + i, with_switch ? "switch" : "ends");
        schedule(world, seed + i, with_switch);
    }
    worker_fini(&world->w);
    free(world);
    printf("sim: %" PRIu64 " carriers, %" PRIu64 " suspected by agents, %" PRIu64 " given up; %" PRIu64 " moves of streams; %" PRIu64
           " bytes sent again, %" PRIu64 " known or too early\n",
           total.carriers, total.suspected, total.dead, total.moved, total.replayed, total.late);
    puts("sim: all arrived whole, once, in order; nothing was left behind");
    return 0;
}
