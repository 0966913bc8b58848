// SPDX-License-Identifier: Apache-2.0
#include "loop.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "dial/race.h"
#include "forward/listen.h"
#include "link/tcp.h"

struct run {
    struct worker w;
    struct race race;
    struct wake wake;
    unsigned done;
    struct link *link;
    struct addr to;
    enum err_why why;
    char err[ERR_TEXT_MAX];
    unsigned accepted;
};

static void on_wake(struct wake *wake) { (void)wake; }

static void on_done(struct race *race, struct link *link, const struct addr *to, const struct err *err)
{
    struct run *r = container_of(race, struct run, race);
    r->done++;
    r->link = link;
    assert_int_equal(link == NULL, err != NULL);
    if (link) {
        link_own(link, &r->wake);
        r->to = *to;
        return;
    }
    r->why = err->why;
    snprintf(r->err, sizeof(r->err), "%s", err_text(err));
}

static void on_accept(void *owner, struct link *link, const struct addr *peer)
{
    ((struct run *)owner)->accepted++;
    assert_true(addr_is_loopback(peer));
    link_close(link);
}

static struct listener *listen_on(struct run *r, const char *host, uint16_t port, struct addr *at)
{
    struct err e = ERR_INIT;
    assert_true(addr_parse_ip(at, host, port));
    struct listener *l = listener_open(
        &r->w, &(struct listen_options){.at = at, .count = 1, .on_accept = on_accept, .owner = r}, &e);
    assert_non_null(l);
    *at = *listener_addr(l, 0);
    return l;
}

// A port where nobody listens: bound, so that nobody else takes it, but not listening.
static int closed_port(const char *host, struct addr *at)
{
    struct err e = ERR_INIT;
    socklen_t len = sizeof(at->in6);
    assert_true(addr_parse_ip(at, host, 0));
    int fd = listen_socket(at, SOCK_STREAM, false, &e);
    assert_true(fd >= 0);
    assert_int_equal(getsockname(fd, &at->sa, &len), 0);
    return fd;
}

static void run_init(struct run *r)
{
    memset(r, 0, sizeof(*r));
    wake_init(&r->wake, on_wake);
    assert_int_equal(worker_init(&r->w, 0, 1), 0);
}

static void test_second_wins(void **state)
{
    struct run r;
    struct addr at[3];
    run_init(&r);
    int fd = closed_port("127.0.0.1", &at[0]);
    struct listener *l = listen_on(&r, "127.0.0.1", 0, &at[1]);
    at[2] = at[1];
    race_start(&r.race, &r.w, at, 2, 0, on_done);
    assert_int_equal(r.done, 0);
    loop_until(&r.w, r.done && r.accepted);
    assert_non_null(r.link);
    assert_true(addr_equal(&r.to, &at[1]));
    race_stop(&r.race);
    link_close(r.link);
    listener_close(l);
    close(fd);
    worker_fini(&r.w);
    assert_int_equal(r.done, 1);
}

static void test_all_fail(void **state)
{
    struct run r;
    struct addr at[2];
    char text[2][ADDR_TEXT_MAX];
    run_init(&r);
    int a = closed_port("::1", &at[0]), b = closed_port("127.0.0.1", &at[1]);
    race_start(&r.race, &r.w, at, 2, 0, on_done);
    loop_until(&r.w, r.done);
    assert_null(r.link);
    assert_int_equal(r.why, WHY_REFUSED);
    assert_non_null(strstr(r.err, addr_text(&at[0], text[0])));
    assert_non_null(strstr(r.err, addr_text(&at[1], text[1])));
    assert_non_null(strstr(r.err, "Connection refused"));
    close(a);
    close(b);
    worker_fini(&r.w);
}

static void test_stop(void **state)
{
    struct run r;
    struct addr at[2];
    run_init(&r);
    struct listener *l = listen_on(&r, "127.0.0.1", 0, &at[0]);
    at[1] = at[0];
    race_start(&r.race, &r.w, at, 2, 0, on_done);
    race_stop(&r.race);
    race_stop(&r.race);
    worker_poll(&r.w, false);
    assert_int_equal(r.done, 0);
    listener_close(l);
    worker_fini(&r.w);
}

static void test_unix(void **state)
{
    struct run r;
    struct addr at;
    run_init(&r);
    assert_true(addr_unix(&at, "/nonexistent/socket"));
    race_start(&r.race, &r.w, &at, 1, 0, on_done);
    loop_until(&r.w, r.done);
    assert_null(r.link);
    assert_non_null(strstr(r.err, "/nonexistent/socket"));
    worker_fini(&r.w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_second_wins), cmocka_unit_test(test_all_fail),
                                       cmocka_unit_test(test_stop), cmocka_unit_test(test_unix)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
