// SPDX-License-Identifier: Apache-2.0
#include "wire/socks.h"
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include "wire/scan.h"

#define VERSION 5
#define LOGIN_VERSION 1
#define METHOD_NONE 0
#define METHOD_LOGIN 2
#define METHOD_REFUSED 0xff
#define ATYP_IP4 1
#define ATYP_NAME 3
#define ATYP_IP6 4

void socks_init(struct socks *s, bool want_login)
{
    *s = (struct socks){.state = SOCKS_GREETING, .want_login = want_login};
}

void socks_wipe(struct socks *s)
{
    OPENSSL_cleanse(s, sizeof *s);
    s->state = SOCKS_FAILED;
}

static void say(struct socks *s, const uint8_t *bytes, size_t len)
{
    memcpy(s->out, bytes, len);
    s->out_len = len;
}

static enum socks_event refuse(struct socks *s)
{
    s->state = SOCKS_FAILED;
    return SOCKS_REFUSED;
}

// Bytes that the message in s->in has in all, as far as it can tell yet: always at least one more than are there, or
// the whole length.
static size_t wanted(const struct socks *s)
{
    const uint8_t *in = s->in;
    size_t have = s->in_len;
    switch (s->state) {
    case SOCKS_GREETING:
        return have < 2 ? 2 : (size_t)2 + in[1];
    case SOCKS_LOGIN:
        if (have < 2)
            return 2;
        return have < (size_t)3 + in[1] ? (size_t)3 + in[1] : (size_t)3 + in[1] + in[2 + in[1]];
    case SOCKS_REQUEST:
        if (have < 5)
            return 5;
        return in[3] == ATYP_IP4 ? 10 : in[3] == ATYP_IP6 ? 22 : in[3] == ATYP_NAME ? (size_t)7 + in[4] : 5;
    default:
        return 0;
    }
}

static enum socks_event greeting(struct socks *s)
{
    uint8_t method = s->want_login ? METHOD_LOGIN : METHOD_NONE;
    if (s->in[0] != VERSION)
        return refuse(s); // SOCKS4, HTTP …: nothing it would understand
    if (s->in_len == 2 || !memchr(s->in + 2, method, s->in_len - 2))
        method = METHOD_REFUSED;
    say(s, (uint8_t[]){VERSION, method}, 2);
    if (method == METHOD_REFUSED)
        return refuse(s);
    s->state = s->want_login ? SOCKS_LOGIN : SOCKS_REQUEST;
    return SOCKS_MORE;
}

static enum socks_event login(struct socks *s)
{
    const uint8_t *in = s->in;
    if (in[0] != LOGIN_VERSION || in[1] == 0)
        return refuse(s);
    s->user_len = in[1];
    memcpy(s->user, in + 2, s->user_len);
    s->user[s->user_len] = 0;
    s->password_len = in[2 + in[1]];
    memcpy(s->password, in + 3 + in[1], s->password_len);
    s->password[s->password_len] = 0;
    OPENSSL_cleanse(s->in, sizeof s->in);
    s->state = SOCKS_LOGIN_WAIT;
    return SOCKS_ASK;
}

enum socks_event socks_login(struct socks *s, bool ok)
{
    OPENSSL_cleanse(s->user, sizeof s->user);
    OPENSSL_cleanse(s->password, sizeof s->password);
    s->user_len = s->password_len = 0;
    if (s->state != SOCKS_LOGIN_WAIT)
        return refuse(s);
    say(s, (uint8_t[]){LOGIN_VERSION, !ok}, 2);
    if (!ok)
        return refuse(s);
    s->state = SOCKS_REQUEST;
    return SOCKS_MORE;
}

// ATYP, address and port at `at`, all of whose `len` bytes are there. Returns their length, 0 when it is none.
static size_t take_dest(struct socks_dest *d, const uint8_t *at, size_t len)
{
    struct addr a = {0};
    size_t n;
    if (len < 2)
        return 0;
    *d = (struct socks_dest){.is_name = at[0] == ATYP_NAME};
    n = at[0] == ATYP_IP4 ? 4 : at[0] == ATYP_IP6 ? 16 : at[0] == ATYP_NAME ? at[1] : 0;
    size_t head = d->is_name ? 2 : 1;
    if (n == 0 || len - head < n || len - head - n < 2)
        return 0;
    if (d->is_name) {
        if (!scan_asked_host((const char *)at + head, n, d->host))
            return 0;
    } else {
        a.sa.sa_family = n == 4 ? AF_INET : AF_INET6;
        a.len = n == 4 ? sizeof a.in : sizeof a.in6;
        memcpy(n == 4 ? (void *)&a.in.sin_addr : (void *)&a.in6.sin6_addr, at + head, n);
        char text[ADDR_TEXT_MAX];
        snprintf(d->host, sizeof d->host, "%s", addr_host(&a, text));
    }
    d->port = (uint16_t)(at[head + n] << 8 | at[head + n + 1]);
    return head + n + 2;
}

