// SPDX-License-Identifier: Apache-2.0
// Entries, targets, flows and SOCKS over a pair of sessions in memory, with real sockets of the loopback at both ends.
#include "loop.h"
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "core/log.h"
#include "duo.h"
#include "forward/conduit.h"
#include "forward/entry.h"
#include "forward/flow.h"
#include "forward/seal.h"
#include "forward/socks.h"
#include "forward/target.h"
#include "link/tcp.h"
#include "link/tls.h"
#include "trust/identity.h"

struct world {
    struct worker w;
    struct resolver *r;
    struct forward near, far; // the agent's, the relay's
    struct duo duo;
    // the target: echoes, or resets
    struct listener *target;
    struct udp_sock udp_target;
    struct list echo_list;
    struct stream *service; // asked for, and refused by the test
    unsigned echoes, udp_seen;
    bool reset_callers, deny, no_session;
    uint16_t dest_port;
    char dest_host[64];
    // the caller
    int fd;
    struct socks_server *socks;
};

// --- the far end

static bool allows(void *ctx, const char *name, uint16_t port, const struct addr *to, bool udp)
{
    struct world *x = ctx;
    assert_string_equal(name, x->dest_host);
    assert_int_equal(port, x->dest_port);
    assert_true(!to || to->sa.sa_family == AF_UNIX || addr_port(to) == port);
    return !x->deny;
}

static void on_open(struct session *s, struct stream *st, const struct frame_open *open)
{
    struct world *x = s->owner;
    if (open->kind == OPEN_SERVICE) {
        x->service = st;
        return;
    }
    struct target_ask ask = {.host = open->host, .port = open->port, .udp = open->kind == OPEN_UDP, .allows = allows,
                             .ctx = x, .origin = open->origin};
    target_open(&x->far, st, &ask);
}

static const struct session_ops ops = {.on_open = on_open, .on_dgram = flow_on_dgram};

struct echo { // reads all, then writes it back: shows that the half close came through
    struct list node;
    struct link *link;
    struct wake wake;
    struct bufq held;
    struct world *x;
    bool ended;
};

static void echo_free(struct echo *e)
{
    bufq_clear(&e->held);
    wake_cancel(&e->wake);
    link_close(e->link);
    list_del(&e->node);
    e->x->echoes++;
    free(e);
}

static void on_echo(struct wake *wake)
{
    struct echo *e = container_of(wake, struct echo, wake);
    struct buf *b;
    enum link_status st;
    while ((st = link_recv(e->link, &b)) == LINK_OK) {
        if (e->x->reset_callers) {
            buf_put(b);
            link_shut(e->link, SHUT_ABORT);
            break;
        }
        bufq_push(&e->held, b);
    }
    if (st == LINK_AGAIN)
        return;
    if (st == LINK_END && !e->ended) {
        e->ended = true;
        while ((b = bufq_pop(&e->held)))
            link_send(e->link, b);
        link_shut(e->link, SHUT_END);
        link_wake(e->link);
        return;
    }
    if (st == LINK_END && link_room(e->link) == 0)
        return;
    echo_free(e);
}

static void on_target(void *owner, struct link *link, const struct addr *peer)
{
    struct echo *e = calloc(1, sizeof(*e));
    e->x = owner;
    e->link = link;
    list_push(&e->x->echo_list, &e->node);
    wake_init(&e->wake, on_echo);
    link_own(link, &e->wake);
    wake_post(link->w, &e->wake);
}

static void on_udp_target(struct udp_sock *u, const struct addr *from, const uint8_t *data, size_t len)
{
    container_of(u, struct world, udp_target)->udp_seen++;
    udp_sock_send(u, from, data, len);
}

// --- the world

