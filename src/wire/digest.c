// SPDX-License-Identifier: Apache-2.0
#include "wire/digest.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define HEX_MAX 65

bool digest_parse(struct digest *d, const struct challenge *c)
{
    char text[64];
    *d = (struct digest){0};
    if (!challenge_get(c, "realm", d->realm, sizeof(d->realm)) || !challenge_get(c, "nonce", d->nonce, sizeof(d->nonce)))
        return false;
    d->has_opaque = challenge_get(c, "opaque", d->opaque, sizeof(d->opaque));
    if (challenge_get(c, "algorithm", text, sizeof(text))) {
        size_t n = strlen(text);
        d->sess = n > 5 && strcasecmp(text + n - 5, "-sess") == 0;
        n -= d->sess ? 5 : 0;
        d->sha256 = n == 7 && strncasecmp(text, "SHA-256", n) == 0;
        if (!d->sha256 && !(n == 3 && strncasecmp(text, "MD5", n) == 0))
            return false;
        snprintf(d->algorithm, sizeof(d->algorithm), "%.15s", text);
    }
    if (challenge_get(c, "qop", text, sizeof(text))) {
        struct http_head list = {.count = 1, .headers = {{{"qop", 3}, {text, strlen(text)}}}};
        d->qop = http_has_token(&list, "qop", "auth");
        if (!d->qop)
            return false; // auth-int: the body of a tunnel has no end
    }
    if (d->sess && !d->qop)
        return false;
    d->stale = challenge_get(c, "stale", text, sizeof(text)) && strcasecmp(text, "true") == 0;
    d->userhash = challenge_get(c, "userhash", text, sizeof(text)) && strcasecmp(text, "true") == 0;
    return true;
}

// The hash of the strings with colons between them, NULL-ended, in hex.
static bool hash(const struct digest *d, char hex[HEX_MAX], ...)
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    va_list ap;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = ctx && EVP_DigestInit_ex(ctx, d->sha256 ? EVP_sha256() : EVP_md5(), NULL) == 1;
    va_start(ap, hex);
    const char *part = va_arg(ap, const char *);
    for (bool first = true; good && part; part = va_arg(ap, const char *), first = false)
        good = (first || EVP_DigestUpdate(ctx, ":", 1) == 1) && EVP_DigestUpdate(ctx, part, strlen(part)) == 1;
    va_end(ap);
    good = good && EVP_DigestFinal_ex(ctx, sum, &len) == 1 && len * 2 < HEX_MAX;
    EVP_MD_CTX_free(ctx);
    for (unsigned i = 0; good && i < len; i++)
        snprintf(hex + 2 * i, 3, "%02x", sum[i]);
    OPENSSL_cleanse(sum, sizeof(sum));
    return good;
}

static bool respond(const struct digest *d, const struct digest_ask *a, const char *nc, char response[HEX_MAX])
{
    char a1[HEX_MAX], a2[HEX_MAX];
    bool good = hash(d, a1, a->user, d->realm, a->password, NULL) &&
                (!d->sess || hash(d, a1, a1, d->nonce, a->cnonce, NULL)) && hash(d, a2, a->method, a->uri, NULL) &&
                (d->qop ? hash(d, response, a1, d->nonce, nc, a->cnonce, "auth", a2, NULL)
                        : hash(d, response, a1, d->nonce, a2, NULL));
    OPENSSL_cleanse(a1, sizeof(a1));
    return good;
}

struct text {
    char *out;
    size_t len;
    bool full;
};

static void add(struct text *t, const char *piece, size_t len)
{
    if (len >= DIGEST_ANSWER_MAX - t->len) {
        t->full = true;
        return;
    }
    memcpy(t->out + t->len, piece, len);
    t->len += len;
    t->out[t->len] = 0;
}

static void add_quoted(struct text *t, const char *name, const char *value)
{
    add(t, name, strlen(name));
    add(t, "=\"", 2);
    for (; *value; value++) {
        if (*value == '"' || *value == '\\')
            add(t, "\\", 1);
        if ((unsigned char)*value < 0x20 && *value != '\t') // nothing ends the line
            t->full = true;
        add(t, value, 1);
    }
    add(t, "\"", 1);
}

static void add_plain(struct text *t, const char *name, const char *value)
{
    add(t, name, strlen(name));
    add(t, value, strlen(value));
}

bool digest_answer(const struct digest *d, const struct digest_ask *a, char *out)
{
    char nc[9], response[HEX_MAX], user[HEX_MAX];
    struct text t = {out, 0, false};
    snprintf(nc, sizeof(nc), "%08x", a->nc);
    if (!respond(d, a, nc, response) || (d->userhash && !hash(d, user, a->user, d->realm, NULL)))
        return false;
    add_quoted(&t, "Digest username", d->userhash ? user : a->user);
    add_quoted(&t, ", realm", d->realm);
    add_quoted(&t, ", uri", a->uri);
    if (d->algorithm[0])
        add_plain(&t, ", algorithm=", d->algorithm);
    add_quoted(&t, ", nonce", d->nonce);
    if (d->qop) {
        add_plain(&t, ", nc=", nc);
        add_quoted(&t, ", cnonce", a->cnonce);
        add_plain(&t, ", qop=", "auth");
    }
    add_quoted(&t, ", response", response);
    if (d->has_opaque)
        add_quoted(&t, ", opaque", d->opaque);
    if (d->userhash)
        add_plain(&t, ", userhash=", "true");
    return !t.full;
}
