// SPDX-License-Identifier: Apache-2.0
// The hub. All work is done in its wake: reading, handing new requests over, writing. nghttp2 never calls the owner of a child; its callbacks
// only change state and post wakes. Frames are gathered into whole buffers for the link below, which is asked for room first.
#include "link/h2.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "link/h2_inside.h"

#define FRAME_HEAD 9
#define FRAME_MAX (BUF_ROOM - FRAME_HEAD) // content of a DATA frame: with its head it fills a buffer
#define READS_PER_WAKE 8 // as many as a carrier: they take turns
#define OUTBOUND_MAX 1000 // frames that wait to be sent: more, and nothing more is read that could cause answers
#define RESETS_BURST 100  // streams that a client may reset at once, and then a second (CVE-2023-44487)
#define RESETS_RATE 10
#define CONTINUATIONS_MAX 8 // CVE-2024-28182
#define SETTINGS_MAX 32     // entries of one frame
#define ACKS_MAX 1000       // acknowledgements of PING and SETTINGS that wait

// --- ends

static void bury(struct grave *g)
{
    struct h2 *h = container_of(g, struct h2, grave);
    nghttp2_session_del(h->session);
    buf_put(h->out);
    err_fini(&h->err);
    free(h->who);
    free(h->key);
    free(h);
}

static struct h2_stream *stream_at(struct list *node) { return list_entry(node, struct h2_stream, node); }

// Requests that nobody has got.
static void drop_fresh(struct h2 *h)
{
    struct list *n;
    while ((n = list_pop(&h->fresh)))
        link_close(&list_entry(n, struct h2_stream, fresh)->link);
}

static void dispose(struct h2 *h)
{
    timer_stop(h->w, &h->settle);
    timer_stop(h->w, &h->idle);
    wake_cancel(&h->wake);
    list_del(&h->node);
    drop_fresh(h);
    list_each(&h->streams, it)
    {
        struct h2_stream *s = stream_at(it);
        list_del(&s->node);
        h2_stream_fail(s, &h->err);
        s->h = NULL;
    }
    link_close(h->below);
    h->below = NULL;
    worker_bury(h->w, &h->grave, bury);
}

void h2_free(struct h2 *h)
{
    if (!err_is(&h->err))
        err_set(&h->err, ERR_FAILED, WHY_ABORTED, "HTTP/2 with %s: given up", h->who);
    dispose(h);
}

void h2_free_all(struct list *hubs)
{
    list_each(hubs, it) h2_free(list_entry(it, struct h2, node));
}

// Nothing more comes or goes. Children are told; the hub stays until they are gone.
static void finish(struct h2 *h)
{
    if (h->ended)
        return;
    h->ended = h->going = true;
    timer_stop(h->w, &h->settle);
    timer_stop(h->w, &h->idle);
    list_each(&h->streams, it) h2_stream_fail(stream_at(it), &h->err);
    drop_fresh(h);
    if (err_is(&h->err) || !h->shut)
        link_shut(h->below, err_is(&h->err) ? SHUT_ABORT : SHUT_END);
    wake_post(h->w, &h->wake);
}

static void fail(struct h2 *h, enum err_kind kind, enum err_why why, const char *text)
{
    if (!err_is(&h->err))
        err_set(&h->err, kind, why, "HTTP/2 with %s: %s", h->who, text);
}

// Says GOAWAY, then ends the connection in order, in H2_LINGER_MS at the latest.
static void begin_close(struct h2 *h, uint32_t code)
{
    if (h->closing || h->ended)
        return;
    h->closing = h->going = true;
    timer_stop(h->w, &h->settle);
    timer_set(h->w, &h->idle, H2_LINGER_MS);
    nghttp2_session_terminate_session(h->session, code);
    list_each(&h->streams, it) h2_stream_fail(stream_at(it), &h->err);
    h2_kick(h);
}

