// SPDX-License-Identifier: Apache-2.0
#include "wire/pairing.h"
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include "wire/base64url.h"
#include "wire/percent.h"
#include "wire/scan.h"

#define SCHEME "culvert://"
#define PIN_CHARS BASE64URL_LEN(32)
#define TOKEN_CHARS BASE64URL_LEN(PAIRING_TOKEN)
#define PROXY_TEXT_MAX 2048

static int take_pin(const struct scan *s, struct pairing *p, const char *at, size_t len)
{
    if (p->pin_count == PAIRING_PINS)
        return scan_fail(s, "it has more than %d pins", PAIRING_PINS);
    if (!base64url_decode(p->pins[p->pin_count], 32, at, len))
        return scan_fail(s, "its pin is damaged (%zu instead of %d characters, or odd ones); copy the whole line", len,
                         (int)PIN_CHARS);
    p->pin_count++;
    return 0;
}

// What does not parse is never repeated: where a line is damaged, anything may be the token.
static int take_proxy(const struct scan *s, struct pairing *p, const char *at, size_t len)
{
    char text[PROXY_TEXT_MAX];
    struct err e = ERR_INIT;
    if (p->proxy_count == PAIRING_PROXIES)
        return scan_fail(s, "it has more than %d proxies", PAIRING_PROXIES);
    bool good =
        percent_decode(text, sizeof text, at, len) && proxy_url_parse(&p->proxies[p->proxy_count], text, &e) == 0;
    err_fini(&e);
    OPENSSL_cleanse(text, sizeof text);
    if (!good)
        return scan_fail(s, "its proxy is damaged; copy the whole line that `culvert invite` printed");
    p->proxy_count++;
    return 0;
}

static int take_peer(const struct scan *s, struct pairing *p, const char *at, size_t len)
{
    const char *sign = memchr(at, ':', len);
    size_t n = sign ? (size_t)(sign - at) : 0;
    struct pairing_peer *peer = &p->peers[p->peer_count];
    if (p->peer_count == PAIRING_PEERS)
        return scan_fail(s, "it has more than %d peers", PAIRING_PEERS);
    if (n > SPEC_NAME_MAX)
        n = 0;
    memcpy(peer->name, at, n);
    peer->name[n] = 0;
    if (!spec_is_name(peer->name) || !base64url_decode(peer->pin, 32, sign + 1, len - n - 1))
        return scan_fail(s, "its peer is damaged; copy the whole line that `culvert invite` printed");
    p->peer_count++;
    return 0;
}

static bool is_word(const char *at, size_t len, const char *word)
{
    return strlen(word) == len && memcmp(at, word, len) == 0;
}

// One of two words; anything else is from a relay that knows more than we do.
static int take_switch(const struct scan *s, const char *key, const char *at, size_t len, const char *on,
                       const char *off, bool *value)
{
    if (!is_word(at, len, on) && !is_word(at, len, off))
        return scan_fail(s, "its %s is neither %s nor %s", key, on, off);
    *value = is_word(at, len, on);
    return 0;
}

static int take_parameter(const struct scan *s, struct pairing *p, bool *has_token, const char *at, size_t len)
{
    const char *sign = memchr(at, '=', len);
    size_t n = sign ? (size_t)(sign - at) : len;
    const char *value = sign ? sign + 1 : at + len;
    size_t value_len = sign ? len - n - 1 : 0;
    if (is_word(at, n, "pin"))
        return take_pin(s, p, value, value_len);
    if (is_word(at, n, "proxy"))
        return take_proxy(s, p, value, value_len);
    if (is_word(at, n, "peer"))
        return take_peer(s, p, value, value_len);
    if (is_word(at, n, "outer"))
        return take_switch(s, "outer", value, value_len, "report", "verify", &p->outer_report);
    if (is_word(at, n, "tls"))
        return take_switch(s, "tls", value, value_len, "on", "off", &p->relay.tls);
    if (!is_word(at, n, "token"))
        return 0;
    if (*has_token)
        return scan_fail(s, "it has two tokens");
    *has_token = true;
    if (!base64url_decode(p->token, PAIRING_TOKEN, value, value_len))
        return scan_fail(s, "its token is damaged (%zu instead of %d characters, or odd ones); copy the whole line",
                         value_len, (int)TOKEN_CHARS);
    return 0;
}

static int take_query(const struct scan *s, struct pairing *p, const char *at, size_t len)
{
    bool has_token = false;
    while (len) {
        const char *end = memchr(at, '&', len);
        size_t n = end ? (size_t)(end - at) : len;
        if (take_parameter(s, p, &has_token, at, n) < 0)
            return -1;
        at += end ? n + 1 : n;
        len -= end ? n + 1 : n;
    }
    if (p->pin_count == 0)
        return scan_fail(s, "it has no pin; copy the whole line that `culvert invite` printed");
    if (!has_token)
        return scan_fail(s, "it has no token; copy the whole line that `culvert invite` printed");
    return 0;
}

