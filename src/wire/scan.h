// SPDX-License-Identifier: Apache-2.0
// What the parsers of spec, url and rule share: an error with its context, hosts, ports, names. Texts come as slices;
// hosts and ports land in fixed fields. No I/O, no allocation but the error's text.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/err.h"

struct scan {
    const char *what; // "-L", "rule", "relay URL"
    const char *text; // the whole text, told in errors; NULL when it holds a secret
    struct err *e;
};

// Sets `what "text": sentence` (ERR_USAGE) and returns -1.
int scan_fail(const struct scan *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// Length up to the first ':' outside brackets, or len.
size_t scan_colon(const char *at, size_t len);
bool scan_is_digits(const char *at, size_t len);
// A host: name, IPv4, or IPv6 in brackets, which are taken off. host holds 256 bytes. Names are ASCII and checked for
// form.
int scan_host(const struct scan *s, const char *at, size_t len, char *host);
// A host as the caller of a proxy names it, in any script: an IPv6 address, whose brackets are taken off, or a name without
// what makes something else of it in OPEN (a path, unix:, SERVICE@AGENT) or cannot be sent there. host holds 256 bytes.
bool scan_asked_host(const char *at, size_t len, char *host);
int scan_port(const struct scan *s, const char *at, size_t len, bool zero, uint16_t *port);
// Copies into out (ended by 0) when it fits.
bool scan_copy(char *out, size_t size, const char *at, size_t len);
// The same for "unix:PATH" without its "unix:": absolute, %3A and %25 decoded; 108 bytes.
int scan_path(const struct scan *s, const char *at, size_t len, char *path);
bool scan_has_prefix(const char *at, size_t len, const char *prefix); // case-insensitive
// "host:port" with brackets where needed; returns out.
char *scan_host_port_text(char *out, size_t size, const char *host, uint16_t port);
