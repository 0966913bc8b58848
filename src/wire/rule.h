// SPDX-License-Identifier: Apache-2.0
// One rule of a policy: what an identity may reach (RULE), where it may listen (ADDR[/udp], ports also as ranges), or
// what it may offer (NAME). A rule only ever allows; what no rule allows is denied. Pure matching on what is handed in:
// a name as it was asked for and the address that would be dialled. Fixed size, no allocation, no look-up.
//
//     RULE     host:ports[/udp] | unix:PATH | SERVICE@AGENT     host: name, *.suffix, address, CIDR ([fd00::/8]), *
//                                                               ports: 22, 80-90, *; SERVICE and AGENT: name or *
// Special addresses (below) are covered by address or CIDR rules only, never by names or `*`; all of them but private
// ones only by an address or a CIDR that lies within that special block, so 0.0.0.0/0 does not mean 127.0.0.1.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "core/addr.h"
#include "core/err.h"
#include "wire/spec.h"

#define RULE_TEXT_MAX SPEC_TEXT_MAX

enum rule_verb { RULE_ALLOW, RULE_LISTEN, RULE_OFFER }; // --allow, --allow-listen, --allow-offer
enum rule_host { RULE_ANY, RULE_NAME, RULE_SUFFIX, RULE_CIDR }; // an address is a CIDR of all its bits

struct rule {
    enum rule_verb verb;
    enum spec_kind kind; // RULE_ALLOW: any; RULE_LISTEN: net or unix; RULE_OFFER: service (without agent)
    enum rule_host match;
    char host[SPEC_HOST_MAX + 1]; // name, or suffix with its dot (".example.org"), in lower case
    struct cidr cidr;
    uint16_t port_min, port_max; // 0…65535 for *; a listen rule's 0-0: a free port of the relay's choice
    bool udp;
    char path[SPEC_PATH_MAX + 1];
    char service[SPEC_NAME_MAX + 1], agent[SPEC_NAME_MAX + 1]; // "*": any
    char text[RULE_TEXT_MAX]; // as it was written
};

int rule_parse(struct rule *r, enum rule_verb verb, const char *text, struct err *e);
const char *rule_verb_name(enum rule_verb verb); // "allow", "allow-listen", "allow-offer"
bool rule_same(const struct rule *a, const struct rule *b); // allow the same, however written

enum addr_class {
    ADDR_PUBLIC, ADDR_PRIVATE, // RFC 1918, shared (RFC 6598), benchmarking, ULA, site-local
    ADDR_LOOPBACK, ADDR_LINK_LOCAL, ADDR_UNSPECIFIED, // 0.0.0.0/8 and ::
    ADDR_MULTICAST, // and 240.0.0.0/4 with broadcast
    ADDR_MAPPED, // v4-mapped, -compatible, -translated
    ADDR_6TO4,   // and Teredo
    ADDR_NAT64,  // 64:ff9b::/96, 64:ff9b:1::/48
};
enum addr_class addr_class(const struct addr *a);
const char *addr_class_name(enum addr_class c); // "public", "private", "link-local" …

// Dialling `to`, one resolved address, asked for as `name` (NULL or a literal: no name). `own`: `to` is one of the
// relay's own listeners, which only address and CIDR rules cover.
bool rule_allows_dial(const struct rule *r, const char *name, const struct addr *to, bool udp, bool own);
bool rule_allows_unix(const struct rule *r, const char *path); // exact path
bool rule_allows_service(const struct rule *r, const char *service, const char *agent);
// Listening at `at`, the resolved bind address; unspecified is "all" and needs a `*` (or that very address). Port 0 (a
// free one) needs a rule with port 0 or ports *.
bool rule_allows_listen(const struct rule *r, const struct addr *at, bool udp);
bool rule_allows_listen_unix(const struct rule *r, const char *path);
bool rule_allows_offer(const struct rule *r, const char *name);
