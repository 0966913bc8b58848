// SPDX-License-Identifier: Apache-2.0
// The link contract. A link is one byte stream, stacked on the link below; a connection is a chain of links and their
// order is its only configuration. Six operations, no seventh without a written reason.
//
// The debt rule: who answers LINK_AGAIN from open or recv, or 0 from room, owes exactly one wake to the owner of the
// top, by link_wake, once the answer may have changed. A spare wake is harmless, a missing one hangs. Wakes are queued
// on the worker and never call anybody directly.
//
// Ownership: x_over(below) owns `below`, also when it fails. Only the owner of the top closes, by link_close, which
// aborts what is still open and frees the whole chain after the turn; no operation may be called after it. Data handed to
// send before a link_close may be lost: shut first, and wait for the end or a deadline. Errors are sticky: after LINK_FAILED,
// link->err says why, prefixed once a layer, outermost first.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/addr.h"
#include "core/buf.h"
#include "core/err.h"
#include "core/worker.h"

enum link_status {
    LINK_OK = 0,
    LINK_AGAIN = 1,  // nothing now; a wake is owed
    LINK_END = 2,    // recv: the peer sent its end in order; no more comes
    LINK_FAILED = 3, // see link->err
};

enum link_shut {
    SHUT_END,   // pass our end on, in order, behind all that was sent (TCP FIN, close_notify, WebSocket Close)
    SHUT_ABORT, // abandon both directions at once (TCP RST, stream RESET)
};

struct link;

struct link_ops {
    const char *name;
    // Drives the handshake; called again after each wake until it gives OK or FAILED. Opens the link below first.
    enum link_status (*open)(struct link *l);
    // Pulls: OK hands over *out, a buffer with at least one byte, owned by the caller.
    enum link_status (*recv)(struct link *l, struct buf **out);
    // Takes a whole buffer (it owns it now) and never refuses; a failure shows at the next recv or room (which is then > 0). Callers ask room first,
    // and may exceed it by one buffer.
    void (*send)(struct link *l, struct buf *b);
    // Bytes it would like to take now; 0 is back-pressure and owes a wake. After shut(SHUT_END) it is 0 while link_close
    // would still lose something of what was sent, and then > 0, with the same wake: so an owner knows when to close.
    size_t (*room)(struct link *l);
    // SHUT_END may be called once, after it no send. recv goes on until the peer's end. SHUT_ABORT is legal at any time.
    void (*shut)(struct link *l, enum link_shut how);
    // Frees own memory and descriptors only (never touches below); legal at any point, also within open.
    void (*fini)(struct link *l);
};

// What is known of a stack, filled on the way up so that nobody reaches through links. Owned by the chain's base.
struct link_facts {
    struct addr local, peer;   // of the TCP connection
    uint16_t mss;              // what its segments were limited to; 0: not
    char path[256];            // "direct", "via proxy:3128"
    char transport[8];         // "h1": by what the frames travel; "" at the relay
    char tls_version[16];      // of the outer TLS; "" without
    char tls_cipher[40];
    char tls_issuer[256];      // issuer of the outer certificate, escaped
    char alpn[32];
    bool outer_trusted;        // the outer certificate verified for the name that was asked for
    char outer_reason[192];    // when not: why
    enum advice outer_advice;  // and what to do
    bool has_exporter;         // outer TLS 1.3, terminated by this process
    uint8_t exporter[32];      // RFC 9266 tls-exporter
    bool has_pin;
    uint8_t pin[32];           // peer's identity in the inner TLS
};

struct link {
    const struct link_ops *ops;
    struct link *below, *above;
    struct worker *w;
    struct wake *owner;       // the top's: whom link_wake posts
    struct link_facts *facts; // shared by the chain; NULL on a local socket
    struct err err;
    struct grave grave;
    bool closed;
    size_t appetite; // set by who receives: bytes it can pass on now, so that a read takes no more; 0: not known
};

// For constructors: fills the base, takes `below` (may be NULL), inherits its worker and facts.
void link_init(struct link *l, const struct link_ops *ops, struct worker *w, struct link *below);
// Who is woken; set it on the top before the first operation, and again when a new top is put over.
void link_own(struct link *top, struct wake *owner);
// Posts the wake of the chain's top; what links call to pay a debt.
void link_wake(struct link *l);
// Takes the error of the link below, prefixed by "fmt: ", and returns LINK_FAILED. fmt NULL: no prefix.
enum link_status link_failed_below(struct link *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// Sets the link's own error and returns LINK_FAILED.
enum link_status link_fail(struct link *l, enum err_kind kind, enum err_why why, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
// For links that only pass bytes on once they are open; `via` (a proxy; NULL: none) stands before what failed below. recv gives
// what was read too far first.
enum link_status link_pass_recv(struct link *l, struct bufq *rest, const char *via, struct buf **out);
size_t link_pass_room(struct link *l, const char *via);
void link_pass_send(struct link *l, struct buf *b);
void link_pass_shut(struct link *l, enum link_shut how);
// Adds a proxy that was passed to the facts' path: "via a:3128, b:1080".
void link_note_path(struct link *l, const char *proxy);
// Closes the whole chain under `top` at once and frees it after the turn. NULL is allowed.
void link_close(struct link *top);

static inline enum link_status __attribute__((warn_unused_result)) link_open(struct link *l) { return l->ops->open(l); }
static inline enum link_status __attribute__((warn_unused_result)) link_recv(struct link *l, struct buf **out)
{
    return l->ops->recv(l, out);
}
static inline void link_send(struct link *l, struct buf *b) { l->ops->send(l, b); }
static inline size_t link_room(struct link *l) { return l->ops->room(l); }
static inline void link_shut(struct link *l, enum link_shut how) { l->ops->shut(l, how); }
