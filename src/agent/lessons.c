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

// To the end, as the one used last; of a new one nothing is known.
static struct lessons_network *touch(struct lessons *l, const char *key)
{
    struct lessons_network one = {0};
    size_t i = place_of(l, key);
    snprintf(one.key, sizeof(one.key), "%s", key);
    if (i < l->count)
        one = l->of[i];
    if (i == l->count && l->count == LESSONS_MAX)
        i = 0;
    if (i < l->count)
        memmove(&l->of[i], &l->of[i + 1], (--l->count - i) * sizeof(l->of[0]));
    l->of[l->count] = one;
    return &l->of[l->count++];
}

// Where the way to this relay is kept; LESSONS_WAYS: nowhere.
static size_t way_to(const struct lessons_network *n, const char *relay)
{
    size_t i = 0;
    while (i < LESSONS_WAYS && strcmp(n->ways[i].relay, relay) != 0)
        i++;
    return i;
}

static void drop_way(struct lessons_network *n, size_t i)
{
    memmove(&n->ways[i], &n->ways[i + 1], (LESSONS_WAYS - 1 - i) * sizeof(n->ways[0]));
    n->ways[LESSONS_WAYS - 1] = (struct lessons_way){0};
}

static void put_way(struct lessons_network *n, const struct lessons_way *way)
{
    size_t i = way_to(n, way->relay);
    memmove(&n->ways[1], &n->ways[0], (i < LESSONS_WAYS ? i : LESSONS_WAYS - 1) * sizeof(n->ways[0]));
    n->ways[0] = *way;
}

static void load_ways(struct lessons_network *n, const json_t *ways)
{
    const char *relay;
    json_t *one;
    json_object_foreach((json_t *)ways, relay, one)
    {
        const char *route = json_string_value(json_object_get(one, "route"));
        const char *transport = json_string_value(json_object_get(one, "transport"));
        json_int_t mss = json_integer_value(json_object_get(one, "mss"));
        struct lessons_way way;
        if (!*relay || strlen(relay) >= sizeof(way.relay) || !route || strlen(route) >= sizeof(way.route) || !transport ||
            !transport_find(transport, strlen(transport), &way.transport) || mss < 0 || mss > UINT16_MAX)
            continue;
        way.mss = (uint16_t)mss;
        snprintf(way.relay, sizeof(way.relay), "%s", relay);
        snprintf(way.route, sizeof(way.route), "%s", route);
        put_way(n, &way);
    }
}

static void load(struct lessons *l, const json_t *all)
{
    const char *key;
    json_t *one;
    json_object_foreach((json_t *)all, key, one)
    {
        json_int_t cut = json_integer_value(json_object_get(one, "cut_ms"));
        json_int_t strikes = json_integer_value(json_object_get(one, "strikes"));
        if (!is_key(key) || cut < 0 || cut > LIVENESS_IDLE_MAX_MS || strikes < 0)
            continue;
        struct lessons_network *n = touch(l, key);
        if (strikes > LIVENESS_STRIKES_MAX)
            strikes = LIVENESS_STRIKES_MAX;
        n->lesson = (struct liveness_lesson){.cut_ms = (uint32_t)cut, .strikes = (uint16_t)strikes};
        load_ways(n, json_object_get(one, "ways"));
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

// The one used last is last, as they are read.
static json_t *ways_json(const struct lessons_network *n)
{
    json_t *ways = json_object();
    for (size_t i = LESSONS_WAYS; i-- > 0;) {
        const struct lessons_way *w = &n->ways[i];
        if (*w->relay)
            json_object_set_new(ways, w->relay, json_pack("{s:s, s:s, s:i}", "route", w->route, "transport",
                                                          transport_name(w->transport), "mss", (int)w->mss));
    }
    return ways;
}

static json_t *to_json(const struct lessons *l)
{
    json_t *all = json_object();
    for (size_t i = 0; i < l->count; i++) {
        const struct lessons_network *n = &l->of[i];
        json_object_set_new(all, n->key, json_pack("{s:I, s:i, s:o}", "cut_ms", (json_int_t)n->lesson.cut_ms, "strikes",
                                                   (int)n->lesson.strikes, "ways", ways_json(n)));
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

static void note_change(struct lessons *l, uint64_t now_ms)
{
    l->changed = true;
    if (l->written_ms == 0 || now_ms - l->written_ms >= LESSONS_WRITE_MS)
        save(l, now_ms);
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
    touch(l, key)->lesson = *lesson;
    note_change(l, now_ms);
}

bool lessons_way(const struct lessons *l, const char *key, const char *relay, struct lessons_way *out)
{
    size_t i = place_of(l, key), k = i < l->count && *relay ? way_to(&l->of[i], relay) : LESSONS_WAYS;
    if (k == LESSONS_WAYS)
        return false;
    *out = l->of[i].ways[k];
    return true;
}

void lessons_set_way(struct lessons *l, const char *key, const struct lessons_way *way, uint64_t now_ms)
{
    struct lessons_way old;
    if (!l->path || !is_key(key) || !*way->relay)
        return;
    if (lessons_way(l, key, way->relay, &old) && strcmp(old.route, way->route) == 0 && old.transport == way->transport &&
        old.mss == way->mss)
        return;
    put_way(touch(l, key), way);
    note_change(l, now_ms);
}

void lessons_forget_way(struct lessons *l, const char *key, const char *relay, uint64_t now_ms)
{
    struct lessons_way old;
    if (!l->path || !lessons_way(l, key, relay, &old))
        return;
    struct lessons_network *n = touch(l, key);
    drop_way(n, way_to(n, relay));
    note_change(l, now_ms);
}
