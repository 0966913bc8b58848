// SPDX-License-Identifier: Apache-2.0
// HTTP/2 hubs over memory links: what the children say and hear, that they do not hold up each other, and how they end.
// test/unit/stack_test.c tortures them like any other link.
#include "drive.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "link/h2_inside.h"
#include "link/mem.h"
#include "texts.h"

#define STREAMS 8

struct pair {
    struct worker w;
    struct list hubs, front;
    struct h2 *client, *server;
    struct link *got[STREAMS]; // what came to the server
    unsigned count;
    bool refuse, over;
    char why[256];
};

static bool on_stream(struct h2 *h, struct link *l)
{
    struct pair *p = h2_owner(h);
    if (p->refuse)
        return false;
    assert_true(p->count < STREAMS);
    p->got[p->count++] = l;
    return true;
}

static void on_over(struct h2 *h, const struct err *err)
{
    struct pair *p = h2_owner(h);
    p->over = true;
    p->server = NULL;
    snprintf(p->why, sizeof(p->why), "%s", err_text(err));
}

static const struct h2_ops ops = {.on_stream = on_stream, .on_over = on_over};

static void turn(struct pair *p)
{
    static const bool never;
    drive_settle(&p->w); // burials have no wake
    drive_until(&p->w, &never);
}

static void start(struct pair *p)
{
    struct link *a, *b;
    memset(p, 0, sizeof(*p));
    worker_init_bare(&p->w);
    list_init(&p->hubs);
    list_init(&p->front);
    mem_pair(&p->w, &a, &b, NULL, NULL);
    p->client = h2_client_over(a, &(struct h2_options){.who = "relay", .scheme = "https", .key = "k"}, &p->hubs);
    p->server = h2_server_over(b, &(struct h2_options){.who = "caller", .ops = &ops, .owner = p}, &p->front, NULL);
}

static void finish(struct pair *p)
{
    for (unsigned i = 0; i < p->count; i++)
        link_close(p->got[i]);
    h2_free_all(&p->hubs);
    h2_free_all(&p->front);
    drive_settle(&p->w);
    worker_fini(&p->w);
}

// What can be read now, as a string; the last answer of recv in *status.
static const char *hear(struct link *l, enum link_status *status)
{
    static char text[40000];
    size_t at = 0;
    struct buf *b;
    while ((*status = link_recv(l, &b)) == LINK_OK) {
        assert_true(at + b->len < sizeof(text));
        memcpy(text + at, buf_data(b), b->len);
        at += b->len;
        buf_put(b);
    }
    text[at] = 0;
    return text;
}

static void heard(struct link *l, const char *text, enum link_status status)
{
    enum link_status s;
    assert_string_equal(hear(l, &s), text);
    assert_int_equal(s, status);
}

static struct link *ask(struct pair *p, const char *request)
{
    struct link *l = h2_stream_over(p->client);
    text_send(l, request);
    turn(p);
    return l;
}

