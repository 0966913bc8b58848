// SPDX-License-Identifier: Apache-2.0
// Carriers on real links: HELLO, WELCOME, refusals, deadlines, and the peeling of the inner TLS, over memory links that cut, stall
// and fail. The worker is bare: when no wake is left and no timer helps, somebody did not pay a debt.
#include "unit.h"
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include "certs.h"
#include "link/mem.h"
#include "link/tls.h"
#include "session/conn.h"
#include "session/stream.h"

#define BUDGET (16 * 1024 * 1024)

static struct carrier_tls tls;

struct side {
    struct worker *w;
    bool is_agent;
    struct session s;
    struct budget budget;
    struct conn *conn;
    unsigned hellos, welcomes, downs;
    bool drop_welcome;
    bool cut_close_notify; // relay: the last record behind WELCOME never leaves
    struct frame_hello hello;
    struct frame_welcome refusal;
    bool has_refusal;
    enum welcome_status refuse; // relay: refuses with it
    struct err err;
    struct link *l; // its end of the one stream
    struct wake wake;
    size_t to_send, sent, got;
    bool shut, ended;
};

struct world {
    struct worker w;
    struct side agent, relay;
};

// --- the ends

static uint8_t byte_at(size_t at) { return (uint8_t)(at % 251 ^ at / 251); }

static void move(struct side *x)
{
    struct buf *b;
    if (!x->l || link_open(x->l) != LINK_OK)
        return;
    while (x->sent < x->to_send && link_room(x->l) > 0) {
        b = buf_get(&x->w->pool);
        while (b->len < 3000 && x->sent < x->to_send)
            buf_data(b)[b->len++] = byte_at(x->sent++);
        link_send(x->l, b);
    }
    if (x->sent == x->to_send && !x->shut) {
        x->shut = true;
        link_shut(x->l, SHUT_END);
    }
    enum link_status r;
    while (!x->ended && (r = link_recv(x->l, &b)) != LINK_AGAIN) {
        if (r != LINK_OK) {
            x->ended = r == LINK_END;
            return;
        }
        for (uint32_t i = 0; i < b->len; i++)
            assert_int_equal(buf_data(b)[i], byte_at(x->got + i));
        x->got += b->len;
        buf_put(b);
    }
}

static void on_wake(struct wake *wake) { move(container_of(wake, struct side, wake)); }

static void own(struct side *x, struct stream *st)
{
    x->l = stream_link(st);
    link_own(x->l, &x->wake);
    wake_post(x->w, &x->wake);
}

static void on_open(struct session *s, struct stream *st, const struct frame_open *open)
{
    own(s->owner, st);
    stream_accept(st, NULL);
}

static const struct session_ops session_ops = {.on_open = on_open};

// Takes the last n bytes back that this memory link has sent, and ends it.
static void cut_last(struct link *l, uint32_t n)
{
    struct bufq *q = mem_in_flight(l);
    assert_true(q->tail && q->tail->len > n);
    q->tail->len -= n;
    q->bytes -= n;
    link_shut(l, SHUT_END);
}

static void on_hello(struct conn *c, const struct frame_hello *hello)
{
    struct side *x = c->owner;
    x->hellos++;
    x->hello = *hello;
    if (x->refuse) {
        conn_refuse(c, x->refuse, 1234, "not\ntoday");
        return;
    }
    struct frame_welcome welcome = {.name = "site7"};
    conn_welcome(c, &x->s, &welcome);
    if (x->cut_close_notify)
        cut_last(c->inner->below, 5);
}

static bool on_welcome(struct conn *c, const struct frame_welcome *welcome)
{
    struct side *x = c->owner;
    x->welcomes++;
    return !x->drop_welcome;
}

static void on_down(struct conn *c, const struct err *err, const struct frame_welcome *refusal)
{
    struct side *x = c->owner;
    x->downs++;
    err_copy(&x->err, err);
    x->has_refusal = refusal;
    if (refusal)
        x->refusal = *refusal;
}

static const struct conn_ops conn_ops = {on_hello, on_welcome, on_down};

static void side_init(struct side *x, struct worker *w, bool is_agent)
{
    *x = (struct side){.w = w, .is_agent = is_agent};
    budget_init(&x->budget, BUDGET, NULL);
    session_init(&x->s, w, is_agent, (const uint8_t[16]){9}, &session_ops, x, &x->budget);
    wake_init(&x->wake, on_wake);
}

