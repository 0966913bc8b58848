// SPDX-License-Identifier: Apache-2.0
// For socks.c and associate.c only.
#pragma once
#include "forward/socks.h"

struct socks_server {
    struct forward *fw;
    struct socks_way way;
    char *login; // owned, wiped
    struct list callers, assocs;
    unsigned caller_count, assoc_count;
};

// Takes over the caller's link: says where to send datagrams (the reply to `asked`), and lives until the link ends. False:
// nothing was done.
bool associate(struct socks_server *s, struct link *link, struct socks *asked, const struct addr *origin,
               const struct addr *local);
void associate_end_all(struct socks_server *s);
