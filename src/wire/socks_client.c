// SPDX-License-Identifier: Apache-2.0
#include "wire/socks_client.h"
#include <openssl/crypto.h>
#include <string.h>
#include "core/addr.h"

#define VERSION 5
#define VERSION_4 4
#define LOGIN_VERSION 1
#define METHOD_NONE 0
#define METHOD_LOGIN 2
#define CONNECT 1
#define ATYP_IP4 1
#define ATYP_NAME 3
#define ATYP_IP6 4
#define V4_GRANTED 90

static void put(struct socks_client *c, const void *bytes, size_t len)
{
    memcpy(c->out + c->out_len, bytes, len);
    c->out_len += len;
}

static void put_byte(struct socks_client *c, uint8_t byte) { put(c, &byte, 1); }

static void put_port(struct socks_client *c)
{
    put(c, (uint8_t[]){(uint8_t)(c->port >> 8), (uint8_t)c->port}, 2);
}

static void say_methods(struct socks_client *c)
{
    put(c, (uint8_t[]){VERSION, c->has_login ? 2 : 1, METHOD_NONE}, 3);
    if (c->has_login)
        put_byte(c, METHOD_LOGIN);
    c->state = SOCKS_ASK_METHOD;
}

// SOCKS4 has addresses of IPv4 only; 4a puts 0.0.0.1 there and the name behind the user.
static void say_v4(struct socks_client *c, const char *user)
{
    struct addr ip;
    bool is_ip4 = addr_parse_ip(&ip, c->host, 0) && ip.sa.sa_family == AF_INET;
    put(c, (uint8_t[]){VERSION_4, CONNECT}, 2);
    put_port(c);
    put(c, is_ip4 ? (const void *)&ip.in.sin_addr : (const void *)"\0\0\0\1", 4);
    put(c, user ? user : "", user ? strlen(user) + 1 : 1);
    if (!is_ip4)
        put(c, c->host, strlen(c->host) + 1);
    c->state = SOCKS_ASK_V4;
}

static void say_connect(struct socks_client *c)
{
    struct addr ip;
    put(c, (uint8_t[]){VERSION, CONNECT, 0}, 3);
    if (!addr_parse_ip(&ip, c->host, 0)) {
        put_byte(c, ATYP_NAME);
        put_byte(c, (uint8_t)strlen(c->host));
        put(c, c->host, strlen(c->host));
    } else if (ip.sa.sa_family == AF_INET) {
        put_byte(c, ATYP_IP4);
        put(c, &ip.in.sin_addr, 4);
    } else {
        put_byte(c, ATYP_IP6);
        put(c, &ip.in6.sin6_addr, 16);
    }
    put_port(c);
    c->state = SOCKS_ASK_CONNECT;
}

bool socks_client_init(struct socks_client *c, bool v4, const char *host, uint16_t port, const char *user)
{
    size_t len = strlen(host);
    *c = (struct socks_client){.v4 = v4, .has_login = user != NULL, .port = port, .state = SOCKS_ASK_FAILED};
    if (len == 0 || len > 255 || (user && strlen(user) > 255))
        return false;
    memcpy(c->host, host, len + 1);
    if (v4)
        say_v4(c, user);
    else
        say_methods(c);
    return true;
}

void socks_client_wipe(struct socks_client *c)
{
    OPENSSL_cleanse(c, sizeof(*c));
    c->state = SOCKS_ASK_FAILED;
}

bool socks_client_login(struct socks_client *c, const char *user, const char *password)
{
    size_t user_len = strlen(user), password_len = strlen(password);
    if (c->state != SOCKS_ASK_LOGIN || user_len == 0 || user_len > 255 || password_len > 255)
        return false;
    c->out_len = 0;
    put_byte(c, LOGIN_VERSION);
    put_byte(c, (uint8_t)user_len);
    put(c, user, user_len);
    put_byte(c, (uint8_t)password_len);
    put(c, password, password_len);
    return true;
}

static enum socks_client_event fail(struct socks_client *c, enum socks_problem problem)
{
    c->state = SOCKS_ASK_FAILED;
    c->problem = problem;
    return SOCKS_CLIENT_FAILED;
}

// Bytes of the message in c->in, as far as it can tell yet.
static size_t wanted(const struct socks_client *c)
{
    switch (c->state) {
    case SOCKS_ASK_METHOD:
    case SOCKS_ASK_LOGIN:
        return 2;
    case SOCKS_ASK_V4:
        return 8;
    case SOCKS_ASK_CONNECT:
        if (c->in_len < 5)
            return 5;
        return c->in[3] == ATYP_IP4 ? 10 : c->in[3] == ATYP_IP6 ? 22 : c->in[3] == ATYP_NAME ? (size_t)7 + c->in[4] : 5;
    default:
        return 0;
    }
}

