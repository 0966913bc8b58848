// SPDX-License-Identifier: Apache-2.0
// URLs of relays and proxies, and no_proxy lists (list, a 0, host). What parses must print and parse to the same again.
#include "fuzz.h"
#include "wire/noproxy.h"
#include "wire/url.h"

static void relay(const char *text)
{
    struct relay_url a, b;
    struct err e = ERR_INIT;
    char out[URL_TEXT_MAX], again[URL_TEXT_MAX];
    if (relay_url_parse(&a, text, &e) < 0) {
        fuzz_refused(&e);
        return;
    }
    CHECK(relay_url_parse(&b, relay_url_text(&a, out), &e) == 0);
    CHECK(strcmp(out, relay_url_text(&b, again)) == 0 && a.port && a.path[0] == '/');
    relay_url_where(&a, out);
}

static void proxy(const char *text)
{
    struct proxy_url a, b;
    struct err e = ERR_INIT;
    char out[URL_PAC_MAX + 8 + 6 * URL_LOGIN_MAX];
    if (proxy_url_parse(&a, text, &e) < 0) {
        fuzz_refused(&e);
        return;
    }
    if (proxy_url_secret_text(&a, out, sizeof(out))) {
        CHECK(proxy_url_parse(&b, out, &e) == 0);
        CHECK(a.kind == b.kind && a.port == b.port && strcmp(a.host, b.host) == 0);
        CHECK(strcmp(a.user, b.user) == 0 && strcmp(a.password, b.password) == 0);
        proxy_url_wipe(&b);
    }
    proxy_url_text(&a, out);
    if (a.kind >= PROXY_HTTP)
        proxy_url_where(&a, out);
    proxy_url_wipe(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_text(data, size);
    size_t len = strlen(text);
    relay(text);
    proxy(text);
    char *host = fuzz_text(data + (len < size ? len + 1 : size), len < size ? size - len - 1 : 0);
    noproxy_has(text, host, 443);
    free(host);
    free(text);
    return 0;
}
