// SPDX-License-Identifier: Apache-2.0
#include "unit.h"
#include "wire/base64url.h"
#include "wire/percent.h"

// RFC 4648 section 10, without padding.
static void knows_the_vectors(void **state)
{
    static const char *const vectors[][2] = {
        {"", ""},           {"f", "Zg"},          {"fo", "Zm8"},         {"foo", "Zm9v"},
        {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < COUNT(vectors); i++) {
        char text[16], back[16];
        size_t len = strlen(vectors[i][0]);
        assert_string_equal(base64url_encode(text, vectors[i][0], len), vectors[i][1]);
        assert_int_equal(strlen(text), BASE64URL_LEN(len));
        assert_true(base64url_decode(back, len, text, strlen(text)));
        assert_memory_equal(back, vectors[i][0], len);
    }
    uint8_t odd[3] = {0xfb, 0xff, 0xfe};
    char text[8];
    assert_string_equal(base64url_encode(text, odd, 3), "-__-");
}

static void every_value_has_one_text(void **state)
{
    uint8_t out[3];
    assert_true(base64url_decode(out, 1, "Zg", 2));
    assert_false(base64url_decode(out, 1, "Zh", 2)); // spare bits
    assert_false(base64url_decode(out, 1, "Zg==", 4));
    assert_false(base64url_decode(out, 2, "Zg", 2));
    assert_false(base64url_decode(out, 3, "Zm9 ", 4));
    assert_false(base64url_decode(out, 3, "+/+/", 4));
}

static void percent_both_ways(void **state)
{
    char out[16], tight[4];
    assert_true(percent_decode(out, sizeof out, "a%20b%3A", 8));
    assert_string_equal(out, "a b:");
    assert_false(percent_decode(out, sizeof out, "a%2", 3));
    assert_false(percent_decode(out, sizeof out, "a%zz", 4));
    assert_false(percent_decode(out, sizeof out, "a%00", 4));
    assert_true(percent_decode(tight, sizeof tight, "abc", 3));
    assert_false(percent_decode(tight, sizeof tight, "abcd", 4));
    assert_true(percent_encode(out, sizeof out, "a b/:\xff", "/"));
    assert_string_equal(out, "a%20b/%3A%FF");
    assert_true(percent_encode(tight, sizeof tight, ":", ""));
    assert_false(percent_encode(tight, sizeof tight, ":a", ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_the_vectors),
        cmocka_unit_test(every_value_has_one_text),
        cmocka_unit_test(percent_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
