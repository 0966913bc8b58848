// SPDX-License-Identifier: Apache-2.0
#include "core/text.h"
#include <stdlib.h>
#include <string.h>
#include "unit.h"

static void width_counts_characters(void **state)
{
    assert_int_equal(text_width("", 0), 0);
    assert_int_equal(text_width("abc", 2), 2);
    assert_int_equal(text_width("a…–é", strlen("a…–é")), 4);
}

// A line of words of `len` bytes, of which each letter is one column.
static char *wrapped(const char *word, size_t count, size_t at)
{
    char *text = NULL, words[4096] = "";
    size_t size;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    for (size_t i = 0; i < count; i++)
        snprintf(words + strlen(words), sizeof words - strlen(words), "%s%s", i ? " " : "", word);
    text_wrap(out, words, at);
    fclose(out);
    return text;
}

static void lines_end_within_the_width(void **state)
{
    static const char *const words[] = {"word", "wörd", "……"};
    for (unsigned w = 0; w < 3; w++)
        for (size_t at = 0; at < 40; at += 13) {
            char *text = wrapped(words[w], 60, at), *line = text;
            size_t found = 0, most = 0;
            for (char *end; (end = strchr(line, '\n')); line = end + 1) {
                size_t width = text_width(line, (size_t)(end - line)) + (line == text ? at : 0);
                most = width > most ? width : most;
                assert_true(line == text || strspn(line, " ") == at);
                for (char *p = line; (p = strstr(p, words[w])) && p < end; p += strlen(words[w]))
                    found++;
            }
            assert_int_equal(found, 60);
            assert_true(most <= TEXT_WIDTH && most > TEXT_WIDTH - 6);
            free(text);
        }
}

static void a_word_that_is_too_long_stands_alone(void **state)
{
    char word[TEXT_WIDTH + 20], *text;
    memset(word, 'x', sizeof word - 1);
    word[sizeof word - 1] = 0;
    text = wrapped(word, 2, 10);
    assert_int_equal(strlen(text), 2 * strlen(word) + 10 + 2);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(width_counts_characters),
        cmocka_unit_test(lines_end_within_the_width),
        cmocka_unit_test(a_word_that_is_too_long_stands_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
