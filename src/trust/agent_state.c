// SPDX-License-Identifier: Apache-2.0
#include "trust/agent_state.h"
#include <jansson.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include "core/log.h"
#include "trust/file.h"
#include "wire/base64url.h"

#define LOCK_FILE "agent.lock"
#define PROXY_TEXT_MAX 2048

static void wipe_relays(struct agent_state *s)
{
    OPENSSL_cleanse(s->relays, sizeof s->relays);
    s->relay_count = 0;
}

static void forget_peers(struct agent_state *s)
{
    free(s->peers);
    s->peers = NULL;
    s->peer_count = 0;
}

// Writing -------------------------------------------------------------------------------------------------------

static json_t *pins_to_json(const uint8_t (*pins)[PIN_SIZE], size_t count)
{
    char text[PIN_TEXT_MAX];
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_string(pin_text(pins[i], text)));
    return list;
}

static json_t *proxies_to_json(const struct agent_relay *r)
{
    char text[PROXY_TEXT_MAX];
    json_t *list = json_array();
    for (size_t i = 0; i < r->proxy_count; i++)
        if (proxy_url_secret_text(&r->proxies[i], text, sizeof text))
            json_array_append_new(list, json_string(text));
    OPENSSL_cleanse(text, sizeof text);
    return list;
}

static json_t *relay_to_json(const struct agent_relay *r)
{
    char url[URL_TEXT_MAX], token[BASE64URL_LEN(PAIRING_TOKEN) + 1];
    json_t *o = json_object();
    json_object_set_new(o, "url", json_string(relay_url_text(&r->url, url)));
    json_object_set_new(o, "name", json_string(r->name));
    json_object_set_new(o, "pins", pins_to_json(r->pins, r->pin_count));
    json_object_set_new(o, "next_pins", pins_to_json(r->next_pins, r->next_pin_count));
    json_object_set_new(o, "proxies", proxies_to_json(r));
    json_object_set_new(o, "outer", json_string(r->outer_report ? "report" : "verify"));
    if (r->has_token) {
        json_object_set_new(o, "token", json_string(base64url_encode(token, r->token, PAIRING_TOKEN)));
        OPENSSL_cleanse(token, sizeof token);
    }
    return o;
}

static json_t *peers_to_json(const struct agent_state *s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->peer_count; i++) {
        json_t *o = json_object();
        json_object_set_new(o, "name", json_string(s->peers[i].name));
        json_object_set_new(o, "pins", pins_to_json(s->peers[i].pins, s->peers[i].pin_count));
        json_array_append_new(list, o);
    }
    return list;
}

static int save(struct agent_state *s, struct err *e)
{
    json_t *root = json_object(), *list = json_array();
    for (size_t i = 0; i < s->relay_count; i++)
        json_array_append_new(list, relay_to_json(&s->relays[i]));
    json_object_set_new(root, "relays", list);
    if (s->peer_count)
        json_object_set_new(root, "peers", peers_to_json(s));
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_SORT_KEYS);
    json_decref(root);
    if (!text)
        return err_set(e, ERR_FAILED, WHY_INTERNAL, "write the agent's state: out of memory");
    char *path = file_path(s->dir, AGENT_STATE_FILE);
    int got = file_write(path, text, strlen(text), 0600, e);
    free(path);
    OPENSSL_cleanse(text, strlen(text));
    free(text);
    return got;
}

// Reading -------------------------------------------------------------------------------------------------------

// The strings of an array by that name, one after the other, at most `max`. False when something else stands there.
static bool each_string(const json_t *o, const char *name, size_t max, bool (*take)(void *ctx, const char *text),
                        void *ctx)
{
    json_t *list = json_object_get(o, name);
    if (!list)
        return true;
    if (!json_is_array(list) || json_array_size(list) > max)
        return false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (!text || !take(ctx, text))
            return false;
    }
    return true;
}

