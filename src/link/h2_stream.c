// SPDX-License-Identifier: Apache-2.0
// A child of the hub. What its owner sends is HTTP/1.1: the head is collected and becomes HEADERS, the body loses its framing and becomes
// DATA. What comes is made into HTTP/1.1 the other way round.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "link/h2_inside.h"

static struct h2_stream *of(struct link *l) { return container_of(l, struct h2_stream, link); }

static bool is_client(const struct h2_stream *s) { return !s->h->server; }

static void reset(struct h2_stream *s, uint32_t code)
{
    if (s->h && s->id && !s->h->ended) {
        nghttp2_submit_rst_stream(s->h->session, NGHTTP2_FLAG_NONE, s->id, code);
        h2_kick(s->h);
    }
}

static enum link_status fail(struct h2_stream *s, enum err_kind kind, enum err_why why, const char *text)
{
    link_fail(&s->link, kind, why, "HTTP/2 with %s: %s", s->h ? s->h->who : "the peer", text);
    link_wake(&s->link);
    return LINK_FAILED;
}

// --- what comes

static void push_text(struct h2_stream *s, const char *text, size_t len)
{
    for (size_t at = 0, n; at < len; at += n) {
        n = len - at < BUF_ROOM ? len - at : BUF_ROOM;
        bufq_push_tight(&s->in, buf_copy(&s->link.w->pool, text + at, n));
    }
    link_wake(&s->link);
}

static void push_string(struct h2_stream *s, char *text)
{
    push_text(s, text, strlen(text));
    free(text);
}

// An answer of ours to what nobody above is asked about.
static void answer_here(struct h2_stream *s, const char *status)
{
    struct h2_fields f = {.count = 1};
    f.at[0] = (struct h2_field){.name = {":status", 7}, .value = {status, 3}};
    h2_submit(s, &f, true);
    s->answered = s->reset = true;
}

static void on_request(struct h2_stream *s, bool ends)
{
    const struct h2_taken *t = &s->taken;
    if (s->taken_over) {
        answer_here(s, "431");
    } else if (t->protocol && strcmp(t->protocol, "websocket") != 0) {
        answer_here(s, "501"); // RFC 9220 section 3
    } else {
        s->kind = t->protocol ? H2_WEBSOCKET : t->method && strcmp(t->method, "CONNECT") == 0 ? H2_CONNECT : H2_PLAIN;
        s->head_request = t->method && strcmp(t->method, "HEAD") == 0;
        s->asked = true;
        push_string(s, h2_request_text(t, ends, &s->framing));
    }
}

static void on_answer(struct h2_stream *s, bool ends)
{
    if (s->taken_over || s->taken.status == 101) {
        fail(s, ERR_UNREACHED, WHY_PROTOCOL, s->taken_over ? "the answer's head is too long" : "101 is no answer there");
        reset(s, NGHTTP2_CANCEL);
        return;
    }
    push_string(s, h2_answer_text(&s->taken, s->kind, s->ws_key, s->head_request, ends, &s->framing));
    s->answered = s->taken.status >= 200;
}

void h2_stream_on_head(struct h2_stream *s, bool ends)
{
    if (is_client(s))
        on_answer(s, ends);
    else
        on_request(s, ends);
    h2_taken_fini(&s->taken);
}

void h2_stream_on_data(struct h2_stream *s, const uint8_t *data, size_t len)
{
    char head[24];
    if (err_is(&s->link.err) || s->link.closed || s->reset || s->framing == H2_NO_BODY) {
        nghttp2_session_consume_stream(s->h->session, s->id, len);
        return;
    }
    if (s->framing == H2_CHUNKS)
        push_text(s, head, (size_t)snprintf(head, sizeof(head), "%zx\r\n", len));
    push_text(s, (const char *)data, len);
    if (s->framing == H2_CHUNKS)
        push_text(s, "\r\n", 2);
    s->unread += len;
    if (s->in.bytes > H2_IN_MAX && !s->crowded) {
        s->crowded = true;
        s->h->crowded++;
    }
}

// A client's exchange is over: the next request may come.
static void rest(struct h2_stream *s)
{
    if (s->id)
        nghttp2_session_set_stream_user_data(s->h->session, s->id, NULL);
    s->id = 0;
    s->unread = 0;
    s->answered = s->in_ended = s->in_body = s->body_whole = s->out_ended = s->end_gone = false;
    s->framing = H2_NO_BODY;
    bufq_clear(&s->out);
}

