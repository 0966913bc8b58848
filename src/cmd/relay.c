// SPDX-License-Identifier: Apache-2.0
// `culvert relay`: options → struct relay_options.
#include <stdlib.h>
#include <string.h>
#include "cmd/command.h"
#include "core/machine.h"
#include "relay/decoy.h"
#include "relay/relay.h"
#include "wire/spec.h"
#include "wire/url.h"

static const struct option own_options[] = {
    {"listen", 0, "ADDR", OPT_MANY,
     "serve WebSocket Secure here; a bare port means all addresses; default *:443, or "
     "*:$PORT where PORT is set"},
    {"listen-plain", 0, "ADDR", OPT_MANY,
     "serve plain WebSocket here, behind a front that ends TLS; a port written $PORT is the environment's, here and above"},
    {"redirect", 0, "ADDR", OPT_MANY, "answer plain HTTP here, as on port 80, with a redirect to https"},
    {"url", 0, "RELAY", 0, "how agents reach this relay, for invitations; default: the certificate's first name"},
    {"cert", 0, "FILE", 0, "web certificate (PEM, leaf first); default: what `culvert cert` installed"},
    {"key", 0, "FILE", 0, "its private key"},
    {"path", 0, "PATH", OPT_MANY, "path of the WebSocket; default /; several: any of them"},
    {"decoy", 0, "URL", 0,
     "http://host[:port] or https://host[:port]: whatever is none of ours goes there and its answer back, so that strangers "
     "see that server; default: an ordinary 404"},
    {"trust-front", 0, "CIDR", OPT_MANY,
     "believe fronts at these addresses (nginx, a load balancer) what they say of their callers: X-Forwarded-For, "
     "X-Forwarded-Proto, and --proxy-protocol; default: nobody"},
    {"proxy-protocol", 0, NULL, 0,
     "connections from --trust-front begin with a PROXY protocol header, version 1 or 2, and are dropped without one"},
    {"peel", 0, "auto|never", 0, "whether the inner TLS is taken off where nobody sits in between; default auto"},
    {"park", 0, "TIME", 0, "how long a session without a connection is kept; default 60s"},
    {"udp-idle", 0, "TIME", 0, "silent UDP conversations end after this; default 60s"},
    {"mss", 0, "BYTES", 0,
     "no TCP segment of the agents' connections is larger, in either direction (536 to 1460): where large packets vanish on the way to "
     "all agents; each agent finds that out by itself too"},
    {"drain", 0, "TIME", 0, "after TERM or INT wait this long for streams to end; default 30s"},
    {"memory", 0, "SIZE", 0, "buffers of all agents together; default a quarter of the machine's memory"},
    {"memory-agent", 0, "SIZE", 0, "buffers of one agent; default 256M"},
    {"ready-fd", 0, "N", OPT_ARGV, "write one JSON line with all addresses to this descriptor when up"},
    {NULL},
};
static const struct option *const tables[] = {own_options, NULL};

struct parsed {
    struct spec_addr *listen, *plain, *redirect;
    struct cidr *trusted;
    struct proxy_url decoy;
    const char **paths;
    struct relay_options r;
};

#define TRUSTED_MAX 64 // --trust-front

// "$PORT" and "*:$PORT", as a platform's configuration would have it, where no shell puts the number in.
static const char *with_port(const char *text, char *out, size_t size)
{
    const char *port = getenv("PORT"), *at = strstr(text, "$PORT");
    if (!at || at[5] || !port)
        return text;
    snprintf(out, size, "%.*s%s", (int)(at - text), text, port);
    return out;
}

