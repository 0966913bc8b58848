// SPDX-License-Identifier: Apache-2.0
// Challenges of a Proxy-Authenticate header, the Digest answers to them, and a skipped chunked body. Byte 0: piece size.
#include "fuzz.h"
#include "wire/challenge.h"
#include "wire/digest.h"
#include "wire/skip.h"

static void inside(const uint8_t *data, size_t len, struct http_text t)
{
    CHECK(t.len == 0 || ((const uint8_t *)t.at >= data && (const uint8_t *)t.at + t.len <= data + len));
}

static void answer(const struct challenge *c)
{
    static char out[DIGEST_ANSWER_MAX];
    struct digest d;
    struct digest_ask ask = {.user = "u\"", .password = "p", .method = "CONNECT", .uri = "h:1", .cnonce = "c", .nc = 1};
    if (!digest_parse(&d, c) || !digest_answer(&d, &ask, out))
        return;
    struct http_text list = {out, strlen(out)};
    struct challenge back;
    char nonce[DIGEST_VALUE_MAX];
    CHECK(!strpbrk(out, "\r\n")); // nothing of the challenge ends the line
    CHECK(challenge_next(&list, &back) && challenge_get(&back, "nonce", nonce, sizeof(nonce)) && strcmp(nonce, d.nonce) == 0);
    CHECK(!challenge_next(&list, &back));
}

static void skip(const uint8_t *data, size_t size, size_t piece)
{
    struct http_skip whole = {.state = SKIP_SIZE}, pieces = whole;
    size_t used = http_skip_feed(&whole, (const char *)data, size), total = 0;
    while (total < size && pieces.state != SKIP_OVER && pieces.state != SKIP_BAD) {
        size_t n = size - total < piece ? size - total : piece;
        uint8_t *copy = fuzz_copy(data + total, n);
        total += http_skip_feed(&pieces, (const char *)copy, n);
        free(copy);
    }
    CHECK(used <= size && used == total && whole.state == pieces.state && whole.left == pieces.left);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct challenge c;
    if (size < 1)
        return 0;
    uint8_t *copy = fuzz_copy(data + 1, size - 1);
    struct http_text list = {(const char *)copy, size - 1};
    while (challenge_next(&list, &c)) {
        CHECK(c.count <= CHALLENGE_PARAMS_MAX && c.scheme.len > 0);
        inside(copy, size - 1, c.scheme);
        inside(copy, size - 1, c.token);
        for (size_t i = 0; i < c.count; i++)
            inside(copy, size - 1, c.params[i].value);
        answer(&c);
    }
    free(copy);
    skip(data + 1, size - 1, 1 + data[0] % 9);
    return 0;
}
