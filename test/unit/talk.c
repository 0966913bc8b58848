// SPDX-License-Identifier: Apache-2.0
#include "talk.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "certs.h"
#include "link/connect.h"
#include "link/h2.h"
#include "link/socks.h"
#include "link/tls.h"
#include "link/ws.h"

static struct carrier_tls tls;
static struct logins logins;

static void need(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

int talk_setup(void **state)
{
    (void)state;
    carrier_tls_init(&tls);
    logins_init(&logins);
    return 0;
}

int talk_teardown(void **state)
{
    (void)state;
    logins_fini(&logins);
    carrier_tls_fini(&tls);
    return 0;
}

// A prime period, so that no size of buffer or record hides a shift.
uint8_t talk_byte(size_t at) { return (uint8_t)(at % 251 ^ at / 251); }

static void free_auths(struct talker *t)
{
    while (t->auth_count)
        auth_free(t->auths[--t->auth_count]);
}

static void finish(struct talker *t, enum talk_result result)
{
    t->result = result;
    if (result == TALK_FAILED && t->top)
        err_copy(&t->err, &t->top->err);
    if (t->top && t->top->facts)
        t->facts = *t->top->facts;
    head_fini(&t->reader);
    free_auths(t);
    link_close(t->top);
    t->top = NULL;
    if (t->other->result != TALK_RUNNING)
        *t->done = true;
}

static struct link *put_tls(struct talker *t, bool inner, bool h2, struct buf *rest)
{
    struct tls_options o = carrier_tls_options(&tls, t->server, inner);
    o.h2 = h2 && !t->server;
    return tls_over(t->top, &o, rest);
}

static struct link *put_client(struct talker *t, char layer, char next)
{
    struct connect_options c = {.proxy = "proxy:3128", .host = "relay.example", .port = 443};
    struct ws_client_options ws = {.host = "relay.example", .path = "/", .protocol = WS_SUBPROTOCOL};
    switch (layer) {
    case 'C':
        need(t->auth_count < 2, "too many proxies");
        c.auth = t->auths[t->auth_count++] = auth_new(
            t->w, &(struct auth_options){.host = "proxy", .login = logins_get(&logins, "proxy:3128", "u", "p")});
        return connect_over(t->top, &c);
    case 'S':
        return socks_over(t->top, &(struct socks_options){.proxy = "socks:1080", .host = "relay.example", .port = 443,
                                                          .login = logins_get(&logins, "socks:1080", "u", "p")});
    case 'W':
        return ws_client_over(t->top, &ws);
    case 'H':
        return h2_stream_over(h2_client_over(t->top, &(struct h2_options){.who = "relay.example:443", .scheme = "https"}, &t->hubs));
    default:
        return put_tls(t, layer == 'I', next == 'H', NULL);
    }
}

static struct buf *one_rest(struct talker *t)
{
    struct bufq q;
    bufq_init(&q);
    head_rest(&t->reader, &q);
    struct buf *b = bufq_pop(&q);
    need(bufq_empty(&q), "more than one buffer behind a head");
    return b;
}

// The messages of a SOCKS5 client and what is answered. Reads no further than each: what comes too far belongs to the next layer.
static enum link_status serve_socks(struct talker *t)
{
    static const struct {
        const char *hear;
        size_t hear_len;
        const char *say;
        size_t say_len;
    } steps[] = {{"\5\2\0\2", 4, "\5\2", 2},
                 {"\1\1u\1p", 5, "\1\0", 2},
                 {"\5\1\0\3\15relay.example\1\273", 20, "\5\0\0\3\2ab\0\7", 9}};
    enum link_status s = link_open(t->top);
    if (s != LINK_OK)
        return s;
    for (; t->socks_step < 3; t->socks_step++, t->socks_got = 0) {
        while (t->socks_got < steps[t->socks_step].hear_len) {
            struct buf *b;
            if ((s = link_recv(t->top, &b)) != LINK_OK)
                return s == LINK_END ? LINK_FAILED : s;
            need(b->len <= steps[t->socks_step].hear_len - t->socks_got, "more than was asked for");
            need(memcmp(buf_data(b), steps[t->socks_step].hear + t->socks_got, b->len) == 0, "SOCKS");
            t->socks_got += b->len;
            buf_put(b);
        }
        link_send(t->top, buf_copy(&t->w->pool, steps[t->socks_step].say, steps[t->socks_step].say_len));
    }
    t->socks_step = 0;
    return LINK_OK;
}

static bool on_stream(struct h2 *h, struct link *l)
{
    struct talker *t = h2_owner(h);
    if (!t->in_hub || t->top)
        return false;
    t->top = l;
    link_own(l, &t->wake);
    wake_post(t->w, &t->wake);
    return true;
}

static void on_over(struct h2 *h, const struct err *err)
{
    struct talker *t = h2_owner(h);
    if (t->in_hub && !t->top && t->result == TALK_RUNNING)
        finish(t, TALK_FAILED);
}

static const struct h2_ops h2_ops = {.on_stream = on_stream, .on_over = on_over};

static enum link_status serve_h2(struct talker *t)
{
    if (!t->in_hub) {
        enum link_status s = link_open(t->top);
        if (s != LINK_OK)
            return s;
        h2_server_over(t->top, &(struct h2_options){.who = "client", .ops = &h2_ops, .owner = t}, &t->hubs, one_rest(t));
        t->top = NULL;
        t->in_hub = true;
    }
    if (!t->top)
        return LINK_AGAIN;
    t->in_hub = false;
    return LINK_OK;
}

// Puts the server's next layer over, when what it needs has been read.
static enum link_status put_server(struct talker *t)
{
    char layer = *t->layers;
    if (layer == 'T' || layer == 'I') {
        t->top = put_tls(t, layer == 'I', false, one_rest(t));
    } else if (layer == 'H') {
        enum link_status s = serve_h2(t);
        if (s != LINK_OK)
            return s;
    } else if (layer == 'S') {
        enum link_status s = serve_socks(t);
        if (s != LINK_OK)
            return s;
    } else {
        struct http_head h;
        const char *why;
        enum link_status s = link_open(t->top);
        if (s != LINK_OK || (s = head_read(&t->reader, t->top, true, &h, &why)) != LINK_OK)
            return s == LINK_END ? LINK_FAILED : s;
        if (layer == 'C') {
            static const char yes[] = "HTTP/1.0 200 yes\r\nContent-Length: 5\r\n\r\n"; // the length means nothing
            static const char no[] = "HTTP/1.1 407 who?\r\nContent-Length: 11\r\nProxy-Authenticate: Basic realm=\"a, b\"\r\n\r\n"
                                     "who are you";
            const struct http_text *auth = http_get(&h, "Proxy-Authorization");
            need(http_text_is(h.method, "CONNECT") && http_text_is(h.target, "relay.example:443"), "CONNECT");
            need(!auth || http_text_is(*auth, "Basic dTpw"), "credentials");
            bool known = auth != NULL;
            head_done(&t->reader);
            link_send(t->top, buf_copy(&t->w->pool, known ? yes : no, known ? sizeof(yes) - 1 : sizeof(no) - 1));
            if (!known)
                return put_server(t);
        } else {
            struct buf *head = t->reader.text; // the parsed head points into it
            struct bufq q = {0};
            size_t used = t->reader.used;
            t->reader.text = NULL;
            head_rest(&t->reader, &q);
            need(bufq_empty(&q), "bytes before the answer");
            need(used == head->len, "bytes behind the request");
            need(ws_is_upgrade(&h), "upgrade");
            t->top = ws_server_over(t->top, &h, WS_SUBPROTOCOL, NULL);
            buf_put(head);
        }
    }
    link_own(t->top, &t->wake);
    t->layers++;
    return LINK_OK;
}

static enum link_status open_all(struct talker *t)
{
    while (t->server && *t->layers) {
        enum link_status s = put_server(t);
        if (s != LINK_OK)
            return s;
    }
    return t->top ? link_open(t->top) : LINK_AGAIN;
}

// The greeting of a carrier that is peeled: each side's last inner bytes.
static bool greet(struct talker *t)
{
    struct buf *b;
    if (!t->server && !t->greeted) {
        t->greeted = true;
        link_send(t->top, buf_copy(&t->w->pool, "HELLO", 5));
    }
    switch (link_recv(t->top, &b)) {
    case LINK_OK:
        need(b->len == (t->server ? 5 : 7) && memcmp(buf_data(b), t->server ? "HELLO" : "WELCOME", b->len) == 0, "greeting");
        buf_put(b);
        break;
    case LINK_AGAIN:
        return false;
    default:
        finish(t, TALK_FAILED);
        return false;
    }
    if (t->server)
        link_send(t->top, buf_copy(&t->w->pool, "WELCOME", 7));
    tls_peel_send(t->top);
    tls_peel_recv(t->top);
    t->peel = false;
    return true;
}

static bool read_all(struct talker *t)
{
    struct buf *b;
    while (!t->ended) {
        switch (link_recv(t->top, &b)) {
        case LINK_OK:
            need(b->len > 0, "an empty buffer");
            for (size_t i = 0; i < b->len; i++)
                need(buf_data(b)[i] == talk_byte(t->got + i), "a wrong byte");
            t->got += b->len;
            buf_put(b);
            break;
        case LINK_AGAIN:
            return true;
        case LINK_END:
            need(t->got == t->to_read, "an end before all was read");
            t->ended = true;
            break;
        case LINK_FAILED:
            need(err_is(&t->top->err), "a failure without an error");
            finish(t, TALK_FAILED);
            return false;
        }
    }
    return true;
}

static void send_all(struct talker *t)
{
    while (t->sent < t->to_send && link_room(t->top) > 0) {
        struct buf *b = buf_get(&t->w->pool);
        size_t n = t->to_send - t->sent, max = t->chunk ? t->chunk : buf_tailroom(b);
        n = n < max ? n : max;
        for (size_t i = 0; i < n; i++)
            buf_data(b)[i] = talk_byte(t->sent + i);
        b->len = (uint32_t)n;
        t->sent += n;
        link_send(t->top, b);
    }
    if (t->sent == t->to_send && !t->shut && (!t->no_shut || t->ended)) {
        t->shut = true;
        link_shut(t->top, SHUT_END);
    }
}

static void on_wake(struct wake *wake)
{
    struct talker *t = container_of(wake, struct talker, wake);
    if (t->result != TALK_RUNNING)
        return;
    if (!t->opened) {
        enum link_status s = open_all(t);
        if (s == LINK_FAILED)
            finish(t, TALK_FAILED);
        if (s != LINK_OK)
            return;
        t->opened = true;
    }
    if (t->peel && !greet(t))
        return;
    if (!read_all(t))
        return;
    send_all(t);
    if (t->ended && t->shut && link_room(t->top) > 0)
        finish(t, err_is(&t->top->err) ? TALK_FAILED : TALK_OK);
}

static void start(struct talker *t, struct talker *other, struct talk *talk, struct worker *w, struct link *base)
{
    t->w = w;
    t->top = base;
    t->other = other;
    list_init(&t->hubs);
    t->done = &talk->done;
    wake_init(&t->wake, on_wake);
    wake_post(w, &t->wake);
}

void talk_start(struct talk *t, struct worker *w, struct link *client, struct link *server, const char *layers,
                size_t from_client, size_t from_server)
{
    *t = (struct talk){.client = {.to_send = from_client, .to_read = from_server},
                       .server = {.to_send = from_server, .to_read = from_client, .server = true, .layers = layers}};
    start(&t->client, &t->server, t, w, client);
    start(&t->server, &t->client, t, w, server);
    for (const char *p = layers; *p; p++)
        t->client.top = put_client(&t->client, *p, p[1]);
    link_own(t->client.top, &t->client.wake);
    link_own(t->server.top, &t->server.wake);
}

static void end(struct talker *t)
{
    wake_cancel(&t->wake);
    head_fini(&t->reader);
    free_auths(t);
    link_close(t->top);
    t->top = NULL;
    h2_free_all(&t->hubs);
    err_fini(&t->err);
}

void talk_fini(struct talk *t)
{
    end(&t->client);
    end(&t->server);
}
