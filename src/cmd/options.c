// SPDX-License-Identifier: Apache-2.0
// The set of option values, and argv. Tables are searched in order: the command's own, then the global one.
#include "cmd/options.h"
#include <stdlib.h>
#include <string.h>
#include <openssl/crypto.h>
#include "cmd/command.h"
#include "cmd/options_impl.h"

static const struct option *table_find(const struct option *t, const char *name, size_t len)
{
    for (; t->name; t++)
        if (strlen(t->name) == len && !memcmp(t->name, name, len))
            return t;
    return NULL;
}

const struct option *option_find(const struct command *c, const char *name, size_t len)
{
    const struct option *o = table_find(global_options, name, len);
    for (size_t i = 0; !o && c && c->tables[i]; i++)
        o = table_find(c->tables[i], name, len);
    return o;
}

static const struct option *find_letter(const struct command *c, char letter)
{
    for (const struct option *t = global_options; t->name; t++)
        if (t->letter == letter)
            return t;
    for (size_t i = 0; c && c->tables[i]; i++)
        for (const struct option *t = c->tables[i]; t->name; t++)
            if (t->letter == letter)
                return t;
    return NULL;
}

static size_t table_names(const struct option *t, bool keys, const char **out, size_t max)
{
    size_t n = 0;
    for (; t->name && n < max; t++)
        if (!keys || !(t->flags & OPT_ARGV))
            out[n++] = t->name;
    return n;
}

size_t option_names(const struct command *c, bool keys, const char **out, size_t max)
{
    size_t n = table_names(global_options, keys, out, max);
    for (size_t i = 0; c && c->tables[i]; i++)
        n += table_names(c->tables[i], keys, out + n, max - n);
    return n;
}

int option_add(struct options *o, const struct option *opt, const char *text, enum option_source source,
               const char *place)
{
    struct option_value *values = reallocarray(o->values, o->count + 1, sizeof *values);
    if (!values)
        return -1;
    o->values = values;
    struct option_value *v = &values[o->count];
    *v = (struct option_value){.option = opt, .text = strdup(text), .source = source};
    if (!v->text)
        return -1;
    snprintf(v->place, sizeof v->place, "%s", place);
    o->count++;
    return 0;
}

static const char *program(const struct options *o, char *out, size_t size)
{
    snprintf(out, size, "culvert%s%s", o->command ? " " : "", o->command ? o->command->name : "");
    return out;
}

static int unknown(struct options *o, const char *text, struct err *e)
{
    const char *names[96];
    size_t len = strcspn(text + 2, "=");
    char name[64], who[48];
    snprintf(name, sizeof name, "%.*s", (int)(len < 63 ? len : 63), text + 2);
    const char *near = nearest_word(name, names, option_names(o->command, false, names, 96));
    program(o, who, sizeof who);
    if (near)
        return err_set(e, ERR_USAGE, WHY_NONE, "%s: unknown option --%s (did you mean --%s?); see %s --help", who, name,
                       near, who);
    return err_set(e, ERR_USAGE, WHY_NONE, "%s: unknown option --%s; see %s --help", who, name, who);
}

static int missing(struct options *o, const char *written, const struct option *opt, struct err *e)
{
    char who[48];
    program(o, who, sizeof who);
    return err_set(e, ERR_USAGE, WHY_NONE, "%s: %s needs a value: %s %s; see %s --help", who, written, written,
                   opt->value, who);
}

static int take(struct options *o, const struct option *opt, const char *written, const char *text, struct err *e)
{
    if (!strcmp(opt->name, "help"))
        o->help = true;
    else if (!strcmp(opt->name, "version"))
        o->version = true;
    char place[280];
    snprintf(place, sizeof place, "%s%s%.200s", written, opt->value ? " " : "", text);
    if (option_add(o, opt, text, OPTION_FLAG, place) < 0)
        return err_set(e, ERR_FAILED, WHY_NONE, "out of memory");
    return 0;
}

static int parse_long(struct options *o, int argc, char **argv, int *i, struct err *e)
{
    const char *text = argv[*i];
    size_t len = strcspn(text + 2, "=");
    const struct option *opt = option_find(o->command, text + 2, len);
    if (!opt)
        return unknown(o, text, e);
    char written[64];
    snprintf(written, sizeof written, "--%s", opt->name);
    const char *given = text[2 + len] ? text + 3 + len : NULL;
    if (!opt->value) {
        char who[48];
        if (given)
            return err_set(e, ERR_USAGE, WHY_NONE, "%s: %s takes no value", program(o, who, sizeof who), written);
        return take(o, opt, written, "", e);
    }
    if (!given) {
        if (*i + 1 >= argc)
            return missing(o, written, opt, e);
        given = argv[++*i];
    }
    return take(o, opt, written, given, e);
}

