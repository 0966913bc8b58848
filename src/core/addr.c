// SPDX-License-Identifier: Apache-2.0
#include "core/addr.h"
#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Copies the text between optional brackets. False when they do not match or it is too long.
static bool unbracket(char *out, size_t size, const char *text, size_t len)
{
    if (len > 0 && text[0] == '[') {
        if (len < 2 || text[len - 1] != ']')
            return false;
        text++;
        len -= 2;
    }
    if (len == 0 || len >= size)
        return false;
    memcpy(out, text, len);
    out[len] = 0;
    return true;
}

static bool parse_scope(const char *text, uint32_t *scope)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (*text >= '0' && *text <= '9' && *end == 0 && n <= UINT32_MAX) {
        *scope = (uint32_t)n;
        return true;
    }
    *scope = *text ? if_nametoindex(text) : 0;
    return *scope != 0;
}

bool addr_parse_ip(struct addr *a, const char *host, uint16_t port)
{
    char text[INET6_ADDRSTRLEN + IF_NAMESIZE + 1];
    *a = (struct addr){0};
    if (!unbracket(text, sizeof(text), host, strlen(host)))
        return false;
    if (host[0] != '[' && inet_pton(AF_INET, text, &a->in.sin_addr) == 1) {
        a->in.sin_family = AF_INET;
        a->in.sin_port = htons(port);
        a->len = sizeof(a->in);
        return true;
    }
    char *percent = strchr(text, '%');
    if (percent) {
        *percent = 0;
        if (!parse_scope(percent + 1, &a->in6.sin6_scope_id))
            return false;
    }
    if (inet_pton(AF_INET6, text, &a->in6.sin6_addr) != 1) {
        *a = (struct addr){0};
        return false;
    }
    a->in6.sin6_family = AF_INET6;
    a->in6.sin6_port = htons(port);
    a->len = sizeof(a->in6);
    return true;
}

bool addr_unix(struct addr *a, const char *path)
{
    size_t len = strlen(path);
    *a = (struct addr){0};
    if (len == 0 || len >= sizeof(a->un.sun_path))
        return false;
    a->un.sun_family = AF_UNIX;
    memcpy(a->un.sun_path, path, len + 1);
    a->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    return true;
}

bool addr_from(struct addr *a, const struct sockaddr *sa, socklen_t len)
{
    *a = (struct addr){0};
    if (!sa || len < sizeof(sa->sa_family) || len > sizeof(a->un))
        return false;
    if ((sa->sa_family == AF_INET && len < sizeof(a->in)) || (sa->sa_family == AF_INET6 && len < sizeof(a->in6)))
        return false;
    if (sa->sa_family != AF_INET && sa->sa_family != AF_INET6 && sa->sa_family != AF_UNIX)
        return false;
    memcpy(&a->un, sa, len);
    a->len = len;
    return true;
}

// A Unix path, an abstract name (shown with @) or nothing for an unnamed socket; odd bytes become '?'.
static void unix_path(const struct addr *a, char out[sizeof(a->un.sun_path) + 1])
{
    size_t len = a->len - offsetof(struct sockaddr_un, sun_path);
    size_t n = 0;
    for (size_t i = 0; i < len && i < sizeof(a->un.sun_path); i++) {
        unsigned char c = (unsigned char)a->un.sun_path[i];
        if (c == 0 && a->un.sun_path[0] != 0)
            break;
        out[n++] = c == 0 && i == 0 ? '@' : c < 0x20 || c == 0x7f ? '?' : (char)c;
    }
    out[n] = 0;
}

char *addr_host(const struct addr *a, char *out)
{
    char text[INET6_ADDRSTRLEN];
    char path[sizeof(a->un.sun_path) + 1];
    if (a->len && a->sa.sa_family == AF_INET) {
        inet_ntop(AF_INET, &a->in.sin_addr, out, ADDR_TEXT_MAX);
    } else if (a->len && a->sa.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &a->in6.sin6_addr, text, sizeof(text));
        if (a->in6.sin6_scope_id)
            snprintf(out, ADDR_TEXT_MAX, "%s%%%u", text, (unsigned)a->in6.sin6_scope_id);
        else
            snprintf(out, ADDR_TEXT_MAX, "%s", text);
    } else if (a->len && a->sa.sa_family == AF_UNIX) {
        unix_path(a, path);
        snprintf(out, ADDR_TEXT_MAX, "unix:%s", path);
    } else {
        snprintf(out, ADDR_TEXT_MAX, "none");
    }
    return out;
}

char *addr_text(const struct addr *a, char *out)
{
    char host[ADDR_TEXT_MAX];
    addr_host(a, host);
    if (a->len && a->sa.sa_family == AF_INET)
        snprintf(out, ADDR_TEXT_MAX, "%.*s:%u", ADDR_TEXT_MAX - 8, host, addr_port(a));
    else if (a->len && a->sa.sa_family == AF_INET6)
        snprintf(out, ADDR_TEXT_MAX, "[%.*s]:%u", ADDR_TEXT_MAX - 10, host, addr_port(a));
    else
        memcpy(out, host, sizeof(host));
    return out;
}

