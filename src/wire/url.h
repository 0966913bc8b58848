// SPDX-License-Identifier: Apache-2.0
// The URLs of the command line: RELAY (how a relay is reached) and PROXY (one hop on the way). Parsed into values of
// fixed size; nothing is resolved. Parsers return 0, or -1 with a sentence in *e that names the text and the remedy
// (ERR_USAGE) and never repeats a password. A proxy's password lives in the struct: proxy_url_wipe ends it.
//
//     RELAY    name[:port] | wss://name[:port][/path] | ws://name[:port][/path]
//     PROXY    http|https|h2|socks4a|socks5|socks5h://[user[:pw]@]host[:port] | pac+URL | auto | none
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/err.h"

#define URL_HOST_MAX 255
#define URL_PATH_MAX 255
#define URL_LOGIN_MAX 255 // user or password, decoded
#define URL_TEXT_MAX 600  // "scheme://[host]:port/path", "scheme://user:***@host:port"
#define URL_PAC_MAX 1023

struct relay_url {
    bool tls; // wss; false only when ws:// was written
    char host[URL_HOST_MAX + 1]; // no brackets
    uint16_t port;               // default 443, 80
    char path[URL_PATH_MAX + 1]; // starts with '/', as on the wire; default "/"
};

int relay_url_parse(struct relay_url *u, const char *text, struct err *e);
char *relay_url_text(const struct relay_url *u, char *out);  // whole URL, default port left out; URL_TEXT_MAX bytes
char *relay_url_where(const struct relay_url *u, char *out); // "relay.example:443", for messages

enum proxy_kind {
    PROXY_NONE, PROXY_AUTO, PROXY_PAC, PROXY_HTTP, PROXY_HTTPS, PROXY_H2, PROXY_SOCKS4A, PROXY_SOCKS5, PROXY_SOCKS5H,
};

struct proxy_url {
    enum proxy_kind kind;
    char host[URL_HOST_MAX + 1]; // no brackets
    uint16_t port;               // default: http 80, https and h2 443, socks 1080
    bool has_login;              // a user was written
    bool has_password;           // and a password, be it empty
    char user[URL_LOGIN_MAX + 1], password[URL_LOGIN_MAX + 1]; // percent-decoded
    char pac[URL_PAC_MAX + 1];   // the URL behind "pac+"
};

// A text without a scheme ("proxy:3128") is http, as in the environment's variables.
int proxy_url_parse(struct proxy_url *p, const char *text, struct err *e);
// The password as ***; "none", "auto"; out holds URL_PAC_MAX + 8 bytes.
char *proxy_url_text(const struct proxy_url *p, char *out);
char *proxy_url_where(const struct proxy_url *p, char *out); // "proxy:3128", for messages; URL_TEXT_MAX bytes
// The text that parses back, password and all: for the 0600 state file and pairing strings. False when it does not fit.
bool proxy_url_secret_text(const struct proxy_url *p, char *out, size_t size);
void proxy_url_wipe(struct proxy_url *p);
const char *proxy_kind_name(enum proxy_kind kind); // "http", "socks5h" …
