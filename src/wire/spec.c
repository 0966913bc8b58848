// SPDX-License-Identifier: Apache-2.0
#include "wire/spec.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "wire/scan.h"

#define UDP "/udp"

bool spec_is_name(const char *text)
{
    size_t n = strlen(text);
    if (n == 0 || n > SPEC_NAME_MAX || !isalnum((unsigned char)text[0]))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)text[i]) && !strchr("._-", text[i]))
            return false;
    return true;
}

// Takes "/udp" off the end. Unix paths keep it.
static bool take_udp(const char *at, size_t *len)
{
    size_t n = strlen(UDP);
    if (*len < n || memcmp(at + *len - n, UDP, n) != 0)
        return false;
    *len -= n;
    return true;
}

static int take_name(const struct scan *s, const char *what, const char *at, size_t len, char *name)
{
    if (!scan_copy(name, SPEC_NAME_MAX + 1, at, len) || !spec_is_name(name))
        return scan_fail(s, "the %s \"%.*s\" is no name: 1 to 63 letters, digits, '.', '_', '-'", what,
                         (int)(len < 100 ? len : 100), at);
    return 0;
}

// Reads the ADDR at the front; *used is its length, and what follows it is the end or a ':'.
static int take_addr(const struct scan *s, struct spec_addr *a, const char *at, size_t len, const char *bare,
                     size_t *used)
{
    *a = (struct spec_addr){0};
    if (scan_has_prefix(at, len, "unix:")) {
        size_t n = scan_colon(at + 5, len - 5);
        a->kind = SPEC_UNIX;
        *used = 5 + n;
        return scan_path(s, at + 5, n, a->path);
    }
    size_t first = scan_colon(at, len);
    if (scan_is_digits(at, first)) {
        scan_copy(a->host, sizeof a->host, bare, strlen(bare));
        *used = first;
        return scan_port(s, at, first, true, &a->port);
    }
    if (first == 0)
        return scan_fail(s, len ? "write * to listen on all addresses, and IPv6 addresses in brackets"
                                : "the address to listen on is missing; write [bind:]port or unix:PATH");
    if (first == 1 && at[0] == '*')
        strcpy(a->host, "*");
    else if (scan_host(s, at, first, a->host) < 0)
        return -1;
    if (first == len)
        return scan_fail(s, "\"%.*s\" has no port; write [bind:]port or unix:PATH", (int)first, at);
    size_t second = scan_colon(at + first + 1, len - first - 1);
    *used = first + 1 + second;
    return scan_port(s, at + first + 1, second, true, &a->port);
}

static int take_service(const struct scan *s, struct spec_dest *d, const char *at, size_t len, const char *sign)
{
    size_t n = (size_t)(sign - at);
    d->kind = SPEC_SERVICE;
    if (memchr(at, ':', len))
        return scan_fail(s, "\"%.*s\" is neither host:port nor SERVICE@AGENT; a service has no port", (int)len, at);
    if (take_name(s, "service", at, n, d->service) < 0)
        return -1;
    return take_name(s, "agent", sign + 1, len - n - 1, d->agent);
}

static int take_dest(const struct scan *s, struct spec_dest *d, const char *at, size_t len)
{
    *d = (struct spec_dest){0};
    if (len == 0)
        return scan_fail(s, "the destination is missing; write host:port, unix:PATH or SERVICE@AGENT");
    if (scan_has_prefix(at, len, "unix:")) {
        d->kind = SPEC_UNIX;
        return scan_path(s, at + 5, len - 5, d->path);
    }
    const char *sign = memchr(at, '@', len);
    if (sign)
        return take_service(s, d, at, len, sign);
    size_t n = scan_colon(at, len);
    if (n == len)
        return scan_fail(s, "the destination \"%.*s\" has no port; write host:port, unix:PATH or SERVICE@AGENT",
                         (int)len, at);
    if (scan_colon(at + n + 1, len - n - 1) != len - n - 1)
        return scan_fail(s, "\"%.*s\" has too many colons; write an IPv6 address in brackets", (int)len, at);
    if (scan_host(s, at, n, d->host) < 0)
        return -1;
    return scan_port(s, at + n + 1, len - n - 1, false, &d->port);
}

static int take_dest_udp(const struct scan *s, struct spec_dest *d, bool *udp, const char *at, size_t len)
{
    *udp = !scan_has_prefix(at, len, "unix:") && take_udp(at, &len);
    return take_dest(s, d, at, len);
}

