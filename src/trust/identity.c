// SPDX-License-Identifier: Apache-2.0
#include "trust/identity.h"
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <string.h>
#include "trust/file.h"
#include "wire/base64url.h"

bool identity_pin(EVP_PKEY *key, uint8_t pin[PIN_SIZE])
{
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(key, &der);
    bool good = len > 0 && EVP_Q_digest(NULL, "SHA256", NULL, der, (size_t)len, pin, NULL) == 1;
    OPENSSL_free(der);
    return good;
}

char *pin_text(const uint8_t pin[PIN_SIZE], char *out)
{
    return base64url_encode(out, pin, PIN_SIZE);
}

bool pin_parse(uint8_t pin[PIN_SIZE], const char *text)
{
    return base64url_decode(pin, PIN_SIZE, text, strlen(text));
}

bool pin_equal(const uint8_t a[PIN_SIZE], const uint8_t b[PIN_SIZE])
{
    return CRYPTO_memcmp(a, b, PIN_SIZE) == 0;
}

static int fail_ssl(struct err *e, const char *doing)
{
    char text[200];
    ERR_error_string_n(ERR_peek_last_error(), text, sizeof text);
    ERR_clear_error();
    return err_set(e, ERR_FAILED, WHY_INTERNAL, "%s: %s", doing, text);
}

// The certificate is only how TLS carries the key: it says nothing else, and nobody asks how old it is.
static X509 *wrap(EVP_PKEY *key)
{
    X509 *cert = X509_new();
    unsigned char serial[8];
    X509_NAME *name = cert ? X509_get_subject_name(cert) : NULL;
    bool good = name && RAND_bytes(serial, sizeof serial) == 1 && X509_set_version(cert, X509_VERSION_3) &&
                X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"culvert", -1, -1, 0) &&
                X509_set_issuer_name(cert, name) &&
                ASN1_TIME_set_string(X509_getm_notBefore(cert), "20000101000000Z") &&
                ASN1_TIME_set_string(X509_getm_notAfter(cert), "99991231235959Z") && X509_set_pubkey(cert, key);
    if (good) {
        serial[0] &= 0x7f;
        BIGNUM *number = BN_bin2bn(serial, sizeof serial, NULL);
        good = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) && X509_sign(cert, key, NULL) > 0;
        BN_free(number);
    }
    if (!good) {
        X509_free(cert);
        return NULL;
    }
    return cert;
}

// Takes the key over.
static int take_key(struct identity *id, EVP_PKEY *key, struct err *e)
{
    *id = (struct identity){.key = key};
    if (identity_pin(key, id->pin) && (id->cert = wrap(key)))
        return 0;
    fail_ssl(e, "wrap the identity key");
    identity_fini(id);
    return -1;
}

int identity_make(struct identity *id, struct err *e)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    *id = (struct identity){0};
    if (!key)
        return fail_ssl(e, "make an identity key");
    return take_key(id, key, e);
}

// No passphrase is ever asked for: a daemon has nobody to ask.
static int no_passphrase(char *buf, int size, int writing, void *ctx)
{
    return -1;
}

int identity_load(struct identity *id, const char *path, struct err *e)
{
    char *pem;
    size_t len;
    *id = (struct identity){0};
    if (file_read(path, true, &pem, &len, e) < 0) {
        err_prefix(e, "identity key");
        return -1;
    }
    BIO *bio = BIO_new_mem_buf(pem, (int)len);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    file_wipe(pem, len);
    ERR_clear_error();
    if (!key)
        return err_set(e, ERR_USAGE, WHY_NONE,
                       "identity key %s: it holds no private key in PEM; restore it from a "
                       "copy, or move it away to get a new identity",
                       path);
    if (!EVP_PKEY_is_a(key, "ED25519")) {
        EVP_PKEY_free(key);
        return err_set(e, ERR_USAGE, WHY_NONE,
                       "identity key %s: it is no Ed25519 key; restore it from a copy, or move "
                       "it away to get a new identity",
                       path);
    }
    return take_key(id, key, e);
}

static int save_new(const struct identity *id, const char *path, bool *made, struct err *e)
{
    BIO *bio = BIO_new(BIO_s_secmem());
    char *pem;
    int got;
    if (!bio || PEM_write_bio_PrivateKey(bio, id->key, NULL, NULL, 0, NULL, NULL) != 1) {
        got = fail_ssl(e, "write the identity key");
    } else {
        long len = BIO_get_mem_data(bio, &pem);
        got = file_create(path, pem, (size_t)len, 0600, made, e);
        OPENSSL_cleanse(pem, (size_t)len);
        if (got < 0)
            err_prefix(e, "identity key");
    }
    BIO_free(bio);
    return got;
}

int identity_open(struct identity *id, const char *path, bool *made, struct err *e)
{
    *made = false;
    *id = (struct identity){0};
    if (!file_exists(path)) {
        if (identity_make(id, e) < 0 || save_new(id, path, made, e) < 0) {
            identity_fini(id);
            return -1;
        }
        if (*made)
            return 0;
        identity_fini(id); // another process was quicker: its key counts
    }
    return identity_load(id, path, e);
}

void identity_fini(struct identity *id)
{
    EVP_PKEY_free(id->key);
    X509_free(id->cert);
    *id = (struct identity){0};
}