uint16_t addr_port(const struct addr *a)
{
    if (a->len && a->sa.sa_family == AF_INET)
        return ntohs(a->in.sin_port);
    return a->len && a->sa.sa_family == AF_INET6 ? ntohs(a->in6.sin6_port) : 0;
}

void addr_set_port(struct addr *a, uint16_t port)
{
    if (a->len && a->sa.sa_family == AF_INET)
        a->in.sin_port = htons(port);
    else if (a->len && a->sa.sa_family == AF_INET6)
        a->in6.sin6_port = htons(port);
}

bool addr_equal_host(const struct addr *a, const struct addr *b)
{
    if (!a->len || !b->len)
        return a->len == b->len;
    if (a->sa.sa_family != b->sa.sa_family)
        return false;
    switch (a->sa.sa_family) {
    case AF_INET:
        return a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
    case AF_INET6:
        return memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, sizeof(a->in6.sin6_addr)) == 0 &&
               a->in6.sin6_scope_id == b->in6.sin6_scope_id;
    default: {
        char x[ADDR_TEXT_MAX], y[ADDR_TEXT_MAX];
        return strcmp(addr_host(a, x), addr_host(b, y)) == 0;
    }
    }
}

bool addr_equal(const struct addr *a, const struct addr *b)
{
    return addr_equal_host(a, b) && addr_port(a) == addr_port(b);
}

bool addr_is_loopback(const struct addr *a)
{
    struct addr u = *a;
    addr_unmap(&u);
    if (!u.len)
        return false;
    if (u.sa.sa_family == AF_INET)
        return (ntohl(u.in.sin_addr.s_addr) >> 24) == 127;
    if (u.sa.sa_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&u.in6.sin6_addr);
    return u.sa.sa_family == AF_UNIX;
}

void addr_unmap(struct addr *a)
{
    if (!a->len || a->sa.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr))
        return;
    struct addr v4 = {.len = sizeof(v4.in)};
    v4.in.sin_family = AF_INET;
    v4.in.sin_port = a->in6.sin6_port;
    memcpy(&v4.in.sin_addr, a->in6.sin6_addr.s6_addr + 12, 4);
    *a = v4;
}

static bool parse_bits(const char *text, unsigned max, uint8_t *bits)
{
    unsigned n = 0;
    if (!*text || strlen(text) > 3 || (text[0] == '0' && text[1]))
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        n = n * 10 + (unsigned)(*text - '0');
    }
    *bits = (uint8_t)n;
    return n <= max;
}

static bool host_bits_are_zero(const struct cidr *c, unsigned max)
{
    for (unsigned i = c->bits; i < max; i++)
        if (c->bytes[i / 8] & (0x80 >> (i % 8)))
            return false;
    return true;
}

// Splits "[fd00::]/8", "[fd00::/8]" and "fd00::/8" into host and length; *bits stays NULL without one.
static bool split_cidr(char *copy, size_t size, const char *text, const char **host, const char **bits)
{
    size_t len = strlen(text);
    if (len == 0 || len >= size)
        return false;
    memcpy(copy, text, len + 1);
    if (copy[0] == '[' && copy[len - 1] == ']') {
        copy[len - 1] = 0;
        copy++;
    }
    *host = copy;
    *bits = NULL;
    char *slash = strchr(copy, '/');
    if (slash) {
        *slash = 0;
        *bits = slash + 1;
    }
    if (copy[0] != '[')
        return true;
    len = strlen(copy);
    if (copy[len - 1] != ']')
        return false;
    copy[len - 1] = 0;
    *host = copy + 1;
    return true;
}

bool cidr_parse(struct cidr *c, const char *text)
{
    char copy[64];
    const char *host, *bits;
    unsigned max;
    *c = (struct cidr){0};
    if (!split_cidr(copy, sizeof(copy), text, &host, &bits))
        return false;
    if (text[0] != '[' && inet_pton(AF_INET, host, c->bytes) == 1)
        c->family = AF_INET, max = 32;
    else if (inet_pton(AF_INET6, host, c->bytes) == 1)
        c->family = AF_INET6, max = 128;
    else
        return false;
    c->bits = (uint8_t)max;
    if (bits && !parse_bits(bits, max, &c->bits))
        return false;
    return host_bits_are_zero(c, max);
}

bool cidr_has(const struct cidr *c, const struct addr *a)
{
    const uint8_t *bytes;
    if (!a->len || a->sa.sa_family != c->family)
        return false;
    bytes = c->family == AF_INET ? (const uint8_t *)&a->in.sin_addr : a->in6.sin6_addr.s6_addr;
    unsigned whole = c->bits / 8, rest = c->bits % 8;
    if (memcmp(bytes, c->bytes, whole) != 0)
        return false;
    return rest == 0 || ((bytes[whole] ^ c->bytes[whole]) & (0xff00 >> rest) & 0xff) == 0;
}
