// SPDX-License-Identifier: Apache-2.0
#include "agent/lessons.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "core/log.h"
#include "trust/file.h"

static bool is_key(const char *key) { return key && strlen(key) == 16 && strspn(key, "0123456789abcdef") == 16; }

static size_t place_of(const struct lessons *l, const char *key)
{
    size_t i = 0;
    while (i < l->count && strcmp(l->of[i].key, key) != 0)
        i++;
    return i;
}

// To the end, as the one used last.
static void put(struct lessons *l, const char *key, const struct liveness_lesson *lesson)
{
    size_t i = place_of(l, key);
    if (i == l->count && l->count == LESSONS_MAX)
        i = 0;
    if (i < l->count)
        memmove(&l->of[i], &l->of[i + 1], (--l->count - i) * sizeof(l->of[0]));
    snprintf(l->of[l->count].key, sizeof(l->of[0].key), "%s", key);
    l->of[l->count++].lesson = *lesson;
}

static void load(struct lessons *l, const json_t *all)
{
    const char *key;
    json_t *one;
    json_object_foreach((json_t *)all, key, one)
    {
        json_int_t cut = json_integer_value(json_object_get(one, "cut_ms"));
        json_int_t strikes = json_integer_value(json_object_get(one, "strikes"));
        if (is_key(key) && cut >= 0 && cut <= LIVENESS_IDLE_MAX_MS && strikes >= 0)
            put(l, key, &(struct liveness_lesson){.cut_ms = (uint32_t)cut, .strikes = (uint16_t)(strikes < 6 ? strikes : 6)});
    }
}

void lessons_open(struct lessons *l, const char *state)
{
    struct err e = ERR_INIT;
    char *text = NULL;
    size_t len;
    *l = (struct lessons){.path = file_path(state, LESSONS_FILE)};
    if (!l->path || !file_exists(l->path))
        return;
    if (file_read(l->path, false, &text, &len, &e) < 0)
        log_event(LOG_INFO, "what was learnt of networks cannot be read", LS("reason", err_text(&e)));
    json_t *all = text ? json_loadb(text, len, 0, NULL) : NULL;
    load(l, all);
    json_decref(all);
    file_wipe(text, len);
    err_fini(&e);
}

static json_t *to_json(const struct lessons *l)
{
    json_t *all = json_object();
    for (size_t i = 0; i < l->count; i++) {
        const struct liveness_lesson *k = &l->of[i].lesson;
        json_object_set_new(all, l->of[i].key, json_pack("{s:I, s:i}", "cut_ms", (json_int_t)k->cut_ms, "strikes", (int)k->strikes));
    }
    return all;
}

static void save(struct lessons *l, uint64_t now_ms)
{
    struct err e = ERR_INIT;
    json_t *all = to_json(l);
    char *text = json_dumps(all, JSON_INDENT(2));
    l->changed = false;
    l->written_ms = now_ms;
    if (text && file_write(l->path, text, strlen(text), 0600, &e) < 0)
        log_event(LOG_INFO, "what was learnt of networks cannot be written", LS("reason", err_text(&e)));
    free(text);
    json_decref(all);
    err_fini(&e);
}

void lessons_close(struct lessons *l, uint64_t now_ms)
{
    if (l->path && l->changed)
        save(l, now_ms);
    free(l->path);
    l->path = NULL;
}

struct liveness_lesson lessons_get(const struct lessons *l, const char *key)
{
    size_t i = place_of(l, key);
    return i < l->count ? l->of[i].lesson : (struct liveness_lesson){0};
}

void lessons_set(struct lessons *l, const char *key, const struct liveness_lesson *lesson, uint64_t now_ms)
{
    struct liveness_lesson old = lessons_get(l, key);
    if (!l->path || !is_key(key) || (old.cut_ms == lesson->cut_ms && old.strikes == lesson->strikes))
        return;
    put(l, key, lesson);
    l->changed = true;
    if (l->written_ms == 0 || now_ms - l->written_ms >= LESSONS_WRITE_MS)
        save(l, now_ms);
}
