// SPDX-License-Identifier: Apache-2.0
// HTTP heads: requests, and the responses of proxies. The first byte chooses.
#include "fuzz.h"
#include "wire/http.h"

static void inside(const uint8_t *data, size_t len, struct http_text t)
{
    CHECK((const uint8_t *)t.at >= data && t.len <= len && (size_t)((const uint8_t *)t.at - data) <= len - t.len);
}

static void look(const uint8_t *data, size_t len, const struct http_head *h)
{
    int64_t length;
    bool chunked;
    CHECK(h->count <= HTTP_HEADERS_MAX);
    for (size_t i = 0; i < h->count; i++) {
        inside(data, len, h->headers[i].name);
        inside(data, len, h->headers[i].value);
    }
    if (h->is_request)
        inside(data, len, h->target);
    else
        CHECK(h->status >= 100 && h->status <= 999);
    http_get(h, "host");
    http_count(h, "Sec-WebSocket-Key");
    http_has_token(h, "connection", "upgrade");
    if (http_body(h, &length, &chunked))
        CHECK(length >= -1 && !(chunked && length >= 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http_head h;
    const char *why = NULL;
    size_t used = 0;
    if (size < 1 || size > HTTP_HEAD_MAX)
        return 0;
    bool request = data[0] & 1;
    uint8_t *head = fuzz_copy(data + 1, size - 1);
    enum http_result whole = http_parse(&h, request, (const char *)head, size - 1, &used, &why);
    if (whole == HTTP_OK) {
        CHECK(used <= size - 1);
        look(head, size - 1, &h);
    }
    if (whole == HTTP_BAD)
        CHECK(why && *why);
    free(head);
    if (whole == HTTP_OK && used > 1) { // one byte less is never whole
        head = fuzz_copy(data + 1, used - 1);
        CHECK(http_parse(&h, request, (const char *)head, used - 1, &used, &why) != HTTP_OK);
        free(head);
    }
    return 0;
}
