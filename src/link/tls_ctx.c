// SPDX-License-Identifier: Apache-2.0
// The shared contexts: what is offered and accepted, for the outer TLS of the web and for our own inner one.
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>
#include "link/tls.h"
#include "link/tls_own.h"

#define EXTENSION_FILLING 0xff70
#define CIPHERS_13 "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"
#define CIPHERS_12 "ECDHE+AESGCM:ECDHE+CHACHA20"
#define GROUPS "X25519:P-256"

static const uint8_t alpn_inner[] = "\x09" "culvert/1"; // what clients offer unless the link says otherwise
static const uint8_t alpn_outer[] = "\x08" "http/1.1"; // clients, unless the link says otherwise
static const uint8_t alpn_front[] = "\x02" "h2" "\x08" "http/1.1";

static SSL_CTX *fail_ctx(SSL_CTX *ctx, struct err *e, const char *what, const char *which)
{
    unsigned long first = ERR_peek_error(); // the last one only says "system lib" or "PEM lib"
    const char *text = ERR_SYSTEM_ERROR(first) ? strerror(ERR_GET_REASON(first)) : ERR_reason_error_string(first);
    if (!text)
        text = tls_queue_text();
    err_set(e, which ? ERR_USAGE : ERR_FAILED, WHY_INTERNAL, "%s%s%s: %s", what, which ? " " : "", which ? which : "", text);
    SSL_CTX_free(ctx);
    return NULL;
}

static SSL_CTX *new_ctx(const SSL_METHOD *method, int min_version, struct err *e)
{
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(method);
    if (!ctx)
        return fail_ctx(ctx, e, "TLS context", NULL);
    if (!SSL_CTX_set_min_proto_version(ctx, min_version) || !SSL_CTX_set_ciphersuites(ctx, CIPHERS_13) ||
        !SSL_CTX_set_cipher_list(ctx, CIPHERS_12))
        return fail_ctx(ctx, e, "TLS context", NULL);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_num_tickets(ctx, 0);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS); // an idle carrier keeps no 16 KiB buffers
    SSL_CTX_set_msg_callback(ctx, tls_note_record);
    SSL_CTX_set_read_ahead(ctx, 0);                  // peeling needs to know where the last record ends
    return ctx;
}

SSL_CTX *tls_client_ctx(const char *ca_file, struct err *e)
{
    SSL_CTX *ctx = new_ctx(TLS_client_method(), TLS1_2_VERSION, e);
    if (!ctx)
        return NULL;
    if (ca_file && SSL_CTX_load_verify_file(ctx, ca_file) != 1)
        return fail_ctx(ctx, e, "CA file", ca_file);
    if (ca_file) // whoever is named there is trusted, a CA or not
        X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ctx), X509_V_FLAG_PARTIAL_CHAIN);
    else
        SSL_CTX_set_default_verify_paths(ctx);
    SSL_CTX_set_alpn_protos(ctx, alpn_outer, sizeof(alpn_outer) - 1);
    SSL_CTX_set_keylog_callback(ctx, tls_note_secret);
    return ctx;
}

static int pick(const uint8_t **out, unsigned char *out_len, const uint8_t *in, unsigned in_len, const uint8_t *own,
                unsigned own_len)
{
    return SSL_select_next_proto((unsigned char **)out, out_len, own, own_len, in, in_len) == OPENSSL_NPN_NEGOTIATED;
}

static int on_alpn_outer(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                         unsigned in_len, void *arg)
{
    return pick(out, out_len, in, in_len, alpn_front, sizeof(alpn_front) - 1) ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

static int on_alpn_inner(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                         unsigned in_len, void *arg)
{
    size_t len;
    const uint8_t *own = tls_alpn(ssl, &len);
    return pick(out, out_len, in, in_len, own, (unsigned)len) ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

SSL_CTX *tls_server_ctx(const char *cert_file, const char *key_file, struct err *e)
{
    SSL_CTX *ctx = new_ctx(TLS_server_method(), TLS1_2_VERSION, e);
    if (!ctx)
        return NULL;
    if (SSL_CTX_use_certificate_chain_file(ctx, cert_file) != 1)
        return fail_ctx(ctx, e, "certificate", cert_file);
    if (SSL_CTX_use_PrivateKey_file(ctx, key_file, SSL_FILETYPE_PEM) != 1)
        return fail_ctx(ctx, e, "key", key_file);
    if (SSL_CTX_check_private_key(ctx) != 1)
        return fail_ctx(ctx, e, "key", key_file);
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn_outer, NULL);
    SSL_CTX_set_keylog_callback(ctx, tls_note_secret);
    return ctx;
}

// The filling of ClientHello: of a type for private use (RFC 8446 section 11), which a server skips.
static int add_filling(SSL *ssl, unsigned type, unsigned context, const unsigned char **out, size_t *len, X509 *x, size_t chain, int *alert,
                       void *arg)
{
    static const unsigned char zeros[TLS_PAD];
    *out = zeros;
    *len = sizeof(zeros);
    return tls_pads(ssl);
}

SSL_CTX *tls_inner_ctx(bool server, X509 *cert, EVP_PKEY *key, struct err *e)
{
    SSL_CTX *ctx = new_ctx(server ? TLS_server_method() : TLS_client_method(), TLS1_3_VERSION, e);
    if (!ctx)
        return NULL;
    if (SSL_CTX_use_certificate(ctx, cert) != 1 || SSL_CTX_use_PrivateKey(ctx, key) != 1 ||
        SSL_CTX_check_private_key(ctx) != 1 || SSL_CTX_set1_groups_list(ctx, GROUPS) != 1)
        return fail_ctx(ctx, e, "identity", NULL);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_cert_verify_callback(ctx, tls_check_pin, NULL);
    if (server)
        SSL_CTX_set_alpn_select_cb(ctx, on_alpn_inner, NULL);
    else
        SSL_CTX_set_alpn_protos(ctx, alpn_inner, sizeof(alpn_inner) - 1);
    if (!server && SSL_CTX_add_custom_ext(ctx, EXTENSION_FILLING, SSL_EXT_CLIENT_HELLO, add_filling, NULL, NULL, NULL, NULL) != 1)
        return fail_ctx(ctx, e, "identity", NULL);
    return ctx;
}

bool tls_spki_pin(X509 *cert, uint8_t pin[32])
{
    unsigned char *der = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    bool ok = len > 0 && EVP_Digest(der, (size_t)len, pin, NULL, EVP_sha256(), NULL) == 1;
    OPENSSL_free(der);
    return ok;
}
