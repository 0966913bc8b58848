// SPDX-License-Identifier: Apache-2.0
// `culvert invite`: one line that lets an agent in.
#include <stdlib.h>
#include <string.h>
#include <openssl/crypto.h>
#include "cmd/command.h"
#include "cmd/rules.h"
#include "relay/state.h"
#include "trust/cert.h"
#include "trust/identity.h"
#include "trust/store.h"

static const struct option own_options[] = {
    {"name", 0, "AGENT", OPT_ARGV, "what the agent will be called: letters, digits, . _ -"},
    {"allow", 0, "RULE", OPT_MANY | OPT_ARGV, "what it may reach: host:ports[/udp], unix:PATH or SERVICE@AGENT"},
    {"allow-listen", 0, "ADDR[/udp]", OPT_MANY | OPT_ARGV, "where it may listen at the relay"},
    {"allow-offer", 0, "NAME", OPT_MANY | OPT_ARGV, "which services it may offer to others"},
    {"uses", 0, "N", OPT_ARGV, "how many keys may use the invitation; default 1"},
    {"ttl", 0, "TIME", OPT_ARGV, "how long it is good; default 15m"},
    {"proxy", 0, "PROXY", OPT_MANY | OPT_ARGV, "a proxy that the agent shall use; several: a chain"},
    {"peer", 0, "AGENT", OPT_MANY | OPT_ARGV,
     "tell the agent this other one's pin, so that its streams there are sealed: the relay passes them without reading"},
    {"url", 0, "RELAY", 0, "how the agent reaches this relay; default: what the relay was started with"},
    {"outer", 0, "verify|report", OPT_ARGV,
     "what the agent does about the web certificate; default verify, or report "
     "where it is self-signed; the relay's key is checked in any case"},
    {NULL},
};
static const struct option *const tables[] = {own_options, NULL};

static int parse_proxies(const struct options *o, struct pairing *p, struct err *e)
{
    p->proxy_count = options_count(o, "proxy");
    if (p->proxy_count > PAIRING_PROXIES)
        return err_set(e, ERR_USAGE, WHY_NONE, "culvert invite: at most %d proxies", PAIRING_PROXIES);
    for (size_t i = 0; i < p->proxy_count; i++)
        if (proxy_url_parse(&p->proxies[i], options_nth(o, "proxy", i)->text, e) < 0)
            return -1;
    return 0;
}

// --url, else what the relay wrote down at its start, else the installed certificate's first name. A certificate that
// nobody but its own key signed cannot be verified: the agent is told to report it, and relies on the pin.
static int find_place(const struct options *o, const char *state, struct pairing *p, struct err *e)
{
    static const char *const outer[] = {"verify", "report", NULL};
    const char *given = options_get(o, "url");
    struct relay_place place;
    bool known = relay_state_place(state, &place);
    unsigned which = known && place.self_signed;
    if (!given && !known)
        return err_set(e, ERR_USAGE, WHY_NONE,
                       "culvert invite: nobody knows how agents reach this relay: install a "
                       "certificate (culvert cert), start the relay once, or say --url RELAY");
    if (options_word(o, "outer", outer, &which, e) < 0)
        return -1;
    p->outer_report = which == 1;
    return relay_url_parse(&p->relay, given ? given : place.url, e);
}

// The pins of the agents named by --peer, as they are enrolled here.
static int find_peers(const struct options *o, struct store *s, struct pairing *p, struct err *e)
{
    size_t count = options_count(o, "peer");
    if (count > PAIRING_PEERS)
        return err_set(e, ERR_USAGE, WHY_NONE, "culvert invite: at most %d times --peer", PAIRING_PEERS);
    struct policy *policy = count ? store_policy(s, e) : NULL;
    int rc = !count || policy ? 0 : -1;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        const char *name = options_nth(o, "peer", i)->text;
        struct pairing_peer *peer = &p->peers[p->peer_count];
        if (!spec_is_name(name) || !policy_find(policy, name, peer->pin)) {
            rc = err_set(e, ERR_USAGE, WHY_NONE, "--peer %.63s: no agent of that name is enrolled here", name);
            break;
        }
        snprintf(peer->name, sizeof peer->name, "%s", name);
        p->peer_count++;
    }
    policy_free(policy);
    return rc;
}

