// SPDX-License-Identifier: Apache-2.0
#include "core/text.h"
#include <string.h>

size_t text_width(const char *s, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += (s[i] & 0xc0) != 0x80;
    return n;
}

void text_wrap(FILE *out, const char *words, size_t at)
{
    size_t column = at;
    for (const char *gap = ""; *words; gap = " ") {
        size_t len = strcspn(words, " "), wide = text_width(words, len);
        if (column + 1 + wide > TEXT_WIDTH && column > at) {
            fprintf(out, "\n%*s", (int)at, "");
            column = at;
            gap = "";
        }
        fprintf(out, "%s%.*s", gap, (int)len, words);
        column += strlen(gap) + wide;
        words += len + (words[len] == ' ');
    }
    fputc('\n', out);
}