static void on_settle(struct timer *t)
{
    struct h2 *h = container_of(t, struct h2, settle);
    fail(h, ERR_UNREACHED, WHY_TIMEOUT, h->server ? "no preface and SETTINGS in time" : "the server sent no SETTINGS in time");
    begin_close(h, NGHTTP2_SETTINGS_TIMEOUT);
}

static void on_idle(struct timer *t)
{
    struct h2 *h = container_of(t, struct h2, idle);
    if (h->closing)
        finish(h);
    else
        begin_close(h, NGHTTP2_NO_ERROR);
}

// --- writing

static void push_out(struct h2 *h)
{
    struct buf *b = h->out;
    h->out = NULL;
    if (b)
        link_send(h->below, b);
}

static void gather(struct h2 *h, const uint8_t *data, size_t len)
{
    while (len) {
        if (!h->out)
            h->out = buf_get(&h->w->pool);
        size_t n = buf_append(h->out, data, len);
        data += n;
        len -= n;
        if (buf_tailroom(h->out) == 0)
            push_out(h);
    }
}

static ssize_t on_send(nghttp2_session *session, const uint8_t *data, size_t len, int flags, void *ctx)
{
    struct h2 *h = ctx;
    if (link_room(h->below) == 0)
        return NGHTTP2_ERR_WOULDBLOCK;
    gather(h, data, len);
    return (ssize_t)len;
}

static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t len,
                        nghttp2_data_source *source, void *ctx)
{
    struct h2 *h = ctx;
    struct h2_stream *s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (!s || s->out.bytes < len) // it was given up since the frame was begun
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (link_room(h->below) == 0)
        return NGHTTP2_ERR_WOULDBLOCK;
    if (h->out && buf_tailroom(h->out) < FRAME_HEAD + len)
        push_out(h);
    gather(h, head, FRAME_HEAD);
    while (len) {
        struct buf *b = s->out.head;
        size_t n = b->len < len ? b->len : len;
        gather(h, buf_data(b), n);
        bufq_drop(&s->out, n);
        len -= n;
    }
    s->end_gone = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    h2_stream_on_sent(s);
    return 0;
}

static ssize_t on_read_length(nghttp2_session *session, uint8_t type, int32_t id, int32_t connection_window,
                              int32_t stream_window, uint32_t frame_max, void *ctx)
{
    int32_t n = connection_window < stream_window ? connection_window : stream_window;
    n = n < (int32_t)frame_max ? n : (int32_t)frame_max;
    return n < FRAME_MAX ? n : FRAME_MAX;
}

