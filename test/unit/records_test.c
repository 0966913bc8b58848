// SPDX-License-Identifier: Apache-2.0
// What RFC 8446 section 5 says of records that no honest peer sends: two ends of our own, one of which is told to say anything.
#include "unit.h"
#include <openssl/evp.h>
#include <openssl/obj_mac.h>
#include "core/buf.h"
#include "link/tls_records.h"

struct two {
    struct pool pool;
    struct records *client, *server;
    struct bufq wire;
};

static void two_init(struct two *t)
{
    struct record_secrets s = {.client_len = 32, .server_len = 32};
    *t = (struct two){0};
    memset(s.client, 1, sizeof(s.client));
    memset(s.server, 2, sizeof(s.server));
    pool_init(&t->pool);
    t->client = records_with(NID_aes_128_gcm, EVP_sha256(), false, &s);
    t->server = records_with(NID_aes_128_gcm, EVP_sha256(), true, &s);
    assert_non_null(t->client);
    assert_non_null(t->server);
}

static void two_fini(struct two *t)
{
    records_free(t->client);
    records_free(t->server);
    bufq_clear(&t->wire);
    assert_int_equal(t->pool.out_bytes, 0);
    pool_fini(&t->pool);
}

static void put(void *ctx, struct buf *sealed) { bufq_push(ctx, sealed); }

static void say(struct two *t, struct records *who, int type, const void *data, size_t len)
{
    struct buf *b = buf_get_small(&t->pool, BUF_HEADROOM, len + RECORD_TAIL);
    buf_append(b, data, len);
    assert_true(records_seal(who, b, (enum record_type)type, put, &t->wire));
}

static enum record_result hear(struct two *t, struct records *who)
{
    struct buf *b;
    enum record_result result = records_open(who, &t->wire, &t->pool, &b);
    if (result == RECORD_OK)
        buf_put(b);
    return result;
}

static void assert_ends(struct two *t, struct records *who, uint8_t alert)
{
    uint8_t told;
    assert_int_equal(hear(t, who), RECORD_BAD);
    assert_non_null(records_why(who, &told));
    assert_int_equal(told, alert);
    say(t, who == t->client ? t->server : t->client, RECORD_DATA, "x", 1);
    assert_int_equal(hear(t, who), RECORD_BAD); // for good
    two_fini(t);
    two_init(t);
}

static void what_a_server_takes_from_nobody(void **state)
{
    struct two t;
    two_init(&t);
    say(&t, t.client, RECORD_HANDSHAKE, "\4\0\0\1x", 5); // tickets are a server's
    assert_ends(&t, t.server, 10);
    say(&t, t.server, RECORD_HANDSHAKE, "\4\0\0\1x", 5);
    assert_int_equal(hear(&t, t.client), RECORD_MORE);
    say(&t, t.server, RECORD_HANDSHAKE, "\15\0\0\1x", 5); // CertificateRequest: no such right was offered
    assert_ends(&t, t.client, 10);
    two_fini(&t);
}

static void empty_and_odd_records(void **state)
{
    struct two t;
    two_init(&t);
    say(&t, t.client, RECORD_ALERT, "", 0);
    assert_ends(&t, t.server, 10);
    say(&t, t.client, RECORD_HANDSHAKE, "", 0);
    assert_ends(&t, t.server, 10);
    say(&t, t.client, 0, "\0\0\0", 3); // nothing but zeros
    assert_ends(&t, t.server, 10);
    say(&t, t.client, 20, "\1", 1); // change_cipher_spec, sealed
    assert_ends(&t, t.server, 10);
    say(&t, t.client, 24, "\1", 1);
    assert_ends(&t, t.server, 10);
    say(&t, t.client, RECORD_ALERT, "\1", 1);
    assert_ends(&t, t.server, 50);
    say(&t, t.client, RECORD_ALERT, "\1\0\1\0", 4);
    assert_ends(&t, t.server, 50);
    say(&t, t.client, RECORD_ALERT, "\1\50", 2); // an error that pretends to be a warning
    assert_ends(&t, t.server, 0);
    two_fini(&t);
}

static void unsealed_records(void **state)
{
    static const char ccs[] = "\24\3\3\0\1\1", plain[] = "\27\3\3\0\1x", alert[] = "\25\3\3\0\2\1\0", big[] = "\27\3\3\x40\x12";
    struct two t;
    two_init(&t);
    bufq_push(&t.wire, buf_copy(&t.pool, ccs, 6)); // was allowed before Finished
    assert_ends(&t, t.server, 10);
    bufq_push(&t.wire, buf_copy(&t.pool, plain, 6));
    assert_ends(&t, t.server, 20);
    bufq_push(&t.wire, buf_copy(&t.pool, alert, 7));
    assert_ends(&t, t.server, 10);
    bufq_push(&t.wire, buf_copy(&t.pool, big, 5)); // refused by its length, before it comes
    assert_ends(&t, t.server, 22);
    two_fini(&t);
}