static int parse_listen(const struct options *o, const char *name, struct spec_addr **out, size_t *count, struct err *e)
{
    *count = options_count(o, name);
    *out = calloc(*count + 1, sizeof **out);
    if (!*out)
        return err_set(e, ERR_FAILED, WHY_NONE, "out of memory");
    for (size_t i = 0; i < *count; i++) {
        const struct option_value *v = options_nth(o, name, i);
        char text[SPEC_TEXT_MAX];
        if (spec_addr_parse(&(*out)[i], with_port(v->text, text, sizeof text), "*", e) < 0) {
            err_prefix(e, "%s", v->place);
            return -1;
        }
    }
    return 0;
}

static int default_listen(struct parsed *p, struct err *e)
{
    const char *port = getenv("PORT");
    if (p->r.listen_count || p->r.plain_count)
        return 0;
    p->r.listen_count = 1;
    if (spec_addr_parse(&p->listen[0], port && *port ? port : "443", "*", e) == 0)
        return 0;
    err_prefix(e, "PORT");
    return -1;
}

static int parse_paths(const struct options *o, struct parsed *p, struct err *e)
{
    p->r.path_count = options_count(o, "path");
    p->paths = calloc(p->r.path_count + 1, sizeof *p->paths);
    if (!p->paths)
        return err_set(e, ERR_FAILED, WHY_NONE, "out of memory");
    for (size_t i = 0; i < p->r.path_count; i++) {
        const struct option_value *v = options_nth(o, "path", i);
        if (v->text[0] != '/' || strlen(v->text) > URL_PATH_MAX || strpbrk(v->text, " ?#\t\r\n"))
            return options_bad(v, e, "a path starts with / and holds no blank, ? or #");
        p->paths[i] = v->text;
    }
    if (!p->r.path_count)
        p->paths[p->r.path_count++] = "/";
    return 0;
}

static int parse_fronts(const struct options *o, struct parsed *p, struct err *e)
{
    size_t count = p->r.trusted_count = options_count(o, "trust-front");
    p->r.proxy_protocol = options_has(o, "proxy-protocol");
    if (count > TRUSTED_MAX)
        return err_set(e, ERR_USAGE, WHY_NONE, "--trust-front: at most %d of them", TRUSTED_MAX);
    if (p->r.proxy_protocol && count == 0)
        return err_set(e, ERR_USAGE, WHY_NONE,
                       "--proxy-protocol is for listed fronts only: add --trust-front with the address they connect from");
    p->trusted = calloc(count + 1, sizeof *p->trusted);
    if (!p->trusted)
        return err_set(e, ERR_FAILED, WHY_NONE, "out of memory");
    for (size_t i = 0; i < count; i++) {
        const struct option_value *v = options_nth(o, "trust-front", i);
        if (!cidr_parse(&p->trusted[i], v->text))
            return options_bad(v, e, "write an address or a block of them: 10.0.0.7, 10.0.0.0/8, [fd00::]/8");
    }
    p->r.trusted = p->trusted;
    return 0;
}

static int parse_decoy(const struct options *o, struct parsed *p, struct err *e)
{
    const char *text = options_get(o, "decoy");
    if (!text)
        return 0;
    p->r.decoy = &p->decoy;
    if (decoy_url_parse(&p->decoy, text, e) == 0)
        return 0;
    err_prefix(e, "--decoy");
    return -1;
}

static int parse_url(const struct options *o, struct err *e)
{
    const char *text = options_get(o, "url");
    struct relay_url url;
    if (!text || relay_url_parse(&url, text, e) == 0)
        return 0;
    err_prefix(e, "--url");
    return -1;
}

