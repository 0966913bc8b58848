// SPDX-License-Identifier: Apache-2.0
#include "wire/skip.h"

bool http_skip_start(struct http_skip *s, const struct http_head *h)
{
    int64_t length;
    bool chunked;
    *s = (struct http_skip){.state = SKIP_OVER};
    if (!http_body(h, &length, &chunked) || (length < 0 && !chunked))
        return false;
    s->state = chunked ? SKIP_SIZE : length > 0 ? SKIP_LENGTH : SKIP_OVER;
    s->left = chunked ? 0 : (uint64_t)length;
    return true;
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void size_char(struct http_skip *s, char c)
{
    int value = hex(c);
    if (value >= 0 && s->digits < 15) {
        s->left = s->left << 4 | (unsigned)value;
        s->digits++;
    } else if (value >= 0 || s->digits == 0) {
        s->state = SKIP_BAD;
    } else {
        s->state = SKIP_EXTENSION;
    }
}

static void line_end(struct http_skip *s)
{
    switch (s->state) {
    case SKIP_EXTENSION:
        s->state = s->left ? SKIP_DATA : SKIP_TRAILER;
        break;
    case SKIP_DATA_END:
        s->state = SKIP_SIZE;
        break;
    default:
        s->state = s->line ? SKIP_TRAILER : SKIP_OVER;
        break;
    }
    s->digits = s->line = 0;
}

static void take(struct http_skip *s, char c)
{
    if (s->state == SKIP_SIZE)
        size_char(s, c);
    if (s->state == SKIP_SIZE || s->state == SKIP_BAD)
        return;
    if (c == '\n')
        line_end(s);
    else if (s->state == SKIP_DATA_END && c != '\r')
        s->state = SKIP_BAD;
    else if (c != '\r')
        s->line++;
}

static bool is_content(const struct http_skip *s) { return s->state == SKIP_LENGTH || s->state == SKIP_DATA; }

size_t http_skip_data(struct http_skip *s, const char *data, size_t size, size_t *from, size_t *len)
{
    size_t at = 0;
    *len = 0;
    while (at < size && !is_content(s) && s->state != SKIP_OVER && s->state != SKIP_BAD)
        take(s, data[at++]);
    *from = at;
    if (at == size || !is_content(s))
        return at;
    *len = s->left < size - at ? (size_t)s->left : size - at;
    s->left -= *len;
    if (s->left == 0)
        s->state = s->state == SKIP_LENGTH ? SKIP_OVER : SKIP_DATA_END;
    return at + *len;
}

size_t http_skip_feed(struct http_skip *s, const char *data, size_t len)
{
    size_t used = 0, from, piece;
    while (used < len && s->state != SKIP_OVER && s->state != SKIP_BAD)
        used += http_skip_data(s, data + used, len - used, &from, &piece);
    return used;
}