static int make(struct options *o, const char *state, const struct rules *rules, struct pairing *p, struct err *e)
{
    uint64_t uses = 1, ttl_ms = 15 * 60000;
    const char *name = options_get(o, "name");
    if (!name)
        return err_set(e, ERR_USAGE, WHY_NONE, "culvert invite: --name AGENT is missing; see culvert invite --help");
    if (!spec_is_name(name))
        return err_set(e, ERR_USAGE, WHY_NONE,
                       "--name \"%.60s\": 1 to 63 of letters, digits, . _ - and starting with a "
                       "letter or digit",
                       name);
    if (options_number(o, "uses", 1, 1000000, &uses, e) < 0 || options_ms(o, "ttl", &ttl_ms, e) < 0 ||
        parse_proxies(o, p, e) < 0 || find_place(o, state, p, e) < 0)
        return -1;
    if (ttl_ms < 1000 || ttl_ms > 366ull * 86400000)
        return err_set(e, ERR_USAGE, WHY_NONE, "--ttl: from 1s to 366d");
    struct identity id = {0};
    if (relay_state_identity(state, &id, e) < 0)
        return -1;
    memcpy(p->pins[0], id.pin, PIN_SIZE);
    p->pin_count = 1;
    identity_fini(&id);
    struct store *s = store_open(state, e);
    if (!s)
        return -1;
    struct store_invite i = {
        .name = name, .rules = rules->list, .rule_count = rules->count, .uses = (unsigned)uses, .ttl_s = ttl_ms / 1000};
    char inv[STORE_INVITATION_ID];
    int rc = find_peers(o, s, p, e);
    if (rc == 0)
        rc = store_invite(s, &i, p->token, inv, e);
    store_close(s);
    return rc;
}

static int print(const struct pairing *p, struct err *e)
{
    char *text = calloc(1, PAIRING_TEXT_MAX);
    if (!text || !pairing_text(p, text)) {
        free(text);
        return err_set(e, ERR_USAGE, WHY_NONE, "culvert invite: the line would be too long; use fewer proxies");
    }
    puts(text);
    OPENSSL_cleanse(text, PAIRING_TEXT_MAX);
    free(text);
    return 0;
}

static int run(struct options *o, struct err *e)
{
    struct rules rules = {0};
    struct pairing *p = calloc(1, sizeof *p);
    char *state = p ? state_folder(o, e) : NULL;
    int rc = state ? rules_parse(o, "allow", &rules, e) : -1;
    if (rc == 0)
        rc = make(o, state, &rules, p, e);
    if (rc == 0)
        rc = print(p, e);
    if (p)
        pairing_wipe(p);
    free(p);
    free(state);
    rules_fini(&rules);
    return rc;
}

const struct command command_invite = {
    .name = "invite",
    .section = "relay",
    .usage = "",
    .summary = "print the line that lets an agent in (at the relay)",
    .about =
        "Prints one culvert:// line for `culvert join`. It holds a secret, works once and for a quarter of an hour "
        "unless\ntold otherwise. What the agent may do is decided here; without any --allow it may do nothing.",
    .examples =
        "  culvert invite --name site7 --allow 10.1.2.3:22\n"
        "  culvert invite --name laptop --allow '*.corp.example:80-443' --allow 10.0.0.0/8:* --allow ssh@site7\n"
        "  culvert invite --name site7 --allow-listen '*:8080' --allow-offer ssh\n"
        "  culvert invite --name laptop --allow ssh@site7 --peer site7\n"
        "  culvert invite --name lab --uses 20 --ttl 1d | ssh lab culvert join -\n",
    .tables = tables,
    .run = run,
};
