// SPDX-License-Identifier: Apache-2.0
// The front over the in-memory link: who becomes a carrier, who gets an ordinary answer, who is turned away, who is late.
#include <stdlib.h>
#include <string.h>
#include "drive.h"
#include "link/h2.h"
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
    enum front_kind kind; // of who asks; 0: plain
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

static struct link *call(struct bench *b, const char *from, enum front_kind kind, const struct mem_plan *plan)
{
    struct link *here, *there;
    struct addr peer;
    mem_pair(&b->w, &here, &there, NULL, plan);
    addr_parse_ip(&peer, from, 1234);
    front_accept(&b->f, there, &peer, kind);
    return here;
}

// Sends a request and returns the whole answer; NULL: the connection failed.
static char *ask(struct bench *b, const char *request, const struct mem_plan *plan)
{
    struct link *l = call(b, "192.0.2.1", b->kind ? b->kind : FRONT_PLAIN, plan);
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
    // Silence behind an answer is no lateness.
    struct link *l = call(b, "192.0.2.1", FRONT_PLAIN, NULL);
    link_send(l, buf_copy(&b->w.pool, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27));
    turns(b);
    assert_int_equal(b->f.count, 1);
    b->w.now_ms += FRONT_HEAD_MS + 1;
    worker_run_timers(&b->w);
    turns(b);
    assert_int_equal(b->f.count, 0);
    assert_int_equal(b->f.stats.late, 0);
    link_close(l);
    turns(b);
    // A body nobody reads is never taken for a request.
    char *answers = ask(b, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 24\r\n\r\nGET /x HTTP/1.0\r\nHo: a\r\n\r\n", &cut);
    assert_int_equal(count_of(answers, "HTTP/1.1 "), 1);
    assert_int_equal(count_of(answers, "Connection: close"), 1);
}

// What the front takes for the caller's address, from a request with these lines by way of 127.0.0.1.
static const char *caller_of(struct bench *b, const char *lines)
{
    static char out[ADDR_TEXT_MAX];
    struct link *here, *there;
    struct addr peer;
    char text[600];
    mem_pair(&b->w, &here, &there, NULL, NULL);
    addr_parse_ip(&peer, "127.0.0.1", 1234);
    front_accept(&b->f, there, &peer, FRONT_PLAIN);
    snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", lines);
    link_send(here, buf_copy(&b->w.pool, text, strlen(text)));
    turns(b);
    assert_false(list_empty(&b->f.callers));
    const struct front_caller *k = list_entry(b->f.callers.next, struct front_caller, node);
    snprintf(out, sizeof out, "%s %s", k->https ? "https" : "http", addr_text(&k->peer, text));
    link_close(here);
    turns(b);
    return out;
}

static void test_forwarded_callers(void **state)
{
    static const char *const cases[][2] = {
        {"", "http 127.0.0.1:1234"},
        {"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n", "https 192.0.2.1:0"},
        {"X-Forwarded-For: 6.6.6.6, 192.0.2.1 ,10.0.0.1,  127.0.0.1\r\nX-Forwarded-Proto: https, http\r\n", "http 192.0.2.1:0"},
        {"X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 192.0.2.1\r\n", "http 192.0.2.1:0"},
        {"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 10.0.0.1, 10.0.0.2\r\n", "http 192.0.2.1:0"},
        {"X-Forwarded-For: [2001:db8::1]:443\r\n", "http [2001:db8::1]:0"},
        {"X-Forwarded-For: 2001:db8::1\r\n", "http [2001:db8::1]:0"},
        {"X-Forwarded-For: ::ffff:192.0.2.1\r\n", "http 192.0.2.1:0"},
        {"X-Forwarded-For: 192.0.2.1:99\r\n", "http 192.0.2.1:0"},
        {"X-Forwarded-For: 192.0.2.1, _hidden\r\n", "http 127.0.0.1:1234"},
        {"X-Forwarded-For: 192.0.2.1, unknown, 10.0.0.7\r\n", "http 10.0.0.7:0"}, // as far as it is known
        {"X-Forwarded-For: ,\r\n", "http 127.0.0.1:1234"},
        {"X-Forwarded-For:\r\n", "http 127.0.0.1:1234"},
    };
    struct bench *b = *state;
    struct cidr trusted[2];
    assert_true(cidr_parse(&trusted[0], "127.0.0.1") && cidr_parse(&trusted[1], "10.0.0.0/8"));
    b->f.trusted = trusted;
    b->f.trusted_count = 2;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(caller_of(b, cases[i][0]), cases[i][1]);
    b->f.trusted_count = 0;
    assert_string_equal(caller_of(b, cases[1][0]), "http 127.0.0.1:1234");
}

static void test_a_port_that_redirects(void **state)
{
    static const char *const cases[][2] = {
        {"GET /a?b HTTP/1.1\r\nHost: h.example:80\r\n\r\n", "301 https://h.example:8443/a?b"},
        {"PUT / HTTP/1.1\r\nHost: [::1]\r\n\r\n", "308 https://[::1]:8443/"},
        {"GET http://other/x HTTP/1.1\r\nHost: h\r\n\r\n", "301 https://h:8443/x"},
        {"GET http://other HTTP/1.1\r\nHost: h\r\n\r\n", "301 https://h:8443/"},
        {"GET / HTTP/1.0\r\n\r\n", "301 https://relay.example:8443/"},
        {"GET /.well-known/acme-challenge/x HTTP/1.1\r\nHost: h\r\n\r\n", "404"},
        {"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "404"},
        {"GET / HTTP/1.1\r\nHost: h\"x\r\n\r\n", "404"},
        {"GET / HTTP/1.1\r\nHost: :80\r\n\r\n", "404"},
    };
    struct bench *b = *state;
    b->f.redirect_host = "relay.example";
    b->f.redirect_port = 8443;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        b->kind = FRONT_REDIRECT;
        char *answer = ask(b, cases[i][0], NULL), seen[200], *at = strstr(answer, "\r\nLocation: ");
        snprintf(seen, sizeof seen, "%.3s%s%.*s", answer + 9, at ? " " : "", at ? (int)strcspn(at + 12, "\r") : 0, at ? at + 12 : "");
        assert_string_equal(seen, cases[i][1]);
    }
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
    struct link *top = tls_over(ws_client_over(call(b, "192.0.2.1", FRONT_PLAIN, NULL), &ws), &inner, NULL);
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
    struct link *silent = call(b, "192.0.2.1", FRONT_WEB, NULL), *slow = call(b, "192.0.2.1", FRONT_PLAIN, NULL);
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
        l[i] = call(b, "192.0.2.1", FRONT_WEB, NULL);
    assert_int_equal(b->f.count, FRONT_ADDRESS_MAX);
    assert_int_equal(b->f.stats.turned_away, 1);
    l[FRONT_ADDRESS_MAX + 1] = call(b, "192.0.2.2", FRONT_WEB, NULL);
    l[FRONT_ADDRESS_MAX + 2] = call(b, "192.0.2.1", FRONT_PLAIN, NULL); // behind a front all have one address
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
        l[i] = call(b, from, FRONT_WEB, NULL);
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
        l[i] = call(b, "192.0.2.1", FRONT_PLAIN, NULL);
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

// What strangers can make of one connection ---------------------------------------------------------------------------

#define PAGE "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

static void say(struct link *l, const char *text) { link_send(l, buf_copy(&l->w->pool, text, strlen(text))); }

// What has come, to be freed; *end: how that ended.
static char *hear(struct link *l, enum link_status *end)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    struct buf *b;
    while ((*end = link_recv(l, &b)) == LINK_OK) {
        fwrite(buf_data(b), 1, b->len, f);
        buf_put(b);
    }
    fclose(f);
    return text;
}

struct other { // has something to do as often as he gets his turn
    struct wake wake;
    struct bench *b;
    uint64_t seen, most;
};

static void on_turn(struct wake *wake)
{
    struct other *o = container_of(wake, struct other, wake);
    uint64_t served = o->b->f.stats.not_found;
    o->most = served - o->seen > o->most ? served - o->seen : o->most;
    o->seen = served;
    wake_post(&o->b->w, wake);
}

static void test_who_reads_no_answers_gets_no_more(void **state)
{
    const struct mem_plan little = {.queue_max = 4096};
    struct bench *b = *state;
    struct link *l = call(b, "192.0.2.1", FRONT_PLAIN, &little);
    char *text = calloc(500, sizeof PAGE);
    for (int i = 0; i < 500; i++)
        strcat(text, PAGE);
    say(l, text);
    free(text);
    struct other other = {.b = b};
    wake_init(&other.wake, on_turn);
    wake_post(&b->w, &other.wake);
    turns(b);
    wake_cancel(&other.wake);
    assert_int_equal(other.most, 1);
    assert_in_range(other.seen, 2, 40);
    unsigned answers = 0;
    for (int i = 0; i < 500; i++) {
        enum link_status rc;
        text = hear(l, &rc);
        answers += count_of(text, "HTTP/1.1 404 ");
        free(text);
        turns(b);
    }
    assert_int_equal(answers, 500);
    link_close(l);
    turns(b);
}

static void test_requests_in_a_row_keep_their_order(void **state)
{
    enum { N = 500 };
    static char text[HTTP_HEAD_MAX + BUF_SIZE + 1];
    struct bench *b = *state;
    struct link *l = call(b, "192.0.2.1", FRONT_REDIRECT, NULL);
    const char *at;
    enum link_status rc;
    b->f.redirect_port = 443;
    size_t n = (size_t)sprintf(text, "GET /first HTTP/1.1\r\nHost: a\r\nX: ");
    memset(text + n, 'x', 16000 - n);
    link_send(l, buf_copy(&b->w.pool, text, 16000));
    turns(b);
    n = (size_t)sprintf(text, "\r\n\r\n");
    for (int i = 0; n < BUF_SIZE; i++)
        n += (size_t)sprintf(text + n, "GET /%04d HTTP/1.1\r\nHost: a\r\n\r\n", i);
    link_send(l, buf_copy(&b->w.pool, text, BUF_SIZE)); // with the head before it, more than a buffer is left
    for (int i = 0; i < 20; i++)
        turns(b);
    char *answers = hear(l, &rc);
    at = strstr(answers, "https://a/first\r\n");
    for (int i = 0; i < N; i++) {
        char place[40];
        sprintf(place, "https://a/%04d\r\n", i);
        if (!at || !(at = strstr(at, "https://")) || !(at = strstr(at + 1, "https://")) || strncmp(at, place, strlen(place)))
            fail_msg("request %d has not its answer", i);
    }
    free(answers);
    link_close(l);
    turns(b);
}

static void test_a_stranger_has_so_many_requests(void **state)
{
    struct bench *b = *state;
    struct link *l = call(b, "192.0.2.1", FRONT_PLAIN, NULL);
    enum link_status rc;
    for (int i = 1; i <= FRONT_REQUESTS_MAX; i++) {
        say(l, PAGE);
        for (int t = 0; t < 6; t++)
            worker_turn(&b->w);
        char *text = hear(l, &rc);
        assert_int_equal(count_of(text, "HTTP/1.1 404 "), 1);
        assert_int_equal(count_of(text, "Connection: close"), i == FRONT_REQUESTS_MAX);
        assert_int_equal(rc, i == FRONT_REQUESTS_MAX ? LINK_END : LINK_AGAIN);
        free(text);
    }
    link_close(l);
    turns(b);
}

static void test_a_stranger_stays_so_long(void **state)
{
    struct bench *b = *state;
    struct link *l = call(b, "192.0.2.1", FRONT_PLAIN, NULL);
    enum link_status rc = LINK_AGAIN;
    uint64_t start = b->w.now_ms;
    while (rc == LINK_AGAIN) {
        assert_true(b->w.now_ms - start <= FRONT_LIFE_MS);
        say(l, PAGE);
        turns(b);
        char *text = hear(l, &rc);
        assert_int_equal(count_of(text, "HTTP/1.1 404 "), 1);
        assert_int_equal(count_of(text, "Connection: close"), rc != LINK_AGAIN);
        free(text);
        b->w.now_ms += 5000;
        worker_run_timers(&b->w);
    }
    assert_int_equal(b->w.now_ms - start, FRONT_LIFE_MS + 5000);
    link_close(l);
    turns(b);
}

static void no_news(struct wake *wake) { (void)wake; }

static void test_a_stranger_stays_so_long_by_http2(void **state)
{
    struct bench *b = *state;
    struct link *here, *there;
    struct addr peer;
    struct list hubs;
    struct wake wake;
    unsigned answers = 0, asked = 0;
    list_init(&hubs);
    wake_init(&wake, no_news);
    mem_pair(&b->w, &here, &there, NULL, NULL);
    strcpy(there->facts->alpn, "h2");
    addr_parse_ip(&peer, "192.0.2.1", 1234);
    front_accept(&b->f, there, &peer, FRONT_PLAIN);
    struct h2 *client = h2_client_over(here, &(struct h2_options){.who = "relay", .scheme = "https"}, &hubs);
    struct link *hold = h2_stream_over(client); // the last one out closes it
    link_own(hold, &wake);
    for (; asked < 2 * FRONT_LIFE_MS / 5000 && answers == asked; asked++) {
        enum link_status rc;
        struct link *l = h2_stream_over(client);
        link_own(l, &wake);
        turns(b);
        (void)!link_open(l);
        say(l, PAGE);
        turns(b);
        char *text = hear(l, &rc);
        answers += count_of(text, "HTTP/1.1 404 ");
        free(text);
        link_close(l);
        turns(b);
        b->w.now_ms += 5000;
        worker_run_timers(&b->w);
        turns(b);
    }
    assert_int_equal(answers, FRONT_LIFE_MS / 5000);
    link_close(hold);
    turns(b);
    h2_free_all(&hubs);
    turns(b);
}

static void test_who_was_served_makes_place(void **state)
{
    struct bench *b = *state;
    enum { N = FRONT_CALLERS_MANY + 2 };
    struct link **l = calloc(N, sizeof *l);
    enum link_status rc;
    for (int i = 0; i < N; i++) {
        l[i] = call(b, "192.0.2.1", FRONT_PLAIN, NULL);
        if (i >= FRONT_CALLERS_MANY)
            break;
        if (i > 0 && i < FRONT_CALLERS_MANY - 1) // the first and the last say nothing
            say(l[i], PAGE);
        turns(b);
    }
    assert_int_equal(b->f.count, FRONT_CALLERS_MANY);
    turns(b);
    for (int i = 0; i < 4; i++) {
        char *text = hear(l[i], &rc);
        assert_int_equal(rc, i == 1 ? LINK_FAILED : LINK_AGAIN); // the one that came first of those who were served
        free(text);
    }
    say(l[2], PAGE);
    turns(b);
    char *text = hear(l[2], &rc);
    assert_int_equal(count_of(text, "Connection: close"), 1);
    free(text);
    for (int i = 0; i < N; i++)
        link_close(l[i]);
    turns(b);
    free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_strangers_get_an_ordinary_404, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_our_path_and_protocol_are_upgraded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_connection_takes_one_request_after_the_other, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forwarded_callers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_port_that_redirects, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_heads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_carrier_reaches_hello_and_hears_the_refusal, setup, teardown),
        cmocka_unit_test_setup_teardown(test_each_step_has_a_deadline, setup, teardown),
        cmocka_unit_test_setup_teardown(test_callers_are_bounded_per_address, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_ipv6_customer_is_one_address, setup, teardown),
        cmocka_unit_test_setup_teardown(test_listeners_pause_when_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_reads_no_answers_gets_no_more, setup, teardown),
        cmocka_unit_test_setup_teardown(test_requests_in_a_row_keep_their_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_stranger_has_so_many_requests, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_stranger_stays_so_long, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_stranger_stays_so_long_by_http2, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_was_served_makes_place, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
