// SPDX-License-Identifier: Apache-2.0
#include "link/tls_records.h"
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <stdio.h>
#include <stdlib.h>
#include "link/aead.h"

#define TAG AEAD_TAG
#define IV AEAD_NONCE

enum { // RFC 8446 section 6 and appendix B.3
    ALERT_CLOSE_NOTIFY = 0,
    ALERT_UNEXPECTED = 10,
    ALERT_BAD_MAC = 20,
    ALERT_OVERFLOW = 22,
    ALERT_ILLEGAL = 47,
    ALERT_DECODE = 50,
    ALERT_INTERNAL = 80,
    ALERT_USER_CANCELED = 90,
    MESSAGE_TICKET = 4,
    MESSAGE_KEY_UPDATE = 24,
};

struct direction {
    struct aead *aead;
    uint8_t secret[RECORD_SECRET_MAX], iv[IV];
    uint64_t seq;
};

struct records {
    int cipher_nid;
    const EVP_MD *md;
    bool is_server;
    struct direction in, out;
    uint8_t head[RECORD_HEAD]; // of the record that comes
    bool has_head;
    unsigned barren;
    uint8_t message[4]; // head of the handshake message that comes
    uint8_t message_have;
    uint32_t message_left;
    bool renewal_owed;
    const char *why;
    uint8_t alert;
};

// --- keys

static size_t unhex(const char *text, uint8_t *out, size_t max)
{
    size_t n = 0;
    for (; n < max && text[0] && text[1]; text += 2) {
        unsigned byte;
        if (sscanf(text, "%2x", &byte) != 1)
            break;
        out[n++] = (uint8_t)byte;
    }
    return n;
}

void record_secrets_note(struct record_secrets *s, const char *line)
{
    static const char client[] = "CLIENT_TRAFFIC_SECRET_0 ", server[] = "SERVER_TRAFFIC_SECRET_0 ";
    bool is_client = strncmp(line, client, sizeof(client) - 1) == 0;
    if (!is_client && strncmp(line, server, sizeof(server) - 1) != 0)
        return;
    const char *hex = strchr(line + sizeof(client) - 1, ' '); // behind the client's random
    if (hex && is_client)
        s->client_len = unhex(hex + 1, s->client, sizeof(s->client));
    else if (hex)
        s->server_len = unhex(hex + 1, s->server, sizeof(s->server));
}

// HKDF-Expand-Label with an empty context (RFC 8446 section 7.1).
static bool expand(const EVP_MD *md, const uint8_t *secret, const char *label, uint8_t *out, size_t len)
{
    uint8_t info[32];
    int n = snprintf((char *)info + 3, sizeof(info) - 4, "tls13 %s", label);
    info[0] = (uint8_t)(len >> 8);
    info[1] = (uint8_t)len;
    info[2] = (uint8_t)n;
    info[3 + n] = 0;
    int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)(uintptr_t)EVP_MD_get0_name(md), 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)secret, (size_t)EVP_MD_get_size(md)),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, (size_t)n + 4),
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    bool ok = ctx && EVP_KDF_derive(ctx, out, len, params) == 1;
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return ok;
}

static bool set_keys(struct records *r, struct direction *d)
{
    uint8_t key[AEAD_KEY_MAX];
    size_t len = aead_key_len(r->cipher_nid);
    bool ok = expand(r->md, d->secret, "key", key, len) && expand(r->md, d->secret, "iv", d->iv, IV);
    aead_free(d->aead);
    d->aead = ok ? aead_new(r->cipher_nid, key, d == &r->out, AEAD_BY_ANY) : NULL;
    OPENSSL_cleanse(key, sizeof(key));
    d->seq = 0; // section 5.3; OpenSSL has neither sent nor read one with these keys, see records_new
    return d->aead;
}

static bool next_keys(struct records *r, struct direction *d)
{
    uint8_t next[RECORD_SECRET_MAX];
    size_t len = (size_t)EVP_MD_get_size(r->md);
    bool ok = expand(r->md, d->secret, "traffic upd", next, len);
    memcpy(d->secret, next, len);
    OPENSSL_cleanse(next, sizeof(next));
    return ok && set_keys(r, d);
}

