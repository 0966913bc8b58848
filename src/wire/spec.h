// SPDX-License-Identifier: Apache-2.0
// What a person writes for a place: ADDR (where to listen), DEST (where a stream comes out), and the forwards made of
// them, in the forms ssh users expect. Parsed into values of fixed size; nothing is resolved, allocated or opened.
// Every parser returns 0, or -1 with a sentence in *e that names the text and the remedy (ERR_USAGE); then the result
// is undefined.
//
//     ADDR     [bind:]port | unix:PATH     bind: name, IPv4, [IPv6], * = all; port 0: chosen by the listener
//     DEST     host:port | unix:PATH | SERVICE@AGENT      in PATH a colon is written %3A (and a percent sign %25)
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/err.h"

#define SPEC_HOST_MAX 255 // a host name or address; longer ones are refused
#define SPEC_NAME_MAX 63  // an agent's or a service's name
#define SPEC_PATH_MAX 107 // what sun_path takes
#define SPEC_TEXT_MAX 340 // any of the texts below, ended by 0 (a path of 107 colons is written threefold)
#define SPEC_LOOPBACK "127.0.0.1"

enum spec_kind { SPEC_NET, SPEC_UNIX, SPEC_SERVICE };

struct spec_addr {
    enum spec_kind kind;          // never SPEC_SERVICE
    char host[SPEC_HOST_MAX + 1]; // name, IPv4, IPv6 (no brackets), or "*"
    uint16_t port;                // 0: a free one
    char path[SPEC_PATH_MAX + 1];
};

struct spec_dest {
    enum spec_kind kind;
    char host[SPEC_HOST_MAX + 1]; // name, IPv4, IPv6 (no brackets)
    uint16_t port;                // never 0
    char path[SPEC_PATH_MAX + 1];
    char service[SPEC_NAME_MAX + 1], agent[SPEC_NAME_MAX + 1];
};

struct spec_forward {
    struct spec_addr listen;
    struct spec_dest dest; // not when socks
    bool socks;            // -D, and -R without DEST
    bool udp;
};

struct spec_offer {
    char name[SPEC_NAME_MAX + 1];
    struct spec_dest dest; // net or unix
    bool udp;
};

// `bare` is the host of a port written alone: SPEC_LOOPBACK for agents, "*" for the relay's own listeners.
int spec_addr_parse(struct spec_addr *a, const char *text, const char *bare, struct err *e);
// ADDR[/udp], as in `explain --listen`.
int spec_addr_udp_parse(struct spec_addr *a, bool *udp, const char *text, const char *bare, struct err *e);
int spec_dest_parse(struct spec_dest *d, const char *text, struct err *e);
// DEST[/udp], as in `explain`. A Unix path keeps such an ending as part of it.
int spec_dest_udp_parse(struct spec_dest *d, bool *udp, const char *text, struct err *e);
int spec_local_parse(struct spec_forward *f, const char *text, struct err *e);   // -L ADDR:DEST[/udp]
int spec_reverse_parse(struct spec_forward *f, const char *text, struct err *e); // -R ADDR[:DEST[/udp]]
int spec_socks_parse(struct spec_forward *f, const char *text, struct err *e);   // -D ADDR
int spec_offer_parse(struct spec_offer *o, const char *text, struct err *e);     // --offer NAME=DEST[/udp]

// A name of an agent or a service: 1…63 of letters, digits, '.', '_', '-', starting with a letter or digit.
bool spec_is_name(const char *text);
// The texts that parse back to the same value; out holds SPEC_TEXT_MAX bytes; return out. IPv6 is bracketed.
char *spec_addr_text(const struct spec_addr *a, char *out);
char *spec_dest_text(const struct spec_dest *d, char *out);