static bool take_pin(void *ctx, const char *text)
{
    struct agent_relay *r = ctx;
    return pin_parse(r->pins[r->pin_count++], text);
}

static bool take_next_pin(void *ctx, const char *text)
{
    struct agent_relay *r = ctx;
    return pin_parse(r->next_pins[r->next_pin_count++], text);
}

static bool take_proxy(void *ctx, const char *text)
{
    struct agent_relay *r = ctx;
    struct err e = ERR_INIT;
    bool good = proxy_url_parse(&r->proxies[r->proxy_count++], text, &e) == 0;
    err_fini(&e);
    return good;
}

static const char *string(const json_t *o, const char *name)
{
    const char *text = json_string_value(json_object_get(o, name));
    return text ? text : "";
}

static bool relay_from_json(struct agent_relay *r, const json_t *o)
{
    struct err e = ERR_INIT;
    const char *name = string(o, "name"), *outer = string(o, "outer"), *token = string(o, "token");
    *r = (struct agent_relay){0};
    bool good = relay_url_parse(&r->url, string(o, "url"), &e) == 0;
    err_fini(&e);
    if (!good || strlen(name) >= sizeof r->name || (strcmp(outer, "report") != 0 && strcmp(outer, "verify") != 0))
        return false;
    strcpy(r->name, name);
    r->outer_report = *outer == 'r';
    r->has_token = *token != 0;
    if (r->has_token && !base64url_decode(r->token, PAIRING_TOKEN, token, strlen(token)))
        return false;
    return each_string(o, "pins", PAIRING_PINS, take_pin, r) && r->pin_count > 0 &&
           each_string(o, "next_pins", AGENT_NEXT_PINS, take_next_pin, r) &&
           each_string(o, "proxies", PAIRING_PROXIES, take_proxy, r);
}

static bool take_peer_pin(void *ctx, const char *text)
{
    struct agent_peer *p = ctx;
    return pin_parse(p->pins[p->pin_count++], text);
}

static bool peer_from_json(struct agent_peer *p, const json_t *o)
{
    const char *name = string(o, "name");
    *p = (struct agent_peer){0};
    if (!spec_is_name(name))
        return false;
    strcpy(p->name, name);
    return each_string(o, "pins", AGENT_PEER_PINS, take_peer_pin, p) && p->pin_count > 0;
}

static bool peers_from_json(struct agent_state *s, const json_t *list)
{
    size_t count = json_array_size(list);
    if (!list)
        return true;
    if (!json_is_array(list) || count > AGENT_PEERS || !(s->peers = calloc(count + 1, sizeof *s->peers)))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!peer_from_json(&s->peers[i], json_array_get(list, i)))
            return false;
        s->peer_count++;
    }
    return true;
}

static int take_state(struct agent_state *s, const char *path, const char *text, size_t len, struct err *e)
{
    json_error_t where;
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
    json_t *list = json_object_get(root, "relays");
    int got = 0;
    if (!root)
        got = err_set(e, ERR_USAGE, WHY_NONE,
                      "%s: line %d: it is no JSON; restore a copy, or move it away and join again", path, where.line);
    else if (!json_is_array(list) || json_array_size(list) > AGENT_RELAYS)
        got = err_set(e, ERR_USAGE, WHY_NONE,
                      "%s: it has no list \"relays\" of at most %d; restore a copy, or move it away "
                      "and join again",
                      path, AGENT_RELAYS);
    for (size_t i = 0; got == 0 && i < json_array_size(list); i++) {
        if (relay_from_json(&s->relays[i], json_array_get(list, i)))
            s->relay_count++;
        else
            got = err_set(e, ERR_USAGE, WHY_NONE,
                          "%s: relay %zu of it is damaged; restore a copy, or move it away and join "
                          "again",
                          path, i + 1);
    }
    if (got == 0 && !peers_from_json(s, json_object_get(root, "peers")))
        got = err_set(e, ERR_USAGE, WHY_NONE,
                      "%s: its list \"peers\" is damaged; restore a copy, or take that list out and add the peers again",
                      path);
    json_decref(root);
    return got;
}