static void side_fini(struct side *x)
{
    conn_free(x->conn);
    if (x->l)
        link_close(x->l);
    wake_cancel(&x->wake);
    session_fini(&x->s, NULL);
    worker_turn(x->w);
    assert_int_equal(x->budget.used, 0);
    budget_fini(&x->budget);
    err_fini(&x->err);
}

static void world_init(struct world *x)
{
    memset(x, 0, sizeof *x);
    worker_init_bare(&x->w);
    x->w.now_us = 5000000;
    x->w.now_ms = 5000;
    side_init(&x->agent, &x->w, true);
    side_init(&x->relay, &x->w, false);
}

static void world_fini(struct world *x)
{
    side_fini(&x->agent);
    side_fini(&x->relay);
    worker_turn(&x->w);
    assert_int_equal(x->w.pool.out_bytes, 0);
    worker_fini(&x->w);
}

static void pass_ms(struct world *x, uint64_t ms)
{
    x->w.now_ms += ms;
    x->w.now_us += ms * 1000;
    worker_run_timers(&x->w);
}

static bool arrived(const struct world *x)
{
    return x->agent.ended && x->relay.ended && x->agent.got == x->relay.to_send && x->relay.got == x->agent.to_send &&
           !x->agent.downs && !x->relay.downs;
}

// Until no wake is left, or all arrived. Plans that answer AGAIN every so often keep an idle link awake: bounded.
static void turn(struct world *x)
{
    int i = 0;
    do
        worker_turn(&x->w); // also when only burials wait
    while (++i < 20000 && !arrived(x) && !(list_empty(&x->w.wakes) && list_empty(&x->w.late)));
}

// Turns, and lets time pass to the next timer when nothing else moves, up to that many ms in all.
static void run_until(struct world *x, uint64_t most_ms)
{
    while (!arrived(x)) {
        turn(x);
        uint64_t next = worker_run_timers(&x->w);
        if (!list_empty(&x->w.wakes) && next)
            next = 1;
        if (next > most_ms)
            return;
        most_ms -= next;
        pass_ms(x, next ? next : 1);
    }
}

// --- the stacks

static struct link *put_tls(struct link *below, bool server, bool inner)
{
    struct tls_options o = carrier_tls_options(&tls, server, inner);
    return tls_over(below, &o, NULL);
}

struct plan {
    struct mem_plan agent, relay;
    bool outer;               // with an outer TLS; else facts are set by hand
    bool agent_peels, relay_peels;
    uint8_t agent_exporter, relay_exporter; // without an outer TLS; 0: absent
    uint32_t open_ms;
};

static void set_exporter(struct link *l, uint8_t value)
{
    l->facts->has_exporter = value;
    memset(l->facts->exporter, value, 32);
}

static void connect_both(struct world *x, const struct plan *p)
{
    struct link *a, *b;
    struct frame_hello hello = {.ver_min = 1, .ver_max = 1, .carrier = 1, .name = "me", .has_token = true, .token = {5}};
    mem_pair(&x->w, &a, &b, &p->agent, &p->relay);
    set_exporter(a, p->agent_exporter);
    set_exporter(b, p->relay_exporter);
    if (p->outer) {
        a = put_tls(a, false, false);
        b = put_tls(b, true, false);
    }
    a = put_tls(a, false, true);
    b = put_tls(b, true, true);
    x->agent.conn = conn_agent(&x->w, a, &hello, p->agent_peels, p->open_ms ? p->open_ms : 15000, &x->agent.s, &conn_ops, &x->agent);
    x->relay.conn = conn_relay(&x->w, b, p->relay_peels, &conn_ops, &x->relay);
}

// A stream from the agent, so many bytes each way, and FIN both ways.
static void transfer(struct world *x, size_t up, size_t down)
{
    struct frame_open open = {.kind = OPEN_TCP, .host = "h"};
    x->agent.to_send = up;
    x->relay.to_send = down;
    own(&x->agent, session_open(&x->agent.s, &open));
}

