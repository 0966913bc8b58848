// SPDX-License-Identifier: Apache-2.0
// Digest (RFC 7616). Of several challenges SHA-256 is taken before MD5.
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "link/auth_inside.h"
#include "wire/digest.h"

struct state {
    struct digest digest;
    char cnonce[33];
    uint32_t nc;
};

static void new_nonce(struct auth *a, struct state *s, const struct digest *d)
{
    uint8_t random[16];
    worker_random(a->w, random, sizeof(random));
    for (size_t i = 0; i < sizeof(random); i++)
        snprintf(s->cnonce + 2 * i, 3, "%02x", random[i]);
    s->digest = *d;
    s->nc = 0;
}

static bool take(struct auth *a, const struct challenge *c, const char **why)
{
    struct state *s = a->state;
    struct digest d;
    if (!digest_parse(&d, c)) {
        *why = "its Digest is of a kind that is not known here";
        return false;
    }
    if (s && (s->digest.sha256 || !d.sha256))
        return true; // the better one is there already
    if (!s && !(s = a->state = calloc(1, sizeof(*s))))
        abort();
    new_nonce(a, s, &d);
    return true;
}

static enum link_status answer(struct auth *a, const char *target, struct err *e)
{
    struct state *s = a->state;
    char *value = malloc(DIGEST_ANSWER_MAX);
    if (!value)
        abort();
    struct digest_ask ask = {.user = a->login->user, .password = a->login->password, .method = "CONNECT", .uri = target,
                             .cnonce = s->cnonce, .nc = ++s->nc};
    if (!digest_answer(&s->digest, &ask, value)) {
        free(value);
        err_set(e, ERR_UNREACHED, WHY_INTERNAL, "its Digest challenge cannot be answered here");
        return LINK_FAILED;
    }
    auth_set_value(a, value);
    a->presented = true;
    return LINK_OK;
}

// Only a nonce that has become old: the password was right.
static bool more(struct auth *a, const struct challenge *c)
{
    struct state *s = a->state;
    struct digest d;
    if (!digest_parse(&d, c) || d.sha256 != s->digest.sha256 || !d.stale || strcmp(d.nonce, s->digest.nonce) == 0)
        return false;
    new_nonce(a, s, &d);
    return true;
}

const struct auth_scheme auth_digest = {
    .name = "Digest",
    .bit = AUTH_DIGEST,
    .needs_login = true,
    .take = take,
    .answer = answer,
    .more = more,
};