static void requests_and_answers(void **state)
{
    struct pair p;
    start(&p);
    struct link *l = ask(&p, "GET /a?b HTTP/1.1\r\nHost: x:1\r\nConnection: keep-alive, X-Gone\r\nX-Gone: 1\r\nX-Kept: 2\r\nCookie: a=b\r\n\r\n");
    assert_int_equal(p.count, 1);
    heard(p.got[0], "GET /a?b HTTP/1.1\r\nHost: x:1\r\nCookie: a=b\r\nx-kept: 2\r\n\r\n", LINK_AGAIN);
    text_send(p.got[0], "HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhel");
    text_send(p.got[0], "lo");
    turn(&p);
    heard(l, "HTTP/1.1 103 \r\nlink: x\r\n\r\nHTTP/1.1 200 \r\ncontent-length: 5\r\n\r\nhello", LINK_AGAIN);
    heard(p.got[0], "", LINK_END);
    // The same link takes another request, as a connection would; its body comes in chunks at both ends.
    text_send(l, "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n");
    turn(&p);
    assert_int_equal(p.count, 2);
    heard(p.got[1], "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n", LINK_AGAIN);
    text_send(p.got[1], "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n0\r\n\r\n");
    turn(&p);
    heard(l, "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n0\r\n\r\n", LINK_AGAIN);
    text_send(l, "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
    turn(&p);
    text_send(p.got[2], "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n");
    turn(&p);
    heard(l, "HTTP/1.1 200 \r\ncontent-length: 500\r\n\r\n", LINK_AGAIN);
    text_send(l, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    turn(&p);
    text_send(p.got[3], "HTTP/1.0 200 OK\r\n\r\nuntil the end");
    link_shut(p.got[3], SHUT_END);
    turn(&p);
    heard(l, "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\nd\r\nuntil the end\r\n0\r\n\r\n", LINK_AGAIN);
    link_close(l);
    finish(&p);
}

static void a_refused_stream_is_named(void **state)
{
    struct pair p;
    start(&p);
    p.refuse = true;
    struct link *l = ask(&p, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    heard(l, "", LINK_FAILED);
    assert_non_null(strstr(err_text(&l->err), "HTTP/2 with relay: the stream was refused (REFUSED_STREAM)"));
    assert_int_equal(l->err.kind, ERR_UNREACHED);
    link_close(l);
    finish(&p);
}

// Two tunnels; the server's ends are p->got[0] and [1].
static void tunnels(struct pair *p, struct link *l[2])
{
    for (int i = 0; i < 2; i++) {
        enum link_status s;
        l[i] = ask(p, "CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n");
        assert_string_equal(hear(p->got[i], &s), "CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n");
        text_send(p->got[i], "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"); // the length means nothing
        turn(p);
        hear(l[i], &s);
        assert_int_equal(s, LINK_AGAIN);
    }
}

// As much as there is room for.
static size_t fill(struct pair *p, struct link *l)
{
    size_t all = 0;
    while (link_room(l) > 0 && all < 32 * 1024 * 1024) {
        struct buf *b = buf_get(&p->w.pool);
        b->len = BUF_ROOM;
        memset(buf_data(b), 'x', b->len);
        all += b->len;
        link_send(l, b);
        if (link_room(l) == 0)
            turn(p);
    }
    return all;
}

static size_t drain(struct pair *p, struct link *l)
{
    size_t all = 0;
    enum link_status s;
    do {
        size_t before = all;
        struct buf *b;
        while ((s = link_recv(l, &b)) == LINK_OK) {
            all += b->len;
            buf_put(b);
        }
        turn(p);
        if (all == before)
            break;
    } while (true);
    assert_int_equal(s, LINK_AGAIN);
    return all;
}

static void a_stream_that_waits_holds_up_no_other(void **state)
{
    struct pair p;
    struct link *l[2];
    start(&p);
    tunnels(&p, l);
    for (int side = 0; side < 2; side++) {
        struct link **from = side ? p.got : l, **to = side ? l : p.got;
        size_t stuck = fill(&p, from[0]), passed = 0;
        assert_true(stuck >= H2_WINDOW && stuck <= H2_WINDOW + H2_OUT_MAX + BUF_SIZE);
        while (passed < 160 * 1024 * 1024) { // more than the connection's window
            size_t n = fill(&p, from[1]);
            assert_true(n > 0);
            assert_int_equal(drain(&p, to[1]), n);
            passed += n;
        }
        assert_int_equal(drain(&p, to[0]), stuck);
    }
    for (int i = 0; i < 2; i++)
        link_close(l[i]);
    finish(&p);
}

static void windows_grow_for_who_reads(void **state)
{
    struct pair p;
    struct link *l[2];
    size_t n = 0, most = 0;
    start(&p);
    tunnels(&p, l);
    for (int i = 0; i < 40; i++) {
        n = fill(&p, l[0]);
        most = n > most ? n : most;
        assert_int_equal(drain(&p, p.got[0]), n);
    }
    assert_true(most > H2_WINDOW_MAX && most <= H2_WINDOW_MAX + H2_OUT_MAX + BUF_SIZE);
    for (int i = 0; i < 2; i++)
        link_close(l[i]);
    finish(&p);
}

static void ends_and_aborts_are_a_streams_own(void **state)
{
    struct pair p;
    struct link *l[2];
    start(&p);
    tunnels(&p, l);
    text_send(l[0], "last words");
    link_shut(l[0], SHUT_END);
    turn(&p);
    heard(p.got[0], "last words", LINK_END);
    text_send(p.got[0], "answered");
    link_shut(p.got[0], SHUT_END);
    turn(&p);
    heard(l[0], "answered", LINK_END);
    assert_true(link_room(l[0]) > 0);
    link_shut(l[1], SHUT_ABORT);
    turn(&p);
    heard(p.got[1], "", LINK_FAILED);
    assert_int_equal(p.got[1]->err.why, WHY_ABORTED);
    link_close(l[1]);
    turn(&p);
    struct link *more = ask(&p, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(p.count, 3);
    assert_int_equal(p.client->children, 2);
    link_close(more);
    link_close(l[0]);
    finish(&p);
}

static void the_last_one_out_closes(void **state)
{
    struct pair p;
    struct link *l[2];
    start(&p);
    tunnels(&p, l);
    link_close(l[0]);
    turn(&p);
    assert_false(list_empty(&p.hubs));
    link_close(l[1]);
    turn(&p);
    for (unsigned i = 0; i < p.count; i++)
        link_close(p.got[i]);
    p.count = 0;
    turn(&p);
    assert_true(p.over && list_empty(&p.hubs) && list_empty(&p.front));
    assert_string_equal(p.why, "no error");
    finish(&p);
}

static void who_frees_the_hub_fails_its_children(void **state)
{
    struct pair p;
    struct link *l[2];
    start(&p);
    tunnels(&p, l);
    h2_free(p.client);
    for (int i = 0; i < 2; i++) {
        heard(l[i], "", LINK_FAILED);
        assert_true(link_room(l[i]) > 0);
        text_send(l[i], "nobody hears");
        link_shut(l[i], SHUT_END);
        link_close(l[i]);
    }
    turn(&p);
    heard(p.got[0], "", LINK_FAILED);
    finish(&p);
}

static void a_drain_lets_open_streams_live(void **state)
{
    struct pair p;
    struct link *l[2];
    start(&p);
    tunnels(&p, l);
    assert_ptr_equal(h2_find(&p.hubs, "k"), p.client);
    assert_null(h2_find(&p.hubs, "other"));
    h2_drain(p.server);
    turn(&p);
    assert_null(h2_find(&p.hubs, "k"));
    text_send(l[0], "still here");
    turn(&p);
    heard(p.got[0], "still here", LINK_AGAIN);
    struct link *late = ask(&p, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    heard(late, "", LINK_FAILED);
    link_close(late);
    for (int i = 0; i < 2; i++)
        link_close(l[i]);
    turn(&p);
    for (unsigned i = 0; i < p.count; i++)
        link_close(p.got[i]);
    p.count = 0;
    turn(&p);
    assert_true(p.over);
    finish(&p);
}

static void idle_and_silent_connections_end(void **state)
{
    struct pair p;
    start(&p);
    struct link *l = ask(&p, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    text_send(p.got[0], "HTTP/1.1 204 x\r\n\r\n");
    turn(&p);
    link_close(p.got[0]);
    p.count = 0;
    turn(&p);
    p.w.now_ms += H2_IDLE_MS;
    worker_run_timers(&p.w);
    turn(&p);
    assert_true(p.over);
    link_close(l);
    finish(&p);

    struct link *a, *b; // a server that says nothing
    memset(&p, 0, sizeof(p));
    worker_init_bare(&p.w);
    list_init(&p.hubs);
    mem_pair(&p.w, &a, &b, NULL, NULL);
    p.client = h2_client_over(a, &(struct h2_options){.who = "relay", .scheme = "https"}, &p.hubs);
    l = ask(&p, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n");
    heard(l, "", LINK_AGAIN);
    p.w.now_ms += H2_SETTLE_MS;
    worker_run_timers(&p.w);
    turn(&p);
    heard(l, "", LINK_FAILED);
    assert_non_null(strstr(err_text(&l->err), "no SETTINGS in time"));
    link_close(l);
    link_close(b);
    h2_free_all(&p.hubs);
    drive_settle(&p.w);
    worker_fini(&p.w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_and_answers),
        cmocka_unit_test(a_refused_stream_is_named),
        cmocka_unit_test(a_stream_that_waits_holds_up_no_other),
        cmocka_unit_test(windows_grow_for_who_reads),
        cmocka_unit_test(ends_and_aborts_are_a_streams_own),
        cmocka_unit_test(the_last_one_out_closes),
        cmocka_unit_test(who_frees_the_hub_fails_its_children),
        cmocka_unit_test(a_drain_lets_open_streams_live),
        cmocka_unit_test(idle_and_silent_connections_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
