// SPDX-License-Identifier: Apache-2.0
// `culvert explain`: asks the policy the question that a relay would ask, and prints the rule that decides. Names are
// resolved here, as the relay would; this blocks, being a command.
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include "cmd/command.h"
#include "core/addr.h"
#include "trust/policy.h"
#include "trust/store.h"
#include "wire/spec.h"

static const struct option own_options[] = {
    {"listen", 0, "ADDR[/udp]", OPT_ARGV, "ask whether it may listen there instead"},
    {NULL},
};
static const struct option *const tables[] = {own_options, NULL};

#define ADDRS_MAX 16

struct question {
    struct policy *p;
    uint8_t pin[PIN_SIZE];
    struct verdict v;
    bool allowed;
};

static void say(const struct question *q)
{
    puts(q->v.text);
}

static int resolve(const char *host, uint16_t port, struct addr *out, struct err *e)
{
    if (addr_parse_ip(out, host, port))
        return 1;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    int rc = getaddrinfo(host, NULL, &hints, &list), n = 0;
    if (rc) {
        err_set(e, ERR_FAILED, WHY_DNS, "%s: %s", host, gai_strerror(rc));
        return -1;
    }
    for (struct addrinfo *at = list; at && n < ADDRS_MAX; at = at->ai_next)
        if (addr_from(&out[n], at->ai_addr, at->ai_addrlen))
            addr_set_port(&out[n++], port);
    freeaddrinfo(list);
    return n;
}

static int ask_dial(struct question *q, const struct spec_dest *d, bool udp, struct err *e)
{
    struct addr at[ADDRS_MAX];
    if (!addr_parse_ip(&at[0], d->host, d->port) && !policy_may_resolve(q->p, q->pin, d->host, d->port, udp)) {
        printf("%s:%u: denied: no rule could allow it, whatever its addresses are\n", d->host, d->port);
        return 0;
    }
    int n = resolve(d->host, d->port, at, e);
    for (int i = 0; i < n; i++) {
        q->allowed |= policy_dial(q->p, q->pin, d->host, &at[i], udp, &q->v);
        say(q);
    }
    return n < 0 ? -1 : 0;
}

static int ask_dest(struct question *q, const char *text, struct err *e)
{
    struct spec_dest d;
    bool udp;
    if (spec_dest_udp_parse(&d, &udp, text, e) < 0)
        return -1;
    if (d.kind == SPEC_NET)
        return ask_dial(q, &d, udp, e);
    q->allowed = d.kind == SPEC_UNIX ? policy_dial_unix(q->p, q->pin, d.path, &q->v)
                                     : policy_service(q->p, q->pin, d.service, d.agent, &q->v);
    say(q);
    return 0;
}

static int ask_listen(struct question *q, const char *text, struct err *e)
{
    struct spec_addr a;
    struct addr at[ADDRS_MAX];
    bool udp;
    if (spec_addr_udp_parse(&a, &udp, text, SPEC_LOOPBACK, e) < 0)
        return -1;
    if (a.kind == SPEC_UNIX) {
        q->allowed = policy_listen_unix(q->p, q->pin, a.path, &q->v);
        say(q);
        return 0;
    }
    int n = resolve(strcmp(a.host, "*") ? a.host : "::", a.port, at, e);
    for (int i = 0; i < n; i++) {
        bool ok = policy_listen(q->p, q->pin, &at[i], udp, &q->v);
        q->allowed = ok && (i == 0 || q->allowed); // all of them are bound
        say(q);
    }
    return n < 0 ? -1 : 0;
}

static int find(struct question *q, const char *who, struct err *e)
{
    if (policy_find(q->p, who, q->pin) || (pin_parse(q->pin, who) && policy_knows(q->p, q->pin)))
        return 0;
    return err_set(e, ERR_POLICY, WHY_POLICY, "%.80s: denied: no agent of that name or pin is enrolled here", who);
}

static int run(struct options *o, struct err *e)
{
    const char *listen = options_get(o, "listen");
    if (!listen == (o->arg_count < 2))
        return err_set(e, ERR_USAGE, WHY_NONE,
                       "culvert explain: say AGENT DEST, or AGENT --listen ADDR; see culvert "
                       "explain --help");
    char *state = state_folder(o, e);
    struct store *s = state ? store_open(state, e) : NULL;
    struct question q = {.p = s ? store_policy(s, e) : NULL};
    int rc = q.p && store_add_own(s, q.p, e) == 0 ? find(&q, o->args[0], e) : -1;
    if (rc == 0)
        rc = listen ? ask_listen(&q, listen, e) : ask_dest(&q, o->args[1], e);
    policy_free(q.p);
    store_close(s);
    free(state);
    return rc < 0 ? rc : q.allowed ? 0 : ERR_POLICY;
}

const struct command command_explain = {
    .name = "explain",
    .section = "relay",
    .usage = "AGENT DEST[/udp] | AGENT --listen ADDR[/udp]",
    .args_min = 1,
    .args_max = 2,
    .summary = "the rule that allows or denies something (at the relay)",
    .about = "Asks the relay's policy and prints the rule that decides, for each address a name has. Exit status 0:\n"
             "allowed, 5: denied.",
    .examples = "  culvert explain site7 db.internal:5432\n"
                "  culvert explain site7 10.0.0.53:53/udp\n"
                "  culvert explain laptop ssh@site7\n"
                "  culvert explain site7 --listen '*:8080'\n",
    .tables = tables,
    .run = run,
};
