// SPDX-License-Identifier: Apache-2.0
// One error, told once by who noticed it, prefixed at most once a layer on its way up, read once by its owner.
// The text is heap memory owned by the struct (bounded by ERR_TEXT_MAX); err_fini frees it. `kind` becomes the exit
// status, `why` the code that travels to the peer in OPENED. Setting an error never fails: without memory the text
// is simply lost.
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/advice.h"

#define ERR_TEXT_MAX 1024
#define ERR_WHOLE_MAX 1536 // with the advice

enum err_kind { // the values are exit statuses
    ERR_NONE = 0,
    ERR_FAILED = 1,
    ERR_USAGE = 2,
    ERR_UNREACHED = 3,
    ERR_UNTRUSTED = 4,
    ERR_POLICY = 5,
};

enum err_why { // the values are the codes of OPENED and RESET (docs/protocol.md)
    WHY_NONE = 0,
    WHY_REFUSED = 1,
    WHY_UNREACHABLE = 2,
    WHY_TIMEOUT = 3,
    WHY_POLICY = 4,
    WHY_LIMIT = 5,
    WHY_DNS = 6,
    WHY_MOVED = 7,
    WHY_ABSENT = 8,
    WHY_DONE = 9,
    WHY_ABORTED = 10,  // RESET: the local socket was reset
    WHY_LOST = 11,     // RESET: the other end lost its state
    WHY_PROTOCOL = 12, // RESET: the peer broke a rule of the protocol
    WHY_INTERNAL = 13,
};

struct err {
    enum err_kind kind;
    enum err_why why;
    enum advice advice; // what to do about it
    bool advised;       // the text says that itself
    char *text; // owned; NULL when nothing was said
};

#define ERR_INIT ((struct err){0})

// Sets the error, replacing an earlier one, and returns -1 so that `return err_set(…)` reads well.
int err_set(struct err *e, enum err_kind kind, enum err_why why, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
int err_vset(struct err *e, enum err_kind kind, enum err_why why, const char *fmt, va_list ap);
// Sets kind and why from an errno value, and the text to "fmt: strerror".
int err_errno(struct err *e, int errnum, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
// Says what to do about it, unless that was said; returns -1.
int err_advise(struct err *e, enum advice advice);
int err_advised(struct err *e, enum advice advice); // the text says it, in its own words
// Puts "fmt: " before the text.
void err_prefix(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// Moves `from` into `to`, freeing what `to` held; `from` becomes empty.
void err_move(struct err *to, struct err *from);
void err_copy(struct err *to, const struct err *from);
void err_fini(struct err *e);
const char *err_text(const struct err *e); // never NULL
// The text and, behind "; ", what to do: for a person. Returns out.
char *err_whole(const struct err *e, char *out, size_t size);
static inline bool err_is(const struct err *e) { return e->kind != ERR_NONE; }
// "refused", "policy" … the protocol's word for a code; "code 99" never: unknown codes give "unknown".
const char *err_why_name(enum err_why why);
