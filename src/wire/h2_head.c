// SPDX-License-Identifier: Apache-2.0
#include "wire/h2_head.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "wire/ws.h"

// A key that says nothing: RFC 8441 has none, and whoever reads the request as HTTP/1.1 wants one.
#define NO_KEY "AAAAAAAAAAAAAAAAAAAAAA=="

static struct http_text text(const char *s) { return (struct http_text){s, strlen(s)}; }

// --- fields to send

static void add(struct h2_fields *f, const char *name, struct http_text value)
{
    f->at[f->count++] = (struct h2_field){.name = text(name), .value = value};
}

static bool is_one_of(struct http_text name, const char *const *names)
{
    for (; *names; names++)
        if (http_text_is_nocase(name, *names))
            return true;
    return false;
}

static bool is_of_connection(const struct http_head *h, struct http_text name)
{
    static const char *const names[] = {"Connection", "Proxy-Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "Host", "TE",
                                        "HTTP2-Settings", "Sec-WebSocket-Key", "Sec-WebSocket-Accept", NULL};
    char named[64];
    if (is_one_of(name, names))
        return true;
    snprintf(named, sizeof(named), "%.*s", (int)name.len, name.at);
    return http_has_token(h, "Connection", named);
}

// Header names fit: they are part of a head of HTTP_HEAD_MAX.
static void add_header(struct h2_fields *f, const struct http_header *header)
{
    static const char *const secrets[] = {"Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", NULL};
    char *name = f->names + f->used;
    for (size_t i = 0; i < header->name.len; i++)
        name[i] = (char)tolower((unsigned char)header->name.at[i]);
    f->used += header->name.len;
    f->at[f->count++] = (struct h2_field){.name = {name, header->name.len}, .value = header->value,
                                          .secret = is_one_of(header->name, secrets)};
}

static void add_headers(struct h2_fields *f, const struct http_head *h)
{
    for (size_t i = 0; i < h->count; i++)
        if (!is_of_connection(h, h->headers[i].name))
            add_header(f, &h->headers[i]);
}

enum h2_kind h2_fields_of_request(struct h2_fields *f, const struct http_head *h, const char *scheme)
{
    const struct http_text *host = http_get(h, "Host");
    bool ws = http_text_is(h->method, "GET") && http_has_token(h, "Upgrade", "websocket");
    enum h2_kind kind = ws ? H2_WEBSOCKET : http_text_is(h->method, "CONNECT") ? H2_CONNECT : H2_PLAIN;
    f->count = f->used = 0;
    add(f, ":method", ws ? text("CONNECT") : h->method);
    if (ws)
        add(f, ":protocol", text("websocket"));
    if (kind == H2_CONNECT) { // RFC 9113 8.5: nothing else
        add(f, ":authority", h->target);
    } else {
        add(f, ":scheme", text(scheme));
        add(f, ":path", h->target);
        if (host)
            add(f, ":authority", *host);
    }
    add_headers(f, h);
    return kind;
}

void h2_fields_of_answer(struct h2_fields *f, const struct http_head *h, enum h2_kind kind)
{
    char *status = f->names;
    f->count = 0;
    f->used = (size_t)snprintf(status, 4, "%03d", kind == H2_WEBSOCKET && h->status == 101 ? 200 : h->status % 1000);
    add(f, ":status", (struct http_text){status, 3});
    add_headers(f, h);
}

// --- fields that came

static char *copy(const char *s, size_t len)
{
    char *out = strndup(s, len); // values hold no NUL
    if (!out)
        abort();
    return out;
}

static bool is(const char *name, size_t len, const char *what) { return strlen(what) == len && memcmp(name, what, len) == 0; }

static void keep(char **slot, const char *value, size_t len)
{
    free(*slot);
    *slot = copy(value, len);
}

// RFC 9113 8.2.3: the pieces of Cookie are one line in HTTP/1.1.
static void keep_cookie(struct h2_taken *t, const char *value, size_t len)
{
    char *all = NULL;
    if (asprintf(&all, "%s%s%.*s", t->cookie ? t->cookie : "", t->cookie ? "; " : "", (int)len, value) < 0)
        abort();
    free(t->cookie);
    t->cookie = all;
}

