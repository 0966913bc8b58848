// SPDX-License-Identifier: Apache-2.0
#include "wire/proxyproto.h"
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_1 107 // of version 1, with its CRLF
#define HEAD_2 16

static const uint8_t signature[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

static enum http_result bad(const char **why, const char *what)
{
    *why = what;
    return HTTP_BAD;
}

// --- version 1: "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", "PROXY UNKNOWN…\r\n"

static bool take_word(char **at, char **word)
{
    char *space = strchr(*at, ' ');
    *word = *at;
    if (space)
        *space = 0;
    *at = space ? space + 1 : *at + strlen(*at);
    return **word != 0;
}

static bool take_port(const char *text, uint16_t *port)
{
    unsigned n = 0;
    size_t len = strlen(text);
    if (len == 0 || len > 5 || strspn(text, "0123456789") != len || (text[0] == '0' && len > 1))
        return false;
    n = (unsigned)strtoul(text, NULL, 10);
    *port = (uint16_t)n;
    return n <= 65535;
}

static bool take_address(struct addr *a, const char *host, const char *port_text, int family)
{
    uint16_t port;
    return take_port(port_text, &port) && host[0] != '[' && addr_parse_ip(a, host, port) && a->sa.sa_family == family;
}

static bool parse_line(struct proxyproto *p, char *line)
{
    char *word[6];
    if (strncmp(line, "PROXY UNKNOWN", 13) == 0)
        return line[13] == 0 || line[13] == ' ';
    for (int i = 0; i < 6; i++)
        if (!take_word(&line, &word[i]))
            return false;
    int family = strcmp(word[1], "TCP4") == 0 ? AF_INET : strcmp(word[1], "TCP6") == 0 ? AF_INET6 : AF_UNSPEC;
    return *line == 0 && family != AF_UNSPEC && take_address(&p->from, word[2], word[4], family) &&
           take_address(&p->to, word[3], word[5], family);
}

static enum http_result parse_1(struct proxyproto *p, const uint8_t *data, size_t len, size_t *used, const char **why)
{
    char line[LINE_MAX_1 + 1];
    size_t limit = len < LINE_MAX_1 ? len : LINE_MAX_1;
    const uint8_t *end = memchr(data, '\n', limit);
    if (!end && limit < LINE_MAX_1)
        return memchr(data, 0, limit) ? bad(why, "a NUL in the PROXY line") : HTTP_MORE;
    size_t n = end ? (size_t)(end - data) : 0;
    if (n < 1 || data[n - 1] != '\r')
        return bad(why, "a PROXY line without its end");
    memcpy(line, data, n - 1);
    line[n - 1] = 0;
    *used = n + 1;
    if (strlen(line) != n - 1 || !parse_line(p, line)) {
        *p = (struct proxyproto){0};
        return bad(why, "a bad PROXY line");
    }
    return HTTP_OK;
}

// --- version 2: signature, version and command, family, length, addresses, extensions

static void set_v4(struct addr *a, const uint8_t *host, const uint8_t *port)
{
    *a = (struct addr){.len = sizeof(a->in)};
    a->in.sin_family = AF_INET;
    memcpy(&a->in.sin_addr, host, 4);
    memcpy(&a->in.sin_port, port, 2);
}

static void set_v6(struct addr *a, const uint8_t *host, const uint8_t *port)
{
    *a = (struct addr){.len = sizeof(a->in6)};
    a->in6.sin6_family = AF_INET6;
    memcpy(&a->in6.sin6_addr, host, 16);
    memcpy(&a->in6.sin6_port, port, 2);
    addr_unmap(a);
}

static enum http_result parse_2(struct proxyproto *p, const uint8_t *data, size_t len, size_t *used, const char **why)
{
    if (len < HEAD_2)
        return HTTP_MORE;
    size_t size = (size_t)data[14] << 8 | data[15];
    const uint8_t *at = data + HEAD_2;
    if (data[12] >> 4 != 2 || (data[12] & 15) > 1)
        return bad(why, "a PROXY header of another version");
    if (size > PROXYPROTO_MAX - HEAD_2)
        return bad(why, "a PROXY header that is too long");
    bool v4 = data[13] == 0x11, v6 = data[13] == 0x21, local = (data[12] & 15) == 0;
    if (!local && ((v4 && size < 12) || (v6 && size < 36)))
        return bad(why, "a PROXY header without its addresses");
    if (len < HEAD_2 + size)
        return HTTP_MORE;
    *used = HEAD_2 + size;
    if (v4 && !local) {
        set_v4(&p->from, at, at + 8);
        set_v4(&p->to, at + 4, at + 10);
    } else if (v6 && !local) {
        set_v6(&p->from, at, at + 32);
        set_v6(&p->to, at + 16, at + 34);
    }
    return HTTP_OK; // local, unspecified, datagrams, Unix sockets: the connection's own addresses hold
}

enum http_result proxyproto_parse(struct proxyproto *p, const uint8_t *data, size_t len, size_t *used, const char **why)
{
    static const char word[] = "PROXY ";
    size_t n = len < sizeof(signature) ? len : sizeof(signature), m = len < 6 ? len : 6;
    *p = (struct proxyproto){0};
    *used = 0;
    if (memcmp(data, signature, n) == 0)
        return parse_2(p, data, len, used, why);
    if (memcmp(data, word, m) == 0)
        return m < 6 ? HTTP_MORE : parse_1(p, data, len, used, why);
    return bad(why, "no PROXY header");
}
