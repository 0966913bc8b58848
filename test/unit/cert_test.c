// SPDX-License-Identifier: Apache-2.0
#include "unit.h"
#include <fcntl.h>
#include <jansson.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include "temp.h"
#include "trust/cert.h"
#include "trust/file.h"

static char dir[64];

static int setup(void **state)
{
    temp_make(dir);
    return 0;
}

static int teardown(void **state)
{
    temp_drop(dir);
    return 0;
}

static char *in(const char *name)
{
    static char path[96];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static X509 *read_cert(const char *path)
{
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    X509 *cert = PEM_read_X509(f, NULL, NULL, NULL);
    fclose(f);
    assert_non_null(cert);
    return cert;
}

static EVP_PKEY *read_key(const char *path)
{
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    EVP_PKEY *key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
    fclose(f);
    assert_non_null(key);
    return key;
}

// As a client that was given this certificate as --ca judges it.
static bool trusted_for(X509 *cert, const char *host, bool is_ip)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    X509_STORE_add_cert(store, cert);
    assert_int_equal(X509_STORE_CTX_init(ctx, store, cert, NULL), 1);
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    X509_STORE_CTX_set_default(ctx, "ssl_server");
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (is_ip)
        X509_VERIFY_PARAM_set1_ip_asc(param, host);
    else
        X509_VERIFY_PARAM_set1_host(param, host, 0);
    bool good = X509_verify_cert(ctx) == 1;
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    return good;
}

static void selfsigned_serves_its_names(void **state)
{
    static const char *const hosts[] = {"relay.example", "*.w.example", "192.0.2.1", "[2001:db8::1]"};
    struct err e = ERR_INIT;
    struct stat st;
    char name[256];
    assert_int_equal(cert_selfsigned(dir, hosts, COUNT(hosts), 90, &e), 0);
    assert_int_equal(stat(in(KEY_FILE), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    X509 *cert = read_cert(in(CERT_FILE));
    EVP_PKEY *key = read_key(in(KEY_FILE));
    assert_int_equal(X509_check_private_key(cert, key), 1);
    assert_true(EVP_PKEY_is_a(key, "EC"));
    assert_true(trusted_for(cert, "relay.example", false));
    assert_true(trusted_for(cert, "a.w.example", false));
    assert_true(trusted_for(cert, "192.0.2.1", true));
    assert_true(trusted_for(cert, "2001:db8::1", true));
    assert_false(trusted_for(cert, "other.example", false));
    assert_false(trusted_for(cert, "192.0.2.1", false));
    assert_false(trusted_for(cert, "192.0.2.2", true));
    int days, seconds;
    assert_int_equal(ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(cert)), 1);
    assert_in_range(days, 89, 90);
    assert_true(cert_first_name(in(CERT_FILE), name));
    assert_string_equal(name, "relay.example");
    X509_free(cert);
    EVP_PKEY_free(key);
}

static void selfsigned_refuses(void **state)
{
    static const char *const bad[] = {"", "a b", "*", "a.*.b", "host:443", "http://x", "\xc3\xa4.example"};
    struct err e = ERR_INIT;
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_int_equal(cert_selfsigned(dir, &bad[i], 1, 90, &e), -1);
        assert_refused(&e, ERR_USAGE, "--host");
    }
    const char *good = "relay.example";
    assert_int_equal(cert_selfsigned(dir, &good, 0, 90, &e), -1);
    assert_refused(&e, ERR_USAGE, "--host NAME");
    assert_int_equal(cert_selfsigned(dir, &good, 1, 0, &e), -1);
    assert_refused(&e, ERR_USAGE, "--days");
    assert_false(file_exists(in(CERT_FILE)));
}

static X509_NAME *ca_name(void)
{
    X509_NAME *name = X509_NAME_new();
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"Test \x1b[31mCA", -1, -1, 0);
    return name;
}

// Signs the request as a CA does: its key, its names, another issuer. days may be negative.
static char *issue(const char *csr, EVP_PKEY *ca, long days, bool with_names)
{
    BIO *bio = BIO_new_mem_buf(csr, -1);
    X509_REQ *req = PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL);
    X509 *cert = X509_new();
    X509_NAME *issuer = ca_name();
    BIO_free(bio);
    assert_non_null(req);
    EVP_PKEY *key = X509_REQ_get0_pubkey(req);
    assert_int_equal(X509_REQ_verify(req, key), 1);
    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_set_issuer_name(cert, issuer);
    X509_set_subject_name(cert, X509_REQ_get_subject_name(req));
    X509_gmtime_adj(X509_getm_notBefore(cert), -10 * 86400);
    X509_gmtime_adj(X509_getm_notAfter(cert), days * 86400);
    X509_set_pubkey(cert, key);
    STACK_OF(X509_EXTENSION) *exts = X509_REQ_get_extensions(req);
    for (int i = 0; with_names && i < sk_X509_EXTENSION_num(exts); i++)
        X509_add_ext(cert, sk_X509_EXTENSION_value(exts, i), -1);
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    assert_true(X509_sign(cert, ca, EVP_sha256()) > 0);
    char *data, *pem;
    bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, cert);
    long len = BIO_get_mem_data(bio, &data);
    pem = strndup(data, (size_t)len);
    BIO_free(bio);
    X509_free(cert);
    X509_REQ_free(req);
    X509_NAME_free(issuer);
    return pem;
}

