// SPDX-License-Identifier: Apache-2.0
// JSON for people.
#include "cmd/print.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "core/log.h"

#define COLUMNS_MAX 32
#define CELL_MAX 200

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

static void duration(char *out, size_t size, json_int_t ms)
{
    if (ms < 1000)
        snprintf(out, size, "%lldms", (long long)ms);
    else if (ms < 120000)
        snprintf(out, size, "%lld.%llds", (long long)(ms / 1000), (long long)(ms % 1000 / 100));
    else if (ms < 7200000)
        snprintf(out, size, "%lldm%02llds", (long long)(ms / 60000), (long long)(ms / 1000 % 60));
    else if (ms < 172800000)
        snprintf(out, size, "%lldh%02lldm", (long long)(ms / 3600000), (long long)(ms / 60000 % 60));
    else
        snprintf(out, size, "%lldd%02lldh", (long long)(ms / 86400000), (long long)(ms / 3600000 % 24));
}

static void bytes(char *out, size_t size, json_int_t n)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double v = (double)n;
    unsigned u = 0;
    for (; v >= 1024 && u < 5; u++)
        v /= 1024;
    snprintf(out, size, u ? "%.1f%s" : "%.0f%s", v, units[u]);
}

static void moment(char *out, size_t size, json_int_t seconds)
{
    time_t t = (time_t)seconds;
    struct tm tm;
    if (!localtime_r(&t, &tm) || !strftime(out, size, "%F %T", &tm))
        snprintf(out, size, "%lld", (long long)seconds);
}

static bool is_moment(const char *key)
{
    return !strcmp(key, "created") || !strcmp(key, "expires") || !strcmp(key, "since");
}

// ["a","b"] → "a, b"
static void join(char *out, size_t size, const json_t *list)
{
    size_t i, used = 0;
    const json_t *one;
    json_array_foreach(list, i, one)
    {
        char text[CELL_MAX];
        log_escape(text, sizeof text, json_string_value(one), json_string_length(one));
        int n = snprintf(out + used, size - used, "%s%s", i ? ", " : "", text);
        used = (size_t)n < size - used ? used + (size_t)n : size - 1;
    }
}

char *print_value(const char *key, const json_t *value, char *out, size_t size)
{
    *out = 0;
    if (json_is_string(value))
        log_escape(out, size, json_string_value(value), json_string_length(value));
    else if (json_is_boolean(value))
        snprintf(out, size, "%s", json_is_true(value) ? "yes" : "no");
    else if (json_is_integer(value) && ends_with(key, "_ms"))
        duration(out, size, json_integer_value(value));
    else if (json_is_integer(value) && strstr(key, "bytes"))
        bytes(out, size, json_integer_value(value));
    else if (json_is_integer(value) && is_moment(key))
        moment(out, size, json_integer_value(value));
    else if (json_is_integer(value))
        snprintf(out, size, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        snprintf(out, size, "%.2f", json_real_value(value));
    else if (json_is_string(json_array_get(value, 0)))
        join(out, size, value);
    else if (json_is_array(value) || json_is_object(value)) {
        char *text = json_dumps(value, JSON_COMPACT);
        if (text)
            log_escape(out, size, text, strlen(text));
        free(text);
    }
    if (!*out)
        snprintf(out, size, "-");
    return out;
}

static const char *title(const char *key, char *out, size_t size)
{
    snprintf(out, size, "%s", key);
    if (ends_with(out, "_ms"))
        out[strlen(out) - 3] = 0;
    for (char *c = out; *c; c++)
        *c = *c == '_' ? '-' : (char)(*c >= 'a' && *c <= 'z' ? *c - 32 : *c);
    return out;
}

// All keys, in the order in which they first come.
static size_t collect(const json_t *rows, const char **keys, size_t *widths)
{
    size_t n = 0, i;
    const json_t *row;
    json_array_foreach(rows, i, row)
    {
        const char *key;
        json_t *value;
        json_object_foreach((json_t *)row, key, value)
        {
            char cell[CELL_MAX];
            size_t k = 0;
            while (k < n && strcmp(keys[k], key))
                k++;
            if (k == COLUMNS_MAX)
                continue;
            if (k == n) {
                keys[n] = key;
                widths[n++] = strlen(title(key, cell, sizeof cell));
            }
            size_t len = strlen(print_value(key, value, cell, sizeof cell));
            if (len > widths[k])
                widths[k] = len;
        }
    }
    return n;
}

static void print_cell(FILE *out, const char *text, size_t width, bool last)
{
    if (last)
        fprintf(out, "%s\n", text);
    else
        fprintf(out, "%-*s  ", (int)width, text);
}

void print_table(FILE *out, const json_t *rows)
{
    const char *keys[COLUMNS_MAX];
    size_t widths[COLUMNS_MAX], n = collect(rows, keys, widths), i;
    char cell[CELL_MAX];
    const json_t *row;
    if (!n) {
        fputs("(none)\n", out);
        return;
    }
    for (size_t k = 0; k < n; k++)
        print_cell(out, title(keys[k], cell, sizeof cell), widths[k], k + 1 == n);
    json_array_foreach(rows, i, row)
    {
        for (size_t k = 0; k < n; k++)
            print_cell(out, print_value(keys[k], json_object_get(row, keys[k]), cell, sizeof cell), widths[k],
                       k + 1 == n);
    }
}

static void print_object(FILE *out, const json_t *o, int indent);

static void print_member(FILE *out, const char *key, const json_t *value, int indent)
{
    char cell[CELL_MAX];
    if (json_is_object(value) && json_object_size(value)) {
        fprintf(out, "%*s%s\n", indent, "", key);
        print_object(out, value, indent + 2);
    } else if (json_is_array(value) && json_is_object(json_array_get(value, 0))) {
        size_t i;
        const json_t *one;
        json_array_foreach(value, i, one)
        {
            fprintf(out, "%*s%s %zu\n", indent, "", key, i + 1);
            print_object(out, one, indent + 2);
        }
    } else {
        fprintf(out, "%*s%-*s %s\n", indent, "", 24 - indent, key, print_value(key, value, cell, sizeof cell));
    }
}

static void print_object(FILE *out, const json_t *o, int indent)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)o, key, value) if (strcmp(key, "role") && strcmp(key, "pid"))
        print_member(out, key, value, indent);
}

void print_status(FILE *out, const json_t *answers)
{
    size_t i;
    const json_t *one;
    json_array_foreach(answers, i, one)
    {
        const char *bad = json_string_value(json_object_get(one, "error"));
        fprintf(out, "%s%s, pid %lld%s%s\n", i ? "\n" : "", json_string_value(json_object_get(one, "role")),
                (long long)json_integer_value(json_object_get(one, "pid")), bad ? ": " : "", bad ? bad : "");
        print_object(out, json_object_get(one, "answer"), 2);
    }
}
