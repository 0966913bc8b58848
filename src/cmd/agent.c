// SPDX-License-Identifier: Apache-2.0
// `culvert agent` and `culvert join`: options → struct agent_options.
#include "agent/agent.h"
#include "agent/rank.h"
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include "cmd/command.h"
#include "cmd/connect.h"
#include "cmd/rules.h"

static const struct option own_options[] = {
    {"local", 'L', "ADDR:DEST[/udp]", OPT_MANY,
     "listen here; comes out at the relay (host:port, unix:PATH) or at a service "
     "(SERVICE@AGENT)"},
    {"reverse", 'R', "ADDR[:DEST][/udp]", OPT_MANY,
     "listen at the relay; comes out here; without DEST: SOCKS5 there, out "
     "here"},
    {"socks", 'D', "ADDR", OPT_MANY, "SOCKS5 here, with UDP; comes out at the relay"},
    {"http", 0, "ADDR", OPT_MANY, "HTTP proxy here, for CONNECT and http:// URLs; comes out at the relay"},
    {"socks-login", 0, "FILE", 0, "user:password asked of SOCKS5 and HTTP callers, from a file of mode 0600"},
    {"offer", 0, "NAME=DEST[/udp]", OPT_MANY, "a service for other agents: NAME@this-agent"},
    {"stdio", 'W', "DEST", OPT_ARGV, "stdin and stdout are the stream; ends when no relay is reached at the start"},
    {"allow", 0, "RULE", OPT_MANY,
     "what reverse SOCKS5 may reach here; targets of -R and --offer are allowed by being "
     "named"},
    {"seal", 0, "auto|always|never", 0,
     "TLS inside the streams between agents, so that the relay reads nothing: auto (the default) where the other's pin "
     "is known (culvert peer), always: or not at all, never"},
    {"once", 0, NULL, 0, "end at the first failure instead of connecting again"},
    {"carriers", 0, "N", 0, "connections to keep up, 1 to 8: streams are spread over them, and one that is lost holds up only its own; default 1"},
    {"ready-fd", 0, "N", OPT_ARGV, "write one JSON line with all ports to this descriptor when up"},
    {"comeback", 0, "TIME", 0,
     "a better relay than the one in use must have stood this long, and a random part of it more, before "
     "it is used; default 60s"},
    {"udp-idle", 0, "TIME", 0, "silent UDP conversations end after this; default 60s"},
    {"drain", 0, "TIME", 0, "after TERM or INT wait this long for streams to end; default 30s"},
    {NULL},
};
static const struct option *const agent_tables[] = {own_options, connect_options, NULL};
static const struct option *const join_tables[] = {connect_options, NULL};

struct parsed {
    struct connect connect;
    struct spec_forward *locals, *reverses, *socks, *https;
    struct spec_offer *offers;
    struct rules allows;
    struct spec_dest stdio;
    struct agent_options a;
};

typedef int parse_fn(void *item, const char *text, struct err *e);
static int parse_local(void *item, const char *text, struct err *e)
{
    return spec_local_parse(item, text, e);
}
static int parse_reverse(void *item, const char *text, struct err *e)
{
    return spec_reverse_parse(item, text, e);
}
static int parse_socks(void *item, const char *text, struct err *e)
{
    return spec_socks_parse(item, text, e);
}
static int parse_offer(void *item, const char *text, struct err *e)
{
    return spec_offer_parse(item, text, e);
}

// All values of a repeated option as one array of `size` bytes each; NULL with *e set.
static void *parse_all(const struct options *o, const char *name, size_t size, parse_fn *fn, size_t *count,
                       struct err *e)
{
    *count = options_count(o, name);
    char *items = calloc(*count + 1, size);
    if (!items) {
        err_set(e, ERR_FAILED, WHY_NONE, "out of memory");
        return NULL;
    }
    for (size_t i = 0; i < *count; i++) {
        const struct option_value *v = options_nth(o, name, i);
        if (fn(items + i * size, v->text, e) < 0) {
            err_prefix(e, "%s", v->place);
            free(items);
            return NULL;
        }
    }
    return items;
}

