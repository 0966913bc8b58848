// SPDX-License-Identifier: Apache-2.0
// In a network of its own, which it changes with ip(8).
#include "dial/network.h"
#include <sched.h>
#include <stdlib.h>
#include "loop.h"
#include "unit.h"

static unsigned changes, sleeps;

static void on_event(struct network *n, enum network_event what)
{
    changes += what == NETWORK_CHANGED;
    sleeps += what == NETWORK_SLEPT;
}

static struct addr ip(const char *text)
{
    struct addr a;
    assert_true(addr_parse_ip(&a, text, 443));
    return a;
}

static void run(const char *command) { assert_int_equal(system(command), 0); }

static void test_changes(void **state)
{
    struct worker w;
    struct network n;
    struct network_route before, after;
    struct addr far = ip("198.51.100.7"), own = ip("192.0.2.10");
    worker_init(&w, 0, 1);
    run("ip link set lo up && ip link add one type veth peer name two && ip link set one up && ip link set two up");
    network_start(&n, &w, on_event, NULL);
    assert_false(network_route(&far, &before));
    assert_false(network_is_local(&own));
    run("ip addr add 192.0.2.10/24 dev one && ip route add default via 192.0.2.1");
    loop_until(&w, changes > 0);
    assert_true(network_is_local(&own));
    assert_true(network_route(&far, &before));
    assert_string_equal(before.device, "one");
    assert_true(addr_equal_host(&before.source, &own));
    struct addr gateway = ip("192.0.2.1");
    assert_true(addr_equal_host(&before.gateway, &gateway));
    assert_int_equal(strlen(before.key), 16);
    changes = 0;
    run("ip route replace default via 192.0.2.2");
    loop_until(&w, changes > 0);
    assert_true(network_route(&far, &after));
    assert_false(network_same_route(&before, &after));
    assert_string_not_equal(before.key, after.key);
    run("ip route replace default via 192.0.2.1");
    assert_true(network_route(&far, &after));
    assert_true(network_same_route(&before, &after));
    assert_string_equal(before.key, after.key);
    run("ip neigh replace 192.0.2.1 lladdr 02:00:00:00:00:01 dev one"); // the same addresses, another network
    assert_true(network_route(&far, &after));
    assert_string_not_equal(before.key, after.key);
    changes = 0;
    run("ip addr del 192.0.2.10/24 dev one");
    loop_until(&w, changes > 0);
    assert_false(network_is_local(&own));
    network_stop(&n);
    network_stop(&n);
    worker_fini(&w);
}

static void test_ipv6(void **state)
{
    struct network_route r;
    struct addr to = ip("2001:db8:1::1");
    run("ip link set lo up && ip link add six type veth peer name seven && ip link set six up && ip link set seven up && "
        "ip addr add 2001:db8::5/64 dev six nodad && ip -6 route add default via 2001:db8::1");
    assert_true(network_route(&to, &r));
    struct addr source = ip("2001:db8::5"), gateway = ip("2001:db8::1");
    assert_true(addr_equal_host(&r.source, &source));
    assert_true(addr_equal_host(&r.gateway, &gateway));
    struct addr loopback = ip("::1");
    assert_true(network_route(&loopback, &r));
    assert_string_equal(r.device, "lo");
    assert_int_equal(r.gateway.len, 0);
}

static void test_sleep(void **state)
{
    struct network n = {0};
    network_slept(&n, 5000000, 90000000);
    assert_false(network_slept(&n, 6000000, 91000000));
    assert_false(network_slept(&n, 7000000, 92900000)); // the clocks are read one after the other
    assert_true(network_slept(&n, 8000000, 160000000));
    assert_false(network_slept(&n, 9000000, 161000000));
}

static void test_no_place(void **state)
{
    struct network_route r;
    struct addr un, none = {0};
    addr_unix(&un, "/run/x");
    assert_false(network_route(&un, &r));
    assert_false(network_route(&none, &r));
    assert_true(network_is_local(&un));
}

int main(void)
{
    if (unshare(CLONE_NEWNET) < 0)
        return 77; // not allowed here: skipped
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_changes), cmocka_unit_test(test_ipv6),
                                       cmocka_unit_test(test_sleep), cmocka_unit_test(test_no_place)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