static ssize_t on_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len, uint32_t *flags,
                       nghttp2_data_source *source, void *ctx)
{
    struct h2_stream *s = nghttp2_session_get_stream_user_data(session, id);
    if (!s)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (s->out.bytes == 0 && !s->out_ended)
        return NGHTTP2_ERR_DEFERRED;
    size_t n = s->out.bytes < len ? s->out.bytes : len;
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (s->out_ended && n == s->out.bytes)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

static size_t make_nv(nghttp2_nv *nv, const struct h2_fields *f)
{
    for (size_t i = 0; i < f->count; i++) {
        const struct h2_field *at = &f->at[i];
        nv[i] = (nghttp2_nv){(uint8_t *)at->name.at, (uint8_t *)at->value.at, at->name.len, at->value.len,
                             at->secret ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE};
    }
    return f->count;
}

int h2_submit(struct h2_stream *s, const struct h2_fields *f, bool ends)
{
    nghttp2_nv nv[H2_FIELDS_MAX];
    size_t n = make_nv(nv, f);
    nghttp2_data_provider content = {.read_callback = on_read};
    int rc;
    if (s->h->server) {
        rc = nghttp2_submit_response(s->h->session, s->id, nv, n, ends ? NULL : &content);
    } else {
        rc = nghttp2_submit_request(s->h->session, NULL, nv, n, ends ? NULL : &content, s);
        if (rc > 0)
            s->id = rc;
    }
    s->out_ended = ends;
    h2_kick(s->h);
    return rc < 0 ? -1 : 0;
}

int h2_submit_interim(struct h2_stream *s, const struct h2_fields *f)
{
    nghttp2_nv nv[H2_FIELDS_MAX];
    size_t n = make_nv(nv, f);
    h2_kick(s->h);
    return nghttp2_submit_headers(s->h->session, NGHTTP2_FLAG_NONE, s->id, NULL, nv, n, NULL) < 0 ? -1 : 0;
}

void h2_kick(struct h2 *h)
{
    if (!h->ended)
        wake_post(h->w, &h->wake);
}

static void flush(struct h2 *h)
{
    if (nghttp2_session_send(h->session) != 0) {
        fail(h, ERR_FAILED, WHY_INTERNAL, "cannot send");
        finish(h);
        return;
    }
    push_out(h);
}

// --- what nghttp2 tells

static struct h2_stream *stream_of(struct h2 *h, int32_t id)
{
    return id > 0 ? nghttp2_session_get_stream_user_data(h->session, id) : NULL;
}

// RFC 9113 section 5.1.1: ids only rise. nghttp2 ignores those below the last one, to be lenient with trailers of streams that it has
// forgotten; it keeps as many as may be open at once.
static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *ctx)
{
    struct h2 *h = ctx;
    if (hd->type != NGHTTP2_HEADERS || !h->server)
        return 0;
    if (hd->stream_id > h->last_id) {
        h->last_id = hd->stream_id;
    } else if (!nghttp2_session_find_stream(session, hd->stream_id)) {
        fail(h, ERR_FAILED, WHY_PROTOCOL, "a stream id lower than the one before");
        begin_close(h, NGHTTP2_PROTOCOL_ERROR);
    }
    return 0;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
    struct h2 *h = ctx;
    struct h2_stream *s = stream_of(h, frame->hd.stream_id);
    if (h->server && frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        s = h2_stream_new(h);
        s->id = frame->hd.stream_id;
        nghttp2_session_set_stream_user_data(session, s->id, s);
        list_push(&h->fresh, &s->fresh); // its own until it is handed over
    }
    if (s)
        h2_taken_fini(&s->taken);
    return 0;
}

static bool is_trailer(const struct h2 *h, const struct h2_stream *s, const nghttp2_frame *frame)
{
    return h->server ? frame->headers.cat != NGHTTP2_HCAT_REQUEST : s->answered;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags, void *ctx)
{
    struct h2 *h = ctx;
    struct h2_stream *s = stream_of(h, frame->hd.stream_id);
    if (!s || s->taken_over || frame->hd.type != NGHTTP2_HEADERS || is_trailer(h, s, frame))
        return 0;
    if (!h2_take(&s->taken, (const char *)name, name_len, (const char *)value, value_len))
        s->taken_over = true;
    return 0;
}

static int on_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t len, void *ctx)
{
    struct h2 *h = ctx;
    struct h2_stream *s = stream_of(h, id);
    nghttp2_session_consume_connection(session, len); // a child that waits must not hold up the others
    if (s)
        h2_stream_on_data(s, data, len);
    else
        nghttp2_session_consume_stream(session, id, len);
    return 0;
}

// True: a frame that costs its sender nothing and moves nothing.
static bool is_idle_frame(const nghttp2_frame *f)
{
    return f->hd.type == NGHTTP2_PRIORITY || f->hd.type == NGHTTP2_PING || f->hd.type == NGHTTP2_SETTINGS ||
           (f->hd.type == NGHTTP2_DATA && f->hd.length == 0 && !(f->hd.flags & NGHTTP2_FLAG_END_STREAM));
}

