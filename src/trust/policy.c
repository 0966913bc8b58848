// SPDX-License-Identifier: Apache-2.0
#include "trust/policy.h"
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Subjects are kept ordered by pin for bsearch; adding is rare, asking is not.
struct subject {
    uint8_t pin[PIN_SIZE];
    char name[SPEC_NAME_MAX + 1];
    struct rule *rules;
    size_t rule_count, rule_cap;
};

struct policy {
    struct subject *subjects;
    size_t count, cap;
    struct addr *own;
    size_t own_count;
};

static void *must(void *memory)
{
    if (!memory)
        abort(); // out of memory: see core/buf.h
    return memory;
}

// Building ------------------------------------------------------------------------------------------------------

struct policy *policy_new(void)
{
    return must(calloc(1, sizeof(struct policy)));
}

void policy_free(struct policy *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->count; i++)
        free(p->subjects[i].rules);
    free(p->subjects);
    free(p->own);
    free(p);
}

// The place of pin, or where it would stand. Pins are public, an ordinary compare will do.
static size_t place(const struct policy *p, const uint8_t pin[PIN_SIZE], bool *found)
{
    size_t low = 0, high = p->count;
    *found = false;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = memcmp(p->subjects[mid].pin, pin, PIN_SIZE);
        if (order == 0) {
            *found = true;
            return mid;
        }
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static struct subject *find(const struct policy *p, const uint8_t pin[PIN_SIZE])
{
    bool found;
    size_t i = place(p, pin, &found);
    return found ? &p->subjects[i] : NULL;
}

bool policy_add(struct policy *p, const uint8_t pin[PIN_SIZE], const char *name)
{
    bool found;
    size_t i = place(p, pin, &found);
    if (found)
        return false;
    if (p->count == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 8;
        p->subjects = must(reallocarray(p->subjects, p->cap, sizeof *p->subjects));
    }
    memmove(p->subjects + i + 1, p->subjects + i, (p->count - i) * sizeof *p->subjects);
    p->count++;
    p->subjects[i] = (struct subject){0};
    memcpy(p->subjects[i].pin, pin, PIN_SIZE);
    snprintf(p->subjects[i].name, sizeof p->subjects[i].name, "%s", name);
    return true;
}

bool policy_add_rule(struct policy *p, const uint8_t pin[PIN_SIZE], const struct rule *r)
{
    struct subject *s = find(p, pin);
    if (!s || s->rule_count == POLICY_RULES_MAX)
        return false;
    if (s->rule_count == s->rule_cap) {
        s->rule_cap = s->rule_cap ? s->rule_cap * 2 : 4;
        s->rules = must(reallocarray(s->rules, s->rule_cap, sizeof *s->rules));
    }
    s->rules[s->rule_count++] = *r;
    return true;
}

static void add_own(struct policy *p, const struct addr *a)
{
    p->own = must(reallocarray(p->own, p->own_count + 1, sizeof *p->own));
    p->own[p->own_count++] = *a;
}

static bool is_unspecified(const struct addr *a)
{
    if (a->sa.sa_family == AF_INET)
        return a->in.sin_addr.s_addr == INADDR_ANY;
    return a->sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr);
}

void policy_add_own(struct policy *p, const struct addr *listener)
{
    struct ifaddrs *list;
    if (!listener->len || listener->sa.sa_family == AF_UNIX)
        return;
    add_own(p, listener);
    if (!is_unspecified(listener) || getifaddrs(&list) < 0)
        return;
    for (struct ifaddrs *i = list; i; i = i->ifa_next) {
        struct addr a;
        int family = i->ifa_addr ? i->ifa_addr->sa_family : AF_UNSPEC;
        if (family != AF_INET && family != AF_INET6)
            continue;
        if (!addr_from(&a, i->ifa_addr, family == AF_INET ? sizeof a.in : sizeof a.in6))
            continue;
        addr_set_port(&a, addr_port(listener));
        add_own(p, &a);
    }
    freeifaddrs(list);
}

// Looking up ----------------------------------------------------------------------------------------------------

bool policy_knows(const struct policy *p, const uint8_t pin[PIN_SIZE])
{
    return find(p, pin) != NULL;
}

const char *policy_name(const struct policy *p, const uint8_t pin[PIN_SIZE])
{
    const struct subject *s = find(p, pin);
    return s ? s->name : NULL;
}