static void run_plan(const struct plan *p, size_t up, size_t down, bool peeled, const char *what, unsigned k)
{
    struct world x;
    world_init(&x);
    connect_both(&x, p);
    transfer(&x, up, down);
    run_until(&x, 1000);
    if (!arrived(&x))
        fail_msg("%s %u: agent got %zu of %zu, relay %zu of %zu; %s; %s", what, k, x.agent.got, down, x.relay.got, up,
                 err_text(&x.agent.err), err_text(&x.relay.err));
    assert_int_equal(x.agent.conn->peeled, peeled);
    assert_int_equal(x.relay.conn->peeled, peeled);
    assert_int_equal(tls_is_peeled(x.agent.conn->inner), peeled);
    assert_int_equal(tls_is_peeled(x.relay.conn->inner), peeled);
    assert_true(x.relay.hello.has_token && x.relay.hello.token[0] == 5);
    assert_string_equal(x.relay.hello.name, "me");
    assert_int_equal(x.agent.conn->hello.token[0] | x.relay.conn->hello.token[0], 0); // wiped
    world_fini(&x);
}

// --- peeling

static void peeled_when_both_exporters_are_equal(void **state)
{
    struct plan p = {.outer = true, .agent_peels = true, .relay_peels = true};
    run_plan(&p, 300000, 300000, true, "plain", 0);
    p = (struct plan){.agent_exporter = 7, .relay_exporter = 7, .agent_peels = true, .relay_peels = true};
    run_plan(&p, 1000, 1000, true, "by hand", 0);
}

static void not_peeled_otherwise(void **state)
{
    const struct plan plans[] = {
        {.outer = true, .agent_peels = true},
        {.outer = true, .relay_peels = true},
        {.outer = true},
        {.agent_peels = true, .relay_peels = true},                                               // absent at both
        {.agent_peels = true, .relay_peels = true, .agent_exporter = 7},                          // at the relay
        {.agent_peels = true, .relay_peels = true, .relay_exporter = 7},                          // at the agent
        {.agent_peels = true, .relay_peels = true, .agent_exporter = 7, .relay_exporter = 8},     // somebody in between
    };
    for (unsigned i = 0; i < COUNT(plans); i++)
        run_plan(&plans[i], 50000, 50000, false, "plan", i);
}

static void the_exporter_is_only_told_when_wanted(void **state)
{
    struct world x;
    struct plan p = {.outer = true, .relay_peels = true};
    world_init(&x);
    connect_both(&x, &p);
    run_until(&x, 100);
    assert_int_equal(x.relay.hellos, 1);
    assert_false(x.relay.hello.has_exporter);
    world_fini(&x);
}

static void peeled_under_every_cut(void **state)
{
    struct plan p = {.outer = true, .agent_peels = true, .relay_peels = true};
    for (unsigned cut = 1; cut <= 60; cut++) {
        p.agent.cut = p.relay.cut = cut;
        run_plan(&p, 2000, 2000, true, "cut", cut);
    }
}

static uint64_t rng;

static unsigned rnd(unsigned n)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(rng >> 33) % n;
}

static struct mem_plan random_plan(void)
{
    struct mem_plan m = {.open_again = rnd(3)};
    if (rnd(4))
        m.cut = rnd(2) ? 1 + rnd(60) : 1 + rnd(3000);
    if (rnd(2))
        m.again_every = 2 + rnd(5);
    if (rnd(2))
        m.again_at = 1 + rnd(60);
    if (rnd(2))
        m.noroom_every = 2 + rnd(5);
    if (rnd(2))
        m.queue_max = 1 + rnd(40000);
    return m;
}

static void peeled_and_not_under_random_plans(void **state)
{
    for (unsigned seed = 1; seed <= 300; seed++) {
        rng = seed;
        struct plan p = {.outer = true, .agent_peels = true, .relay_peels = seed % 4 != 0};
        p.agent = random_plan();
        p.relay = random_plan();
        run_plan(&p, rnd(30000), rnd(30000), p.relay_peels, "seed", seed);
    }
}

static void a_failure_at_each_step_is_told_once(void **state)
{
    for (int side = 0; side < 4; side++) {
        for (unsigned k = 1;; k++) {
            struct world x;
            struct plan p = {.outer = true, .agent_peels = side < 2, .relay_peels = true};
            p.agent.cut = p.relay.cut = 400;
            (side % 2 ? &p.agent : &p.relay)->fail_at = k;
            world_init(&x);
            connect_both(&x, &p);
            transfer(&x, 500, 500);
            run_until(&x, 20000);
            if (arrived(&x)) {
                world_fini(&x);
                assert_true(k > 10);
                break;
            }
            assert_int_equal(x.agent.downs, 1);
            assert_int_equal(x.relay.downs, 1);
            assert_true(err_is(&x.agent.err) && err_is(&x.relay.err));
            assert_false(session_is_up(&x.agent.s));
            assert_false(session_is_up(&x.relay.s));
            world_fini(&x);
        }
    }
}

