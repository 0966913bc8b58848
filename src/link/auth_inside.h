// SPDX-License-Identifier: Apache-2.0
// What the schemes of authentication share with auth.c, and nobody else.
#pragma once
#include "link/auth.h"
#include "wire/challenge.h"

struct auth_scheme {
    const char *name; // as in Proxy-Authenticate
    unsigned bit;
    bool needs_login; // presents user and password
    bool connection;  // authenticates the connection, in several legs
    // A challenge that offers it: takes what it needs. False: it cannot be answered here; *why may say why.
    bool (*take)(struct auth *a, const struct challenge *c, const char **why);
    // Makes the value of the next Proxy-Authorization in a->value. FAILED: *e, and the scheme is out.
    enum link_status (*answer)(struct auth *a, const char *target, struct err *e);
    // A challenge after an answer: true if it only asks for the next one.
    bool (*more)(struct auth *a, const struct challenge *c);
    void (*reset)(struct auth *a); // the connection is gone, or the scheme; may be NULL
};

extern const struct auth_scheme auth_basic, auth_digest, auth_ntlm, auth_negotiate;

struct auth {
    struct worker *w;
    struct link *link; // of the connection; NULL between two
    char *host;
    struct login_turn turn; // turn.login NULL between two connections
    struct login *login;
    unsigned allowed, tried; // tried: refused, or cannot be used
    bool encrypted;
    const struct auth_scheme *scheme; // chosen; NULL: none yet
    bool sent;                        // an answer of it is out
    bool presented;                   // and what the password made was in it
    struct offered *offered;          // by the last 407; NULL: none yet
    unsigned rounds;
    char reason[352]; // why the strongest scheme is out
    char *value, *line; // wiped
    void *state; // of the scheme
};

void auth_set_value(struct auth *a, char *value); // heap, owned from now on
void auth_wipe(char **text);
