// SPDX-License-Identifier: Apache-2.0
#include "trust/cert.h"
#include <jansson.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "core/addr.h"
#include "core/log.h"
#include "trust/file.h"
#include "trust/identity.h"
#include "wire/scan.h"

#define NEW_KEY_FILE "web.key.new"
#define NAME_MAX_TEXT 256
#define CHAIN_MAX 16

static int fail_ssl(struct err *e, const char *doing)
{
    char text[200];
    ERR_error_string_n(ERR_peek_last_error(), text, sizeof text);
    ERR_clear_error();
    return err_set(e, ERR_FAILED, WHY_INTERNAL, "%s: %s", doing, text);
}

static int no_passphrase(char *buf, int size, int writing, void *ctx)
{
    return -1;
}

// Names ---------------------------------------------------------------------------------------------------------

// One --host as a general name; NULL with *e set.
static GENERAL_NAME *make_name(const char *host, struct err *e)
{
    struct scan s = {"--host", host, e};
    char name[NAME_MAX_TEXT];
    struct addr ip;
    if (addr_parse_ip(&ip, host, 0)) {
        char text[ADDR_TEXT_MAX];
        ip.in6.sin6_scope_id = ip.sa.sa_family == AF_INET6 ? 0 : ip.in6.sin6_scope_id;
        return a2i_GENERAL_NAME(NULL, NULL, NULL, GEN_IPADD, addr_host(&ip, text), 0);
    }
    bool wild = strncmp(host, "*.", 2) == 0;
    if (scan_host(&s, host + 2 * wild, strlen(host) - 2 * wild, name) < 0)
        return NULL;
    return a2i_GENERAL_NAME(NULL, NULL, NULL, GEN_DNS, host, 0);
}

static GENERAL_NAMES *make_names(const char *const *hosts, size_t count, struct err *e)
{
    GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    if (count == 0 || count > CERT_HOSTS_MAX) {
        err_set(e, ERR_USAGE, WHY_NONE, "a certificate needs 1 to %d names; say --host NAME", CERT_HOSTS_MAX);
        GENERAL_NAMES_free(names);
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        GENERAL_NAME *name = make_name(hosts[i], e);
        if (!name || !sk_GENERAL_NAME_push(names, name)) {
            if (!err_is(e))
                fail_ssl(e, "put the name into the certificate");
            GENERAL_NAME_free(name);
            GENERAL_NAMES_free(names);
            return NULL;
        }
    }
    return names;
}

// The subject repeats the first name when it fits a common name; nobody should look at it.
static bool set_subject(X509_NAME *subject, const char *host)
{
    const char *text = strlen(host) <= 64 ? host : "culvert";
    return X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)text, -1, -1, 0) == 1;
}

// A name of a certificate as text. False for other kinds than DNS and IP.
static bool name_text(const GENERAL_NAME *name, char *out, size_t size)
{
    int type;
    const ASN1_STRING *value = GENERAL_NAME_get0_value(name, &type);
    const unsigned char *data = ASN1_STRING_get0_data(value);
    size_t len = (size_t)ASN1_STRING_length(value);
    struct addr ip = {0};
    char text[ADDR_TEXT_MAX];
    if (type == GEN_DNS) {
        log_escape(out, size, data, len);
        return true;
    }
    if (type != GEN_IPADD || (len != 4 && len != 16))
        return false;
    ip.sa.sa_family = len == 4 ? AF_INET : AF_INET6;
    ip.len = len == 4 ? sizeof ip.in : sizeof ip.in6;
    memcpy(len == 4 ? (void *)&ip.in.sin_addr : (void *)&ip.in6.sin6_addr, data, len);
    snprintf(out, size, "%s", addr_host(&ip, text));
    return true;
}

// Writing -------------------------------------------------------------------------------------------------------

static int write_in(const char *state, const char *name, const void *data, size_t len, mode_t mode, struct err *e)
{
    char *path = file_path(state, name);
    int got = file_write(path, data, len, mode, e);
    free(path);
    return got;
}

