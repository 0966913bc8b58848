// SPDX-License-Identifier: Apache-2.0
// Heads of HTTP/1.1 as the fields of HTTP/2 and back (RFC 9113 section 8), without I/O: what is above an HTTP/2 stream speaks
// HTTP/1.1 and need not know. Upgrade to WebSocket becomes the extended CONNECT of RFC 8441, and 101 its 200. What belongs to
// a connection (Connection and what it names, Transfer-Encoding, Upgrade, the WebSocket key) is left out and put in again.
#pragma once
#include "wire/http.h"

enum h2_kind { H2_PLAIN, H2_CONNECT, H2_WEBSOCKET };

// How the body behind a text made here is framed.
enum h2_framing {
    H2_NO_BODY, // there is none
    H2_RAW,     // a tunnel, both ways until their ends
    H2_AS_IS,   // the length is in the head
    H2_CHUNKS,  // whoever writes the body puts it into chunks
};

// --- fields to send, made of a parsed head

#define H2_FIELDS_MAX (HTTP_HEADERS_MAX + 5)

struct h2_field {
    struct http_text name, value;
    bool secret; // never to be kept in a table of header compression
};

struct h2_fields {
    struct h2_field at[H2_FIELDS_MAX];
    size_t count, used;
    char names[HTTP_HEAD_MAX]; // in lower case
};

// They point into h's text, `scheme` and f itself.
enum h2_kind h2_fields_of_request(struct h2_fields *f, const struct http_head *h, const char *scheme);
void h2_fields_of_answer(struct h2_fields *f, const struct http_head *h, enum h2_kind kind);

// --- fields that came, made into a head

#define H2_LIST_MAX 16384 // SETTINGS_MAX_HEADER_LIST_SIZE: names, values and 32 for each

struct h2_taken {
    char *method, *path, *authority, *protocol, *cookie; // owned; NULL: not there
    char *lines; // "name: value\r\n"…, owned
    size_t lines_len, size;
    int status;
    bool has_length;
};

// False: it is more than H2_LIST_MAX, and t is not to be used for a text.
bool h2_take(struct h2_taken *t, const char *name, size_t name_len, const char *value, size_t value_len);
void h2_taken_fini(struct h2_taken *t);
// The head as text, to be freed; `ends`: no body follows.
char *h2_request_text(const struct h2_taken *t, bool ends, enum h2_framing *framing);
// `key`: the Sec-WebSocket-Key of the request, for a WebSocket that was agreed to. `bodyless`: the answer to HEAD.
char *h2_answer_text(const struct h2_taken *t, enum h2_kind kind, const char *key, bool bodyless, bool ends,
                     enum h2_framing *framing);
