// SPDX-License-Identifier: Apache-2.0
#include "loop.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/log.h"
#include "forward/listen.h"

struct run {
    struct worker w;
    unsigned accepted;
    struct addr peer;
    struct link *kept[16];
    bool keep, close_now;
    struct listener *l;
};

static void on_accept(void *owner, struct link *link, const struct addr *peer)
{
    struct run *r = owner;
    r->peer = *peer;
    if (r->keep)
        r->kept[r->accepted % 16] = link;
    else
        link_close(link);
    r->accepted++;
    if (r->close_now)
        listener_close(r->l);
}

static struct listener *open_at(struct run *r, const struct addr *at, size_t count, bool dual, struct err *e)
{
    r->l = listener_open(&r->w, &(struct listen_options){.at = at, .count = count, .dual = dual, .on_accept = on_accept,
                                                         .owner = r}, e);
    return r->l;
}

static int connect_to(const struct addr *at)
{
    int fd = socket(at->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, &at->sa, at->len), 0);
    return fd;
}

static void run_init(struct run *r)
{
    memset(r, 0, sizeof(*r));
    assert_int_equal(worker_init(&r->w, 0, 1), 0);
}

static void spec(struct spec_addr *s, const char *host, uint16_t port)
{
    memset(s, 0, sizeof(*s));
    s->kind = SPEC_NET;
    s->port = port;
    snprintf(s->host, sizeof(s->host), "%s", host);
}

static void test_dual(void **state)
{
    struct run r;
    struct err e = ERR_INIT;
    struct addr at[2], v4, v6;
    struct spec_addr s;
    size_t count;
    bool dual;
    run_init(&r);
    spec(&s, "*", 0);
    assert_true(listen_addrs(&s, at, &count, &dual));
    assert_true(dual);
    assert_non_null(open_at(&r, at, count, dual, &e));
    uint16_t port = addr_port(listener_addr(r.l, 0));
    assert_true(port != 0);
    addr_parse_ip(&v4, "127.0.0.1", port);
    addr_parse_ip(&v6, "::1", port);
    int a = connect_to(&v4);
    loop_until(&r.w, r.accepted == 1);
    assert_int_equal(r.peer.sa.sa_family, AF_INET); // not the mapped form
    int b = connect_to(&v6);
    loop_until(&r.w, r.accepted == 2);
    assert_int_equal(r.peer.sa.sa_family, AF_INET6);
    close(a);
    close(b);
    listener_close(r.l);
    worker_fini(&r.w);
}

static void test_localhost_port_0(void **state)
{
    struct run r;
    struct err e = ERR_INIT;
    struct addr at[2];
    struct spec_addr s;
    size_t count;
    bool dual;
    run_init(&r);
    spec(&s, "localhost", 0);
    assert_true(listen_addrs(&s, at, &count, &dual));
    assert_int_equal(count, 2);
    assert_non_null(open_at(&r, at, count, dual, &e));
    assert_int_equal(addr_port(listener_addr(r.l, 0)), addr_port(listener_addr(r.l, 1)));
    assert_null(listener_addr(r.l, 2));
    struct run other;
    run_init(&other);
    assert_null(open_at(&other, listener_addr(r.l, 0), 1, false, &e));
    assert_non_null(strstr(err_text(&e), "Address already in use"));
    err_fini(&e);
    listener_close(r.l);
    worker_fini(&r.w);
    worker_fini(&other.w);
    spec(&s, "relay.example", 1);
    assert_false(listen_addrs(&s, at, &count, &dual));
}

// An address of documentation is nowhere local: the kernel says what it says where there is no IPv6.
static void test_ipv6_that_is_not_here(void **state)
{
    struct err e = ERR_INIT;
    struct addr at[2], only4;
    addr_parse_ip(&only4, "127.0.0.1", 0);
    for (int first = 0; first < 2; first++) {
        struct run r;
        run_init(&r);
        at[!first] = only4;
        addr_parse_ip(&at[first], "2001:db8::1", 0);
        assert_non_null(open_at(&r, at, 2, false, &e));
        assert_false(err_is(&e));
        assert_true(addr_equal_host(listener_addr(r.l, 0), &only4));
        assert_null(listener_addr(r.l, 1));
        listener_close(r.l);
        assert_null(open_at(&r, &at[first], 1, false, &e)); // alone it must be there
        assert_non_null(strstr(err_text(&e), "listen [2001:db8::1]:0: Cannot assign requested address"));
        err_fini(&e);
        addr_parse_ip(&at[!first], "192.0.2.1", 0); // and so must IPv4
        assert_null(open_at(&r, at, 2, false, &e));
        assert_non_null(strstr(err_text(&e), "listen 192.0.2.1:0: "));
        err_fini(&e);
        worker_fini(&r.w);
    }
}

