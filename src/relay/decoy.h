// SPDX-License-Identifier: Apache-2.0
// The decoy: a web server of the operator's choice that answers whatever is none of ours, through the relay, so that a
// stranger meets that server and nothing else. Each request is dialled anew, one at a time a caller, with the hop's own headers
// replaced (RFC 9110 section 7.6.1) and X-Forwarded-For and -Proto set; the answer passes as it comes. An upgrade that
// the decoy grants becomes a pipe, and so does what is no HTTP at all. Bounded in number and by deadlines. Owned by the relay.
#pragma once
#include "dial/resolve.h"
#include "relay/front.h"
#include "wire/url.h"

#define DECOY_MAX 512           // at once; the front keeps as many places for others
#define DECOY_ANSWER_MS 30000   // from the request to the head of its answer
#define DECOY_IDLE_MS 60000     // between two bytes after that

struct decoy {
    struct worker *w;
    struct resolver *resolver;
    struct proxy_url url; // http or https
    SSL_CTX *ctx;         // https: the system's CAs
    unsigned count;
    uint64_t warned_ms;
};

// "http://host[:port]" or "https://host[:port]" into *url; -1 with *e set.
int decoy_url_parse(struct proxy_url *url, const char *text, struct err *e);
struct decoy *decoy_new(struct worker *w, struct resolver *r, const struct proxy_url *url, struct err *e);
void decoy_free(struct decoy *d); // behind the front: nobody uses it any more; NULL is allowed
// A caller whose head is none: what came so far and all that follows is the decoy's.
void decoy_raw(struct front_caller *k);
