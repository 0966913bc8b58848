// SPDX-License-Identifier: Apache-2.0
// The front.
#include "relay/front.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "core/log.h"
#include "link/tls.h"
#include "link/ws.h"

#define HEAD_ROOM (HTTP_HEAD_MAX + BUF_SIZE)

static void bury(struct grave *g)
{
    struct front_caller *k = container_of(g, struct front_caller, grave);
    free(k->head);
    free(k);
}

static void forget(struct front_caller *k)
{
    struct front *f = k->f;
    timer_stop(f->w, &k->deadline);
    wake_cancel(&k->wake);
    list_del(&k->node);
    worker_bury(f->w, &k->grave, bury);
    if (f->count-- == FRONT_CALLERS_MAX)
        f->on_full(f, false);
}

static void end(struct front_caller *k)
{
    if (k->f->on_gone)
        k->f->on_gone(k);
    link_close(k->top);
    if (k->conn)
        conn_free(k->conn);
    k->top = NULL;
    k->conn = NULL;
    forget(k);
}

static void end_saying(struct front_caller *k, const char *what, const struct err *e)
{
    char peer[ADDR_TEXT_MAX];
    log_event(LOG_DEBUG, "caller gone", LS("peer", addr_text(&k->peer, peer)), LS("while", what),
              LS("reason", err_text(e)));
    end(k);
}

struct conn *front_take(struct front_caller *k)
{
    struct conn *c = k->conn;
    k->conn = NULL;
    forget(k);
    return c;
}

// An ordinary answer ------------------------------------------------------------------------------------------

static struct buf *make_answer(struct front_caller *k, int status, const char *reason, bool body)
{
    char text[512], page[160], date[40];
    time_t now = time(NULL);
    struct tm tm;
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
    int size =
        snprintf(page, sizeof page, "<html><head><title>%d %s</title></head><body><h1>%d %s</h1></body></html>\r\n",
                 status, reason, status, reason);
    int len = snprintf(text, sizeof text,
                       "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: text/html\r\nContent-Length: %d\r\n"
                       "Connection: close\r\n\r\n%s",
                       status, reason, date, size, body ? page : "");
    return buf_copy(&k->f->w->pool, text, (size_t)len);
}

static void answer(struct front_caller *k, int status, const char *reason, bool body)
{
    k->stage = FRONT_ANSWERED;
    link_send(k->top, make_answer(k, status, reason, body));
    link_shut(k->top, SHUT_END);
    timer_set(k->f->w, &k->deadline, FRONT_ANSWER_MS);
}

static void drop_rest(struct front_caller *k)
{
    struct buf *b;
    enum link_status rc;
    while ((rc = link_recv(k->top, &b)) == LINK_OK) {
        k->dropped += b->len;
        buf_put(b);
        if (k->dropped > FRONT_DRAIN_MAX)
            break;
    }
    if (rc != LINK_AGAIN)
        end(k);
}

// Becoming a carrier --------------------------------------------------------------------------------------------

static void on_hello(struct conn *c, const struct frame_hello *hello)
{
    struct front_caller *k = c->owner;
    timer_set(k->f->w, &k->deadline, FRONT_STORE_MS);
    k->f->on_hello(k, hello);
}

static void on_down(struct conn *c, const struct err *err, const struct frame_welcome *refusal)
{
    end_saying(c->owner, "handshake", err);
}

static const struct conn_ops front_conn_ops = {.on_hello = on_hello, .on_down = on_down};

static void become_carrier(struct front_caller *k, const struct http_head *head, struct buf *rest)
{
    struct front *f = k->f;
    struct tls_options inner = {.ctx = f->inner, .server = true, .who = "agent"};
    struct link *ws = ws_server_over(k->top, head, WS_SUBPROTOCOL, rest);
    struct link *tls = tls_over(ws, &inner, NULL);
    f->stats.upgraded++;
    k->top = NULL;
    k->stage = FRONT_CARRIER;
    timer_stop(f->w, &k->deadline); // conn has its own
    free(k->head);
    k->head = NULL;
    k->conn = conn_relay(f->w, tls, f->peel, &front_conn_ops, k);
}

// The request head ----------------------------------------------------------------------------------------------

static bool is_our_path(const struct front *f, struct http_text target)
{
    const char *query = memchr(target.at, '?', target.len);
    size_t len = query ? (size_t)(query - target.at) : target.len;
    for (size_t i = 0; i < f->path_count; i++)
        if (strlen(f->paths[i]) == len && !memcmp(f->paths[i], target.at, len))
            return true;
    return false;
}

static bool is_ours(const struct front *f, const struct http_head *h)
{
    return ws_is_upgrade(h) && is_our_path(f, h->target) && http_has_token(h, "Sec-WebSocket-Protocol", WS_SUBPROTOCOL);
}

static void route(struct front_caller *k, const struct http_head *h, size_t used)
{
    size_t more = k->have - used;
    if (is_ours(k->f, h) && more <= BUF_ROOM) {
        become_carrier(k, h, more ? buf_copy(&k->f->w->pool, k->head + used, more) : NULL);
        return;
    }
    k->f->stats.not_found++;
    answer(k, 404, "Not Found", !http_text_is(h->method, "HEAD"));
}

