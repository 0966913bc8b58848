// SPDX-License-Identifier: Apache-2.0
// Receiving works inside the buffers of the link below: payloads are unmasked where they lie, and moved together when a buffer
// holds several frames. Sending prepends the header in the buffer's own headroom.
#include "link/ws.h"
#include <assert.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "core/log.h"
#include "link/head.h"
#include "wire/ws.h"

#define OVERHEAD 64 // what room keeps back for headers and control frames

struct ws {
    struct link link;
    bool server, opened, asked;
    char *place;   // for messages: "WebSocket at relay.example/"
    char *request; // client: until it is sent
    char *protocol;
    char accept[WS_ACCEPT_LEN + 1];
    struct head_reader reader;
    struct bufq in; // read too far by whoever read the head; in message mode also what is left of a buffer
    struct ws_parser parser;
    uint8_t control[WS_CONTROL_MAX], pong[WS_CONTROL_MAX];
    size_t control_len, pong_len;
    bool pong_owed;
    bool close_sent, close_read;
    uint16_t close_code; // the peer's
    struct timer patience;
    bool messages; // message mode
    struct utf8 utf8;
    struct ws_frame_info info;
};

static struct ws *of(struct link *l) { return container_of(l, struct ws, link); }

// --- sending

static void send_frame(struct ws *ws, uint8_t opcode, bool fin, struct buf *b)
{
    uint8_t key[4], *mask = NULL, head[WS_HEAD_MAX];
    if (!ws->server) {
        worker_random(ws->link.w, key, sizeof(key));
        ws_mask(buf_data(b), b->len, key, 0);
        mask = key;
    }
    size_t n = ws_head_write(head, opcode, fin, b->len, mask);
    if (b->start >= n) {
        memcpy(buf_prepend(b, n), head, n);
    } else {
        struct buf *front = buf_get_small(&ws->link.w->pool, BUF_HEADROOM, n);
        buf_append(front, head, n);
        link_send(ws->link.below, front);
    }
    link_send(ws->link.below, b);
}

static void send_control(struct ws *ws, uint8_t opcode, const void *payload, size_t len)
{
    struct buf *b = buf_get_small(&ws->link.w->pool, 2 * BUF_HEADROOM, len);
    buf_append(b, payload, len);
    send_frame(ws, opcode, true, b);
}

// The newest ping is answered when there is room: a peer that sends pings and never reads gets no queue.
static void pay_pong(struct ws *ws)
{
    if (!ws->pong_owed || ws->close_sent || link_room(ws->link.below) == 0)
        return;
    ws->pong_owed = false;
    send_control(ws, WS_PONG, ws->pong, ws->pong_len);
}

static void send_close(struct ws *ws, uint16_t code)
{
    uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};
    if (ws->close_sent)
        return;
    ws->close_sent = true;
    send_control(ws, WS_CLOSE, payload, code == WS_CODE_ABSENT ? 0 : 2);
}

// Both Close frames are on their way: the stream below has nothing more to carry.
static void finish(struct ws *ws)
{
    timer_stop(ws->link.w, &ws->patience);
    link_shut(ws->link.below, SHUT_END);
    link_wake(&ws->link);
}

static enum link_status fail_protocol(struct ws *ws, uint16_t code, const char *why)
{
    send_close(ws, code);
    timer_stop(ws->link.w, &ws->patience);
    link_shut(ws->link.below, SHUT_END);
    link_fail(&ws->link, ERR_FAILED, WHY_PROTOCOL, "%s: the peer sent %s", ws->place, why);
    if (!ws->messages)
        err_advise(&ws->link.err, ADVICE_TAMPERED); // our own kind sends nothing like that
    return LINK_FAILED;
}

// --- receiving

static void on_close(struct ws *ws)
{
    uint16_t answer = WS_CODE_PROTOCOL;
    uint16_t code = ws_close_code(ws->control, ws->control_len, &answer);
    if (!code) {
        fail_protocol(ws, answer, "a bad Close frame");
        return;
    }
    ws->close_read = true;
    ws->close_code = code;
    if (ws->close_sent)
        finish(ws);
}

static void on_control(struct ws *ws)
{
    uint8_t opcode = ws->parser.frame.opcode;
    if (opcode == WS_CLOSE) {
        on_close(ws);
    } else if (opcode == WS_PING) {
        memcpy(ws->pong, ws->control, ws->control_len);
        ws->pong_len = ws->control_len;
        ws->pong_owed = true;
        pay_pong(ws);
    }
}