int agent_state_reload(struct agent_state *s, struct err *e)
{
    char *path = file_path(s->dir, AGENT_STATE_FILE);
    char *text = NULL;
    size_t len;
    struct stat st;
    int got = 0;
    wipe_relays(s);
    forget_peers(s);
    if (stat(path, &st) == 0) { // before reading: a later change is seen as one
        s->read_at = st.st_mtim;
        s->read_inode = st.st_ino;
    }
    if (file_exists(path)) {
        got = file_read(path, true, &text, &len, e);
        if (got == 0) {
            got = take_state(s, path, text, len, e);
            file_wipe(text, len);
        }
    }
    if (got < 0) {
        wipe_relays(s);
        forget_peers(s);
    }
    free(path);
    return got;
}

int agent_state_open(struct agent_state *s, const char *dir, bool make, struct err *e)
{
    char *path = file_path(dir, AGENT_KEY_FILE);
    bool made;
    int got = 0;
    *s = (struct agent_state){.dir = strdup(dir)};
    if (make)
        got = file_state_dir(dir, e) < 0 ? -1 : identity_open(&s->id, path, &made, e);
    else if (!file_exists(path))
        got = err_set(e, ERR_USAGE, WHY_NONE,
                      "%s: there is no key; `culvert join` with the line of an invitation makes one", path);
    else
        got = identity_load(&s->id, path, e);
    free(path);
    if (got == 0)
        got = agent_state_reload(s, e);
    if (got < 0)
        agent_state_fini(s);
    return got;
}

void agent_state_fini(struct agent_state *s)
{
    wipe_relays(s);
    forget_peers(s);
    identity_fini(&s->id);
    free(s->dir);
    s->dir = NULL;
}

// Changing: under the lock, on what stands in the file now ------------------------------------------------------

bool agent_same_relay(const struct relay_url *a, const struct relay_url *b)
{
    return strcasecmp(a->host, b->host) == 0 && a->port == b->port && strcmp(a->path, b->path) == 0;
}

struct agent_relay *agent_state_find(struct agent_state *s, const struct relay_url *relay)
{
    for (size_t i = 0; i < s->relay_count; i++)
        if (agent_same_relay(&s->relays[i].url, relay))
            return &s->relays[i];
    return NULL;
}

size_t agent_relay_pins(const struct agent_relay *r, uint8_t (*out)[PIN_SIZE])
{
    memcpy(out, r->pins, r->pin_count * PIN_SIZE);
    memcpy(out + r->pin_count, r->next_pins, r->next_pin_count * PIN_SIZE);
    return r->pin_count + r->next_pin_count;
}

static void drop(struct agent_state *s, struct agent_relay *r)
{
    size_t i = (size_t)(r - s->relays);
    memmove(r, r + 1, (s->relay_count - i - 1) * sizeof *r);
    s->relay_count--;
    OPENSSL_cleanse(&s->relays[s->relay_count], sizeof *r);
}

static int lock_and_reload(struct agent_state *s, int *lock, struct err *e)
{
    *lock = file_lock(s->dir, LOCK_FILE, e);
    return *lock < 0 ? -1 : agent_state_reload(s, e);
}

// Peers ----------------------------------------------------------------------------------------------------------

struct agent_peer *agent_state_find_peer(const struct agent_state *s, const char *name)
{
    for (size_t i = 0; i < s->peer_count; i++)
        if (strcasecmp(s->peers[i].name, name) == 0)
            return &s->peers[i];
    return NULL;
}

bool agent_peer_has(const struct agent_peer *peer, const uint8_t pin[PIN_SIZE])
{
    bool found = false;
    for (size_t i = 0; i < peer->pin_count; i++) // all of them, whichever it is
        found |= pin_equal(peer->pins[i], pin);
    return found;
}