// The relay's place is read by the parser of relay URLs; ws has another default port, so tls is looked for first.
static int take_relay(const struct scan *s, struct pairing *p, const char *at, size_t len, bool tls)
{
    char text[URL_TEXT_MAX];
    struct err e = ERR_INIT;
    int n = snprintf(text, sizeof text, "%s://%.*s", tls ? "wss" : "ws", (int)len, at);
    bool good = n >= 0 && (size_t)n < sizeof text && relay_url_parse(&p->relay, text, &e) == 0;
    err_fini(&e);
    OPENSSL_cleanse(text, sizeof text);
    if (!good)
        return scan_fail(s, "its relay is damaged; copy the whole line that `culvert invite` printed");
    return 0;
}

static bool has_parameter(const char *at, size_t len, const char *word)
{
    while (len) {
        const char *end = memchr(at, '&', len);
        size_t n = end ? (size_t)(end - at) : len;
        if (is_word(at, n, word))
            return true;
        at += end ? n + 1 : n;
        len -= end ? n + 1 : n;
    }
    return false;
}

static int parse(const struct scan *s, struct pairing *p, const char *at, size_t len)
{
    if (!scan_has_prefix(at, len, SCHEME))
        return scan_fail(s, "it starts with culvert://; copy the whole line that `culvert invite` printed");
    if (len >= PAIRING_TEXT_MAX)
        return scan_fail(s, "it is longer than %d characters", PAIRING_TEXT_MAX - 1);
    at += strlen(SCHEME);
    len -= strlen(SCHEME);
    const char *mark = memchr(at, '?', len);
    size_t n = mark ? (size_t)(mark - at) : len;
    const char *query = mark ? mark + 1 : at + len;
    size_t query_len = mark ? len - n - 1 : 0;
    if (take_relay(s, p, at, n, !has_parameter(query, query_len, "tls=off")) < 0)
        return -1;
    return take_query(s, p, query, query_len);
}

int pairing_parse(struct pairing *p, const char *text, struct err *e)
{
    struct scan s = {"pairing line", NULL, e};
    *p = (struct pairing){0};
    text += strspn(text, " \t\r\n");
    size_t len = strlen(text);
    while (len && strchr(" \t\r\n", text[len - 1]))
        len--;
    if (parse(&s, p, text, len) == 0)
        return 0;
    pairing_wipe(p);
    return -1;
}

// Appends to out as long as it fits; *n becomes PAIRING_TEXT_MAX when it does not.
static void add(char *out, size_t *n, const char *key, const char *value)
{
    size_t need = strlen(key) + strlen(value);
    if (*n >= PAIRING_TEXT_MAX || PAIRING_TEXT_MAX - *n <= need) {
        *n = PAIRING_TEXT_MAX;
        return;
    }
    memcpy(out + *n, key, strlen(key));
    memcpy(out + *n + strlen(key), value, strlen(value) + 1);
    *n += need;
}

static bool add_proxy(char *out, size_t *n, const struct proxy_url *proxy)
{
    char text[PROXY_TEXT_MAX], value[PROXY_TEXT_MAX * 3];
    bool good = proxy_url_secret_text(proxy, text, sizeof text) && percent_encode(value, sizeof value, text, ":/");
    if (good)
        add(out, n, "&proxy=", value);
    OPENSSL_cleanse(text, sizeof text);
    OPENSSL_cleanse(value, sizeof value);
    return good;
}

bool pairing_text(const struct pairing *p, char *out)
{
    char url[URL_TEXT_MAX], word[PIN_CHARS + 1];
    size_t n = 0;
    bool good = true;
    relay_url_text(&p->relay, url);
    add(out, &n, SCHEME, strstr(url, "://") + 3);
    for (size_t i = 0; i < p->pin_count; i++)
        add(out, &n, i ? "&pin=" : "?pin=", base64url_encode(word, p->pins[i], 32));
    add(out, &n, "&token=", base64url_encode(word, p->token, PAIRING_TOKEN));
    for (size_t i = 0; i < p->proxy_count && good; i++)
        good = add_proxy(out, &n, &p->proxies[i]);
    for (size_t i = 0; i < p->peer_count; i++) {
        add(out, &n, "&peer=", p->peers[i].name);
        add(out, &n, ":", base64url_encode(word, p->peers[i].pin, 32));
    }
    if (p->outer_report)
        add(out, &n, "&outer=", "report");
    if (!p->relay.tls)
        add(out, &n, "&tls=", "off");
    OPENSSL_cleanse(word, sizeof word);
    if (good && n < PAIRING_TEXT_MAX)
        return true;
    OPENSSL_cleanse(out, PAIRING_TEXT_MAX);
    return false;
}

void pairing_wipe(struct pairing *p)
{
    OPENSSL_cleanse(p, sizeof *p);
}
