// SPDX-License-Identifier: Apache-2.0
// What the helper process says, what a PAC script answers, and the URLs of scripts. Each proxy that comes out must print and parse again.
#include "fuzz.h"
#include "wire/found.h"

static void check(const struct proxy_url *of, size_t count)
{
    char text[URL_PAC_MAX + 8 + 6 * URL_LOGIN_MAX];
    CHECK(count <= PAC_ENTRIES);
    for (size_t i = 0; i < count; i++) {
        struct proxy_url again;
        struct err e = ERR_INIT;
        CHECK(of[i].kind == PROXY_NONE || (of[i].kind >= PROXY_HTTP && of[i].port && of[i].host[0]));
        if (proxy_url_secret_text(&of[i], text, sizeof(text))) {
            CHECK(proxy_url_parse(&again, text, &e) == 0);
            CHECK(again.kind == of[i].kind && again.port == of[i].port && strcmp(again.host, of[i].host) == 0);
        }
        for (size_t k = 0; k < i; k++)
            CHECK(of[i].kind != of[k].kind || of[i].port != of[k].port || strcmp(of[i].host, of[k].host) != 0 ||
                  strcmp(of[i].user, of[k].user) != 0);
    }
}

static void check_text(const char *text)
{
    for (; *text; text++)
        CHECK((*text >= 0x20 && *text < 0x7f) || (unsigned char)*text >= 0x80); // "…" where it was cut
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct found *f = calloc(1, sizeof(*f));
    struct proxy_url of[PAC_ENTRIES];
    struct pac_url url;
    struct err e = ERR_INIT;
    const char *why;
    uint8_t *copy = fuzz_copy(data, size);
    found_parse(f, (const char *)copy, size);
    check(f->of, f->count);
    check_text(f->pac);
    check_text(f->answer);
    check_text(f->note);
    check_text(f->fail);
    pac_is_script((const char *)copy, size, &why);
    free(copy);
    char *text = fuzz_text(data, size);
    check(of, pac_answer_parse(of, PAC_ENTRIES, text));
    if (pac_url_parse(&url, text, &e) == 0)
        CHECK(url.path[0] == '/' && (url.kind == PAC_FILE || (url.host[0] && url.port)));
    else
        fuzz_refused(&e);
    free(text);
    free(f);
    return 0;
}