static int write_key(const char *state, const char *name, EVP_PKEY *key, struct err *e)
{
    BIO *bio = BIO_new(BIO_s_secmem());
    char *pem;
    int got;
    if (!bio || PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1) {
        got = fail_ssl(e, "write the key");
    } else {
        long len = BIO_get_mem_data(bio, &pem);
        got = write_in(state, name, pem, (size_t)len, 0600, e);
        OPENSSL_cleanse(pem, (size_t)len);
    }
    BIO_free(bio);
    return got;
}

static int write_chain(const char *state, STACK_OF(X509) * chain, struct err *e)
{
    BIO *bio = BIO_new(BIO_s_mem());
    bool good = bio;
    char *pem;
    int got = -1;
    for (int i = 0; good && i < sk_X509_num(chain); i++)
        good = PEM_write_bio_X509(bio, sk_X509_value(chain, i)) == 1;
    if (good) {
        long len = BIO_get_mem_data(bio, &pem);
        got = write_in(state, CERT_FILE, pem, (size_t)len, 0644, e);
    } else {
        fail_ssl(e, "write the certificate");
    }
    BIO_free(bio);
    return got;
}

// Self-signed ---------------------------------------------------------------------------------------------------

static bool add_text(X509 *cert, X509V3_CTX *ctx, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, ctx, nid, value);
    bool good = ext && X509_add_ext(cert, ext, -1) == 1;
    X509_EXTENSION_free(ext);
    return good;
}

static bool set_serial(X509 *cert)
{
    unsigned char bytes[16];
    if (RAND_bytes(bytes, sizeof bytes) != 1)
        return false;
    bytes[0] = (unsigned char)((bytes[0] & 0x3f) | 0x40); // positive, of full length
    BIGNUM *number = BN_bin2bn(bytes, sizeof bytes, NULL);
    bool good = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert));
    BN_free(number);
    return good;
}

static X509 *sign_self(EVP_PKEY *key, const char *host, GENERAL_NAMES *names, unsigned days)
{
    X509 *cert = X509_new();
    X509V3_CTX ctx;
    X509_NAME *subject = cert ? X509_get_subject_name(cert) : NULL;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    // an hour back, for clocks that are late
    if (subject && X509_set_version(cert, X509_VERSION_3) && set_serial(cert) && set_subject(subject, host) &&
        X509_set_issuer_name(cert, subject) && X509_gmtime_adj(X509_getm_notBefore(cert), -3600) &&
        X509_gmtime_adj(X509_getm_notAfter(cert), (long)days * 86400) && X509_set_pubkey(cert, key) &&
        X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) == 1 &&
        add_text(cert, &ctx, NID_basic_constraints, "critical,CA:FALSE") &&
        add_text(cert, &ctx, NID_key_usage, "critical,digitalSignature") &&
        add_text(cert, &ctx, NID_ext_key_usage, "serverAuth") &&
        add_text(cert, &ctx, NID_subject_key_identifier, "hash") && X509_sign(cert, key, EVP_sha256()) > 0)
        return cert;
    X509_free(cert);
    return NULL;
}

int cert_selfsigned(const char *state, const char *const *hosts, size_t host_count, unsigned days, struct err *e)
{
    EVP_PKEY *key = NULL;
    X509 *cert = NULL;
    STACK_OF(X509) *chain = sk_X509_new_null();
    int got = -1;
    GENERAL_NAMES *names = make_names(hosts, host_count, e);
    if (!names)
        goto out;
    if (days == 0 || days > CERT_DAYS_MAX) {
        err_set(e, ERR_USAGE, WHY_NONE, "--days %u: a certificate lasts 1 to %d days", days, CERT_DAYS_MAX);
        goto out;
    }
    key = EVP_EC_gen("P-256");
    cert = key ? sign_self(key, hosts[0], names, days) : NULL;
    if (!cert || !sk_X509_push(chain, cert)) {
        fail_ssl(e, "make a certificate");
        goto out;
    }
    if (file_state_dir(state, e) == 0 && write_key(state, KEY_FILE, key, e) == 0)
        got = write_chain(state, chain, e);
out:
    GENERAL_NAMES_free(names);
    sk_X509_free(chain);
    X509_free(cert);
    EVP_PKEY_free(key);
    return got;
}