static void freed_at_each_step(void **state)
{
    for (unsigned k = 0; k < 60; k++) {
        struct world x;
        struct plan p = {.outer = true, .agent_peels = true, .relay_peels = true};
        p.agent.cut = p.relay.cut = 600;
        world_init(&x);
        connect_both(&x, &p);
        transfer(&x, 500, 500);
        for (unsigned i = 0; i < k; i++)
            worker_turn(&x.w);
        struct side *gone = k % 2 ? &x.agent : &x.relay;
        conn_free(gone->conn);
        gone->conn = NULL;
        run_until(&x, 100);
        assert_int_equal(gone->downs, 0); // none comes after conn_free
        world_fini(&x);
    }
}

static void a_damaged_close_notify_fails_the_carrier(void **state)
{
    struct world x;
    struct plan p = {.agent_exporter = 7, .relay_exporter = 7, .agent_peels = true, .relay_peels = true};
    world_init(&x);
    x.relay.cut_close_notify = true;
    connect_both(&x, &p);
    run_until(&x, 100);
    assert_int_equal(x.agent.welcomes, 1);
    assert_int_equal(x.agent.downs, 1);
    assert_int_equal(x.agent.err.kind, ERR_FAILED);
    assert_int_equal(x.agent.s.stats.frames_in, 0); // though raw frames followed
    world_fini(&x);
}

// --- the handshake, spoken by hand over a bare memory link

struct hand {
    struct world x;
    struct link *far; // the test's end
};

static void hand_relay(struct hand *h, const struct mem_plan *plan)
{
    struct link *l;
    world_init(&h->x);
    mem_pair(&h->x.w, &l, &h->far, plan, NULL);
    h->x.relay.conn = conn_relay(&h->x.w, l, true, &conn_ops, &h->x.relay);
    turn(&h->x);
}

static void hand_agent(struct hand *h, const struct mem_plan *plan, uint32_t open_ms)
{
    struct link *l;
    struct frame_hello hello = {.ver_min = 1, .ver_max = 1};
    world_init(&h->x);
    mem_pair(&h->x.w, &l, &h->far, plan, NULL);
    h->x.agent.conn = conn_agent(&h->x.w, l, &hello, true, open_ms, &h->x.agent.s, &conn_ops, &h->x.agent);
    turn(&h->x);
}

static void hand_fini(struct hand *h)
{
    link_close(h->far);
    world_fini(&h->x);
}

static void hand_send(struct hand *h, const void *bytes, size_t n)
{
    link_send(h->far, buf_copy(&h->x.w.pool, bytes, n));
    turn(&h->x);
}

// All that came, at most `size` bytes.
static size_t hand_read(struct hand *h, uint8_t *out, size_t size)
{
    struct buf *b;
    size_t n = 0;
    while (link_recv(h->far, &b) == LINK_OK) {
        assert_true(b->len <= size - n);
        memcpy(out + n, buf_data(b), b->len);
        n += b->len;
        buf_put(b);
    }
    return n;
}

static size_t put_hello(uint8_t *out)
{
    struct frame_hello f = {.ver_min = 1, .ver_max = 1, .carrier = 3, .name = "hand", .has_token = true};
    return frame_put_hello(out, &f);
}

static void assert_down(const struct side *x, const char *part)
{
    assert_int_equal(x->downs, 1);
    if (!strstr(err_text(&x->err), part))
        fail_msg("\"%s\" does not say \"%s\"", err_text(&x->err), part);
}

static void hello_has_a_deadline(void **state)
{
    struct hand h;
    hand_relay(&h, NULL);
    hand_send(&h, "\0\0\x28\x01", 4); // a beginning does not help
    pass_ms(&h.x, CONN_HANDSHAKE_MS - 1);
    turn(&h.x);
    assert_int_equal(h.x.relay.downs, 0);
    pass_ms(&h.x, 1);
    turn(&h.x);
    assert_down(&h.x.relay, "no HELLO in time");
    assert_int_equal(h.x.relay.err.kind, ERR_UNREACHED);
    hand_fini(&h);
}

