// SPDX-License-Identifier: Apache-2.0
// The tcp link on real sockets, TCP and Unix, and the stacks of the other tests over it.
#include "drive.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "link/tcp.h"
#include "talk.h"

static int listen_on(struct addr *a)
{
    int fd = socket(a->sa.sa_family, SOCK_STREAM, 0);
    socklen_t len = sizeof(a->un);
    assert_int_equal(bind(fd, &a->sa, a->len), 0);
    assert_int_equal(listen(fd, 8), 0);
    if (a->sa.sa_family != AF_UNIX)
        assert_int_equal(getsockname(fd, &a->sa, &len), 0);
    return fd;
}

static int listen_local(struct addr *a)
{
    assert_true(addr_parse_ip(a, "127.0.0.1", 0));
    return listen_on(a);
}

struct single {
    struct worker *w;
    struct link *top;
    struct wake wake;
    bool news;
};

static void on_single(struct wake *wake) { container_of(wake, struct single, wake)->news = true; }

static void single_init(struct single *s, struct worker *w, struct link *l)
{
    *s = (struct single){.w = w, .top = l};
    wake_init(&s->wake, on_single);
    link_own(l, &s->wake);
}

static void wait_news(struct single *s)
{
    drive_until(s->w, &s->news);
    s->news = false;
}

static enum link_status open_it(struct single *s)
{
    enum link_status st;
    while ((st = link_open(s->top)) == LINK_AGAIN)
        wait_news(s);
    return st;
}

static enum link_status recv_it(struct single *s, struct buf **b)
{
    enum link_status st;
    while ((st = link_recv(s->top, b)) == LINK_AGAIN)
        wait_news(s);
    return st;
}

static void single_fini(struct single *s)
{
    wake_cancel(&s->wake);
    link_close(s->top);
    drive_settle(s->w);
}

// A blocking peer on the other side of a dialled link.
static int dialled(struct single *s, struct worker *w, int flags)
{
    struct addr a;
    int l = listen_local(&a);
    single_init(s, w, tcp_dial(w, &a, flags));
    assert_int_equal(open_it(s), LINK_OK);
    int fd = accept(l, NULL, NULL);
    assert_true(fd >= 0);
    close(l);
    return fd;
}

static void refusal_and_bad_addresses_say_why(void **state)
{
    struct worker w;
    struct single s;
    struct addr a;
    char want[ADDR_TEXT_MAX + 64], text[ADDR_TEXT_MAX];
    worker_init(&w, 0, 1);
    close(listen_local(&a));
    single_init(&s, &w, tcp_dial(&w, &a, TCP_CARRIER));
    assert_int_equal(open_it(&s), LINK_FAILED);
    assert_int_equal(s.top->err.why, WHY_REFUSED);
    assert_int_equal(s.top->err.kind, ERR_UNREACHED);
    snprintf(want, sizeof(want), "connect to %s: Connection refused", addr_text(&a, text));
    assert_string_equal(err_text(&s.top->err), want);
    assert_true(link_room(s.top) > 0);
    link_send(s.top, buf_copy(&w.pool, "x", 1)); // goes nowhere, leaks nothing
    single_fini(&s);
    assert_true(addr_unix(&a, "/nonexistent/socket"));
    single_init(&s, &w, tcp_dial(&w, &a, 0));
    assert_int_equal(open_it(&s), LINK_FAILED);
    assert_int_equal(s.top->err.why, WHY_REFUSED);
    single_fini(&s);
    worker_fini(&w);
}

