// SPDX-License-Identifier: Apache-2.0
// Values from the environment and from the INI file. A key is a long flag without its dashes; keys of the file are
// checked against every command that reads the same section, so that one file serves `agent` and `join`.
#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "cmd/command.h"
#include "cmd/options_impl.h"

// Whether a stronger source said it already.
static bool said(const struct options *o, const struct option *opt, enum option_source weaker)
{
    for (size_t i = 0; i < o->count; i++)
        if (o->values[i].option == opt && o->values[i].source < weaker)
            return true;
    return false;
}

static bool is_yes(const char *text)
{
    return !strcasecmp(text, "on") || !strcasecmp(text, "yes") || !strcasecmp(text, "true") || !strcmp(text, "1");
}

static bool is_no(const char *text)
{
    return !strcasecmp(text, "off") || !strcasecmp(text, "no") || !strcasecmp(text, "false") || !strcmp(text, "0");
}

static int add(struct options *o, const struct option *opt, const char *text, enum option_source source,
               const char *place, struct err *e)
{
    if (!opt->value) { // a switch
        if (is_no(text))
            return 0;
        if (!is_yes(text))
            return err_set(e, ERR_USAGE, WHY_NONE, "%s: \"%.60s\" is neither on nor off", place, text);
        text = "";
    }
    if (option_add(o, opt, text, source, place) < 0)
        return err_set(e, ERR_FAILED, WHY_NONE, "out of memory");
    return 0;
}

// Values of an option that may be repeated are separated by blanks.
static int add_words(struct options *o, const struct option *opt, const char *text, const char *place, struct err *e)
{
    for (const char *at = text; *at;) {
        at += strspn(at, " \t\n");
        size_t len = strcspn(at, " \t\n");
        char *word = strndup(at, len);
        int rc = !len ? 0 : add(o, opt, word ? word : "", OPTION_ENVIRONMENT, place, e);
        free(word);
        if (rc < 0)
            return -1;
        at += len;
    }
    return 0;
}

// CULVERT_ALLOW_LISTEN → allow-listen
static const struct option *environment_option(const struct command *c, const char *var, size_t len)
{
    char name[64];
    if (len >= sizeof name)
        return NULL;
    for (size_t i = 0; i < len; i++)
        name[i] = var[i] == '_' ? '-' : (char)tolower((unsigned char)var[i]);
    const struct option *opt = option_find(c, name, len);
    return opt && !(opt->flags & OPT_ARGV) ? opt : NULL;
}

int options_environment(struct options *o, char **env, struct err *e)
{
    for (; env && *env; env++) {
        if (strncmp(*env, "CULVERT_", 8))
            continue;
        size_t len = strcspn(*env, "=");
        const struct option *opt = (*env)[len] ? environment_option(o->command, *env + 8, len - 8) : NULL;
        if (!opt || said(o, opt, OPTION_ENVIRONMENT))
            continue;
        char place[80];
        snprintf(place, sizeof place, "%.*s", (int)len, *env);
        const char *text = *env + len + 1;
        int rc = (opt->flags & OPT_MANY) && !(opt->flags & OPT_BLANK) ? add_words(o, opt, text, place, e)
                                                                      : add(o, opt, text, OPTION_ENVIRONMENT, place, e);
        if (rc < 0)
            return -1;
    }
    return 0;
}

struct reading {
    struct options *o;
    const char *path;
    FILE *f;
    int line; // lines read; the library does not tell
    struct err *e;
    bool failed;
};

static void bad_line(struct reading *r, const char *what)
{
    if (!r->failed)
        err_set(r->e, ERR_USAGE, WHY_NONE, "%s:%d: %s", r->path, r->line, what);
    r->failed = true;
}

// fgets that counts lines, and takes text only.
static char *next_line(char *out, int size, void *ctx)
{
    struct reading *r = ctx;
    int n = 0, c = 0;
    r->line++;
    while (c != '\n' && n < size - 1 && (c = getc(r->f)) != EOF) {
        if ((c < 0x20 && !strchr("\t\r\n", c)) || c == 0 || c == 0x7f)
            bad_line(r, "holds a control character; this is no text file");
        out[n++] = (char)(c ? c : ' ');
    }
    out[n] = 0;
    if (n == size - 1 && c != '\n')
        bad_line(r, "too long");
    return n ? out : NULL;
}

static const struct option *section_option(const struct reading *r, const char *section, const char *key)
{
    if (!*section)
        return option_find(NULL, key, strlen(key));
    for (size_t i = 0; commands[i]; i++) {
        const struct option *opt = NULL;
        if (commands[i]->section && !strcmp(commands[i]->section, section))
            opt = option_find(commands[i], key, strlen(key));
        if (opt)
            return opt;
    }
    return NULL;
}

static int bad_key(struct reading *r, const char *section, const char *key, int line)
{
    const char *names[96];
    size_t n = 0;
    for (size_t i = 0; commands[i]; i++)
        if (!*section || (commands[i]->section && !strcmp(commands[i]->section, section)))
            n += option_names(*section ? commands[i] : NULL, true, names + n, 96 - n);
    const char *near = nearest_word(key, names, n);
    return err_set(r->e, ERR_USAGE, WHY_NONE, "%s:%d: unknown key \"%.60s\"%s%s%s%s%s%s", r->path, line, key,
                   *section ? " in [" : "", section, *section ? "]" : "", near ? " (did you mean " : "",
                   near ? near : "", near ? "?)" : "");
}

static int take_key(struct reading *r, const char *section, const char *key, const char *text, int line)
{
    const struct command *c = r->o->command;
    if (*section && strcmp(section, "relay") && strcmp(section, "agent"))
        return err_set(r->e, ERR_USAGE, WHY_NONE, "%s:%d: unknown section [%.60s]: there are [relay] and [agent]",
                       r->path, line, section);
    const struct option *opt = section_option(r, section, key);
    if (!opt || (opt->flags & OPT_ARGV))
        return bad_key(r, section, key, line);
    bool ours = !*section || (c->section && !strcmp(section, c->section));
    if (!ours || option_find(c, key, strlen(key)) != opt || said(r->o, opt, OPTION_FILE))
        return 0;
    char place[280];
    snprintf(place, sizeof place, "%s:%d: %s", r->path, line, key);
    return add(r->o, opt, text, OPTION_FILE, place, r->e);
}

// inih's callback: 1 goes on. Only the first error is kept.
static int on_key(void *ctx, const char *section, const char *key, const char *text)
{
    struct reading *r = ctx;
    if (!r->failed && take_key(r, section, key, text ? text : "", r->line) < 0)
        r->failed = true;
    return 1;
}

int options_file(struct options *o, const char *path, bool must, struct err *e)
{
    FILE *f = fopen(path, "re");
    if (!f) {
        if (!must && (errno == ENOENT || errno == ENOTDIR))
            return 0;
        return err_set(e, ERR_USAGE, WHY_NONE, "configuration %s: %s", path, strerror(errno));
    }
    struct reading r = {.o = o, .path = path, .f = f, .e = e};
    int line = ini_parse_stream(next_line, &r, on_key, &r);
    fclose(f);
    if (r.failed)
        return -1;
    if (line > 0)
        return err_set(e, ERR_USAGE, WHY_NONE, "%s:%d: neither a [section] nor key = value", path, line);
    return line < 0 ? err_set(e, ERR_FAILED, WHY_NONE, "configuration %s: cannot be read", path) : 0;
}
