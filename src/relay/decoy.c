// SPDX-License-Identifier: Apache-2.0
#include "relay/decoy.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/log.h"
#include "dial/race.h"
#include "link/head.h"
#include "link/pump.h"
#include "link/tls.h"
#include "relay/owners.h"

#define TURN_BUFS 16
#define WARN_MS 60000

enum visit_stage { REACHING, OPENING, ASKING, ANSWERING, PIPE };

struct errand { // one request's way to the decoy and back
    struct decoy *d;
    struct front_caller *k;
    enum visit_stage stage;
    bool raw;         // a pipe from the first byte
    bool chunked;     // the request's body
    bool asked_all;   // the request is on its way whole
    bool upgrade;     // it asks for another protocol
    bool head_only;
    bool until_end;   // the answer lasts as long as its connection
    char *request;
    size_t request_len;
    struct resolve resolve;
    struct race race;
    struct link *back;
    struct wake wake;
    struct head_reader reader;
    struct bufq rest;       // of the answer, read behind its head
    struct http_skip body;  // of the answer
    struct pump pump;
    uint64_t piped;
    struct grave grave;
};

static void run(struct errand *x);

// The end -----------------------------------------------------------------------------------------------------------

static void bury(struct grave *g) { free(container_of(g, struct errand, grave)); }

static void on_gone(struct front_caller *k)
{
    struct errand *x = k->state;
    if (!x)
        return;
    k->state = NULL;
    x->d->count--;
    resolve_cancel(&x->resolve);
    race_stop(&x->race);
    wake_cancel(&x->wake);
    if (x->stage == PIPE)
        pump_stop(&x->pump);
    link_close(x->back);
    head_fini(&x->reader);
    bufq_clear(&x->rest);
    free(x->request);
    worker_bury(x->d->w, &x->grave, bury);
}

static void fail(struct errand *x, const struct err *err)
{
    struct decoy *d = x->d;
    if (!d->warned_ms || d->w->now_ms - d->warned_ms > WARN_MS) {
        d->warned_ms = d->w->now_ms;
        log_event(LOG_WARN, "the decoy does not answer; strangers see a 502", LS("decoy", d->url.host), LS("reason", err_text(err)));
    }
    if (x->stage < ANSWERING && !x->raw)
        front_answer(x->k, 502, "Bad Gateway", "");
    else
        front_end(x->k);
}

static void on_late(struct front_caller *k)
{
    struct errand *x = k->state;
    if (x->stage == PIPE && x->pump.a_to_b + x->pump.b_to_a != x->piped) {
        x->piped = x->pump.a_to_b + x->pump.b_to_a;
        timer_set(k->f->w, &k->deadline, DECOY_IDLE_MS);
    } else if (x->stage < ANSWERING && !x->raw) {
        k->keep = false;
        front_answer(k, 504, "Gateway Timeout", "");
    } else {
        front_end(k);
    }
}

// A pipe ------------------------------------------------------------------------------------------------------------

static void on_piped(struct pump *p, const struct err *err)
{
    (void)err;
    front_end(container_of(p, struct errand, pump)->k);
}

static void send_all(struct link *to, struct bufq *q)
{
    struct buf *b;
    while ((b = bufq_pop(q)))
        link_send(to, b);
}

static void become_pipe(struct errand *x)
{
    struct front_caller *k = x->k;
    struct link *caller = k->top, *back = x->back;
    send_all(back, &k->rest);
    send_all(caller, &x->rest);
    k->top = x->back = NULL;
    x->stage = PIPE;
    pump_start(&x->pump, k->f->w, caller, back, NULL, on_piped);
    timer_set(k->f->w, &k->deadline, DECOY_IDLE_MS);
}

// The request -------------------------------------------------------------------------------------------------------