static void count_idle(struct h2 *h)
{
    if (h->w->now_ms - h->idle_since_ms > H2_IDLE_FRAMES_MS) {
        h->idle_since_ms = h->w->now_ms;
        h->idle_frames = 0;
    }
    if (++h->idle_frames > H2_IDLE_FRAMES) {
        fail(h, ERR_FAILED, WHY_PROTOCOL, "too many frames without content");
        begin_close(h, NGHTTP2_ENHANCE_YOUR_CALM);
    }
}

static void on_settings(struct h2 *h, bool ack)
{
    if (h->server != ack)
        return;
    h->settled = true;
    if (!h->closing)
        timer_stop(h->w, &h->settle);
    list_each(&h->streams, it) h2_stream_on_settings(stream_at(it));
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
    struct h2 *h = ctx;
    struct h2_stream *s = stream_of(h, frame->hd.stream_id);
    bool ends = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    if (h->server && is_idle_frame(frame))
        count_idle(h);
    switch (frame->hd.type) {
    case NGHTTP2_SETTINGS:
        on_settings(h, frame->hd.flags & NGHTTP2_FLAG_ACK);
        break;
    case NGHTTP2_GOAWAY:
        h->going = true;
        break;
    case NGHTTP2_HEADERS:
        if (s && !is_trailer(h, s, frame))
            h2_stream_on_head(s, ends);
        if (s && ends)
            h2_stream_on_end(s);
        break;
    case NGHTTP2_DATA:
        if (s && ends)
            h2_stream_on_end(s);
        break;
    default:
        break;
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *ctx)
{
    struct h2_stream *s = stream_of(ctx, id);
    if (s)
        h2_stream_on_close(s, code);
    return 0;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
    struct h2_stream *s = frame->hd.type == NGHTTP2_HEADERS ? stream_of(ctx, frame->hd.stream_id) : NULL;
    if (!s || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    s->end_gone = true;
    h2_stream_on_sent(s);
    return 0;
}

static int on_frame_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int code, void *ctx)
{
    struct h2_stream *s = frame->hd.type == NGHTTP2_HEADERS ? stream_of(ctx, frame->hd.stream_id) : NULL;
    if (s)
        h2_stream_on_close(s, NGHTTP2_REFUSED_STREAM);
    return 0;
}

// --- reading

static void feed(struct h2 *h, struct buf *b)
{
    ssize_t n = nghttp2_session_mem_recv(h->session, buf_data(b), b->len);
    buf_put(b);
    if (n >= 0)
        return;
    fail(h, ERR_FAILED, WHY_PROTOCOL, n == NGHTTP2_ERR_BAD_CLIENT_MAGIC ? "the peer does not speak HTTP/2" : nghttp2_strerror((int)n));
    begin_close(h, n == NGHTTP2_ERR_FLOODED ? NGHTTP2_ENHANCE_YOUR_CALM : NGHTTP2_PROTOCOL_ERROR);
}

static void end_of_read(struct h2 *h, enum link_status s)
{
    if (s == LINK_FAILED && !err_is(&h->err))
        err_copy(&h->err, &h->below->err);
    finish(h);
}

static void receive(struct h2 *h)
{
    for (int i = 0; i < READS_PER_WAKE; i++) {
        struct buf *b;
        if (h->crowded && !h->closing)
            return; // who reads there goes on
        if (!h->closing && nghttp2_session_get_outbound_queue_size(h->session) > OUTBOUND_MAX && link_room(h->below) == 0)
            return;
        enum link_status s = link_recv(h->below, &b);
        if (s == LINK_AGAIN)
            return;
        if (s != LINK_OK) {
            end_of_read(h, s);
            return;
        }
        if (h->closing) // only its end is waited for
            buf_put(b);
        else
            feed(h, b);
    }
    wake_post(h->w, &h->wake);
}

static void hand_over(struct h2 *h)
{
    list_each(&h->fresh, it)
    {
        struct h2_stream *s = list_entry(it, struct h2_stream, fresh);
        bool gone = !s->id || s->reset; // it was reset, or answered here
        if (gone ? s->id && !s->end_gone : !s->asked)
            continue;
        list_del(&s->fresh);
        if (!gone && h->ops->on_stream(h, &s->link))
            continue;
        if (!gone)
            nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_REFUSED_STREAM);
        link_close(&s->link);
    }
}

