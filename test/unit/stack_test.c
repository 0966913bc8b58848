// SPDX-License-Identifier: Apache-2.0
// Every link over the misbehaving memory link: each cut, AGAIN at each step, no room at each step, failure at each
// step. The worker is bare: when no wake is left and the talk is not over, somebody did not pay a debt.
#include "drive.h"
#include <stdio.h>
#include <string.h>
#include "link/ws.h"
#include "talk.h"

struct outcome {
    enum talk_result client, server;
    bool hung;
};

struct run {
    const char *layers;
    size_t up, down, chunk;
    bool peel;
    struct mem_plan client, server;
};

// When wakes run out only the WebSocket's patience may still move things, and only after a failure.
static void drive(struct worker *w, struct talk *t, bool may_wait)
{
    drive_until(w, &t->done);
    for (int i = 0; may_wait && !t->done && i < 4; i++) {
        w->now_ms += WS_CLOSE_MS;
        worker_run_timers(w);
        drive_until(w, &t->done);
    }
}

static struct outcome run(const struct run *r, struct link_facts facts[2])
{
    struct worker w;
    struct talk t;
    struct link *a, *b;
    worker_init_bare(&w);
    mem_pair(&w, &a, &b, &r->client, &r->server);
    talk_start(&t, &w, a, b, r->layers, r->up, r->down);
    t.client.chunk = t.server.chunk = r->chunk;
    t.client.peel = t.server.peel = r->peel;
    drive(&w, &t, r->client.fail_at || r->server.fail_at);
    struct outcome o = {t.client.result, t.server.result, !t.done};
    if (facts) {
        facts[0] = t.client.facts;
        facts[1] = t.server.facts;
    }
    if (o.client == TALK_FAILED && !r->client.fail_at && !r->server.fail_at)
        fprintf(stderr, "%s client: %s\n", r->layers, err_text(&t.client.err));
    if (o.server == TALK_FAILED && !r->client.fail_at && !r->server.fail_at)
        fprintf(stderr, "%s server: %s\n", r->layers, err_text(&t.server.err));
    talk_fini(&t);
    worker_fini(&w);
    return o;
}

static void must_succeed(const struct run *r, const char *what, unsigned k)
{
    struct outcome o = run(r, NULL);
    if (o.hung || o.client != TALK_OK || o.server != TALK_OK)
        fail_msg("%s%s: %s %u: %s (client %d, server %d)", r->layers, r->peel ? " peeled" : "", what, k,
                 o.hung ? "hung" : "failed", o.client, o.server);
}

static void every_cut(struct run r, unsigned max)
{
    for (unsigned k = 1; k <= max; k++) {
        r.client.cut = k;
        r.server.cut = k;
        must_succeed(&r, "cut", k);
    }
    r.client.cut = 0;
    must_succeed(&r, "cut on one side", 1);
}

static void again_and_no_room_at_every_step(struct run r, unsigned max)
{
    for (unsigned k = 1; k <= max; k++) {
        struct mem_plan again = {.again_at = k, .cut = 700}, no_room = {.noroom_at = k, .queue_max = 20000};
        struct run x = r;
        x.client = again;
        must_succeed(&x, "AGAIN at the client's step", k);
        x = r;
        x.server = again;
        must_succeed(&x, "AGAIN at the server's step", k);
        x = r;
        x.client = no_room;
        must_succeed(&x, "no room at the client's step", k);
        x = r;
        x.server = no_room;
        must_succeed(&x, "no room at the server's step", k);
    }
    struct run x = r;
    x.client = x.server = (struct mem_plan){.again_every = 2, .noroom_every = 2, .open_again = 3, .queue_max = 1, .cut = 999};
    must_succeed(&x, "everything is in the way", 0);
}

// Returns how many failures were seen; the first step beyond the run's end ends it.
static unsigned failure_at_every_step(struct run r, bool client)
{
    unsigned seen = 0;
    for (unsigned k = 1;; k++) {
        struct mem_plan plan = {.fail_at = k, .cut = 500};
        r.client = client ? plan : (struct mem_plan){0};
        r.server = client ? (struct mem_plan){0} : plan;
        struct outcome o = run(&r, NULL);
        if (o.hung)
            fail_msg("%s%s: failure at the %s's step %u: hung", r.layers, r.peel ? " peeled" : "", client ? "client" : "server", k);
        if (o.client == TALK_OK && o.server == TALK_OK)
            return seen;
        seen++;
    }
}

static void torture(const char *layers, unsigned cuts, unsigned steps, bool peel)
{
    struct run r = {.layers = layers, .up = 3000, .down = 40000, .peel = peel};
    struct run small = {.layers = layers, .up = 7, .down = 300, .peel = peel};
    must_succeed(&r, "nothing in the way", 0);
    every_cut(small, cuts);
    r.chunk = 1237;
    must_succeed(&r, "small sends", 0);
    again_and_no_room_at_every_step(r, steps);
    r.up = r.down = 0;
    must_succeed(&r, "no data", 0);
    assert_true(failure_at_every_step(small, true) > 2);
    assert_true(failure_at_every_step(small, false) > 2);
}

