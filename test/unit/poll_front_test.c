// SPDX-License-Identifier: Apache-2.0
// Long-poll from an agent's link to the relay's front, over connections in memory and a clock that the test moves: what is begun, found,
// forgotten and bounded, and connections that fail at any step.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "drive.h"
#include "link/mem.h"
#include "link/poll.h"
#include "link/poll_server.h"
#include "link/tls.h"
#include "relay/front.h"
#include "relay/poll.h"
#include "trust/identity.h"

struct bench {
    struct worker w;
    struct front f;
    struct identity relay, agent;
    const char *paths[1];
    struct cidr fronts; // so that other addresses are one caller's
    unsigned hellos, downs, calls;
    bool welcome;       // the agent is admitted
    struct conn *taken; // its carrier
    unsigned bad_call;  // the number of the connection which fails
    uint32_t bad_step;  // at this step
    struct err err;
};

static void on_hello(struct front_caller *k, const struct frame_hello *hello)
{
    struct bench *b = k->f->owner;
    b->hellos++;
    assert_string_equal(hello->name, "site7");
    assert_memory_equal(conn_facts(k->conn)->pin, b->agent.pin, 32);
    assert_false(conn_facts(k->conn)->has_exporter);
    if (b->welcome)
        b->taken = front_take(k);
    else
        conn_refuse(k->conn, WELCOME_STOP, 0, "not today");
}

static void on_full(struct front *f, bool full) { (void)f, (void)full; }

static int setup(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    struct err e = ERR_INIT;
    worker_init_bare(&b->w);
    b->w.now_ms = 1000;
    assert_int_equal(identity_make(&b->relay, &e), 0);
    assert_int_equal(identity_make(&b->agent, &e), 0);
    front_init(&b->f, &b->w);
    b->paths[0] = "/tunnel";
    b->f.paths = b->paths;
    b->f.path_count = 1;
    b->f.owner = b;
    b->f.on_hello = on_hello;
    b->f.on_full = on_full;
    assert_true(cidr_parse(&b->fronts, "198.51.100.1"));
    b->f.trusted = &b->fronts;
    b->f.trusted_count = 1;
    b->f.inner = tls_inner_ctx(true, b->relay.cert, b->relay.key, &e);
    assert_non_null(b->f.inner);
    *state = b;
    return 0;
}

static void turns(struct bench *b)
{
    for (int i = 0; i < 200; i++)
        worker_turn(&b->w);
}

static void pass(struct bench *b, uint64_t ms)
{
    b->w.now_ms += ms;
    b->w.now_us += ms * 1000;
    worker_run_timers(&b->w);
    turns(b);
}

static int teardown(void **state)
{
    struct bench *b = *state;
    front_fini(&b->f);
    drive_settle(&b->w);
    assert_int_equal(b->f.polls.count, 0);
    assert_int_equal(b->w.pool.out_bytes, 0);
    err_fini(&b->err);
    identity_fini(&b->relay);
    identity_fini(&b->agent);
    worker_fini(&b->w);
    free(b);
    return 0;
}

static struct link *call(struct bench *b, const char *from)
{
    struct link *here, *there;
    struct addr peer;
    struct mem_plan bad = {.fail_at = b->bad_step};
    b->calls++;
    mem_pair(&b->w, &here, &there, b->calls == b->bad_call ? &bad : NULL, NULL);
    addr_parse_ip(&peer, from, 1234);
    front_accept(&b->f, there, &peer, FRONT_PLAIN);
    return here;
}

// --- requests by hand

#define ID "0123456789abcdefghij-"

static void say(struct link *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct link *l, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    link_send(l, buf_copy(&l->w->pool, text, (size_t)n));
}

static struct link *post(struct bench *b, const char *from, char id, const char *body)
{
    struct link *l = call(b, from);
    turns(b);
    say(l, "POST /tunnel?cp1." ID "%c.0.1.0.p.0.d HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n%s", id, strlen(body), body);
    turns(b);
    return l;
}

static struct link *get(struct bench *b, char id, uint64_t acked, unsigned low, unsigned number, unsigned hold)
{
    struct link *l = call(b, "192.0.2.1");
    turns(b);
    say(l, "GET /tunnel?cp1." ID "%c.%llu.%u.0.g.%u.%u.1000 HTTP/1.1\r\nHost: a\r\n\r\n", id, (unsigned long long)acked, low, number, hold);
    turns(b);
    return l;
}