static int install(const char *pem, struct err *e)
{
    return cert_install(dir, pem, strlen(pem), e);
}

static void a_request_comes_back_signed(void **state)
{
    const char *hosts[] = {"relay.example", "192.0.2.1"};
    struct err e = ERR_INIT;
    char *csr, *pem, *late, *nameless, *text;
    size_t len;
    EVP_PKEY *ca = EVP_EC_gen("P-256");
    assert_int_equal(cert_selfsigned(dir, hosts, 1, 90, &e), 0);
    assert_int_equal(cert_request(dir, hosts, 2, &csr, &e), 0);
    EVP_PKEY *before = read_key(in(KEY_FILE)); // what is installed serves on until the answer comes
    X509 *old = read_cert(in(CERT_FILE));
    assert_int_equal(X509_check_private_key(old, before), 1);
    pem = issue(csr, ca, 30, true);
    late = issue(csr, ca, -1, true);
    nameless = issue(csr, ca, 30, false);
    assert_int_equal(install(late, &e), -1);
    assert_refused(&e, ERR_USAGE, "expired");
    assert_int_equal(install(nameless, &e), -1);
    assert_refused(&e, ERR_USAGE, "subjectAltName");
    assert_int_equal(install("", &e), -1);
    assert_refused(&e, ERR_USAGE, "no certificate");
    assert_int_equal(install(pem, &e), 0);
    assert_false(file_exists(in("web.key.new")));
    X509 *cert = read_cert(in(CERT_FILE));
    EVP_PKEY *key = read_key(in(KEY_FILE));
    assert_int_equal(X509_check_private_key(cert, key), 1);
    assert_int_equal(install(pem, &e), 0); // again, with the key that is there
    assert_int_equal(file_read(in(KEY_FILE), true, &text, &len, &e), 0);

    // certificate and key in one text, where no key fits
    assert_int_equal(unlink(in(KEY_FILE)), 0);
    assert_int_equal(install(pem, &e), -1);
    assert_refused(&e, ERR_USAGE, "no key here fits");
    char *both;
    assert_true(asprintf(&both, "%s%s", text, pem) > 0);
    assert_int_equal(install(both, &e), 0);
    assert_true(file_exists(in(KEY_FILE)));
    free(both);
    file_wipe(text, len);
    free(csr);
    free(pem);
    free(late);
    free(nameless);
    X509_free(old);
    X509_free(cert);
    EVP_PKEY_free(before);
    EVP_PKEY_free(key);
    EVP_PKEY_free(ca);
}

static void shows_without_driving_the_terminal(void **state)
{
    const char *hosts[] = {"relay.example", "2001:db8::1"};
    struct err e = ERR_INIT;
    char *csr, *pem, *text;
    size_t len;
    EVP_PKEY *ca = EVP_EC_gen("P-256");
    assert_int_equal(cert_request(dir, hosts, 2, &csr, &e), 0);
    pem = issue(csr, ca, 30, true);
    assert_int_equal(install(pem, &e), 0);
    FILE *out = open_memstream(&text, &len);
    assert_int_equal(cert_show(in(CERT_FILE), false, out, &e), 0);
    fclose(out);
    assert_non_null(strstr(text, "relay.example 2001:db8::1"));
    assert_non_null(strstr(text, "P-256") ? strstr(text, "P-256") : strstr(text, "prime256v1"));
    assert_null(strchr(text, 0x1b));
    free(text);
    out = open_memstream(&text, &len);
    assert_int_equal(cert_show(in(CERT_FILE), true, out, &e), 0);
    fclose(out);
    json_t *list = json_loads(text, 0, NULL);
    json_t *cert = json_array_get(list, 0);
    assert_string_equal(json_string_value(json_array_get(json_object_get(cert, "names"), 0)), "relay.example");
    assert_string_equal(json_string_value(json_object_get(cert, "state")), "valid");
    assert_true(json_is_false(json_object_get(cert, "self_signed")));
    assert_int_equal(strlen(json_string_value(json_object_get(cert, "spki_sha256"))), 43);
    assert_int_equal(strlen(json_string_value(json_object_get(cert, "sha256"))), 64);
    json_decref(list);
    free(text);
    free(csr);
    free(pem);
    EVP_PKEY_free(ca);
    assert_int_equal(cert_show(in(KEY_FILE), true, stdout, &e), -1);
    assert_refused(&e, ERR_USAGE, "no certificate");
    assert_int_equal(cert_show(in("none"), true, stdout, &e), -1);
    assert_refused(&e, ERR_USAGE, "none");
    char name[256];
    assert_false(cert_first_name(in("none"), name));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(selfsigned_serves_its_names, setup, teardown),
        cmocka_unit_test_setup_teardown(selfsigned_refuses, setup, teardown),
        cmocka_unit_test_setup_teardown(a_request_comes_back_signed, setup, teardown),
        cmocka_unit_test_setup_teardown(shows_without_driving_the_terminal, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