static struct world *world_new(void)
{
    struct world *x = calloc(1, sizeof(*x));
    struct err e = ERR_INIT;
    struct addr at;
    log_setup(LOG_ERROR, LOG_TEXT);
    list_init(&x->echo_list);
    assert_int_equal(worker_init(&x->w, 0, 1), 0);
    x->r = resolver_new(&x->w, &e);
    forward_init(&x->near, &x->w, x->r, 0);
    forward_init(&x->far, &x->w, x->r, 0);
    duo_init(&x->duo, &x->w, &ops, &ops, x);
    addr_parse_ip(&at, "127.0.0.1", 0);
    x->target = listener_open(&x->w, &(struct listen_options){.at = &at, .count = 1, .on_accept = on_target, .owner = x}, &e);
    at = *listener_addr(x->target, 0);
    x->dest_port = addr_port(&at);
    assert_int_equal(udp_sock_bind(&x->udp_target, &x->far.udp, &at, false, on_udp_target, &e), 0);
    snprintf(x->dest_host, sizeof(x->dest_host), "127.0.0.1");
    x->fd = -1;
    return x;
}

static void world_free(struct world *x)
{
    if (x->fd >= 0)
        close(x->fd);
    socks_server_free(x->socks);
    list_each(&x->echo_list, it) echo_free(list_entry(it, struct echo, node));
    listener_close(x->target);
    forward_fini(&x->near);
    udp_sock_close(&x->udp_target);
    forward_fini(&x->far);
    duo_fini(&x->duo);
    resolver_free(x->r);
    worker_fini(&x->w);
    free(x);
}

static struct session *on_caller(void *owner, struct frame_open *open)
{
    struct world *x = owner;
    if (x->no_session)
        return NULL;
    open->kind = open->datagram ? OPEN_UDP : OPEN_TCP;
    open->datagram = false;
    snprintf(open->host, sizeof(open->host), "%s", x->dest_host);
    open->port = x->dest_port;
    return &x->duo.agent.s;
}

static struct entry *enter(struct world *x, bool udp, uint32_t flows_max)
{
    struct addr at;
    struct err e = ERR_INIT;
    addr_parse_ip(&at, "127.0.0.1", 0);
    struct entry *en = entry_open(&x->near, &(struct entry_options){.at = &at, .count = 1, .udp = udp, .kind = "local",
                                                                    .dest = "there", .on_caller = on_caller, .owner = x,
                                                                    .flows_max = flows_max}, &e);
    assert_non_null(en);
    return en;
}

static void call(struct world *x, const struct addr *to, int type)
{
    x->fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int rc = connect(x->fd, &to->sa, to->len);
    assert_true(rc == 0 || errno == EINPROGRESS);
}

// What can be read now; -1: nothing yet, 0: the end, -2: reset.
static ssize_t peek_all(int fd, char *out, size_t max)
{
    ssize_t n = recv(fd, out, max, 0);
    if (n >= 0)
        return n;
    return errno == EAGAIN ? -1 : -2;
}

static char got[400000];
static size_t got_len;

static bool take_until_end(int fd)
{
    for (;;) {
        ssize_t n = peek_all(fd, got + got_len, sizeof(got) - got_len);
        if (n == -1)
            return false;
        assert_int_not_equal(n, -2);
        if (n == 0)
            return true;
        got_len += (size_t)n;
    }
}

static bool send_all(int fd, const char *data, size_t len, size_t *at)
{
    ssize_t n = send(fd, data + *at, len - *at, MSG_NOSIGNAL);
    if (n > 0)
        *at += (size_t)n;
    return *at == len;
}

// --- streams

// 200,000 bytes, then FIN, all echoed after it: the half close passes as such, and nothing is lost.
static void test_half_close(void **state)
{
    struct world *x = world_new();
    static char data[200000];
    size_t sent = 0;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (char)(i * 7 / 3);
    struct entry *en = enter(x, false, 0);
    call(x, entry_addr(en, 0), SOCK_STREAM);
    loop_until(&x->w, send_all(x->fd, data, sizeof(data), &sent));
    shutdown(x->fd, SHUT_WR);
    got_len = 0;
    loop_until(&x->w, take_until_end(x->fd));
    assert_int_equal(got_len, sizeof(data));
    assert_memory_equal(got, data, sizeof(data));
    loop_until(&x->w, x->near.conduit_count == 0 && x->far.conduit_count == 0 && x->duo.agent.s.stream_count == 0);
    assert_int_equal(x->near.stats.bytes_in, sizeof(data));
    assert_int_equal(x->far.stats.bytes_out, sizeof(data));
    assert_int_equal(x->near.stats.conduits_reset, 0);
    world_free(x);
}