// "-vvq", "-L8080:…", "-L 8080:…"
static int parse_letters(struct options *o, int argc, char **argv, int *i, struct err *e)
{
    for (const char *at = argv[*i] + 1; *at; at++) {
        const struct option *opt = find_letter(o->command, *at);
        char written[3] = {'-', *at, 0}, who[48];
        if (!opt) {
            program(o, who, sizeof who);
            if ((unsigned char)*at < 0x20 || (unsigned char)*at > 0x7e)
                return err_set(e, ERR_USAGE, WHY_NONE, "%s: unknown option in argument %d; see %s --help", who, *i,
                               who);
            return err_set(e, ERR_USAGE, WHY_NONE, "%s: unknown option %s; see %s --help", who, written, who);
        }
        if (opt->value) {
            const char *text = at[1] ? at + 1 : *i + 1 < argc ? argv[++*i] : NULL;
            return text ? take(o, opt, written, text, e) : missing(o, written, opt, e);
        }
        if (take(o, opt, written, "", e) < 0)
            return -1;
    }
    return 0;
}

static int unknown_command(const char *text, struct err *e)
{
    const char *names[32];
    size_t n = 0;
    for (; commands[n] && n < 32; n++)
        names[n] = commands[n]->name;
    const char *near = nearest_word(text, names, n);
    if (near)
        return err_set(e, ERR_USAGE, WHY_NONE,
                       "culvert: unknown command \"%.60s\" (did you mean %s?); see culvert --help", text, near);
    return err_set(e, ERR_USAGE, WHY_NONE, "culvert: unknown command \"%.60s\"; see culvert --help", text);
}

static int take_word(struct options *o, char *text, bool find, struct err *e)
{
    if (find && !o->command) {
        o->command = command_find(text);
        return o->command ? 0 : unknown_command(text, e);
    }
    o->args[o->arg_count++] = text;
    return 0;
}

static int check_args(struct options *o, struct err *e)
{
    const struct command *c = o->command;
    if (!c || o->help || o->version)
        return 0;
    if (o->arg_count < c->args_min)
        return err_set(e, ERR_USAGE, WHY_NONE, "culvert %s: %s is missing; see culvert %s --help", c->name, c->usage,
                       c->name);
    if (c->args_max >= 0 && o->arg_count > c->args_max)
        return err_set(e, ERR_USAGE, WHY_NONE, "culvert %s: \"%.60s\" is one argument too many; see culvert %s --help",
                       c->name, o->args[c->args_max], c->name);
    return 0;
}

int options_parse(struct options *o, const struct command *command, int argc, char **argv, struct err *e)
{
    *o = (struct options){.command = command};
    o->args = calloc((size_t)argc + 1, sizeof *o->args);
    if (!o->args)
        return err_set(e, ERR_FAILED, WHY_NONE, "out of memory");
    bool words_only = false;
    for (int i = 0; i < argc; i++) {
        char *text = argv[i];
        int rc;
        if (words_only || text[0] != '-' || !text[1])
            rc = take_word(o, text, !command, e);
        else if (!strcmp(text, "--"))
            rc = 0, words_only = true;
        else if (text[1] == '-')
            rc = parse_long(o, argc, argv, &i, e);
        else
            rc = parse_letters(o, argc, argv, &i, e);
        if (rc < 0)
            return -1;
    }
    return check_args(o, e);
}

void options_fini(struct options *o)
{
    for (size_t i = 0; i < o->count; i++) {
        OPENSSL_cleanse(o->values[i].text, strlen(o->values[i].text));
        free(o->values[i].text);
        OPENSSL_cleanse(o->values[i].place, sizeof o->values[i].place);
    }
    free(o->values);
    free(o->args);
    *o = (struct options){0};
}

const struct option_value *options_nth(const struct options *o, const char *name, size_t n)
{
    for (size_t i = 0; i < o->count; i++)
        if (!strcmp(o->values[i].option->name, name) && n-- == 0)
            return &o->values[i];
    return NULL;
}

size_t options_count(const struct options *o, const char *name)
{
    size_t n = 0;
    for (size_t i = 0; i < o->count; i++)
        n += !strcmp(o->values[i].option->name, name);
    return n;
}

bool options_has(const struct options *o, const char *name)
{
    return options_nth(o, name, 0) != NULL;
}

const char *options_get(const struct options *o, const char *name)
{
    size_t n = options_count(o, name);
    return n ? options_nth(o, name, n - 1)->text : NULL;
}
