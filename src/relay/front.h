// SPDX-License-Identifier: Apache-2.0
// The front: everybody who has connected and is not known yet. It ends the outer TLS, reads the request head, and
// routes: a WebSocket on a configured path with our subprotocol becomes a carrier (conn.h), everything else gets an
// ordinary 404. Each step has an absolute deadline; callers are bounded in all and per address. A caller leaves the
// front when its HELLO was accepted (front_take) or when its connection is over. Owned by the relay; callers are heap
// memory here.
#pragma once
#include <openssl/ssl.h>
#include "core/list.h"
#include "session/conn.h"
#include "wire/http.h"

#define FRONT_CALLERS_MAX 1024
#define FRONT_ADDRESS_MAX 32   // of one IPv4 address or IPv6 /64
#define FRONT_TLS_MS 10000
#define FRONT_HEAD_MS 10000
#define FRONT_ANSWER_MS 3000   // for the peer to take the 404 and close
#define FRONT_STORE_MS 15000   // from HELLO to the store's answer
#define FRONT_DRAIN_MAX 65536  // bytes of a request's body that are read and dropped

struct front_caller;

struct front_stats {
    uint64_t accepted, turned_away, tls_failed, late, not_found, bad, upgraded;
};

struct front {
    struct worker *w;
    SSL_CTX *web, *inner; // owned; web may be NULL when there are plain listeners only
    const char *const *paths;
    size_t path_count;
    bool peel;
    void *owner;
    // HELLO is in: answer later with conn_welcome (after front_take) or conn_refuse on caller->conn.
    void (*on_hello)(struct front_caller *k, const struct frame_hello *hello);
    void (*on_gone)(struct front_caller *k); // just before it is freed: forget it
    void (*on_full)(struct front *f, bool full); // pause or resume the listeners
    struct list callers;
    unsigned count;
    struct front_stats stats;
};

enum front_stage { FRONT_TLS, FRONT_HEAD, FRONT_ANSWERED, FRONT_CARRIER };

struct front_caller {
    struct list node;
    struct front *f;
    enum front_stage stage;
    bool plain;
    struct addr peer;
    struct link *top;  // until there is a conn
    struct conn *conn;
    struct wake wake;
    struct timer deadline;
    struct grave grave;
    char *head; // HTTP_HEAD_MAX + BUF_SIZE while it is read
    size_t have, dropped;
    uint64_t ticket;   // the owner's
    struct frame_hello hello; // the owner's, while the store is asked
};

void front_init(struct front *f, struct worker *w);
void front_fini(struct front *f); // closes all callers, without on_gone
// A connection: `link` is an open tcp link, owned from now on. plain: no TLS of ours, and a front whose address is
// everybody's.
void front_accept(struct front *f, struct link *link, const struct addr *peer, bool plain);
void front_set_web(struct front *f, SSL_CTX *web); // owns it; for new callers
// The caller is known: takes its carrier out of the front and frees the caller.
struct conn *front_take(struct front_caller *k);
