// SPDX-License-Identifier: Apache-2.0
// Authentication at one HTTP proxy during one dial, over as many connections as that takes. A 407's challenges come in, the
// strongest scheme that is offered, allowed and possible is taken, and lines for the next request come out. A password is presented once; only a
// stale nonce, or the next leg of a handshake, makes another request with it. Basic is never used on an unencrypted
// connection where something stronger is offered. One file a scheme, behind auth_inside.h. Owned by the dial; the link
// of the connection borrows it.
#pragma once
#include "link/login.h"
#include "wire/http.h"

enum { AUTH_BASIC = 1, AUTH_NTLM = 2, AUTH_DIGEST = 4, AUTH_NEGOTIATE = 8, AUTH_ALL = 15 }; // weakest first

#define AUTH_ROUNDS_MAX 6 // requests in one dial

struct auth;

struct auth_options {
    const char *host;    // of the proxy, unbracketed: the service that tickets are for; copied
    struct login *login; // NULL: none; outlives it
    unsigned allowed;    // AUTH_…; 0: all
    bool encrypted;      // TLS to the proxy
};

struct auth *auth_new(struct worker *w, const struct auth_options *o);
void auth_free(struct auth *a); // NULL is allowed

// A new connection, whose link it is: handshakes begin anew.
void auth_begin(struct auth *a, struct link *l);
void auth_end(struct auth *a); // the link is closed; legal at any time

// The next request's "Proxy-Authorization: …\r\n", or "", valid until the next call; `target` is the request's. AGAIN: it is being made, or
// somebody else presents the password just now; a wake is owed to the link. FAILED: *e says why.
enum link_status auth_line(struct auth *a, const char *target, const char **line, struct err *e);
// A 407. True: another request shall be sent. False: this is the end; *e says why, beginning with "proxy answered 407".
bool auth_challenged(struct auth *a, const struct http_head *h, struct err *e);
// Whether the next request must use the same connection.
bool auth_stays(const struct auth *a);
void auth_accepted(struct auth *a); // the answer was another than 407