// What has come so far; "" for nothing.
static const char *heard(struct link *l)
{
    static char text[4096];
    size_t n = 0;
    struct buf *buf;
    while (link_recv(l, &buf) == LINK_OK) {
        for (uint32_t i = 0; i < buf->len && n < sizeof text - 1; i++)
            text[n++] = buf_data(buf)[i] ? (char)buf_data(buf)[i] : '0';
        buf_put(buf);
    }
    text[n] = 0;
    return text;
}

static void starts(struct link *l, const char *with)
{
    const char *text = heard(l);
    if (strncmp(text, with, strlen(with)) || (!*with && *text))
        fail_msg("\"%.80s\" is not \"%s\"", text, with);
}

static void test_a_stranger_is_forgotten(void **state)
{
    struct bench *b = *state;
    struct link *l = post(b, "192.0.2.1", 'a', ""), *again;
    starts(l, "HTTP/1.1 200 OK\r\n");
    assert_int_equal(b->f.polls.count, 1);
    again = post(b, "192.0.2.1", 'a', ""); // a box sent it twice
    starts(again, "HTTP/1.1 200 OK\r\n");
    assert_int_equal(b->f.polls.count, 1);
    pass(b, POLL_STRANGER_MS - 1);
    assert_int_equal(b->f.polls.count, 1);
    pass(b, 2);
    assert_int_equal(b->f.polls.count, 0);
    struct link *late = get(b, 'a', 0, 1, 1, 25);
    starts(late, "HTTP/1.1 404 ");
    link_close(l);
    link_close(again);
    link_close(late);
    turns(b);
}

static void test_what_is_no_tls_ends_it_at_once(void **state)
{
    struct bench *b = *state;
    struct link *l = post(b, "192.0.2.1", 'a', ""), *g = get(b, 'a', 0, 1, 1, 25);
    starts(g, ""); // parked
    struct link *bad = post(b, "192.0.2.1", 'a', "hello, I am no agent");
    starts(g, "HTTP/1.1 200 OK\r\n"); // the alert, or the abort
    assert_int_equal(b->f.polls.count, 0);
    link_close(l);
    link_close(g);
    link_close(bad);
    turns(b);
}

static void test_a_get_is_parked_so_long_and_a_repeated_one_holds_nothing(void **state)
{
    struct bench *b = *state;
    struct link *l = post(b, "192.0.2.1", 'a', ""), *one = get(b, 'a', 0, 1, 1, 3), *two = get(b, 'a', 0, 1, 2, 4), *again;
    starts(one, "");
    again = get(b, 'a', 0, 1, 1, 4);
    starts(one, "HTTP/1.1 200 OK\r\n");
    pass(b, 3999);
    starts(two, "");
    starts(again, "");
    pass(b, 2);
    starts(two, "HTTP/1.1 200 OK\r\n");
    starts(again, "HTTP/1.1 200 OK\r\n");
    struct link *old = get(b, 'a', 0, 5, 5, 4), *older = get(b, 'a', 0, 1, 2, 4);
    starts(old, "");
    starts(older, "HTTP/1.1 200 OK\r\n"); // over long ago
    struct link *wrong = get(b, 'a', 1, 5, 6, 4); // acknowledges what was never sent
    starts(wrong, "HTTP/1.1 200 OK\r\n");
    turns(b);
    assert_int_equal(b->f.polls.count, 0);
    struct link *all[] = {l, one, two, again, old, older, wrong};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        link_close(all[i]);
    turns(b);
}

static void test_one_address_begins_so_many(void **state)
{
    struct bench *b = *state;
    struct link *l[40];
    unsigned refused = 0;
    for (int i = 0; i < 40; i++) {
        l[i] = post(b, "192.0.2.1", (char)('A' + i % 26 + (i >= 26 ? 32 : 0)), "");
        const char *text = heard(l[i]);
        refused += !!strncmp(text, "HTTP/1.1 200", 12);
        link_close(l[i]);
        turns(b);
    }
    assert_int_equal(b->f.polls.count, FRONT_ADDRESS_MAX - 1); // one is needed to ask
    assert_int_equal(refused, 40 - b->f.polls.count);
    struct link *other = post(b, "192.0.2.2", 'A' + 25, "");
    starts(other, "HTTP/1.1 200");
    link_close(other);
    turns(b);
}

static void test_requests_of_one_carrier_are_bounded(void **state)
{
    struct bench *b = *state;
    struct link *l = post(b, "192.0.2.1", 'a', ""), *g[POLL_ASKS_MAX + 1];
    for (unsigned i = 0; i <= POLL_ASKS_MAX; i++) {
        g[i] = get(b, 'a', 0, 1, i + 1, 4);
        starts(g[i], i < POLL_ASKS_MAX ? "" : "HTTP/1.1 503 ");
    }
    for (unsigned i = 0; i <= POLL_ASKS_MAX; i++)
        link_close(g[i]);
    link_close(l);
    turns(b);
}

