// SPDX-License-Identifier: Apache-2.0
// `culvert status` and `culvert table`: what the running relay and agents of this state folder say of themselves.
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "cmd/command.h"
#include "cmd/print.h"
#include "control/control.h"
#include "trust/file.h"
#include "trust/store.h"

static const struct option own_options[] = {
    {"json", 0, NULL, OPT_ARGV, "as JSON"},
    {"watch", 0, NULL, OPT_ARGV, "again every second, until interrupted"},
    {NULL},
};
static const struct option *const tables[] = {own_options, NULL};
static const char *const table_names[] = {"agents", "relays", "carriers", "services", "forwards", "streams", "flows", "rules", "invitations"};
#define TABLE_COUNT (sizeof table_names / sizeof *table_names)

static int nobody(const char *state, struct err *e)
{
    return err_set(e, ERR_UNREACHED, WHY_NONE, "no relay or agent is running with --state %s", state);
}

static int show_status(const char *state, bool json, struct err *e)
{
    json_t *request = json_pack("{s:s}", "ask", "status"), *answers = NULL;
    int rc = control_ask(state, request, &answers, e);
    json_decref(request);
    if (rc == 0 && json_array_size(answers) == 0)
        rc = nobody(state, e);
    if (rc == 0 && json) {
        json_dumpf(answers, stdout, JSON_INDENT(2));
        putchar('\n');
    } else if (rc == 0) {
        print_status(stdout, answers);
    }
    json_decref(answers);
    return rc;
}

static void add_invitation(const struct store_invitation *i, void *ctx)
{
    json_array_append_new(ctx, json_pack("{s:s,s:s,s:i,s:I,s:I}", "id", i->id, "name", i->name, "uses_left",
                                         (int)i->uses_left, "created", (json_int_t)i->created, "expires",
                                         (json_int_t)i->expires));
}

static void add_rule(const char *agent, enum rule_verb verb, const char *text, void *ctx)
{
    json_array_append_new(ctx, json_pack("{s:s,s:s,s:s}", "agent", agent, "may", rule_verb_name(verb), "rule", text));
}

static json_t *ask_all(const char *state, const char *name, struct err *e)
{
    json_t *request = json_pack("{s:s,s:s}", "ask", "table", "name", name), *answers = NULL;
    int rc = control_ask(state, request, &answers, e);
    json_decref(request);
    return rc == 0 ? answers : NULL;
}

// The rows of all processes that have such a table, each with its role and pid when there are several.
static void add_rows(const json_t *answers, json_t *rows)
{
    size_t i, j;
    json_t *one, *row;
    json_array_foreach(answers, i, one)
    {
        json_array_foreach(json_object_get(one, "answer"), j, row)
        {
            json_t *full = json_object();
            if (json_array_size(answers) > 1) {
                json_object_set(full, "role", json_object_get(one, "role"));
                json_object_set(full, "pid", json_object_get(one, "pid"));
            }
            json_object_update(full, row);
            json_array_append_new(rows, full);
        }
    }
}

static bool is_there(const json_t *rows, const char *agent)
{
    size_t i;
    const json_t *row;
    json_array_foreach(rows, i, row)
    {
        const char *name = json_string_value(json_object_get(row, "agent"));
        if (name && !strcmp(name, agent))
            return true;
    }
    return false;
}

static void add_away(const struct store_identity *i, void *ctx)
{
    char pin[PIN_TEXT_MAX];
    if (!i->revoked && !is_there(ctx, i->name))
        json_array_append_new(
            ctx, json_pack("{s:s,s:s,s:s}", "agent", i->name, "state", "away", "pin", pin_text(i->pin, pin)));
}

static bool has_store(const char *state)
{
    char *path = file_path(state, STORE_FILE);
    bool yes = path && file_exists(path);
    free(path);
    return yes;
}

