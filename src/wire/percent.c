// SPDX-License-Identifier: Apache-2.0
#include "wire/percent.h"
#include <ctype.h>
#include <string.h>

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool percent_decode(char *out, size_t size, const char *text, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '%') {
            if (len - i < 3 || hex(text[i + 1]) < 0 || hex(text[i + 2]) < 0)
                return false;
            c = (char)(hex(text[i + 1]) << 4 | hex(text[i + 2]));
            i += 2;
        }
        if (c == 0 || n + 1 >= size)
            return false;
        out[n++] = c;
    }
    if (size == 0)
        return false;
    out[n] = 0;
    return true;
}

static bool is_plain(char c, const char *keep)
{
    return isalnum((unsigned char)c) || strchr("-._~", c) || strchr(keep, c);
}

bool percent_encode(char *out, size_t size, const char *text, const char *keep)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t n = 0;
    for (; *text; text++) {
        size_t need = is_plain(*text, keep) ? 1 : 3;
        if (n >= size || size - n <= need)
            return false;
        if (need == 1) {
            out[n++] = *text;
            continue;
        }
        out[n++] = '%';
        out[n++] = digits[(unsigned char)*text >> 4];
        out[n++] = digits[(unsigned char)*text & 15];
    }
    if (n >= size)
        return false;
    out[n] = 0;
    return true;
}