static void keep_line(struct h2_taken *t, const char *name, size_t name_len, const char *value, size_t value_len)
{
    char *at;
    if (!t->lines && !(t->lines = malloc(H2_LIST_MAX)))
        abort();
    at = t->lines + t->lines_len;
    memcpy(at, name, name_len);
    memcpy(at + name_len, ": ", 2);
    memcpy(at + name_len + 2, value, value_len);
    memcpy(at + name_len + 2 + value_len, "\r\n", 2);
    t->lines_len += name_len + value_len + 4; // less than what counts for the list
}

bool h2_take(struct h2_taken *t, const char *name, size_t name_len, const char *value, size_t value_len)
{
    if (name_len > H2_LIST_MAX - t->size || value_len + 32 > H2_LIST_MAX - t->size - name_len)
        return false;
    t->size += name_len + value_len + 32;
    if (is(name, name_len, ":method"))
        keep(&t->method, value, value_len);
    else if (is(name, name_len, ":path"))
        keep(&t->path, value, value_len);
    else if (is(name, name_len, ":authority"))
        keep(&t->authority, value, value_len);
    else if (is(name, name_len, ":protocol"))
        keep(&t->protocol, value, value_len);
    else if (is(name, name_len, ":status"))
        t->status = atoi(value); // three digits, checked before
    else if (is(name, name_len, "cookie"))
        keep_cookie(t, value, value_len);
    else if (name[0] != ':' && !is(name, name_len, "te") && !is(name, name_len, "sec-websocket-key") &&
             !is(name, name_len, "sec-websocket-accept") && !(t->authority && is(name, name_len, "host")))
        keep_line(t, name, name_len, value, value_len);
    t->has_length |= is(name, name_len, "content-length");
    return true;
}

void h2_taken_fini(struct h2_taken *t)
{
    free(t->method);
    free(t->path);
    free(t->authority);
    free(t->protocol);
    free(t->cookie);
    free(t->lines);
    *t = (struct h2_taken){0};
}

static const char *framing_line(enum h2_framing framing) { return framing == H2_CHUNKS ? "Transfer-Encoding: chunked\r\n" : ""; }

char *h2_request_text(const struct h2_taken *t, bool ends, enum h2_framing *framing)
{
    static const char upgrade[] = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: " NO_KEY "\r\n";
    bool connect = t->method && strcmp(t->method, "CONNECT") == 0;
    bool ws = connect && t->protocol;
    const char *authority = t->authority ? t->authority : "", *path = t->path ? t->path : "/";
    char *out;
    *framing = connect ? H2_RAW : ends ? H2_NO_BODY : t->has_length ? H2_AS_IS : H2_CHUNKS;
    if (asprintf(&out, "%s %s HTTP/1.1\r\n%s%s%s%s%s%s%s%.*s%s\r\n", ws ? "GET" : t->method ? t->method : "GET",
                 connect && !ws ? authority : path, t->authority ? "Host: " : "", authority, t->authority ? "\r\n" : "",
                 ws ? upgrade : "", t->cookie ? "Cookie: " : "", t->cookie ? t->cookie : "", t->cookie ? "\r\n" : "",
                 (int)t->lines_len, t->lines ? t->lines : "", framing_line(*framing)) < 0)
        abort();
    return out;
}

char *h2_answer_text(const struct h2_taken *t, enum h2_kind kind, const char *key, bool bodyless, bool ends,
                     enum h2_framing *framing)
{
    char accept[WS_ACCEPT_LEN + 1] = "", *out;
    bool agreed = t->status >= 200 && t->status < 300, ws = agreed && kind == H2_WEBSOCKET;
    bool nothing = ends || bodyless || t->status < 200 || t->status == 204 || t->status == 304;
    *framing = agreed && kind != H2_PLAIN ? H2_RAW : nothing ? H2_NO_BODY : t->has_length ? H2_AS_IS : H2_CHUNKS;
    bool zero = ends && !bodyless && *framing == H2_NO_BODY && t->status >= 200 && t->status != 204 && t->status != 304 &&
                !t->has_length;
    if (ws)
        ws_accept(key, strlen(key), accept);
    if (asprintf(&out, "HTTP/1.1 %d \r\n%s%s%s%.*s%s%s\r\n", ws ? 101 : t->status,
                 ws ? "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " : "", accept, ws ? "\r\n" : "",
                 (int)t->lines_len, t->lines ? t->lines : "", zero ? "Content-Length: 0\r\n" : "",
                 framing_line(*framing)) < 0)
        abort();
    return out;
}