static int parse_limits(const struct options *o, struct relay_options *r, struct err *e)
{
    static const char *const peel[] = {"auto", "never", NULL};
    unsigned which = 0;
    uint64_t park = 60000, idle = 60000, drain = 30000, mss = 0;
    r->ready_fd = -1;
    r->memory_agent = 256u << 20;
    r->memory = machine_quarter(SIZE_MAX);
    if (options_word(o, "peel", peel, &which, e) < 0 || options_ms(o, "park", &park, e) < 0 ||
        options_ms(o, "udp-idle", &idle, e) < 0 || options_ms(o, "drain", &drain, e) < 0 ||
        options_size(o, "memory", &r->memory, e) < 0 || options_size(o, "memory-agent", &r->memory_agent, e) < 0 ||
        options_number(o, "mss", 536, 1460, &mss, e) < 0 || options_descriptor(o, "ready-fd", &r->ready_fd, e) < 0)
        return -1;
    const uint64_t day = 86400000;
    if (park > day || drain > day || idle > day || idle < 1000)
        return err_set(e, ERR_USAGE, WHY_NONE,
                       "culvert relay: --park, --drain and --udp-idle end at one day, and "
                       "--udp-idle starts at 1s");
    if (r->memory < RELAY_MEMORY_MIN || r->memory_agent < RELAY_MEMORY_MIN)
        return err_set(e, ERR_USAGE, WHY_NONE, "culvert relay: --memory and --memory-agent start at 4M");
    r->peel_never = which == 1;
    r->mss = (uint16_t)mss;
    r->park_ms = (uint32_t)park;
    r->udp_idle_ms = (uint32_t)idle;
    r->drain_ms = (uint32_t)drain;
    return 0;
}

static int parse(struct options *o, struct parsed *p, struct err *e)
{
    if (parse_listen(o, "listen", &p->listen, &p->r.listen_count, e) < 0 ||
        parse_listen(o, "listen-plain", &p->plain, &p->r.plain_count, e) < 0 ||
        parse_listen(o, "redirect", &p->redirect, &p->r.redirect_count, e) < 0 || default_listen(p, e) < 0 ||
        parse_paths(o, p, e) < 0 || parse_fronts(o, p, e) < 0 || parse_decoy(o, p, e) < 0 || parse_url(o, e) < 0 || parse_limits(o, &p->r, e) < 0)
        return -1;
    p->r.cert = options_get(o, "cert");
    p->r.key = options_get(o, "key");
    if (!p->r.cert != !p->r.key)
        return err_set(e, ERR_USAGE, WHY_NONE, "culvert relay: --cert and --key belong together: give both or neither");
    p->r.listen = p->listen;
    p->r.plain = p->plain;
    p->r.redirect = p->redirect;
    p->r.paths = p->paths;
    p->r.url = options_get(o, "url");
    return 0;
}

static int run(struct options *o, struct err *e)
{
    struct parsed p = {0};
    char *state = NULL;
    int status = -1;
    if (parse(o, &p, e) == 0 && (state = state_folder(o, e)) != NULL) {
        p.r.state = state;
        status = relay_run(&p.r, e);
    }
    free(state);
    free(p.listen);
    free(p.plain);
    free(p.redirect);
    free(p.trusted);
    free(p.paths);
    return status;
}

const struct command command_relay = {
    .name = "relay",
    .section = "relay",
    .usage = "",
    .summary = "the public end: one port, one certificate",
    .about = "Runs the relay: agents connect to its HTTPS port and their streams come out here or at each other.\n"
             "Its identity key is made at the first start; its web certificate comes from `culvert cert`, or --cert.\n"
             "HUP rereads certificate and policy; TERM and INT drain, a second one ends at once.",
    .examples = "  culvert cert selfsigned --host relay.example      once, or: culvert cert request …\n"
                "  culvert relay                                     on port 443\n"
                "  culvert relay --listen *:8443 --state ./state     somewhere else\n"
                "  culvert relay --listen-plain 127.0.0.1:8080 --trust-front 127.0.0.1 --path /t   behind nginx or HAProxy\n"
                "  culvert relay --listen-plain '*:$PORT'            on a platform that ends TLS and sets PORT\n"
                "  culvert relay --redirect 80 --decoy http://127.0.0.1:8000     strangers see that web server\n"
                "  culvert invite --name site7 --allow 10.1.2.3:22   lets an agent in\n",
    .tables = tables,
    .run = run,
};