// A name may be offered for TCP and for UDP; which of two of one kind would be meant, nobody can know.
static int check_offers(const struct options *o, const struct parsed *p, struct err *e)
{
    for (size_t i = 0; i < p->a.offer_count; i++)
        for (size_t k = 0; k < i; k++)
            if (!strcmp(p->offers[i].name, p->offers[k].name) && p->offers[i].udp == p->offers[k].udp)
                return options_bad(options_nth(o, "offer", i), e, "the service %s is offered already", p->offers[i].name);
    return 0;
}

static int parse_forwards(const struct options *o, struct parsed *p, struct err *e)
{
    struct agent_options *a = &p->a;
    p->locals = parse_all(o, "local", sizeof *p->locals, parse_local, &a->local_count, e);
    p->reverses = p->locals ? parse_all(o, "reverse", sizeof *p->reverses, parse_reverse, &a->reverse_count, e) : NULL;
    p->socks = p->reverses ? parse_all(o, "socks", sizeof *p->socks, parse_socks, &a->socks_count, e) : NULL;
    p->https = p->socks ? parse_all(o, "http", sizeof *p->https, parse_socks, &a->http_count, e) : NULL;
    p->offers = p->https ? parse_all(o, "offer", sizeof *p->offers, parse_offer, &a->offer_count, e) : NULL;
    a->locals = p->locals;
    a->reverses = p->reverses;
    a->socks = p->socks;
    a->https = p->https;
    a->offers = p->offers;
    if (!p->offers || check_offers(o, p, e) < 0)
        return -1;
    if (!options_has(o, "stdio"))
        return 0;
    a->stdio = &p->stdio;
    if (spec_dest_parse(&p->stdio, options_get(o, "stdio"), e) == 0)
        return 0;
    err_prefix(e, "-W");
    return -1;
}

static int parse(struct options *o, const char *state, struct parsed *p, struct err *e)
{
    static const char *const seal[] = {"auto", "always", "never", NULL};
    uint64_t idle = 60000, comeback = RANK_COMEBACK_MS, drain = AGENT_DRAIN_MS, carriers = 1;
    unsigned which_seal = AGENT_SEAL_AUTO;
    p->a.ready_fd = -1;
    if (connect_parse(o, &p->connect, e) < 0 || parse_forwards(o, p, e) < 0 ||
        rules_parse(o, "allow", &p->allows, e) < 0 || options_ms(o, "udp-idle", &idle, e) < 0 ||
        options_ms(o, "comeback", &comeback, e) < 0 || options_ms(o, "drain", &drain, e) < 0 ||
        options_descriptor(o, "ready-fd", &p->a.ready_fd, e) < 0 || options_word(o, "seal", seal, &which_seal, e) < 0 ||
        options_number(o, "carriers", 1, AGENT_CARRIERS_MAX, &carriers, e) < 0)
        return -1;
    if (idle < 1000 || idle > 86400000)
        return err_set(e, ERR_USAGE, WHY_NONE, "culvert agent: --udp-idle: from 1s to 1d");
    if (comeback > 86400000 || drain > 86400000)
        return err_set(e, ERR_USAGE, WHY_NONE, "culvert agent: --comeback and --drain: at most 1d");
    p->a.state = state;
    p->a.connect = p->connect.c;
    p->a.allows = p->allows.list;
    p->a.allow_count = p->allows.count;
    p->a.socks_login = options_get(o, "socks-login");
    p->a.once = options_has(o, "once") || p->a.stdio;
    p->a.udp_idle_ms = (uint32_t)idle;
    p->a.comeback_ms = (uint32_t)comeback;
    p->a.drain_ms = (uint32_t)drain;
    p->a.seal = (enum agent_seal)which_seal;
    p->a.carriers = (unsigned)carriers;
    if (!p->a.stdio && !p->a.local_count && !p->a.reverse_count && !p->a.socks_count && !p->a.http_count &&
        !p->a.offer_count)
        return err_set(e, ERR_USAGE, WHY_NONE,
                       "culvert agent: nothing to do: say -L, -R, -D, --http, -W or --offer; see culvert "
                       "agent --help");
    return 0;
}

static int run_agent(struct options *o, struct err *e)
{
    struct parsed p = {0};
    char *state = state_folder(o, e);
    int status = state ? parse(o, state, &p, e) : -1;
    if (status == 0)
        status = agent_run(&p.a);
    connect_fini(&p.connect);
    rules_fini(&p.allows);
    free(p.locals);
    free(p.reverses);
    free(p.socks);
    free(p.https);
    free(p.offers);
    free(state);
    return status;
}

