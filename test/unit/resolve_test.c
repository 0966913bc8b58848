// SPDX-License-Identifier: Apache-2.0
#include "loop.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "dial/resolve.h"

struct question {
    struct resolve q;
    bool done;
    struct addr addrs[RESOLVE_MAX];
    size_t count;
    char err[ERR_TEXT_MAX];
};

static void on_done(struct resolve *q, const struct addr *addrs, size_t count, const struct err *err)
{
    struct question *a = container_of(q, struct question, q);
    assert_false(a->done);
    a->done = true;
    a->count = count;
    memcpy(a->addrs, addrs, count * sizeof(*addrs));
    snprintf(a->err, sizeof(a->err), "%s", err ? err_text(err) : "");
    assert_int_equal(count == 0, err != NULL);
}

static const char *text(const struct addr *a)
{
    static char out[4][ADDR_TEXT_MAX];
    static int n;
    n = (n + 1) % 4;
    return addr_text(a, out[n]);
}

// A DNS server: dead, or answers A with 192.0.2.7 and (unless told to be silent there) AAAA with 2001:db8::7; names that
// start with 'n' do not exist.
struct dns {
    int fd;
    uint16_t port;
    struct watch *watch;
    bool dead, no_v6;
    unsigned asked;
};

static size_t answer(const struct dns *d, uint8_t *m, size_t len)
{
    static const uint8_t v4[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7};
    static const uint8_t v6[] = {0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 60, 0, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0,
                                 0, 0, 0, 7};
    size_t at = 12;
    while (at < len && m[at])
        at += m[at] + 1u;
    at += 5; // the question ends here
    bool is_v6 = m[at - 3] == 28;
    m[2] = 0x81, m[3] = 0x80;
    m[8] = m[9] = m[10] = m[11] = 0;
    if (m[13] == 'n') {
        m[3] |= 3;
        return at;
    }
    if (is_v6 && d->no_v6)
        return 0;
    m[7] = 1;
    memcpy(m + at, is_v6 ? v6 : v4, is_v6 ? sizeof(v6) : sizeof(v4));
    return at + (is_v6 ? sizeof(v6) : sizeof(v4));
}

static void on_query(void *ctx, int events)
{
    struct dns *d = ctx;
    uint8_t m[600];
    struct sockaddr_in from;
    socklen_t flen = sizeof(from);
    ssize_t n = recvfrom(d->fd, m, 512, MSG_DONTWAIT, (struct sockaddr *)&from, &flen);
    if (n < 12)
        return;
    d->asked++;
    size_t len = d->dead ? 0 : answer(d, m, (size_t)n);
    if (len)
        sendto(d->fd, m, len, 0, (struct sockaddr *)&from, flen);
}

static void dns_start(struct dns *d, struct worker *w)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(in);
    d->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(d->fd, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(getsockname(d->fd, (struct sockaddr *)&in, &len), 0);
    d->port = ntohs(in.sin_port);
    d->watch = watch_new(w, d->fd, on_query, d);
    watch_want(d->watch, UV_READABLE);
}

static void dns_stop(struct dns *d)
{
    watch_free(d->watch);
    close(d->fd);
}

struct world {
    struct worker w;
    struct resolver *r;
};

static void world_init(struct world *x)
{
    struct err e = ERR_INIT;
    assert_int_equal(worker_init(&x->w, 0, 1), 0);
    x->r = resolver_new(&x->w, &e);
    assert_non_null(x->r);
}

static void world_fini(struct world *x)
{
    resolver_free(x->r);
    worker_fini(&x->w);
}

static void ask(struct world *x, struct question *q, const char *host)
{
    memset(q, 0, sizeof(*q));
    resolve_start(x->r, &q->q, host, 443, on_done);
    assert_false(q->done); // never on the caller's stack
}

static void test_literals(void **state)
{
    struct world x;
    struct question q;
    world_init(&x);
    ask(&x, &q, "192.0.2.1");
    loop_until(&x.w, q.done);
    assert_int_equal(q.count, 1);
    assert_string_equal(text(&q.addrs[0]), "192.0.2.1:443");
    ask(&x, &q, "2001:db8::1");
    loop_until(&x.w, q.done);
    assert_string_equal(text(&q.addrs[0]), "[2001:db8::1]:443");
    ask(&x, &q, "");
    loop_until(&x.w, q.done);
    assert_int_equal(q.count, 0);
    world_fini(&x);
}

static void test_localhost(void **state)
{
    struct world x;
    struct question q;
    world_init(&x);
    ask(&x, &q, "localhost");
    loop_until(&x.w, q.done);
    assert_true(q.count >= 1);
    for (size_t i = 0; i < q.count; i++)
        assert_true(addr_is_loopback(&q.addrs[i]));
    world_fini(&x);
}

static void test_cancel(void **state)
{
    struct world x;
    struct question q, other;
    struct dns d = {.dead = true};
    char csv[64];
    world_init(&x);
    dns_start(&d, &x.w);
    snprintf(csv, sizeof(csv), "127.0.0.1:%u", d.port);
    assert_true(resolver_servers(x.r, csv));
    ask(&x, &q, "some.test");
    ask(&x, &other, "192.0.2.1");
    resolve_cancel(&q.q);
    resolve_cancel(&q.q);
    loop_until(&x.w, other.done);
    assert_false(q.done);
    dns_stop(&d);
    world_fini(&x); // with the question still pending in c-ares
}

static void test_both_families(void **state)
{
    struct world x;
    struct question q;
    struct dns d = {0};
    char csv[64];
    world_init(&x);
    dns_start(&d, &x.w);
    snprintf(csv, sizeof(csv), "127.0.0.1:%u", d.port);
    assert_true(resolver_servers(x.r, csv));
    ask(&x, &q, "some.test");
    loop_until(&x.w, q.done);
    assert_int_equal(q.count, 2);
    assert_string_equal(text(&q.addrs[0]), "[2001:db8::7]:443");
    assert_string_equal(text(&q.addrs[1]), "192.0.2.7:443");
    ask(&x, &q, "none.test");
    loop_until(&x.w, q.done);
    assert_string_equal(q.err, "resolve none.test: no such name");
    dns_stop(&d);
    world_fini(&x);
}

// A server that never answers for one family, and one that never answers at all, hold up nobody for long: not the question
// itself, and no other.
static void test_silence(void **state)
{
    struct world x;
    struct question q[20];
    struct dns dead = {.dead = true}, half = {.no_v6 = true};
    char csv[64];
    world_init(&x);
    dns_start(&dead, &x.w);
    dns_start(&half, &x.w);
    snprintf(csv, sizeof(csv), "127.0.0.1:%u,127.0.0.1:%u", dead.port, half.port);
    assert_true(resolver_servers(x.r, csv));
    for (int i = 0; i < 20; i++) {
        char name[20];
        snprintf(name, sizeof(name), "a%d.test", i);
        ask(&x, &q[i], name);
    }
    for (int i = 0; i < 20; i++) {
        loop_until(&x.w, q[i].done);
        assert_int_equal(q[i].count, 1);
        assert_string_equal(text(&q[i].addrs[0]), "192.0.2.7:443");
    }
    assert_true(dead.asked > 0);
    dns_stop(&dead);
    dns_stop(&half);
    world_fini(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_literals), cmocka_unit_test(test_localhost),     cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_silence),  cmocka_unit_test(test_both_families),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