struct records *records_with(int cipher_nid, const EVP_MD *md, bool is_server, const struct record_secrets *s)
{
    size_t len = md ? (size_t)EVP_MD_get_size(md) : 0;
    if (!aead_key_len(cipher_nid) || len == 0 || len > RECORD_SECRET_MAX || s->client_len != len || s->server_len != len)
        return NULL;
    struct records *r = calloc(1, sizeof(*r));
    if (!r)
        abort();
    r->cipher_nid = cipher_nid;
    r->md = md;
    r->is_server = is_server;
    memcpy(r->in.secret, is_server ? s->client : s->server, len);
    memcpy(r->out.secret, is_server ? s->server : s->client, len);
    if (set_keys(r, &r->in) && set_keys(r, &r->out))
        return r;
    records_free(r);
    return NULL;
}

// Only where OpenSSL is known to be done with these keys and to have agreed to nothing that changes records: it holds no bytes, a
// server has sent no tickets, and no smaller records were asked for (RFC 6066 section 4).
struct records *records_new(SSL *ssl, const struct record_secrets *s)
{
    const SSL_CIPHER *c = SSL_get_current_cipher(ssl);
    const SSL_SESSION *session = SSL_get_session(ssl);
    bool is_server = SSL_is_server(ssl);
    if (!OWN_RECORDS || SSL_version(ssl) != TLS1_3_VERSION || !c || !session || SSL_has_pending(ssl) ||
        (is_server && SSL_get_num_tickets(ssl)) ||
        SSL_SESSION_get_max_fragment_length(session) != TLSEXT_max_fragment_length_DISABLED)
        return NULL;
    return records_with(SSL_CIPHER_get_cipher_nid(c), SSL_CIPHER_get_handshake_digest(c), is_server, s);
}

void records_free(struct records *r)
{
    if (!r)
        return;
    aead_free(r->in.aead);
    aead_free(r->out.aead);
    OPENSSL_cleanse(r, sizeof(*r));
    free(r);
}

// The nonce of the next record and its head as additional data (section 5.3).
static bool begin(struct direction *d, const uint8_t head[RECORD_HEAD])
{
    uint8_t nonce[IV];
    if (d->seq == UINT64_MAX) // never wraps
        return false;
    memcpy(nonce, d->iv, IV);
    for (int i = 0; i < 8; i++)
        nonce[IV - 1 - i] ^= (uint8_t)(d->seq >> (8 * i));
    d->seq++;
    return aead_begin(d->aead, nonce, head, RECORD_HEAD);
}

// --- sealing

static void put_head(uint8_t *head, size_t len)
{
    head[0] = RECORD_DATA;
    head[1] = head[2] = 3;
    head[3] = (uint8_t)(len >> 8);
    head[4] = (uint8_t)len;
}

// From n bytes at `from` to `to`, which has RECORD_HEAD bytes in front and RECORD_TAIL behind; from may be to.
static bool seal(struct records *r, uint8_t *to, const uint8_t *from, size_t n, enum record_type type)
{
    uint8_t kind = (uint8_t)type;
    struct aead *a = r->out.aead;
    put_head(to - RECORD_HEAD, n + RECORD_TAIL);
    return begin(&r->out, to - RECORD_HEAD) && aead_update(a, to, from, n) && aead_update(a, to + n, &kind, 1) &&
           aead_seal_end(a, to + n + 1);
}

static struct buf *space_for(struct pool *p, size_t n)
{
    size_t whole = RECORD_HEAD + n + RECORD_TAIL;
    struct buf *b = whole <= BUF_SMALL_MAX - BUF_HEADROOM ? buf_get_small(p, BUF_HEADROOM, whole) : buf_get(p);
    if (buf_tailroom(b) < whole)
        b->start = 0;
    return b;
}

bool records_seal(struct records *r, struct buf *b, enum record_type type, void (*send)(void *ctx, struct buf *sealed), void *ctx)
{
    bool ok = true;
    if (b->start >= RECORD_HEAD && buf_tailroom(b) >= RECORD_TAIL) {
        ok = seal(r, buf_data(b), buf_data(b), b->len, type);
        buf_prepend(b, RECORD_HEAD);
        b->len += RECORD_TAIL;
        if (ok)
            send(ctx, b);
        else
            buf_put(b);
        return ok;
    }
    while (ok && b->len) {
        size_t most = BUF_SIZE - RECORD_HEAD - RECORD_TAIL, n = b->len < most ? b->len : most;
        struct buf *to = space_for(b->pool, n);
        to->len = (uint32_t)(RECORD_HEAD + n + RECORD_TAIL);
        ok = seal(r, buf_data(to) + RECORD_HEAD, buf_data(b), n, type);
        buf_skip(b, n);
        if (ok)
            send(ctx, to);
        else
            buf_put(to);
    }
    buf_put(b);
    return ok;
}