static void test_reset(void **state)
{
    struct world *x = world_new();
    char one[4];
    x->reset_callers = true;
    struct entry *en = enter(x, false, 0);
    call(x, entry_addr(en, 0), SOCK_STREAM);
    size_t sent = 0;
    loop_until(&x->w, send_all(x->fd, "hi", 2, &sent));
    loop_until(&x->w, peek_all(x->fd, one, sizeof(one)) == -2);
    loop_until(&x->w, x->near.conduit_count == 0 && x->far.conduit_count == 0);
    assert_int_equal(x->near.stats.conduits_reset, 1);
    world_free(x);
}

static struct entry *expect_reset(struct world *x)
{
    char one[4];
    struct entry *en = enter(x, false, 0);
    call(x, entry_addr(en, 0), SOCK_STREAM);
    loop_until(&x->w, peek_all(x->fd, one, sizeof(one)) == -2);
    loop_until(&x->w, x->near.conduit_count == 0 && x->far.conduit_count == 0);
    return en;
}

static json_int_t counted(const struct entry *en, const char *what)
{
    json_t *counts = entry_counts(en);
    json_int_t n = json_integer_value(json_object_get(counts, what));
    json_decref(counts);
    return n;
}

static void test_refused(void **state)
{
    struct world *x = world_new();
    listener_close(x->target);
    x->target = NULL;
    expect_reset(x);
    assert_int_equal(x->near.stats.conduits_failed, 1);
    world_free(x);
}

static void test_denied(void **state)
{
    struct world *x = world_new();
    x->deny = true;
    struct entry *en = expect_reset(x);
    assert_int_equal(counted(en, "callers"), 1);
    assert_int_equal(counted(en, "turned_away"), 0);
    assert_int_equal(x->echoes, 0);
    assert_int_equal(x->duo.agent.s.stats.refused, 1);
    world_free(x);
}

static void test_turned_away(void **state)
{
    struct world *x = world_new();
    x->no_session = true;
    struct entry *en = expect_reset(x);
    assert_int_equal(counted(en, "callers"), 0);
    assert_int_equal(counted(en, "turned_away"), 1);
    assert_int_equal(x->duo.agent.s.stats.opened, 0);
    world_free(x);
}

// The session ends while a caller is served, and while one waits: both are reset, nothing is left behind.
static void test_session_ends(void **state)
{
    struct world *x = world_new();
    struct err e = ERR_INIT;
    char one[4];
    size_t sent = 0;
    struct entry *en = enter(x, false, 0);
    call(x, entry_addr(en, 0), SOCK_STREAM);
    loop_until(&x->w, send_all(x->fd, "hi", 2, &sent) && x->far.conduit_count == 1);
    err_set(&e, ERR_FAILED, WHY_LOST, "revoked");
    session_end_streams(&x->duo.relay.s, &e);
    session_end_streams(&x->duo.agent.s, &e);
    loop_until(&x->w, peek_all(x->fd, one, sizeof(one)) == -2);
    loop_until(&x->w, x->near.conduit_count == 0 && x->far.conduit_count == 0);
    err_fini(&e);
    world_free(x);
}

static void move_target(struct world *x, const char *dir)
{
    struct err e = ERR_INIT;
    struct addr at;
    char path[40];
    snprintf(path, sizeof(path), "%s/s", dir);
    addr_unix(&at, path);
    listener_close(x->target);
    x->target = listener_open(&x->w, &(struct listen_options){.at = &at, .count = 1, .on_accept = on_target, .owner = x}, &e);
    snprintf(x->dest_host, sizeof(x->dest_host), "unix:%s", path);
    x->dest_port = 0;
}

static void test_unix_target_denied(void **state)
{
    struct world *x = world_new();
    char dir[] = "/tmp/forward-XXXXXX";
    assert_non_null(mkdtemp(dir));
    move_target(x, dir);
    x->deny = true;
    expect_reset(x);
    assert_int_equal(x->duo.agent.s.stats.refused, 1);
    world_free(x);
    assert_int_equal(rmdir(dir), 0);
}

