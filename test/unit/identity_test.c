// SPDX-License-Identifier: Apache-2.0
#include "unit.h"
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <sys/stat.h>
#include "temp.h"
#include "trust/file.h"
#include "trust/identity.h"

static char dir[64], path[96];

static int setup(void **state)
{
    temp_make(dir);
    snprintf(path, sizeof path, "%s/key", dir);
    return 0;
}

static int teardown(void **state)
{
    temp_drop(dir);
    return 0;
}

static void survives_on_disk(void **state)
{
    struct identity a, b;
    struct err e = ERR_INIT;
    struct stat st;
    bool made;
    assert_int_equal(identity_open(&a, path, &made, &e), 0);
    assert_true(made);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(identity_open(&b, path, &made, &e), 0);
    assert_false(made);
    assert_memory_equal(a.pin, b.pin, PIN_SIZE);
    assert_int_equal(EVP_PKEY_eq(a.key, b.key), 1);
    assert_true(EVP_PKEY_is_a(a.key, "ED25519"));
    identity_fini(&a);
    identity_fini(&b);
}

// The pin by the book: SHA-256 of i2d_X509_PUBKEY of the certificate that TLS will show.
static void pin_is_the_hash_of_the_spki(void **state)
{
    struct identity id;
    struct err e = ERR_INIT;
    uint8_t hash[32], back[PIN_SIZE];
    unsigned char *der = NULL;
    char text[PIN_TEXT_MAX];
    assert_int_equal(identity_make(&id, &e), 0);
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(id.cert), &der);
    assert_int_equal(len, 44); // Ed25519
    SHA256(der, (size_t)len, hash);
    OPENSSL_free(der);
    assert_memory_equal(hash, id.pin, 32);
    assert_int_equal(X509_verify(id.cert, id.key), 1);
    assert_int_equal(strlen(pin_text(id.pin, text)), 43);
    assert_true(pin_parse(back, text));
    assert_true(pin_equal(back, id.pin));
    back[31] ^= 1;
    assert_false(pin_equal(back, id.pin));
    text[42] = 0;
    assert_false(pin_parse(back, text));
    identity_fini(&id);
}

static void write_file(const char *text, mode_t mode)
{
    struct err e = ERR_INIT;
    assert_int_equal(file_write(path, text, strlen(text), mode, &e), 0);
}

static void refuses_what_is_no_secret_key(void **state)
{
    static const char rsa_like[] = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n";
    struct identity id;
    struct err e = ERR_INIT;
    bool made;
    assert_int_equal(identity_load(&id, path, &e), -1);
    assert_refused(&e, ERR_USAGE, "No such file");
    write_file("hello", 0600);
    assert_int_equal(identity_load(&id, path, &e), -1);
    assert_refused(&e, ERR_USAGE, "no private key in PEM");
    write_file(rsa_like, 0600);
    assert_int_equal(identity_open(&id, path, &made, &e), -1);
    assert_refused(&e, ERR_USAGE, "no private key in PEM");
    write_file("", 0600);
    assert_int_equal(identity_open(&id, path, &made, &e), -1); // never overwritten
    assert_refused(&e, ERR_USAGE, "no private key in PEM");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(identity_open(&id, path, &made, &e), 0);
    identity_fini(&id);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(identity_open(&id, path, &made, &e), -1);
    assert_refused(&e, ERR_USAGE, "chmod 600");
    EVP_PKEY *ec = EVP_EC_gen("P-256");
    FILE *f = fopen(path, "w");
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(PEM_write_PrivateKey(f, ec, NULL, NULL, 0, NULL, NULL), 1);
    fclose(f);
    EVP_PKEY_free(ec);
    assert_int_equal(identity_load(&id, path, &e), -1);
    assert_refused(&e, ERR_USAGE, "no Ed25519");
}

static void state_folders(void **state)
{
    struct err e = ERR_INIT;
    struct stat st;
    char deep[128];
    snprintf(deep, sizeof deep, "%s/a/b/c", dir);
    assert_int_equal(file_state_dir(deep, &e), 0);
    assert_int_equal(stat(deep, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(file_state_dir(deep, &e), 0);
    write_file("x", 0600);
    assert_int_equal(file_state_dir(path, &e), -1);
    assert_refused(&e, ERR_USAGE, "no folder");
    snprintf(deep, sizeof deep, "%s/x/y", path);
    assert_int_equal(file_state_dir(deep, &e), -1);
    err_fini(&e);
}

static void creating_leaves_what_is_there(void **state)
{
    struct err e = ERR_INIT;
    char *text;
    size_t len;
    bool made;
    assert_int_equal(file_create(path, "one", 3, 0600, &made, &e), 0);
    assert_true(made);
    assert_int_equal(file_create(path, "two", 3, 0600, &made, &e), 0);
    assert_false(made);
    assert_int_equal(file_read(path, true, &text, &len, &e), 0);
    assert_string_equal(text, "one");
    file_wipe(text, len);
}

static void large_files_are_bounded(void **state)
{
    struct err e = ERR_INIT;
    char *big = calloc(1, FILE_SECRET_MAX + 1), *text;
    size_t len;
    assert_int_equal(file_write(path, big, FILE_SECRET_MAX - 1, 0600, &e), 0);
    assert_int_equal(file_read(path, true, &text, &len, &e), 0);
    assert_int_equal(len, FILE_SECRET_MAX - 1);
    file_wipe(text, len);
    assert_int_equal(file_write(path, big, FILE_SECRET_MAX + 1, 0600, &e), 0);
    assert_int_equal(file_read(path, true, &text, &len, &e), -1);
    assert_refused(&e, ERR_USAGE, "larger");
    free(big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(survives_on_disk, setup, teardown),
        cmocka_unit_test(pin_is_the_hash_of_the_spki),
        cmocka_unit_test_setup_teardown(refuses_what_is_no_secret_key, setup, teardown),
        cmocka_unit_test_setup_teardown(state_folders, setup, teardown),
        cmocka_unit_test_setup_teardown(creating_leaves_what_is_there, setup, teardown),
        cmocka_unit_test_setup_teardown(large_files_are_bounded, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
