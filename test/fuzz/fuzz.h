// SPDX-License-Identifier: Apache-2.0
// What the fuzz targets share: the entry point libFuzzer calls, a check that ends the run, and texts ended by 0 made of
// its input on the heap, so that AddressSanitizer sees a read beyond them. Nothing here outlives a call.
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "core/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(truth)                                                                                                   \
    do {                                                                                                               \
        if (!(truth))                                                                                                  \
            abort();                                                                                                   \
    } while (0)

// A copy of exactly len bytes; free it.
static inline uint8_t *fuzz_copy(const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);
    if (len)
        memcpy(copy, data, len);
    return copy;
}

// The bytes as a text, cut at the first 0; free it.
static inline char *fuzz_text(const uint8_t *data, size_t len)
{
    return strndup((const char *)data, len);
}

// A parser has refused: it must have said why. (Its text may hold the input as it is; who prints it escapes it.)
static inline void fuzz_refused(struct err *e)
{
    CHECK(err_is(e) && *err_text(e));
    err_fini(e);
}
