// SPDX-License-Identifier: Apache-2.0
#include "wire/http.h"
#include <string.h>
#include <strings.h>

// A cursor over one line, without its CRLF.
struct line {
    const char *at, *end;
};

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

// tchar of RFC 9110 5.6.2
static bool is_tchar(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_value_char(unsigned char c) { return c == '\t' || (c >= 0x20 && c != 0x7f); }

// Finds the line's end. MORE when it is not here yet, BAD for a bare CR or LF or any other control character.
static enum http_result take_line(const char *data, size_t len, size_t *at, struct line *line, const char **why)
{
    for (size_t i = *at; i < len; i++) {
        unsigned char c = (unsigned char)data[i];
        if (c == '\r') {
            if (i + 1 == len)
                return HTTP_MORE;
            if (data[i + 1] != '\n') {
                *why = "a bare CR in the head";
                return HTTP_BAD;
            }
            *line = (struct line){data + *at, data + i};
            *at = i + 2;
            return HTTP_OK;
        }
        if (!is_value_char(c)) {
            *why = c == '\n' ? "a bare LF in the head" : "a control character in the head";
            return HTTP_BAD;
        }
    }
    return HTTP_MORE;
}

static struct http_text take_token(struct line *l)
{
    const char *from = l->at;
    while (l->at < l->end && is_tchar((unsigned char)*l->at))
        l->at++;
    return (struct http_text){from, (size_t)(l->at - from)};
}

static bool take_char(struct line *l, char c)
{
    if (l->at == l->end || *l->at != c)
        return false;
    l->at++;
    return true;
}

static bool take_version(struct line *l, int *minor)
{
    if (l->end - l->at < 8 || memcmp(l->at, "HTTP/1.", 7) != 0 || !is_digit(l->at[7]))
        return false;
    *minor = l->at[7] - '0';
    l->at += 8;
    return true;
}

static const char *parse_request_line(struct http_head *h, struct line l)
{
    h->method = take_token(&l);
    if (h->method.len == 0 || !take_char(&l, ' '))
        return "not an HTTP request line";
    const char *from = l.at;
    while (l.at < l.end && *l.at > 0x20 && *l.at < 0x7f)
        l.at++;
    h->target = (struct http_text){from, (size_t)(l.at - from)};
    if (h->target.len == 0 || !take_char(&l, ' '))
        return "no request target";
    return take_version(&l, &h->minor) && l.at == l.end ? NULL : "not HTTP/1";
}

static const char *parse_status_line(struct http_head *h, struct line l)
{
    if (!take_version(&l, &h->minor) || !take_char(&l, ' '))
        return "not an HTTP/1 status line";
    if (l.end - l.at < 3 || l.at[0] < '1' || !is_digit(l.at[0]) || !is_digit(l.at[1]) || !is_digit(l.at[2]))
        return "no status code";
    h->status = (l.at[0] - '0') * 100 + (l.at[1] - '0') * 10 + (l.at[2] - '0');
    l.at += 3;
    if (l.at < l.end && !take_char(&l, ' ')) // many leave the space out together with the reason
        return "no status code";
    h->reason = (struct http_text){l.at, (size_t)(l.end - l.at)};
    return NULL;
}

static const char *parse_field(struct http_head *h, struct line l)
{
    if (*l.at == ' ' || *l.at == '\t')
        return "a folded header line";
    struct http_text name = take_token(&l);
    if (name.len == 0 || !take_char(&l, ':'))
        return "a bad header name";
    while (l.at < l.end && (*l.at == ' ' || *l.at == '\t'))
        l.at++;
    while (l.end > l.at && (l.end[-1] == ' ' || l.end[-1] == '\t'))
        l.end--;
    if (h->count == HTTP_HEADERS_MAX)
        return "too many header lines";
    h->headers[h->count++] = (struct http_header){name, {l.at, (size_t)(l.end - l.at)}};
    return NULL;
}

static const char *check_request(const struct http_head *h)
{
    int64_t length;
    bool chunked;
    size_t hosts = http_count(h, "Host");
    if (hosts > 1)
        return "several Host headers";
    if (hosts == 0 && h->minor >= 1)
        return "no Host header";
    return http_body(h, &length, &chunked) ? NULL : "a contradictory body length";
}

static enum http_result bad(const char **why, const char *what)
{
    *why = what;
    return HTTP_BAD;
}

enum http_result http_parse(struct http_head *h, bool is_request, const char *data, size_t len, size_t *used,
                            const char **why)
{
    struct line l;
    size_t at = 0, limit = len < HTTP_HEAD_MAX ? len : HTTP_HEAD_MAX;
    const char *wrong;
    *h = (struct http_head){.is_request = is_request};
    for (bool first = true;; first = false) {
        enum http_result r = take_line(data, limit, &at, &l, why);
        if (r == HTTP_MORE && limit == HTTP_HEAD_MAX)
            return bad(why, "the head is too long");
        if (r != HTTP_OK)
            return r;
        if (first)
            wrong = is_request ? parse_request_line(h, l) : parse_status_line(h, l);
        else if (l.at == l.end)
            break;
        else
            wrong = parse_field(h, l);
        if (wrong)
            return bad(why, wrong);
    }
    if (is_request && (wrong = check_request(h)))
        return bad(why, wrong);
    *used = at;
    return HTTP_OK;
}

bool http_text_is(struct http_text t, const char *s) { return t.len == strlen(s) && memcmp(t.at, s, t.len) == 0; }

bool http_text_is_nocase(struct http_text t, const char *s)
{
    return t.len == strlen(s) && strncasecmp(t.at, s, t.len) == 0;
}

const struct http_text *http_get(const struct http_head *h, const char *name)
{
    for (size_t i = 0; i < h->count; i++)
        if (http_text_is_nocase(h->headers[i].name, name))
            return &h->headers[i].value;
    return NULL;
}

size_t http_count(const struct http_head *h, const char *name)
{
    size_t n = 0;
    for (size_t i = 0; i < h->count; i++)
        n += http_text_is_nocase(h->headers[i].name, name);
    return n;
}

static struct http_text trim(const char *from, const char *to)
{
    while (from < to && (*from == ' ' || *from == '\t'))
        from++;
    while (to > from && (to[-1] == ' ' || to[-1] == '\t'))
        to--;
    return (struct http_text){from, (size_t)(to - from)};
}

static bool list_has(struct http_text list, const char *token)
{
    const char *at = list.at, *end = list.at + list.len;
    while (at < end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        if (http_text_is_nocase(trim(at, comma ? comma : end), token))
            return true;
        if (!comma)
            break;
        at = comma + 1;
    }
    return false;
}

bool http_has_token(const struct http_head *h, const char *name, const char *token)
{
    for (size_t i = 0; i < h->count; i++)
        if (http_text_is_nocase(h->headers[i].name, name) && list_has(h->headers[i].value, token))
            return true;
    return false;
}

static bool parse_length(struct http_text t, int64_t *length)
{
    int64_t n = 0;
    if (t.len == 0 || t.len > 18) // 18 digits never overflow
        return false;
    for (size_t i = 0; i < t.len; i++) {
        if (!is_digit(t.at[i]))
            return false;
        n = n * 10 + (t.at[i] - '0');
    }
    *length = n;
    return true;
}

bool http_body(const struct http_head *h, int64_t *length, bool *chunked)
{
    size_t encodings = http_count(h, "Transfer-Encoding");
    *length = -1;
    *chunked = encodings > 0;
    for (size_t i = 0; i < h->count; i++) {
        int64_t n;
        if (!http_text_is_nocase(h->headers[i].name, "Content-Length"))
            continue;
        if (!parse_length(h->headers[i].value, &n) || (*length >= 0 && *length != n))
            return false;
        *length = n;
    }
    if (!encodings)
        return true;
    // RFC 9112 6.1: what is not plainly chunked has no length that all hops agree on.
    return encodings == 1 && *length < 0 && h->minor >= 1 && http_has_token(h, "Transfer-Encoding", "chunked") &&
           http_text_is_nocase(*http_get(h, "Transfer-Encoding"), "chunked");
}
