// SPDX-License-Identifier: Apache-2.0
#include "link/aead.h"
#include <openssl/evp.h>
#include <openssl/obj_mac.h>
#include <stdlib.h>
#include "link/gcm_vaes.h"

struct aead {
    EVP_CIPHER_CTX *ctx;
    struct gcm_vaes *vaes; // instead of ctx
};

static const EVP_CIPHER *cipher_of(int nid)
{
    switch (nid) {
    case NID_aes_128_gcm:
        return EVP_aes_128_gcm();
    case NID_aes_256_gcm:
        return EVP_aes_256_gcm();
    case NID_chacha20_poly1305:
        return EVP_chacha20_poly1305();
    default:
        return NULL;
    }
}

size_t aead_key_len(int cipher_nid)
{
    const EVP_CIPHER *cipher = cipher_of(cipher_nid);
    return cipher ? (size_t)EVP_CIPHER_get_key_length(cipher) : 0;
}

struct aead *aead_new(int cipher_nid, const uint8_t *key, bool seals, enum aead_by by)
{
    const EVP_CIPHER *cipher = cipher_of(cipher_nid);
    if (!cipher)
        return NULL;
    struct aead *a = calloc(1, sizeof(*a));
    if (!a)
        abort();
    if (by != AEAD_BY_OPENSSL && EVP_CIPHER_get_mode(cipher) == EVP_CIPH_GCM_MODE)
        a->vaes = gcm_vaes_new(key, aead_key_len(cipher_nid), seals);
    if (a->vaes)
        return a;
    a->ctx = by == AEAD_BY_IPSEC_MB ? NULL : EVP_CIPHER_CTX_new();
    if (a->ctx && EVP_CipherInit_ex(a->ctx, cipher, NULL, key, NULL, seals) == 1)
        return a;
    aead_free(a);
    return NULL;
}

void aead_free(struct aead *a)
{
    if (!a)
        return;
    gcm_vaes_free(a->vaes);
    EVP_CIPHER_CTX_free(a->ctx); // wipes
    free(a);
}

bool aead_begin(struct aead *a, const uint8_t nonce[AEAD_NONCE], const uint8_t *more, size_t more_len)
{
    int n;
    if (a->vaes)
        return gcm_vaes_begin(a->vaes, nonce, more, more_len);
    return EVP_CipherInit_ex(a->ctx, NULL, NULL, NULL, nonce, -1) == 1 &&
           EVP_CipherUpdate(a->ctx, NULL, &n, more, (int)more_len) == 1;
}

bool aead_update(struct aead *a, uint8_t *to, const uint8_t *from, size_t len)
{
    int n = 0;
    if (len == 0)
        return true;
    if (a->vaes)
        return gcm_vaes_update(a->vaes, to, from, len);
    return EVP_CipherUpdate(a->ctx, to, &n, from, (int)len) == 1 && (size_t)n == len;
}

bool aead_seal_end(struct aead *a, uint8_t tag[AEAD_TAG])
{
    int none;
    if (a->vaes)
        return gcm_vaes_seal_end(a->vaes, tag);
    return EVP_CipherFinal_ex(a->ctx, tag, &none) == 1 && EVP_CIPHER_CTX_ctrl(a->ctx, EVP_CTRL_AEAD_GET_TAG, AEAD_TAG, tag) == 1;
}

bool aead_open_end(struct aead *a, const uint8_t tag[AEAD_TAG])
{
    int none;
    uint8_t nothing[AEAD_TAG];
    if (a->vaes)
        return gcm_vaes_open_end(a->vaes, tag);
    return EVP_CIPHER_CTX_ctrl(a->ctx, EVP_CTRL_AEAD_SET_TAG, AEAD_TAG, (void *)(uintptr_t)tag) == 1 &&
           EVP_CipherFinal_ex(a->ctx, nothing, &none) == 1;
}