static bool is_of_this_hop(struct http_text name)
{
    static const char *const names[] = {"Connection",        "Keep-Alive", "Proxy-Connection", "TE",
                                        "Transfer-Encoding", "Upgrade",    "X-Forwarded-For",  "X-Forwarded-Proto",
                                        "Forwarded",         "X-Real-IP"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (http_text_is_nocase(name, names[i]))
            return true;
    return false;
}

static void put_text(FILE *f, struct http_text t) { fwrite(t.at, 1, t.len, f); }

static void put_header(FILE *f, const struct http_header *h)
{
    put_text(f, h->name);
    fputs(": ", f);
    put_text(f, h->value);
    fputs("\r\n", f);
}

static void write_request(struct errand *x, const struct http_head *h)
{
    const struct front_caller *k = x->k;
    char host[ADDR_TEXT_MAX];
    int64_t length;
    FILE *f = open_memstream(&x->request, &x->request_len);
    if (!f)
        abort();
    http_body(h, &length, &x->chunked);
    x->upgrade = http_get(h, "Upgrade") && http_has_token(h, "Connection", "upgrade");
    put_text(f, h->method);
    fputc(' ', f);
    put_text(f, h->target);
    fprintf(f, " HTTP/1.%d\r\n", h->minor ? 1 : 0);
    for (size_t i = 0; i < h->count; i++)
        if (!is_of_this_hop(h->headers[i].name))
            put_header(f, &h->headers[i]);
    if (x->chunked)
        fputs("Transfer-Encoding: chunked\r\n", f);
    fprintf(f, "X-Forwarded-For: %s\r\nX-Forwarded-Proto: %s\r\n", addr_host(&k->peer, host), k->https ? "https" : "http");
    if (x->upgrade) {
        fputs("Connection: Upgrade\r\nUpgrade: ", f);
        put_text(f, *http_get(h, "Upgrade"));
        fputs("\r\n\r\n", f);
    } else {
        fputs("Connection: close\r\n\r\n", f);
    }
    if (fclose(f))
        abort();
}

static void send_text(struct link *to, const char *text, size_t len)
{
    for (size_t at = 0; at < len; at += BUF_ROOM)
        link_send(to, buf_copy(&to->w->pool, text + at, len - at < BUF_ROOM ? len - at : BUF_ROOM));
}

static void send_piece(struct errand *x, struct buf *b)
{
    char head[16];
    if (!x->chunked) {
        link_send(x->back, b);
        return;
    }
    send_text(x->back, head, (size_t)snprintf(head, sizeof head, "%x\r\n", (unsigned)b->len));
    link_send(x->back, b);
    send_text(x->back, "\r\n", 2);
}

// False: the caller is gone.
static bool pass_body(struct errand *x)
{
    struct front_caller *k = x->k;
    for (int i = 0; !x->asked_all && i < TURN_BUFS; i++) {
        struct buf *b;
        if (link_room(x->back) == 0)
            return true;
        switch (front_recv(k, &b)) {
        case LINK_OK:
            send_piece(x, b);
            timer_set(k->f->w, &k->deadline, x->stage == ANSWERING ? DECOY_IDLE_MS : DECOY_ANSWER_MS);
            break;
        case LINK_END:
            x->asked_all = true;
            if (x->chunked)
                send_text(x->back, "0\r\n\r\n", 5);
            break;
        case LINK_AGAIN:
            return true;
        default:
            front_end(k);
            return false;
        }
    }
    if (!x->asked_all)
        wake_post(k->f->w, &x->wake);
    return true;
}

// The answer --------------------------------------------------------------------------------------------------------

static bool has_no_body(const struct errand *x, const struct http_head *h)
{
    return x->head_only || h->status == 204 || h->status == 304;
}

static void pass_head(struct errand *x, const struct http_head *h)
{
    struct front_caller *k = x->k;
    char *text = NULL;
    size_t len = 0;
    bool switched = h->status == 101;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        abort();
    if (has_no_body(x, h))
        x->body.state = SKIP_OVER;
    else
        x->until_end = !http_skip_start(&x->body, h);
    k->keep = k->keep && !x->until_end && x->asked_all;
    fprintf(f, "HTTP/1.1 %d ", h->status);
    put_text(f, h->reason);
    fputs("\r\n", f);
    for (size_t i = 0; i < h->count; i++) {
        struct http_text name = h->headers[i].name;
        bool framing = http_text_is_nocase(name, "Transfer-Encoding") || (switched && http_text_is_nocase(name, "Upgrade"));
        if (framing || !is_of_this_hop(name))
            put_header(f, &h->headers[i]);
    }
    fputs(switched ? "Connection: Upgrade\r\n\r\n" : k->keep ? "\r\n" : "Connection: close\r\n\r\n", f);
    if (fclose(f))
        abort();
    send_text(k->top, text, len);
    free(text);
}

// False: the errand is over, or waits for more.
static bool read_head(struct errand *x)
{
    struct http_head h;
    const char *why;
    for (;;) {
        if (link_room(x->k->top) == 0)
            return false;
        enum link_status rc = head_read(&x->reader, x->back, false, &h, &why);
        if (rc == LINK_AGAIN)
            return false;
        if (rc != LINK_OK) {
            struct err e = ERR_INIT;
            err_set(&e, ERR_FAILED, WHY_PROTOCOL, "%s", why ? why : rc == LINK_END ? "it closed the connection" : err_text(&x->back->err));
            fail(x, &e);
            err_fini(&e);
            return false;
        }
        if (h.status >= 200 || (h.status == 101 && x->upgrade))
            break;
        if (h.status == 100 && x->k->body.state != SKIP_OVER)
            send_text(x->k->top, "HTTP/1.1 100 Continue\r\n\r\n", 25);
        head_done(&x->reader);
    }
    bool switched = h.status == 101;
    x->stage = ANSWERING;
    pass_head(x, &h);
    head_done(&x->reader);
    head_rest(&x->reader, &x->rest);
    if (switched)
        become_pipe(x);
    return !switched;
}

static enum link_status pull(struct errand *x, struct buf **b)
{
    *b = bufq_pop(&x->rest);
    return *b ? LINK_OK : link_recv(x->back, b);
}

// The last of a long answer may take as long as what was before it.
static void finish(struct errand *x)
{
    struct front_caller *k = x->k;
    front_done(k);
    if (k->stage == FRONT_ANSWERED)
        timer_set(k->f->w, &k->deadline, DECOY_IDLE_MS);
}

static void pass_answer(struct errand *x)
{
    struct front_caller *k = x->k;
    for (int i = 0; i < TURN_BUFS; i++) {
        struct buf *b;
        if (!x->until_end && x->body.state == SKIP_OVER) {
            finish(x);
            return;
        }
        if (link_room(k->top) == 0)
            return;
        enum link_status rc = pull(x, &b);
        if (rc == LINK_AGAIN)
            return;
        if (rc == LINK_END && x->until_end) {
            finish(x);
            return;
        }
        if (rc != LINK_OK) {
            front_end(k);
            return;
        }
        if (!x->until_end)
            b->len = (uint32_t)http_skip_feed(&x->body, (char *)buf_data(b), b->len);
        if (x->body.state == SKIP_BAD) {
            buf_put(b);
            front_end(k);
            return;
        }
        link_send(k->top, b);
        timer_set(k->f->w, &k->deadline, DECOY_IDLE_MS);
    }
    wake_post(k->f->w, &x->wake);
}

// The way there -----------------------------------------------------------------------------------------------------

static void open_back(struct errand *x)
{
    enum link_status rc = link_open(x->back);
    if (rc == LINK_FAILED)
        fail(x, &x->back->err);
    if (rc != LINK_OK)
        return;
    if (x->raw) {
        become_pipe(x);
        return;
    }
    send_text(x->back, x->request, x->request_len);
    free(x->request);
    x->request = NULL;
    x->stage = ASKING;
    run(x);
}

static void run(struct errand *x)
{
    if (x->stage == OPENING) {
        open_back(x);
        return;
    }
    if (x->stage < ASKING || x->stage == PIPE || !pass_body(x))
        return;
    if (x->stage == ANSWERING || read_head(x))
        pass_answer(x);
}

static void on_news(struct wake *wake) { run(container_of(wake, struct errand, wake)); }

static void on_wake(struct front_caller *k)
{
    if (k->state)
        run(k->state);
}

static void on_raced(struct race *r, struct link *link, const struct addr *to, const struct err *err)
{
    struct errand *x = container_of(r, struct errand, race);
    struct decoy *d = x->d;
    (void)to;
    if (!link) {
        fail(x, err);
        return;
    }
    if (d->ctx)
        link = tls_over(link, &(struct tls_options){.ctx = d->ctx, .host = d->url.host, .who = d->url.host}, NULL);
    x->back = link;
    x->stage = OPENING;
    link_own(link, &x->wake);
    wake_post(d->w, &x->wake);
}

static void on_resolved(struct resolve *q, const struct addr *addrs, size_t count, const struct err *err)
{
    struct errand *x = container_of(q, struct errand, resolve);
    if (count)
        race_start(&x->race, x->d->w, addrs, count, 0, on_raced);
    else
        fail(x, err);
}

static struct errand *set_out(struct front_caller *k)
{
    struct decoy *d = k->f->decoy;
    struct errand *x = d->count < DECOY_MAX ? calloc(1, sizeof *x) : NULL;
    if (!x)
        return NULL;
    d->count++;
    k->f->stats.decoyed++;
    k->state = x;
    x->d = d;
    x->k = k;
    wake_init(&x->wake, on_news);
    timer_set(d->w, &k->deadline, DECOY_ANSWER_MS);
    resolve_start(d->resolver, &x->resolve, d->url.host, d->url.port, on_resolved);
    return x;
}

// The owner ---------------------------------------------------------------------------------------------------------

static bool claims(const struct front_caller *k, const struct http_head *h)
{
    (void)h;
    return k->f->decoy;
}

static void take(struct front_caller *k, const struct http_head *h)
{
    struct errand *x = set_out(k);
    if (!x) {
        k->f->stats.turned_away++;
        front_answer(k, 503, "Service Unavailable", "");
        return;
    }
    x->head_only = http_text_is(h->method, "HEAD");
    write_request(x, h);
}

const struct front_owner front_decoy = {
    .name = "decoy", .claims = claims, .take = take, .on_wake = on_wake, .on_late = on_late, .on_gone = on_gone};

void decoy_raw(struct front_caller *k)
{
    k->owner = &front_decoy;
    k->stage = FRONT_OWNED;
    k->state = NULL;
    struct errand *x = set_out(k);
    if (x)
        x->raw = true;
    else
        front_end(k);
}

int decoy_url_parse(struct proxy_url *url, const char *text, struct err *e)
{
    struct err why = ERR_INIT;
    bool good = strstr(text, "://") && proxy_url_parse(url, text, &why) == 0 &&
                (url->kind == PROXY_HTTP || url->kind == PROXY_HTTPS) && !url->has_login;
    err_fini(&why);
    return good ? 0 : err_set(e, ERR_USAGE, WHY_NONE, "\"%.100s\" is no decoy; write http://host[:port] or https://host[:port], "
                              "without a path", text);
}

struct decoy *decoy_new(struct worker *w, struct resolver *r, const struct proxy_url *url, struct err *e)
{
    struct decoy *d = calloc(1, sizeof *d);
    if (!d)
        abort();
    d->w = w;
    d->resolver = r;
    d->url = *url;
    if (url->kind == PROXY_HTTPS && !(d->ctx = tls_client_ctx(NULL, e))) {
        free(d);
        return NULL;
    }
    return d;
}

void decoy_free(struct decoy *d)
{
    if (d)
        SSL_CTX_free(d->ctx);
    free(d);
}