int spec_addr_parse(struct spec_addr *a, const char *text, const char *bare, struct err *e)
{
    struct scan s = {"address", text, e};
    size_t len = strlen(text), used = 0;
    if (take_addr(&s, a, text, len, bare, &used) < 0)
        return -1;
    if (used != len)
        return scan_fail(&s, "\"%.100s\" is too much; write [bind:]port or unix:PATH", text + used);
    return 0;
}

int spec_addr_udp_parse(struct spec_addr *a, bool *udp, const char *text, const char *bare, struct err *e)
{
    struct scan s = {"address", text, e};
    size_t len = strlen(text), used = 0;
    *udp = !scan_has_prefix(text, len, "unix:") && take_udp(text, &len);
    if (take_addr(&s, a, text, len, bare, &used) < 0)
        return -1;
    if (used != len)
        return scan_fail(&s, "\"%.100s\" is too much; write [bind:]port[/udp] or unix:PATH", text + used);
    return 0;
}

int spec_dest_parse(struct spec_dest *d, const char *text, struct err *e)
{
    return take_dest(&(struct scan){"destination", text, e}, d, text, strlen(text));
}

int spec_dest_udp_parse(struct spec_dest *d, bool *udp, const char *text, struct err *e)
{
    return take_dest_udp(&(struct scan){"destination", text, e}, d, udp, text, strlen(text));
}

static int take_forward(const struct scan *s, struct spec_forward *f)
{
    size_t len = strlen(s->text), used;
    *f = (struct spec_forward){0};
    if (take_addr(s, &f->listen, s->text, len, SPEC_LOOPBACK, &used) < 0)
        return -1;
    if (used == len) {
        f->socks = true;
        return 0;
    }
    if (take_dest_udp(s, &f->dest, &f->udp, s->text + used + 1, len - used - 1) < 0)
        return -1;
    if (f->udp && f->listen.kind == SPEC_UNIX)
        return scan_fail(s, "a Unix socket carries streams only; leave out /udp or listen on a port");
    return 0;
}

int spec_local_parse(struct spec_forward *f, const char *text, struct err *e)
{
    struct scan s = {"-L", text, e};
    if (take_forward(&s, f) < 0)
        return -1;
    if (f->socks)
        return scan_fail(&s, "the destination is missing; write ADDR:DEST, as in 8080:localhost:80");
    return 0;
}

int spec_reverse_parse(struct spec_forward *f, const char *text, struct err *e)
{
    struct scan s = {"-R", text, e};
    if (take_forward(&s, f) < 0)
        return -1;
    if (!f->socks && f->dest.kind == SPEC_SERVICE)
        return scan_fail(&s, "a reverse forward comes out here; write its destination as host:port or unix:PATH");
    return 0;
}

int spec_socks_parse(struct spec_forward *f, const char *text, struct err *e)
{
    *f = (struct spec_forward){.socks = true};
    if (spec_addr_parse(&f->listen, text, SPEC_LOOPBACK, e) < 0) {
        err_prefix(e, "-D");
        return -1;
    }
    return 0;
}

int spec_offer_parse(struct spec_offer *o, const char *text, struct err *e)
{
    struct scan s = {"--offer", text, e};
    const char *sign = strchr(text, '=');
    *o = (struct spec_offer){0};
    if (!sign)
        return scan_fail(&s, "write NAME=DEST, as in web=localhost:80");
    if (take_name(&s, "service", text, (size_t)(sign - text), o->name) < 0)
        return -1;
    if (take_dest_udp(&s, &o->dest, &o->udp, sign + 1, strlen(sign + 1)) < 0)
        return -1;
    if (o->dest.kind == SPEC_SERVICE)
        return scan_fail(&s, "a service is offered from a target of this agent; write host:port or unix:PATH");
    return 0;
}

static char *path_text(const char *path, char *out)
{
    char *to = out + sprintf(out, "unix:");
    for (; *path; path++) {
        if (*path == ':' || *path == '%')
            to += sprintf(to, "%%%02X", *path);
        else
            *to++ = *path;
    }
    *to = 0;
    return out;
}

char *spec_addr_text(const struct spec_addr *a, char *out)
{
    if (a->kind == SPEC_UNIX)
        return path_text(a->path, out);
    return scan_host_port_text(out, SPEC_TEXT_MAX, a->host, a->port);
}

char *spec_dest_text(const struct spec_dest *d, char *out)
{
    if (d->kind == SPEC_UNIX)
        return path_text(d->path, out);
    if (d->kind == SPEC_NET)
        return scan_host_port_text(out, SPEC_TEXT_MAX, d->host, d->port);
    snprintf(out, SPEC_TEXT_MAX, "%s@%s", d->service, d->agent);
    return out;
}
