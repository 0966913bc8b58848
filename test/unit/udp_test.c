// SPDX-License-Identifier: Apache-2.0
#include "loop.h"
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "forward/udp.h"

struct end {
    struct udp_sock u;
    unsigned count;
    size_t bytes, last_len;
    uint8_t last[65536];
    struct addr from;
    bool echo, close_now;
    unsigned wrong; // out of order
};

static void on_dgram(struct udp_sock *u, const struct addr *from, const uint8_t *data, size_t len)
{
    struct end *end = container_of(u, struct end, u);
    if (len >= 4) {
        unsigned n;
        memcpy(&n, data, 4);
        end->wrong += n != end->count;
    }
    end->count++;
    end->bytes += len;
    end->last_len = len;
    memcpy(end->last, data, len);
    if (from)
        end->from = *from;
    if (end->echo)
        udp_sock_send_via(u, from, &u->via, data, len);
    if (end->close_now)
        udp_sock_close(u);
}

struct world {
    struct worker w;
    struct udp_io io;
    struct end a, b;
};

static struct world *world_new(const char *host)
{
    struct world *x = calloc(1, sizeof(*x));
    struct addr at;
    struct err e = ERR_INIT;
    assert_int_equal(worker_init(&x->w, 0, 1), 0);
    udp_io_init(&x->io, &x->w);
    assert_true(addr_parse_ip(&at, host, 0));
    assert_int_equal(udp_sock_bind(&x->a.u, &x->io, &at, false, on_dgram, &e), 0);
    assert_int_equal(udp_sock_connect(&x->b.u, &x->io, &x->a.u.local, on_dgram, &e), 0);
    return x;
}

static void world_free(struct world *x)
{
    udp_sock_close(&x->a.u);
    udp_sock_close(&x->b.u);
    udp_sock_close(&x->b.u);
    udp_io_fini(&x->io);
    worker_fini(&x->w);
    free(x);
}

static void test_echo_sizes(void **state)
{
    static const size_t sizes[] = {0, 1, 1472, 9000, 65507};
    struct world *x = world_new(*state ? *state : "127.0.0.1");
    x->a.echo = true;
    uint8_t data[65507];
    memset(data, 'x', sizeof(data));
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        udp_sock_send(&x->b.u, NULL, data, sizes[i]);
        loop_until(&x->w, x->b.count == i + 1);
        assert_int_equal(x->b.last_len, sizes[i]);
        assert_memory_equal(x->b.last, data, sizes[i]);
        assert_true(addr_equal(&x->a.from, &x->b.u.local));
    }
    world_free(x);
}

// More than a batch and less than the socket's buffer: all arrive, in order, and one by one for both.
static void test_burst(void **state)
{
    struct world *x = world_new("::1");
    uint8_t data[100] = {0};
    for (unsigned i = 0; i < 500; i++) {
        memcpy(data, &i, 4);
        udp_sock_send(&x->b.u, NULL, data, sizeof(data));
    }
    assert_int_equal(x->b.u.stats.out, 0); // nothing leaves before the end of the turn
    loop_until(&x->w, x->a.count + x->b.u.stats.unsent == 500);
    assert_int_equal(x->b.u.stats.unsent, 0);
    assert_int_equal(x->a.wrong, 0);
    assert_int_equal(x->a.bytes, 50000);
    assert_int_equal(x->a.u.stats.in, 500);
    world_free(x);
}

// More than the arena: it is flushed on the way, nothing is lost by us.
static void test_arena(void **state)
{
    struct world *x = world_new("127.0.0.1");
    static uint8_t data[60000];
    for (unsigned i = 0; i < 40; i++)
        udp_sock_send(&x->b.u, NULL, data, sizeof(data));
    assert_true(x->b.u.stats.out + x->b.u.stats.unsent >= 17);
    loop_until(&x->w, x->b.u.stats.out + x->b.u.stats.unsent == 40);
    udp_sock_send(&x->b.u, NULL, data, 65508); // no such datagram
    assert_true(x->b.u.stats.unsent >= 1);
    assert_int_equal(x->io.unsent, x->a.u.stats.unsent + x->b.u.stats.unsent);
    world_free(x);
}

static void test_close_in_callback(void **state)
{
    struct world *x = world_new("127.0.0.1");
    uint8_t data[8] = {0};
    x->a.close_now = x->a.echo = true;
    for (int i = 0; i < 10; i++)
        udp_sock_send(&x->b.u, NULL, data, sizeof(data));
    loop_until(&x->w, x->b.count == 1); // the echo queued before the close left
    assert_int_equal(x->a.count, 1);
    world_free(x);
}

// Bound to all addresses, a socket answers from the one that was asked: a connected caller hears nothing else.
static void test_wild(void **state)
{
    struct world *x = world_new("127.0.0.1");
    struct addr any, ask;
    struct err e = ERR_INIT;
    bool dual = *state != NULL;
    udp_sock_close(&x->a.u);
    udp_sock_close(&x->b.u);
    addr_parse_ip(&any, dual ? "::" : "0.0.0.0", 0);
    assert_int_equal(udp_sock_bind(&x->a.u, &x->io, &any, dual, on_dgram, &e), 0);
    addr_parse_ip(&ask, "127.0.0.3", addr_port(&x->a.u.local));
    assert_int_equal(udp_sock_connect(&x->b.u, &x->io, &ask, on_dgram, &e), 0);
    x->a.echo = true;
    udp_sock_send(&x->b.u, NULL, "x", 1);
    loop_until(&x->w, x->b.count == 1);
    world_free(x);
}

// Nobody at the other end: the ICMP answers are swallowed, and the socket goes on when somebody is there.
static void test_refused(void **state)
{
    struct world *x = world_new("127.0.0.1");
    struct addr at = x->a.u.local;
    struct err e = ERR_INIT;
    uint8_t data[3] = {0};
    udp_sock_close(&x->a.u);
    for (int i = 0; i < 3; i++) {
        udp_sock_send(&x->b.u, NULL, data, sizeof(data));
        loop_until(&x->w, x->b.u.stats.out + x->b.u.stats.unsent == (unsigned)i + 1);
    }
    assert_int_equal(udp_sock_bind(&x->a.u, &x->io, &at, false, on_dgram, &e), 0);
    udp_sock_send(&x->b.u, NULL, data, sizeof(data));
    loop_until(&x->w, x->a.count == 1);
    world_free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_echo_sizes), cmocka_unit_test_prestate(test_echo_sizes, (void *)"::1"),
        cmocka_unit_test(test_burst),      cmocka_unit_test(test_arena),
        cmocka_unit_test(test_wild),       cmocka_unit_test_prestate(test_wild, (void *)"dual"),
        cmocka_unit_test(test_refused),    cmocka_unit_test(test_close_in_callback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
