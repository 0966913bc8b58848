// SPDX-License-Identifier: Apache-2.0
// The connect flags.
#include "cmd/connect.h"
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "cmd/command.h"

const struct option connect_options[] = {
    {"relay", 0, "RELAY", OPT_MANY,
     "name[:port] or wss://name[:port][/path]; ws://… only behind a front of your own; several: in order of "
     "preference, the best that answers is used; default: all joined, the one joined last first"},
    {"proxy", 0, "PROXY", OPT_MANY,
     "http|https|h2|socks4a|socks5|socks5h://[user[:password]@]host[:port], pac+URL of a PAC script (http, https, file), or "
     "none; several: a chain, in order; a user without a password: it is asked for at the terminal; default auto: what "
     "culvert conf_proxy saved, then https_proxy, HTTPS_PROXY, all_proxy and no_proxy, then the system's settings and their "
     "PAC script (by libproxy, if it is installed)"},
    {"proxy-login", 0, "FILE", OPT_MANY, "user:password for the proxies, in order, each from a file of mode 0600"},
    {"proxy-auth", 0, "LIST", 0,
     "which ways to authenticate may be used: some of basic,digest,ntlm,negotiate; default all, the strongest offered "
     "first, and basic only over TLS or where nothing else is offered"},
    {"proxy-ca", 0, "FILE", 0, "trust these certificate authorities for https:// proxies and https:// PAC scripts instead of the system's"},
    {"transport", 'T', "LIST", 0,
     "by which of HTTP's means to travel, in order of preference: h1 or h2, WebSocket over HTTP/1.1 or HTTP/2; poll, "
     "long-poll by whole requests; default: all of them"},
    {"ca", 0, "FILE", 0, "trust these certificate authorities for the relay's web certificate instead of the system's"},
    {"outer", 0, "verify|report", 0,
     "whether an untrusted web certificate is refused or only reported; the relay's own key "
     "is checked in any case; default: what the invitation says"},
    {"host", 0, "NAME", 0, "the Host header, and the name the web certificate must be for, instead of the relay URL's"},
    {"sni", 0, "NAME|none", 0,
     "the name in TLS's SNI, and the one the web certificate must be for, instead of the host's; none: no SNI is sent"},
    {"header", 0, "'Name: value'", OPT_MANY | OPT_BLANK, "a further header of the requests to the relay, for fronts that ask for one"},
    {"peel", 0, "auto|never", 0, "whether the inner TLS is taken off where nobody sits in between; default auto"},
    {NULL},
};

static int add_login(const struct option_value *v, struct proxy_url *p, struct err *e)
{
    char text[2 * URL_LOGIN_MAX + 2];
    int rc = secret_read(v->text, text, sizeof text, e);
    char *colon = rc == 0 ? strchr(text, ':') : NULL;
    if (rc == 0 && (!colon || colon - text > URL_LOGIN_MAX || strlen(colon + 1) > URL_LOGIN_MAX))
        rc = err_set(e, ERR_USAGE, WHY_NONE, "%s: holds no user:password", v->place);
    if (rc == 0) {
        p->has_login = p->has_password = true;
        memcpy(p->user, text, (size_t)(colon - text));
        p->user[colon - text] = 0;
        memcpy(p->password, colon + 1, strlen(colon + 1) + 1);
    }
    OPENSSL_cleanse(text, sizeof text);
    return rc;
}

// Whether a person sits at a terminal and this program may ask there.
static bool can_ask(void)
{
    int fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    bool can = fd >= 0 && tcgetpgrp(fd) == getpgrp();
    if (fd >= 0)
        close(fd);
    return can;
}

// A user without a password: it is asked for.
int connect_ask_password(struct proxy_url *p, const char *what, struct err *e)
{
    char where[URL_TEXT_MAX], shown[URL_PAC_MAX + 8], text[2 * URL_TEXT_MAX];
    if (p->kind <= PROXY_PAC || p->kind == PROXY_SOCKS4A || !p->has_login || p->has_password || !can_ask())
        return 0;
    snprintf(text, sizeof text, "Password for %s: ", proxy_url_text(p, shown));
    if (EVP_read_pw_string(p->password, URL_LOGIN_MAX, text, 0) != 0)
        return err_set(e, ERR_USAGE, WHY_NONE, "%s: no password for %s", what, proxy_url_where(p, where));
    p->has_password = true;
    return 0;
}

static int add_proxy(const struct option_value *v, struct connect *out, size_t count, struct err *e)
{
    if (out->c.proxy_count == PAIRING_PROXIES)
        return err_set(e, ERR_USAGE, WHY_NONE, "--proxy: at most %d of them", PAIRING_PROXIES);
    struct proxy_url *p = &out->proxies[out->c.proxy_count];
    if (proxy_url_parse(p, v->text, e) < 0) {
        const char *name =
            v->source == OPTION_FLAG ? "--proxy" : v->place; // a place repeats the text, and its password
        err_prefix(e, "%s", name);
        return -1;
    }
    if (p->kind < PROXY_HTTP && count > 1)
        return err_set(e, ERR_USAGE, WHY_NONE, "--proxy: auto, none and PAC scripts stand alone");
    if (p->kind == PROXY_AUTO || p->kind == PROXY_NONE) {
        out->c.proxy_count = p->kind == PROXY_NONE; // one hop of kind none: direct
        return 0;
    }
    out->c.proxy_count++;
    return 0;
}