static void test_unix_target(void **state)
{
    struct world *x = world_new();
    char dir[] = "/tmp/forward-XXXXXX";
    size_t sent = 0;
    assert_non_null(mkdtemp(dir));
    move_target(x, dir);
    struct entry *en = enter(x, false, 0);
    call(x, entry_addr(en, 0), SOCK_STREAM);
    loop_until(&x->w, send_all(x->fd, "through", 7, &sent));
    shutdown(x->fd, SHUT_WR);
    got_len = 0;
    loop_until(&x->w, take_until_end(x->fd));
    assert_int_equal(got_len, 7);
    world_free(x);
    assert_int_equal(rmdir(dir), 0); // the path went with its listener
}

// --- asked elsewhere

// The pin of the other agent comes to be known between the first question, which took the caller's bytes along, and the next.
struct late_pin {
    struct world *x;
    struct identity id;
    struct seal_way way;
    unsigned asked;
    struct err end;
};

static struct session *elsewhere(void *owner, struct session *from, const struct frame_open *open, const struct err *err,
                                 uint32_t *asked, bool *later)
{
    struct late_pin *p = owner;
    (void)open, (void)asked, (void)later;
    assert_int_equal(err->why, WHY_ABSENT);
    return p->asked++ ? NULL : from;
}

static enum seal_choice choose(void *owner, const char *service, struct seal_peer *peer, struct err *e)
{
    const struct late_pin *p = owner;
    (void)service, (void)e;
    peer->pin_count = 1;
    return p->asked ? SEAL_SEALED : SEAL_PLAIN;
}

static void on_end(struct conduit *c, const struct err *err) { err_copy(&((struct late_pin *)c->ask.owner)->end, err); }

static void test_first_bytes_in_the_clear_are_not_sealed_later(void **state)
{
    static const struct conduit_ops ending = {.on_end = on_end};
    struct late_pin p = {.x = world_new()};
    struct world *x = p.x;
    struct err e = ERR_INIT;
    struct frame_open open = {.kind = OPEN_SERVICE, .host = "it@near"};
    int sv[2];
    assert_int_equal(identity_make(&p.id, &e), 0);
    p.way = (struct seal_way){.choose = choose, .owner = &p, .client = tls_inner_ctx(false, p.id.cert, p.id.key, &e)};
    x->near.seal = &p.way;
    x->near.elsewhere = elsewhere;
    x->near.elsewhere_owner = &p;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv), 0);
    assert_int_equal(send(sv[1], "early", 5, 0), 5);
    conduit_to_stream(&x->near, &(struct conduit_ask){.kind = "local", .caller = tcp_take(&x->w, sv[0], 0), .dest = open.host,
                                                      .ops = &ending, .owner = &p}, &x->duo.agent.s, &open);
    loop_until(&x->w, x->service && list_entry(x->near.conduits.next, struct conduit, node)->sent_early == 5);
    stream_refuse(x->service, WHY_ABSENT, "not here");
    link_close(stream_link(x->service));
    loop_until(&x->w, err_is(&p.end));
    assert_int_equal(p.asked, 1);
    assert_int_equal(x->duo.agent.s.stats.opened, 1);
    assert_non_null(strstr(err_text(&p.end), "unsealed"));
    assert_int_equal(x->near.conduit_count, 0);
    close(sv[1]);
    world_free(x);
    SSL_CTX_free(p.way.client);
    identity_fini(&p.id);
    err_fini(&p.end);
}

// --- flows

static ssize_t take_dgram(int fd, char *out, size_t max) { return recv(fd, out, max, 0); }

static void test_flow_sizes(void **state)
{
    static const size_t sizes[] = {0, 1, 1400, 16000, 16001, 65507};
    static char data[65507], back[65536];
    struct world *x = world_new();
    struct entry *en = enter(x, true, 0);
    memset(data, 'u', sizeof(data));
    call(x, entry_addr(en, 0), SOCK_DGRAM);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        ssize_t n = -1;
        assert_int_equal(send(x->fd, data, sizes[i], 0), sizes[i]);
        loop_until(&x->w, (n = take_dgram(x->fd, back, sizeof(back))) >= 0);
        assert_int_equal(n, sizes[i]);
        assert_memory_equal(back, data, sizes[i]);
    }
    assert_int_equal(x->near.flow_count, 1);
    assert_int_equal(x->far.flow_count, 1);
    assert_int_equal(counted(en, "callers"), 1);
    entry_close(en);
    loop_until(&x->w, x->near.flow_count == 0 && x->far.flow_count == 0);
    world_free(x);
}