static bool seal_bytes(struct records *r, struct pool *p, enum record_type type, const uint8_t *data, size_t len,
                       void (*send)(void *ctx, struct buf *sealed), void *ctx)
{
    struct buf *b = buf_get_small(p, BUF_HEADROOM, len + RECORD_TAIL);
    buf_append(b, data, len);
    return records_seal(r, b, type, send, ctx);
}

bool records_alert(struct records *r, struct pool *p, uint8_t level, uint8_t code, void (*send)(void *ctx, struct buf *sealed),
                   void *ctx)
{
    const uint8_t alert[] = {level, code};
    return seal_bytes(r, p, RECORD_ALERT, alert, sizeof(alert), send, ctx);
}

bool records_renew(struct records *r, struct pool *p, void (*send)(void *ctx, struct buf *sealed), void *ctx)
{
    static const uint8_t update[] = {MESSAGE_KEY_UPDATE, 0, 0, 1, 0}; // update_not_requested
    r->renewal_owed = false;
    return seal_bytes(r, p, RECORD_HANDSHAKE, update, sizeof(update), send, ctx) && next_keys(r, &r->out);
}

bool records_owe_renewal(const struct records *r) { return r->renewal_owed || r->out.seq >= RECORD_KEY_MAX; }

// --- opening

static enum record_result bad(struct records *r, uint8_t alert, const char *why)
{
    r->alert = alert;
    r->why = why;
    return RECORD_BAD;
}

const char *records_why(const struct records *r, uint8_t *alert)
{
    *alert = r->alert;
    return r->why;
}

static void take(struct bufq *raw, uint8_t *out, size_t n)
{
    while (n) {
        size_t k = raw->head->len < n ? raw->head->len : n;
        memcpy(out, buf_data(raw->head), k);
        bufq_drop(raw, k);
        out += k;
        n -= k;
    }
}

// Deciphers n bytes of raw into b and, where they are one more than it holds, into *last.
static bool decipher(struct records *r, struct bufq *raw, size_t n, struct buf *b, uint8_t *last)
{
    bool ok = begin(&r->in, r->head);
    while (ok && n) {
        size_t space = buf_tailroom(b), k = raw->head->len < n ? raw->head->len : n;
        if (k > space && space)
            k = space;
        ok = aead_update(r->in.aead, space ? buf_end(b) : last, buf_data(raw->head), space ? k : 1);
        if (space)
            b->len += (uint32_t)k;
        else
            k = 1;
        bufq_drop(raw, k);
        n -= k;
    }
    return ok;
}

static enum record_result on_alert(struct records *r, const struct buf *b)
{
    if (b->len != 2)
        return bad(r, b->len ? ALERT_DECODE : ALERT_UNEXPECTED, "a malformed alert");
    uint8_t code = buf_data(b)[1];
    if (code == ALERT_CLOSE_NOTIFY)
        return RECORD_END;
    return code == ALERT_USER_CANCELED ? RECORD_MORE : bad(r, 0, SSL_alert_desc_string_long(code));
}

static enum record_result on_key_update(struct records *r, uint8_t request, bool is_last)
{
    if (request > 1)
        return bad(r, ALERT_ILLEGAL, "a malformed KeyUpdate");
    if (!is_last)
        return bad(r, ALERT_UNEXPECTED, "bytes behind KeyUpdate");
    r->renewal_owed |= request;
    return next_keys(r, &r->in) ? RECORD_MORE : bad(r, ALERT_INTERNAL, "no new key");
}

