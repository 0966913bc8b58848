// SPDX-License-Identifier: Apache-2.0
// The front over the in-memory link: who becomes a carrier, who gets an ordinary answer, who is turned away, who is late.
#include <stdlib.h>
#include <string.h>
#include "drive.h"
#include "link/mem.h"
#include "link/tls.h"
#include "link/ws.h"
#include "relay/front.h"
#include "trust/identity.h"

struct bench {
    struct worker w;
    struct front f;
    struct identity relay, agent;
    const char *paths[2];
    unsigned full, room, hellos, downs;
    char refusal[FRAME_TEXT_MAX + 1];
};

static void on_hello(struct front_caller *k, const struct frame_hello *hello)
{
    struct bench *b = k->f->owner;
    b->hellos++;
    assert_string_equal(hello->name, "site7");
    assert_memory_equal(conn_facts(k->conn)->pin, b->agent.pin, 32);
    conn_refuse(k->conn, WELCOME_STOP, 0, "not today");
}

static void on_full(struct front *f, bool full)
{
    struct bench *b = f->owner;
    if (full)
        b->full++;
    else
        b->room++;
}

static int setup(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    struct err e = ERR_INIT;
    worker_init_bare(&b->w);
    assert_int_equal(identity_make(&b->relay, &e), 0);
    assert_int_equal(identity_make(&b->agent, &e), 0);
    front_init(&b->f, &b->w);
    b->paths[0] = "/";
    b->paths[1] = "/tunnel";
    b->f.paths = b->paths;
    b->f.path_count = 2;
    b->f.owner = b;
    b->f.on_hello = on_hello;
    b->f.on_full = on_full;
    b->f.inner = tls_inner_ctx(true, b->relay.cert, b->relay.key, &e);
    front_set_web(&b->f, tls_inner_ctx(true, b->relay.cert, b->relay.key, &e));
    assert_non_null(b->f.inner);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bench *b = *state;
    front_fini(&b->f);
    drive_settle(&b->w);
    identity_fini(&b->relay);
    identity_fini(&b->agent);
    worker_fini(&b->w);
    free(b);
    return 0;
}

static void turns(struct bench *b)
{
    for (int i = 0; i < 100; i++)
        worker_turn(&b->w);
}

static struct link *call(struct bench *b, const char *from, bool plain, const struct mem_plan *plan)
{
    struct link *here, *there;
    struct addr peer;
    mem_pair(&b->w, &here, &there, NULL, plan);
    addr_parse_ip(&peer, from, 1234);
    front_accept(&b->f, there, &peer, plain);
    return here;
}

// Sends a request and returns the whole answer; NULL: the connection failed.
static char *ask(struct bench *b, const char *request, const struct mem_plan *plan)
{
    struct link *l = call(b, "192.0.2.1", true, plan);
    static char out[8192];
    size_t len = 0;
    for (size_t at = 0, all = strlen(request); at < all; at += 8192)
        link_send(l, buf_copy(&b->w.pool, request + at, all - at < 8192 ? all - at : 8192));
    for (int i = 0; i < 50; i++) {
        struct buf *buf;
        turns(b);
        enum link_status rc = link_recv(l, &buf);
        if (rc == LINK_END || rc == LINK_FAILED)
            break;
        if (rc == LINK_OK) {
            assert_true(len + buf->len < sizeof out);
            memcpy(out + len, buf_data(buf), buf->len);
            len += buf->len;
            buf_put(buf);
        }
    }
    out[len] = 0;
    link_close(l);
    turns(b);
    assert_int_equal(b->f.count, 0);
    return out;
}

static void starts(const char *text, const char *with)
{
    if (strncmp(text, with, strlen(with)))
        fail_msg("\"%.60s\" does not start with %s", text, with);
}