static void on_head(struct ws *ws)
{
    if (ws_is_control(ws->parser.frame.opcode)) {
        ws->control_len = 0;
        if (ws->parser.left == 0)
            on_control(ws);
    } else if (!ws->messages && ws->parser.message_opcode != WS_BINARY) {
        fail_protocol(ws, WS_CODE_DATA, "a text message");
    }
}

static bool over(const struct ws *ws) { return ws->close_read || err_is(&ws->link.err); }

static void take_control(struct ws *ws, const uint8_t *data, size_t n)
{
    memcpy(ws->control + ws->control_len, data, n); // the parser has checked the length
    ws->control_len += n;
    if (ws->parser.left == 0)
        on_control(ws);
}

// Turns a buffer of frames into a buffer of their payloads.
static void strip_frames(struct ws *ws, struct buf *b)
{
    uint8_t *data = buf_data(b);
    size_t at = 0, first = 0, kept = 0;
    while (at < b->len && !over(ws)) {
        size_t n;
        if (ws->parser.left == 0) {
            enum ws_result r = ws_parse(&ws->parser, data + at, b->len - at, &n);
            at += n;
            if (r == WS_BAD)
                fail_protocol(ws, WS_CODE_PROTOCOL, ws->parser.why);
            else if (r == WS_FRAME)
                on_head(ws);
            continue;
        }
        n = b->len - at < ws->parser.left ? b->len - at : (size_t)ws->parser.left;
        ws_payload(&ws->parser, data + at, n);
        if (ws_is_control(ws->parser.frame.opcode)) {
            take_control(ws, data + at, n);
        } else {
            if (kept == 0)
                first = at;
            else
                memmove(data + first + kept, data + at, n);
            kept += n;
        }
        at += n;
    }
    b->start += (uint32_t)first;
    b->len = (uint32_t)kept;
}

static enum link_status pull(struct ws *ws, struct buf **b)
{
    struct link *l = &ws->link;
    if ((*b = bufq_pop(&ws->in)))
        return LINK_OK;
    switch (link_recv(l->below, b)) {
    case LINK_OK:
        return LINK_OK;
    case LINK_AGAIN:
        return LINK_AGAIN;
    case LINK_END:
        timer_stop(l->w, &ws->patience);
        return link_fail(l, ERR_FAILED, WHY_ABORTED, "%s: the connection ended without a Close frame", ws->place);
    default:
        timer_stop(l->w, &ws->patience);
        return link_failed_below(l, "%s", ws->place);
    }
}

static enum link_status recv_stream(struct ws *ws, struct buf **out)
{
    for (;;) {
        if (over(ws))
            return err_is(&ws->link.err) ? LINK_FAILED : LINK_END;
        enum link_status s = pull(ws, out);
        if (s != LINK_OK)
            return s;
        strip_frames(ws, *out);
        if ((*out)->len)
            return LINK_OK;
        buf_put(*out);
    }
}

// A piece of a message, as it came; empty for an empty frame.
static struct buf *take_piece(struct ws *ws, struct buf *b)
{
    struct ws_parser *p = &ws->parser;
    size_t n = b->len < p->left ? b->len : (size_t)p->left;
    n = n < BUF_ROOM ? n : BUF_ROOM;
    ws->info.opcode = p->message_opcode;
    ws->info.first = p->frame.opcode != WS_CONT && p->left == p->frame.length;
    if (ws->info.first)
        ws->utf8 = (struct utf8){0};
    ws_payload(p, buf_data(b), n);
    struct buf *piece = buf_get(&ws->link.w->pool);
    buf_append(piece, buf_data(b), n);
    buf_skip(b, n);
    ws->info.last = p->frame.fin && p->left == 0;
    if (p->message_opcode == WS_TEXT && (!utf8_feed(&ws->utf8, buf_data(piece), piece->len) ||
                                         (ws->info.last && !utf8_is_whole(&ws->utf8)))) {
        fail_protocol(ws, WS_CODE_PAYLOAD, "text that is not UTF-8");
        buf_put(piece);
        return NULL;
    }
    return piece;
}