static int parse_proxies(const struct options *o, struct connect *out, struct err *e)
{
    size_t count = options_count(o, "proxy"), logins = options_count(o, "proxy-login");
    for (size_t i = 0; i < count; i++)
        if (add_proxy(options_nth(o, "proxy", i), out, count, e) < 0)
            return -1;
    if (logins > out->c.proxy_count)
        return err_set(e, ERR_USAGE, WHY_NONE, "--proxy-login: more logins than --proxy");
    for (size_t i = 0; i < logins; i++)
        if (add_login(options_nth(o, "proxy-login", i), &out->proxies[i], e) < 0)
            return -1;
    for (size_t i = 0; i < out->c.proxy_count; i++)
        if (connect_ask_password(&out->proxies[i], "--proxy", e) < 0)
            return -1;
    return 0;
}

static int parse_relays(const struct options *o, struct connect *out, struct err *e)
{
    size_t count = options_count(o, "relay");
    if (count > AGENT_RELAYS)
        return err_set(e, ERR_USAGE, WHY_NONE, "--relay: at most %d of them", AGENT_RELAYS);
    for (size_t i = 0; i < count; i++) {
        if (relay_url_parse(&out->relays[i], options_nth(o, "relay", i)->text, e) < 0) {
            err_prefix(e, "--relay");
            return -1;
        }
        out->c.relay_count++;
    }
    return 0;
}

// "digest,negotiate" → bits.
static int parse_schemes(const struct options *o, unsigned *bits, struct err *e)
{
    static const char *const names[] = {"basic", "ntlm", "digest", "negotiate"};
    const char *at = options_get(o, "proxy-auth");
    *bits = 0;
    while (at && *at) {
        size_t len = strcspn(at, ","), i = 0;
        while (i < 4 && !(strlen(names[i]) == len && strncmp(names[i], at, len) == 0))
            i++;
        if (i == 4)
            return err_set(e, ERR_USAGE, WHY_NONE, "--proxy-auth: \"%.*s\" is none of basic, digest, ntlm and negotiate",
                           (int)(len < 40 ? len : 40), at);
        *bits |= 1u << i;
        at += len + (at[len] == ',');
    }
    return 0;
}

// A name that can stand in Host and SNI; with a port where that makes sense.
static int parse_name(const struct options *o, const char *option, const char **out, struct err *e)
{
    const char *text = options_get(o, option);
    *out = text;
    if (text && (!*text || strlen(text) > URL_HOST_MAX ||
                 text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:[]")]))
        return options_bad(options_nth(o, option, 0), e, "\"%.60s\" is no host name", text);
    return 0;
}

// What a WebSocket's request says itself is not for a person to say again.
static int parse_header(const struct option_value *v, struct err *e)
{
    static const char *const own[] = {"Host", "Upgrade", "Connection", "Content-Length", "Transfer-Encoding",
                                      "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol",
                                      "Sec-WebSocket-Extensions"};
    size_t n = strcspn(v->text, ":");
    if (!v->text[n] || n == 0 || strpbrk(v->text, "\r\n") || memchr(v->text, ' ', n) || memchr(v->text, '\t', n))
        return options_bad(v, e, "write it as 'Name: value'");
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (strlen(own[i]) == n && strncasecmp(own[i], v->text, n) == 0)
            return options_bad(v, e, "%s is set by the program%s", own[i], i == 0 ? "; say --host NAME" : "");
    return 0;
}

static int parse_request(const struct options *o, struct connect *out, struct err *e)
{
    size_t count = options_count(o, "header");
    if (count > CONNECT_HEADERS)
        return err_set(e, ERR_USAGE, WHY_NONE, "--header: at most %d of them", CONNECT_HEADERS);
    for (size_t i = 0; i < count; i++) {
        const struct option_value *v = options_nth(o, "header", i);
        if (parse_header(v, e) < 0)
            return -1;
        out->headers[i] = v->text;
    }
    out->c.headers = out->headers;
    out->c.header_count = count;
    if (parse_name(o, "host", &out->c.host, e) < 0 || parse_name(o, "sni", &out->c.sni, e) < 0)
        return -1;
    if (out->c.sni && strcmp(out->c.sni, "none") == 0)
        out->c.sni = "";
    return 0;
}

static int parse_transports(const struct options *o, struct connect *out, struct err *e)
{
    const char *list = options_get(o, "transport");
    if (!list || transport_parse(&out->c.transports, list, e) == 0)
        return 0;
    err_prefix(e, "--transport");
    return -1;
}

int connect_parse(const struct options *o, struct connect *out, struct err *e)
{
    static const char *const outer[] = {"verify", "report", NULL}, *const peel[] = {"auto", "never", NULL};
    unsigned which_outer = 2, which_peel = 0, schemes;
    *out = (struct connect){0};
    if (parse_request(o, out, e) < 0 || parse_transports(o, out, e) < 0 ||
        parse_schemes(o, &schemes, e) < 0 || parse_relays(o, out, e) < 0 || parse_proxies(o, out, e) < 0 ||
        options_word(o, "outer", outer, &which_outer, e) < 0 || options_word(o, "peel", peel, &which_peel, e) < 0)
        return -1;
    proxy_kit_init(&out->kit, options_get(o, "proxy-ca"), schemes);
    out->c.proxy_kit = &out->kit;
    out->c.relays = out->relays;
    out->c.proxies = out->proxies;
    out->c.ca_file = options_get(o, "ca");
    out->c.outer = which_outer == 2 ? AGENT_OUTER_DEFAULT : which_outer == 1 ? AGENT_OUTER_REPORT : AGENT_OUTER_VERIFY;
    out->c.peel_never = which_peel == 1;
    return 0;
}

void connect_fini(struct connect *c)
{
    for (size_t i = 0; i < PAIRING_PROXIES; i++)
        proxy_url_wipe(&c->proxies[i]);
    proxy_kit_fini(&c->kit);
}