static void memory_alone(void **state) { torture("", 350, 40, false); }
static void websocket(void **state) { torture("W", 350, 60, false); }
static void connect_through_a_proxy(void **state) { torture("C", 350, 40, false); }
static void socks(void **state) { torture("S", 350, 40, false); }
static void a_mixed_chain(void **state) { torture("SCSC", 40, 40, false); }
static void a_carrier_through_tls_and_socks(void **state) { torture("TCSTWI", 20, 30, false); }
static void outer_tls(void **state) { torture("T", 60, 60, false); }
static void inner_tls(void **state) { torture("I", 60, 60, false); }
static void inner_tls_peeled(void **state) { torture("I", 80, 60, true); }
static void tls_over_websocket_over_tls(void **state) { torture("TWI", 40, 60, false); }
static void a_whole_carrier(void **state) { torture("CTWI", 30, 40, false); }
static void a_whole_carrier_peeled(void **state) { torture("CTWI", 30, 40, true); }
static void websocket_over_http2(void **state) { torture("HW", 200, 60, false); }
static void connect_over_http2(void **state) { torture("HC", 100, 40, false); }
static void a_carrier_over_http2(void **state) { torture("THWI", 30, 40, false); }
static void a_carrier_over_http2_peeled(void **state) { torture("THWI", 30, 40, true); }
static void a_carrier_through_an_http2_proxy(void **state) { torture("THCTHWI", 20, 20, false); }
static void tls_over_tls(void **state) { torture("CTCT", 20, 30, false); }

static void sizes_around_every_edge(void **state)
{
    static const size_t sizes[] = {1, 125, 126, 127, 16327, 16328, 16329, 16336, 16344, 16367, 16368, 16369, 16384, 16385,
                                   65535, 65536, 65537, (1 << 20) + 1};
    static const char *const stacks[] = {"", "W", "T", "TWI", "THWI"};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (size_t j = 0; j < sizeof(stacks) / sizeof(stacks[0]); j++) {
            struct run r = {.layers = stacks[j], .up = sizes[i], .down = sizes[i]};
            must_succeed(&r, "size", (unsigned)sizes[i]);
            r.chunk = 16384 - 16; // no headroom to spare
            must_succeed(&r, "size in whole buffers", (unsigned)sizes[i]);
        }
    }
}

static void facts_are_told(void **state)
{
    struct run r = {.layers = "CSTWI", .up = 10, .down = 10};
    struct link_facts f[2];
    struct outcome o = run(&r, f);
    assert_int_equal(o.client, TALK_OK);
    assert_string_equal(f[0].path, "via proxy:3128, socks:1080");
    assert_string_equal(f[0].tls_version, "TLSv1.3");
    assert_string_equal(f[0].alpn, "http/1.1");
    assert_string_equal(f[1].alpn, "http/1.1");
    assert_string_equal(f[0].tls_issuer, "CN=relay.example");
    assert_true(f[0].outer_trusted);
    assert_true(f[0].has_exporter && f[1].has_exporter);
    assert_memory_equal(f[0].exporter, f[1].exporter, 32);
    assert_true(f[0].has_pin && f[1].has_pin);
    assert_memory_not_equal(f[0].pin, f[1].pin, 32);
    struct link_facts again[2];
    run(&r, again);
    assert_memory_not_equal(f[0].exporter, again[0].exporter, 32);
    assert_memory_equal(f[0].pin, again[0].pin, 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_alone),
        cmocka_unit_test(websocket),
        cmocka_unit_test(connect_through_a_proxy),
        cmocka_unit_test(socks),
        cmocka_unit_test(a_mixed_chain),
        cmocka_unit_test(a_carrier_through_tls_and_socks),
        cmocka_unit_test(outer_tls),
        cmocka_unit_test(inner_tls),
        cmocka_unit_test(inner_tls_peeled),
        cmocka_unit_test(tls_over_websocket_over_tls),
        cmocka_unit_test(a_whole_carrier),
        cmocka_unit_test(a_whole_carrier_peeled),
        cmocka_unit_test(websocket_over_http2),
        cmocka_unit_test(connect_over_http2),
        cmocka_unit_test(a_carrier_over_http2),
        cmocka_unit_test(a_carrier_over_http2_peeled),
        cmocka_unit_test(a_carrier_through_an_http2_proxy),
        cmocka_unit_test(tls_over_tls),
        cmocka_unit_test(sizes_around_every_edge),
        cmocka_unit_test(facts_are_told),
    };
    return cmocka_run_group_tests(tests, talk_setup, talk_teardown);
}