// Request and install -------------------------------------------------------------------------------------------

static X509_REQ *sign_request(EVP_PKEY *key, const char *host, GENERAL_NAMES *names)
{
    X509_REQ *req = X509_REQ_new();
    STACK_OF(X509_EXTENSION) *exts = NULL;
    bool good = req && X509_REQ_set_version(req, X509_REQ_VERSION_1) &&
                set_subject(X509_REQ_get_subject_name(req), host) && X509_REQ_set_pubkey(req, key) &&
                X509V3_add1_i2d(&exts, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) == 1 &&
                X509_REQ_add_extensions(req, exts) == 1 && X509_REQ_sign(req, key, EVP_sha256()) > 0;
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    if (good)
        return req;
    X509_REQ_free(req);
    return NULL;
}

static int request_text(X509_REQ *req, char **pem, struct err *e)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *data;
    int got = 0;
    *pem = NULL;
    if (bio && PEM_write_bio_X509_REQ(bio, req) == 1) {
        long len = BIO_get_mem_data(bio, &data);
        *pem = strndup(data, (size_t)len);
    }
    if (!*pem)
        got = fail_ssl(e, "write the request");
    BIO_free(bio);
    return got;
}

int cert_request(const char *state, const char *const *hosts, size_t host_count, char **pem, struct err *e)
{
    int got = -1;
    GENERAL_NAMES *names = make_names(hosts, host_count, e);
    EVP_PKEY *key = names ? EVP_EC_gen("P-256") : NULL;
    X509_REQ *req = key ? sign_request(key, hosts[0], names) : NULL;
    if (names && !req)
        fail_ssl(e, "make a request");
    if (req && file_state_dir(state, e) == 0 && write_key(state, NEW_KEY_FILE, key, e) == 0)
        got = request_text(req, pem, e);
    GENERAL_NAMES_free(names);
    X509_REQ_free(req);
    EVP_PKEY_free(key);
    return got;
}

static EVP_PKEY *key_in(const char *pem, size_t len)
{
    BIO *bio = BIO_new_mem_buf(pem, (int)len);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    return key;
}

// The key in a file of the state folder if there is one and it fits.
static EVP_PKEY *key_of(const char *state, const char *name, X509 *leaf)
{
    char *path = file_path(state, name), *pem;
    struct err e = ERR_INIT;
    size_t len;
    EVP_PKEY *key = NULL;
    if (file_read(path, true, &pem, &len, &e) == 0) {
        key = key_in(pem, len);
        file_wipe(pem, len);
    }
    err_fini(&e);
    free(path);
    if (key && X509_check_private_key(leaf, key) != 1) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    ERR_clear_error();
    return key;
}

static STACK_OF(X509) * chain_in(const char *pem, size_t len)
{
    STACK_OF(X509) *chain = sk_X509_new_null();
    BIO *bio = BIO_new_mem_buf(pem, (int)len);
    X509 *cert;
    while (bio && sk_X509_num(chain) < CHAIN_MAX && (cert = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)))
        if (!sk_X509_push(chain, cert))
            X509_free(cert);
    BIO_free(bio);
    ERR_clear_error();
    return chain;
}

static int check_leaf(X509 *leaf, struct err *e)
{
    GENERAL_NAMES *names;
    if (!leaf)
        return err_set(e, ERR_USAGE, WHY_NONE,
                       "there is no certificate in it; give the PEM text, the relay's own "
                       "certificate first");
    if (X509_cmp_current_time(X509_get0_notAfter(leaf)) < 0)
        return err_set(e, ERR_USAGE, WHY_NONE, "the certificate has expired; get a new one");
    names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    if (!names)
        return err_set(e, ERR_USAGE, WHY_NONE,
                       "the certificate names no host in subjectAltName, so no client would trust "
                       "it; ask for one that does");
    GENERAL_NAMES_free(names);
    return 0;
}