static void test_unix(void **state)
{
    struct run r;
    struct err e = ERR_INIT;
    struct addr at;
    struct stat st;
    char dir[] = "/tmp/listen-XXXXXX", path[64];
    run_init(&r);
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/s", dir);
    assert_true(addr_unix(&at, path));
    assert_non_null(open_at(&r, &at, 1, false, &e));
    assert_int_equal(lstat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    int fd = connect_to(&at);
    loop_until(&r.w, r.accepted == 1);
    assert_int_equal(r.peer.len, 0);
    close(fd);

    struct run other; // a live one is somebody's
    run_init(&other);
    assert_null(open_at(&other, &at, 1, false, &e));
    assert_non_null(strstr(err_text(&e), "in use"));
    listener_close(r.l);
    assert_int_equal(lstat(path, &st), -1);

    int left = listen_socket(&at, SOCK_STREAM, false, &e); // left over from a crash
    close(left);
    assert_int_equal(lstat(path, &st), 0);
    assert_non_null(open_at(&other, &at, 1, false, &e));

    unlink(path); // replaced by somebody else meanwhile: not ours to remove
    close(open(path, O_CREAT | O_WRONLY, 0600));
    listener_close(other.l);
    assert_int_equal(lstat(path, &st), 0);
    assert_null(open_at(&other, &at, 1, false, &e)); // nor is a file
    assert_int_equal(lstat(path, &st), 0);
    err_fini(&e);
    unlink(path);
    rmdir(dir);
    worker_fini(&r.w);
    worker_fini(&other.w);
}

static void test_close_in_accept(void **state)
{
    struct run r;
    struct err e = ERR_INIT;
    struct addr at;
    run_init(&r);
    r.close_now = true;
    addr_parse_ip(&at, "127.0.0.1", 0);
    assert_non_null(open_at(&r, &at, 1, false, &e));
    at = *listener_addr(r.l, 0);
    int a = connect_to(&at), b = connect_to(&at);
    loop_until(&r.w, r.accepted == 1);
    close(a);
    close(b);
    worker_fini(&r.w);
    assert_int_equal(r.accepted, 1);
}

// Without descriptors accepting pauses, turns away who waited through the pause, and goes on when there are some again.
static void test_no_descriptors(void **state)
{
    struct run r;
    struct err e = ERR_INIT;
    struct addr at;
    struct rlimit old, few;
    int fds[300], n = 0;
    run_init(&r);
    log_setup(LOG_ERROR, LOG_TEXT);
    addr_parse_ip(&at, "127.0.0.1", 0);
    assert_non_null(open_at(&r, &at, 1, false, &e));
    at = *listener_addr(r.l, 0);
    int a = connect_to(&at);
    getrlimit(RLIMIT_NOFILE, &old);
    few = old;
    few.rlim_cur = 200;
    setrlimit(RLIMIT_NOFILE, &few);
    while ((fds[n] = dup(0)) >= 0)
        n++;
    loop_until(&r.w, listener_stats(r.l)->pauses == 1);
    assert_int_equal(r.accepted, 0);
    loop_until(&r.w, listener_stats(r.l)->turned_away == 1);
    while (n > 0)
        close(fds[--n]);
    setrlimit(RLIMIT_NOFILE, &old);
    int b = connect_to(&at);
    loop_until(&r.w, r.accepted == 1);
    close(a);
    close(b);
    listener_close(r.l);
    worker_fini(&r.w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dual),          cmocka_unit_test(test_localhost_port_0), cmocka_unit_test(test_ipv6_that_is_not_here),
        cmocka_unit_test(test_unix),          cmocka_unit_test(test_close_in_accept),
        cmocka_unit_test(test_no_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