// --- the wake

static enum link_status fail_alpn(struct h2 *h)
{
    const char *alpn = h->below->facts->alpn;
    err_set(&h->err, ERR_UNREACHED, WHY_PROTOCOL, "HTTP/2 with %s: it speaks %s only", h->who, alpn[0] ? alpn : "HTTP/1.1");
    err_advise(&h->err, ADVICE_NO_H2);
    return LINK_FAILED;
}

static enum link_status open_below(struct h2 *h)
{
    enum link_status s = link_open(h->below);
    const struct link_facts *f = h->below->facts;
    if (s == LINK_FAILED)
        err_copy(&h->err, &h->below->err);
    if (s == LINK_OK && !h->server && f && f->tls_version[0] && strcmp(f->alpn, "h2") != 0)
        s = fail_alpn(h);
    if (s != LINK_OK)
        return s;
    h->opened = true;
    timer_set(h->w, &h->settle, H2_SETTLE_MS);
    list_each(&h->streams, it)
    {
        struct h2_stream *stream = stream_at(it);
        if (f && stream->link.facts)
            *stream->link.facts = *f;
        link_wake(&stream->link);
    }
    return LINK_OK;
}

static void over(struct h2 *h)
{
    if (h->server)
        h->ops->on_over(h, &h->err);
    dispose(h);
}

static void settle_down(struct h2 *h)
{
    bool wants = nghttp2_session_want_read(h->session) || nghttp2_session_want_write(h->session);
    if (!wants || (!h->server && h->children == 0))
        begin_close(h, NGHTTP2_NO_ERROR);
    if (h->closing) {
        if (!h->shut && !nghttp2_session_want_write(h->session) && !h->out) {
            h->shut = true;
            link_shut(h->below, SHUT_END);
        }
    } else if (h->children > 0) {
        timer_stop(h->w, &h->idle);
    } else if (!timer_is_set(&h->idle)) {
        timer_set(h->w, &h->idle, H2_IDLE_MS);
    }
}

// Children that have sent their end wait for the link below, whose wake comes here.
static void pay_room(struct h2 *h)
{
    h->room_owed = false;
    list_each(&h->streams, it) h2_stream_on_sent(stream_at(it));
}

static void on_wake(struct wake *wake)
{
    struct h2 *h = container_of(wake, struct h2, wake);
    if (!h->opened && !h->ended) {
        enum link_status s = open_below(h);
        if (s == LINK_FAILED)
            finish(h);
        else if (s == LINK_AGAIN && h->children > 0)
            return;
        else if (s == LINK_AGAIN)
            finish(h);
    }
    if (!h->ended)
        receive(h);
    if (!h->ended && h->server)
        hand_over(h);
    if (!h->ended)
        flush(h);
    if (h->room_owed)
        pay_room(h);
    if (!h->ended)
        settle_down(h);
    if (h->ended && h->children == 0)
        over(h);
}

// --- making

static void set_options(nghttp2_option *o)
{
    nghttp2_option_set_no_auto_window_update(o, 1);
    nghttp2_option_set_stream_reset_rate_limit(o, RESETS_BURST, RESETS_RATE);
    nghttp2_option_set_max_continuations(o, CONTINUATIONS_MAX);
    nghttp2_option_set_max_settings(o, SETTINGS_MAX);
    nghttp2_option_set_max_outbound_ack(o, ACKS_MAX);
}