static json_int_t dropped(const struct entry *en) { return counted(en, "packets_dropped"); }

// Replies go to their sender, callers beyond the bound are dropped and counted, and idle flows make room again.
static void test_flow_bound(void **state)
{
    struct world *x = world_new();
    struct entry *en = enter(x, true, 2);
    int fds[3];
    char back[16];
    for (int i = 0; i < 3; i++) {
        char text[2] = {(char)('a' + i), 0};
        call(x, entry_addr(en, 0), SOCK_DGRAM);
        fds[i] = x->fd;
        assert_int_equal(send(fds[i], text, 1, 0), 1);
        if (i < 2) {
            loop_until(&x->w, take_dgram(fds[i], back, sizeof(back)) == 1);
            assert_int_equal(back[0], text[0]);
        }
    }
    x->fd = -1;
    loop_until(&x->w, dropped(en) == 1);
    assert_int_equal(x->near.stats.dgrams_dropped, 1);
    assert_int_equal(x->near.flow_count, 2);
    x->near.udp_idle_ms = 100;
    list_each(&x->near.flows, it) list_entry(it, struct flow, node)->idle_ms = 100;
    timer_stop(&x->w, &x->near.sweep);
    x->near.sweep.run(&x->near.sweep);
    loop_until(&x->w, x->near.flow_count == 0 && x->far.flow_count == 0);
    assert_int_equal(x->near.stats.flows_idle, 2);
    assert_int_equal(send(fds[2], "c", 1, 0), 1);
    loop_until(&x->w, take_dgram(fds[2], back, sizeof(back)) == 1);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    world_free(x);
}

// Beyond the bounds of the process and of the session a packet costs its drop and no frame.
static void test_flow_room(void **state)
{
    struct world *x = world_new();
    struct session *s = &x->duo.agent.s;
    struct entry *en = enter(x, true, 0);
    char back[16];
    call(x, entry_addr(en, 0), SOCK_DGRAM);
    x->near.flow_count += FORWARD_FLOWS_MAX;
    assert_int_equal(send(x->fd, "x", 1, 0), 1);
    loop_until(&x->w, dropped(en) == 1);
    assert_int_equal(s->stats.opened, 0);
    assert_int_equal(x->near.stats.flows_limited, 1);
    x->near.flow_count -= FORWARD_FLOWS_MAX;
    s->stream_count += ENTRY_FLOWS_MAX;
    assert_int_equal(send(x->fd, "x", 1, 0), 1);
    loop_until(&x->w, dropped(en) == 2);
    assert_int_equal(s->stats.opened, 0);
    s->stream_count -= 1;
    assert_int_equal(send(x->fd, "x", 1, 0), 1);
    loop_until(&x->w, take_dgram(x->fd, back, sizeof(back)) == 1);
    assert_int_equal(s->stats.opened, 1);
    s->stream_count -= ENTRY_FLOWS_MAX - 1;
    world_free(x);
}

static void enter_odd(struct world *x, bool udp)
{
    struct addr at;
    struct err e = ERR_INIT;
    addr_parse_ip(&at, "127.0.0.1", 0);
    struct entry *en = entry_open(&x->near, &(struct entry_options){.at = &at, .count = 1, .udp = udp, .kind = "local",
                                                                    .dest = "a\xff\xc2\x9b\"b", .on_caller = on_caller,
                                                                    .owner = x}, &e);
    assert_non_null(en);
    call(x, entry_addr(en, 0), udp ? SOCK_DGRAM : SOCK_STREAM);
    assert_true(!udp || send(x->fd, "x", 1, 0) == 1);
    loop_until(&x->w, udp ? x->near.flow_count == 1 : x->near.conduit_count == 1);
}

