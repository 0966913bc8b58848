// SPDX-License-Identifier: Apache-2.0
// TLS 1.3 records under known keys. The input is a script of what a peer sends, well sealed or not; it is sealed here by other means
// than the code under test. Whole and in pieces the same must come out: the data, up to the first thing that is wrong, and no
// byte behind it. Byte 0: cipher and role; byte 1: piece size; then operations.
#include "fuzz.h"
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/obj_mac.h>
#include "link/tls_records.h"

#define WIRE_MAX 400000

struct peer {
    const EVP_CIPHER *cipher;
    const EVP_MD *md;
    uint8_t secret[EVP_MAX_MD_SIZE], key[32], iv[12];
    uint64_t seq;
};

struct script {
    struct peer peer;
    uint8_t *wire, *data; // what goes out; what must come in
    size_t wire_len, data_len, last; // last: where the last record starts
    unsigned barren;
    bool exact;   // nothing odd so far: all data must arrive
    bool tainted; // what is said from here on must not be believed
};

struct input {
    const uint8_t *at;
    size_t left;
};

static uint8_t byte(struct input *in)
{
    if (!in->left)
        return 0;
    in->left--;
    return *in->at++;
}

// RFC 8446 section 7.1 by hand: one block of HKDF-Expand is enough for all that TLS 1.3 asks of it.
static void expand(const struct peer *p, const char *label, uint8_t *out, size_t len)
{
    uint8_t info[64] = {(uint8_t)(len >> 8), (uint8_t)len, (uint8_t)(6 + strlen(label)), 't', 'l', 's', '1', '3', ' '};
    uint8_t block[EVP_MAX_MD_SIZE];
    size_t at = 9 + strlen(label);
    memcpy(info + 9, label, strlen(label));
    info[at++] = 0; // context
    info[at++] = 1; // counter
    CHECK(HMAC(p->md, p->secret, EVP_MD_get_size(p->md), info, at, block, NULL) && len <= sizeof(block));
    memcpy(out, block, len);
}

static void set_keys(struct peer *p)
{
    expand(p, "key", p->key, (size_t)EVP_CIPHER_get_key_length(p->cipher));
    expand(p, "iv", p->iv, sizeof(p->iv));
    p->seq = 0;
}

static void seal(struct script *s, const uint8_t *plain, size_t len)
{
    struct peer *p = &s->peer;
    uint8_t *out = s->wire + s->wire_len, nonce[12];
    size_t sealed = len + 16;
    int n, none;
    if (s->wire_len + 5 + sealed > WIRE_MAX)
        return;
    s->last = s->wire_len;
    memcpy(out, (uint8_t[]){23, 3, 3, (uint8_t)(sealed >> 8), (uint8_t)sealed}, 5);
    memcpy(nonce, p->iv, 12);
    for (int i = 0; i < 8; i++)
        nonce[11 - i] ^= (uint8_t)(p->seq >> (8 * i));
    p->seq++;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    CHECK(EVP_EncryptInit_ex(ctx, p->cipher, NULL, p->key, nonce) == 1 && EVP_EncryptUpdate(ctx, NULL, &n, out, 5) == 1 &&
          EVP_EncryptUpdate(ctx, out + 5, &n, plain, (int)len) == 1 && EVP_EncryptFinal_ex(ctx, out + 5 + n, &none) == 1 &&
          EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, out + 5 + len) == 1);
    EVP_CIPHER_CTX_free(ctx);
    s->wire_len += 5 + sealed;
}

static void say_data(struct script *s, struct input *in, size_t len, size_t padding, bool repeat)
{
    uint8_t *plain = calloc(1, len + padding + 1), fill = repeat ? byte(in) : 0;
    for (size_t i = 0; i < len; i++)
        plain[i] = repeat ? fill : byte(in);
    plain[len] = 23;
    bool fits = s->wire_len + 5 + len + padding + 17 <= WIRE_MAX;
    seal(s, plain, len + 1 + padding);
    s->exact &= len + 1 + padding <= 16385 && fits;
    s->barren = len ? 0 : s->barren + 1;
    s->exact &= s->barren <= RECORD_BARREN_MAX;
    s->tainted |= !s->exact && len + 1 + padding > 16385;
    if (!s->tainted && fits) {
        memcpy(s->data + s->data_len, plain, len);
        s->data_len += len;
    }
    free(plain);
}

