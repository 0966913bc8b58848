// SPDX-License-Identifier: Apache-2.0
// What the hub (h2.c) and its children (h2_stream.c) know of each other. Nobody else includes it.
#pragma once
#include <nghttp2/nghttp2.h>
#include "link/h2.h"
#include "wire/h2_head.h"
#include "wire/skip.h"

struct h2 {
    struct list node; // among its owner's hubs
    struct worker *w;
    struct link *below; // owned
    nghttp2_session *session;
    bool server, opened;
    bool settled;   // client: SETTINGS are in; server: ours are acknowledged
    bool going;     // GOAWAY was sent or received: no further streams
    bool ended;     // the connection is over: nothing is read or written any more
    bool closing;   // our last bytes are on their way,
    bool shut;      // and have been passed on
    char *who, *key;
    const char *scheme;
    const struct h2_ops *ops;
    void *owner;
    struct wake wake;
    struct timer settle, idle;
    struct list streams; // all children
    struct list fresh;   // streams whose request has come and that nobody has got yet
    unsigned children;
    unsigned crowded; // of them, those with H2_IN_MAX unread
    bool room_owed;      // to a child that has sent its end
    struct buf *out;     // being gathered for the link below
    int32_t last_id;     // server: highest stream id seen
    unsigned idle_frames;
    uint64_t idle_since_ms;
    struct err err;
    struct grave grave;
};

struct h2_stream {
    struct link link;
    struct h2 *h;     // NULL: it is gone
    struct list node; // in h->streams
    struct list fresh;
    int32_t id;       // 0: none now
    bool asked;       // server: the request's head is in
    enum h2_kind kind;
    bool head_request; // HEAD: its answer has no body
    struct h2_taken taken; // fields that are coming
    bool taken_over;       // they are too many
    bool answered;         // client: the final head is in; server: out

    // what came: text for the owner
    struct bufq in;
    enum h2_framing framing; // of the body that is written into `in`
    size_t unread;           // bytes of DATA that are in `in`
    size_t window, since;    // the stream's window; bytes read since it was last raised
    bool crowded;            // counted in the hub
    bool in_ended;           // END_STREAM has come
    bool reset;              // the stream was reset

    // what goes: text of the owner
    char *head;       // being collected: HTTP_HEAD_MAX bytes
    size_t head_len;
    bool held;        // client: the request is whole and waits for the peer's SETTINGS
    bool in_body;     // behind a head
    bool body_whole;  // the body's end was in it
    bool to_end;      // the body has no end of its own: all that is sent belongs to it
    char ws_key[25];
    struct http_skip body;
    struct bufq out;  // content for DATA frames
    bool out_ended;   // END_STREAM goes behind `out`
    bool end_gone;    // it has gone
    bool room_owed;
    bool shut;        // SHUT_END by the owner
    char *place;      // "WebSocket …" for messages
};

// h2.c
void h2_kick(struct h2 *h); // something is to be sent
int h2_submit(struct h2_stream *s, const struct h2_fields *f, bool ends); // a request, or the final answer
int h2_submit_interim(struct h2_stream *s, const struct h2_fields *f);
void h2_detach(struct h2_stream *s); // the child is being freed
// h2_stream.c
struct h2_stream *h2_stream_new(struct h2 *h);
void h2_stream_on_settings(struct h2_stream *s);
void h2_stream_on_head(struct h2_stream *s, bool ends);  // `taken` is whole
void h2_stream_on_data(struct h2_stream *s, const uint8_t *data, size_t len);
void h2_stream_on_end(struct h2_stream *s);              // END_STREAM has come
void h2_stream_on_close(struct h2_stream *s, uint32_t code);
void h2_stream_on_sent(struct h2_stream *s);             // bytes of `out` have gone
void h2_stream_fail(struct h2_stream *s, const struct err *e); // the hub is over
