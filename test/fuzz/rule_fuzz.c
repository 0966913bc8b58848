// SPDX-License-Identifier: Apache-2.0
// Rules of every verb, and the places people write (ADDR, DEST, forwards, offers). A rule's text parses to the same rule,
// and no rule but one that names it reaches loopback.
#include "fuzz.h"
#include "wire/rule.h"
#include "wire/spec.h"

// Names and * cover none of these, and a block only when it lies within the special block (the widest are 224/4, ff00::/8).
static void covers_nothing_special(const struct rule *r)
{
    static const char *const special[] = {"127.0.0.1",       "::1",
                                          "169.254.169.254", "fe80::1",
                                          "0.0.0.0",         "::",
                                          "224.0.0.1",       "255.255.255.255",
                                          "::ffff:10.0.0.1", "2002:7f00:1::",
                                          "64:ff9b::7f00:1"};
    for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
        struct addr to;
        CHECK(addr_parse_ip(&to, special[i], r->port_max));
        if (rule_allows_dial(r, "db.example", &to, r->udp, false))
            CHECK(r->match == RULE_CIDR && cidr_has(&r->cidr, &to) &&
                  r->cidr.bits >= (r->cidr.family == AF_INET ? 4 : 8));
    }
}

static void rule(enum rule_verb verb, const char *text)
{
    struct rule a, b;
    struct err e = ERR_INIT;
    struct addr loop, to;
    if (rule_parse(&a, verb, text, &e) < 0) {
        fuzz_refused(&e);
        return;
    }
    CHECK(rule_parse(&b, verb, a.text, &e) == 0 && rule_same(&a, &b) && rule_same(&b, &a));
    CHECK(addr_parse_ip(&loop, "127.0.0.1", 80) && addr_parse_ip(&to, "192.0.2.1", 80));
    if (verb == RULE_ALLOW && a.kind == SPEC_NET && a.match != RULE_CIDR)
        CHECK(!rule_allows_dial(&a, a.host, &loop, a.udp, false));
    covers_nothing_special(&a);
    rule_allows_dial(&a, "example.org", &to, false, false);
    rule_allows_listen(&a, &loop, false);
    rule_allows_unix(&a, "/run/x");
    rule_allows_listen_unix(&a, "/run/x");
    rule_allows_service(&a, "web", "site7");
    rule_allows_offer(&a, "web");
}

static void parsed(int status, struct err *e)
{
    if (status < 0)
        fuzz_refused(e);
}

static void specs(const char *text)
{
    struct err e = ERR_INIT;
    struct spec_addr addr, addr2;
    struct spec_dest dest, dest2;
    struct spec_forward f;
    struct spec_offer o;
    bool udp;
    char out[SPEC_TEXT_MAX], again[SPEC_TEXT_MAX];
    if (spec_addr_parse(&addr, text, SPEC_LOOPBACK, &e) == 0) {
        CHECK(spec_addr_parse(&addr2, spec_addr_text(&addr, out), SPEC_LOOPBACK, &e) == 0);
        CHECK(strcmp(out, spec_addr_text(&addr2, again)) == 0);
    } else {
        fuzz_refused(&e);
    }
    if (spec_dest_parse(&dest, text, &e) == 0) {
        CHECK(spec_dest_parse(&dest2, spec_dest_text(&dest, out), &e) == 0);
        CHECK(strcmp(out, spec_dest_text(&dest2, again)) == 0);
    } else {
        fuzz_refused(&e);
    }
    parsed(spec_addr_udp_parse(&addr, &udp, text, "*", &e), &e);
    parsed(spec_dest_udp_parse(&dest, &udp, text, &e), &e);
    parsed(spec_local_parse(&f, text, &e), &e);
    parsed(spec_reverse_parse(&f, text, &e), &e);
    parsed(spec_socks_parse(&f, text, &e), &e);
    parsed(spec_offer_parse(&o, text, &e), &e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_text(data, size);
    rule(RULE_ALLOW, text);
    rule(RULE_LISTEN, text);
    rule(RULE_OFFER, text);
    specs(text);
    free(text);
    return 0;
}
