// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 heads (RFC 9112), requests and responses, parsed in place without I/O. Strict where leniency is how
// smuggling works: obs-fold, bare CR or LF, NUL, space before a colon, Content-Length with Transfer-Encoding, several different
// Content-Lengths are refused. The caller collects bytes up to HTTP_HEAD_MAX; the parsed head points into them.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_HEAD_MAX 16384
#define HTTP_HEADERS_MAX 100

struct http_text { // a slice of the caller's bytes, not ended by 0
    const char *at;
    size_t len;
};

struct http_header {
    struct http_text name, value; // value without surrounding white space
};

struct http_head {
    bool is_request;
    struct http_text method, target; // request
    int status;                      // response, 100…999
    struct http_text reason;
    int minor; // HTTP/1.minor
    struct http_header headers[HTTP_HEADERS_MAX];
    size_t count;
};

enum http_result { HTTP_OK, HTTP_MORE, HTTP_BAD };

// Parses the head at data[0…len). OK: *used is its length including the blank line. MORE: not whole yet. BAD: *why is a
// static sentence.
enum http_result http_parse(struct http_head *h, bool is_request, const char *data, size_t len, size_t *used,
                            const char **why);
// The first header of that name (case-insensitive), or NULL.
const struct http_text *http_get(const struct http_head *h, const char *name);
size_t http_count(const struct http_head *h, const char *name);
// Whether the comma-separated lists of all headers of that name have `token` (case-insensitive).
bool http_has_token(const struct http_head *h, const char *name, const char *token);
bool http_text_is(struct http_text t, const char *s);         // exact
bool http_text_is_nocase(struct http_text t, const char *s);
// Body framing of a message: *length -1 none announced; *chunked. False when contradictory.
bool http_body(const struct http_head *h, int64_t *length, bool *chunked);
