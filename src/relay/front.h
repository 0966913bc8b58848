// SPDX-License-Identifier: Apache-2.0
// The front: everybody who has connected and is not known yet. It ends the outer TLS, reads one request head after the
// other, and hands each request to the first owner that claims it (owners.c has the table): the native WebSocket, which
// becomes a carrier (conn.h), and so on down to an ordinary 404. An owner reads the request's body and answers by the
// calls below, which keep to HTTP/1.1's framing, and gives the caller back for its next request; a stream of HTTP/2 comes as a
// caller of its own that speaks the same text. Each step has an absolute deadline; callers are bounded in all and per
// address. A caller leaves the front when its HELLO was accepted (front_take) or when its connection is over. Owned by
// the relay; callers are heap memory here.
#pragma once
#include <openssl/ssl.h>
#include "core/hash.h"
#include "core/list.h"
#include "session/conn.h"
#include "wire/http.h"
#include "wire/skip.h"

#define FRONT_CALLERS_MAX 1024
#define FRONT_ADDRESS_MAX 32   // of one IPv4 address or IPv6 /64
#define FRONT_STREAMS_MAX 96   // HTTP/2 streams of the same
#define FRONT_CALLERS_MANY (FRONT_CALLERS_MAX / 4 * 3) // from here on who was served makes place
#define FRONT_REQUESTS_MAX 1000 // of a stranger on one connection
#define FRONT_LIFE_MS 60000     // a stranger's connection takes requests
#define FRONT_TLS_MS 10000
#define FRONT_HEAD_MS 10000
#define FRONT_ANSWER_MS 3000   // for the peer to take an answer and close
#define FRONT_STORE_MS 15000   // from HELLO to the store's answer
#define FRONT_WARN_MS 60000    // between two lines about the same
#define FRONT_HEADERS_MAX 8192
#define FRONT_DRAIN_MAX 65536  // bytes of a request's body that are read and dropped

struct front_caller;

// One kind of request. All its calls but claims are on the caller's own turn; the caller may be ended or given back in
// them. `state` of the caller is the owner's.
struct front_owner {
    const char *name;
    bool (*claims)(const struct front_caller *k, const struct http_head *h);
    // Claimed: it is somebody's who is known, and need not fit in among strangers; NULL: never.
    bool (*knows)(const struct front_caller *k, const struct http_head *h);
    // It is yours: h is valid in this call only. The deadline is not set.
    void (*take)(struct front_caller *k, const struct http_head *h);
    void (*on_wake)(struct front_caller *k); // the link has news; NULL where take hands the link on
    void (*on_late)(struct front_caller *k); // its deadline; NULL: the caller ends
    void (*on_gone)(struct front_caller *k); // it ends or goes back: forget it; NULL: nothing to do
};
extern const struct front_owner *const front_owners[]; // in order, the last one claims everything

struct front_stats {
    uint64_t accepted, turned_away, tls_failed, unannounced, late, not_found, decoyed, redirected, bad, upgraded;
};

enum front_kind {
    FRONT_WEB,      // our TLS
    FRONT_PLAIN,    // none of ours: behind a front
    FRONT_REDIRECT, // plain HTTP: to https, and nothing else
};

struct front {
    struct worker *w;
    SSL_CTX *web, *inner; // owned; web may be NULL when there are plain listeners only
    const char *const *paths;
    size_t path_count;
    const struct cidr *trusted; // fronts that are believed what they say of their callers
    size_t trusted_count;
    bool announced;             // connections from those begin with a PROXY protocol header
    struct decoy *decoy;        // NULL: strangers get a 404
    const char *redirect_host;  // for requests without Host; NULL: those get a 404
    uint16_t redirect_port;
    bool peel;
    void *owner;
    // HELLO is in: answer later with conn_welcome (after front_take) or conn_refuse on caller->conn.
    void (*on_hello)(struct front_caller *k, const struct frame_hello *hello);
    void (*on_full)(struct front *f, bool full); // pause or resume the listeners
    struct list callers, hubs;
    struct hash polls; // poll.c: long-poll carriers by their ids
    unsigned count; // of callers that are not excused
    struct front_stats stats;
    uint64_t unannounced_ms; // of the last line about it
};

enum front_stage { FRONT_TLS, FRONT_HEAD, FRONT_OWNED, FRONT_ANSWERED, FRONT_CARRIER, FRONT_HUB };