static void an_agents_open_has_a_deadline(void **state)
{
    struct hand h;
    struct mem_plan never = {.open_again = 1000000000};
    hand_agent(&h, NULL, 777);
    pass_ms(&h.x, 776);
    assert_int_equal(h.x.agent.downs, 0);
    pass_ms(&h.x, 1);
    assert_down(&h.x.agent, "no WELCOME in time");
    hand_fini(&h);
    world_init(&h.x);
    struct link *l;
    struct frame_hello hello = {.ver_min = 1, .ver_max = 1};
    mem_pair(&h.x.w, &l, &h.far, &never, NULL);
    h.x.agent.conn = conn_agent(&h.x.w, l, &hello, true, 777, &h.x.agent.s, &conn_ops, &h.x.agent);
    worker_turn(&h.x.w);
    pass_ms(&h.x, 777);
    assert_down(&h.x.agent, "the handshake took too long");
    link_close(h.far);
    conn_free(h.x.agent.conn);
    h.x.agent.conn = NULL;
    world_fini(&h.x);
}

static void hello_in_every_cut(void **state)
{
    uint8_t hello[FRAME_HEAD + FRAME_CONTROL_MAX], out[2048];
    size_t n = put_hello(hello);
    for (unsigned cut = 1; cut <= n; cut++) {
        struct hand h;
        struct mem_plan plan = {.cut = cut};
        hand_relay(&h, &plan);
        hand_send(&h, hello, n);
        assert_int_equal(h.x.relay.hellos, 1);
        assert_int_equal(h.x.relay.downs, 0);
        assert_int_equal(h.x.relay.hello.carrier, 3);
        struct frame_head head;
        assert_true(hand_read(&h, out, sizeof out) > FRAME_HEAD);
        frame_get_head(&head, out);
        assert_int_equal(head.type, FRAME_WELCOME);
        hand_fini(&h);
    }
}

static void malformed_first_frames(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *says;
    } cases[] = {
        {"GET / HT", 8, "not HELLO"},                       // somebody else's protocol
        {"\0\0\x2a\x02\0\0\0\0", 8, "not HELLO"},           // WELCOME
        {"\0\0\x2a\x01\0\0\0\1", 8, "not HELLO"},           // on a stream
        {"\0\x04\x01\x01\0\0\0\0", 8, "not HELLO"},         // longer than any
        {"\xff\xff\xff\x01\0\0\0\0", 8, "not HELLO"},
        {"\0\0\0\x01\0\0\0\0", 8, "malformed HELLO"},       // empty
        {"\0\0\x03\x01\0\0\0\0abc", 11, "malformed HELLO"},
    };
    for (unsigned i = 0; i < COUNT(cases); i++) {
        struct hand h;
        hand_relay(&h, NULL);
        hand_send(&h, cases[i].bytes, cases[i].n);
        assert_down(&h.x.relay, cases[i].says);
        assert_int_equal(h.x.relay.hellos, 0);
        hand_fini(&h);
    }
}

static void bytes_behind_hello(void **state)
{
    uint8_t hello[2048];
    size_t n = put_hello(hello);
    struct hand h;
    hand_relay(&h, NULL);
    hello[n] = 0;
    hand_send(&h, hello, n + 1);
    assert_down(&h.x.relay, "bytes behind HELLO");
    hand_fini(&h);
}

static size_t put_welcome(uint8_t *out, uint16_t flags)
{
    struct frame_welcome f = {.ver = 1, .flags = flags};
    return frame_put_welcome(out, &f);
}

static void bytes_behind_welcome_belong_to_the_session(void **state)
{
    uint8_t out[2048];
    struct hand h;
    hand_agent(&h, NULL, 1000);
    assert_true(hand_read(&h, out, sizeof out) > FRAME_HEAD);
    size_t n = put_welcome(out, 0);
    n += frame_put_ping(out + n, FRAME_PING, 42, 1);
    hand_send(&h, out, n);
    assert_int_equal(h.x.agent.welcomes, 1);
    assert_int_equal(h.x.agent.downs, 0);
    assert_true(hand_read(&h, out, sizeof out) >= 40); // PONG, and a PING of its own
    struct frame_head head;
    frame_get_head(&head, out);
    assert_int_equal(head.type, FRAME_PONG);
    assert_int_equal(get64(out + FRAME_HEAD), 42);
    hand_fini(&h);
}

