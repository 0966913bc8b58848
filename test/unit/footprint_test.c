// SPDX-License-Identifier: Apache-2.0
#include "core/footprint.h"
#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

// KiB of file pages that this process has in memory.
static long file_kib(void)
{
    char line[128];
    long kib = -1;
    FILE *f = fopen("/proc/self/status", "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f))
        if (sscanf(line, "RssFile: %ld", &kib) == 1)
            break;
    fclose(f);
    return kib;
}

static const char *volatile written = "before"; // relocated: its page must stay

static void gives_back_file_pages_and_breaks_nothing(void **state)
{
    uint8_t first[32], second[32];
    assert_int_equal(EVP_Digest("abc", 3, first, NULL, EVP_sha256(), NULL), 1);
    written = "after";
    long before = file_kib();
    footprint_shrink();
    long after = file_kib();
    assert_true(before > 0);
    assert_true(after < before);
    assert_string_equal(written, "after");
    assert_int_equal(EVP_Digest("abc", 3, second, NULL, EVP_sha256(), NULL), 1);
    assert_memory_equal(first, second, sizeof(first));
    footprint_shrink();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(gives_back_file_pages_and_breaks_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