static void test_strangers_get_an_ordinary_404(void **state)
{
    struct bench *b = *state;
    const struct mem_plan cut = {.cut = 1}, again = {.again_every = 2};
    starts(ask(b, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", NULL), "HTTP/1.1 404 Not Found\r\n");
    starts(ask(b, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", &cut), "HTTP/1.1 404 ");
    starts(ask(b, "GET /x HTTP/1.0\r\n\r\n", &again), "HTTP/1.1 404 ");
    assert_non_null(strstr(ask(b, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", NULL), "\r\n\r\n<html>"));
    char *head = ask(b, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", NULL);
    assert_string_equal(strstr(head, "\r\n\r\n"), "\r\n\r\n");
}

static unsigned count_of(const char *text, const char *what)
{
    unsigned n = 0;
    for (; (text = strstr(text, what)); text += strlen(what))
        n++;
    return n;
}

static void test_a_connection_takes_one_request_after_the_other(void **state)
{
    struct bench *b = *state;
    const struct mem_plan cut = {.cut = 7};
    const char *two = "GET /a HTTP/1.1\r\nHost: a\r\n\r\nHEAD /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for (int i = 0; i < 2; i++) {
        char *answers = ask(b, two, i ? &cut : NULL);
        assert_int_equal(count_of(answers, "HTTP/1.1 404 "), 2);
        assert_int_equal(count_of(answers, "Connection: close"), 1);
        assert_int_equal(count_of(answers, "<html>"), 1);
    }
    assert_int_equal(b->f.stats.not_found, 4);
    // A body nobody reads is never taken for a request.
    char *answers = ask(b, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 24\r\n\r\nGET /x HTTP/1.0\r\nHo: a\r\n\r\n", &cut);
    assert_int_equal(count_of(answers, "HTTP/1.1 "), 1);
    assert_int_equal(count_of(answers, "Connection: close"), 1);
}

#define UPGRADE(path, protocol)                                                                                        \
    "GET " path " HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"                    \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: " protocol    \
    "\r\n\r\n"

static void test_only_our_path_and_protocol_are_upgraded(void **state)
{
    struct bench *b = *state;
    starts(ask(b, UPGRADE("/other", "culvert.v1"), NULL), "HTTP/1.1 404 ");
    starts(ask(b, UPGRADE("/tunnelx", "culvert.v1"), NULL), "HTTP/1.1 404 ");
    starts(ask(b, UPGRADE("/", "chat"), NULL), "HTTP/1.1 404 ");
    assert_int_equal(b->f.stats.upgraded, 0);
    starts(ask(b, UPGRADE("/tunnel?x=1", "chat, culvert.v1"), NULL), "HTTP/1.1 101 ");
    assert_int_equal(b->f.stats.upgraded, 1);
}

static void test_bad_heads(void **state)
{
    struct bench *b = *state;
    starts(ask(b, "GET / HTTP/1.1\r\nHost : a\r\n\r\n", NULL), "HTTP/1.1 400 ");
    starts(ask(b, "nonsense\n\n", NULL), "HTTP/1.1 400 ");
    char *big = calloc(1, HTTP_HEAD_MAX + 100);
    memset(big, 'a', HTTP_HEAD_MAX + 50);
    memcpy(big, "GET /", 5);
    starts(ask(b, big, NULL), "HTTP/1.1 431 ");
    free(big);
    assert_int_equal(b->f.stats.bad, 3);
}

static bool on_welcome(struct conn *c, const struct frame_welcome *w) { return false; }

static void on_down(struct conn *c, const struct err *err, const struct frame_welcome *refusal)
{
    struct bench *b = c->owner;
    b->downs++;
    if (refusal)
        snprintf(b->refusal, sizeof b->refusal, "%s", refusal->text);
}

static void test_a_carrier_reaches_hello_and_hears_the_refusal(void **state)
{
    static const struct conn_ops ops = {.on_welcome = on_welcome, .on_down = on_down};
    struct bench *b = *state;
    struct err e = ERR_INIT;
    struct session s;
    struct budget budget;
    struct frame_hello hello = {.ver_min = 1, .ver_max = 1, .carrier = 1, .name = "site7"};
    static const struct session_ops session_ops;
    SSL_CTX *ctx = tls_inner_ctx(false, b->agent.cert, b->agent.key, &e);
    struct ws_client_options ws = {.host = "a", .path = "/tunnel", .protocol = WS_SUBPROTOCOL};
    struct tls_options inner = {.ctx = ctx, .pins = (const uint8_t(*)[32])b->relay.pin, .pin_count = 1, .who = "relay"};
    budget_init(&budget, 1 << 20, NULL);
    session_init(&s, &b->w, true, hello.session, &session_ops, NULL, &budget);
    struct link *top = tls_over(ws_client_over(call(b, "192.0.2.1", true, NULL), &ws), &inner, NULL);
    struct conn *c = conn_agent(&b->w, top, &hello, false, 20000, &s, &ops, b);
    turns(b);
    assert_int_equal(b->hellos, 1);
    assert_int_equal(b->downs, 1);
    assert_string_equal(b->refusal, "not today");
    conn_free(c);
    turns(b);
    assert_int_equal(b->f.count, 0);
    session_fini(&s, NULL);
    budget_fini(&budget);
    SSL_CTX_free(ctx);
}

static void test_each_step_has_a_deadline(void **state)
{
    struct bench *b = *state;
    struct link *silent = call(b, "192.0.2.1", false, NULL), *slow = call(b, "192.0.2.1", true, NULL);
    turns(b);
    link_send(slow, buf_copy(&b->w.pool, "GET / HTTP/1.1\r\n", 16));
    turns(b);
    b->w.now_ms += 9999;
    worker_run_timers(&b->w);
    turns(b);
    assert_int_equal(b->f.count, 2);
    b->w.now_ms += 2;
    worker_run_timers(&b->w);
    turns(b);
    assert_int_equal(b->f.count, 0);
    assert_int_equal(b->f.stats.late, 2);
    link_close(silent);
    link_close(slow);
    turns(b);
}

static void test_callers_are_bounded_per_address(void **state)
{
    struct bench *b = *state;
    struct link *l[FRONT_ADDRESS_MAX + 3];
    for (int i = 0; i < FRONT_ADDRESS_MAX + 1; i++)
        l[i] = call(b, "192.0.2.1", false, NULL);
    assert_int_equal(b->f.count, FRONT_ADDRESS_MAX);
    assert_int_equal(b->f.stats.turned_away, 1);
    l[FRONT_ADDRESS_MAX + 1] = call(b, "192.0.2.2", false, NULL);
    l[FRONT_ADDRESS_MAX + 2] = call(b, "192.0.2.1", true, NULL); // behind a front all have one address
    assert_int_equal(b->f.count, FRONT_ADDRESS_MAX + 2);
    for (int i = 0; i < FRONT_ADDRESS_MAX + 3; i++)
        link_close(l[i]);
    turns(b);
    assert_int_equal(b->f.count, 0);
}

static void test_one_ipv6_customer_is_one_address(void **state)
{
    struct bench *b = *state;
    struct link *l[FRONT_ADDRESS_MAX + 2];
    for (int i = 0; i < FRONT_ADDRESS_MAX + 2; i++) {
        char from[40];
        snprintf(from, sizeof from, i <= FRONT_ADDRESS_MAX ? "2001:db8::%x" : "2001:db8:0:1::%x", i + 1);
        l[i] = call(b, from, false, NULL);
    }
    assert_int_equal(b->f.stats.turned_away, 1);
    assert_int_equal(b->f.count, FRONT_ADDRESS_MAX + 1);
    for (int i = 0; i < FRONT_ADDRESS_MAX + 2; i++)
        link_close(l[i]);
    turns(b);
}

static void test_listeners_pause_when_full(void **state)
{
    struct bench *b = *state;
    struct link **l = calloc(FRONT_CALLERS_MAX, sizeof *l);
    for (int i = 0; i < FRONT_CALLERS_MAX; i++)
        l[i] = call(b, "192.0.2.1", true, NULL);
    assert_int_equal(b->full, 1);
    assert_int_equal(b->room, 0);
    link_close(l[0]);
    turns(b);
    assert_int_equal(b->room, 1);
    for (int i = 1; i < FRONT_CALLERS_MAX; i++)
        link_close(l[i]);
    turns(b);
    assert_int_equal(b->f.count, 0);
    free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_strangers_get_an_ordinary_404, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_our_path_and_protocol_are_upgraded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_connection_takes_one_request_after_the_other, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_heads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_carrier_reaches_hello_and_hears_the_refusal, setup, teardown),
        cmocka_unit_test_setup_teardown(test_each_step_has_a_deadline, setup, teardown),
        cmocka_unit_test_setup_teardown(test_callers_are_bounded_per_address, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_ipv6_customer_is_one_address, setup, teardown),
        cmocka_unit_test_setup_teardown(test_listeners_pause_when_full, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