struct front_caller {
    struct list node;
    struct front *f;
    enum front_stage stage;
    enum front_kind kind;
    bool excused; // not counted: somebody known
    bool trusted; // the connection's other end is a front that is believed
    bool single;  // peer is one caller's address, so that it counts
    bool https;   // the caller came by TLS, as far as is known
    struct addr near; // the connection's other end
    struct addr peer; // the caller: the same, or what a trusted front said
    struct link *top;  // until there is a conn, or a hub
    struct link *announced; // below it, where a PROXY header is expected
    struct h2 *hub;               // HTTP/2: its streams are callers too,
    struct front_caller *parent;  // and this is the connection of one; NULL: its own
    struct conn *conn;
    struct wake wake;
    struct timer deadline;
    struct grave grave;
    char *head; // HTTP_HEAD_MAX + BUF_SIZE while it is read
    size_t have, searched, dropped; // searched: of what we have, for the head's end
    uint64_t born_ms;
    unsigned requests;     // of a stranger
    struct bufq rest;      // read, but behind what was asked for
    struct http_skip body; // of the request
    bool served; // had an answer already, and may be silent before its next request
    bool keep, head_only;  // another request may follow; the answer to this one has no body (HEAD)
    void (*on_known)(void *adopter); // its carrier is taken out of the front; NULL: nobody asks
    void *adopter;
    const struct front_owner *owner; // of the request; NULL: none yet
    void *state;              // the owner's
    uint64_t ticket;          // the relay's, while the store is asked
    struct frame_hello hello;
};

void front_init(struct front *f, struct worker *w);
void front_fini(struct front *f); // closes all callers
// A connection: `link` is an open tcp link, owned from now on.
void front_accept(struct front *f, struct link *link, const struct addr *peer, enum front_kind kind);
void front_set_web(struct front *f, SSL_CTX *web); // owns it; for new callers
// The caller is known: takes its carrier out of the front and frees the caller.
struct conn *front_take(struct front_caller *k);
// The caller's connection becomes a carrier: `ws` stands over k->top, which must be open. Goes on to HELLO.
void front_carrier(struct front_caller *k, struct link *ws);
// A carrier over a byte stream that is no caller's connection (made of many requests); `by` made the first one. Goes on to HELLO.
// on_known: when HELLO is accepted. NULL, and `link` is closed: too many callers.
struct front_caller *front_adopt(const struct front_caller *by, struct link *link, void (*on_known)(void *ctx), void *ctx);
// One more caller on a connection that carries many (HTTP/2): its link is open, and speaks HTTP/1.1. NULL: too many callers, `link`
// is left alone.
struct front_caller *front_stream(struct front_caller *parent, struct link *link);
// A request that proved to be of somebody known counts no more among the strangers, until its connection makes one that is not (by
// HTTP/2: the connection as long as it lasts, while each stream is a caller of its own).
void front_excuse(struct front_caller *k);
void front_count_again(struct front_caller *k);
void front_end(struct front_caller *k); // at once; what was sent last may be lost
void front_end_saying(struct front_caller *k, const char *what, const struct err *e);

void front_drain(struct front *f); // HTTP/2 callers shall make no further requests here

// front_h2.c
void front_h2(struct front_caller *k); // has agreed on HTTP/2
void front_h2_end(struct front_caller *k);

// crowd.c: who counts as whom.
bool front_trusts(const struct front *f, const struct addr *a);
// Without a list, whoever comes to a plain listener is a front that speaks for many.
bool front_speaks_for_many(const struct front *f, enum front_kind kind, const struct addr *peer);
unsigned front_count_of(const struct front *f, const struct addr *peer, bool streams); // its connections, or their HTTP/2 streams
bool front_is_crowded(const struct front_caller *k); // too many callers of its address

// front_http.c: what an owner does with its request.
bool front_is_our_path(const struct front *f, struct http_text target); // without its query
// The request's body, framing taken off: LINK_END behind its last byte. LINK_FAILED: end the caller.
enum link_status front_recv(struct front_caller *k, struct buf **out);
// The head of an answer with a body of that length, which follows by front_send; `headers`: each ended by CRLF. Content-Length,
// Date and Connection are added.
void front_say(struct front_caller *k, int status, const char *reason, const char *headers, uint64_t length);
static inline void front_send(struct front_caller *k, struct buf *b) { link_send(k->top, b); }
static inline size_t front_room(struct front_caller *k) { return link_room(k->top); }
// The answer is whole: the caller's next request, or the end of its connection. Not the owner's any more.
void front_done(struct front_caller *k);
// All of the above with a page that says just that; headers: at most FRONT_HEADERS_MAX, with 30 bytes more.
void front_answer(struct front_caller *k, int status, const char *reason, const char *headers);

// Whether the caller has gone, as far as that shows without taking anything from its next request: for owners that
// let it wait. It may still come as a wake where this said false.
bool front_is_gone(struct front_caller *k);

// forwarded.c: what a trusted front says of the caller in this request's head.
void front_believe(struct front_caller *k, const struct http_head *h);

// For front.c
void front_head_start(struct front_caller *k);
void front_head_read(struct front_caller *k);
void front_drop_rest(struct front_caller *k);