void h2_stream_on_end(struct h2_stream *s)
{
    if (s->framing == H2_CHUNKS && !s->in_ended)
        push_text(s, "0\r\n\r\n", 5);
    s->in_ended = true;
    if (is_client(s) && s->answered && s->framing != H2_RAW) {
        if (!s->out_ended)
            reset(s, NGHTTP2_CANCEL); // it has answered without waiting for all of the request
        rest(s);
    }
    link_wake(&s->link);
}

static void on_lost(struct h2_stream *s, uint32_t code)
{
    char text[96];
    bool refused = is_client(s) && !s->answered;
    snprintf(text, sizeof(text), "the %s %s (%s)", s->kind == H2_CONNECT ? "tunnel" : "stream", refused ? "was refused" : "was reset",
             nghttp2_http2_strerror(code));
    fail(s, refused ? ERR_UNREACHED : ERR_FAILED, refused ? WHY_REFUSED : WHY_ABORTED, text);
    if (refused && s->kind == H2_WEBSOCKET)
        err_advise(&s->link.err, ADVICE_NO_H2);
}

void h2_stream_on_close(struct h2_stream *s, uint32_t code)
{
    bool whole = s->in_ended && s->end_gone;
    if (s->h->server && s->framing != H2_RAW && s->end_gone && code == NGHTTP2_NO_ERROR)
        whole = true;
    s->id = 0;
    s->unread = 0;
    if (!whole)
        on_lost(s, code);
    link_wake(&s->link);
}

void h2_stream_fail(struct h2_stream *s, const struct err *e)
{
    s->id = 0;
    s->unread = 0;
    if (err_is(e))
        err_copy(&s->link.err, err_is(&s->link.err) ? &s->link.err : e);
    else if (s->framing == H2_RAW ? !s->in_ended || !s->end_gone : s->h->server && !s->end_gone)
        fail(s, ERR_FAILED, WHY_ABORTED, "the connection ended");
    s->in_ended = true;
    link_wake(&s->link);
}

// --- what goes

static void end_out(struct h2_stream *s)
{
    if (s->out_ended || !s->id)
        return;
    s->out_ended = true;
    nghttp2_session_resume_data(s->h->session, s->id);
    h2_kick(s->h);
}

static void put_out(struct h2_stream *s, struct buf *b)
{
    bufq_push(&s->out, b);
    nghttp2_session_resume_data(s->h->session, s->id);
    h2_kick(s->h);
}

static void take_body(struct h2_stream *s, const char *data, size_t len)
{
    while (len && !s->body_whole) {
        size_t from = 0, more = len, n = s->to_end ? len : http_skip_data(&s->body, data, len, &from, &more);
        for (size_t at = 0, m; at < more; at += m) {
            m = more - at < BUF_ROOM ? more - at : BUF_ROOM;
            put_out(s, buf_copy(&s->link.w->pool, data + from + at, m));
        }
        data += n;
        len -= n;
        if (s->to_end)
            continue;
        if (s->body.state == SKIP_OVER) {
            s->body_whole = true;
            end_out(s);
        } else if (s->body.state == SKIP_BAD) {
            fail(s, ERR_FAILED, WHY_INTERNAL, "a body with bad chunks");
            reset(s, NGHTTP2_INTERNAL_ERROR);
            return;
        }
    }
}

// False: the head contradicts itself.
static bool start_body(struct h2_stream *s, const struct http_head *head)
{
    int64_t length;
    bool chunked;
    if (!http_body(head, &length, &chunked))
        return false;
    s->to_end = !http_skip_start(&s->body, head);
    return true;
}

static void submit(struct h2_stream *s, const struct h2_fields *f, bool ends)
{
    s->in_body = true;
    s->body_whole = ends;
    if (h2_submit(s, f, ends) < 0)
        fail(s, ERR_UNREACHED, WHY_REFUSED, "no further stream is possible");
}

static bool note_key(struct h2_stream *s, const struct http_head *head)
{
    const struct http_text *key = http_get(head, "Sec-WebSocket-Key");
    if (!key || key->len >= sizeof(s->ws_key))
        return false;
    memcpy(s->ws_key, key->at, key->len);
    s->ws_key[key->len] = 0;
    return true;
}