static void say_any(struct script *s, struct input *in, uint8_t type)
{
    uint8_t plain[257];
    size_t len = byte(in);
    for (size_t i = 0; i < len; i++)
        plain[i] = byte(in);
    plain[len] = type;
    size_t before = s->wire_len, end = len + 1;
    seal(s, plain, len + 1);
    s->exact = false;
    while (end && !plain[end - 1])
        end--;
    if (!s->tainted && end && plain[end - 1] == RECORD_DATA && s->wire_len > before) { // data after all
        memcpy(s->data + s->data_len, plain, end - 1);
        s->data_len += end - 1;
    }
}

static void say_unsealed(struct script *s, struct input *in)
{
    size_t len = 1u + byte(in) % 40;
    if (s->wire_len + len > WIRE_MAX)
        return;
    for (size_t i = 0; i < len; i++)
        s->wire[s->wire_len++] = byte(in);
    s->exact = false;
    s->tainted = true;
}

// What is flipped was the last thing said, which may have been data: whatever is known of it is over.
static void flip(struct script *s, struct input *in)
{
    size_t at = s->last + byte(in), len = s->wire_len;
    uint8_t mask = byte(in) | 1;
    if (at >= len)
        return;
    s->wire[at] ^= mask;
    s->last = len; // not back again
    s->exact = false;
    s->tainted = true;
}

static void say_new_key(struct script *s, struct input *in)
{
    const uint8_t plain[] = {24, 0, 0, 1, byte(in) & 1, 22};
    uint8_t next[EVP_MAX_MD_SIZE];
    size_t before = s->wire_len;
    seal(s, plain, sizeof(plain));
    s->exact &= ++s->barren <= RECORD_BARREN_MAX && s->wire_len > before;
    expand(&s->peer, "traffic upd", next, (size_t)EVP_MD_get_size(s->peer.md));
    memcpy(s->peer.secret, next, sizeof(next));
    set_keys(&s->peer);
}

static void play(struct script *s, struct input *in)
{
    for (int ops = 0; in->left && ops < 200; ops++) {
        uint8_t op = byte(in);
        switch (op & 7) {
        case 0:
            say_data(s, in, byte(in), op >> 3, false);
            break;
        case 1: {
            size_t len = (size_t)byte(in) << 8;
            say_data(s, in, (len | byte(in)) % 16400, op >> 3, true);
            break;
        }
        case 2:
            say_any(s, in, RECORD_HANDSHAKE);
            break;
        case 3:
            say_any(s, in, RECORD_ALERT);
            break;
        case 4:
            say_any(s, in, byte(in));
            break;
        case 5:
            say_unsealed(s, in);
            break;
        case 6:
            flip(s, in);
            break;
        default:
            say_new_key(s, in);
        }
    }
}

struct seen {
    enum record_result result;
    uint8_t alert;
    bool owes;
    size_t bytes;
};

static void put(void *ctx, struct buf *sealed) { bufq_push(ctx, sealed); }

// Ours speaks too: its peer, who has asked for new keys or not, understands it.
static void answer(struct records *ours, struct records *theirs, struct pool *p, size_t len)
{
    struct bufq wire = {0};
    struct buf *b = buf_get(p);
    b->start = len & 1 ? 0 : BUF_HEADROOM;
    b->len = (uint32_t)(len < buf_tailroom(b) ? len : buf_tailroom(b));
    memset(buf_data(b), 7, b->len);
    size_t said = b->len, heard = 0;
    if (records_owe_renewal(ours))
        CHECK(records_renew(ours, p, put, &wire));
    CHECK(records_seal(ours, b, RECORD_DATA, put, &wire));
    while (heard < said) {
        CHECK(records_open(theirs, &wire, p, &b) == RECORD_OK);
        heard += b->len;
        buf_put(b);
    }
    CHECK(heard == said && records_open(theirs, &wire, p, &b) == RECORD_MORE && wire.bytes == 0);
}

