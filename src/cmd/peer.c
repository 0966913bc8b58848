// SPDX-License-Identifier: Apache-2.0
// `culvert peer`: this agent's pin, and the other agents whose pins it knows.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cmd/command.h"
#include "trust/agent_state.h"

static const struct option *const tables[] = {NULL};

// In the form that `peer add` takes: our own line is for the other agent.
static int show(const struct agent_state *s)
{
    char pin[PIN_TEXT_MAX];
    const char *name = s->relay_count ? s->relays[s->relay_count - 1].name : "";
    printf("%s:%s (this agent)\n", *name ? name : "?", pin_text(s->id.pin, pin));
    for (size_t i = 0; i < s->peer_count; i++)
        for (size_t k = 0; k < s->peers[i].pin_count; k++)
            printf("%s:%s\n", s->peers[i].name, pin_text(s->peers[i].pins[k], pin));
    return 0;
}

static int change(struct agent_state *s, struct options *o, struct err *e)
{
    uint8_t pin[PIN_SIZE];
    char name[SPEC_NAME_MAX + 2];
    const char *verb = o->args[0], *what = o->arg_count > 1 ? o->args[1] : "", *colon = strchr(what, ':');
    bool add = strcmp(verb, "add") == 0;
    if (!add && strcmp(verb, "remove") != 0)
        return err_set(e, ERR_USAGE, WHY_NONE, "culvert peer: \"%.60s\" is neither add nor remove", verb);
    snprintf(name, sizeof name, "%.*s", (int)strcspn(what, ":"), what);
    if (!spec_is_name(name))
        return err_set(e, ERR_USAGE, WHY_NONE, "culvert peer %s: the name of an agent is missing, or is none", verb);
    if (add && !colon)
        return err_set(e, ERR_USAGE, WHY_NONE, "culvert peer add: AGENT:PIN, as the first line of `culvert peer` shows it there");
    if (colon && !pin_parse(pin, colon + 1))
        return err_set(e, ERR_USAGE, WHY_NONE, "culvert peer %s: \"%.60s\" is no pin: 43 characters, as `culvert peer` shows",
                       verb, colon + 1);
    return add ? agent_state_add_peer(s, name, pin, e) : agent_state_drop_peer(s, name, colon ? pin : NULL, e);
}

static int run(struct options *o, struct err *e)
{
    struct agent_state *s = calloc(1, sizeof *s);
    char *folder = s ? state_folder(o, e) : NULL;
    int rc = folder ? agent_state_open(s, folder, o->arg_count > 0, e) : -1;
    if (rc == 0) {
        rc = o->arg_count > 0 ? change(s, o, e) : show(s);
        agent_state_fini(s);
    }
    free(folder);
    free(s);
    return rc;
}

const struct command command_peer = {
    .name = "peer",
    .section = "agent",
    .usage = "[add AGENT:PIN | remove AGENT[:PIN]]",
    .args_min = 0,
    .args_max = 2,
    .summary = "pins of other agents, for sealed streams; without arguments: show them",
    .about = "Shows this agent's pin and the peers it knows, or changes them. Streams to a service of a known peer are\n"
             "sealed: TLS between the two agents, which the relay passes without being able to read it. A peer that does\n"
             "not prove a known pin is refused. A running agent follows with its next stream.\n"
             "For both to be sure of each other, each adds the other; carry the pins by a way that is not the relay's.",
    .examples = "  culvert peer\n"
                "  culvert peer add site7:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE\n"
                "  culvert peer remove site7\n",
    .tables = tables,
    .run = run,
};