// False: the head waits for the peer's SETTINGS.
static bool send_request(struct h2_stream *s, const struct http_head *head)
{
    struct h2_fields f;
    if (s->id || s->h->going || s->h->closing) {
        fail(s, ERR_UNREACHED, WHY_REFUSED, s->id ? "a request behind one that has no answer yet" : "the server takes no further requests");
        return true;
    }
    s->kind = h2_fields_of_request(&f, head, s->h->scheme);
    s->head_request = http_text_is(head->method, "HEAD");
    if (s->kind == H2_WEBSOCKET && !s->h->settled)
        return false;
    if (s->kind == H2_WEBSOCKET &&
        !nghttp2_session_get_remote_settings(s->h->session, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL)) {
        fail(s, ERR_UNREACHED, WHY_REFUSED, "the server does not offer WebSocket over HTTP/2");
        err_advise(&s->link.err, ADVICE_NO_H2);
        return true;
    }
    if (!start_body(s, head) || (s->kind == H2_WEBSOCKET && !note_key(s, head))) {
        fail(s, ERR_FAILED, WHY_INTERNAL, "a bad request");
        return true;
    }
    bool ends = s->kind == H2_PLAIN && (s->to_end || s->body.state == SKIP_OVER); // a request without length has no body
    s->to_end = s->kind != H2_PLAIN;
    submit(s, &f, ends);
    return true;
}

static void send_answer(struct h2_stream *s, const struct http_head *head)
{
    struct h2_fields f;
    bool tunnel = s->kind == H2_CONNECT && head->status >= 200 && head->status < 300;
    bool agreed = tunnel || head->status == 101;
    if (agreed ? s->kind == H2_PLAIN : !start_body(s, head)) {
        fail(s, ERR_FAILED, WHY_INTERNAL, "a bad answer");
        reset(s, NGHTTP2_INTERNAL_ERROR);
        return;
    }
    h2_fields_of_answer(&f, head, s->kind);
    if (head->status < 200 && !agreed) {
        h2_submit_interim(s, &f);
        return;
    }
    if (agreed)
        s->to_end = true;
    s->answered = true;
    submit(s, &f, !agreed && (s->head_request || head->status == 204 || head->status == 304 || (!s->to_end && s->body.state == SKIP_OVER)));
}

// Looks at what was collected. False: there is not a whole head, or it has to wait.
static bool take_head(struct h2_stream *s)
{
    struct http_head head;
    const char *why;
    size_t used;
    switch (http_parse(&head, is_client(s), s->head, s->head_len, &used, &why)) {
    case HTTP_MORE:
        if (s->head_len < HTTP_HEAD_MAX)
            return false;
        why = "a head that is too long";
        // fall through
    case HTTP_BAD:
        fail(s, ERR_FAILED, WHY_INTERNAL, why);
        reset(s, NGHTTP2_INTERNAL_ERROR);
        return false;
    case HTTP_OK:
        break;
    }
    if (!is_client(s)) {
        send_answer(s, &head);
    } else if (!send_request(s, &head)) {
        s->held = true;
        return false;
    }
    s->head_len -= used;
    memmove(s->head, s->head + used, s->head_len);
    return !err_is(&s->link.err);
}

static void take_heads(struct h2_stream *s)
{
    while (!s->in_body && s->head_len && take_head(s))
        ;
    if (!s->in_body)
        return;
    if (s->head_len)
        take_body(s, s->head, s->head_len);
    s->head_len = 0;
    free(s->head);
    s->head = NULL;
}

static void collect(struct h2_stream *s, const char *data, size_t len)
{
    while (len && !s->in_body && !s->held && !err_is(&s->link.err)) {
        if (!s->head && !(s->head = malloc(HTTP_HEAD_MAX)))
            abort();
        size_t n = HTTP_HEAD_MAX - s->head_len < len ? HTTP_HEAD_MAX - s->head_len : len;
        memcpy(s->head + s->head_len, data, n);
        s->head_len += n;
        data += n;
        len -= n;
        take_heads(s);
    }
    if (len && s->in_body)
        take_body(s, data, len);
}

void h2_stream_on_settings(struct h2_stream *s)
{
    if (!s->held)
        return;
    s->held = false;
    take_heads(s);
}

// --- the six operations

static enum link_status stream_open(struct link *l)
{
    struct h2_stream *s = of(l);
    if (err_is(&l->err))
        return LINK_FAILED;
    return s->h && s->h->opened ? LINK_OK : LINK_AGAIN;
}

static void note_read(struct h2_stream *s, size_t n)
{
    if (s->crowded && s->in.bytes <= H2_IN_MAX / 2 && s->h) {
        s->crowded = false;
        s->h->crowded--;
        h2_kick(s->h);
    }
    if (!s->h || !s->id || !s->unread)
        return;
    n = n < s->unread && !bufq_empty(&s->in) ? n : s->unread;
    s->unread -= n;
    s->since += n;
    nghttp2_session_consume_stream(s->h->session, s->id, n);
    if (s->since >= s->window && s->window < H2_WINDOW_MAX) {
        s->since = 0;
        s->window *= 2;
        nghttp2_session_set_local_window_size(s->h->session, NGHTTP2_FLAG_NONE, s->id, (int32_t)s->window);
    }
    h2_kick(s->h);
}