// After the handshake: tickets, which nobody wants, and new keys. Messages may be cut anywhere.
static enum record_result on_handshake(struct records *r, const struct buf *b)
{
    const uint8_t *at = buf_data(b), *end = buf_end(b);
    while (at < end) {
        if (r->message_have < 4) {
            r->message[r->message_have++] = *at++;
            if (r->message_have < 4)
                continue;
            r->message_left = (uint32_t)r->message[1] << 16 | (uint32_t)r->message[2] << 8 | r->message[3];
            bool is_known = r->message[0] == MESSAGE_KEY_UPDATE || (r->message[0] == MESSAGE_TICKET && !r->is_server);
            if (!is_known)
                return bad(r, ALERT_UNEXPECTED, "unexpected message");
            if (r->message_left == 0 || (r->message[0] == MESSAGE_KEY_UPDATE && r->message_left != 1))
                return bad(r, ALERT_DECODE, "a malformed message");
            continue;
        }
        if (r->message[0] == MESSAGE_KEY_UPDATE) {
            r->message_have = 0;
            return on_key_update(r, *at, at + 1 == end);
        }
        size_t k = (size_t)(end - at) < r->message_left ? (size_t)(end - at) : r->message_left;
        at += k;
        r->message_left -= (uint32_t)k;
        if (r->message_left == 0)
            r->message_have = 0;
    }
    return RECORD_MORE;
}

// The type is the last byte that is not zero.
static uint8_t strip(struct buf *b, uint8_t last)
{
    if (last)
        return last;
    while (b->len && buf_end(b)[-1] == 0)
        b->len--;
    return b->len ? buf_data(b)[--b->len] : 0;
}

static enum record_result judge(struct records *r, struct buf *b, uint8_t type)
{
    if (b->len > RECORD_PLAIN_MAX)
        return bad(r, ALERT_OVERFLOW, "a record that is too long");
    if (type != RECORD_HANDSHAKE && r->message_have) // section 5.1
        return bad(r, ALERT_UNEXPECTED, "another record within a handshake message");
    if (type == RECORD_DATA && b->len) {
        r->barren = 0;
        return RECORD_OK;
    }
    if (++r->barren > RECORD_BARREN_MAX)
        return bad(r, ALERT_UNEXPECTED, "too many records without data");
    if (type == RECORD_DATA)
        return RECORD_MORE;
    if (type == RECORD_ALERT)
        return on_alert(r, b);
    return type == RECORD_HANDSHAKE && b->len ? on_handshake(r, b) : bad(r, ALERT_UNEXPECTED, "unexpected message");
}

static enum record_result open_one(struct records *r, struct bufq *raw, size_t sealed, struct pool *p, struct buf **out)
{
    uint8_t tag[TAG], last = 0;
    size_t n = sealed - TAG;
    struct buf *b = n <= BUF_SMALL_MAX - BUF_HEADROOM ? buf_get_small(p, BUF_HEADROOM, n) : buf_get(p);
    if (n > buf_tailroom(b))
        b->start = 0;
    bool ok = decipher(r, raw, n, b, &last);
    take(raw, tag, TAG);
    ok = ok && aead_open_end(r->in.aead, tag);
    enum record_result result =
        ok ? judge(r, b, strip(b, last)) : bad(r, ALERT_BAD_MAC, "decryption failed or bad record mac");
    if (result == RECORD_OK)
        *out = b;
    else
        buf_put(b);
    return result;
}

enum record_result records_open(struct records *r, struct bufq *raw, struct pool *p, struct buf **out)
{
    for (;;) {
        if (r->why)
            return RECORD_BAD;
        if (!r->has_head) {
            if (raw->bytes < RECORD_HEAD)
                return RECORD_MORE;
            take(raw, r->head, RECORD_HEAD);
            r->has_head = true;
        }
        size_t sealed = (size_t)r->head[3] << 8 | r->head[4];
        if (r->head[0] != RECORD_DATA)
            return bad(r, ALERT_UNEXPECTED, "unexpected message");
        if (sealed > RECORD_SEALED_MAX)
            return bad(r, ALERT_OVERFLOW, "a record that is too long");
        if (sealed <= TAG)
            return bad(r, ALERT_BAD_MAC, "decryption failed or bad record mac");
        if (raw->bytes < sealed)
            return RECORD_MORE;
        r->has_head = false;
        enum record_result result = open_one(r, raw, sealed, p, out);
        if (result != RECORD_MORE)
            return result;
    }
}
