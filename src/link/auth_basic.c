// SPDX-License-Identifier: Apache-2.0
// Basic (RFC 7617).
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "link/auth_inside.h"

static bool take(struct auth *a, const struct challenge *c, const char **why) { return true; }

static enum link_status answer(struct auth *a, const char *target, struct err *e)
{
    char *pair, *value;
    int len = asprintf(&pair, "%s:%s", a->login->user, a->login->password);
    if (len < 0)
        abort();
    value = malloc(6 + (size_t)len / 3 * 4 + 5);
    if (!value)
        abort();
    memcpy(value, "Basic ", 6);
    EVP_EncodeBlock((uint8_t *)value + 6, (uint8_t *)pair, len);
    auth_wipe(&pair);
    auth_set_value(a, value);
    a->presented = true;
    return LINK_OK;
}

static bool more(struct auth *a, const struct challenge *c) { return false; }

const struct auth_scheme auth_basic = {
    .name = "Basic",
    .bit = AUTH_BASIC,
    .needs_login = true,
    .take = take,
    .answer = answer,
    .more = more,
};