static enum link_status stream_recv(struct link *l, struct buf **out)
{
    struct h2_stream *s = of(l);
    if ((*out = bufq_pop(&s->in))) {
        note_read(s, (*out)->len);
        return LINK_OK;
    }
    if (err_is(&l->err))
        return LINK_FAILED;
    if (!s->h)
        return LINK_END;
    // A server's child lasts until its answer has gone, a client's as long as the connection.
    bool over = s->framing == H2_RAW || s->h->ended || (s->h->server && (s->end_gone || !s->id));
    return s->in_ended && over ? LINK_END : LINK_AGAIN;
}

static void stream_send(struct link *l, struct buf *b)
{
    struct h2_stream *s = of(l);
    if (!err_is(&l->err) && s->h && !s->h->ended && !s->shut && b->len) {
        if (s->in_body && s->to_end && s->id) {
            put_out(s, b);
            return;
        }
        collect(s, (const char *)buf_data(b), b->len);
    }
    buf_put(b);
}

static size_t stream_room(struct link *l)
{
    struct h2_stream *s = of(l);
    size_t room = s->out.bytes < H2_OUT_MAX ? H2_OUT_MAX - s->out.bytes : 0;
    if (err_is(&l->err) || !s->h || s->h->ended)
        return BUF_SIZE;
    if (s->shut)
        room = !s->id || s->end_gone ? link_room(s->h->below) : 0;
    s->room_owed = room == 0;
    s->h->room_owed |= s->room_owed && s->shut;
    return room;
}

void h2_stream_on_sent(struct h2_stream *s)
{
    bool news = s->room_owed && (s->shut ? s->end_gone : s->out.bytes <= H2_OUT_MAX / 2);
    if (!news && !(s->end_gone && s->in_ended))
        return;
    s->room_owed = false;
    link_wake(&s->link);
}

static void stream_shut(struct link *l, enum link_shut how)
{
    struct h2_stream *s = of(l);
    if (how == SHUT_ABORT) {
        link_fail(l, ERR_FAILED, WHY_ABORTED, "aborted");
        reset(s, NGHTTP2_CANCEL);
        bufq_clear(&s->out);
        return;
    }
    if (s->shut || !s->h || err_is(&l->err))
        return;
    s->shut = true;
    if (s->in_body && s->to_end)
        end_out(s);
    else if (s->id && !s->out_ended)
        reset(s, s->h->server ? NGHTTP2_INTERNAL_ERROR : NGHTTP2_CANCEL);
}

static void stream_fini(struct link *l)
{
    struct h2_stream *s = of(l);
    h2_detach(s);
    h2_taken_fini(&s->taken);
    bufq_clear(&s->in);
    bufq_clear(&s->out);
    free(s->head);
    free(l->facts);
    free(s);
}

static const struct link_ops stream_ops = {
    .name = "h2",
    .open = stream_open,
    .recv = stream_recv,
    .send = stream_send,
    .room = stream_room,
    .shut = stream_shut,
    .fini = stream_fini,
};

struct h2_stream *h2_stream_new(struct h2 *h)
{
    struct h2_stream *s = calloc(1, sizeof(*s));
    if (!s)
        abort();
    link_init(&s->link, &stream_ops, h->w, NULL);
    s->h = h;
    s->window = H2_WINDOW;
    if (h->below->facts) {
        if (!(s->link.facts = malloc(sizeof(*s->link.facts))))
            abort();
        *s->link.facts = *h->below->facts;
    }
    list_init(&s->fresh);
    list_push(&h->streams, &s->node);
    h->children++;
    return s;
}

struct link *h2_stream_over(struct h2 *h)
{
    struct h2_stream *s = h2_stream_new(h);
    if (h->ended)
        h2_stream_fail(s, &h->err);
    return &s->link;
}

static void widen(struct h2_stream *s)
{
    if (!s->id || s->h->ended || s->window >= H2_WINDOW_WIDE)
        return;
    s->window = H2_WINDOW_WIDE;
    nghttp2_session_set_local_window_size(s->h->session, NGHTTP2_FLAG_NONE, s->id, H2_WINDOW_WIDE);
    h2_kick(s->h);
}

void h2_widen(struct link *top)
{
    while (top->below)
        top = top->below;
    struct h2_stream *s = container_of(top, struct h2_stream, link);
    if (top->ops != &stream_ops || !s->h)
        return;
    widen(s);
    h2_widen(s->h->below);
}

const struct link *h2_below(const struct link *top, size_t *queued)
{
    while (top->below)
        top = top->below;
    const struct h2_stream *s = container_of(top, struct h2_stream, link);
    if (top->ops != &stream_ops || !s->h)
        return NULL;
    *queued = s->out.bytes;
    return s->h->below;
}
