// SPDX-License-Identifier: Apache-2.0
#include "wire/challenge.h"
#include <string.h>

static bool is_token_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token68_char(char c) { return is_token_char(c) || c == '/'; }

static void skip(struct http_text *t, size_t n)
{
    t->at += n;
    t->len -= n;
}

static void skip_blank(struct http_text *t, bool commas)
{
    while (t->len && (*t->at == ' ' || *t->at == '\t' || (commas && *t->at == ',')))
        skip(t, 1);
}

static struct http_text take_token(struct http_text *t)
{
    struct http_text token = {t->at, 0};
    while (t->len && is_token_char(*t->at)) {
        skip(t, 1);
        token.len++;
    }
    return token;
}

// A quoted string, quotes and all. False: it does not end.
static bool take_quoted(struct http_text *t, struct http_text *out)
{
    size_t n = 1;
    while (n < t->len && t->at[n] != '"')
        n += t->at[n] == '\\' ? 2 : 1;
    if (n >= t->len)
        return false;
    *out = (struct http_text){t->at, n + 1};
    skip(t, n + 1);
    return true;
}

static bool at_end(const struct http_text *t) { return t->len == 0 || *t->at == ','; }

// name = value. False leaves the list alone: it is none.
static bool take_param(struct http_text *list, struct http_header *out)
{
    struct http_text t = *list;
    out->name = take_token(&t);
    skip_blank(&t, false);
    if (out->name.len == 0 || t.len == 0 || *t.at != '=')
        return false;
    skip(&t, 1);
    skip_blank(&t, false);
    if (t.len && *t.at == '"') {
        if (!take_quoted(&t, &out->value))
            return false;
    } else if ((out->value = take_token(&t)).len == 0) {
        return false;
    }
    skip_blank(&t, false);
    if (!at_end(&t))
        return false;
    *list = t;
    return true;
}

static bool take_token68(struct http_text *list, struct http_text *out)
{
    struct http_text t = *list, token = {t.at, 0};
    while (t.len && is_token68_char(*t.at))
        skip(&t, 1);
    while (t.len && *t.at == '=')
        skip(&t, 1);
    token.len = (size_t)(t.at - token.at);
    skip_blank(&t, false);
    if (token.len == 0 || !at_end(&t))
        return false;
    *list = t;
    *out = token;
    return true;
}

bool challenge_next(struct http_text *list, struct challenge *out)
{
    struct http_header p;
    *out = (struct challenge){0};
    skip_blank(list, true);
    out->scheme = take_token(list);
    if (out->scheme.len == 0)
        return false;
    if (at_end(list))
        return true;
    if (*list->at != ' ' && *list->at != '\t')
        return false;
    skip_blank(list, false);
    if (at_end(list))
        return true;
    if (!take_param(list, &p)) {
        if (!take_token68(list, &out->token))
            list->len = 0; // its parameters make no sense; that it was offered does
        return true;
    }
    do {
        if (out->count < CHALLENGE_PARAMS_MAX)
            out->params[out->count++] = p;
        skip_blank(list, true);
    } while (take_param(list, &p));
    return true;
}

static bool unquote(struct http_text v, char *out, size_t size)
{
    bool quoted = v.len >= 2 && v.at[0] == '"';
    size_t n = 0;
    if (quoted)
        v = (struct http_text){v.at + 1, v.len - 2};
    for (size_t i = 0; i < v.len; i++) {
        if (quoted && v.at[i] == '\\' && i + 1 < v.len)
            i++;
        if (n + 1 >= size || !v.at[i])
            return false;
        out[n++] = v.at[i];
    }
    out[n] = 0;
    return true;
}

bool challenge_get(const struct challenge *c, const char *name, char *out, size_t size)
{
    for (size_t i = 0; i < c->count; i++)
        if (http_text_is_nocase(c->params[i].name, name))
            return unquote(c->params[i].value, out, size);
    return false;
}
