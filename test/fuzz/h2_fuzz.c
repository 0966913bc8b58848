// SPDX-License-Identifier: Apache-2.0
// A hub of HTTP/2 whose peer says anything. Byte 0: role, and how requests are answered; byte 1: piece size; the rest are frames, behind a
// preface for a server. Requests that come must be whole HTTP/1.1 heads, memory stays within bounds, and all of it comes back.
#include "fuzz.h"
#include "link/h2.h"
#include "link/mem.h"
#include "wire/http.h"

#define OWNED 128

struct world {
    struct worker w;
    struct list hubs;
    struct link *owned[OWNED];
    unsigned count, how;
    bool over;
};

static void send_text(struct link *l, const char *text) { link_send(l, buf_copy(&l->w->pool, text, strlen(text))); }

static void check_request(const struct buf *b)
{
    struct http_head h;
    size_t used;
    const char *why = "";
    const char *data = (const char *)buf_data(b);
    if (memmem(data, b->len, "\r\n\r\n", 4))
        CHECK(http_parse(&h, true, data, b->len, &used, &why) != HTTP_MORE);
}

static bool on_stream(struct h2 *h, struct link *l)
{
    struct world *x = h2_owner(h);
    struct buf *b;
    if (x->count == OWNED || x->how % 5 == 4)
        return false;
    x->owned[x->count++] = l;
    if (link_recv(l, &b) == LINK_OK) {
        check_request(b);
        buf_put(b);
    }
    switch (x->how % 5) {
    case 0:
        send_text(l, "HTTP/1.1 404 No\r\nContent-Length: 3\r\n\r\nno\n");
        break;
    case 1:
        send_text(l, "HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
        break;
    case 2:
        send_text(l, "HTTP/1.1 200 Yes\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n");
        break;
    default: // later, or never
        break;
    }
    return true;
}

static void on_over(struct h2 *h, const struct err *err) { ((struct world *)h2_owner(h))->over = true; }

static const struct h2_ops ops = {.on_stream = on_stream, .on_over = on_over};

static void read_all(struct world *x)
{
    for (unsigned i = 0; i < x->count; i++) {
        struct buf *b;
        while (link_recv(x->owned[i], &b) == LINK_OK) {
            if (link_room(x->owned[i]) > 0)
                link_send(x->owned[i], b);
            else
                buf_put(b);
        }
    }
}

static void turn(struct world *x)
{
    for (int i = 0; i < 4; i++)
        worker_turn(&x->w);
}

static void begin(struct world *x, struct link *mine, struct link *peer)
{
    static const char upgrade[] = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                  "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    const char *const requests[] = {"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\nearly", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", upgrade};
    if (x->how & 0x80) {
        struct h2 *h = h2_client_over(mine, &(struct h2_options){.who = "server", .scheme = "https"}, &x->hubs);
        for (int i = 0; i < 3; i++)
            send_text(x->owned[x->count++] = h2_stream_over(h), requests[i]);
    } else {
        h2_server_over(mine, &(struct h2_options){.who = "client", .ops = &ops, .owner = x}, &x->hubs, NULL);
        send_text(peer, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    }
    turn(x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world x = {0};
    struct link *mine, *peer;
    if (size < 2)
        return 0;
    x.how = data[0];
    size_t piece = data[1] ? data[1] * 7u : 16000;
    worker_init_bare(&x.w);
    list_init(&x.hubs);
    mem_pair(&x.w, &mine, &peer, NULL, NULL);
    begin(&x, mine, peer);
    for (size_t at = 2, n; at < size; at += n) {
        n = size - at < piece ? size - at : piece;
        link_send(peer, buf_copy(&x.w.pool, data + at, n));
        turn(&x);
        if (x.how & 0x40)
            read_all(&x);
        bufq_clear(mem_in_flight(mine)); // what it answers is not looked at
        CHECK(x.w.pool.out_bytes < 64u * 1024 * 1024);
    }
    for (unsigned i = 0; i < x.count; i++)
        link_close(x.owned[i]);
    h2_free_all(&x.hubs);
    link_close(peer);
    turn(&x);
    worker_fini(&x.w);
    return 0;
}
