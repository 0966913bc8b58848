// SPDX-License-Identifier: Apache-2.0
#include "check/report.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *copy(const char *text)
{
    char *out = strdup(text);
    if (!out)
        abort();
    return out;
}

struct report *report_new(void)
{
    struct report *r = calloc(1, sizeof(*r));
    if (!r)
        abort();
    list_init(&r->findings);
    return r;
}

void report_free(struct report *r)
{
    if (!r)
        return;
    list_each(&r->findings, it) {
        struct finding *f = list_entry(it, struct finding, node);
        json_decref(f->more);
        free(f->group);
        free(f->subject);
        free(f->seen);
        free(f);
    }
    json_decref(r->chosen);
    free(r);
}

struct finding *report_add(struct report *r, const char *group, const char *probe, const char *subject, uint64_t now_ms)
{
    struct finding *f = calloc(1, sizeof(*f)), *last = NULL;
    if (!f)
        abort();
    f->group = copy(group);
    f->probe = probe;
    f->subject = copy(subject);
    f->began_ms = now_ms;
    list_each(&r->findings, it) { // behind the others of its group
        struct finding *other = list_entry(it, struct finding, node);
        if (strcmp(other->group, group) == 0)
            last = other;
    }
    list_push(last ? last->node.next : &r->findings, &f->node);
    return f;
}

void finding_end(struct finding *f, enum check_result result, enum advice advice, uint64_t now_ms, const char *fmt, ...)
{
    va_list ap;
    free(f->seen);
    va_start(ap, fmt);
    if (vasprintf(&f->seen, fmt, ap) < 0)
        abort();
    va_end(ap);
    f->took_ms = result == CHECK_SKIPPED || result == CHECK_ABSENT ? UINT64_MAX : now_ms - f->began_ms;
    f->advice = advice;
    f->advised = false;
    f->result = result;
}

void finding_fail(struct finding *f, const struct err *e, uint64_t now_ms)
{
    bool refused = e->why == WHY_REFUSED || e->why == WHY_POLICY || e->kind == ERR_UNTRUSTED || e->kind == ERR_POLICY;
    finding_end(f, refused ? CHECK_REFUSED : CHECK_FAILED, e->advice, now_ms, "%s", err_text(e));
    f->advised = e->advised;
}

void finding_more(struct finding *f, const char *key, json_t *value)
{
    if (!f->more)
        f->more = json_object();
    json_object_set_new(f->more, key, value);
}

const char *check_result_name(enum check_result result)
{
    static const char *const names[] = {
        [CHECK_RUNNING] = "running", [CHECK_OK] = "ok",          [CHECK_REFUSED] = "refused",
        [CHECK_FAILED] = "failed",   [CHECK_ABSENT] = "not offered", [CHECK_SKIPPED] = "skipped",
    };
    return names[result];
}
