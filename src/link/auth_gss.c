// SPDX-License-Identifier: Apache-2.0
// Negotiate (RFC 4559) and NTLM: both authenticate a connection, in legs, by GSSAPI.
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "link/auth_inside.h"
#include "link/gss.h"

struct state {
    struct gss *gss;
    uint8_t *in; // the proxy's token
    size_t in_len;
    bool stepped; // the step that began is the one that is asked for
};

static bool take(struct auth *a, const struct challenge *c, const char **why) { return true; }

static void reset(struct auth *a)
{
    struct state *s = a->state;
    if (!s)
        return;
    gss_free(s->gss);
    free(s->in);
    free(s);
    a->state = NULL;
}

static void on_done(void *ctx)
{
    struct auth *a = ctx;
    if (a->link)
        link_wake(a->link);
}

static void begin(struct auth *a)
{
    bool ntlm = a->scheme->bit == AUTH_NTLM;
    struct state *s = a->state = calloc(1, sizeof(*s));
    if (!s)
        abort();
    s->gss = gss_new(a->w, ntlm, a->host, ntlm ? a->login->user : NULL, ntlm ? a->login->password : NULL);
}

static enum link_status answer(struct auth *a, const char *target, struct err *e)
{
    char *value;
    if (!a->state)
        begin(a);
    struct state *s = a->state;
    if (!s->stepped) {
        s->stepped = true;
        gss_step(s->gss, s->in, s->in_len, on_done, a);
    }
    if (gss_is_busy(s->gss))
        return LINK_AGAIN;
    const char *token = gss_token(s->gss);
    if (!token) {
        err_set(e, ERR_UNREACHED, WHY_POLICY, "%s", gss_error(s->gss));
        return LINK_FAILED;
    }
    if (asprintf(&value, "%s %s", a->scheme->name, token) < 0)
        abort();
    auth_set_value(a, value);
    a->presented = s->in != NULL; // NTLM's first token holds nothing secret
    s->stepped = false;
    return LINK_OK;
}

// The next leg has a token; a challenge without one is a refusal.
static bool more(struct auth *a, const struct challenge *c)
{
    struct state *s = a->state;
    size_t len = c->token.len;
    if (!s || len == 0 || len % 4 != 0)
        return false;
    free(s->in);
    s->in = malloc(len / 4 * 3);
    if (!s->in)
        abort();
    int n = EVP_DecodeBlock(s->in, (const uint8_t *)c->token.at, (int)len);
    for (size_t i = len; n > 0 && i > 0 && c->token.at[i - 1] == '='; i--)
        n--;
    s->in_len = n > 0 ? (size_t)n : 0;
    return n > 0;
}

const struct auth_scheme auth_negotiate = {
    .name = "Negotiate",
    .bit = AUTH_NEGOTIATE,
    .connection = true,
    .take = take,
    .answer = answer,
    .more = more,
    .reset = reset,
};

const struct auth_scheme auth_ntlm = {
    .name = "NTLM",
    .bit = AUTH_NTLM,
    .needs_login = true,
    .connection = true,
    .take = take,
    .answer = answer,
    .more = more,
    .reset = reset,
};