static int add_peer(struct agent_state *s, const char *name, const uint8_t pin[PIN_SIZE], struct err *e)
{
    struct agent_peer *peer = agent_state_find_peer(s, name);
    if (peer && agent_peer_has(peer, pin))
        return 0;
    if (peer && peer->pin_count == AGENT_PEER_PINS)
        return err_set(e, ERR_USAGE, WHY_NONE, "a peer has at most %d pins; remove one of %s", AGENT_PEER_PINS, name);
    if (!peer && s->peer_count == AGENT_PEERS)
        return err_set(e, ERR_USAGE, WHY_NONE, "an agent knows at most %d peers", AGENT_PEERS);
    if (!peer) {
        struct agent_peer *more = realloc(s->peers, (s->peer_count + 1) * sizeof *more);
        if (!more)
            return err_set(e, ERR_FAILED, WHY_INTERNAL, "out of memory");
        s->peers = more;
        peer = &s->peers[s->peer_count++];
        *peer = (struct agent_peer){0};
        snprintf(peer->name, sizeof peer->name, "%s", name);
    }
    memcpy(peer->pins[peer->pin_count++], pin, PIN_SIZE);
    return 0;
}

static int drop_peer(struct agent_state *s, const char *name, const uint8_t *pin, struct err *e)
{
    struct agent_peer *peer = agent_state_find_peer(s, name);
    if (!peer || (pin && !agent_peer_has(peer, pin)))
        return err_set(e, ERR_USAGE, WHY_NONE, "no peer %s%s is known here", name, peer ? " with that pin" : "");
    size_t kept = 0;
    for (size_t i = 0; pin && i < peer->pin_count; i++)
        if (!pin_equal(peer->pins[i], pin))
            memmove(peer->pins[kept++], peer->pins[i], PIN_SIZE);
    peer->pin_count = kept;
    if (kept == 0) {
        size_t i = (size_t)(peer - s->peers);
        memmove(peer, peer + 1, (s->peer_count - i - 1) * sizeof *peer);
        s->peer_count--;
    }
    return 0;
}

int agent_state_add_peer(struct agent_state *s, const char *name, const uint8_t pin[PIN_SIZE], struct err *e)
{
    int lock;
    int got = lock_and_reload(s, &lock, e);
    if (got == 0)
        got = add_peer(s, name, pin, e) < 0 ? -1 : save(s, e);
    file_unlock(lock);
    return got;
}

int agent_state_drop_peer(struct agent_state *s, const char *name, const uint8_t pin[PIN_SIZE], struct err *e)
{
    int lock;
    int got = lock_and_reload(s, &lock, e);
    if (got == 0)
        got = drop_peer(s, name, pin, e) < 0 ? -1 : save(s, e);
    file_unlock(lock);
    return got;
}

void agent_state_fresh_peers(struct agent_state *s)
{
    char *path = file_path(s->dir, AGENT_STATE_FILE);
    struct agent_state *now = NULL;
    struct err e = ERR_INIT;
    struct stat st;
    if (stat(path, &st) < 0 || (st.st_ino == s->read_inode && st.st_mtim.tv_sec == s->read_at.tv_sec &&
                                st.st_mtim.tv_nsec == s->read_at.tv_nsec))
        goto out;
    now = calloc(1, sizeof *now);
    if (!now)
        goto out;
    now->dir = s->dir;
    s->read_at = st.st_mtim;
    s->read_inode = st.st_ino;
    if (agent_state_reload(now, &e) < 0) {
        log_event(LOG_ERROR, "the agent's state cannot be read; the peers known so far stay", LS("reason", err_text(&e)));
        goto out;
    }
    free(s->peers);
    s->peers = now->peers;
    s->peer_count = now->peer_count;
    wipe_relays(now);
out:
    err_fini(&e);
    free(now);
    free(path);
}