// The kernel takes no caller more and does not say when it does: EAGAIN, where TCP would wait.
static void a_unix_target_that_is_slow_to_accept_is_waited_for(void **state)
{
    struct worker w;
    struct single s;
    struct addr a;
    char path[64];
    worker_init(&w, 0, 1);
    snprintf(path, sizeof(path), "/tmp/culvert-tcp-%d", getpid());
    for (int end = 0; end < 3; end++) { // it accepts, it goes, we go
        unlink(path);
        assert_true(addr_unix(&a, path));
        int l = socket(AF_UNIX, SOCK_STREAM, 0), first = socket(AF_UNIX, SOCK_STREAM, 0);
        assert_int_equal(bind(l, &a.sa, a.len), 0);
        assert_int_equal(listen(l, 0), 0);
        assert_int_equal(connect(first, &a.sa, a.len), 0); // the one that the queue holds
        single_init(&s, &w, tcp_dial(&w, &a, 0));
        link_send(s.top, buf_copy(&w.pool, "early", 5));
        assert_int_equal(link_open(s.top), LINK_AGAIN);
        worker_poll(&w, true); // a try in vain
        assert_int_equal(link_open(s.top), LINK_AGAIN);
        if (end == 0) {
            char text[8] = "";
            close(accept(l, NULL, NULL));
            assert_int_equal(open_it(&s), LINK_OK);
            link_shut(s.top, SHUT_END);
            while (link_room(s.top) == 0)
                wait_news(&s);
            int fd = accept(l, NULL, NULL);
            assert_int_equal(recv(fd, text, 5, MSG_WAITALL), 5);
            assert_string_equal(text, "early");
            close(fd);
        } else if (end == 1) {
            close(l);
            assert_int_equal(open_it(&s), LINK_FAILED);
            assert_int_equal(s.top->err.why, WHY_REFUSED);
        }
        if (end != 1)
            close(l);
        single_fini(&s);
        close(first);
    }
    unlink(path);
    worker_fini(&w);
}

static void closing_while_connecting_is_legal(void **state)
{
    struct worker w;
    struct single s;
    struct addr a;
    worker_init(&w, 0, 1);
    int l = listen_local(&a);
    for (int i = 0; i < 3; i++) {
        single_init(&s, &w, tcp_dial(&w, &a, 0));
        link_send(s.top, buf_copy(&w.pool, "early", 5));
        if (i == 1)
            worker_poll(&w, false);
        if (i == 2)
            link_shut(s.top, SHUT_ABORT);
        single_fini(&s);
    }
    close(l);
    worker_fini(&w);
}

static void half_close_keeps_the_other_half(void **state)
{
    struct worker w;
    struct single s;
    struct buf *b;
    char text[16] = "";
    worker_init(&w, 0, 1);
    int fd = dialled(&s, &w, 0);
    link_send(s.top, buf_copy(&w.pool, "request", 7));
    link_shut(s.top, SHUT_END);
    while (link_room(s.top) == 0) // the wake says when it has left
        wait_news(&s);
    assert_int_equal(recv(fd, text, 16, MSG_WAITALL), 7); // up to our FIN
    assert_string_equal(text, "request");
    assert_int_equal(write(fd, "answer", 6), 6);
    shutdown(fd, SHUT_WR);
    assert_int_equal(recv_it(&s, &b), LINK_OK);
    assert_memory_equal(buf_data(b), "answer", 6);
    buf_put(b);
    assert_int_equal(recv_it(&s, &b), LINK_END);
    assert_int_equal(recv_it(&s, &b), LINK_END); // and stays so
    single_fini(&s);
    assert_int_equal(recv(fd, text, 1, 0), 0); // an end, not a reset
    close(fd);
    worker_fini(&w);
}

