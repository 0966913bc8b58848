// SPDX-License-Identifier: Apache-2.0
// Names: what the resolver says, as every dial would hear it, and what each DNS server says by itself, where there are several.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check/inside.h"

#define SERVERS_MAX 4

struct name_probe {
    struct probe probe;
    struct finding *f;
    struct resolver *own; // asks one server only; NULL: the shared one
    struct resolve resolve;
    char group[400], host[256];
    uint16_t port;
    bool of_proxy;
};

static void fini(struct probe *p)
{
    struct name_probe *n = container_of(p, struct name_probe, probe);
    resolve_cancel(&n->resolve);
    resolver_free(n->own);
}

static void list(const struct addr *addrs, size_t count, char *out, size_t size, json_t *all)
{
    size_t at = 0;
    for (size_t i = 0; i < count && at < size; i++) {
        char text[ADDR_TEXT_MAX];
        addr_host(&addrs[i], text);
        at += (size_t)snprintf(out + at, size - at, "%s%s", i ? ", " : "", text);
        json_array_append_new(all, json_string(text));
    }
}

static void on_answer(struct resolve *q, const struct addr *addrs, size_t count, const struct err *err)
{
    struct name_probe *n = container_of(q, struct name_probe, resolve);
    struct check *c = n->probe.c;
    char text[700];
    json_t *all = json_array();
    if (count > 0) {
        list(addrs, count, text, sizeof(text), all);
        finding_end(n->f, CHECK_OK, ADVICE_NONE, c->w.now_ms, "%s%s", text, q->here ? " (known here, no DNS asked)" : "");
    } else {
        finding_fail(n->f, err, c->w.now_ms);
    }
    finding_more(n->f, "addresses", all);
    for (size_t i = 0; i < count && !n->own; i++)
        address_probe(c, n->group, &addrs[i], n->of_proxy);
    probe_over(&n->probe);
}

static struct name_probe *start(struct check *c, const char *group, const char *host, uint16_t port, const char *subject)
{
    struct name_probe *n = calloc(1, sizeof(*n));
    if (!n)
        abort();
    snprintf(n->group, sizeof(n->group), "%s", group);
    snprintf(n->host, sizeof(n->host), "%s", host);
    n->port = port;
    n->f = report_add(c->report, group, "name", subject, c->w.now_ms);
    probe_start(&n->probe, c, fini);
    return n;
}

// Each server by itself, so that one that is dead or says something else is seen.
static void ask_servers(struct check *c, const char *group, const char *host, uint16_t port)
{
    char servers[SERVERS_MAX][RESOLVER_TEXT_MAX];
    size_t count = resolver_list(c->resolver, servers, SERVERS_MAX);
    for (size_t i = 0; i < count && count > 1; i++) {
        struct err e = ERR_INIT;
        char subject[400];
        struct resolver *own = resolver_new(&c->w, &e);
        err_fini(&e);
        if (!own || !resolver_servers(own, servers[i])) {
            resolver_free(own);
            continue;
        }
        snprintf(subject, sizeof(subject), "%s at %s", host, servers[i]);
        struct name_probe *n = start(c, group, host, port, subject);
        n->own = own;
        resolve_start(own, &n->resolve, host, port, on_answer);
    }
}

void names_probe(struct check *c, const char *group, const char *host, uint16_t port, bool of_proxy)
{
    struct addr literal;
    if (addr_parse_ip(&literal, host, port)) { // no name to ask for
        address_probe(c, group, &literal, of_proxy);
        return;
    }
    struct name_probe *n = start(c, group, host, port, host);
    n->of_proxy = of_proxy;
    resolve_start(c->resolver, &n->resolve, host, port, on_answer);
    if (!n->resolve.here)
        ask_servers(c, group, host, port);
}