static void expect_row(json_t *rows, const char *to)
{
    assert_int_equal(json_array_size(rows), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(rows, 0), "to")), to);
    json_decref(rows);
}

// Names are foreign bytes: whatever they are, they hide no row and steer no terminal.
static void test_odd_names(void **state)
{
    struct world *x = world_new();
    enter_odd(x, false);
    int first = x->fd;
    enter_odd(x, true);
    loop_until(&x->w, x->near.flow_count == 1 && x->near.conduit_count == 1);
    expect_row(forward_flows_json(&x->near), "a\\xff\\xc2\\x9b\"b");
    expect_row(forward_streams_json(&x->near), "a\\xff\\xc2\\x9b\"b");
    close(first);
    world_free(x);
}

// A name server that never answers.
static int silent_server(struct world *x)
{
    struct addr at;
    char server[ADDR_TEXT_MAX];
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(in);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    assert_true(addr_from(&at, (struct sockaddr *)&in, len));
    assert_true(resolver_servers(x->r, addr_text(&at, server)));
    snprintf(x->dest_host, sizeof(x->dest_host), "slow.example");
    return fd;
}

// What waits for names that nobody resolves is bounded for all flows together.
static void test_flow_held(void **state)
{
    static const char data[60000];
    struct world *x = world_new();
    int silent = silent_server(x), fds[40];
    struct entry *en = enter(x, true, 0);
    for (unsigned i = 0; i < 80; i++) {
        if (i % 2 == 0) {
            call(x, entry_addr(en, 0), SOCK_DGRAM);
            fds[i / 2] = x->fd;
        }
        assert_int_equal(send(x->fd, data, sizeof(data), 0), sizeof(data));
        loop_until(&x->w, x->far.stats.dgrams_in == i + 1);
    }
    assert_true(x->far.held_bytes <= FORWARD_HELD_MAX);
    assert_true(x->far.held_bytes > FORWARD_HELD_MAX - 2 * sizeof(data));
    assert_int_equal(x->far.stats.dgrams_dropped, 80 - x->far.held_bytes / sizeof(data));
    entry_close(en);
    loop_until(&x->w, x->far.flow_count == 0);
    assert_int_equal(x->far.held_bytes, 0);
    assert_int_equal(x->far.stats.dgrams_dropped, 80);
    for (int i = 0; i < 40; i++)
        close(fds[i]);
    x->fd = -1;
    close(silent);
    world_free(x);
}

// What a socket does not take is counted with the forward, and told.
static void test_unsent(void **state)
{
    struct world *x = world_new();
    static const uint8_t none_is_so_long[DGRAM_MAX + 1];
    udp_sock_send(&x->udp_target, &x->udp_target.local, none_is_so_long, sizeof(none_is_so_long));
    json_t *stats = forward_stats_json(&x->far);
    assert_int_equal(json_integer_value(json_object_get(stats, "packets_unsent")), 1);
    assert_int_equal(json_integer_value(json_object_get(stats, "packets_dropped")), 0);
    json_decref(stats);
    world_free(x);
}

static void test_flow_denied(void **state)
{
    struct world *x = world_new();
    x->deny = true;
    struct entry *en = enter(x, true, 0);
    call(x, entry_addr(en, 0), SOCK_DGRAM);
    assert_int_equal(send(x->fd, "x", 1, 0), 1);
    loop_until(&x->w, x->near.stats.flows_failed == 1 && x->near.flow_count == 0 && x->far.flow_count == 0);
    assert_int_equal(x->udp_seen, 0);
    world_free(x);
}

// Nobody learns from us whether there is such a name.
static void test_a_denied_name_is_not_resolved(void **state)
{
    struct world *x = world_new();
    char question[16];
    int silent = silent_server(x);
    x->deny = true;
    expect_reset(x);
    close(x->fd);
    struct entry *en = enter(x, true, 0);
    call(x, entry_addr(en, 0), SOCK_DGRAM);
    assert_int_equal(send(x->fd, "x", 1, 0), 1);
    loop_until(&x->w, x->near.stats.flows_failed == 1 && x->near.flow_count == 0 && x->far.flow_count == 0);
    assert_int_equal(recv(silent, question, sizeof(question), MSG_DONTWAIT), -1);
    close(silent);
    world_free(x);
}

