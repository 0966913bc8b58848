// SPDX-License-Identifier: Apache-2.0
// The proxies that `culvert conf_proxy` has saved for the agents of a state folder: STATE/conf_proxy, mode 0600 since it may hold a
// password, one PROXY a line, a chain in order. Small and rarely written; reading and writing block for as long as the disk does.
#pragma once
#include "core/err.h"
#include "wire/pairing.h"
#include "wire/url.h"

#define SAVED_PROXY_FILE "conf_proxy"

struct saved_proxy {
    struct proxy_url of[PAIRING_PROXIES];
    size_t count; // 0: none is saved
};

// No file is no error: count 0. -1 with *e set when it cannot be read or does not parse; *s is as before then.
int saved_proxy_read(struct saved_proxy *s, const char *dir, struct err *e);
int saved_proxy_write(const struct saved_proxy *s, const char *dir, struct err *e); // count 0 removes the file
// Parses a text of one PROXY a line, blank lines left out. `what`: where it was written, for messages.
int saved_proxy_parse(struct saved_proxy *s, const char *text, const char *what, struct err *e);
void saved_proxy_wipe(struct saved_proxy *s);