// A line that names another key for a known peer is either a mistake or a lie: a person has to say which.
static int add_peers(struct agent_state *s, const struct pairing *p, struct err *e)
{
    for (size_t i = 0; i < p->peer_count; i++) {
        const struct agent_peer *known = agent_state_find_peer(s, p->peers[i].name);
        if (known && !agent_peer_has(known, p->peers[i].pin))
            return err_set(e, ERR_UNTRUSTED, WHY_NONE,
                           "the invitation names another key for the peer %s than the one known here; if that is right, "
                           "`culvert peer remove %s` first",
                           p->peers[i].name, p->peers[i].name);
        if (add_peer(s, p->peers[i].name, p->peers[i].pin, e) < 0)
            return -1;
    }
    return 0;
}

static int record(struct agent_state *s, const struct pairing *p, struct err *e)
{
    if (add_peers(s, p, e) < 0)
        return -1;
    struct agent_relay *old = agent_state_find(s, &p->relay);
    struct agent_relay r = {.url = p->relay,
                            .pin_count = p->pin_count,
                            .proxy_count = p->proxy_count,
                            .outer_report = p->outer_report,
                            .has_token = true};
    if (!old && s->relay_count == AGENT_RELAYS)
        return err_set(e, ERR_USAGE, WHY_NONE, "an agent joins at most %d relays; this one has joined them",
                       AGENT_RELAYS);
    memcpy(r.pins, p->pins, sizeof r.pins);
    memcpy(r.proxies, p->proxies, sizeof r.proxies);
    memcpy(r.token, p->token, sizeof r.token);
    if (old) {
        strcpy(r.name, old->name);
        drop(s, old);
    }
    s->relays[s->relay_count++] = r;
    OPENSSL_cleanse(&r, sizeof r);
    return save(s, e);
}

int agent_state_join(struct agent_state *s, const struct pairing *p, struct err *e)
{
    int lock;
    int got = lock_and_reload(s, &lock, e);
    if (got == 0)
        got = record(s, p, e);
    file_unlock(lock);
    return got;
}

static bool same_news(const struct agent_relay *r, const char *name, const uint8_t (*next_pins)[PIN_SIZE], size_t count)
{
    return !r->has_token && strcmp(r->name, name) == 0 && r->next_pin_count == count &&
           (count == 0 || memcmp(r->next_pins, next_pins, count * PIN_SIZE) == 0);
}

static int finish(struct agent_state *s, const struct relay_url *relay, const char *name,
                  const uint8_t (*next_pins)[PIN_SIZE], size_t count, struct err *e)
{
    struct agent_relay *r = agent_state_find(s, relay);
    if (!r || same_news(r, name, next_pins, count)) // forgotten meanwhile, or nothing new
        return 0;
    snprintf(r->name, sizeof r->name, "%s", name);
    r->next_pin_count = count;
    if (count)
        memcpy(r->next_pins, next_pins, count * PIN_SIZE);
    r->has_token = false;
    OPENSSL_cleanse(r->token, sizeof r->token);
    return save(s, e);
}

int agent_state_joined(struct agent_state *s, const struct relay_url *relay, const char *name,
                       const uint8_t (*next_pins)[PIN_SIZE], size_t next_pin_count, struct err *e)
{
    const struct agent_relay *r = agent_state_find(s, relay);
    size_t count = next_pin_count < AGENT_NEXT_PINS ? next_pin_count : AGENT_NEXT_PINS;
    int lock;
    if (r && same_news(r, name, next_pins, count))
        return 0;
    int got = lock_and_reload(s, &lock, e);
    if (got == 0)
        got = finish(s, relay, name, next_pins, count, e);
    file_unlock(lock);
    return got;
}

int agent_state_forget(struct agent_state *s, const struct relay_url *relay, struct err *e)
{
    int lock;
    int got = lock_and_reload(s, &lock, e);
    struct agent_relay *r = got == 0 ? agent_state_find(s, relay) : NULL;
    if (r) {
        drop(s, r);
        got = save(s, e);
    }
    file_unlock(lock);
    return got;
}