static void an_abort_is_a_reset_and_comes_as_one(void **state)
{
    struct linger now = {1, 0};
    struct worker w;
    struct single s;
    struct buf *b;
    char c;
    worker_init(&w, 0, 1);
    int fd = dialled(&s, &w, 0);
    link_shut(s.top, SHUT_ABORT);
    assert_int_equal(recv(fd, &c, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    assert_int_equal(link_recv(s.top, &b), LINK_FAILED);
    single_fini(&s);
    close(fd);
    fd = dialled(&s, &w, 0); // closed without an end: a reset too
    single_fini(&s);
    assert_int_equal(recv(fd, &c, 1, 0), -1);
    close(fd);
    fd = dialled(&s, &w, 0); // the peer's, behind its data
    assert_int_equal(write(fd, "last words", 10), 10);
    wait_news(&s);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(fd);
    assert_int_equal(recv_it(&s, &b), LINK_OK);
    assert_memory_equal(buf_data(b), "last words", 10);
    buf_put(b);
    assert_int_equal(recv_it(&s, &b), LINK_FAILED);
    assert_int_equal(s.top->err.why, WHY_ABORTED);
    single_fini(&s);
    worker_fini(&w);
}

// Back when the reset has reached the link's socket.
static void reset_now(struct single *s, int fd)
{
    static const struct linger now = {1, 0};
    struct pollfd p = {.fd = tcp_fd(s->top)};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(fd);
    assert_int_equal(poll(&p, 1, DRIVE_GUARD_S * 1000), 1);
    assert_true(p.revents & POLLERR);
}

// Told at once although nothing is sent and every read says "end".
static void a_reset_behind_the_peers_end_is_told(void **state)
{
    struct worker w;
    struct single s;
    struct buf *b;
    worker_init(&w, 0, 1);
    for (int early = 0; early < 2; early++) { // the end was read before the reset came, or both are there at once
        int fd = dialled(&s, &w, 0);
        assert_int_equal(write(fd, "x", 1), 1);
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        if (early)
            reset_now(&s, fd);
        assert_int_equal(recv_it(&s, &b), LINK_OK);
        buf_put(b);
        if (!early) {
            assert_int_equal(recv_it(&s, &b), LINK_END);
            drive_settle(&w);
            s.news = false;
            reset_now(&s, fd);
            drive_settle(&w);
            assert_true(s.news);
        }
        assert_int_equal(recv_it(&s, &b), LINK_FAILED);
        assert_int_equal(s.top->err.why, WHY_ABORTED);
        assert_true(link_room(s.top) > 0);
        single_fini(&s);
    }
    worker_fini(&w);
}

static void both_ends_are_no_failure(void **state)
{
    struct worker w;
    struct single s;
    struct buf *b;
    worker_init(&w, 0, 1);
    for (int ours_first = 0; ours_first < 2; ours_first++) {
        int fd = dialled(&s, &w, 0);
        if (ours_first) {
            link_shut(s.top, SHUT_END);
            drive_settle(&w);
        }
        close(fd);
        assert_int_equal(recv_it(&s, &b), LINK_END);
        if (!ours_first)
            link_shut(s.top, SHUT_END);
        while (link_room(s.top) == 0)
            wait_news(&s);
        drive_settle(&w);
        assert_false(err_is(&s.top->err));
        assert_int_equal(link_recv(s.top, &b), LINK_END);
        single_fini(&s);
    }
    worker_fini(&w);
}

static void a_write_that_fails_shows_after_what_can_still_be_read(void **state)
{
    struct worker w;
    struct single s;
    struct buf *b;
    worker_init(&w, 0, 1);
    int fd = dialled(&s, &w, 0);
    assert_int_equal(write(fd, "sorry", 5), 5);
    close(fd); // what we send now is answered with a reset
    size_t got = 0;
    enum link_status st = LINK_OK;
    for (int i = 0; i < 1000 && st == LINK_OK; i++) {
        link_send(s.top, buf_copy(&w.pool, "more", 4));
        drive_settle(&w);
        if (err_is(&s.top->err) || got == 0) {
            st = link_recv(s.top, &b);
            if (st == LINK_AGAIN)
                st = LINK_OK;
            else if (st == LINK_OK) {
                got += b->len;
                buf_put(b);
            }
        }
    }
    assert_int_equal(got, 5);
    assert_int_equal(st, LINK_FAILED);
    assert_int_equal(s.top->err.why, WHY_ABORTED);
    assert_true(link_room(s.top) > 0);
    single_fini(&s);
    worker_fini(&w);
}

static void a_slow_reader_takes_the_room_and_gives_it_back(void **state)
{
    for (int flags = 0; flags <= TCP_CARRIER; flags++) {
        struct worker w;
        struct single s;
        worker_init(&w, 0, 1);
        int fd = dialled(&s, &w, flags);
        size_t sent = 0, got = 0;
        while (link_room(s.top) > 0) {
            struct buf *b = buf_get(&w.pool);
            b->len = BUF_ROOM;
            memset(buf_data(b), 'x', b->len);
            sent += b->len;
            link_send(s.top, b);
            drive_settle(&w);
        }
        assert_true(w.pool.out_bytes <= TCP_QUEUE_MAX + 2 * BUF_SIZE);
        char *sink = malloc(1 << 20);
        fcntl(fd, F_SETFL, O_NONBLOCK);
        s.news = false;
        while (!s.news) { // it is owed
            for (ssize_t n; (n = read(fd, sink, 1 << 20)) > 0;)
                got += (size_t)n;
            worker_poll(&w, false);
        }
        assert_true(link_room(s.top) > 0);
        link_shut(s.top, SHUT_END);
        ssize_t n = -1;
        while (n != 0) {
            n = read(fd, sink, 1 << 20);
            got += n > 0 ? (size_t)n : 0;
            worker_poll(&w, false);
        }
        assert_int_equal(got, sent);
        free(sink);
        close(fd);
        single_fini(&s);
        worker_fini(&w);
    }
}

static void reads_have_room_in_front_and_carriers_read_several(void **state)
{
    for (int flags = 0; flags <= TCP_CARRIER; flags++) {
        struct worker w;
        struct single s;
        struct buf *b;
        worker_init(&w, 0, 1);
        int fd = dialled(&s, &w, flags);
        enum { TOTAL = 200000 };
        char *data = malloc(TOTAL);
        for (int i = 0; i < TOTAL; i++)
            data[i] = (char)talk_byte((size_t)i);
        assert_int_equal(write(fd, data, TOTAL), TOTAL); // all of it lies in the kernel
        size_t got = 0, most = 0;
        while (got < TOTAL) {
            assert_int_equal(recv_it(&s, &b), LINK_OK);
            if (flags == 0) {
                assert_true(b->start >= 24); // DATA's and WebSocket's headers
                assert_true(b->len <= TCP_READ_MAX);
            }
            most = b->len > most ? b->len : most;
            for (size_t i = 0; i < b->len; i++)
                assert_int_equal(buf_data(b)[i], talk_byte(got + i));
            got += b->len;
            buf_put(b);
        }
        assert_int_equal(most, flags ? BUF_ROOM : TCP_READ_MAX);
        assert_int_equal(w.pool.out_count, 0);
        free(data);
        close(fd);
        single_fini(&s);
        worker_fini(&w);
    }
}

static void an_unread_link_does_not_spin(void **state)
{
    struct worker w;
    struct single s;
    worker_init(&w, 0, 1);
    int fd = dialled(&s, &w, 0);
    assert_int_equal(write(fd, "x", 1), 1);
    wait_news(&s);
    drive_settle(&w); // nobody reads: interest goes
    s.news = false;
    drive_settle(&w);
    assert_false(s.news);
    struct buf *b;
    assert_int_equal(recv_it(&s, &b), LINK_OK);
    buf_put(b);
    assert_int_equal(link_recv(s.top, &b), LINK_AGAIN); // interest is back
    assert_int_equal(write(fd, "y", 1), 1);
    assert_int_equal(recv_it(&s, &b), LINK_OK);
    buf_put(b);
    close(fd);
    single_fini(&s);
    worker_fini(&w);
}

static void carriers_know_their_addresses(void **state)
{
    struct worker w;
    struct single s;
    struct addr a;
    worker_init(&w, 0, 1);
    int l = listen_local(&a);
    single_init(&s, &w, tcp_dial(&w, &a, TCP_CARRIER));
    assert_int_equal(open_it(&s), LINK_OK);
    assert_true(addr_equal(&s.top->facts->peer, &a));
    assert_true(addr_port(&s.top->facts->local) != 0);
    assert_true(tcp_fd(s.top) >= 0);
    close(l);
    single_fini(&s);
    single_init(&s, &w, tcp_dial(&w, &a, 0));
    assert_null(s.top->facts);
    single_fini(&s);
    worker_fini(&w);
}

static void progress_counts_what_the_peer_took(void **state)
{
    struct worker w;
    struct single s;
    struct addr a;
    uint64_t acked = 0, waiting = 0, before;
    worker_init(&w, 0, 1);
    int l = listen_local(&a);
    single_init(&s, &w, tcp_dial(&w, &a, TCP_CARRIER));
    assert_int_equal(open_it(&s), LINK_OK);
    assert_true(tcp_progress(s.top, &before, &waiting));
    assert_int_equal(waiting, 0);
    link_send(s.top, buf_copy(&w.pool, "12345", 5));
    assert_true(tcp_progress(s.top, &acked, &waiting));
    assert_int_equal(acked, before);
    assert_int_equal(waiting, 5); // not even written yet
    for (int i = 0; i < 1000 && waiting; i++) {
        worker_turn(&w);
        usleep(1000);
        assert_true(tcp_progress(s.top, &acked, &waiting));
    }
    assert_int_equal(waiting, 0);
    assert_int_equal(acked, before + 5);
    close(l);
    link_shut(s.top, SHUT_ABORT);
    assert_false(tcp_progress(s.top, &acked, &waiting));
    single_fini(&s);
    worker_fini(&w);
}

static void talk_over(struct worker *w, int client, int server, const char *layers, size_t up, size_t down, bool peel)
{
    struct talk t;
    talk_start(&t, w, tcp_take(w, client, TCP_CARRIER), tcp_take(w, server, TCP_CARRIER), layers, up, down);
    t.client.peel = t.server.peel = peel;
    drive_until(w, &t.done);
    if (t.client.result != TALK_OK || t.server.result != TALK_OK)
        fail_msg("%s: %s; %s", layers, err_text(&t.client.err), err_text(&t.server.err));
    talk_fini(&t);
    drive_settle(w);
}

static void whole_stacks_over_sockets(void **state)
{
    static const char *const stacks[] = {"", "W", "T", "TWI", "CTWI"};
    struct worker w;
    worker_init(&w, 0, 1);
    for (size_t i = 0; i < sizeof(stacks) / sizeof(stacks[0]); i++) {
        for (int tcp = 0; tcp < 2; tcp++) {
            int fds[2];
            if (tcp) {
                struct addr a;
                int l = listen_local(&a);
                fds[0] = socket(AF_INET, SOCK_STREAM, 0);
                assert_int_equal(connect(fds[0], &a.sa, a.len), 0);
                fds[1] = accept(l, NULL, NULL);
                close(l);
                fcntl(fds[0], F_SETFL, O_NONBLOCK);
                fcntl(fds[1], F_SETFL, O_NONBLOCK);
            } else {
                assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
            }
            talk_over(&w, fds[0], fds[1], stacks[i], 5000000, 3000001, tcp && strchr(stacks[i], 'I'));
        }
    }
    assert_int_equal(w.pool.out_count, 0);
    worker_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refusal_and_bad_addresses_say_why),
        cmocka_unit_test(a_unix_target_that_is_slow_to_accept_is_waited_for),
        cmocka_unit_test(closing_while_connecting_is_legal),
        cmocka_unit_test(half_close_keeps_the_other_half),
        cmocka_unit_test(an_abort_is_a_reset_and_comes_as_one),
        cmocka_unit_test(a_reset_behind_the_peers_end_is_told),
        cmocka_unit_test(both_ends_are_no_failure),
        cmocka_unit_test(a_write_that_fails_shows_after_what_can_still_be_read),
        cmocka_unit_test(a_slow_reader_takes_the_room_and_gives_it_back),
        cmocka_unit_test(reads_have_room_in_front_and_carriers_read_several),
        cmocka_unit_test(an_unread_link_does_not_spin),
        cmocka_unit_test(carriers_know_their_addresses), cmocka_unit_test(progress_counts_what_the_peer_took),
        cmocka_unit_test(whole_stacks_over_sockets),
    };
    return cmocka_run_group_tests(tests, talk_setup, talk_teardown);
}
