// SPDX-License-Identifier: Apache-2.0
// `culvert check`: which paths to a relay work, which hop refused, what to do.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "check/check.h"
#include "check/show.h"
#include "cmd/command.h"
#include "cmd/connect.h"
#include "trust/file.h"
#include "trust/saved_proxy.h"

static const struct option own_options[] = {
    {"long", 0, NULL, OPT_ARGV, "also find out how long a silent connection survives; takes up to 5 minutes"},
    {"json", 0, NULL, OPT_ARGV, "as JSON"},
    {NULL},
};
static const struct option *const tables[] = {own_options, connect_options, NULL};

struct job {
    struct agent_state state;
    struct connect connect;
    struct saved_proxy saved;
    struct relay_url told;
    char *headers; // each ended by CRLF
};

static int join_headers(struct job *j, struct err *e)
{
    size_t len = 1;
    for (size_t i = 0; i < j->connect.c.header_count; i++)
        len += strlen(j->connect.c.headers[i]) + 2;
    j->headers = calloc(1, len);
    if (!j->headers)
        return err_set(e, ERR_FAILED, WHY_NONE, "out of memory");
    for (size_t i = 0; i < j->connect.c.header_count; i++)
        strcat(strcat(j->headers, j->connect.c.headers[i]), "\r\n");
    return 0;
}

// By its URL, or by its host where it is reached by another port or path: its key tells who it is. `only`: as `culvert agent` takes
// --relay, by which the only relay that was joined may be reached by any URL.
static const struct agent_relay *find_known(struct agent_state *s, const struct relay_url *url, bool only)
{
    const struct agent_relay *known = agent_state_find(s, url);
    for (size_t i = s->relay_count; !known && i-- > 0;) {
        if (strcmp(s->relays[i].url.host, url->host) == 0)
            known = &s->relays[i];
    }
    return !known && only && s->relay_count == 1 ? &s->relays[0] : known;
}

static struct report *check_one(struct options *o, struct job *j, const struct relay_url *url, struct err *e)
{
    const struct agent_connect *c = &j->connect.c;
    const struct agent_relay *known = j->state.id.key ? find_known(&j->state, url, o->arg_count == 0) : NULL;
    struct check_options k = {
        .relay = url, .known = known, .id = &j->state.id, .proxies = c->proxies, .proxy_count = c->proxy_count, .saved = j->saved.of,
        .saved_count = j->saved.count, .kit = &j->connect.kit,
        .ca_file = c->ca_file, .host = c->host, .sni = c->sni, .headers = j->headers, .peel_never = c->peel_never, .transports = c->transports,
        .outer_report = c->outer == AGENT_OUTER_DEFAULT ? known && known->outer_report : c->outer == AGENT_OUTER_REPORT,
        .idle = options_has(o, "long"), .progress = isatty(STDERR_FILENO) && !options_has(o, "quiet")};
    return check_run(&k, e);
}

// The relays to look at: the one that was named, those of --relay, all that were joined.
static size_t list_relays(struct options *o, struct job *j, const struct relay_url **out, struct err *e)
{
    size_t n = 0;
    if (o->arg_count > 0) {
        if (relay_url_parse(&j->told, o->args[0], e) < 0)
            return 0;
        out[n++] = &j->told;
    }
    for (size_t i = 0; n == 0 && i < j->connect.c.relay_count; i++)
        out[i] = &j->connect.c.relays[i];
    if (n == 0 && j->connect.c.relay_count > 0)
        return j->connect.c.relay_count;
    for (size_t i = j->state.relay_count; n == 0 && i-- > 0;)
        out[j->state.relay_count - 1 - i] = &j->state.relays[i].url;
    if (n == 0 && j->state.relay_count > 0)
        return j->state.relay_count;
    if (n == 0)
        err_set(e, ERR_USAGE, WHY_NONE, "culvert check: no relay was joined with this --state; name one: culvert check RELAY");
    return n;
}

// One usable path to any of them is enough.
static int check_all(struct options *o, struct job *j, struct err *e)
{
    const struct relay_url *relays[AGENT_RELAYS];
    size_t count = list_relays(o, j, relays, e);
    json_t *all = json_array();
    int status = -1;
    for (size_t i = 0; i < count; i++) {
        struct report *r = check_one(o, j, relays[i], e);
        if (!r) {
            status = -1;
            break;
        }
        if (status != 0 && (r->status == ERR_NONE || (int)r->status > status))
            status = (int)r->status;
        if (options_has(o, "json"))
            json_array_append_new(all, show_json(r));
        else
            show_table(stdout, r);
        if (!options_has(o, "json") && i + 1 < count)
            putchar('\n');
        report_free(r);
    }
    if (status >= 0 && options_has(o, "json")) {
        json_t *top = json_pack("{s:i,s:O}", "exit", status, "relays", all);
        json_dumpf(top, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(top);
    }
    json_decref(all);
    return status;
}

// Somebody who has joined nothing may ask, too.
static int open_state(struct job *j, const char *folder, struct err *e)
{
    char *path = file_path(folder, AGENT_KEY_FILE);
    int rc = file_exists(path) ? agent_state_open(&j->state, folder, false, e) : 0;
    free(path);
    return rc;
}

static int run(struct options *o, struct err *e)
{
    struct job *j = calloc(1, sizeof *j);
    char *folder = j ? state_folder(o, e) : NULL;
    int status = folder && connect_parse(o, &j->connect, e) == 0 && join_headers(j, e) == 0 &&
                         open_state(j, folder, e) == 0 && saved_proxy_read(&j->saved, folder, e) == 0
                     ? check_all(o, j, e)
                     : -1;
    if (j) {
        agent_state_fini(&j->state);
        saved_proxy_wipe(&j->saved);
        connect_fini(&j->connect);
        free(j->headers);
    }
    free(folder);
    free(j);
    return status;
}

const struct command command_check = {
    .name = "check",
    .section = "agent",
    .usage = "[RELAY]",
    .args_min = 0,
    .args_max = 1,
    .summary = "which paths to a relay work, which hop refused, what to do",
    .about = "Looks at each step from here to the relay by itself: names, addresses, each proxy and what it offers, TLS and who\n"
             "ends it, WebSocket, packets of full size, the clock; by the way that an agent would take and directly. Says which\n"
             "path would be used, and for each refusal what helps. Nothing is changed and no password is tried twice.\n"
             "With a relay that was joined its key is checked, too. Without RELAY: those joined.\n"
             "Exit status: 0 a path is usable, 3 none, 4 whoever answers is not trusted, 5 the relay refuses this agent.",
    .examples = "  culvert check\n"
                "  culvert check relay.example --proxy http://proxy:3128\n"
                "  culvert check --long\n"
                "  culvert check --json | jq -r '.relays[].probes[] | select(.remedy) | .remedy'\n",
    .tables = tables,
    .run = run,
};