// One step in b: a header, a control payload, or a piece to hand over.
static struct buf *step_message(struct ws *ws, struct buf *b)
{
    struct ws_parser *p = &ws->parser;
    size_t n;
    if (p->left == 0) {
        enum ws_result r = ws_parse(p, buf_data(b), b->len, &n);
        buf_skip(b, n);
        if (r == WS_BAD)
            fail_protocol(ws, WS_CODE_PROTOCOL, p->why);
        if (r != WS_FRAME)
            return NULL;
        on_head(ws);
        return p->left == 0 && !ws_is_control(p->frame.opcode) && !over(ws) ? take_piece(ws, b) : NULL;
    }
    if (!ws_is_control(p->frame.opcode))
        return take_piece(ws, b);
    n = b->len < p->left ? b->len : (size_t)p->left;
    ws_payload(p, buf_data(b), n);
    take_control(ws, buf_data(b), n);
    buf_skip(b, n);
    return NULL;
}

static enum link_status recv_message(struct ws *ws, struct buf **out)
{
    for (;;) {
        struct buf *b;
        if (over(ws))
            return err_is(&ws->link.err) ? LINK_FAILED : LINK_END;
        enum link_status s = pull(ws, &b);
        if (s != LINK_OK)
            return s;
        *out = NULL;
        while (b->len && !*out && !over(ws))
            *out = step_message(ws, b);
        if (b->len)
            bufq_push_front(&ws->in, b);
        else
            buf_put(b);
        if (*out)
            return LINK_OK;
    }
}

static enum link_status ws_recv(struct link *l, struct buf **out)
{
    struct ws *ws = of(l);
    if (err_is(&l->err))
        return LINK_FAILED;
    if (!ws->opened)
        return LINK_AGAIN;
    pay_pong(ws);
    return ws->messages ? recv_message(ws, out) : recv_stream(ws, out);
}

static void ws_send(struct link *l, struct buf *b)
{
    struct ws *ws = of(l);
    if (err_is(&l->err) || ws->close_sent || b->len == 0) {
        buf_put(b);
        return;
    }
    send_frame(ws, WS_BINARY, true, b);
}

static size_t ws_room(struct link *l)
{
    struct ws *ws = of(l);
    if (err_is(&l->err))
        return BUF_SIZE;
    if (ws->close_sent && !ws->close_read)
        return 0; // the peer's Close, the deadline or a failure brings the wake
    pay_pong(ws);
    size_t room = link_room(l->below);
    if (room && ws->close_read && err_is(&l->below->err))
        link_failed_below(l, "%s", ws->place);
    return room > OVERHEAD ? room - OVERHEAD : room ? 1 : 0;
}

static void ws_shut(struct link *l, enum link_shut how)
{
    struct ws *ws = of(l);
    if (how == SHUT_ABORT) {
        timer_stop(l->w, &ws->patience);
        link_fail(l, ERR_FAILED, WHY_ABORTED, "aborted");
        link_shut(l->below, SHUT_ABORT);
        return;
    }
    if (err_is(&l->err) || ws->close_sent)
        return;
    if (!ws->opened) {
        link_fail(l, ERR_FAILED, WHY_ABORTED, "%s: given up before it was open", ws->place);
        link_shut(l->below, SHUT_END);
        return;
    }
    send_close(ws, ws->close_read ? ws->close_code : WS_CODE_NORMAL);
    if (ws->close_read)
        finish(ws);
    else
        timer_set(l->w, &ws->patience, WS_CLOSE_MS);
}

static void on_patience(struct timer *t)
{
    struct ws *ws = container_of(t, struct ws, patience);
    link_fail(&ws->link, ERR_FAILED, WHY_TIMEOUT, "%s: the peer did not answer Close in %d s", ws->place,
              WS_CLOSE_MS / 1000);
    link_shut(ws->link.below, SHUT_ABORT);
    link_wake(&ws->link);
}

// --- opening

static void ask(struct ws *ws)
{
    size_t n = strlen(ws->request);
    if (n > BUF_ROOM)
        link_fail(&ws->link, ERR_USAGE, WHY_INTERNAL, "%s: the request is too long", ws->place);
    else
        link_send(ws->link.below, buf_copy(&ws->link.w->pool, ws->request, n));
    free(ws->request);
    ws->request = NULL;
    ws->asked = true;
}

