// SPDX-License-Identifier: Apache-2.0
// By which of HTTP's means the frames of a carrier travel, and lists of them in order of preference. No I/O.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "core/err.h"

enum transport {
    TRANSPORT_H1,   // WebSocket over HTTP/1.1 (RFC 6455)
    TRANSPORT_H2,   // WebSocket over HTTP/2 (RFC 8441)
    TRANSPORT_POLL, // whole requests over HTTPS
};
#define TRANSPORTS 3

struct transport_list {
    enum transport of[TRANSPORTS];
    size_t count;
};

extern const struct transport_list transports_usual; // what is tried when nobody says otherwise

const char *transport_name(enum transport t);  // "h1", "h2", "poll"
const char *transport_title(enum transport t); // for people: "WebSocket over HTTP/1.1" …
bool transport_find(const char *name, size_t len, enum transport *out);
bool transport_has(const struct transport_list *l, enum transport t);
// "h1,poll": 0, or -1 with *e set (ERR_USAGE).
int transport_parse(struct transport_list *out, const char *text, struct err *e);
