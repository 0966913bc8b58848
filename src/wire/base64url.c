// SPDX-License-Identifier: Apache-2.0
#include "wire/base64url.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

char *base64url_encode(char *out, const void *data, size_t len)
{
    const uint8_t *in = data;
    char *to = out;
    uint32_t bits = 0;
    unsigned have = 0;
    for (size_t i = 0; i < len; i++) {
        bits = bits << 8 | in[i];
        for (have += 8; have >= 6; have -= 6)
            *to++ = alphabet[bits >> (have - 6) & 63];
    }
    if (have)
        *to++ = alphabet[bits << (6 - have) & 63];
    *to = 0;
    return out;
}

// Arithmetic instead of a table, since tokens are secret: no memory is addressed by their characters.
static int value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

bool base64url_decode(void *out, size_t len, const char *text, size_t text_len)
{
    uint8_t *to = out;
    uint32_t bits = 0;
    unsigned have = 0;
    if (text_len != BASE64URL_LEN(len))
        return false;
    for (size_t i = 0; i < text_len; i++) {
        int v = value(text[i]);
        if (v < 0)
            return false;
        bits = bits << 6 | (uint32_t)v;
        have += 6;
        if (have >= 8) {
            have -= 8;
            *to++ = (uint8_t)(bits >> have);
        }
    }
    return (bits & ((1u << have) - 1)) == 0;
}