static int install(const char *state, STACK_OF(X509) * chain, const char *pem, size_t len, struct err *e)
{
    X509 *leaf = sk_X509_value(chain, 0);
    EVP_PKEY *given = key_in(pem, len), *asked = given ? NULL : key_of(state, NEW_KEY_FILE, leaf), *old = NULL;
    int got = 0;
    if (given && X509_check_private_key(leaf, given) != 1)
        got = err_set(e, ERR_USAGE, WHY_NONE,
                      "the key in the text does not fit the first certificate; put the relay's own "
                      "certificate first");
    else if (!given && !asked && !(old = key_of(state, KEY_FILE, leaf)))
        got = err_set(e, ERR_USAGE, WHY_NONE,
                      "no key here fits the certificate: it was made for another request; give its "
                      "key in the same text, or make a new request");
    if (got == 0 && !old)
        got = write_key(state, KEY_FILE, given ? given : asked, e);
    if (got == 0)
        got = write_chain(state, chain, e);
    if (got == 0 && asked) {
        char *path = file_path(state, NEW_KEY_FILE);
        unlink(path);
        free(path);
    }
    EVP_PKEY_free(given);
    EVP_PKEY_free(asked);
    EVP_PKEY_free(old);
    ERR_clear_error();
    return got;
}

int cert_install(const char *state, const char *pem, size_t len, struct err *e)
{
    if (len > FILE_SECRET_MAX)
        return err_set(e, ERR_USAGE, WHY_NONE, "a certificate chain has at most %d bytes", FILE_SECRET_MAX);
    if (file_state_dir(state, e) < 0)
        return -1;
    STACK_OF(X509) *chain = chain_in(pem, len);
    int got = check_leaf(sk_X509_value(chain, 0), e);
    if (got == 0)
        got = install(state, chain, pem, len, e);
    sk_X509_pop_free(chain, X509_free);
    return got;
}

// Showing -------------------------------------------------------------------------------------------------------

static STACK_OF(X509) * read_chain(const char *file, struct err *e)
{
    char *pem;
    size_t len;
    if (file_read(file, false, &pem, &len, e) < 0)
        return NULL;
    STACK_OF(X509) *chain = chain_in(pem, len);
    file_wipe(pem, len);
    if (sk_X509_num(chain) > 0)
        return chain;
    err_set(e, ERR_USAGE, WHY_NONE, "%s: there is no certificate in it", file);
    sk_X509_free(chain);
    return NULL;
}

// Distinguished names are foreign text: escaped.
static json_t *dn_to_json(const X509_NAME *name)
{
    char raw[512], text[LOG_VALUE_MAX];
    BIO *bio = BIO_new(BIO_s_mem());
    int len = 0;
    if (bio && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >= 0)
        len = BIO_read(bio, raw, sizeof raw);
    BIO_free(bio);
    return json_string(log_escape(text, sizeof text, raw, len > 0 ? (size_t)len : 0));
}

static json_t *time_to_json(const ASN1_TIME *at)
{
    struct tm tm = {0};
    char text[32] = "";
    if (ASN1_TIME_to_tm(at, &tm) == 1)
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return json_string(text);
}

static json_t *names_to_json(X509 *cert)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    json_t *list = json_array();
    char text[NAME_MAX_TEXT];
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
        if (name_text(sk_GENERAL_NAME_value(names, i), text, sizeof text))
            json_array_append_new(list, json_string(text));
    GENERAL_NAMES_free(names);
    return list;
}

static json_t *key_to_json(X509 *cert)
{
    EVP_PKEY *key = X509_get0_pubkey(cert);
    char group[32] = "", text[64];
    if (!key)
        return json_string("unknown");
    if (EVP_PKEY_get_group_name(key, group, sizeof group, NULL) == 1)
        snprintf(text, sizeof text, "%s %s", EVP_PKEY_get0_type_name(key), group);
    else
        snprintf(text, sizeof text, "%s %d", EVP_PKEY_get0_type_name(key), EVP_PKEY_get_bits(key));
    return json_string(text);
}

