// SPDX-License-Identifier: Apache-2.0
#include "loop.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "forward/stdio.h"
#include "link/mem.h"
#include "link/pump.h"

// A stdio link pumped against an end of a memory link; the other end is the test's.
struct run {
    struct worker w;
    struct pump pump;
    struct link *far;
    struct wake wake;
    unsigned done;
    bool failed, ended;
    char got[300000];
    size_t got_len;
};

static void on_done(struct pump *pump, const struct err *err)
{
    struct run *r = container_of(pump, struct run, pump);
    r->done++;
    r->failed = err != NULL;
}

static void on_wake(struct wake *wake)
{
    struct run *r = container_of(wake, struct run, wake);
    struct buf *b;
    enum link_status st;
    while ((st = link_recv(r->far, &b)) == LINK_OK) {
        memcpy(r->got + r->got_len, buf_data(b), b->len);
        r->got_len += b->len;
        buf_put(b);
    }
    if (st == LINK_END)
        r->ended = true;
}

static struct run *run_new(int in, int out)
{
    struct run *r = calloc(1, sizeof(*r));
    struct link *near;
    assert_int_equal(worker_init(&r->w, 0, 1), 0);
    mem_pair(&r->w, &near, &r->far, NULL, NULL);
    wake_init(&r->wake, on_wake);
    link_own(r->far, &r->wake);
    pump_start(&r->pump, &r->w, stdio_link(&r->w, in, out), near, NULL, on_done);
    return r;
}

static void run_free(struct run *r)
{
    pump_stop(&r->pump);
    wake_cancel(&r->wake);
    link_close(r->far);
    worker_fini(&r->w);
    free(r);
}

static void pipe_of(int p[2]) { assert_int_equal(pipe2(p, O_CLOEXEC), 0); }

static void say(struct run *r, const char *text)
{
    link_send(r->far, buf_copy(&r->w.pool, text, strlen(text)));
}

static void test_pipes(void **state)
{
    int in[2], out[2];
    char back[32] = "";
    pipe_of(in);
    pipe_of(out);
    struct run *r = run_new(in[0], out[1]);
    assert_int_equal(write(in[1], "up", 2), 2);
    loop_until(&r->w, r->got_len == 2);
    close(in[1]); // the half close passes, and the other half goes on
    loop_until(&r->w, r->ended);
    assert_int_equal(r->done, 0);
    say(r, "down");
    link_shut(r->far, SHUT_END);
    loop_until(&r->w, r->done == 1);
    assert_false(r->failed);
    assert_int_equal(read(out[0], back, sizeof(back)), 4);
    assert_string_equal(back, "down");
    assert_int_equal(read(out[0], back, sizeof(back)), 0); // closed
    close(out[0]);
    run_free(r);
}

// A file is always ready, cannot be watched, and ends; /dev/null takes everything.
static void test_files(void **state)
{
    char path[] = "/tmp/stdio-XXXXXX";
    static char data[200000];
    int fd = mkstemp(path);
    memset(data, 'f', sizeof(data));
    assert_int_equal(write(fd, data, sizeof(data)), sizeof(data));
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    struct run *r = run_new(fd, open("/dev/null", O_WRONLY | O_CLOEXEC));
    say(r, "gone");
    link_shut(r->far, SHUT_END);
    loop_until(&r->w, r->done == 1 && r->ended);
    assert_false(r->failed);
    assert_int_equal(r->got_len, sizeof(data));
    assert_memory_equal(r->got, data, sizeof(data));
    unlink(path);
    run_free(r);
}

// One socket under both names: the end of one half is a shutdown, not a close of a name.
static void test_one_socket(void **state)
{
    int sv[2];
    char back[8];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    int twin = dup(sv[0]);
    struct run *r = run_new(sv[0], twin);
    link_shut(r->far, SHUT_END);
    loop_until(&r->w, recv(sv[1], back, sizeof(back), MSG_DONTWAIT) == 0);
    assert_int_equal(send(sv[1], "late", 4, 0), 4);
    shutdown(sv[1], SHUT_WR);
    loop_until(&r->w, r->done == 1 && r->ended);
    assert_int_equal(r->got_len, 4);
    close(sv[1]);
    run_free(r);
}

static void test_reader_gone(void **state)
{
    int in[2], out[2];
    pipe_of(in);
    pipe_of(out);
    signal(SIGPIPE, SIG_IGN);
    struct run *r = run_new(in[0], out[1]);
    close(out[0]);
    say(r, "nobody hears");
    loop_until(&r->w, r->done == 1);
    assert_true(r->failed);
    close(in[1]);
    run_free(r);
}

// The mode of a descriptor shared with others is put back.
static void test_modes(void **state)
{
    int in[2], out[2];
    pipe_of(in);
    pipe_of(out);
    int keep = dup(in[0]);
    struct run *r = run_new(in[0], out[1]);
    assert_true(fcntl(keep, F_GETFL) & O_NONBLOCK);
    run_free(r);
    assert_false(fcntl(keep, F_GETFL) & O_NONBLOCK);
    close(keep);
    close(in[1]);
    close(out[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pipes),       cmocka_unit_test(test_files), cmocka_unit_test(test_one_socket),
        cmocka_unit_test(test_reader_gone), cmocka_unit_test(test_modes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
