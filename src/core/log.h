// SPDX-License-Identifier: Apache-2.0
// The log: one line an event, `key=value` after a short sentence, or one JSON object, or journal priority prefixes;
// always to stderr. Bytes of foreign origin outside 0x20…0x7e are written as \xNN, and values are cut at
// LOG_VALUE_MAX, so no peer can forge a line or drive a terminal. Secrets are never passed to it. Sink and counts are
// process-wide. Of one message at most LOG_BURST lines a second are written, so that no peer fills a disk
// with refusals; what was left out is counted and told before that message's next line. LOG_DEBUG and LOG_TRACE have no bound.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_VALUE_MAX 600
#define LOG_BURST 200

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE };
enum log_format { LOG_TEXT, LOG_JSON, LOG_JOURNAL };

struct log_field {
    const char *key;  // NULL ends the list
    const char *text; // NULL: `number` counts
    int64_t number;
};

#define LS(k, v) ((struct log_field){.key = (k), .text = (v) ? (v) : ""})
#define LN(k, v) ((struct log_field){.key = (k), .number = (int64_t)(v)})
// log_event(LOG_INFO, "agent joined", LS("agent", name), LN("port", 443));
#define log_event(level, ...)                                                                                          \
    do {                                                                                                               \
        if (log_enabled(level))                                                                                        \
            log_emit(level, LOG_FIELDS_(__VA_ARGS__, (struct log_field){0}));                                          \
    } while (0)
#define LOG_FIELDS_(message, ...) message, (const struct log_field[]){__VA_ARGS__}

void log_setup(enum log_level max, enum log_format format);
bool log_enabled(enum log_level level);
void log_emit(enum log_level level, const char *message, const struct log_field *fields);
// Writes `len` foreign bytes escaped into out (always ended by 0, cut with "…" when they do not fit); returns out.
char *log_escape(char *out, size_t size, const void *data, size_t len);
