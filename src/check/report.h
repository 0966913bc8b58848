// SPDX-License-Identifier: Apache-2.0
// What a check found: rows in the order in which they shall be read, each with its result, what was seen, and what to do. Rows are
// made when their probe begins, so that progress can be told, and filled when it ends. The report owns all of it and outlives the
// check; printing and JSON are in show.h. Foreign text is escaped by who puts it in.
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "core/advice.h"
#include "core/err.h"
#include "core/list.h"

enum check_result {
    CHECK_RUNNING,
    CHECK_OK,
    CHECK_REFUSED, // somebody said no
    CHECK_FAILED,  // silence, or something that should not be
    CHECK_ABSENT,  // not offered
    CHECK_SKIPPED, // nothing to ask, or not asked; seen says why
};

struct finding {
    struct list node;
    char *group;   // "names", "proxy http://proxy:3128 (https_proxy)", "via proxy:3128"
    const char *probe; // for machines: "name", "address", "proxy", "connect", "tls" …
    char *subject; // "relay.example", "192.0.2.1:443", "TLS"
    enum check_result result;
    char *seen;
    enum advice advice;
    bool advised;  // seen says it itself
    uint64_t began_ms, took_ms; // took_ms UINT64_MAX: time says nothing here
    json_t *more;  // further facts for machines, an object; NULL: none
};

struct report {
    struct list findings;
    char relay[640], name[64]; // the URL; what the relay calls us
    bool joined;
    bool usable;
    enum err_kind status;      // exit status
    char choice[256];          // "via proxy:3128, WebSocket over HTTP/1.1"; "" when there is none
    char why[400];             // of the choice; or why there is none
    enum advice advice;        // the one thing to do first
    bool advised;              // why says it itself
    json_t *chosen;            // the choice for machines; NULL: none
    uint64_t took_ms;
};

struct report *report_new(void);
void report_free(struct report *r); // NULL is allowed
// A new row; group and subject are copied, probe is static.
struct finding *report_add(struct report *r, const char *group, const char *probe, const char *subject, uint64_t now_ms);
void finding_end(struct finding *f, enum check_result result, enum advice advice, uint64_t now_ms, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
// From an error: refused or failed, as its reason says.
void finding_fail(struct finding *f, const struct err *e, uint64_t now_ms);
void finding_more(struct finding *f, const char *key, json_t *value); // owns value
const char *check_result_name(enum check_result result); // "ok", "refused" …
