// SPDX-License-Identifier: Apache-2.0
// The line of an invitation. What parses must print and parse to the same again; a refusal never repeats the token.
#include "fuzz.h"
#include "wire/base64url.h"
#include "wire/pairing.h"

// Whatever is wrong with the line, what stands behind token= is not told.
static void keeps_quiet(const char *text, const struct err *e)
{
    const char *token = strstr(text, "token=");
    char secret[BASE64URL_LEN(PAIRING_TOKEN) + 1];
    if (!token || strlen(token + 6) < sizeof secret - 1)
        return;
    memcpy(secret, token + 6, sizeof secret - 1);
    secret[sizeof secret - 1] = 0;
    CHECK(!strstr(err_text(e), secret));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct pairing a, b;
    static char out[PAIRING_TEXT_MAX];
    struct err e = ERR_INIT;
    char *text = fuzz_text(data, size);
    if (pairing_parse(&a, text, &e) == 0) {
        CHECK(a.pin_count >= 1 && a.pin_count <= PAIRING_PINS && a.proxy_count <= PAIRING_PROXIES);
        if (pairing_text(&a, out)) {
            CHECK(pairing_parse(&b, out, &e) == 0);
            CHECK(memcmp(a.token, b.token, sizeof(a.token)) == 0 && a.pin_count == b.pin_count);
            CHECK(memcmp(a.pins, b.pins, a.pin_count * 32) == 0 && a.proxy_count == b.proxy_count);
            CHECK(a.peer_count <= PAIRING_PEERS && memcmp(a.peers, b.peers, sizeof(a.peers)) == 0);
            CHECK(strcmp(a.relay.host, b.relay.host) == 0 && a.relay.port == b.relay.port);
        }
    } else {
        keeps_quiet(text, &e);
        fuzz_refused(&e);
    }
    pairing_wipe(&a);
    pairing_wipe(&b);
    free(text);
    return 0;
}
