// SPDX-License-Identifier: Apache-2.0
// The race of paths on real sockets: what is said when nothing works, and that it may be stopped at any time. What works is shown end to
// end, and when which way is tried by the ladder's own test.
#include "loop.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "certs.h"
#include "dial/paths.h"
#include "forward/listen.h"
#include "link/tls.h"

#define CALLERS 16

struct run {
    struct worker w;
    struct resolver *resolver;
    struct paths paths;
    struct relay_url relay;
    struct proxy_route routes[2];
    struct dial_options dial;
    struct paths_options o;
    struct cert cert;
    uint8_t pin[1][32];
    struct list hubs;
    struct listener *listener;
    bool answers; // 404; else it says nothing
    unsigned accepted, done;
    struct link *callers[CALLERS];
    struct wake wakes[CALLERS];
    enum err_kind kind;
    char err[ERR_TEXT_MAX];
};

static void on_caller(struct wake *wake) { (void)wake; }

static void on_accept(void *owner, struct link *link, const struct addr *peer)
{
    static const char no[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    struct run *r = owner;
    unsigned i = r->accepted++;
    assert_true(i < CALLERS);
    r->callers[i] = link;
    wake_init(&r->wakes[i], on_caller);
    link_own(link, &r->wakes[i]);
    if (r->answers)
        link_send(link, buf_copy(&r->w.pool, no, sizeof(no) - 1));
}

static void on_done(struct paths *p, struct link *top, const struct err *err)
{
    struct run *r = container_of(p, struct run, paths);
    r->done++;
    assert_null(top);
    r->kind = err->kind;
    snprintf(r->err, sizeof(r->err), "%s", err_text(err));
}

static void run_init(struct run *r, bool answers)
{
    struct err e = ERR_INIT;
    struct addr at;
    char url[64];
    *r = (struct run){.answers = answers};
    assert_int_equal(worker_init(&r->w, 0, 1), 0);
    r->resolver = resolver_new(&r->w, &e);
    assert_non_null(r->resolver);
    assert_true(addr_parse_ip(&at, "127.0.0.1", 0));
    r->listener = listener_open(&r->w, &(struct listen_options){.at = &at, .count = 1, .on_accept = on_accept, .owner = r}, &e);
    assert_non_null(r->listener);
    snprintf(url, sizeof(url), "ws://127.0.0.1:%u", addr_port(listener_addr(r->listener, 0)));
    assert_int_equal(relay_url_parse(&r->relay, url, &e), 0);
    cert_make(&r->cert, "agent", NULL, NULL, true, -1, 10);
    list_init(&r->hubs);
    r->dial = (struct dial_options){.relay = &r->relay, .pins = (const uint8_t(*)[32])r->pin, .pin_count = 1, .hubs = &r->hubs,
                                    .inner = tls_inner_ctx(false, r->cert.x509, r->cert.key, &e)};
    assert_non_null(r->dial.inner);
    snprintf(r->routes[0].path, sizeof(r->routes[0].path), "direct");
    r->o = (struct paths_options){.dial = &r->dial, .routes = r->routes, .route_count = 1, .reach_ms = 5000, .open_ms = 5000,
                                  .transports = {.of = {TRANSPORT_H1}, .count = 1}};
}

static void run_fini(struct run *r)
{
    paths_stop(&r->paths);
    for (unsigned i = 0; i < r->accepted; i++)
        link_close(r->callers[i]);
    listener_close(r->listener);
    resolver_free(r->resolver);
    SSL_CTX_free(r->dial.inner);
    cert_fini(&r->cert);
    worker_fini(&r->w);
}

static void start(struct run *r) { paths_start(&r->paths, &r->w, r->resolver, &r->o, NULL, 0, on_done); }

static void what_refuses_is_named(void **state)
{
    struct run r;
    run_init(&r, true);
    start(&r);
    assert_int_equal(r.done, 0); // never from within
    loop_until(&r.w, r.done);
    assert_int_equal(r.kind, ERR_UNREACHED);
    assert_non_null(strstr(r.err, "dial 127.0.0.1:"));
    assert_non_null(strstr(r.err, "the server answered 404 (Not Found)"));
    assert_int_equal(r.accepted, 1);
    assert_true(addr_equal(&r.paths.reached, listener_addr(r.listener, 0)));
    run_fini(&r);
    assert_int_equal(r.done, 1);
}

// The second route's proxy is not there: the first came further, and both are said, with the relay's name once.
static void each_route_is_said(void **state)
{
    struct run r;
    struct err e = ERR_INIT;
    run_init(&r, true);
    assert_int_equal(proxy_url_parse(&r.routes[1].hops[0], "socks5h://127.0.0.1:1", &e), 0);
    r.routes[1].count = 1;
    snprintf(r.routes[1].path, sizeof(r.routes[1].path), "via 127.0.0.1:1");
    snprintf(r.routes[1].source, sizeof(r.routes[1].source), "--proxy");
    r.o.route_count = 2;
    start(&r);
    loop_until(&r.w, r.done);
    const char *first = strstr(r.err, "the server answered 404"), *second = strstr(r.err, "; proxy 127.0.0.1:1 (--proxy): connect to");
    assert_true(first && second && first < second);
    assert_null(strstr(r.err + 1, "dial "));
    run_fini(&r);
}

static void silence_ends_with_what_was_waited_for(void **state)
{
    struct run r;
    run_init(&r, false);
    r.o.open_ms = 50;
    start(&r);
    loop_until(&r.w, r.done);
    assert_non_null(strstr(r.err, "the handshake took too long: waiting for the answer to WebSocket's request"));
    run_fini(&r);
}

static void stopped_at_any_time(void **state)
{
    for (unsigned turns = 0; turns < 12; turns++) {
        struct run r;
        run_init(&r, turns % 2);
        start(&r);
        for (unsigned i = 0; i < turns && r.done == 0; i++)
            worker_poll(&r.w, false);
        unsigned done = r.done;
        paths_stop(&r.paths);
        paths_stop(&r.paths);
        worker_poll(&r.w, false);
        assert_int_equal(r.done, done);
        run_fini(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_refuses_is_named),
        cmocka_unit_test(each_route_is_said),
        cmocka_unit_test(silence_ends_with_what_was_waited_for),
        cmocka_unit_test(stopped_at_any_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
