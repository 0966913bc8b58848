// SPDX-License-Identifier: Apache-2.0
#include "check/show.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include <wchar.h>
#include "core/text.h"

#define SUBJECT_MAX 38 // columns; longer ones push what follows

struct style {
    bool utf8, colour;
};

static bool is_utf8(void)
{
    const char *v = getenv("LC_ALL");
    if (!v || !*v)
        v = getenv("LC_CTYPE");
    if (!v || !*v)
        v = getenv("LANG");
    return v && (strcasestr(v, "utf-8") || strcasestr(v, "utf8"));
}

static struct style style_of(FILE *out)
{
    const char *term = getenv("TERM");
    return (struct style){.utf8 = is_utf8(), .colour = isatty(fileno(out)) && !getenv("NO_COLOR") && term && strcmp(term, "dumb") != 0};
}

static const char *mark(const struct style *s, enum check_result result)
{
    switch (result) {
    case CHECK_OK:
        return s->utf8 ? "✔" : "ok";
    case CHECK_REFUSED:
    case CHECK_FAILED:
        return s->utf8 ? "✘" : "NO";
    default:
        return s->utf8 ? "–" : "--";
    }
}

static const char *colour(const struct style *s, enum check_result result)
{
    if (!s->colour)
        return "";
    return result == CHECK_OK ? "\x1b[32m" : result == CHECK_REFUSED || result == CHECK_FAILED ? "\x1b[31m" : "\x1b[2m";
}

static const char *plain(const struct style *s) { return s->colour ? "\x1b[0m" : ""; }

static void show_finding(FILE *out, const struct style *s, const struct finding *f)
{
    size_t indent = s->utf8 ? 4 : 5, at = text_width(f->subject, strlen(f->subject));
    fprintf(out, "  %s%s%s %s%*s  ", colour(s, f->result), mark(s, f->result), plain(s), f->subject,
            (int)(at < SUBJECT_MAX ? SUBJECT_MAX - at : 0), "");
    text_wrap(out, f->seen ? f->seen : "", indent + SUBJECT_MAX + 2);
    if (f->advice != ADVICE_NONE && !f->advised) {
        fprintf(out, "%*s%s ", (int)indent, "", s->utf8 ? "→" : "->");
        text_wrap(out, advice_text(f->advice), indent + (s->utf8 ? 2 : 3));
    }
}

static void show_result(FILE *out, const struct style *s, const struct report *r)
{
    const char *colour_on = colour(s, r->usable ? CHECK_OK : CHECK_FAILED);
    if (r->usable)
        fprintf(out, "\n%s%s%s culvert would go %s.\n  ", colour_on, mark(s, CHECK_OK), plain(s), r->choice);
    else
        fprintf(out, "\n%s%s%s no usable path: ", colour_on, mark(s, CHECK_FAILED), plain(s));
    text_wrap(out, r->why, r->usable ? 2 : 4);
    if (r->advice != ADVICE_NONE && !r->advised) {
        fprintf(out, "  %s ", s->utf8 ? "→" : "->");
        text_wrap(out, advice_text(r->advice), s->utf8 ? 4 : 5);
    }
}

void show_table(FILE *out, const struct report *r)
{
    struct style s = style_of(out);
    const char *group = NULL;
    fprintf(out, "%s%s%s%s\n", r->relay, r->joined ? ", joined" : ", not joined", r->name[0] ? " as " : "", r->name);
    list_each(&r->findings, it) {
        const struct finding *f = list_entry(it, struct finding, node);
        if (!group || strcmp(group, f->group) != 0)
            fprintf(out, "\n%s\n", f->group);
        group = f->group;
        show_finding(out, &s, f);
    }
    show_result(out, &s, r);
}

static json_t *text(const char *s) { return json_string(s ? s : ""); }

static json_t *finding_json(const struct finding *f)
{
    json_t *o = json_object();
    json_object_set_new(o, "group", text(f->group));
    json_object_set_new(o, "probe", text(f->probe));
    json_object_set_new(o, "subject", text(f->subject));
    json_object_set_new(o, "result", text(check_result_name(f->result)));
    json_object_set_new(o, "seen", text(f->seen));
    json_object_set_new(o, "ms", f->took_ms == UINT64_MAX ? json_null() : json_integer((json_int_t)f->took_ms));
    json_object_set_new(o, "advice", f->advice ? text(advice_name(f->advice)) : json_null());
    json_object_set_new(o, "remedy", f->advice ? text(advice_text(f->advice)) : json_null());
    if (f->more)
        json_object_update_missing(o, f->more);
    return o;
}

json_t *show_json(const struct report *r)
{
    json_t *o = json_object(), *probes = json_array();
    list_each(&r->findings, it) json_array_append_new(probes, finding_json(list_entry(it, struct finding, node)));
    json_object_set_new(o, "relay", text(r->relay));
    json_object_set_new(o, "joined", json_boolean(r->joined));
    json_object_set_new(o, "name", r->name[0] ? text(r->name) : json_null());
    json_object_set_new(o, "usable", json_boolean(r->usable));
    json_object_set_new(o, "exit", json_integer(r->status));
    json_object_set(o, "choice", r->chosen ? r->chosen : json_null());
    json_object_set_new(o, "why", text(r->why));
    json_object_set_new(o, "advice", r->advice ? text(advice_name(r->advice)) : json_null());
    json_object_set_new(o, "remedy", r->advice ? text(advice_text(r->advice)) : json_null());
    json_object_set_new(o, "ms", json_integer((json_int_t)r->took_ms));
    json_object_set_new(o, "probes", probes);
    return o;
}

void show_progress(const struct report *r, uint64_t ms, unsigned turn)
{
    static const char wheel[] = "|/-\\";
    size_t done = 0, all = 0;
    const struct finding *running = NULL;
    if (!r) {
        fputs("\r\x1b[K", stderr);
        return;
    }
    list_each(&r->findings, it) {
        const struct finding *f = list_entry(it, struct finding, node);
        all++;
        done += f->result != CHECK_RUNNING;
        if (f->result == CHECK_RUNNING)
            running = f;
    }
    fprintf(stderr, "\r\x1b[K%c %zu of %zu, %llu s%s%.40s%s%.40s", wheel[turn % 4], done, all, (unsigned long long)ms / 1000,
            running ? ": " : "", running ? running->subject : "", running ? " " : "", running ? running->group : "");
    fflush(stderr);
}