static struct seen feed(const struct script *s, const struct record_secrets *secrets, int nid, bool is_server, size_t piece)
{
    struct pool pool;
    struct bufq raw = {0};
    struct buf *b;
    struct seen seen = {.result = RECORD_MORE};
    pool_init(&pool);
    struct records *r = records_with(nid, s->peer.md, is_server, secrets);
    struct records *theirs = records_with(nid, s->peer.md, !is_server, secrets);
    CHECK(r && theirs);
    for (size_t at = 0; at < s->wire_len && seen.result == RECORD_MORE;) {
        size_t n = s->wire_len - at < piece ? s->wire_len - at : piece;
        bufq_push(&raw, buf_copy(&pool, s->wire + at, n));
        at += n;
        while ((seen.result = records_open(r, &raw, &pool, &b)) == RECORD_OK) {
            CHECK(b->len && b->len <= RECORD_PLAIN_MAX && b->len <= s->data_len - seen.bytes);
            CHECK(memcmp(buf_data(b), s->data + seen.bytes, b->len) == 0);
            seen.bytes += b->len;
            buf_put(b);
        }
        CHECK(raw.bytes <= RECORD_SEALED_MAX + RECORD_HEAD || seen.result != RECORD_MORE);
    }
    if (seen.result == RECORD_BAD)
        CHECK(records_why(r, &seen.alert) && records_open(r, &raw, &pool, &b) == RECORD_BAD);
    seen.owes = records_owe_renewal(r);
    answer(r, theirs, &pool, 1 + s->wire_len % BUF_SIZE);
    bufq_clear(&raw);
    records_free(r);
    records_free(theirs);
    pool_fini(&pool); // all buffers are back
    return seen;
}

static void secrets_of(struct record_secrets *s, size_t len)
{
    s->client_len = s->server_len = len;
    for (size_t i = 0; i < len; i++) {
        s->client[i] = (uint8_t)(i + 1);
        s->server[i] = (uint8_t)(200 - i);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int nids[] = {NID_aes_128_gcm, NID_chacha20_poly1305, NID_aes_256_gcm};
    struct input in = {data, size};
    struct record_secrets secrets = {0};
    struct script s = {.exact = true, .wire = malloc(WIRE_MAX), .data = malloc(WIRE_MAX)};
    uint8_t how = byte(&in), cut = byte(&in);
    bool is_server = how & 4, wide = how % 3 == 2;
    s.peer.md = wide ? EVP_sha384() : EVP_sha256();
    s.peer.cipher = wide ? EVP_aes_256_gcm() : how % 3 ? EVP_chacha20_poly1305() : EVP_aes_128_gcm();
    secrets_of(&secrets, (size_t)EVP_MD_get_size(s.peer.md));
    memcpy(s.peer.secret, is_server ? secrets.client : secrets.server, RECORD_SECRET_MAX);
    set_keys(&s.peer);
    play(&s, &in);
    struct seen whole = feed(&s, &secrets, nids[how % 3], is_server, BUF_ROOM);
    struct seen pieces = feed(&s, &secrets, nids[how % 3], is_server, s.wire_len > 20000 ? 500u + cut : 1u + cut % 37);
    CHECK(whole.result == pieces.result && whole.alert == pieces.alert && whole.owes == pieces.owes && whole.bytes == pieces.bytes);
    if (s.exact)
        CHECK(whole.result == RECORD_MORE && whole.bytes == s.data_len);
    free(s.wire);
    free(s.data);
    return 0;
}