// The first byte tells a stranger at once.
static bool is_foreign(const struct socks_client *c)
{
    switch (c->state) {
    case SOCKS_ASK_LOGIN: // some answer with the protocol's version instead of the negotiation's
        return c->in[0] != LOGIN_VERSION && c->in[0] != VERSION;
    case SOCKS_ASK_V4:
        return c->in[0] != 0 && c->in[0] != VERSION_4; // 0 by the book
    default:
        return c->in[0] != VERSION;
    }
}

static enum socks_client_event method(struct socks_client *c)
{
    switch (c->in[1]) {
    case METHOD_NONE:
        say_connect(c);
        return SOCKS_CLIENT_MORE;
    case METHOD_LOGIN:
        if (!c->has_login)
            return fail(c, SOCKS_WANTS_LOGIN);
        c->state = SOCKS_ASK_LOGIN;
        return SOCKS_CLIENT_LOGIN;
    default:
        return fail(c, c->has_login ? SOCKS_WANTS_OTHER : SOCKS_WANTS_LOGIN);
    }
}

static enum socks_client_event known(struct socks_client *c)
{
    if (c->in[1] != 0)
        return fail(c, SOCKS_LOGIN_REFUSED);
    say_connect(c);
    return SOCKS_CLIENT_KNOWN;
}

static enum socks_client_event reply(struct socks_client *c)
{
    bool v4 = c->state == SOCKS_ASK_V4;
    c->code = c->in[1];
    if (c->code != (v4 ? V4_GRANTED : 0))
        return fail(c, SOCKS_CODE);
    if (!v4 && c->in[3] != ATYP_IP4 && c->in[3] != ATYP_IP6 && c->in[3] != ATYP_NAME)
        return fail(c, SOCKS_BROKEN);
    c->state = SOCKS_ASK_OPEN;
    return SOCKS_CLIENT_OPEN;
}

static enum socks_client_event message(struct socks_client *c)
{
    switch (c->state) {
    case SOCKS_ASK_METHOD:
        return method(c);
    case SOCKS_ASK_LOGIN:
        return known(c);
    default:
        return reply(c);
    }
}

size_t socks_client_feed(struct socks_client *c, const uint8_t *data, size_t len, enum socks_client_event *event)
{
    size_t used = 0;
    OPENSSL_cleanse(c->out, c->out_len);
    c->out_len = 0;
    *event = c->state == SOCKS_ASK_FAILED ? SOCKS_CLIENT_FAILED : SOCKS_CLIENT_MORE;
    for (size_t need; (need = wanted(c)) > c->in_len;) {
        size_t n = need - c->in_len < len - used ? need - c->in_len : len - used;
        if (n == 0)
            return used;
        memcpy(c->in + c->in_len, data + used, n);
        c->in_len += n;
        used += n;
        if (is_foreign(c)) {
            *event = fail(c, SOCKS_NOT_SOCKS);
            return used;
        }
        // a refusal's address is of no interest, and some leave it out
        if (c->state == SOCKS_ASK_CONNECT && c->in_len >= 2 && c->in[1] != 0)
            break;
    }
    if (c->in_len == 0)
        return used;
    *event = message(c);
    c->in_len = 0;
    return used;
}

const char *socks_client_reason(const struct socks_client *c)
{
    static const char *const v5[] = {
        "granted", "general failure", "not allowed by its rules", "network unreachable", "host unreachable",
        "connection refused", "TTL expired", "it does not know CONNECT", "it does not know this kind of address",
    };
    if (c->v4)
        return c->code == 92   ? "it cannot reach identd here"
               : c->code == 93 ? "identd names another user"
                               : "request rejected or failed";
    return c->code < sizeof(v5) / sizeof(v5[0]) ? v5[c->code] : "a code it made up";
}

enum err_why socks_client_why(const struct socks_client *c)
{
    static const enum err_why v5[] = {WHY_NONE,        WHY_REFUSED, WHY_POLICY,  WHY_UNREACHABLE, WHY_UNREACHABLE,
                                      WHY_REFUSED,     WHY_TIMEOUT, WHY_REFUSED, WHY_UNREACHABLE};
    if (c->problem != SOCKS_CODE)
        return c->problem == SOCKS_NOT_SOCKS || c->problem == SOCKS_BROKEN ? WHY_PROTOCOL : WHY_REFUSED;
    return !c->v4 && c->code < sizeof(v5) / sizeof(v5[0]) ? v5[c->code] : WHY_REFUSED;
}
