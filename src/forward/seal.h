// SPDX-License-Identifier: Apache-2.0
// Sealed streams: TLS 1.3 between two agents inside a stream of theirs, so that the relay in the middle passes ciphertext
// (docs/protocol.md, "Sealed streams"). The asking end is the TLS client and knows the other's pins; the answering end
// has the asker's key judged by its role, dials only then, and says inside how that went. The service is bound by ALPN.
// A struct seal_way belongs to a role and outlives its forward.
#pragma once
#include <openssl/ssl.h>
#include "forward/forward.h"
#include "forward/target.h"

#define SEAL_PINS_MAX 4

struct conduit_ask;

struct seal_peer {
    uint8_t pins[SEAL_PINS_MAX][32];
    size_t pin_count;
};

struct seal_asker { // what the relay says of who asks; empty where it says nothing
    bool has_identity;
    uint8_t identity[32];
    char name[64];
};

enum seal_choice { SEAL_PLAIN, SEAL_SEALED, SEAL_REFUSED };

struct seal_way {
    SSL_CTX *client, *server; // tls_inner_ctx of the agent's identity
    // How a stream or flow to this NAME@AGENT goes: SEALED fills *peer, REFUSED sets *e.
    enum seal_choice (*choose)(void *owner, const char *service, struct seal_peer *peer, struct err *e);
    // Whether the owner of this key, proved inside, may go on; false with *e set.
    bool (*admit)(void *owner, const uint8_t pin[32], const struct seal_asker *asker, struct err *e);
    void *owner;
};

// The asking end over a stream whose OPEN had `sealed`; `service` is NAME@AGENT. link_open gives OK when the other end has
// proved one of the pins and reached its target. Nothing of the caller's is sent before that proof.
struct link *seal_over(const struct seal_way *way, struct stream *st, const char *service, const struct seal_peer *peer);
// How a stream with this OPEN goes; sets open->sealed. `way` may be NULL.
enum seal_choice seal_choose(const struct seal_way *way, struct frame_open *open, struct seal_peer *peer, struct err *e);

// The answering end of a stream or a flow: accepts it and gives its TLS link.
struct link *seal_accept(const struct seal_way *way, struct stream *st, const struct frame_open *open);
void seal_note_asker(struct seal_asker *asker, const struct frame_open *open);
// Once that link is open: whether its peer may go on; false with *e set.
bool seal_admits(const struct seal_way *way, struct link *tls, const struct seal_asker *asker, struct err *e);
// Says inside how it went; err NULL: the target is there.
void seal_answer(struct link *tls, const struct err *err);
// All of that for a stream: the target is opened for an asker who is admitted.
void seal_target(struct forward *fw, struct stream *st, const struct target_ask *ask, const struct conduit_ask *conduit);
