// SPDX-License-Identifier: Apache-2.0
// An echo over the WebSocket link, for conformance suites:
//   ws_echo server ADDRESS PORT        prints "listening PORT", echoes until it is killed
//   ws_echo client ADDRESS PORT AGENT  asks a fuzzing server for its cases, runs them all, has the report written
// Messages are echoed piece by piece while they come; none is ever assembled. The suites send whole messages of 16 MiB
// before they read, so that an echo which asked for room first would wait for ever: this one lets its queue grow.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "link/head.h"
#include "link/tcp.h"
#include "link/ws.h"

struct echo {
    struct worker *w;
    struct link *top;
    struct wake wake;
    struct head_reader reader;
    struct grave grave;
    bool server, opened, ended;
    char text[32]; // client: the count that the suite tells
    size_t text_len;
    void (*on_over)(struct echo *e);
    void *ctx;
};

static void bury(struct grave *g) { free(container_of(g, struct echo, grave)); }

static void over(struct echo *e)
{
    if (err_is(&e->top->err))
        fprintf(stderr, "ws_echo: %s\n", err_text(&e->top->err));
    wake_cancel(&e->wake);
    head_fini(&e->reader);
    link_close(e->top);
    if (e->on_over)
        e->on_over(e);
    worker_bury(e->w, &e->grave, bury);
}

static enum link_status upgrade(struct echo *e)
{
    struct http_head h;
    const char *why;
    enum link_status s = link_open(e->top);
    if (s == LINK_OK)
        s = head_read(&e->reader, e->top, true, &h, &why);
    if (s == LINK_AGAIN)
        return s;
    if (s != LINK_OK || !ws_is_upgrade(&h)) {
        link_fail(e->top, ERR_FAILED, WHY_PROTOCOL, "no WebSocket request");
        return LINK_FAILED;
    }
    size_t used = e->reader.used, len = e->reader.text->len;
    struct buf *rest = used < len ? buf_copy(&e->w->pool, buf_data(e->reader.text) + used, len - used) : NULL;
    e->top = ws_server_over(e->top, &h, NULL, rest);
    link_own(e->top, &e->wake);
    head_fini(&e->reader);
    e->server = false;
    return LINK_OK;
}

static bool open_it(struct echo *e)
{
    enum link_status s = e->server ? upgrade(e) : LINK_OK;
    if (s == LINK_OK)
        s = link_open(e->top);
    if (s == LINK_FAILED)
        over(e);
    if (s != LINK_OK)
        return false;
    ws_message_mode(e->top);
    e->opened = true;
    return true;
}

static void echo_piece(struct echo *e, struct buf *b)
{
    struct ws_frame_info info = ws_last_info(e->top);
    if (e->text_len + b->len < sizeof(e->text)) {
        memcpy(e->text + e->text_len, buf_data(b), b->len);
        e->text_len += b->len;
    }
    ws_send_frame(e->top, info.first ? info.opcode : 0, info.last, b);
}

static void on_wake(struct wake *wake)
{
    struct echo *e = container_of(wake, struct echo, wake);
    struct buf *b;
    if (!e->opened && !open_it(e))
        return;
    while (!e->ended) {
        switch (link_recv(e->top, &b)) {
        case LINK_OK:
            echo_piece(e, b);
            break;
        case LINK_AGAIN:
            return;
        case LINK_END:
            e->ended = true;
            link_shut(e->top, SHUT_END);
            break;
        case LINK_FAILED:
            over(e);
            return;
        }
    }
    if (e->ended && link_room(e->top) > 0)
        over(e);
}

static struct echo *echo_new(struct worker *w, struct link *top)
{
    struct echo *e = calloc(1, sizeof(*e));
    if (!e)
        abort();
    e->w = w;
    e->top = top;
    wake_init(&e->wake, on_wake);
    link_own(top, &e->wake);
    wake_post(w, &e->wake);
    return e;
}

// --- server

struct server {
    struct worker *w;
    int fd;
};

static void on_connection(void *ctx, int events)
{
    struct server *s = ctx;
    int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0)
        echo_new(s->w, tcp_take(s->w, fd, 0))->server = true;
}

static int serve(struct worker *w, struct addr *at)
{
    struct server s = {.w = w};
    int one = 1;
    socklen_t len = at->len;
    s.fd = socket(at->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(s.fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(s.fd, &at->sa, at->len) < 0 || listen(s.fd, 128) < 0) {
        fprintf(stderr, "ws_echo: listen: %s\n", strerror(errno));
        return 1;
    }
    getsockname(s.fd, &at->sa, &len);
    printf("listening %u\n", addr_port(at));
    fflush(stdout);
    struct watch *watch = watch_new(w, s.fd, on_connection, &s);
    watch_want(watch, UV_READABLE);
    worker_run(w);
    return 0;
}

// --- client

struct client {
    struct worker *w;
    struct addr to;
    const char *agent;
    long next, count; // next -1: ask for the count
};

static void run_next(struct client *c);

static void on_case_over(struct echo *e)
{
    struct client *c = e->ctx;
    if (c->next < 0) {
        e->text[e->text_len] = 0;
        c->count = strtol(e->text, NULL, 10);
        c->next = 0;
    }
    c->next++;
    run_next(c);
}

static void run_next(struct client *c)
{
    char path[256], host[ADDR_TEXT_MAX];
    if (c->next > c->count + 1) {
        worker_stop(c->w);
        return;
    }
    if (c->next < 0)
        snprintf(path, sizeof(path), "/getCaseCount");
    else if (c->next <= c->count)
        snprintf(path, sizeof(path), "/runCase?case=%ld&agent=%s", c->next, c->agent);
    else
        snprintf(path, sizeof(path), "/updateReports?agent=%s", c->agent);
    struct ws_client_options o = {.host = addr_text(&c->to, host), .path = path};
    struct echo *e = echo_new(c->w, ws_client_over(tcp_dial(c->w, &c->to, 0), &o));
    e->on_over = on_case_over;
    e->ctx = c;
}

static int ask(struct worker *w, const struct addr *to, const char *agent)
{
    struct client c = {.w = w, .to = *to, .agent = agent, .next = -1};
    run_next(&c);
    worker_run(w);
    printf("%ld cases\n", c.count);
    return c.count > 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct worker w;
    struct addr a;
    if (argc < 4 || !addr_parse_ip(&a, argv[2], (uint16_t)atoi(argv[3])) || worker_init(&w, 0, 1) < 0) {
        fprintf(stderr, "usage: ws_echo server ADDRESS PORT | ws_echo client ADDRESS PORT AGENT\n");
        return 2;
    }
    if (strcmp(argv[1], "server") == 0)
        return serve(&w, &a);
    int status = ask(&w, &a, argc > 4 ? argv[4] : "culvert");
    worker_fini(&w);
    return status;
}
