// SPDX-License-Identifier: Apache-2.0
// The help: of the program, by example; of each command, from its option tables.
#include <string.h>
#include "cmd/command.h"
#include "core/text.h"

#define HELP_COLUMN 30

const char help_example[] = "  relay$  culvert cert selfsigned --host relay.example\n"
                            "  relay$  culvert relay --listen *:443\n"
                            "  relay$  culvert invite --name site7 --allow host.internal:22\n"
                            "  site7$  culvert join 'culvert://relay.example/?pin=…&token=…'\n"
                            "  site7$  culvert agent -L 2222:host.internal:22\n"
                            "  site7$  ssh -p 2222 localhost\n";

void help_program(FILE *out)
{
    fputs("culvert carries TCP and UDP between machines whose only way out is HTTPS.\n"
          "\n"
          "usage: culvert [--config FILE] [--state DIR] [-v | -q] COMMAND …\n"
          "\n"
          "commands:\n",
          out);
    for (size_t i = 0; commands[i]; i++)
        fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(out,
            "\nA relay in public, an agent behind the proxy, ssh through it:\n%s\n"
            "More, with examples: culvert COMMAND --help\n"
            "Exit status: 0 done, 1 failed, 2 usage or configuration, 3 not reached, 4 not trusted, 5 refused by policy\n",
            help_example);
}

static size_t print_name(FILE *out, const struct option *o)
{
    char text[160];
    const char *more = o->flags & OPT_MANY ? "…" : "";
    if (o->letter && o->value)
        snprintf(text, sizeof text, "  -%c, --%s %s%s", o->letter, o->name, o->value, more);
    else if (o->letter)
        snprintf(text, sizeof text, "  -%c, --%s%s", o->letter, o->name, more);
    else
        snprintf(text, sizeof text, "      --%s%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "", more);
    fputs(text, out);
    return text_width(text, strlen(text));
}

static void print_wrapped(FILE *out, const char *text, size_t at)
{
    if (at + 2 > HELP_COLUMN) {
        fputc('\n', out);
        at = 0;
    }
    fprintf(out, "%*s", (int)(HELP_COLUMN - at), "");
    text_wrap(out, text, HELP_COLUMN);
}

static void print_table(FILE *out, const struct option *t)
{
    for (; t->name; t++)
        print_wrapped(out, t->help, print_name(out, t));
}

void help_command(FILE *out, const struct command *c)
{
    fprintf(out, "usage: culvert %s%s%s%s\n\n%s\n", c->name, c->tables[0] ? " [options]" : "", *c->usage ? " " : "",
            c->usage, c->about);
    if (*c->examples)
        fprintf(out, "\nexamples:\n%s", c->examples);
    for (size_t i = 0; c->tables[i]; i++) {
        if (!c->tables[i]->name)
            continue;
        fprintf(out, "\n%s:\n", c->tables[i] == connect_options ? "connecting" : "options");
        print_table(out, c->tables[i]);
    }
    fputs("\nof every command:\n", out);
    print_table(out, global_options);
    if (c->section)
        fprintf(
            out,
            "\nEach long option is also a key, without its dashes, in [%s] of the configuration file, and a variable:\n"
            "CULVERT_STATE for --state. A flag beats the environment, which beats the file.\n",
            c->section);
}
