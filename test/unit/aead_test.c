// SPDX-License-Identifier: Apache-2.0
// AEADs: known answers, and both libraries against each other for every length around an edge, cut into pieces, in place and
// not; a tag that is wrong in any bit is refused. Where only one library can be had (an older processor), the comparison is skipped.
#include "unit.h"
#include <openssl/obj_mac.h>
#include <openssl/rand.h>
#include <string.h>
#include "link/aead.h"

#define MOST 17000

static uint8_t plain[MOST], one[MOST], other[MOST], key[AEAD_KEY_MAX], nonce[AEAD_NONCE], more[5];
static const int ciphers[] = {NID_aes_128_gcm, NID_aes_256_gcm, NID_chacha20_poly1305};

static struct aead *have(int nid, bool seals, enum aead_by by)
{
    struct aead *a = aead_new(nid, key, seals, by);
    assert_non_null(a);
    return a;
}

// In pieces of `piece` bytes; 0: in one.
static void run(struct aead *a, uint8_t *to, const uint8_t *from, size_t len, size_t piece)
{
    assert_true(aead_begin(a, nonce, more, sizeof(more)));
    for (size_t at = 0, n; at < len; at += n) {
        n = piece && len - at > piece ? piece : len - at;
        assert_true(aead_update(a, to + at, from + at, n));
    }
}

// The AES-GCM test cases 4 and 16 of McGrew and Viega, with the additional data and text that they share.
static void known_answers(void **state)
{
    static const uint8_t half[] = {0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c, 0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08};
    static const uint8_t iv[] = {0xca, 0xfe, 0xba, 0xbe, 0xfa, 0xce, 0xdb, 0xad, 0xde, 0xca, 0xf8, 0x88};
    static const uint8_t aad[] = {0xfe, 0xed, 0xfa, 0xce, 0xde, 0xad, 0xbe, 0xef, 0xfe, 0xed,
                                  0xfa, 0xce, 0xde, 0xad, 0xbe, 0xef, 0xab, 0xad, 0xda, 0xd2};
    static const uint8_t text[] = {0xd9, 0x31, 0x32, 0x25, 0xf8, 0x84, 0x06, 0xe5, 0xa5, 0x59, 0x09, 0xc5, 0xaf, 0xf5, 0x26,
                                   0x9a, 0x86, 0xa7, 0xa9, 0x53, 0x15, 0x34, 0xf7, 0xda, 0x2e, 0x4c, 0x30, 0x3d, 0x8a, 0x31,
                                   0x8a, 0x72, 0x1c, 0x3c, 0x0c, 0x95, 0x95, 0x68, 0x09, 0x53, 0x2f, 0xcf, 0x0e, 0x24, 0x49,
                                   0xa6, 0xb5, 0x25, 0xb1, 0x6a, 0xed, 0xf5, 0xaa, 0x0d, 0xe6, 0x57, 0xba, 0x63, 0x7b, 0x39};
    static const uint8_t tags[2][AEAD_TAG] = {
        {0x5b, 0xc9, 0x4f, 0xbc, 0x32, 0x21, 0xa5, 0xdb, 0x94, 0xfa, 0xe9, 0x5a, 0xe7, 0x12, 0x1a, 0x47},
        {0x76, 0xfc, 0x6e, 0xce, 0x0f, 0x4e, 0x17, 0x68, 0xcd, 0xdf, 0x88, 0x53, 0xbb, 0x2d, 0x55, 0x1b}};
    for (int by = AEAD_BY_OPENSSL; by <= AEAD_BY_IPSEC_MB; by++) {
        for (int i = 0; i < 2; i++) {
            uint8_t tag[AEAD_TAG];
            memcpy(key, half, 16);
            memcpy(key + 16, half, 16);
            struct aead *a = aead_new(ciphers[i], key, true, (enum aead_by)by);
            if (!a && by == AEAD_BY_IPSEC_MB)
                skip();
            assert_non_null(a);
            assert_true(aead_begin(a, iv, aad, sizeof(aad)));
            assert_true(aead_update(a, one, text, sizeof(text)));
            assert_true(aead_seal_end(a, tag));
            assert_memory_equal(tag, tags[i], AEAD_TAG);
            aead_free(a);
        }
    }
}

static void both_libraries_agree(void **state)
{
    for (int c = 0; c < 2; c++) {
        struct aead *theirs = aead_new(ciphers[c], key, true, AEAD_BY_IPSEC_MB);
        if (!theirs)
            skip();
        struct aead *seal = have(ciphers[c], true, AEAD_BY_OPENSSL), *open = have(ciphers[c], false, AEAD_BY_IPSEC_MB);
        for (size_t len = 0; len < MOST; len = len < 1100 ? len + 1 : len + 1 + len / 9) {
            static const size_t pieces[] = {0, 1, 15, 16, 17, 255, 256, 257, 4096};
            size_t piece = pieces[len % (sizeof(pieces) / sizeof(pieces[0]))];
            uint8_t tag[AEAD_TAG], tag2[AEAD_TAG];
            RAND_bytes(nonce, sizeof(nonce));
            run(seal, one, plain, len, 0);
            assert_true(aead_seal_end(seal, tag));
            memcpy(other, plain, len);
            run(theirs, other, other, len, piece); // in place
            assert_true(aead_seal_end(theirs, tag2));
            assert_memory_equal(one, other, len);
            assert_memory_equal(tag, tag2, AEAD_TAG);
            run(open, other, one, len, piece);
            assert_true(aead_open_end(open, tag));
            assert_memory_equal(other, plain, len);
        }
        aead_free(theirs);
        aead_free(seal);
        aead_free(open);
    }
}

static void a_wrong_tag_is_refused(void **state)
{
    for (int by = AEAD_BY_OPENSSL; by <= AEAD_BY_IPSEC_MB; by++) {
        for (int c = 0; c < 3; c++) {
            struct aead *seal = have(ciphers[c], true, AEAD_BY_ANY), *open = aead_new(ciphers[c], key, false, (enum aead_by)by);
            uint8_t tag[AEAD_TAG];
            run(seal, one, plain, 100, 0);
            assert_true(aead_seal_end(seal, tag));
            for (unsigned bit = 0; open && bit <= 8 * AEAD_TAG; bit++) { // the last one is right
                if (bit < 8 * AEAD_TAG)
                    tag[bit / 8] ^= (uint8_t)(1 << bit % 8);
                run(open, other, one, 100, 0);
                assert_int_equal(aead_open_end(open, tag), bit == 8 * AEAD_TAG);
                if (bit < 8 * AEAD_TAG)
                    tag[bit / 8] ^= (uint8_t)(1 << bit % 8);
            }
            aead_free(seal);
            aead_free(open);
        }
    }
}

static void only_what_is_known(void **state)
{
    assert_int_equal(aead_key_len(NID_aes_128_gcm), 16);
    assert_int_equal(aead_key_len(NID_aes_256_gcm), AEAD_KEY_MAX);
    assert_int_equal(aead_key_len(NID_aes_128_ccm), 0);
    assert_null(aead_new(NID_aes_128_ccm, key, true, AEAD_BY_ANY));
    assert_null(aead_new(NID_chacha20_poly1305, key, true, AEAD_BY_IPSEC_MB));
    aead_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(both_libraries_agree),
        cmocka_unit_test(a_wrong_tag_is_refused),
        cmocka_unit_test(only_what_is_known),
    };
    RAND_bytes(plain, sizeof(plain));
    RAND_bytes(key, sizeof(key));
    RAND_bytes(more, sizeof(more));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
