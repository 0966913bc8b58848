// SPDX-License-Identifier: Apache-2.0
#include "core/log.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 8192
#define MESSAGES 256 // of which there are some dozens in the program; more have no bound

static struct {
    enum log_level max;
    enum log_format format;
} sink = {LOG_INFO, LOG_TEXT};

void log_setup(enum log_level max, enum log_format format)
{
    sink.max = max;
    sink.format = format;
}

bool log_enabled(enum log_level level) { return level <= sink.max; }

// Writes the escaped form of one byte (ended by 0) and returns its length.
static size_t escape_byte(char out[5], unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    if (c == '\\') {
        memcpy(out, "\\\\", 3);
        return 2;
    }
    if (c < 0x20 || c > 0x7e) {
        out[0] = '\\', out[1] = 'x', out[2] = hex[c >> 4], out[3] = hex[c & 15], out[4] = 0;
        return 4;
    }
    out[0] = (char)c, out[1] = 0;
    return 1;
}

static size_t escaped_len(const unsigned char *p, size_t len)
{
    char one[5];
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += escape_byte(one, p[i]);
    return n;
}

char *log_escape(char *out, size_t size, const void *data, size_t len)
{
    static const char cut[] = "…";
    const unsigned char *p = data;
    if (size == 0)
        return out;
    bool fits = len < size && escaped_len(p, len) < size;
    size_t room = fits ? size : size > sizeof(cut) ? size - (sizeof(cut) - 1) : 1;
    size_t at = 0;
    for (size_t i = 0; i < len; i++) {
        char one[5];
        size_t n = escape_byte(one, p[i]);
        if (n >= room - at)
            break;
        memcpy(out + at, one, n);
        at += n;
    }
    out[at] = 0;
    if (!fits && size > sizeof(cut))
        memcpy(out + at, cut, sizeof(cut));
    return out;
}

struct line {
    size_t len;
    char text[LINE_MAX_BYTES];
};

static void add(struct line *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(struct line *l, const char *fmt, ...)
{
    size_t room = sizeof(l->text) - 2 - l->len; // keeps a place for '\n'
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(l->text + l->len, room, fmt, ap);
    va_end(ap);
    if (n > 0)
        l->len += (size_t)n < room ? (size_t)n : room - 1;
}

static void add_time(struct line *l)
{
    struct timespec ts;
    struct tm tm;
    char text[32];
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    add(l, "%s.%03ldZ", text, ts.tv_nsec / 1000000);
}

// Already escaped text between quotes: only quotes are left to escape, and in JSON the backslashes of the escapes.
static void add_quoted(struct line *l, const char *text, bool json)
{
    add(l, "\"");
    for (; *text; text++) {
        if (*text == '"' || (json && *text == '\\'))
            add(l, "\\");
        add(l, "%c", *text);
    }
    add(l, "\"");
}

static bool is_plain(const char *text)
{
    return *text && !strpbrk(text, " \"=");
}

static void add_text_field(struct line *l, const struct log_field *f)
{
    char value[LOG_VALUE_MAX];
    if (!f->text) {
        add(l, " %s=%" PRId64, f->key, f->number);
        return;
    }
    log_escape(value, sizeof(value), f->text, strlen(f->text));
    add(l, " %s=", f->key);
    if (is_plain(value))
        add(l, "%s", value);
    else
        add_quoted(l, value, false);
}

static void add_json_field(struct line *l, const struct log_field *f)
{
    char value[LOG_VALUE_MAX];
    add(l, ",\"%s\":", f->key);
    if (!f->text) {
        add(l, "%" PRId64, f->number);
        return;
    }
    log_escape(value, sizeof(value), f->text, strlen(f->text));
    add_quoted(l, value, true);
}

// Fields that do not fit are left out whole, so that a line stays well-formed.
static void add_fields(struct line *l, const struct log_field *fields, bool json)
{
    for (; fields->key; fields++) {
        if (sizeof(l->text) - l->len < 2 * LOG_VALUE_MAX + strlen(fields->key) + 16)
            return;
        if (json)
            add_json_field(l, fields);
        else
            add_text_field(l, fields);
    }
}

static void format_line(struct line *l, enum log_level level, const char *message, const struct log_field *fields)
{
    static const char *const names[] = {"error", "warn", "info", "debug", "trace"};
    static const char priority[] = {'3', '4', '6', '7', '7'};
    char text[LOG_VALUE_MAX];
    log_escape(text, sizeof(text), message, strlen(message));
    if (sink.format == LOG_JSON) {
        add(l, "{\"time\":\"");
        add_time(l);
        add(l, "\",\"level\":\"%s\",\"message\":", names[level]);
        add_quoted(l, text, true);
        add_fields(l, fields, true);
        add(l, "}");
        return;
    }
    if (sink.format == LOG_JOURNAL) {
        add(l, "<%c>", priority[level]);
    } else {
        add_time(l);
        add(l, " %-5s ", names[level]);
    }
    add(l, "%s", text);
    add_fields(l, fields, false);
}

// One for each message, found by its address: messages are literals. Threads may write at the same time; a line more or less
// at the turn of a second does no harm.
struct burst {
    _Atomic(const char *) message;
    _Atomic uint64_t second;
    _Atomic uint32_t lines;
};

static struct burst *find_burst(const char *message)
{
    static struct burst bursts[MESSAGES];
    size_t at = ((uintptr_t)message * 0x9e3779b97f4a7c15u) >> 56;
    for (size_t i = 0; i < MESSAGES; i++) {
        struct burst *b = &bursts[(at + i) % MESSAGES];
        const char *free_one = NULL;
        if (atomic_compare_exchange_strong(&b->message, &free_one, message) || free_one == message)
            return b;
    }
    return NULL;
}

// Whether one more line may be written now; *left: how many were not, when that is to be told.
static bool take_line(struct burst *b, uint32_t *left)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    uint64_t now = (uint64_t)ts.tv_sec, then = atomic_exchange(&b->second, now);
    uint32_t lines = then == now ? 0 : atomic_exchange(&b->lines, 0);
    *left = lines > LOG_BURST ? lines - LOG_BURST : 0;
    return atomic_fetch_add(&b->lines, 1) < LOG_BURST;
}

static void write_line(enum log_level level, const char *message, const struct log_field *fields)
{
    struct line l = {.len = 0};
    format_line(&l, level, message, fields);
    l.text[l.len++] = '\n';
    ssize_t n = write(STDERR_FILENO, l.text, l.len); // one call a line: lines of threads do not mix
    (void)n;
}

void log_emit(enum log_level level, const char *message, const struct log_field *fields)
{
    struct burst *b = level < LOG_DEBUG ? find_burst(message) : NULL;
    uint32_t left = 0;
    if (b && !take_line(b, &left))
        return;
    if (left)
        write_line(LOG_WARN, "lines left out", (const struct log_field[]){LS("message", message), LN("lines", left), {0}});
    write_line(level, message, fields);
}