static void welcome_must_be_one(void **state)
{
    uint8_t out[2048];
    struct hand h;
    hand_agent(&h, NULL, 1000);
    hand_send(&h, out, put_hello(out));
    assert_down(&h.x.agent, "not WELCOME");
    hand_fini(&h);
    hand_agent(&h, NULL, 1000);
    hand_send(&h, "\0\0\3\2\0\0\0\0\1\0\0", 11);
    assert_down(&h.x.agent, "malformed WELCOME");
    hand_fini(&h);
    hand_agent(&h, NULL, 1000);
    struct frame_welcome f = {.ver = 2};
    hand_send(&h, out, frame_put_welcome(out, &f));
    assert_down(&h.x.agent, "malformed WELCOME");
    hand_fini(&h);
    hand_agent(&h, NULL, 1000);
    hand_send(&h, out, put_welcome(out, WELCOME_PEEL));
    assert_down(&h.x.agent, "not offered");
    hand_fini(&h);
}

static void an_owner_may_drop_welcome(void **state)
{
    uint8_t out[2048];
    struct hand h;
    hand_agent(&h, NULL, 1000);
    h.x.agent.drop_welcome = true;
    hand_send(&h, out, put_welcome(out, 0));
    assert_int_equal(h.x.agent.downs, 1);
    assert_false(session_is_up(&h.x.agent.s));
    hand_fini(&h);
}

static void versions_must_meet(void **state)
{
    static const uint8_t versions[][2] = {{2, 9}, {0, 0}};
    for (unsigned i = 0; i < COUNT(versions); i++) {
        uint8_t out[2048];
        struct hand h;
        struct frame_hello f = {.ver_min = versions[i][0], .ver_max = versions[i][1]};
        struct frame_welcome w;
        struct frame_head head;
        hand_relay(&h, NULL);
        hand_send(&h, out, frame_put_hello(out, &f));
        assert_int_equal(h.x.relay.hellos, 0);
        hand_read(&h, out, sizeof out);
        frame_get_head(&head, out);
        assert_int_equal(frame_get_welcome(&w, out + FRAME_HEAD, head.length), 0);
        assert_int_equal(w.status, WELCOME_STOP);
        assert_non_null(strstr(w.text, "too old"));
        struct err e = ERR_INIT;
        conn_refusal(&e, &f, &w);
        assert_non_null(strstr(err_text(&e), "too old"));
        assert_int_equal(e.advice, ADVICE_VERSION);
        err_fini(&e);
        hand_fini(&h);
    }
}

static void a_refusal_arrives_with_its_text(void **state)
{
    for (int cut = 0; cut < 3; cut++) {
        struct world x;
        struct plan p = {.outer = true, .agent_peels = true, .relay_peels = true};
        p.agent.cut = (size_t)cut * 100;
        world_init(&x);
        x.relay.refuse = WELCOME_WAIT;
        connect_both(&x, &p);
        run_until(&x, 100);
        assert_down(&x.agent, "the relay refused: not");
        assert_true(x.agent.has_refusal);
        assert_int_equal(x.agent.refusal.status, WELCOME_WAIT);
        assert_int_equal(x.agent.refusal.retry_ms, 1234);
        assert_null(strchr(x.agent.refusal.text, '\n')); // foreign bytes are escaped
        assert_int_equal(x.agent.welcomes, 0);
        conn_free(x.agent.conn);
        x.agent.conn = NULL;
        run_until(&x, 100);
        assert_down(&x.relay, "refused: not");
        world_fini(&x);
    }
}

static void a_refused_peer_is_not_waited_for(void **state)
{
    uint8_t out[2048];
    struct hand h;
    hand_relay(&h, NULL);
    h.x.relay.refuse = WELCOME_STOP;
    hand_send(&h, out, put_hello(out));
    static uint8_t junk[10000];
    for (int i = 0; i < 40; i++) // and may say what it likes
        hand_send(&h, junk, sizeof junk);
    pass_ms(&h.x, 1999);
    turn(&h.x);
    assert_int_equal(h.x.relay.downs, 0);
    pass_ms(&h.x, 1);
    assert_down(&h.x.relay, "refused");
    hand_fini(&h);
}

// --- life