static const char *check_answer(const struct ws *ws, const struct http_head *h)
{
    const struct http_text *accept = http_get(h, "Sec-WebSocket-Accept");
    const struct http_text *protocol = http_get(h, "Sec-WebSocket-Protocol");
    if (!http_has_token(h, "Upgrade", "websocket") || !http_has_token(h, "Connection", "upgrade"))
        return "101 without an upgrade to WebSocket";
    if (!accept || http_count(h, "Sec-WebSocket-Accept") > 1 || !http_text_is(*accept, ws->accept))
        return "101 with a wrong Sec-WebSocket-Accept";
    if (http_get(h, "Sec-WebSocket-Extensions"))
        return "101 with an extension that was not asked for";
    if (!ws->protocol)
        return protocol ? "101 with a subprotocol that was not asked for" : NULL;
    return protocol && http_text_is(*protocol, ws->protocol) ? NULL : "101 without the subprotocol that was asked for";
}

enum advice ws_advice(const struct http_head *h)
{
    const struct http_text *type = http_get(h, "Content-Type");
    bool html = type && type->len >= 9 && strncasecmp(type->at, "text/html", 9) == 0;
    if (h->status == 511 || (h->status >= 300 && h->status < 400) || (h->status == 200 && html))
        return ADVICE_PORTAL;
    if (h->status >= 502 && h->status <= 504)
        return ADVICE_FRONT;
    return h->status == 404 || h->status == 405 || h->status == 410 ? ADVICE_NOT_RELAY : ADVICE_UPGRADE;
}

static enum link_status read_answer(struct ws *ws)
{
    struct link *l = &ws->link;
    struct http_head h;
    const char *why;
    enum link_status s = head_read(&ws->reader, l->below, false, &h, &why);
    if (s == LINK_AGAIN)
        return s;
    if (s == LINK_END) {
        link_fail(l, ERR_UNREACHED, WHY_REFUSED, "%s: the server closed the connection without an answer", ws->place);
        err_advise(&l->err, ADVICE_CUT);
        return LINK_FAILED;
    }
    if (s == LINK_FAILED && why) {
        link_fail(l, ERR_UNREACHED, WHY_PROTOCOL, "%s: the answer is not HTTP: %s", ws->place, why);
        err_advise(&l->err, ADVICE_NOT_RELAY);
        return LINK_FAILED;
    }
    if (s == LINK_FAILED)
        return link_failed_below(l, "%s", ws->place);
    if (h.status != 101) {
        char reason[160];
        log_escape(reason, sizeof(reason), h.reason.at, h.reason.len);
        link_fail(l, ERR_UNREACHED, WHY_REFUSED, "%s: the server answered %d%s%s%s", ws->place, h.status,
                  reason[0] ? " (" : "", reason, reason[0] ? ")" : "");
        err_advise(&l->err, ws_advice(&h));
        return LINK_FAILED;
    }
    if ((why = check_answer(ws, &h))) {
        link_fail(l, ERR_UNREACHED, WHY_PROTOCOL, "%s: the server answered %s", ws->place, why);
        err_advise(&l->err, ADVICE_UPGRADE);
        return LINK_FAILED;
    }
    head_done(&ws->reader);
    head_rest(&ws->reader, &ws->in);
    ws->opened = true;
    return LINK_OK;
}

static enum link_status ws_open(struct link *l)
{
    struct ws *ws = of(l);
    if (err_is(&l->err))
        return LINK_FAILED;
    if (ws->opened)
        return LINK_OK;
    if (!ws->asked) {
        enum link_status s = link_open(l->below);
        if (s != LINK_OK)
            return s == LINK_FAILED ? link_failed_below(l, NULL) : s;
        ask(ws);
        if (err_is(&l->err))
            return LINK_FAILED;
    }
    return read_answer(ws);
}

static void ws_fini(struct link *l)
{
    struct ws *ws = of(l);
    timer_stop(l->w, &ws->patience);
    head_fini(&ws->reader);
    bufq_clear(&ws->in);
    free(ws->request);
    free(ws->protocol);
    free(ws->place);
    free(ws);
}

static const struct link_ops ws_ops = {
    .name = "ws",
    .open = ws_open,
    .recv = ws_recv,
    .send = ws_send,
    .room = ws_room,
    .shut = ws_shut,
    .fini = ws_fini,
};

static struct ws *ws_new(struct link *below, bool server)
{
    struct ws *ws = calloc(1, sizeof(*ws));
    if (!ws)
        abort();
    link_init(&ws->link, &ws_ops, NULL, below);
    ws->server = server;
    timer_init(&ws->patience, on_patience);
    ws_parser_init(&ws->parser, server);
    return ws;
}

