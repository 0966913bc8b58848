// SPDX-License-Identifier: Apache-2.0
// The inside of the SOCKS5 server, shared by the sources that make it up; nobody else includes it. Owned by the server.
#pragma once
#include "forward/caller.h"
#include "forward/socks.h"

struct socks_server {
    struct forward *fw;
    struct socks_way way;
    char *login; // owned, wiped
    struct callers callers;
    struct list assocs, far_assocs;
    unsigned assoc_count;
};

// Takes over the caller's link: says where to send datagrams (the reply to `asked`), and lives until the link ends. False:
// nothing was done.
bool associate(struct socks_server *s, struct link *link, struct socks *asked, const struct addr *origin,
               const struct addr *local);
// The same where the datagrams arrive at the other end of a session; the reply follows when that end listens.
bool associate_far(struct socks_server *s, struct link *link, const struct socks *asked, const struct addr *origin,
                   const struct addr *local);
void associate_far_end_all(struct socks_server *s);
void associate_end_all(struct socks_server *s);