static void a_second_carrier_stands_beside_the_first(void **state)
{
    struct world x;
    struct plan p = {.agent_exporter = 7, .relay_exporter = 7, .agent_peels = true, .relay_peels = true};
    world_init(&x);
    connect_both(&x, &p);
    run_until(&x, 10);
    struct conn *agent = x.agent.conn, *relay = x.relay.conn;
    connect_both(&x, &p);
    run_until(&x, 10);
    assert_int_equal(x.relay.downs + x.agent.downs, 0);
    assert_ptr_equal(agent->carrier.s, &x.agent.s);
    assert_ptr_equal(x.agent.conn->carrier.s, &x.agent.s);
    transfer(&x, 500000, 500000); // opens on the first one, which goes before anything has left
    assert_int_equal(agent->carrier.stream_count, 1);
    conn_free(agent);
    conn_free(relay);
    assert_int_equal(x.agent.conn->carrier.stream_count, 1);
    run_until(&x, 60000);
    assert_true(arrived(&x));
    world_fini(&x);
}

#define DEAD_MS ((2 * LIVENESS_PATIENCE_US + LIVENESS_SUSPECT_US) / 1000) // of a carrier that was never measured

static void silence_after_ping_ends_it(void **state)
{
    uint8_t out[2048];
    struct hand h;
    hand_agent(&h, NULL, 1000);
    hand_send(&h, out, put_welcome(out, 0));
    for (uint64_t ms = 0; ms < DEAD_MS; ms += 1000) {
        assert_int_equal(h.x.agent.downs, 0);
        pass_ms(&h.x, 1000);
        turn(&h.x);
    }
    assert_down(&h.x.agent, "does not answer PING");
    hand_fini(&h);
}

static void a_carrier_without_room_dies_too(void **state)
{
    uint8_t out[2048];
    struct hand h;
    struct mem_plan full = {.queue_max = 1};
    hand_agent(&h, &full, 1000);
    hand_send(&h, out, put_welcome(out, 0)); // HELLO is in the queue: PING never leaves
    unsigned turns = 0;
    for (uint64_t ms = 0; ms < DEAD_MS; ms++, turns++) {
        assert_int_equal(h.x.agent.downs, 0);
        pass_ms(&h.x, 1);
        turn(&h.x);
    }
    assert_down(&h.x.agent, "does not answer PING");
    hand_fini(&h);
}

static void a_broken_protocol_is_told_with_its_place(void **state)
{
    uint8_t out[2048];
    struct hand h;
    hand_relay(&h, NULL);
    hand_send(&h, out, put_hello(out));
    frame_put_head(out, 0, 0xaa, 0);
    hand_send(&h, out, FRAME_HEAD);
    assert_down(&h.x.relay, "protocol error: unknown critical frame aa");
    hand_fini(&h);
}

static int setup(void **state)
{
    carrier_tls_init(&tls);
    return 0;
}

static int teardown(void **state)
{
    carrier_tls_fini(&tls);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peeled_when_both_exporters_are_equal), cmocka_unit_test(not_peeled_otherwise),
        cmocka_unit_test(the_exporter_is_only_told_when_wanted), cmocka_unit_test(peeled_under_every_cut),
        cmocka_unit_test(peeled_and_not_under_random_plans), cmocka_unit_test(a_failure_at_each_step_is_told_once),
        cmocka_unit_test(freed_at_each_step), cmocka_unit_test(a_damaged_close_notify_fails_the_carrier),
        cmocka_unit_test(hello_has_a_deadline), cmocka_unit_test(an_agents_open_has_a_deadline),
        cmocka_unit_test(hello_in_every_cut), cmocka_unit_test(malformed_first_frames),
        cmocka_unit_test(bytes_behind_hello), cmocka_unit_test(bytes_behind_welcome_belong_to_the_session),
        cmocka_unit_test(welcome_must_be_one), cmocka_unit_test(an_owner_may_drop_welcome),
        cmocka_unit_test(versions_must_meet), cmocka_unit_test(a_refusal_arrives_with_its_text),
        cmocka_unit_test(a_refused_peer_is_not_waited_for), cmocka_unit_test(a_second_carrier_stands_beside_the_first),
        cmocka_unit_test(silence_after_ping_ends_it), cmocka_unit_test(a_carrier_without_room_dies_too),
        cmocka_unit_test(a_broken_protocol_is_told_with_its_place),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
