// SPDX-License-Identifier: Apache-2.0
// PROXY protocol headers: every prefix says MORE until the whole says what it is, and bytes behind it change nothing.
#include "fuzz.h"
#include "wire/proxyproto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxyproto p, q;
    const char *why = NULL;
    size_t used = 0, again = 0;
    uint8_t *copy = fuzz_copy(data, size);
    enum http_result whole = proxyproto_parse(&p, copy, size, &used, &why), part = HTTP_MORE;
    free(copy);
    CHECK(whole != HTTP_BAD || why);
    CHECK(whole != HTTP_MORE || size < PROXYPROTO_MAX);
    CHECK(whole != HTTP_OK || (used <= size && used <= PROXYPROTO_MAX));
    CHECK(whole == HTTP_OK || !p.from.len);
    for (size_t n = 0; n <= size && part == HTTP_MORE; n++) {
        copy = fuzz_copy(data, n);
        part = proxyproto_parse(&q, copy, n, &again, &why);
        free(copy);
    }
    CHECK(part == whole || (whole == HTTP_OK && part == HTTP_OK));
    CHECK(whole != HTTP_OK || (again == used && p.from.len == q.from.len && addr_equal(&p.from, &q.from)));
    return 0;
}
