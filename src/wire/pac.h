// SPDX-License-Identifier: Apache-2.0
// PAC (proxy auto-configuration) as far as we read it ourselves: where a script is fetched from, and what it answers, "PROXY
// a:3128; SOCKS5 b:1080; DIRECT", as proxies in order. Both are foreign bytes: what does not parse is left out. No I/O.
#pragma once
#include <stddef.h>
#include "wire/url.h"

#define PAC_ENTRIES 8                // of one answer; more are left out
#define PAC_SCRIPT_MAX (1024 * 1024) // bytes of a script

enum pac_kind { PAC_FILE, PAC_HTTP, PAC_HTTPS };

struct pac_url {
    enum pac_kind kind;
    char host[URL_HOST_MAX + 1]; // no brackets; of a file none
    uint16_t port;
    char path[URL_PAC_MAX + 1]; // of a file decoded, else with its query, as on the wire
};

// file:///path, http://host[:port]/path, https://…; ERR_USAGE names what is wrong.
int pac_url_parse(struct pac_url *u, const char *text, struct err *e);
// Each proxy once, in order; DIRECT is PROXY_NONE. A SOCKS of no version is tried as 5 and as 4a. Returns how many.
size_t pac_answer_parse(struct proxy_url *out, size_t max, const char *answer);
// The same for one entry of libproxy's form: "http://a:3128", "socks://b:1080", "direct://". Appends to the `count` there are.
size_t pac_add_url(struct proxy_url *out, size_t count, size_t max, const char *text);
// Whether these bytes may be a script at all: text that names FindProxyForURL. False: *why is a static sentence's end.
bool pac_is_script(const char *data, size_t len, const char **why);