static enum socks_event refuse_request(struct socks *s, enum socks_code code)
{
    socks_reply(s, code, NULL);
    return refuse(s);
}

static enum socks_event request(struct socks *s)
{
    const uint8_t *in = s->in;
    if (in[0] != VERSION)
        return refuse(s);
    if (in[3] != ATYP_IP4 && in[3] != ATYP_IP6 && in[3] != ATYP_NAME)
        return refuse_request(s, SOCKS_NO_ADDRESS_TYPE);
    if (in[1] != SOCKS_CONNECT && in[1] != SOCKS_UDP)
        return refuse_request(s, SOCKS_NO_COMMAND);
    if (!take_dest(&s->dest, in + 3, s->in_len - 3))
        return refuse_request(s, SOCKS_GENERAL);
    s->command = (enum socks_command)in[1];
    if (s->command == SOCKS_CONNECT && s->dest.port == 0)
        return refuse_request(s, SOCKS_CONN_REFUSED);
    s->state = SOCKS_REQUEST_WAIT;
    return SOCKS_ASKED;
}

static enum socks_event message(struct socks *s)
{
    enum socks_event event = s->state == SOCKS_GREETING ? greeting(s) : s->state == SOCKS_LOGIN ? login(s) : request(s);
    s->in_len = 0;
    return event;
}

// The first byte tells a stranger at once; nobody waits for the rest of what will never be a message.
static bool is_foreign(const struct socks *s)
{
    return s->in_len && s->in[0] != (s->state == SOCKS_LOGIN ? LOGIN_VERSION : VERSION);
}

size_t socks_feed(struct socks *s, const uint8_t *data, size_t len, enum socks_event *event)
{
    size_t used = 0;
    s->out_len = 0;
    *event = SOCKS_MORE;
    if (s->state != SOCKS_GREETING && s->state != SOCKS_LOGIN && s->state != SOCKS_REQUEST) {
        if (s->state == SOCKS_FAILED)
            *event = SOCKS_REFUSED;
        return 0;
    }
    for (size_t need; (need = wanted(s)) > s->in_len;) {
        size_t n = need - s->in_len < len - used ? need - s->in_len : len - used;
        if (n == 0)
            return used;
        memcpy(s->in + s->in_len, data + used, n);
        s->in_len += n;
        used += n;
        if (is_foreign(s)) {
            *event = refuse(s);
            return used;
        }
    }
    *event = message(s);
    return used;
}

// ATYP, address, port; returns the length.
static size_t put_addr(uint8_t *out, const struct addr *a)
{
    struct addr plain = a ? *a : (struct addr){0};
    addr_unmap(&plain);
    uint16_t port = addr_port(&plain);
    bool is_ip6 = plain.len && plain.sa.sa_family == AF_INET6;
    size_t n = is_ip6 ? 16 : 4;
    out[0] = is_ip6 ? ATYP_IP6 : ATYP_IP4;
    memset(out + 1, 0, n);
    if (is_ip6)
        memcpy(out + 1, &plain.in6.sin6_addr, 16);
    else if (plain.len && plain.sa.sa_family == AF_INET)
        memcpy(out + 1, &plain.in.sin_addr, 4);
    out[1 + n] = (uint8_t)(port >> 8);
    out[2 + n] = (uint8_t)port;
    return n + 3;
}

void socks_reply(struct socks *s, enum socks_code code, const struct addr *bound)
{
    s->out[0] = VERSION;
    s->out[1] = (uint8_t)code;
    s->out[2] = 0;
    s->out_len = 3 + put_addr(s->out + 3, bound);
    s->state = code == SOCKS_OK ? SOCKS_DONE : SOCKS_FAILED;
}

enum socks_code socks_code(enum err_why why)
{
    switch (why) {
    case WHY_NONE:
        return SOCKS_OK;
    case WHY_REFUSED:
        return SOCKS_CONN_REFUSED;
    case WHY_UNREACHABLE:
    case WHY_DNS:
    case WHY_ABSENT:
        return SOCKS_HOST_UNREACHABLE;
    case WHY_TIMEOUT:
        return SOCKS_TTL;
    case WHY_POLICY:
        return SOCKS_DENIED;
    default:
        return SOCKS_GENERAL;
    }
}

bool socks_udp_parse(const uint8_t *data, size_t len, struct socks_dest *dest, size_t *used)
{
    if (len < 4 || data[0] || data[1] || data[2])
        return false;
    size_t n = take_dest(dest, data + 3, len - 3);
    if (n == 0 || dest->port == 0)
        return false;
    *used = 3 + n;
    return true;
}

size_t socks_udp_head(uint8_t *out, const struct addr *from)
{
    memset(out, 0, 3);
    return 3 + put_addr(out + 3, from);
}