// What the relay's store has for that table, whether a relay runs or not; of agents those that are not in `rows`.
static int add_stored(const char *state, const char *name, json_t *rows, struct err *e)
{
    struct store *s = store_open(state, e);
    int rc = !s                             ? -1
             : !strcmp(name, "invitations") ? store_each_invitation(s, add_invitation, rows, e)
             : !strcmp(name, "rules")       ? store_each_rule(s, add_rule, rows, e)
                                            : store_each_identity(s, add_away, rows, e);
    store_close(s);
    return rc;
}

static int gather(const char *state, const char *name, json_t *rows, struct err *e)
{
    json_t *answers = ask_all(state, name, e);
    bool store = !strcmp(name, "agents") && has_store(state);
    int rc = !answers ? -1 : json_array_size(answers) == 0 && !store ? nobody(state, e) : 0;
    add_rows(answers, rows);
    if (rc == 0 && store)
        rc = add_stored(state, name, rows, e);
    json_decref(answers);
    return rc;
}

static int show_table(const char *state, const char *name, bool json, struct err *e)
{
    json_t *rows = json_array();
    bool is_stored = !strcmp(name, "invitations") || !strcmp(name, "rules");
    int rc = is_stored ? add_stored(state, name, rows, e) : gather(state, name, rows, e);
    if (rc == 0 && json) {
        json_dumpf(rows, stdout, JSON_INDENT(2));
        putchar('\n');
    } else if (rc == 0) {
        print_table(stdout, rows);
    }
    json_decref(rows);
    return rc;
}

static int show(struct options *o, const char *name, struct err *e)
{
    char *state = state_folder(o, e);
    bool json = options_has(o, "json"), watch = options_has(o, "watch");
    int rc = state ? 0 : -1;
    while (rc == 0) {
        if (watch && !json && isatty(STDOUT_FILENO))
            fputs("\033[H\033[2J", stdout);
        rc = name ? show_table(state, name, json, e) : show_status(state, json, e);
        if (!watch || fflush(stdout))
            break;
        nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    }
    free(state);
    return rc;
}

static int run_status(struct options *o, struct err *e)
{
    return show(o, NULL, e);
}

static int run_table(struct options *o, struct err *e)
{
    const char *name = o->args[0];
    for (size_t i = 0; i < TABLE_COUNT; i++)
        if (!strcmp(name, table_names[i]))
            return show(o, table_names[i], e);
    const char *near = nearest_word(name, table_names, TABLE_COUNT);
    return err_set(e, ERR_USAGE, WHY_NONE,
                   "culvert table: there is no table \"%.60s\"%s%s%s; there are agents, relays, carriers, "
                   "services, forwards, streams, flows, rules and invitations",
                   name, near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
}

const struct command command_status = {
    .name = "status",
    .usage = "",
    .summary = "how the running relay and agents of this state folder are doing",
    .about = "Asks every relay and agent that runs with this --state folder. Exit status 3: none is running.",
    .examples = "  culvert status\n"
                "  culvert --state ./state status --json\n",
    .tables = tables,
    .run = run_status,
};

const struct command command_table = {
    .name = "table",
    .usage = "agents | relays | carriers | services | forwards | streams | flows | rules | invitations",
    .args_min = 1,
    .args_max = 1,
    .summary = "what is connected, offered, forwarded, open",
    .about =
        "Prints one table of the relay and agents that run with this --state folder. Exit status 3: none is running.\n"
        "At a relay, agents, their rules and invitations are listed whether it runs or not; an agent that is not connected\n"
        "is away. In the table of forwards, callers are those that came in, turned-away those that found no session or no\n"
        "descriptor, packets-dropped what was lost of its UDP there.",
    .examples = "  culvert table agents\n"
                "  culvert table rules                     who may do what, as `culvert grant --drop` takes it back\n"
                "  culvert table streams --watch\n"
                "  culvert table forwards --json\n",
    .tables = tables,
    .run = run_table,
};
