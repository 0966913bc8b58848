// SPDX-License-Identifier: Apache-2.0
// User and password at one proxy, shared by all links to it, so that a wrong password is presented once and not once a link or
// an attempt: accounts get locked. While nobody knows whether it is right one link presents it and the others wait for the
// answer; once refused nobody presents it again until logins_forgive. The book owns the logins and outlives the links.
#pragma once
#include "core/list.h"
#include "link/link.h"

enum login_state { LOGIN_FRESH, LOGIN_TRYING, LOGIN_GOOD, LOGIN_REFUSED };

struct login {
    struct list node;
    char *where;           // "proxy:3128"
    char *user, *password; // wiped with the book
    enum login_state state;
    unsigned scheme;       // AUTH_…: how it was accepted, at an HTTP proxy
    struct list waiting;   // turns
};

struct logins {
    struct list all;
};

struct login_turn { // embedded in a link
    struct list node;
    struct link *link;
    struct login *login;
    bool trying; // its answer decides
};

void logins_init(struct logins *b);
void logins_fini(struct logins *b);
// The login of that user with that password at `where`; made when it is new.
struct login *logins_get(struct logins *b, const char *where, const char *user, const char *password);
void logins_forgive(struct logins *b); // a person says: try again

// login may be NULL: there is none, and only login_leave may be called.
void login_join(struct login_turn *t, struct link *l, struct login *login);
// OK: present it now, and say how that went. AGAIN: another link is presenting it; a wake is owed. FAILED: it was refused.
enum link_status login_take(struct login_turn *t);
void login_told(struct login_turn *t, bool accepted);
void login_leave(struct login_turn *t); // in fini; without an answer the next one has its turn
