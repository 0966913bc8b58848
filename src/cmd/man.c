// SPDX-License-Identifier: Apache-2.0
// The man pages, written from the same tables as --help, so that neither can say what the other does not.
#include <string.h>
#include "cmd/command.h"

// roff: a hyphen that is typed is \-, a backslash is \e, and a line must not begin with a control character.
static void put_text(FILE *out, const char *text)
{
    bool begins = true;
    for (const char *p = text; *p; p++) {
        if (begins && (*p == '.' || *p == '\''))
            fputs("\\&", out);
        if (*p == '\\')
            fputs("\\e", out);
        else if (*p == '-')
            fputs("\\-", out);
        else
            fputc(*p, out);
        begins = *p == '\n';
    }
}

static void put_head(FILE *out, const char *page, const char *summary)
{
    fputs(".TH \"", out);
    for (const char *p = page; *p; p++)
        fputc(*p >= 'a' && *p <= 'z' ? *p - 'a' + 'A' : *p, out);
    fputs("\" 1 \"\" \"culvert " CULVERT_VERSION "\" \"culvert\"\n.SH NAME\n", out);
    put_text(out, page);
    fputs(" \\- ", out);
    put_text(out, summary);
    fputs("\n.SH SYNOPSIS\n", out);
}

static void put_option(FILE *out, const struct option *o)
{
    fputs(".TP\n", out);
    if (o->letter)
        fprintf(out, "\\fB\\-%c\\fR, ", o->letter);
    fputs("\\fB\\-\\-", out);
    put_text(out, o->name);
    fputs("\\fR", out);
    if (o->value) {
        fputs(" \\fI", out);
        put_text(out, o->value);
        fputs("\\fR", out);
    }
    fputs(o->flags & OPT_MANY ? " …\n" : "\n", out);
    put_text(out, o->help);
    fputs(".\n", out);
}

static void put_table(FILE *out, const char *title, const struct option *t)
{
    if (!t->name)
        return;
    fprintf(out, ".SH %s\n", title);
    for (; t->name; t++)
        put_option(out, t);
}

static void put_literal(FILE *out, const char *title, const char *text)
{
    fprintf(out, ".SH %s\n.nf\n", title);
    put_text(out, text);
    fputs(".fi\n", out);
}

static void put_exit_status(FILE *out)
{
    static const char *const means[] = {"done",
                                        "failed",
                                        "usage or configuration",
                                        "not reached",
                                        "not trusted (certificate, pin, identity)",
                                        "refused by policy"};
    fputs(".SH EXIT STATUS\n", out);
    for (size_t i = 0; i < sizeof means / sizeof *means; i++)
        fprintf(out, ".TP\n\\fB%zu\\fR\n%s\n", i, means[i]);
}

static void put_see_also(FILE *out, const char *but)
{
    fputs(".SH SEE ALSO\n", out);
    if (but)
        fputs("\\fBculvert\\fR(1)", out);
    for (size_t i = 0; commands[i]; i++)
        if (!but || strcmp(commands[i]->name, but))
            fprintf(out, "%s\\fBculvert\\-%s\\fR(1)", i || but ? ",\n" : "", commands[i]->name);
    fputc('\n', out);
}

static const char notation[] =
    "ADDR     [bind:]port or unix:PATH; bind is a name, an address ([::1]) or *;\n"
    "         without it loopback; port 0: a free one, chosen and told\n"
    "DEST     host:port, unix:PATH or SERVICE@AGENT; names are resolved where\n"
    "         the stream comes out\n"
    "RELAY    name[:port] or wss://name[:port][/path]; ws://… for plain WebSocket\n"
    "PROXY    http, https, h2, socks4a, socks5 or socks5h://[user[:password]@]host[:port],\n"
    "         pac+URL, auto or none\n"
    "RULE     host:ports[/udp], unix:PATH or SERVICE@AGENT; host: a name, *.suffix,\n"
    "         an address, a CIDR range or *; ports: 22, 80-90 or *. Loopback,\n"
    "         link-local and multicast addresses are only meant when written out;\n"
    "         the relay host's public ones, but for its own listeners, by any *\n";

static const char signals[] =
    "HUP      reread certificates, policy and conf_proxy, ask for proxies again;\n"
    "         connect now if not connected\n"
    "TERM INT drain: nothing new, wait for what is open; a second one ends at once\n";

static const char files[] =
    "/etc/culvert/culvert.ini, ~/.config/culvert/culvert.ini\n"
    "         configuration: sections [relay] and [agent], each long option a key\n"
    "/var/lib/culvert, ~/.local/state/culvert\n"
    "         keys and state (--state), readable by their owner only\n";

void man_program(FILE *out)
{
    put_head(out, "culvert", "TCP and UDP through HTTPS");
    fputs(".B culvert\n[\\fIglobal options\\fR] \\fICOMMAND\\fR …\n.SH DESCRIPTION\n"
          "culvert carries TCP and UDP between machines whose only way out is HTTPS: a relay in public speaks WebSocket\n"
          "Secure, agents dial it from behind proxies and firewalls, and streams come out at the relay, at an agent,\n"
          "or at a service that another agent offers.\n.SH COMMANDS\n",
          out);
    for (size_t i = 0; commands[i]; i++) {
        fprintf(out, ".TP\n\\fBculvert\\-%s\\fR(1)\n", commands[i]->name);
        put_text(out, commands[i]->summary);
        fputc('\n', out);
    }
    put_table(out, "GLOBAL OPTIONS", global_options);
    put_literal(out, "EXAMPLE", help_example);
    put_literal(out, "NOTATION", notation);
    put_literal(out, "SIGNALS", signals);
    put_literal(out, "FILES", files);
    put_exit_status(out);
    put_see_also(out, NULL);
}

void man_command(FILE *out, const struct command *c)
{
    char page[64];
    snprintf(page, sizeof page, "culvert-%s", c->name);
    put_head(out, page, c->summary);
    fprintf(out, "\\fBculvert %s\\fR%s ", c->name, c->tables[0] ? " [\\fIoptions\\fR]" : "");
    put_text(out, c->usage);
    fputs("\n.SH DESCRIPTION\n.nf\n", out);
    put_text(out, c->about);
    fputs("\n.fi\n", out);
    if (*c->examples)
        put_literal(out, "EXAMPLES", c->examples);
    for (size_t i = 0; c->tables[i]; i++)
        put_table(out, c->tables[i] == connect_options ? "CONNECTING" : "OPTIONS", c->tables[i]);
    put_table(out, "GLOBAL OPTIONS", global_options);
    if (c->section)
        fprintf(out,
                ".SH CONFIGURATION\nEach long option is also a key, without its dashes, in the section [%s] of the\n"
                "configuration file, and an environment variable (CULVERT_STATE for \\-\\-state). A flag beats the\n"
                "environment, which beats the file.\n",
                c->section);
    put_exit_status(out);
    put_see_also(out, c->name);
}