static void test_no_other_path_or_first_offset(void **state)
{
    struct bench *b = *state;
    static const char *const lines[] = {"POST /other?cp1." ID "a.0.1.0.p.0.d", "POST /tunnel?cp1." ID "a.0.1.0.p.1.d",
                                        "POST /tunnel?cp1." ID "a.0.1.0.p.0.x", "PUT /tunnel?cp1." ID "a.0.1.0.p.0.d"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct link *l = call(b, "192.0.2.1");
        turns(b);
        say(l, "%s HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", lines[i]);
        turns(b);
        starts(l, "HTTP/1.1 404 ");
        link_close(l);
        turns(b);
    }
    assert_int_equal(b->f.polls.count, 0);
}

// A buffer without headroom, as a whole record of TLS 1.3 is: begins and ends with these.
static struct buf *full(struct bench *b, const void *first, size_t len, const char *last)
{
    struct buf *buf = buf_get(&b->w.pool);
    buf->start = 0;
    buf->len = BUF_SIZE;
    memset(buf->base, 'z', BUF_SIZE);
    memcpy(buf->base, first, len);
    memcpy(buf->base + BUF_SIZE - strlen(last), last, strlen(last));
    return buf;
}

static void test_a_body_and_more_in_one_full_buffer(void **state)
{
    struct bench *b = *state;
    struct link *l = call(b, "192.0.2.1");
    turns(b);
    say(l, "POST /tunnel?cp1." ID "a.0.1.0.p.0.d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", BUF_SIZE - 9);
    turns(b);
    link_send(l, full(b, "", 0, ""));
    turns(b);
    starts(l, "HTTP/1.1 200 OK\r\n"); // what it was sent is no TLS
    link_close(l);
    turns(b);
}

// --- a whole agent

struct test_road {
    struct road road;
    struct bench *b;
};

struct trip {
    struct wake wake;
    struct road_call *call;
    struct bench *b;
};

static void on_trip(struct wake *wake)
{
    struct trip *t = container_of(wake, struct trip, wake);
    struct road_call *c = t->call;
    struct link *l = call(t->b, "192.0.2.1");
    free(t);
    c->of = NULL;
    c->on_done(c, l, NULL);
}

static void road_dial(struct road *r, struct road_call *c)
{
    struct trip *t = calloc(1, sizeof *t);
    t->call = c;
    t->b = container_of(r, struct test_road, road)->b;
    c->of = t;
    wake_init(&t->wake, on_trip);
    wake_post(&t->b->w, &t->wake);
}

static void road_stop(struct road *r, struct road_call *c)
{
    struct trip *t = c->of;
    if (!t)
        return;
    wake_cancel(&t->wake);
    free(t);
    c->of = NULL;
}

static void road_fini(struct road *r) { free(container_of(r, struct test_road, road)); }

static void on_down(struct conn *c, const struct err *err, const struct frame_welcome *refusal)
{
    struct bench *b = c->owner;
    b->downs++;
    err_copy(&b->err, err);
}

// HELLO and its refusal: both directions, and both ends.
static void talk(struct bench *b)
{
    static const struct conn_ops ops = {.on_down = on_down};
    static const struct session_ops session_ops;
    struct err e = ERR_INIT;
    struct session s;
    struct budget budget;
    struct frame_hello hello = {.ver_min = 1, .ver_max = 1, .carrier = 1, .name = "site7"};
    SSL_CTX *ctx = tls_inner_ctx(false, b->agent.cert, b->agent.key, &e);
    struct test_road *road = calloc(1, sizeof *road);
    *road = (struct test_road){{road_dial, road_stop, road_fini}, b};
    struct poll_options o = {.host = "a", .path = "/tunnel", .where = "relay", .road = &road->road};
    struct tls_options inner = {.ctx = ctx, .pins = (const uint8_t(*)[32])b->relay.pin, .pin_count = 1, .who = "relay"};
    b->hellos = b->downs = b->calls = 0;
    budget_init(&budget, 1 << 20, NULL);
    session_init(&s, &b->w, true, hello.session, &session_ops, NULL, &budget);
    struct link *top = tls_over(poll_over(call(b, "192.0.2.1"), &o), &inner, NULL);
    struct conn *c = conn_agent(&b->w, top, &hello, false, 30000, &s, &ops, b);
    turns(b);
    for (int i = 0; i < 3000 && !b->downs; i++)
        pass(b, 10);
    assert_int_equal(b->downs, 1);
    conn_free(c);
    turns(b);
    pass(b, 20000);
    assert_int_equal(b->f.polls.count, 0);
    assert_int_equal(b->f.count, 0);
    session_fini(&s, NULL);
    budget_fini(&budget);
    SSL_CTX_free(ctx);
}

