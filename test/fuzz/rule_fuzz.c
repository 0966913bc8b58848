// SPDX-License-Identifier: Apache-2.0
// Rules of every verb, and the places people write (ADDR, DEST, forwards, offers). A rule's text parses to the same rule,
// and no rule but one that names it reaches loopback.
#include "fuzz.h"
#include "wire/rule.h"
#include "wire/spec.h"

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
