// SPDX-License-Identifier: Apache-2.0
// Typed readers of option values, and the search for the word that was meant.
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cmd/options.h"

struct unit {
    const char *name;
    uint64_t factor;
};

// A whole number and one of the units; bare numbers count in `bare`. False on overflow.
static bool parse_unit(const char *text, const struct unit *units, uint64_t bare, uint64_t *out)
{
    uint64_t v = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (v > (UINT64_MAX - 9) / 10)
            return false;
        v = v * 10 + (uint64_t)(*at - '0');
    }
    if (at == text)
        return false;
    uint64_t factor = *at ? 0 : bare;
    for (; !factor && units->name; units++)
        if (!strcmp(units->name, at))
            factor = units->factor;
    if (!factor || v > UINT64_MAX / factor)
        return false;
    *out = v * factor;
    return true;
}

bool parse_ms(const char *text, uint64_t *ms)
{
    static const struct unit units[] = {{"ms", 1},      {"s", 1000},     {"m", 60000}, {"min", 60000},
                                        {"h", 3600000}, {"d", 86400000}, {NULL, 0}};
    return parse_unit(text, units, 1000, ms);
}

bool parse_size(const char *text, size_t *size)
{
    static const struct unit units[] = {{"B", 1},          {"K", 1u << 10},   {"k", 1u << 10},  {"KiB", 1u << 10},
                                        {"M", 1u << 20},   {"MiB", 1u << 20}, {"MB", 1u << 20}, {"G", 1u << 30},
                                        {"GiB", 1u << 30}, {"GB", 1u << 30},  {NULL, 0}};
    uint64_t v;
    if (!parse_unit(text, units, 1, &v) || v > SIZE_MAX)
        return false;
    *size = (size_t)v;
    return true;
}

int options_bad(const struct option_value *v, struct err *e, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    err_vset(e, ERR_USAGE, WHY_NONE, fmt, ap);
    va_end(ap);
    err_prefix(e, "%s", v->place);
    return -1;
}

static const struct option_value *last(const struct options *o, const char *name)
{
    size_t n = options_count(o, name);
    return n ? options_nth(o, name, n - 1) : NULL;
}

int options_ms(const struct options *o, const char *name, uint64_t *out, struct err *e)
{
    const struct option_value *v = last(o, name);
    if (v && !parse_ms(v->text, out))
        return options_bad(v, e, "\"%.60s\" is no duration; write 500ms, 60s, 15m, 2h or 7d", v->text);
    return 0;
}

int options_size(const struct options *o, const char *name, size_t *out, struct err *e)
{
    const struct option_value *v = last(o, name);
    if (v && !parse_size(v->text, out))
        return options_bad(v, e, "\"%.60s\" is no size; write 65536, 64K, 256M or 2G", v->text);
    return 0;
}

int options_number(const struct options *o, const char *name, uint64_t min, uint64_t max, uint64_t *out, struct err *e)
{
    static const struct unit none[] = {{NULL, 0}};
    const struct option_value *v = last(o, name);
    if (v && (!parse_unit(v->text, none, 1, out) || *out < min || *out > max))
        return options_bad(v, e, "\"%.60s\" is no number from %llu to %llu", v->text, (unsigned long long)min,
                           (unsigned long long)max);
    return 0;
}

int options_descriptor(const struct options *o, const char *name, int *out, struct err *e)
{
    const struct option_value *v = last(o, name);
    uint64_t fd = 0;
    if (!v)
        return 0;
    if (options_number(o, name, 0, 65535, &fd, e) < 0)
        return -1;
    if (fcntl((int)fd, F_GETFD) < 0)
        return options_bad(v, e, "descriptor %d is not open", (int)fd);
    if (fd > STDERR_FILENO)
        fcntl((int)fd, F_SETFD, FD_CLOEXEC);
    *out = (int)fd;
    return 0;
}

int options_word(const struct options *o, const char *name, const char *const *words, unsigned *out, struct err *e)
{
    const struct option_value *v = last(o, name);
    if (!v)
        return 0;
    char all[160] = "";
    for (unsigned i = 0; words[i]; i++) {
        if (!strcmp(v->text, words[i])) {
            *out = i;
            return 0;
        }
        size_t used = strlen(all);
        snprintf(all + used, sizeof all - used, "%s%s", i ? (words[i + 1] ? ", " : " or ") : "", words[i]);
    }
    return options_bad(v, e, "\"%.60s\" must be %s", v->text, all);
}

#define WORD_MAX 40

// Edits between two words (Levenshtein), one row at a time.
static unsigned distance(const char *a, const char *b)
{
    size_t n = strlen(b);
    unsigned row[WORD_MAX + 1];
    for (size_t j = 0; j <= n; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; a[i - 1]; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= n; j++) {
            unsigned replace = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            unsigned add = row[j - 1] + 1, drop = row[j] + 1;
            row[j] = replace < add ? (replace < drop ? replace : drop) : (add < drop ? add : drop);
        }
    }
    return row[n];
}

const char *nearest_word(const char *text, const char *const *words, size_t count)
{
    const char *best = NULL;
    size_t len = strlen(text);
    unsigned limit = len < 4 ? 1 : len < 6 ? 2 : 3;
    if (!len || len > WORD_MAX)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        if (strlen(words[i]) > WORD_MAX)
            continue;
        unsigned d = len >= 4 && !strncmp(words[i], text, len) ? 1 : distance(text, words[i]);
        if (d <= limit && d < len) {
            limit = d - (d > 0);
            best = words[i];
            if (!d)
                break;
        }
    }
    return best;
}
