// SPDX-License-Identifier: Apache-2.0
// A conduit joins a caller's link to what the caller asked for: first the far link is opened (a stream of a session, or a
// dialled target), then the caller gets its answer, then a pump carries bytes, ends and resets as such until both
// directions are over. Until the answer nothing is read from a caller who waits for one; another's first bytes
// (WINDOW_EARLY of session.h at most) go behind the OPEN, and again when it is refused and asked elsewhere. The conduit owns both links and frees itself;
// it is listed in its forward.
#pragma once
#include "core/addr.h"
#include "core/err.h"
#include "dial/race.h"
#include "dial/resolve.h"
#include "forward/forward.h"
#include "link/pump.h"

struct conduit;

struct conduit_ops {
    // The caller's handshake is done (its link_open gave OK): whether the far end may be dialled now; false with *e set. NULL:
    // it is dialled at once, without waiting for the caller. Only for conduit_to_target.
    bool (*admit)(struct conduit *c, struct err *e);
    // The far end is up (err NULL; bound: the address there, may be NULL) or it is not (err says why). After a refusal the
    // caller is reset, unless conduit_linger was called here. NULL: nothing to say.
    void (*answer)(struct conduit *c, const struct err *err, const struct addr *bound);
    // It is over, just before it is freed; err NULL: both directions ended in order. May be NULL.
    void (*on_end)(struct conduit *c, const struct err *err);
};

struct conduit_ask {
    const char *kind;          // "local", "reverse", "socks", "target", "stdio": static
    struct link *caller;       // owned by the conduit from now on, also on failure
    struct addr origin;        // who calls; len 0: unknown
    const char *dest;          // what was asked for, for messages and tables; copied
    struct buf *early;         // bytes already read from the caller; owned; may be NULL
    const struct conduit_ops *ops;
    void *owner;
    bool quiet;                // the owner tells of a refusal itself
    const struct stream *asked; // the stream that the caller's link is, or lies over; NULL: none
};

struct conduit {
    struct list node;
    struct forward *fw;
    struct conduit_ask ask;
    struct link *far;
    struct addr far_addr;      // len 0: unknown
    bool sealed;
    struct conduit_opening *opening; // NULL once the answer is given
    struct wake wake;
    struct timer linger;
    struct pump pump;
    enum { CONDUIT_OPENING, CONDUIT_PUMPING, CONDUIT_LINGERING, CONDUIT_OVER } state;
    uint64_t opened_us, sent_early;
    uint8_t uid[16]; // of its stream, the same at both ends; all zero: none
    struct grave grave;
};

// The far end is a stream opened on `s`; `open` is filled but for window, uid and sealed, which the forward's seal_way decides.
void conduit_to_stream(struct forward *fw, const struct conduit_ask *ask, struct session *s, struct frame_open *open);
// The far end is host:port (a name is resolved, each address is asked about by `allows`, the rest raced), or a Unix path (host
// "unix:/path"), asked about in the same way. `allows` NULL: whoever calls this knows that it is allowed.
void conduit_to_target(struct forward *fw, const struct conduit_ask *ask, const char *host, uint16_t port,
                       forward_allows_fn *allows, void *ctx);
// Where streams can be opened has changed: asks forward.elsewhere again for those that wait to be opened, and for those that
// were opened on `from` (NULL: none) and have not left it.
void conduits_ask_again(struct forward *fw, const struct session *from);
// `from` is lost: what waits for an answer there is opened elsewhere, or is ended where first bytes may have reached the target,
// who must not get them twice.
void conduits_leave(struct forward *fw, const struct session *from);
// For `answer`: what was sent to the caller goes out, then its end, and only then it is closed.
void conduit_linger(struct conduit *c);
// Ends it now, resetting both sides; on_end is called, answer is not.
void conduit_kill(struct conduit *c);
