// SPDX-License-Identifier: Apache-2.0
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "certs.h"

static void need(int ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "%s failed\n", what);
        abort();
    }
}

static void extend(struct cert *c, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, c->x509, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    need(ext && X509_add_ext(c->x509, ext, -1), value);
    X509_EXTENSION_free(ext);
}

static void write_files(struct cert *c)
{
    strcpy(c->folder, "/tmp/culvert-test-XXXXXX");
    need(mkdtemp(c->folder) != NULL, "mkdtemp");
    snprintf(c->cert_file, sizeof(c->cert_file), "%s/cert.pem", c->folder);
    snprintf(c->key_file, sizeof(c->key_file), "%s/key.pem", c->folder);
    FILE *f = fopen(c->cert_file, "w");
    need(f && PEM_write_X509(f, c->x509), "cert.pem");
    fclose(f);
    f = fopen(c->key_file, "w");
    need(f && PEM_write_PrivateKey(f, c->key, NULL, NULL, 0, NULL, NULL), "key.pem");
    fclose(f);
}

void cert_make(struct cert *c, const char *name, const char *san, const struct cert *issuer, bool is_ca, int from, int to)
{
    static long serial = 1;
    c->key = EVP_EC_gen("P-256");
    c->x509 = X509_new();
    need(c->key && c->x509, "key");
    X509_set_version(c->x509, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(c->x509), serial++);
    X509_gmtime_adj(X509_getm_notBefore(c->x509), (long)from * 86400);
    X509_gmtime_adj(X509_getm_notAfter(c->x509), (long)to * 86400);
    X509_set_pubkey(c->x509, c->key);
    X509_NAME *subject = X509_get_subject_name(c->x509);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509 *by = issuer ? issuer->x509 : c->x509;
    X509_set_issuer_name(c->x509, X509_get_subject_name(by));
    extend(c, by, NID_basic_constraints, is_ca ? "critical,CA:TRUE" : "CA:FALSE");
    if (san)
        extend(c, by, NID_subject_alt_name, san);
    need(X509_sign(c->x509, issuer ? issuer->key : c->key, EVP_sha256()), "sign");
    write_files(c);
}

void cert_fini(struct cert *c)
{
    unlink(c->cert_file);
    unlink(c->key_file);
    rmdir(c->folder);
    EVP_PKEY_free(c->key);
    X509_free(c->x509);
}

void carrier_tls_init(struct carrier_tls *t)
{
    struct err e = ERR_INIT;
    cert_make(&t->web, "relay.example", "DNS:relay.example", NULL, false, -1, 10);
    cert_make(&t->agent, "agent", NULL, NULL, false, -1, 10);
    cert_make(&t->relay, "relay", NULL, NULL, false, -1, 10);
    t->outer_client = tls_client_ctx(t->web.cert_file, &e);
    t->outer_server = tls_server_ctx(t->web.cert_file, t->web.key_file, &e);
    t->inner_client = tls_inner_ctx(false, t->agent.x509, t->agent.key, &e);
    t->inner_server = tls_inner_ctx(true, t->relay.x509, t->relay.key, &e);
    need(t->outer_client && t->outer_server && t->inner_client && t->inner_server, "a context");
    need(tls_spki_pin(t->relay.x509, t->relay_pin[0]), "pin");
}

void carrier_tls_fini(struct carrier_tls *t)
{
    SSL_CTX_free(t->outer_client);
    SSL_CTX_free(t->outer_server);
    SSL_CTX_free(t->inner_client);
    SSL_CTX_free(t->inner_server);
    cert_fini(&t->web);
    cert_fini(&t->agent);
    cert_fini(&t->relay);
}

struct tls_options carrier_tls_options(const struct carrier_tls *t, bool server, bool inner)
{
    struct tls_options o = {.server = server, .outer = !inner, .who = server ? "agent" : "relay.example:443"};
    o.ctx = inner ? (server ? t->inner_server : t->inner_client) : (server ? t->outer_server : t->outer_client);
    if (!server && inner) {
        o.pins = t->relay_pin;
        o.pin_count = 1;
    } else if (!server) {
        o.host = "relay.example";
    }
    return o;
}
