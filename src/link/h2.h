// SPDX-License-Identifier: Apache-2.0
// HTTP/2 (RFC 9113) over a link, by nghttp2: a *hub* that owns the link below, and its children, each a link that speaks HTTP/1.1
// to whoever is above, so that nobody there knows of HTTP/2. A client's child takes requests one after the other, each a new
// stream of the shared connection, and gives their answers; a server's child is one request and takes its answer. CONNECT, and an
// upgrade to WebSocket (RFC 8441), make a tunnel of it: their ends are END_STREAM, their aborts RST_STREAM.
//
// Ownership: the hub owns the link below, also when that fails. Children are owned like any link and hold the hub: when the last
// one is gone a client's hub says GOAWAY, ends and frees itself. Its owner may free it before (h2_free): children then fail. All
// hubs are in a list of their owner. What a child has taken and not sent is bounded by H2_OUT_MAX, what came for it by its window,
// which starts at H2_WINDOW and grows as its owner reads; the connection's window is apart from it, and never held up by a child.
// A carrier, whose owner reads whatever happens, gets so wide a window that it is never used up (h2_widen): some proxies read no
// WINDOW_UPDATE behind DATA that they cannot pass on, and hang for ever when both directions wait for one.
#pragma once
#include "core/list.h"
#include "link/link.h"

#define H2_OUT_MAX (64 * 1024)              // bytes a child takes before its room is 0
#define H2_WINDOW 65536                     // of a stream, at first; doubled
#define H2_WINDOW_MAX (1024 * 1024)         // each time as much was read, up to this
#define H2_WINDOW_WIDE (64 * 1024 * 1024)   // of a carrier;
#define H2_IN_MAX (1024 * 1024)             // from here on the connection waits for it
#define H2_CONNECTION_WINDOW (128 * 1024 * 1024)
#define H2_STREAMS_MAX 100                  // at once, of a client
#define H2_SETTLE_MS 10000                  // for the peer's preface and the acknowledgement of our SETTINGS
#define H2_IDLE_MS 10000                    // a client's connection without a stream
#define H2_LINGER_MS 3000                   // for GOAWAY and what was sent last to leave
#define H2_IDLE_FRAMES 1000                 // PING, PRIORITY, empty DATA … a client may send in
#define H2_IDLE_FRAMES_MS 10000

struct h2;

struct h2_ops { // of a server's hub
    // A request has come: `l` is its link, owned by the callee; its facts are a copy of the connection's. False: it is not
    // wanted (the link is the hub's again), and the client may try it elsewhere.
    bool (*on_stream)(struct h2 *h, struct link *l);
    // The connection is over and has no child any more; the hub frees itself after this. err: why, may be empty.
    void (*on_over)(struct h2 *h, const struct err *err);
};

struct h2_options {
    const char *who;    // "relay.example:443", for messages; copied
    const char *scheme; // client: "https" or "http"; static
    const char *key;    // client: for h2_find; copied, may be NULL
    const struct h2_ops *ops; // server
    void *owner;
};

// The link below need not be open yet, and if it is TLS must have agreed on "h2": an outer one's facts are looked at.
// `hubs`: where the hub is listed until it is gone.
struct h2 *h2_client_over(struct link *below, const struct h2_options *o, struct list *hubs);
// `below` is open; `rest`: bytes read too far (may be NULL), owned.
struct h2 *h2_server_over(struct link *below, const struct h2_options *o, struct list *hubs, struct buf *rest);
void *h2_owner(const struct h2 *h);
void h2_drain(struct h2 *h);         // server: GOAWAY; streams that are open live on
void h2_free(struct h2 *h);          // at once; children that are left fail. Without on_over
void h2_free_all(struct list *hubs); // the same with all of them

// Client: another connection over the hub, in which requests can be made.
struct link *h2_stream_over(struct h2 *h);
// The hub of that key that takes further streams, or NULL.
struct h2 *h2_find(struct list *hubs, const char *key);
// The stack under `top` is a carrier's, where it is over HTTP/2.
void h2_widen(struct link *top);
// The link under the hub whose child is the base of this chain, *queued being what the child has not passed on to it; NULL: it is none.
const struct link *h2_below(const struct link *top, size_t *queued);