static void messages_are_whole_and_alone(void **state)
{
    struct two t;
    two_init(&t);
    static const int others[] = {RECORD_DATA, RECORD_ALERT};
    for (size_t i = 0; i < 2; i++) { // between the parts of a message
        say(&t, t.client, RECORD_HANDSHAKE, "\30\0\0", 3);
        say(&t, t.client, others[i], "\1\0", 2);
        assert_ends(&t, t.server, 10);
    }
    say(&t, t.client, RECORD_HANDSHAKE, "\30\0\0\1\0\30\0\0\1\0", 10); // a key change within a record
    assert_ends(&t, t.server, 10);
    say(&t, t.client, RECORD_HANDSHAKE, "\30\0\0\1\2", 5);
    assert_ends(&t, t.server, 47);
    say(&t, t.client, RECORD_HANDSHAKE, "\30\0\0\2\0\0", 6);
    assert_ends(&t, t.server, 50);
    say(&t, t.client, RECORD_HANDSHAKE, "\30\0\0\0", 4);
    assert_ends(&t, t.server, 50);
    two_fini(&t);
}

static void close_notify_is_the_end(void **state)
{
    struct two t;
    two_init(&t);
    say(&t, t.client, RECORD_ALERT, "\1\0", 2);
    assert_int_equal(hear(&t, t.server), RECORD_END);
    two_fini(&t);
}

static void barren_records_are_counted(void **state)
{
    struct two t;
    two_init(&t);
    for (int i = 0; i < RECORD_BARREN_MAX; i++)
        say(&t, t.client, RECORD_DATA, "", 0);
    assert_int_equal(hear(&t, t.server), RECORD_MORE);
    say(&t, t.client, RECORD_DATA, "x", 1);
    assert_int_equal(hear(&t, t.server), RECORD_OK);
    for (int i = 0; i <= RECORD_BARREN_MAX; i++)
        say(&t, t.client, RECORD_ALERT, "\1\132", 2); // user_canceled, which alone means nothing
    assert_ends(&t, t.server, 10);
    two_fini(&t);
}

// Section 4.6.3: before the next data, once for all that were asked; nothing goes out for the asking alone.
static void asked_for_new_keys(void **state)
{
    struct two t;
    two_init(&t);
    for (int i = 0; i < 5; i++) {
        assert_true(records_renew(t.client, &t.pool, put, &t.wire));
        say(&t, t.client, RECORD_DATA, "x", 1);
        assert_int_equal(hear(&t, t.server), RECORD_OK);
    }
    assert_false(records_owe_renewal(t.server)); // ours ask for none in return
    struct buf *b = buf_get_small(&t.pool, BUF_HEADROOM, 5 + RECORD_TAIL);
    buf_append(b, "\30\0\0\1\1", 5);
    assert_true(records_seal(t.client, b, RECORD_HANDSHAKE, put, &t.wire));
    assert_int_equal(hear(&t, t.server), RECORD_MORE);
    assert_true(records_owe_renewal(t.server));
    assert_true(records_renew(t.server, &t.pool, put, &t.wire));
    assert_false(records_owe_renewal(t.server));
    say(&t, t.server, RECORD_DATA, "x", 1);
    assert_int_equal(hear(&t, t.client), RECORD_OK);
    two_fini(&t);
}

static void a_key_serves_so_many_records(void **state)
{
    struct two t;
    two_init(&t);
    for (uint64_t i = 0; i < RECORD_KEY_MAX; i++) {
        assert_false(records_owe_renewal(t.client));
        say(&t, t.client, RECORD_DATA, "", 0);
        if (t.wire.bytes > 1 << 20)
            bufq_clear(&t.wire);
    }
    assert_true(records_owe_renewal(t.client));
    assert_true(records_renew(t.client, &t.pool, put, &t.wire));
    assert_false(records_owe_renewal(t.client));
    two_fini(&t);
}

static void only_whole_secrets(void **state)
{
    struct record_secrets s = {0};
    char line[300] = "SERVER_TRAFFIC_SECRET_0 ";
    assert_null(records_with(NID_aes_128_gcm, EVP_sha256(), true, &s));
    for (int i = 0; i < 64; i++)
        strcat(line, "ab");
    line[strlen(line) - 64] = ' ';
    record_secrets_note(&s, line);
    assert_int_equal(s.server_len, 31); // cut
    record_secrets_note(&s, "CLIENT_TRAFFIC_SECRET_0 ");
    record_secrets_note(&s, "EXPORTER_SECRET ab cd");
    assert_int_equal(s.client_len, 0);
    assert_null(records_with(NID_aes_128_gcm, EVP_sha256(), true, &s));
    assert_null(records_with(NID_aes_128_ccm, EVP_sha256(), true, &s));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_server_takes_from_nobody),
        cmocka_unit_test(empty_and_odd_records),
        cmocka_unit_test(unsealed_records),
        cmocka_unit_test(messages_are_whole_and_alone),
        cmocka_unit_test(close_notify_is_the_end),
        cmocka_unit_test(barren_records_are_counted),
        cmocka_unit_test(asked_for_new_keys),
        cmocka_unit_test(a_key_serves_so_many_records),
        cmocka_unit_test(only_whole_secrets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