// --relay of the command line: another way to the relay of the invitation, a front's URL for example, and kept as its URL. What
// the file or the environment names are the relays of `culvert agent`.
static int another_url(struct options *o, const struct connect *connect, struct pairing *p, struct err *e)
{
    const struct option_value *v = options_nth(o, "relay", 0);
    if (!v || v->source != OPTION_FLAG)
        return 0;
    if (options_count(o, "relay") > 1)
        return options_bad(options_nth(o, "relay", 1), e, "an invitation is for one relay, so join takes one --relay");
    p->relay = connect->relays[0];
    return 0;
}

static int join(struct options *o, const char *state, const struct connect *connect, struct err *e)
{
    const char *arg = o->args[0];
    char *text = calloc(1, PAIRING_TEXT_MAX);
    struct pairing *p = calloc(1, sizeof *p);
    int status = -1;
    if (!text || !p)
        err_set(e, ERR_FAILED, WHY_NONE, "out of memory");
    else if (strncmp(arg, "culvert:", 8) && secret_read(arg, text, PAIRING_TEXT_MAX, e) < 0)
        ;
    else if (pairing_parse(p, *text ? text : arg, e) == 0 && another_url(o, connect, p, e) == 0)
        status = agent_join(state, p, &connect->c);
    if (p)
        pairing_wipe(p);
    if (text)
        OPENSSL_cleanse(text, PAIRING_TEXT_MAX);
    free(p);
    free(text);
    return status;
}

static int run_join(struct options *o, struct err *e)
{
    struct connect *connect = calloc(1, sizeof *connect);
    char *state = connect ? state_folder(o, e) : NULL;
    int status = state ? connect_parse(o, connect, e) : -1;
    if (status == 0)
        status = join(o, state, connect, e);
    if (connect)
        connect_fini(connect);
    free(connect);
    free(state);
    return status;
}

const struct command command_agent = {
    .name = "agent",
    .section = "agent",
    .usage = "",
    .summary = "the end behind the firewall: forwards, services, SOCKS5",
    .about = "Connects to the relays it joined, through the proxy it finds or is told, uses the best that answers, and\n"
             "moves to another when that one goes.\n"
             "ADDR is [bind:]port or unix:PATH; a bare port means loopback, port 0 a free one, chosen and told.\n"
             "DEST is host:port, unix:PATH or SERVICE@AGENT; names are resolved where the stream comes out.",
    .examples = "  culvert agent -L 2222:db.internal:22              ssh -p 2222 localhost\n"
                "  culvert agent -L 5353:10.0.0.53:53/udp            the same for UDP\n"
                "  culvert agent -R '*:8080:localhost:80'            port 8080 of the relay is port 80 here\n"
                "  culvert agent -D 1080                             curl -x socks5h://localhost …\n"
                "  culvert agent --http 3128                         https_proxy=http://localhost:3128 curl …\n"
                "  culvert agent --offer ssh=localhost:22            others reach ssh@this-agent\n"
                "  culvert agent -L 2222:ssh@site7                   … like this\n"
                "  culvert agent --proxy http://proxy:3128 -L …      through that proxy\n"
                "  ssh -o ProxyCommand='culvert agent -W %h:%p' db.internal\n",
    .tables = agent_tables,
    .run = run_agent,
};

const struct command command_join = {
    .name = "join",
    .section = "agent",
    .usage = "PAIRING | FILE | -",
    .args_min = 1,
    .args_max = 1,
    .summary = "use an invitation: make this agent's key known to a relay",
    .about =
        "Takes the line that `culvert invite` printed: as an argument, from a file of mode 0600, or from stdin (-).\n"
        "Makes this agent's key if there is none. Joining again with the same line is safe; joining another relay adds "
        "it. With --relay the invitation's relay is reached, and kept, by that URL instead of the one in the line.",
    .examples = "  culvert join 'culvert://relay.example/?pin=…&token=…'\n"
                "  culvert join - < invitation\n"
                "  culvert join --proxy http://proxy:3128 -\n",
    .tables = join_tables,
    .run = run_join,
};