static json_t *hash_to_json(X509 *cert)
{
    unsigned char hash[32];
    unsigned len = 0;
    char text[65] = "";
    if (X509_digest(cert, EVP_sha256(), hash, &len) == 1)
        for (unsigned i = 0; i < len && i < sizeof hash; i++)
            sprintf(text + 2 * i, "%02x", hash[i]);
    return json_string(text);
}

static const char *validity(X509 *cert)
{
    if (X509_cmp_current_time(X509_get0_notBefore(cert)) > 0)
        return "not valid yet";
    return X509_cmp_current_time(X509_get0_notAfter(cert)) < 0 ? "expired" : "valid";
}

static json_t *cert_to_json(X509 *cert)
{
    int days = 0, seconds = 0;
    uint8_t pin[PIN_SIZE];
    char text[PIN_TEXT_MAX];
    json_t *o = json_object();
    ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(cert));
    json_object_set_new(o, "names", names_to_json(cert));
    json_object_set_new(o, "subject", dn_to_json(X509_get_subject_name(cert)));
    json_object_set_new(o, "issuer", dn_to_json(X509_get_issuer_name(cert)));
    json_object_set_new(o, "self_signed", json_boolean(X509_self_signed(cert, 1) == 1));
    json_object_set_new(o, "not_before", time_to_json(X509_get0_notBefore(cert)));
    json_object_set_new(o, "not_after", time_to_json(X509_get0_notAfter(cert)));
    json_object_set_new(o, "state", json_string(validity(cert)));
    json_object_set_new(o, "days_left", json_integer(days));
    json_object_set_new(o, "key", key_to_json(cert));
    json_object_set_new(o, "sha256", hash_to_json(cert));
    if (X509_get0_pubkey(cert) && identity_pin(X509_get0_pubkey(cert), pin))
        json_object_set_new(o, "spki_sha256", json_string(pin_text(pin, text)));
    ERR_clear_error();
    return o;
}

static void print_cert(const json_t *o, FILE *out)
{
    const json_t *value;
    const char *key;
    json_object_foreach((json_t *)o, key, value)
    {
        fprintf(out, "%-13s", key);
        if (json_is_array(value))
            for (size_t i = 0; i < json_array_size(value); i++)
                fprintf(out, "%s%s", i ? " " : "", json_string_value(json_array_get(value, i)));
        else if (json_is_string(value))
            fputs(json_string_value(value), out);
        else if (json_is_integer(value))
            fprintf(out, "%d", (int)json_integer_value(value));
        else
            fputs(json_is_true(value) ? "yes" : "no", out);
        fputc('\n', out);
    }
}

int cert_show(const char *file, bool json, FILE *out, struct err *e)
{
    STACK_OF(X509) *chain = read_chain(file, e);
    if (!chain)
        return -1;
    json_t *list = json_array();
    for (int i = 0; i < sk_X509_num(chain); i++)
        json_array_append_new(list, cert_to_json(sk_X509_value(chain, i)));
    if (json) {
        json_dumpf(list, out, JSON_INDENT(2));
        fputc('\n', out);
    }
    for (size_t i = 0; !json && i < json_array_size(list); i++) {
        if (i)
            fputs("\n", out);
        print_cert(json_array_get(list, i), out);
    }
    json_decref(list);
    sk_X509_pop_free(chain, X509_free);
    return 0;
}

bool cert_first_name(const char *file, char *out)
{
    struct err e = ERR_INIT;
    STACK_OF(X509) *chain = read_chain(file, &e);
    bool found = false;
    err_fini(&e);
    if (!chain)
        return false;
    GENERAL_NAMES *names = X509_get_ext_d2i(sk_X509_value(chain, 0), NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && !found; i++)
        found = name_text(sk_GENERAL_NAME_value(names, i), out, NAME_MAX_TEXT);
    GENERAL_NAMES_free(names);
    sk_X509_pop_free(chain, X509_free);
    return found;
}