static void print(char **out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void print(char **out, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(out, fmt, ap) < 0)
        abort();
    va_end(ap);
}

struct link *ws_client_over(struct link *below, const struct ws_client_options *o)
{
    struct ws *ws = ws_new(below, false);
    uint8_t nonce[16];
    char key[WS_KEY_LEN + 1];
    worker_random(ws->link.w, nonce, sizeof(nonce));
    EVP_EncodeBlock((uint8_t *)key, nonce, sizeof(nonce));
    ws_accept(key, WS_KEY_LEN, ws->accept);
    print(&ws->place, "WebSocket at %s%s", o->host, o->path);
    if (o->protocol)
        print(&ws->protocol, "%s", o->protocol);
    print(&ws->request,
          "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
          "Sec-WebSocket-Version: 13\r\n%s%s%s%s\r\n",
          o->path, o->host, key, o->protocol ? "Sec-WebSocket-Protocol: " : "", o->protocol ? o->protocol : "",
          o->protocol ? "\r\n" : "", o->headers ? o->headers : "");
    return &ws->link;
}

bool ws_is_upgrade(const struct http_head *request) { return http_has_token(request, "Upgrade", "websocket"); }

// NULL when the request is right; else the whole answer, and what to say about it.
static const char *check_request(const struct http_head *h, const char *protocol, const char **why)
{
    static const char bad[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    const struct http_text *key = http_get(h, "Sec-WebSocket-Key");
    const struct http_text *version = http_get(h, "Sec-WebSocket-Version");
    int64_t length;
    bool chunked;
    *why = "not a WebSocket upgrade";
    if (!http_text_is(h->method, "GET") || h->minor < 1 || !ws_is_upgrade(h) ||
        !http_has_token(h, "Connection", "upgrade"))
        return bad;
    *why = "an upgrade with a body";
    if (!http_body(h, &length, &chunked) || chunked || length > 0)
        return bad;
    *why = "no good Sec-WebSocket-Key";
    if (!key || http_count(h, "Sec-WebSocket-Key") > 1 || !ws_key_ok(key->at, key->len))
        return bad;
    *why = "a WebSocket version other than 13";
    if (!version || !http_text_is(*version, "13"))
        return "HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\n"
               "Connection: close\r\n\r\n";
    *why = "no known subprotocol";
    if (protocol && !http_has_token(h, "Sec-WebSocket-Protocol", protocol))
        return bad;
    return NULL;
}

bool ws_is_good_upgrade(const struct http_head *request, const char *protocol)
{
    const char *why;
    return check_request(request, protocol, &why) == NULL;
}

static void send_text(struct ws *ws, const char *text)
{
    link_send(ws->link.below, buf_copy(&ws->link.w->pool, text, strlen(text)));
}

struct link *ws_server_over(struct link *below, const struct http_head *request, const char *protocol, struct buf *rest)
{
    struct ws *ws = ws_new(below, true);
    const char *why, *refusal = check_request(request, protocol, &why);
    print(&ws->place, "WebSocket");
    if (rest && rest->len)
        bufq_push(&ws->in, rest);
    else
        buf_put(rest);
    if (refusal) {
        send_text(ws, refusal);
        link_shut(below, SHUT_END);
        link_fail(&ws->link, ERR_FAILED, WHY_PROTOCOL, "WebSocket: the request is refused: %s", why);
        return &ws->link;
    }
    const struct http_text *key = http_get(request, "Sec-WebSocket-Key");
    char *answer;
    ws_accept(key->at, key->len, ws->accept);
    print(&answer,
          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n"
          "%s%s%s\r\n",
          ws->accept, protocol ? "Sec-WebSocket-Protocol: " : "", protocol ? protocol : "", protocol ? "\r\n" : "");
    send_text(ws, answer);
    free(answer);
    ws->opened = true;
    return &ws->link;
}

// --- message mode

void ws_message_mode(struct link *l) { of(l)->messages = true; }

struct ws_frame_info ws_last_info(const struct link *l) { return container_of(l, struct ws, link)->info; }

void ws_send_frame(struct link *l, uint8_t opcode, bool fin, struct buf *b)
{
    struct ws *ws = of(l);
    if (err_is(&l->err) || ws->close_sent) {
        buf_put(b);
        return;
    }
    send_frame(ws, opcode, fin, b ? b : buf_get_small(&l->w->pool, BUF_HEADROOM, 0));
}
