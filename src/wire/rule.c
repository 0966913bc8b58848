// SPDX-License-Identifier: Apache-2.0
#include "wire/rule.h"
#include <ctype.h>
#include <string.h>
#include <strings.h>
#include "wire/scan.h"

const char *rule_verb_name(enum rule_verb verb)
{
    static const char *const names[] = {"allow", "allow-listen", "allow-offer"};
    return names[verb];
}

// Classes of addresses ------------------------------------------------------------------------------------------

#define V4(a, b, c, d, n)                                                                                              \
    {                                                                                                                  \
        AF_INET, n,                                                                                                    \
        {                                                                                                              \
            a, b, c, d                                                                                                 \
        }                                                                                                              \
    }
#define V6(n, ...)                                                                                                     \
    {                                                                                                                  \
        AF_INET6, n,                                                                                                   \
        {                                                                                                              \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    }

static const struct block {
    struct cidr cidr;
    enum addr_class class;
} blocks[] = {
    {V4(0, 0, 0, 0, 8), ADDR_UNSPECIFIED},
    {V4(127, 0, 0, 0, 8), ADDR_LOOPBACK},
    {V4(169, 254, 0, 0, 16), ADDR_LINK_LOCAL},
    {V4(10, 0, 0, 0, 8), ADDR_PRIVATE},
    {V4(172, 16, 0, 0, 12), ADDR_PRIVATE},
    {V4(192, 168, 0, 0, 16), ADDR_PRIVATE},
    {V4(100, 64, 0, 0, 10), ADDR_PRIVATE}, // RFC 6598
    {V4(192, 0, 0, 0, 24), ADDR_PRIVATE},  // RFC 6890
    {V4(198, 18, 0, 0, 15), ADDR_PRIVATE}, // RFC 2544
    {V4(192, 88, 99, 0, 24), ADDR_6TO4},   // RFC 7526
    {V4(224, 0, 0, 0, 4), ADDR_MULTICAST},
    {V4(240, 0, 0, 0, 4), ADDR_MULTICAST},
    {V6(128, 0), ADDR_UNSPECIFIED},
    {V6(128, [15] = 1), ADDR_LOOPBACK},
    {V6(96, [10] = 0xff, [11] = 0xff), ADDR_MAPPED},
    {V6(96, [8] = 0xff, [9] = 0xff), ADDR_MAPPED}, // translated, RFC 2765
    {V6(96, 0), ADDR_MAPPED},                      // compatible, RFC 4291 2.5.5.1
    {V6(16, 0x20, 0x02), ADDR_6TO4},
    {V6(32, 0x20, 0x01), ADDR_6TO4}, // Teredo, RFC 4380
    {V6(96, 0x00, 0x64, 0xff, 0x9b), ADDR_NAT64},
    {V6(48, 0x00, 0x64, 0xff, 0x9b, 0x00, 0x01), ADDR_NAT64},
    {V6(10, 0xfe, 0x80), ADDR_LINK_LOCAL},
    {V6(10, 0xfe, 0xc0), ADDR_PRIVATE},
    {V6(7, 0xfc), ADDR_PRIVATE},
    {V6(8, 0xff), ADDR_MULTICAST},
};
#define BLOCKS (sizeof blocks / sizeof *blocks)

// The special block of an address (the first that has it), NULL when it is public.
static const struct block *block_of(const struct addr *a)
{
    for (size_t i = 0; i < BLOCKS; i++)
        if (cidr_has(&blocks[i].cidr, a))
            return &blocks[i];
    return NULL;
}

enum addr_class addr_class(const struct addr *a)
{
    const struct block *b = block_of(a);
    return b ? b->class : ADDR_PUBLIC;
}

const char *addr_class_name(enum addr_class c)
{
    static const char *const names[] = {"public",    "private",   "loopback", "link-local", "unspecified",
                                        "multicast", "v4-mapped", "6to4",     "NAT64"};
    return names[c];
}

// Parsing -------------------------------------------------------------------------------------------------------

static int take_name(const struct scan *s, const char *at, size_t len, bool star, char *name)
{
    if (star && len == 1 && *at == '*')
        return strcpy(name, "*"), 0;
    if (!scan_copy(name, SPEC_NAME_MAX + 1, at, len) || !spec_is_name(name))
        return scan_fail(s, "\"%.*s\" is no name: 1 to 63 letters, digits, '.', '_', '-'", (int)(len < 100 ? len : 100),
                         at);
    return 0;
}

static int take_ports(const struct scan *s, struct rule *r, const char *at, size_t len)
{
    const char *dash = memchr(at, '-', len);
    bool zero = r->verb == RULE_LISTEN;
    if (len == 1 && *at == '*') {
        r->port_max = 65535;
        return 0;
    }
    if (!dash) {
        int got = scan_port(s, at, len, zero, &r->port_min);
        r->port_max = r->port_min;
        return got;
    }
    size_t n = (size_t)(dash - at);
    if (scan_port(s, at, n, false, &r->port_min) < 0 || scan_port(s, dash + 1, len - n - 1, false, &r->port_max) < 0)
        return -1;
    if (r->port_min > r->port_max)
        return scan_fail(s, "the ports %.*s run backwards; write the lower one first", (int)len, at);
    return 0;
}

static void lower(char *s)
{
    for (; *s; s++)
        *s = (char)tolower((unsigned char)*s);
}

static void drop_final_dot(char *host)
{
    size_t n = strlen(host);
    if (n > 1 && host[n - 1] == '.')
        host[n - 1] = 0;
}

static int take_cidr(const struct scan *s, struct rule *r, const char *at, size_t len)
{
    char text[80];
    r->match = RULE_CIDR;
    if (!scan_copy(text, sizeof text, at, len) || !cidr_parse(&r->cidr, text))
        return scan_fail(s, "\"%.*s\" is no address or block; write 10.0.0.0/8 or [fd00::/8], host bits 0",
                         (int)(len < 100 ? len : 100), at);
    return 0;
}

// "localhost" resolves to loopback only, which no name covers: such a rule would never allow anything.
static bool is_localhost(const char *host)
{
    size_t n = strlen(host);
    return strcmp(host, "localhost") == 0 || (n > 10 && strcmp(host + n - 10, ".localhost") == 0);
}

static int take_host(const struct scan *s, struct rule *r, const char *at, size_t len)
{
    struct addr ip;
    if (len == 1 && *at == '*') {
        r->match = RULE_ANY;
        return 0;
    }
    if (len && (*at == '[' || memchr(at, '/', len)))
        return take_cidr(s, r, at, len);
    bool suffix = len > 2 && at[0] == '*' && at[1] == '.';
    if (suffix) {
        r->host[0] = '.';
        if (scan_host(s, at + 2, len - 2, r->host + 1) < 0)
            return -1;
    } else if (scan_host(s, at, len, r->host) < 0) {
        return -1;
    }
    if (!suffix && addr_parse_ip(&ip, r->host, 0))
        return take_cidr(s, r, at, len);
    r->match = suffix ? RULE_SUFFIX : RULE_NAME;
    lower(r->host);
    drop_final_dot(r->host);
    if (r->verb == RULE_ALLOW && is_localhost(r->host))
        return scan_fail(s, "names never cover loopback addresses; write 127.0.0.1 or [::1]");
    if (r->verb == RULE_LISTEN && strcmp(r->host, "localhost") != 0)
        return scan_fail(s, "write the address to listen on, localhost, or * for all");
    return 0;
}

static bool take_udp(const char *at, size_t *len)
{
    if (*len < 4 || memcmp(at + *len - 4, "/udp", 4) != 0)
        return false;
    *len -= 4;
    return true;
}

static int take_net(const struct scan *s, struct rule *r, const char *at, size_t len)
{
    r->kind = SPEC_NET;
    r->udp = take_udp(at, &len);
    size_t n = scan_colon(at, len);
    if (r->verb == RULE_LISTEN && n == len) { // a bare port, or ports, or *
        r->match = RULE_CIDR;
        cidr_parse(&r->cidr, SPEC_LOOPBACK);
        return take_ports(s, r, at, len);
    }
    if (n == len)
        return scan_fail(s, "\"%.*s\" has no ports; write host:ports, unix:PATH or SERVICE@AGENT", (int)len, at);
    if (scan_colon(at + n + 1, len - n - 1) != len - n - 1)
        return scan_fail(s, "write IPv6 addresses and blocks in brackets, as in [2001:db8::1]:22 or [fd00::/8]:22");
    if (take_host(s, r, at, n) < 0)
        return -1;
    return take_ports(s, r, at + n + 1, len - n - 1);
}

static int take_service(const struct scan *s, struct rule *r, const char *at, size_t len, const char *sign)
{
    size_t n = (size_t)(sign - at);
    r->kind = SPEC_SERVICE;
    if (take_name(s, at, n, true, r->service) < 0)
        return -1;
    return take_name(s, sign + 1, len - n - 1, true, r->agent);
}

int rule_parse(struct rule *r, enum rule_verb verb, const char *text, struct err *e)
{
    static const char *const whats[] = {"--allow", "--allow-listen", "--allow-offer"};
    struct scan s = {whats[verb], text, e};
    size_t len = strlen(text);
    *r = (struct rule){.verb = verb};
    if (!scan_copy(r->text, sizeof r->text, text, len))
        return scan_fail(&s, "a rule has at most %d characters", RULE_TEXT_MAX - 1);
    if (len == 0)
        return scan_fail(&s, "the rule is empty");
    if (verb == RULE_OFFER) {
        r->kind = SPEC_SERVICE;
        return take_name(&s, text, len, true, r->service);
    }
    if (scan_has_prefix(text, len, "unix:")) {
        r->kind = SPEC_UNIX;
        return scan_path(&s, text + 5, len - 5, r->path);
    }
    const char *sign = strchr(text, '@');
    if (sign && verb == RULE_ALLOW)
        return take_service(&s, r, text, len, sign);
    return take_net(&s, r, text, len);
}

bool rule_same(const struct rule *a, const struct rule *b)
{
    if (a->verb != b->verb || a->kind != b->kind)
        return false;
    if (a->kind == SPEC_UNIX)
        return strcmp(a->path, b->path) == 0;
    if (a->kind == SPEC_SERVICE)
        return strcmp(a->service, b->service) == 0 && strcmp(a->agent, b->agent) == 0;
    return a->match == b->match && a->udp == b->udp && a->port_min == b->port_min && a->port_max == b->port_max &&
           strcmp(a->host, b->host) == 0 && a->cidr.family == b->cidr.family && a->cidr.bits == b->cidr.bits &&
           memcmp(a->cidr.bytes, b->cidr.bytes, sizeof a->cidr.bytes) == 0;
}

// Matching ------------------------------------------------------------------------------------------------------

static bool name_matches(const struct rule *r, const char *name)
{
    char asked[SPEC_HOST_MAX + 1];
    size_t n, tail = strlen(r->host);
    if (!name || !scan_copy(asked, sizeof asked, name, strlen(name)))
        return false;
    drop_final_dot(asked);
    n = strlen(asked);
    if (r->match == RULE_NAME)
        return strcasecmp(asked, r->host) == 0;
    return n > tail && strcasecmp(asked + n - tail, r->host) == 0;
}

static bool port_matches(const struct rule *r, uint16_t port)
{
    return port >= r->port_min && port <= r->port_max;
}

static bool cidr_within(const struct cidr *c, const struct cidr *block)
{
    struct addr first = {0};
    if (c->family == AF_INET) {
        first.len = sizeof first.in;
        first.in.sin_family = AF_INET;
        memcpy(&first.in.sin_addr, c->bytes, 4);
    } else {
        first.len = sizeof first.in6;
        first.in6.sin6_family = AF_INET6;
        memcpy(&first.in6.sin6_addr, c->bytes, 16);
    }
    return c->bits >= block->bits && cidr_has(block, &first);
}

bool rule_allows_dial(const struct rule *r, const char *name, const struct addr *to, bool udp, bool own)
{
    if (r->verb != RULE_ALLOW || r->kind != SPEC_NET || r->udp != udp || !port_matches(r, addr_port(to)))
        return false;
    const struct block *b = block_of(to);
    if (r->match == RULE_CIDR)
        return cidr_has(&r->cidr, to) && (!b || b->class == ADDR_PRIVATE || cidr_within(&r->cidr, &b->cidr));
    if (b || own)
        return false;
    return r->match == RULE_ANY || name_matches(r, name);
}

bool rule_allows_unix(const struct rule *r, const char *path)
{
    return r->verb == RULE_ALLOW && r->kind == SPEC_UNIX && strcmp(r->path, path) == 0;
}

static bool part_matches(const char *pattern, const char *part)
{
    return strcmp(pattern, "*") == 0 || strcmp(pattern, part) == 0;
}

bool rule_allows_service(const struct rule *r, const char *service, const char *agent)
{
    return r->verb == RULE_ALLOW && r->kind == SPEC_SERVICE && part_matches(r->service, service) &&
           part_matches(r->agent, agent);
}

static bool is_unspecified(const struct addr *a)
{
    return a->sa.sa_family == AF_INET ? a->in.sin_addr.s_addr == 0
                                      : a->sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr);
}

bool rule_allows_listen(const struct rule *r, const struct addr *at, bool udp)
{
    if (r->verb != RULE_LISTEN || r->kind != SPEC_NET || r->udp != udp || !port_matches(r, addr_port(at)))
        return false;
    if (r->match == RULE_ANY)
        return true;
    if (r->match == RULE_NAME)
        return strcmp(r->host, "localhost") == 0 && addr_is_loopback(at);
    return cidr_has(&r->cidr, at) && (!is_unspecified(at) || r->cidr.bits == (at->sa.sa_family == AF_INET ? 32 : 128));
}

bool rule_allows_listen_unix(const struct rule *r, const char *path)
{
    return r->verb == RULE_LISTEN && r->kind == SPEC_UNIX && strcmp(r->path, path) == 0;
}

bool rule_allows_offer(const struct rule *r, const char *name)
{
    return r->verb == RULE_OFFER && part_matches(r->service, name);
}