// --- SOCKS

static void socks_connect(void *owner, const struct conduit_ask *ask, const struct socks_dest *dest)
{
    struct world *x = owner;
    struct frame_open open = {.kind = OPEN_TCP, .port = dest->port};
    snprintf(open.host, sizeof(open.host), "%s", dest->host);
    conduit_to_stream(&x->near, ask, &x->duo.agent.s, &open);
}

static struct stream *socks_flow(void *owner, const struct socks_dest *dest, const struct addr *origin)
{
    struct world *x = owner;
    struct frame_open open = {.kind = OPEN_UDP, .port = dest->port, .origin = *origin};
    snprintf(open.host, sizeof(open.host), "%s", dest->host);
    return session_open(&x->duo.agent.s, &open);
}

// A caller of the server by a socketpair, as if from 127.0.0.1.
static int socks_call(struct world *x, const char *login)
{
    int sv[2];
    struct addr local;
    addr_parse_ip(&local, "127.0.0.1", 0);
    if (!x->socks)
        x->socks = socks_server_new(&x->near, &(struct socks_way){.connect = socks_connect, .flow = socks_flow, .owner = x}, login);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv), 0);
    socks_server_accept(x->socks, tcp_take(&x->w, sv[0], 0), &local, &local);
    return x->fd = sv[1];
}

static void say(int fd, const void *data, size_t len) { assert_int_equal(send(fd, data, len, 0), (ssize_t)len); }

static size_t hear(struct world *x, size_t want)
{
    got_len = 0;
    loop_until(&x->w, ({
                   ssize_t n = recv(x->fd, got + got_len, want - got_len, 0);
                   if (n > 0)
                       got_len += (size_t)n;
                   got_len == want || n == 0;
               }));
    return got_len;
}

static size_t request(struct world *x, uint8_t *out, uint8_t command)
{
    size_t n = strlen(x->dest_host);
    memcpy(out, (uint8_t[]){5, command, 0, 3, (uint8_t)n}, 5);
    memcpy(out + 5, x->dest_host, n);
    out[5 + n] = (uint8_t)(x->dest_port >> 8);
    out[6 + n] = (uint8_t)x->dest_port;
    return 7 + n;
}

static void test_socks_connect(void **state)
{
    struct world *x = world_new();
    uint8_t m[100];
    socks_call(x, NULL);
    say(x->fd, "\5\1\0", 3);
    assert_int_equal(hear(x, 2), 2);
    assert_memory_equal(got, "\5\0", 2);
    size_t n = request(x, m, 1);
    memcpy(m + n, "early", 5); // data behind the request, in one segment
    say(x->fd, m, n + 5);
    assert_int_equal(hear(x, 10), 10);
    assert_memory_equal(got, "\5\0\0\1\177\0\0\1", 8);
    say(x->fd, " late", 5);
    shutdown(x->fd, SHUT_WR);
    got_len = 0;
    loop_until(&x->w, take_until_end(x->fd));
    assert_int_equal(got_len, 10);
    assert_memory_equal(got, "early late", 10);
    world_free(x);
}

static void test_socks_byte_by_byte_login(void **state)
{
    struct world *x = world_new();
    uint8_t m[100];
    socks_call(x, "me:secret");
    for (int i = 0; i < 4; i++) {
        say(x->fd, "\5\2\0\2" + i, 1);
        loop_until(&x->w, list_empty(&x->w.wakes));
    }
    hear(x, 2);
    assert_memory_equal(got, "\5\2", 2);
    say(x->fd, "\1\2me\6secret", 11);
    hear(x, 2);
    assert_memory_equal(got, "\1\0", 2);
    x->deny = true;
    say(x->fd, m, request(x, m, 1));
    hear(x, 10);
    assert_int_equal(got[1], 2); // not allowed by the rules
    assert_int_equal(hear(x, 1), 0); // and closed, after the reply
    loop_until(&x->w, x->near.conduit_count == 0);
    close(x->fd);

    socks_call(x, NULL);
    say(x->fd, "\5\1\2\1\2me\6secreT", 14);
    assert_int_equal(hear(x, 5), 4);
    assert_memory_equal(got, "\5\2\1\1", 4);
    close(x->fd);

    socks_call(x, NULL);
    say(x->fd, "\5\1\0", 3); // without a login: no method
    assert_int_equal(hear(x, 3), 2);
    assert_memory_equal(got, "\5\377", 2);
    world_free(x);
}

