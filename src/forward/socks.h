// SPDX-License-Identifier: Apache-2.0
// A SOCKS5 server over callers' links: CONNECT and UDP ASSOCIATE, user and password if asked for. Names are never resolved
// here: they go out as they are, by the `way` that its owner provides, which is a session for -D and this machine's
// network for a reverse SOCKS forward. An association dies with the connection that made it, and hears only that
// connection's address.
#pragma once
#include "forward/conduit.h"
#include "forward/flow.h"
#include "forward/forward.h"
#include "wire/socks.h"

#define SOCKS_MS 30000         // from the first byte to the request
#define SOCKS_CALLERS_MAX 1024 // that have not asked yet
#define SOCKS_ASSOC_FLOWS 256  // destinations of one association
#define SOCKS_ASSOCS_MAX 1024

struct socks_server;

struct socks_way {
    // Carries the caller's bytes to the destination; `ask` is complete, but for what the way adds.
    void (*connect)(void *owner, const struct conduit_ask *ask, const struct socks_dest *dest);
    // UDP where the server listens: a flow to the destination, its stream just opened. NULL: not now.
    struct stream *(*flow)(void *owner, const struct socks_dest *dest, const struct addr *origin);
    // UDP where the server stands behind a session: a stream, just opened, that listens for datagrams at `at`, whose callers'
    // flows come to socks_server_flow; destinations are dialled from here if `allows` says so. Either this or `flow`, or
    // neither: then there is no UDP.
    struct stream *(*listen)(void *owner, const struct addr *at);
    forward_allows_fn *allows;
    void *owner;
};

// login: "user:password", copied; NULL: none is asked for.
struct socks_server *socks_server_new(struct forward *fw, const struct socks_way *way, const char *login);
// A caller: its open link, owned from now on. origin: who calls; len 0: unknown. local: where it reached us, for associations.
void socks_server_accept(struct socks_server *s, struct link *link, const struct addr *origin, const struct addr *local);
// A flow that came by the listening stream `listener`. False: that is no association's; the stream is untouched.
bool socks_server_flow(struct socks_server *s, uint32_t listener, struct stream *st, const struct addr *origin);
void socks_server_free(struct socks_server *s); // ends callers that have not asked yet, and associations; NULL is allowed