bool policy_find(const struct policy *p, const char *name, uint8_t pin[PIN_SIZE])
{
    for (size_t i = 0; i < p->count; i++)
        if (strcmp(p->subjects[i].name, name) == 0) {
            memcpy(pin, p->subjects[i].pin, PIN_SIZE);
            return true;
        }
    return false;
}

// Asking --------------------------------------------------------------------------------------------------------

// The address without what does not tell two listeners apart.
static struct addr plain(const struct addr *a)
{
    struct addr p = *a;
    addr_unmap(&p);
    if (p.sa.sa_family == AF_INET6)
        p.in6.sin6_scope_id = 0;
    return p;
}

static bool is_own(const struct policy *p, const struct addr *to)
{
    struct addr wanted = plain(to);
    for (size_t i = 0; i < p->own_count; i++) {
        struct addr own = plain(&p->own[i]);
        if (addr_equal(&own, &wanted))
            return true;
    }
    return false;
}

static bool verdict(struct verdict *v, bool allowed, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static bool verdict(struct verdict *v, bool allowed, const char *fmt, ...)
{
    va_list ap;
    if (!v)
        return allowed;
    va_start(ap, fmt);
    v->allowed = allowed;
    vsnprintf(v->text, sizeof v->text, fmt, ap);
    va_end(ap);
    return allowed;
}

static bool unknown(struct verdict *v)
{
    return verdict(v, false, "denied: this identity is unknown or revoked");
}

static bool allowed_by(struct verdict *v, const struct subject *s, const struct rule *r, const char *what)
{
    return verdict(v, true, "allowed: %s by the rule %s %s of %s", what, rule_verb_name(r->verb), r->text, s->name);
}

// Why no rule covers an address that some might be thought to cover.
static bool deny_dial(struct verdict *v, const struct subject *s, const char *what, enum addr_class class, bool own)
{
    if (own)
        return verdict(v, false,
                       "denied: %s is a listener of this relay, which only a rule that gives its address "
                       "covers; %s has none that does",
                       what, s->name);
    if (class == ADDR_PUBLIC)
        return verdict(v, false, "denied: no rule of %s allows %s", s->name, what);
    return verdict(v, false,
                   "denied: no rule of %s allows %s; it is a %s address, which only a rule with %s covers, "
                   "never a name or *",
                   s->name, what, addr_class_name(class),
                   class == ADDR_PRIVATE ? "an address or block" : "that address or a block within its range");
}

// "192.0.2.1:22/udp for host.example"
static void tell_dial(char *out, size_t size, const char *name, const struct addr *to, bool udp)
{
    char text[ADDR_TEXT_MAX];
    struct addr ip;
    bool told = name && !addr_parse_ip(&ip, name, 0);
    snprintf(out, size, "%s%s%s%.*s", addr_text(to, text), udp ? "/udp" : "", told ? " for " : "", SPEC_HOST_MAX,
             told ? name : "");
}

bool policy_dial(const struct policy *p, const uint8_t pin[PIN_SIZE], const char *name, const struct addr *to, bool udp,
                 struct verdict *v)
{
    char what[ADDR_TEXT_MAX + SPEC_HOST_MAX + 16] = "";
    const struct subject *s = find(p, pin);
    if (!s)
        return unknown(v);
    if (to->sa.sa_family == AF_UNIX)
        return policy_dial_unix(p, pin, to->un.sun_path, v);
    bool own = is_own(p, to);
    if (v)
        tell_dial(what, sizeof what, name, to, udp);
    for (size_t i = 0; i < s->rule_count; i++)
        if (rule_allows_dial(&s->rules[i], name, to, udp, own))
            return v ? allowed_by(v, s, &s->rules[i], what) : true;
    return v ? deny_dial(v, s, what, addr_class(to), own) : false;
}

bool policy_dial_unix(const struct policy *p, const uint8_t pin[PIN_SIZE], const char *path, struct verdict *v)
{
    const struct subject *s = find(p, pin);
    if (!s)
        return unknown(v);
    for (size_t i = 0; i < s->rule_count; i++)
        if (rule_allows_unix(&s->rules[i], path))
            return allowed_by(v, s, &s->rules[i], path);
    return verdict(v, false, "denied: no rule of %s allows unix:%s; only its exact path does", s->name, path);
}

bool policy_service(const struct policy *p, const uint8_t pin[PIN_SIZE], const char *service, const char *agent,
                    struct verdict *v)
{
    char what[SPEC_NAME_MAX * 2 + 2];
    const struct subject *s = find(p, pin);
    if (!s)
        return unknown(v);
    snprintf(what, sizeof what, "%s@%s", service, agent);
    for (size_t i = 0; i < s->rule_count; i++)
        if (rule_allows_service(&s->rules[i], service, agent))
            return allowed_by(v, s, &s->rules[i], what);
    return verdict(v, false, "denied: no rule of %s allows the service %s", s->name, what);
}

bool policy_listen(const struct policy *p, const uint8_t pin[PIN_SIZE], const struct addr *at, bool udp,
                   struct verdict *v)
{
    char text[ADDR_TEXT_MAX], what[ADDR_TEXT_MAX + 16];
    const struct subject *s = find(p, pin);
    if (!s)
        return unknown(v);
    if (at->sa.sa_family == AF_UNIX)
        return policy_listen_unix(p, pin, at->un.sun_path, v);
    snprintf(what, sizeof what, "listening on %s%s", addr_text(at, text), udp ? "/udp" : "");
    for (size_t i = 0; i < s->rule_count; i++)
        if (rule_allows_listen(&s->rules[i], at, udp))
            return allowed_by(v, s, &s->rules[i], what);
    return verdict(v, false, "denied: no rule of %s allows %s", s->name, what);
}

bool policy_listen_unix(const struct policy *p, const uint8_t pin[PIN_SIZE], const char *path, struct verdict *v)
{
    const struct subject *s = find(p, pin);
    if (!s)
        return unknown(v);
    for (size_t i = 0; i < s->rule_count; i++)
        if (rule_allows_listen_unix(&s->rules[i], path))
            return allowed_by(v, s, &s->rules[i], path);
    return verdict(v, false, "denied: no rule of %s allows listening on unix:%s; only its exact path does", s->name,
                   path);
}

bool policy_offer(const struct policy *p, const uint8_t pin[PIN_SIZE], const char *service, struct verdict *v)
{
    const struct subject *s = find(p, pin);
    if (!s)
        return unknown(v);
    for (size_t i = 0; i < s->rule_count; i++)
        if (rule_allows_offer(&s->rules[i], service))
            return allowed_by(v, s, &s->rules[i], service);
    return verdict(v, false, "denied: no rule of %s allows offering the service %s", s->name, service);
}

// Whether the rule could cover some address that the name might turn out to have.
static bool may_cover(const struct rule *r, const char *name, uint16_t port, bool udp)
{
    struct addr public;
    if (r->verb != RULE_ALLOW || r->kind != SPEC_NET || r->udp != udp || port < r->port_min || port > r->port_max)
        return false;
    if (r->match == RULE_CIDR)
        return true;
    addr_parse_ip(&public, "192.0.2.1", port);
    return rule_allows_dial(r, name, &public, udp, false);
}

bool policy_may_resolve(const struct policy *p, const uint8_t pin[PIN_SIZE], const char *name, uint16_t port, bool udp)
{
    const struct subject *s = find(p, pin);
    for (size_t i = 0; s && i < s->rule_count; i++)
        if (may_cover(&s->rules[i], name, port, udp))
            return true;
    return false;
}

bool policy_reach(const struct policy *p, const uint8_t pin[PIN_SIZE], const char *name, uint16_t port, const struct addr *to, bool udp,
                  struct verdict *v)
{
    if (to)
        return policy_dial(p, pin, name, to, udp, v);
    return policy_may_resolve(p, pin, name, port, udp) || verdict(v, false, "no rule allows it");
}

bool policy_may_resolve_listen(const struct policy *p, const uint8_t pin[PIN_SIZE], uint16_t port, bool udp)
{
    const struct subject *s = find(p, pin);
    for (size_t i = 0; s && i < s->rule_count; i++) {
        const struct rule *r = &s->rules[i];
        if (r->verb == RULE_LISTEN && r->kind == SPEC_NET && r->udp == udp && r->port_min <= port && port <= r->port_max)
            return true;
    }
    return false;
}
