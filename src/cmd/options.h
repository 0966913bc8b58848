// SPDX-License-Identifier: Apache-2.0
// Options and where their values come from. options_parse takes argv; options_environment and options_file add what
// argv did not say. The set owns copies of all texts. All failures are ERR_USAGE and name the place: "--drain 3x",
// "CULVERT_DRAIN", "/etc/culvert/culvert.ini:12".
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "core/err.h"

enum {
    OPT_MANY = 1,  // may be repeated
    OPT_ARGV = 2,  // neither in the file nor in the environment
    OPT_BLANK = 4, // with OPT_MANY: the environment's value is one value, blanks and all
};

struct option {
    const char *name;  // long, without its dashes; NULL ends a table
    char letter;       // 0: none
    const char *value; // what stands for the value in the help; NULL: a switch
    unsigned flags;
    const char *help;
};

enum option_source { OPTION_FLAG, OPTION_ENVIRONMENT, OPTION_FILE };

struct option_value {
    const struct option *option;
    char *text; // "" for a switch
    enum option_source source;
    char place[280]; // for messages
};

struct command;

struct options {
    const struct command *command;
    struct option_value *values;
    size_t count;
    char **args; // positional; point into argv
    int arg_count;
    bool help, version;
};

// `command` may be NULL to find it: the first argument that is no option names it.
int options_parse(struct options *o, const struct command *command, int argc, char **argv, struct err *e);
int options_environment(struct options *o, char **env, struct err *e);
// Reads the section of o->command, and the keys before any section. `must`: a missing file is an error.
int options_file(struct options *o, const char *path, bool must, struct err *e);
void options_fini(struct options *o); // wipes the texts

bool options_has(const struct options *o, const char *name);
size_t options_count(const struct options *o, const char *name);
// The n-th value; NULL beyond the last. options_get is the last one: of a repeated single option the last wins.
const struct option_value *options_nth(const struct options *o, const char *name, size_t n);
const char *options_get(const struct options *o, const char *name);

// Typed readers: *out keeps its default when the option was not given. 0, or -1 with *e set.
int options_ms(const struct options *o, const char *name, uint64_t *out, struct err *e);    // 500ms 60s 15m 2h 7d; bare: s
int options_size(const struct options *o, const char *name, size_t *out, struct err *e);    // 4096 256M 2GiB
int options_number(const struct options *o, const char *name, uint64_t min, uint64_t max, uint64_t *out, struct err *e);
// A descriptor that whoever started us has left open; no child of ours gets it. One that is not open would be one of our own later.
int options_descriptor(const struct options *o, const char *name, int *out, struct err *e);
// The index of the value among `words`, NULL-ended.
int options_word(const struct options *o, const char *name, const char *const *words, unsigned *out, struct err *e);
// An error about one value: "PLACE: fmt"; returns -1.
int options_bad(const struct option_value *v, struct err *e, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

// Plain texts of the same forms, for other users. False: not one.
bool parse_ms(const char *text, uint64_t *ms);
bool parse_size(const char *text, size_t *size);
// The word of `words` nearest to `text` if near enough to be meant, or NULL.
const char *nearest_word(const char *text, const char *const *words, size_t count);
