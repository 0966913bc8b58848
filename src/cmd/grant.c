// SPDX-License-Identifier: Apache-2.0
// `culvert grant` and `culvert revoke`: what an agent may do, and whether it still may anything.
#include <stdlib.h>
#include <string.h>
#include "cmd/command.h"
#include "cmd/rules.h"
#include "control/control.h"
#include "trust/store.h"

static const struct option grant_options[] = {
    {"allow", 0, "RULE", OPT_MANY | OPT_ARGV, "let it reach this too"},
    {"allow-listen", 0, "ADDR[/udp]", OPT_MANY | OPT_ARGV, "let it listen there at the relay"},
    {"allow-offer", 0, "NAME", OPT_MANY | OPT_ARGV, "let it offer that service"},
    {"drop", 0, "RULE", OPT_MANY | OPT_ARGV, "take a rule back, as `culvert table rules` writes it"},
    {"drop-listen", 0, "ADDR[/udp]", OPT_MANY | OPT_ARGV, "take a listening rule back"},
    {"drop-offer", 0, "NAME", OPT_MANY | OPT_ARGV, "take an offer rule back"},
    {NULL},
};
static const struct option *const grant_tables[] = {grant_options, NULL};
static const struct option *const no_tables[] = {NULL};

static int store_change(const char *state, const char *agent, const struct rules *add, const struct rules *drop,
                        struct err *e)
{
    struct store *s = store_open(state, e);
    unsigned changed = 0;
    if (!s)
        return -1;
    int rc = store_grant(s, agent, add->list, add->count, drop->list, drop->count, &changed, e);
    store_close(s);
    if (rc == 0)
        control_tell_policy(state);
    if (rc == 0)
        printf("%s: %u rule%s changed\n", agent, changed, changed == 1 ? "" : "s");
    return rc;
}

static int run_grant(struct options *o, struct err *e)
{
    struct rules add = {0}, drop = {0};
    char *state = state_folder(o, e);
    int rc = -1;
    if (state && rules_parse(o, "allow", &add, e) == 0 && rules_parse(o, "drop", &drop, e) == 0) {
        if (add.count + drop.count == 0)
            rc = err_set(e, ERR_USAGE, WHY_NONE,
                         "culvert grant: nothing to change: say --allow… or --drop…; see culvert "
                         "grant --help");
        else
            rc = store_change(state, o->args[0], &add, &drop, e);
    }
    rules_fini(&add);
    rules_fini(&drop);
    free(state);
    return rc;
}

static int run_revoke(struct options *o, struct err *e)
{
    char *state = state_folder(o, e);
    struct store *s = state ? store_open(state, e) : NULL;
    enum store_kind kind;
    int rc = s ? store_revoke(s, o->args[0], &kind, e) : -1;
    if (rc == 0)
        control_tell_policy(state);
    if (rc == 0)
        printf("%s %s: revoked\n", kind == STORE_AGENT ? "agent" : "invitation", o->args[0]);
    store_close(s);
    free(state);
    return rc;
}

const struct command command_grant = {
    .name = "grant",
    .section = "relay",
    .usage = "AGENT",
    .args_min = 1,
    .args_max = 1,
    .summary = "change what an agent may do (at the relay)",
    .about = "Adds and takes back rules of an agent, named by its name or its key's pin. A running relay follows at\n"
             "once; streams that are open stay, listeners and offers that are no longer allowed end. '*:*' includes the\n"
             "relay host's own public addresses, on all ports but the relay's, without its firewall in between.",
    .examples = "  culvert grant site7 --allow 10.1.2.4:22 --drop 10.1.2.3:22\n"
                "  culvert grant site7 --allow-listen '*:8080' --allow-offer ssh\n",
    .tables = grant_tables,
    .run = run_grant,
};

const struct command command_revoke = {
    .name = "revoke",
    .section = "relay",
    .usage = "AGENT | PIN | INVITATION",
    .args_min = 1,
    .args_max = 1,
    .summary = "shut an agent out, or withdraw an invitation (at the relay)",
    .about = "A running relay closes all connections, streams and listeners of that agent at once. The agent's key\n"
             "is good for nothing from then on; a new invitation starts it afresh.",
    .examples = "  culvert revoke site7\n"
                "  culvert table invitations\n"
                "  culvert revoke inv-0123456789ab\n",
    .tables = no_tables,
    .run = run_revoke,
};
