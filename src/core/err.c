// SPDX-License-Identifier: Apache-2.0
#include "core/err.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *format(const char *fmt, va_list ap)
{
    char text[ERR_TEXT_MAX];
    return vsnprintf(text, sizeof(text), fmt, ap) < 0 ? NULL : strdup(text);
}

int err_vset(struct err *e, enum err_kind kind, enum err_why why, const char *fmt, va_list ap)
{
    char *text = format(fmt, ap); // before the free: an argument may be the old text
    free(e->text);
    *e = (struct err){.kind = kind, .why = why, .text = text};
    return -1;
}

int err_set(struct err *e, enum err_kind kind, enum err_why why, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    err_vset(e, kind, why, fmt, ap);
    va_end(ap);
    return -1;
}

static enum err_why why_of(int errnum)
{
    switch (errnum) {
    case ECONNREFUSED:
    case ENOENT: // a Unix socket that nobody has made
        return WHY_REFUSED;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case EHOSTDOWN:
    case ENETDOWN:
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
        return WHY_UNREACHABLE;
    case ETIMEDOUT:
        return WHY_TIMEOUT;
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
        return WHY_ABORTED;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case EAGAIN:
        return WHY_LIMIT;
    case EACCES:
    case EPERM:
        return WHY_POLICY;
    default:
        return WHY_INTERNAL;
    }
}

static enum err_kind kind_of(enum err_why why)
{
    switch (why) {
    case WHY_REFUSED:
    case WHY_UNREACHABLE:
    case WHY_TIMEOUT:
        return ERR_UNREACHED;
    default:
        return ERR_FAILED;
    }
}

int err_errno(struct err *e, int errnum, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *place = format(fmt, ap);
    va_end(ap);
    enum err_why why = why_of(errnum);
    err_set(e, kind_of(why), why, "%s: %s", place ? place : "", strerror(errnum));
    free(place);
    return -1;
}

void err_prefix(struct err *e, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *place = format(fmt, ap);
    va_end(ap);
    enum advice advice = e->advice;
    bool advised = e->advised;
    if (place)
        err_set(e, e->kind, e->why, "%s: %s", place, err_text(e));
    e->advice = advice;
    e->advised = advised;
    free(place);
}

int err_advise(struct err *e, enum advice advice)
{
    if (e->advice == ADVICE_NONE)
        e->advice = advice;
    return -1;
}

void err_move(struct err *to, struct err *from)
{
    if (to == from)
        return;
    free(to->text);
    *to = *from;
    *from = ERR_INIT;
}

void err_copy(struct err *to, const struct err *from)
{
    if (to == from)
        return;
    free(to->text);
    *to = *from;
    to->text = from->text ? strdup(from->text) : NULL;
}

void err_fini(struct err *e)
{
    free(e->text);
    *e = ERR_INIT;
}

const char *err_text(const struct err *e)
{
    if (e->text)
        return e->text;
    return e->kind == ERR_NONE ? "no error" : err_why_name(e->why);
}

int err_advised(struct err *e, enum advice advice)
{
    e->advice = advice;
    e->advised = true;
    return -1;
}

char *err_whole(const struct err *e, char *out, size_t size)
{
    const char *advice = e->advised ? "" : advice_text(e->advice);
    snprintf(out, size, "%s%s%s", err_text(e), *advice ? "; " : "", advice);
    return out;
}

const char *err_why_name(enum err_why why)
{
    static const char *const names[] = {
        [WHY_NONE] = "ok",          [WHY_REFUSED] = "refused",   [WHY_UNREACHABLE] = "unreachable",
        [WHY_TIMEOUT] = "timeout",  [WHY_POLICY] = "policy",     [WHY_LIMIT] = "limit",
        [WHY_DNS] = "dns",          [WHY_MOVED] = "moved",       [WHY_ABSENT] = "absent",
        [WHY_DONE] = "done",        [WHY_ABORTED] = "aborted",   [WHY_LOST] = "lost",
        [WHY_PROTOCOL] = "protocol", [WHY_INTERNAL] = "internal",
    };
    unsigned i = (unsigned)why;
    return i < sizeof(names) / sizeof(names[0]) ? names[i] : "unknown";
}