static void set_callbacks(nghttp2_session_callbacks *c)
{
    nghttp2_session_callbacks_set_send_callback(c, on_send);
    nghttp2_session_callbacks_set_send_data_callback(c, on_send_data);
    nghttp2_session_callbacks_set_data_source_read_length_callback(c, on_read_length);
    nghttp2_session_callbacks_set_on_begin_frame_callback(c, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(c, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(c, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, on_chunk);
    nghttp2_session_callbacks_set_on_frame_recv_callback(c, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(c, on_frame_sent);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(c, on_frame_not_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(c, on_stream_close);
}

static void submit_settings(struct h2 *h)
{
    const nghttp2_settings_entry entries[] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, H2_LIST_MAX},
        {h->server ? NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS : NGHTTP2_SETTINGS_ENABLE_PUSH, h->server ? H2_STREAMS_MAX : 0},
        {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1}, // the server's to say
    };
    size_t count = sizeof(entries) / sizeof(entries[0]) - !h->server;
    if (nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, entries, count) != 0 ||
        nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, H2_CONNECTION_WINDOW) != 0)
        abort();
}

static void make_session(struct h2 *h)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *options;
    if (nghttp2_session_callbacks_new(&callbacks) != 0 || nghttp2_option_new(&options) != 0)
        abort();
    set_callbacks(callbacks);
    set_options(options);
    if ((h->server ? nghttp2_session_server_new2(&h->session, callbacks, h, options)
                   : nghttp2_session_client_new2(&h->session, callbacks, h, options)) != 0)
        abort();
    nghttp2_option_del(options);
    nghttp2_session_callbacks_del(callbacks);
}

static struct h2 *make(struct link *below, const struct h2_options *o, struct list *hubs, bool server)
{
    struct h2 *h = calloc(1, sizeof(*h));
    if (!h || !(h->who = strdup(o->who)) || (o->key && !(h->key = strdup(o->key))))
        abort();
    h->w = below->w;
    h->below = below;
    h->server = server;
    h->scheme = o->scheme;
    h->ops = o->ops;
    h->owner = o->owner;
    list_init(&h->streams);
    list_init(&h->fresh);
    list_init(&h->grave.node);
    list_push(hubs, &h->node);
    wake_init(&h->wake, on_wake);
    timer_init(&h->settle, on_settle);
    timer_init(&h->idle, on_idle);
    make_session(h);
    submit_settings(h);
    link_own(below, &h->wake);
    wake_post(h->w, &h->wake);
    return h;
}

struct h2 *h2_client_over(struct link *below, const struct h2_options *o, struct list *hubs)
{
    return make(below, o, hubs, false);
}

struct h2 *h2_server_over(struct link *below, const struct h2_options *o, struct list *hubs, struct buf *rest)
{
    struct h2 *h = make(below, o, hubs, true);
    if (rest)
        feed(h, rest);
    return h;
}

void *h2_owner(const struct h2 *h) { return h->owner; }

void h2_drain(struct h2 *h)
{
    if (h->going || h->ended)
        return;
    h->going = true;
    nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(h->session),
                          NGHTTP2_NO_ERROR, NULL, 0);
    h2_kick(h);
}

void h2_detach(struct h2_stream *s)
{
    struct h2 *h = s->h;
    if (!h)
        return;
    if (s->id && !h->ended) {
        nghttp2_session_set_stream_user_data(h->session, s->id, NULL);
        nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, s->id,
                                  h->server && s->end_gone ? NGHTTP2_NO_ERROR : NGHTTP2_CANCEL);
    }
    list_del(&s->node);
    list_del(&s->fresh);
    h->children--;
    h->crowded -= s->crowded;
    wake_post(h->w, &h->wake); // it may have been the last one
}

struct h2 *h2_find(struct list *hubs, const char *key)
{
    list_each(hubs, it)
    {
        struct h2 *h = list_entry(it, struct h2, node);
        uint32_t most = nghttp2_session_get_remote_settings(h->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
        if (h->key && strcmp(h->key, key) == 0 && h->settled && !h->going && !h->closing && !h->ended && h->children < most)
            return h;
    }
    return NULL;
}