static void parse_head(struct front_caller *k)
{
    struct http_head h;
    const char *why;
    size_t used = 0;
    // Parsed once, when its end has come: bytes that trickle in cost nothing.
    bool whole = memmem(k->head, k->have, "\n\r\n", 3) || memmem(k->head, k->have, "\n\n", 2);
    enum http_result rc = whole ? http_parse(&h, true, k->head, k->have, &used, &why) : HTTP_MORE;
    if (rc == HTTP_OK) {
        route(k, &h, used);
    } else if (rc == HTTP_BAD || k->have >= HTTP_HEAD_MAX) {
        k->f->stats.bad++;
        answer(k, rc == HTTP_BAD ? 400 : 431, rc == HTTP_BAD ? "Bad Request" : "Request Header Fields Too Large", true);
    }
}

static void read_head(struct front_caller *k)
{
    struct buf *b;
    enum link_status rc = LINK_OK;
    while (k->stage == FRONT_HEAD && (rc = link_recv(k->top, &b)) == LINK_OK) {
        memcpy(k->head + k->have, buf_data(b), b->len);
        k->have += b->len;
        buf_put(b);
        parse_head(k);
    }
    if (k->stage == FRONT_ANSWERED)
        drop_rest(k);
    else if (rc == LINK_END || rc == LINK_FAILED)
        end_saying(k, "request", &k->top->err);
}

static void on_wake(struct wake *wake)
{
    struct front_caller *k = container_of(wake, struct front_caller, wake);
    if (k->stage == FRONT_TLS) {
        enum link_status rc = link_open(k->top);
        if (rc == LINK_FAILED) {
            k->f->stats.tls_failed++;
            end_saying(k, "TLS", &k->top->err);
        }
        if (rc != LINK_OK)
            return;
        k->stage = FRONT_HEAD;
        timer_set(k->f->w, &k->deadline, FRONT_HEAD_MS);
    }
    if (k->stage == FRONT_HEAD)
        read_head(k);
    else if (k->stage == FRONT_ANSWERED)
        drop_rest(k);
}

static void on_deadline(struct timer *t)
{
    struct front_caller *k = container_of(t, struct front_caller, deadline);
    static const char *const stages[] = {"TLS", "request", "answer", "enrolment"};
    char peer[ADDR_TEXT_MAX];
    k->f->stats.late += k->stage != FRONT_ANSWERED;
    log_event(LOG_DEBUG, "caller too slow", LS("peer", addr_text(&k->peer, peer)), LS("while", stages[k->stage]));
    end(k);
}

// Coming in -----------------------------------------------------------------------------------------------------

// One IPv6 customer has a whole /64.
static bool same_place(const struct addr *a, const struct addr *b)
{
    if (a->len && b->len && a->sa.sa_family == AF_INET6 && b->sa.sa_family == AF_INET6)
        return !memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, 8);
    return addr_equal_host(a, b);
}

static bool too_many_of(const struct front *f, const struct addr *peer)
{
    unsigned n = 0;
    list_each(&f->callers, it)
    {
        const struct front_caller *k = list_entry(it, struct front_caller, node);
        n += !k->plain && same_place(&k->peer, peer);
    }
    return n >= FRONT_ADDRESS_MAX;
}

void front_accept(struct front *f, struct link *link, const struct addr *peer, bool plain)
{
    struct front_caller *k = NULL;
    f->stats.accepted++;
    if (f->count >= FRONT_CALLERS_MAX || (!plain && (!f->web || too_many_of(f, peer))) || !(k = calloc(1, sizeof *k)) ||
        !(k->head = malloc(HEAD_ROOM))) {
        f->stats.turned_away++;
        free(k);
        link_close(link);
        return;
    }
    struct tls_options outer = {.ctx = f->web, .server = true, .outer = true, .who = "caller"};
    k->f = f;
    k->plain = plain;
    k->peer = *peer;
    k->stage = FRONT_TLS;
    k->top = plain ? link : tls_over(link, &outer, NULL);
    wake_init(&k->wake, on_wake);
    timer_init(&k->deadline, on_deadline);
    link_own(k->top, &k->wake);
    list_push(&f->callers, &k->node);
    timer_set(f->w, &k->deadline, FRONT_TLS_MS);
    wake_post(f->w, &k->wake);
    if (++f->count == FRONT_CALLERS_MAX)
        f->on_full(f, true);
}

void front_set_web(struct front *f, SSL_CTX *web)
{
    SSL_CTX_free(f->web);
    f->web = web;
}

void front_init(struct front *f, struct worker *w)
{
    *f = (struct front){.w = w};
    list_init(&f->callers);
}

void front_fini(struct front *f)
{
    f->on_gone = NULL;
    list_each(&f->callers, it) end(list_entry(it, struct front_caller, node));
    SSL_CTX_free(f->web);
    SSL_CTX_free(f->inner);
    f->web = f->inner = NULL;
}
