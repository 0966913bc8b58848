// SPDX-License-Identifier: Apache-2.0
#include "forward/seal_dgram.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#define IV 12
#define KEY 32

struct seal_dgram {
    EVP_CIPHER_CTX *out, *in;
    uint8_t out_iv[IV], in_iv[IV];
    uint64_t next;   // counter of the next one sent; the first is 1
    uint64_t newest; // highest authentic counter received, 0: none
    uint64_t seen[SEAL_DGRAM_WINDOW / 64]; // bit n % WINDOW: counter n was taken
};

static EVP_CIPHER_CTX *cipher_new(const uint8_t *key, bool encrypts)
{
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    if (!c || EVP_CipherInit_ex(c, EVP_chacha20_poly1305(), NULL, key, NULL, encrypts) != 1)
        abort();
    return c;
}

struct seal_dgram *seal_dgram_new(const uint8_t keys[SEAL_DGRAM_KEYS], bool asks)
{
    struct seal_dgram *s = calloc(1, sizeof(*s));
    const uint8_t *out = keys + (asks ? 0 : KEY + IV), *in = keys + (asks ? KEY + IV : 0);
    if (!s)
        abort();
    s->out = cipher_new(out, true);
    s->in = cipher_new(in, false);
    memcpy(s->out_iv, out + KEY, IV);
    memcpy(s->in_iv, in + KEY, IV);
    s->next = 1;
    return s;
}

void seal_dgram_free(struct seal_dgram *s)
{
    if (!s)
        return;
    EVP_CIPHER_CTX_free(s->out);
    EVP_CIPHER_CTX_free(s->in);
    OPENSSL_cleanse(s, sizeof(*s));
    free(s);
}

static void nonce_of(uint8_t nonce[IV], const uint8_t iv[IV], const uint8_t counter[SEAL_DGRAM_HEAD])
{
    memcpy(nonce, iv, IV);
    for (int i = 0; i < SEAL_DGRAM_HEAD; i++)
        nonce[IV - SEAL_DGRAM_HEAD + i] ^= counter[i];
}

size_t seal_dgram_put(struct seal_dgram *s, uint8_t *out, const uint8_t *data, size_t len)
{
    uint8_t nonce[IV], *body = out + SEAL_DGRAM_HEAD;
    int n = 0, end = 0;
    for (int i = 0; i < SEAL_DGRAM_HEAD; i++)
        out[i] = (uint8_t)(s->next >> (56 - 8 * i));
    s->next++;
    nonce_of(nonce, s->out_iv, out);
    if (EVP_EncryptInit_ex(s->out, NULL, NULL, NULL, nonce) != 1 ||
        (len > 0 && EVP_EncryptUpdate(s->out, body, &n, data, (int)len) != 1) ||
        EVP_EncryptFinal_ex(s->out, body + n, &end) != 1 ||
        EVP_CIPHER_CTX_ctrl(s->out, EVP_CTRL_AEAD_GET_TAG, SEAL_DGRAM_TAG, body + len) != 1)
        abort();
    return len + SEAL_DGRAM_MORE;
}

static bool is_known(const struct seal_dgram *s, uint64_t counter)
{
    if (counter > s->newest)
        return false;
    unsigned bit = counter % SEAL_DGRAM_WINDOW;
    return s->newest - counter >= SEAL_DGRAM_WINDOW || (s->seen[bit / 64] >> (bit % 64) & 1);
}

static void note(struct seal_dgram *s, uint64_t counter)
{
    if (counter > s->newest && counter - s->newest >= SEAL_DGRAM_WINDOW) {
        memset(s->seen, 0, sizeof(s->seen));
        s->newest = counter;
    }
    while (s->newest < counter) { // what is passed over was not taken yet
        unsigned bit = ++s->newest % SEAL_DGRAM_WINDOW;
        s->seen[bit / 64] &= ~(UINT64_C(1) << (bit % 64));
    }
    unsigned bit = counter % SEAL_DGRAM_WINDOW;
    s->seen[bit / 64] |= UINT64_C(1) << (bit % 64);
}

bool seal_dgram_get(struct seal_dgram *s, uint8_t *out, size_t *out_len, const uint8_t *data, size_t len)
{
    uint8_t nonce[IV], tag[SEAL_DGRAM_TAG];
    uint64_t counter = 0;
    int n = 0, end = 0;
    if (len < SEAL_DGRAM_MORE)
        return false;
    for (int i = 0; i < SEAL_DGRAM_HEAD; i++)
        counter = counter << 8 | data[i];
    if (counter == 0 || is_known(s, counter))
        return false;
    size_t body = len - SEAL_DGRAM_MORE;
    nonce_of(nonce, s->in_iv, data);
    memcpy(tag, data + SEAL_DGRAM_HEAD + body, SEAL_DGRAM_TAG);
    if (EVP_DecryptInit_ex(s->in, NULL, NULL, NULL, nonce) != 1 ||
        EVP_CIPHER_CTX_ctrl(s->in, EVP_CTRL_AEAD_SET_TAG, SEAL_DGRAM_TAG, tag) != 1 ||
        (body > 0 && EVP_DecryptUpdate(s->in, out, &n, data + SEAL_DGRAM_HEAD, (int)body) != 1) ||
        EVP_DecryptFinal_ex(s->in, out + n, &end) != 1)
        return false;
    note(s, counter); // only now: nobody else's datagram moves the window
    *out_len = body;
    return true;
}