static void test_socks_refused(void **state)
{
    struct world *x = world_new();
    uint8_t m[100];
    listener_close(x->target);
    x->target = NULL;
    socks_call(x, NULL);
    say(x->fd, "\5\1\0", 3);
    hear(x, 2);
    say(x->fd, m, request(x, m, 1));
    hear(x, 10);
    assert_int_equal(got[1], 5);
    assert_int_equal(hear(x, 1), 0);
    close(x->fd);
    socks_call(x, NULL);
    say(x->fd, "\5\1\0\5\2\0\1\177\0\0\1\0\1", 13); // BIND
    assert_int_equal(hear(x, 13), 12);
    assert_int_equal(got[3], 7);
    world_free(x);
}

static void test_socks_udp(void **state)
{
    struct world *x = world_new();
    uint8_t m[100];
    struct addr relay;
    char back[100];
    socks_call(x, NULL);
    say(x->fd, "\5\1\0\5\3\0\1\0\0\0\0\0\0", 13);
    hear(x, 12);
    assert_memory_equal(got, "\5\0\5\0\0\1\177\0\0\1", 10);
    addr_parse_ip(&relay, "127.0.0.1", (uint16_t)((uint8_t)got[10] << 8 | (uint8_t)got[11]));
    int tcp = x->fd;
    call(x, &relay, SOCK_DGRAM);
    size_t n = request(x, m, 0);
    m[0] = m[1] = m[2] = 0;
    memcpy(m + n, "hello", 5);
    say(x->fd, m, n + 5);
    ssize_t len = -1;
    loop_until(&x->w, (len = take_dgram(x->fd, back, sizeof(back))) >= 0);
    assert_int_equal(len, 15);
    assert_memory_equal(back, "\0\0\0\1\177\0\0\1", 8);
    assert_memory_equal(back + 10, "hello", 5);
    m[2] = 1; // a fragment is dropped
    say(x->fd, m, n + 5);
    m[2] = 0;
    struct addr other = relay;
    int udp = x->fd;
    call(x, &other, SOCK_DGRAM); // somebody else is not heard
    say(x->fd, m, n + 5);
    close(x->fd);
    x->fd = udp;
    say(x->fd, m, n + 5);
    loop_until(&x->w, take_dgram(x->fd, back, sizeof(back)) == 15);
    assert_int_equal(x->udp_seen, 2);
    assert_int_equal(x->near.stats.dgrams_dropped, 2); // the fragment and the stranger's
    close(tcp); // the association ends with its connection
    loop_until(&x->w, x->near.flow_count == 0 && x->far.flow_count == 0);
    world_free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_half_close),     cmocka_unit_test(test_reset),
        cmocka_unit_test(test_refused),        cmocka_unit_test(test_denied),
        cmocka_unit_test(test_turned_away),    cmocka_unit_test(test_session_ends),
        cmocka_unit_test(test_unix_target),    cmocka_unit_test(test_flow_sizes),
        cmocka_unit_test(test_flow_bound),     cmocka_unit_test(test_flow_denied),
        cmocka_unit_test(test_flow_held),      cmocka_unit_test(test_flow_room),
        cmocka_unit_test(test_odd_names),      cmocka_unit_test(test_a_denied_name_is_not_resolved),
        cmocka_unit_test(test_unix_target_denied),
        cmocka_unit_test(test_unsent),
        cmocka_unit_test(test_first_bytes_in_the_clear_are_not_sealed_later),
        cmocka_unit_test(test_socks_connect),  cmocka_unit_test(test_socks_byte_by_byte_login),
        cmocka_unit_test(test_socks_refused),  cmocka_unit_test(test_socks_udp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
