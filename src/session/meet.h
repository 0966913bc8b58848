// SPDX-License-Identifier: Apache-2.0
// Streams between two agents outlive their session, and the relay: both ends know them by a uid and find together again by
// OPEN *continue* (docs/protocol.md, rules 9 to 11). A meet is the index of such streams: at an agent of all streams of
// services, at a relay of those OPENs that were passed on and are not answered yet, so that two that ask for the same one are
// paired. Streams without a session live in `limbo`, a session that never has a carrier; their sockets are held back there.
// The role owns the meet and says which sessions use it (session->meet); it outlives them. Ties are heap memory of this file,
// as many as there are streams. Nothing here can fail but session_open's way: no more ids.
#pragma once
#include "session/session.h"

#define MEET_DONE_MAX 16384 // uids of freed streams that are remembered; beyond it the oldest is forgotten

struct tie { // what is known of a stream beside itself
    struct hash_node node; // by the uid
    struct meet *m;
    struct stream *st;
    bool back;       // relay: the end that accepted has asked
    bool again;      // opened again after its session was lost: "absent" is no last word
    uint8_t asker[32], holder[32]; // identities: of who opened the stream (relay, accepting agent), of who accepted it (relay)
    uint64_t adrift_ms; // since when without a peer; 0: not
    uint64_t asked_ms;  // 0: never
    uint8_t turn;       // the role's: where to ask next
    char host[];     // SERVICE@AGENT
};

struct meet {
    struct worker *w;
    struct hash ties;
    struct hash done;       // struct done_uid
    struct list done_order; // the oldest first
    uint32_t keep_ms;       // how long streams are kept adrift, and done ones remembered
    uint32_t adrift_count;  // streams without a peer: in limbo, or asking
    struct session limbo;   // limbo.is_limbo: there is one
    // A stream has come to limbo: ask for it soon. NULL: nobody asks.
    void (*on_adrift)(struct meet *m);
    void *owner;
};

void meet_init(struct meet *m, struct worker *w, uint32_t keep_ms);
// For an agent: where streams without a session live. ops and owner as for its other sessions.
void meet_start_limbo(struct meet *m, const struct session_ops *ops, void *owner, struct budget *budget);
void meet_fini(struct meet *m, const struct err *why); // ends what is adrift; after the sessions' end

// Agent: takes the streams of services off a session that is lost or left. tell: its relay hears of it, and tells the peers.
void meet_cast(struct meet *m, struct session *s, bool tell);
// Agent: asks for a stream that is adrift by way of `to`. False: it waits for its peer to ask, or `to` opens nothing.
bool meet_ask(struct tie *t, struct session *to);
// Agent: gives an unanswered question up and takes the stream back to limbo.
void meet_unask(struct tie *t);
// Agent: ends a stream that is adrift.
void meet_lose(struct tie *t, const struct err *why);
bool meet_is_adrift(const struct tie *t); // in limbo
void meet_each(struct meet *m, void (*fn)(struct tie *t, void *ctx), void *ctx); // fn may end the stream

// Relay: an OPEN of a service came as `st`; asker and holder are the identities of who opened the stream, and of who accepts
// it. MEET_NONE: nobody else has asked for it: pass it on by switch_join, then call meet_wait. MEET_REFUSED: it contradicts itself,
// or what was asked before; `st` is the caller's to refuse.
enum meet_result { MEET_NONE, MEET_PAIRED, MEET_REFUSED };
enum meet_result meet_pair(struct meet *m, struct stream *st, const struct frame_open *open, const uint8_t asker[32],
                           const uint8_t holder[32]);
void meet_wait(struct meet *m, struct stream *st, const struct frame_open *open, const uint8_t asker[32],
               const uint8_t holder[32]);
