// SPDX-License-Identifier: Apache-2.0
#include "wire/scan.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

int scan_fail(const struct scan *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    err_vset(s->e, ERR_USAGE, WHY_NONE, fmt, ap);
    va_end(ap);
    if (s->text)
        err_prefix(s->e, "%s \"%.200s\"", s->what, s->text);
    else
        err_prefix(s->e, "%s", s->what);
    return -1;
}

size_t scan_colon(const char *at, size_t len)
{
    bool bracket = false;
    for (size_t i = 0; i < len; i++) {
        if (at[i] == '[')
            bracket = true;
        else if (at[i] == ']')
            bracket = false;
        else if (at[i] == ':' && !bracket)
            return i;
    }
    return len;
}

bool scan_is_digits(const char *at, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (at[i] < '0' || at[i] > '9')
            return false;
    return len > 0;
}

bool scan_copy(char *out, size_t size, const char *at, size_t len)
{
    if (len >= size)
        return false;
    memcpy(out, at, len);
    out[len] = 0;
    return true;
}

static bool is_ip6(const char *at, size_t len)
{
    struct in6_addr ip;
    char text[80];
    if (!scan_copy(text, sizeof text, at, len))
        return false;
    char *scope = strchr(text, '%'); // the scope of a link-local address; what it names is the resolver's matter
    if (scope)
        *scope = 0;
    bool good = inet_pton(AF_INET6, text, &ip) == 1 && (!scope || (scope[1] && strlen(scope + 1) < 16));
    for (const char *c = scope ? scope + 1 : ""; *c; c++)
        good = good && (isalnum((unsigned char)*c) || strchr("-_.", *c));
    return good;
}

static int scan_ip6(const struct scan *s, const char *at, size_t len, char *host)
{
    if (len < 2 || at[len - 1] != ']')
        return scan_fail(s, "\"%.*s\" is no IPv6 address in brackets; write [2001:db8::1]", (int)len, at);
    if (!is_ip6(at + 1, len - 2))
        return scan_fail(s, "\"%.*s\" is no IPv6 address; write [2001:db8::1]", (int)len, at);
    scan_copy(host, 256, at + 1, len - 2);
    return 0;
}

bool scan_asked_host(const char *at, size_t len, char *host)
{
    bool bracketed = len > 2 && at[0] == '[' && at[len - 1] == ']';
    if (bracketed)
        at++, len -= 2;
    if (len == 0 || memchr(at, 0, len) || !scan_copy(host, 256, at, len))
        return false;
    if (bracketed || memchr(at, ':', len))
        return is_ip6(at, len);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)at[i] <= ' ' || at[i] == 0x7f || strchr("/@?#\\\"<>[]", at[i]))
            return false;
    return true;
}

int scan_host(const struct scan *s, const char *at, size_t len, char *host)
{
    if (len == 0)
        return scan_fail(s, "the host is missing; write a name, an IPv4 address, or an [IPv6] address");
    if (at[0] == '[')
        return scan_ip6(s, at, len, host);
    if (len > 253 + 1) // one final dot
        return scan_fail(s, "the host name is longer than 253 characters");
    size_t label = 0;
    for (size_t i = 0; i < len; i++) {
        char c = at[i];
        if ((unsigned char)c >= 0x80)
            return scan_fail(s, "write the host name \"%.*s\" in its ASCII form (xn--…)", (int)len, at);
        if (c == ':')
            return scan_fail(s, "write an IPv6 address in brackets, as in [2001:db8::1]");
        if (!isalnum((unsigned char)c) && !strchr("-_.", c))
            return scan_fail(s, "a host name cannot contain '%c'", isprint((unsigned char)c) ? c : '?');
        label = c == '.' ? 0 : label + 1;
        if (label > 63 || (c == '.' && (i == 0 || at[i - 1] == '.')))
            return scan_fail(s, "\"%.*s\" is no host name: each part has 1 to 63 characters", (int)len, at);
    }
    scan_copy(host, 256, at, len);
    return 0;
}

int scan_port(const struct scan *s, const char *at, size_t len, bool zero, uint16_t *port)
{
    unsigned long v = 0;
    if (len == 0)
        return scan_fail(s, "the port is missing; write host:port");
    if (!scan_is_digits(at, len))
        return scan_fail(s, "\"%.*s\" is no port number", (int)(len < 100 ? len : 100), at);
    for (size_t i = 0; i < len && v <= 65535; i++)
        v = v * 10 + (unsigned long)(at[i] - '0');
    if (v > 65535 || (v == 0 && !zero))
        return scan_fail(s, "port %.*s is out of range; ports go from %d to 65535", (int)(len < 100 ? len : 100), at,
                         zero ? 0 : 1);
    *port = (uint16_t)v;
    return 0;
}

int scan_path(const struct scan *s, const char *at, size_t len, char *path)
{
    size_t n = 0;
    if (len == 0 || at[0] != '/')
        return scan_fail(s, "write the whole path of a Unix socket, as in unix:/run/app.sock");
    for (size_t i = 0; i < len; i++) {
        char c = at[i];
        if (c == ':')
            return scan_fail(s, "write a colon in a Unix path as %%3A");
        if ((unsigned char)c < ' ' || c == 0x7f)
            return scan_fail(s, "the path of a Unix socket has no control characters here");
        if (c == '%' && len - i >= 3 && strncasecmp(at + i, "%3A", 3) == 0)
            c = ':', i += 2;
        else if (c == '%' && len - i >= 3 && strncmp(at + i, "%25", 3) == 0)
            i += 2;
        if (n == 107)
            return scan_fail(s, "the path of a Unix socket has at most 107 bytes");
        path[n++] = c;
    }
    path[n] = 0;
    return 0;
}

bool scan_has_prefix(const char *at, size_t len, const char *prefix)
{
    size_t n = strlen(prefix);
    return len >= n && strncasecmp(at, prefix, n) == 0;
}

char *scan_host_port_text(char *out, size_t size, const char *host, uint16_t port)
{
    snprintf(out, size, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
    return out;
}