static void test_hello_and_refusal(void **state)
{
    struct bench *b = *state;
    talk(b);
    assert_int_equal(b->hellos, 1);
    assert_string_equal(err_text(&b->err), "the relay refused: not today");
}

static void test_connections_may_fail_at_any_step(void **state)
{
    struct bench *b = *state;
    for (b->bad_call = 1; b->bad_call <= 3; b->bad_call++) {
        for (b->bad_step = 1; b->bad_step <= 30; b->bad_step++) {
            talk(b);
            if (b->hellos != 1 || !strstr(err_text(&b->err), "not today"))
                fail_msg("connection %u at step %u: %s", b->bad_call, b->bad_step, err_text(&b->err));
        }
    }
}

static void test_where_no_relay_is(void **state)
{
    struct bench *b = *state;
    b->paths[0] = "/elsewhere";
    talk(b);
    if (!strstr(err_text(&b->err), "long-poll at relay: the server answered 404 (Not Found)"))
        fail_msg("%s", err_text(&b->err));
}

// Its id, as boxes on the agent's way see it: behind the node in the table.
static void see_id(struct hash_node *n, void *id) { memcpy(id, n + 1, POLL_ID_TEXT + 1); }

struct known { // an agent that was admitted
    struct session s;
    struct budget budget;
    SSL_CTX *ctx;
    struct conn *conn;
    char id[POLL_ID_TEXT + 1];
};

static void become_known(struct bench *b, struct known *a)
{
    static const struct conn_ops ops = {.on_down = on_down};
    static const struct session_ops session_ops;
    struct err e = ERR_INIT;
    struct frame_hello hello = {.ver_min = 1, .ver_max = 1, .carrier = 1, .name = "site7"};
    struct test_road *road = calloc(1, sizeof *road);
    *road = (struct test_road){{road_dial, road_stop, road_fini}, b};
    struct poll_options o = {.host = "a", .path = "/tunnel", .where = "relay", .road = &road->road};
    a->ctx = tls_inner_ctx(false, b->agent.cert, b->agent.key, &e);
    struct tls_options inner = {.ctx = a->ctx, .pins = (const uint8_t(*)[32])b->relay.pin, .pin_count = 1, .who = "relay"};
    b->welcome = true;
    budget_init(&a->budget, 1 << 20, NULL);
    session_init(&a->s, &b->w, true, hello.session, &session_ops, NULL, &a->budget);
    struct link *top = tls_over(poll_over(call(b, "192.0.2.9"), &o), &inner, NULL);
    a->conn = conn_agent(&b->w, top, &hello, false, 30000, &a->s, &ops, b);
    for (int i = 0; i < 3000 && !b->taken; i++)
        pass(b, 10);
    assert_non_null(b->taken);
    pass(b, 100);
    hash_each(&b->f.polls, see_id, a->id);
}

static void known_fini(struct bench *b, struct known *a)
{
    conn_free(a->conn);
    conn_free(b->taken);
    turns(b);
    pass(b, 20000);
    session_fini(&a->s, NULL);
    budget_fini(&a->budget);
    SSL_CTX_free(a->ctx);
}

// Who is in hand when a carrier fails before anybody proved who he is was a stranger, and still is.
static void test_strangers_stay_strangers_when_their_carrier_fails(void **state)
{
    struct bench *b = *state;
    struct link *l = post(b, "192.0.2.1", 'a', ""), *g[4];
    for (unsigned i = 0; i < 4; i++)
        g[i] = get(b, 'a', 0, 1, i + 1, 25);
    assert_int_equal(b->f.count, 6); // with the carrier itself
    struct link *x = call(b, "192.0.2.1");
    turns(b);
    say(x, "POST /tunnel?cp1." ID "a.0.1.0.p.0.x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    turns(b);
    for (unsigned i = 0; i < 4; i++)
        starts(g[i], "HTTP/1.1 200 OK\r\n");
    assert_int_equal(b->f.polls.count, 0);
    assert_int_equal(b->f.count, 6); // with who said so, and all five may ask again
    link_close(l);
    link_close(x);
    for (unsigned i = 0; i < 4; i++)
        link_close(g[i]);
    turns(b);
    assert_int_equal(b->f.count, 0);
}

static void test_who_asks_for_a_known_carrier_counts_again_when_he_asks_for_something_else(void **state)
{
    struct bench *b = *state;
    struct known a = {0};
    become_known(b, &a);
    unsigned before = b->f.count;
    struct link *g = call(b, "192.0.2.9"), *fill[FRONT_ADDRESS_MAX];
    turns(b);
    assert_int_equal(b->f.count, before + 1);
    for (unsigned i = 1; i <= 2; i++) {
        say(g, "GET /tunnel?cp1.%s.0.1.0.g.%u.2.1000 HTTP/1.1\r\nHost: a\r\n\r\n", a.id, 1000 + i);
        turns(b);
        assert_int_equal(b->f.count, before);
        pass(b, 2001);
        starts(g, "HTTP/1.1 200 OK\r\n");
        before = b->f.count;
    }
    for (unsigned i = 0; i < FRONT_ADDRESS_MAX; i++)
        fill[i] = call(b, "192.0.2.9");
    turns(b);
    say(g, "GET /tunnel?cp1.%s.0.1.0.g.1003.2.1000 HTTP/1.1\r\nHost: a\r\n\r\n", a.id); // the crowd is not his
    turns(b);
    pass(b, 2001);
    starts(g, "HTTP/1.1 200 OK\r\n");
    before = b->f.count;
    say(g, "GET /else HTTP/1.1\r\nHost: a\r\n\r\n");
    turns(b);
    starts(g, "HTTP/1.1 503 ");
    assert_int_equal(b->f.count, before + 1);
    link_close(g);
    for (unsigned i = 0; i < FRONT_ADDRESS_MAX; i++)
        link_close(fill[i]);
    turns(b);
    known_fini(b, &a);
}

static void no_news(struct wake *wake) { (void)wake; }

static void test_chunks_of_an_answer_in_one_full_buffer(void **state)
{
    struct bench *b = *state;
    struct test_road *road = calloc(1, sizeof *road);
    *road = (struct test_road){{road_dial, road_stop, road_fini}, b};
    struct poll_options o = {.host = "a", .path = "/tunnel", .where = "relay", .road = &road->road};
    struct link *here, *there;
    struct buf *got;
    struct wake wake;
    uint8_t head[POLL_ANSWER_HEAD];
    char chunks[100];
    const uint32_t len = 16336;
    uint32_t n = 0;
    poll_put_answer(head, &(struct poll_answer){.len = len});
    size_t at = (size_t)snprintf(chunks, sizeof chunks, "1\r\n%c\r\n%zx\r\n", head[0], sizeof head - 1);
    memcpy(chunks + at, head + 1, sizeof head - 1);
    at += sizeof head - 1;
    at += (size_t)snprintf(chunks + at, sizeof chunks - at, "\r\n%x\r\n", len);
    assert_int_equal(at + len + 7, BUF_SIZE);

    wake_init(&wake, no_news);
    mem_pair(&b->w, &here, &there, NULL, NULL);
    struct link *top = poll_over(here, &o);
    link_own(there, &wake);
    link_own(top, &wake);
    turns(b);
    assert_int_equal(link_open(there), LINK_OK);
    assert_int_equal(link_open(top), LINK_OK);
    turns(b);
    link_send(top, buf_copy(&b->w.pool, "hello", 5));
    turns(b);
    assert_non_null(strstr(heard(there), "POST "));
    say(there, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    turns(b);
    link_send(there, full(b, chunks, at, "\r\n0\r\n\r\n"));
    turns(b);
    while (link_recv(top, &got) == LINK_OK) {
        for (uint32_t i = 0; i < got->len; i++)
            assert_int_equal(buf_data(got)[i], 'z');
        n += got->len;
        buf_put(got);
    }
    assert_int_equal(n, len);
    link_close(there);
    link_close(top);
    turns(b);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_stranger_is_forgotten),
        TEST(test_what_is_no_tls_ends_it_at_once),
        TEST(test_a_get_is_parked_so_long_and_a_repeated_one_holds_nothing),
        TEST(test_one_address_begins_so_many),
        TEST(test_requests_of_one_carrier_are_bounded),
        TEST(test_no_other_path_or_first_offset),
        TEST(test_strangers_stay_strangers_when_their_carrier_fails),
        TEST(test_who_asks_for_a_known_carrier_counts_again_when_he_asks_for_something_else),
        TEST(test_a_body_and_more_in_one_full_buffer),
        TEST(test_chunks_of_an_answer_in_one_full_buffer),
        TEST(test_hello_and_refusal),
        TEST(test_connections_may_fail_at_any_step),
        TEST(test_where_no_relay_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
