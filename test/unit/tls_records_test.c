// SPDX-License-Identifier: Apache-2.0
// Our TLS 1.3 records against OpenSSL's own: every cipher, both roles, every size around an edge, reads cut anywhere, tickets,
// padding, new keys, damage and the end. The other side is a bare SSL between two memory BIOs.
#include "drive.h"
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/err.h>
#include <string.h>
#include "certs.h"
#include "link/mem.h"
#include "link/tls.h"

struct duel {
    struct worker w;
    struct link *ours, *base, *wire; // wire: the peer's end
    struct wake wake;
    SSL_CTX *our_ctx, *peer_ctx;
    SSL *peer;
    struct cert cert;
};

static void on_news(struct wake *wake) { (void)wake; }

// Moves bytes between the wire and the peer's memory BIOs.
static void turn(struct duel *d)
{
    static const bool never = false;
    struct buf *b;
    uint8_t bytes[4096];
    drive_until(&d->w, &never);
    while (link_recv(d->wire, &b) == LINK_OK) {
        assert_int_equal(BIO_write(SSL_get_rbio(d->peer), buf_data(b), (int)b->len), b->len);
        buf_put(b);
    }
    for (int n; (n = BIO_read(SSL_get_wbio(d->peer), bytes, sizeof(bytes))) > 0;)
        link_send(d->wire, buf_copy(&d->w.pool, bytes, (size_t)n));
    drive_until(&d->w, &never);
}

static uint8_t fragment_max; // what the peer asks for (RFC 6066)

static void duel_init(struct duel *d, bool we_serve, const char *cipher, size_t cut, int tickets)
{
    struct err e = ERR_INIT;
    struct mem_plan plan = {.cut = cut, .queue_max = 1 << 20};
    *d = (struct duel){0};
    worker_init_bare(&d->w);
    d->w.now_ms = 1000;
    cert_make(&d->cert, "relay", "DNS:relay.example", NULL, true, -1, 10);
    mem_pair(&d->w, &d->base, &d->wire, &plan, &plan);
    d->our_ctx = we_serve ? tls_server_ctx(d->cert.cert_file, d->cert.key_file, &e) : tls_client_ctx(d->cert.cert_file, &e);
    d->peer_ctx = SSL_CTX_new(we_serve ? TLS_client_method() : TLS_server_method());
    assert_non_null(d->our_ctx);
    if (!we_serve) {
        assert_int_equal(SSL_CTX_use_certificate(d->peer_ctx, d->cert.x509), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey(d->peer_ctx, d->cert.key), 1);
    }
    assert_int_equal(SSL_CTX_set_ciphersuites(d->peer_ctx, cipher), 1);
    SSL_CTX_set_num_tickets(d->peer_ctx, (size_t)tickets);
    SSL_CTX_set_tlsext_max_fragment_length(d->peer_ctx, fragment_max);
    d->peer = SSL_new(d->peer_ctx);
    SSL_set_bio(d->peer, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    if (we_serve)
        SSL_set_connect_state(d->peer);
    else
        SSL_set_accept_state(d->peer);
    struct tls_options o = {.ctx = d->our_ctx, .server = we_serve, .outer = true, .who = "peer"};
    d->ours = tls_over(d->base, &o, NULL);
    wake_init(&d->wake, on_news);
    link_own(d->ours, &d->wake);
    enum link_status s = LINK_AGAIN;
    for (int i = 0; i < 20000 && (s == LINK_AGAIN || !SSL_is_init_finished(d->peer)); i++) {
        s = link_open(d->ours);
        SSL_do_handshake(d->peer);
        turn(d);
    }
    assert_int_equal(s, LINK_OK);
    assert_string_equal(SSL_get_cipher_name(d->peer), cipher);
}

static void duel_fini(struct duel *d)
{
    wake_cancel(&d->wake);
    link_close(d->ours);
    link_close(d->wire);
    drive_settle(&d->w);
    SSL_free(d->peer);
    SSL_CTX_free(d->our_ctx);
    SSL_CTX_free(d->peer_ctx);
    cert_fini(&d->cert);
    worker_fini(&d->w);
    ERR_clear_error();
}

static uint8_t pattern[20000], got[20000];

static void peer_says(struct duel *d, size_t n)
{
    size_t have = 0;
    assert_int_equal(SSL_write(d->peer, pattern, (int)n), n);
    for (int i = 0; i < 60000 && have < n; i++) {
        struct buf *b;
        turn(d);
        enum link_status s = link_recv(d->ours, &b);
        if (s == LINK_AGAIN)
            continue;
        if (s != LINK_OK)
            fail_msg("%zu of %zu: %s", have, n, err_text(&d->ours->err));
        assert_in_range(b->len, 1, sizeof(got) - have);
        memcpy(got + have, buf_data(b), b->len);
        have += b->len;
        buf_put(b);
    }
    assert_int_equal(have, n);
    assert_memory_equal(got, pattern, n);
}

static void we_say(struct duel *d, size_t n)
{
    struct buf *b = buf_get(&d->w.pool);
    if (n > BUF_ROOM)
        b->start = 0;
    assert_int_equal(buf_append(b, pattern, n), n);
    link_send(d->ours, b);
    size_t have = 0;
    for (int i = 0; i < 60000 && have < n; i++) {
        turn(d);
        int r = SSL_read(d->peer, got + have, (int)(sizeof(got) - have));
        assert_true(r > 0 || SSL_get_error(d->peer, r) == SSL_ERROR_WANT_READ);
        have += r > 0 ? (size_t)r : 0;
    }
    assert_int_equal(have, n);
    assert_memory_equal(got, pattern, n);
}

static const char *const ciphers[] = {"TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_256_GCM_SHA384"};

static void every_cipher_role_and_size(void **state)
{
    static const size_t sizes[] = {1, 2, 100, 2015, 2032, 2033, 16327, 16346, 16350, 16351, 16352, 16362, 16363, 16368, 16384};
    for (size_t c = 0; c < 3; c++) {
        for (int serve = 0; serve < 2; serve++) {
            struct duel d;
            duel_init(&d, serve, ciphers[c], 0, 2);
            for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
                peer_says(&d, sizes[i]);
                we_say(&d, sizes[i]);
            }
            peer_says(&d, 20000); // two records
            duel_fini(&d);
        }
    }
}

static void reads_may_be_cut_anywhere(void **state)
{
    for (size_t cut = 1; cut < 24; cut++) {
        struct duel d;
        duel_init(&d, cut % 2, ciphers[cut % 3], cut, 3);
        for (size_t n = 1; n < 40; n += 6)
            peer_says(&d, n);
        peer_says(&d, 3000);
        we_say(&d, 3000);
        duel_fini(&d);
    }
}

static void padding_is_not_data(void **state)
{
    struct duel d;
    duel_init(&d, true, ciphers[0], 0, 0);
    SSL_set_block_padding(d.peer, 4096);
    for (size_t n = 1; n <= 16384; n = n * 2 + 1)
        peer_says(&d, n);
    peer_says(&d, 16384);
    duel_fini(&d);
}

static void new_keys(void **state)
{
    for (int serve = 0; serve < 2; serve++) {
        for (size_t c = 0; c < 3; c++) {
            struct duel d;
            duel_init(&d, serve, ciphers[c], 7, 1);
            for (int round = 0; round < 3; round++) {
                assert_int_equal(SSL_key_update(d.peer, round % 2 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED), 1);
                peer_says(&d, 500); // and we renew ours where that was asked for
                we_say(&d, 500);
                assert_int_equal(SSL_get_key_update_type(d.peer), SSL_KEY_UPDATE_NONE);
                d.w.now_ms += 3600001; // ours is an hour old
                we_say(&d, 500);
                peer_says(&d, 500);
            }
            duel_fini(&d);
        }
    }
}

static void ends_in_order(void **state)
{
    for (int serve = 0; serve < 2; serve++) {
        struct duel d;
        struct buf *b;
        duel_init(&d, serve, ciphers[0], 0, 0);
        we_say(&d, 10);
        link_shut(d.ours, SHUT_END);
        turn(&d);
        assert_int_equal(SSL_read(d.peer, got, 10), 0);
        assert_int_equal(SSL_get_error(d.peer, 0), SSL_ERROR_ZERO_RETURN);
        peer_says(&d, 10); // the other direction goes on
        SSL_shutdown(d.peer);
        turn(&d);
        assert_int_equal(link_recv(d.ours, &b), LINK_END);
        assert_int_equal(link_recv(d.ours, &b), LINK_END);
        duel_fini(&d);
    }
}

static void an_end_without_close_notify_fails(void **state)
{
    struct duel d;
    struct buf *b;
    duel_init(&d, false, ciphers[0], 0, 0);
    link_shut(d.wire, SHUT_END);
    turn(&d);
    assert_int_equal(link_recv(d.ours, &b), LINK_FAILED);
    assert_string_equal(err_text(&d.ours->err), "TLS with peer: the connection ended without close_notify");
    duel_fini(&d);
}

// Each byte of a record in turn: its head, its data, its tag.
static void damage_is_noticed_and_told(void **state)
{
    for (size_t at = 0; at < 5 + 100 + 17; at++) {
        struct duel d;
        struct buf *b;
        duel_init(&d, true, ciphers[at % 3], 0, 0);
        uint8_t record[256];
        assert_int_equal(SSL_write(d.peer, pattern, 100), 100);
        int n = BIO_read(SSL_get_wbio(d.peer), record, sizeof(record));
        assert_int_equal(n, 5 + 100 + 17);
        record[at] ^= at == 3 ? 0x40 : 1; // a length beyond the bound, or another one
        link_send(d.wire, buf_copy(&d.w.pool, record, (size_t)n));
        SSL_write(d.peer, pattern, 100);
        turn(&d);
        assert_int_equal(link_recv(d.ours, &b), LINK_FAILED);
        assert_int_equal(link_recv(d.ours, &b), LINK_FAILED);
        turn(&d);
        assert_true(SSL_read(d.peer, got, 10) <= 0);
        if (at >= 5) {
            assert_string_equal(err_text(&d.ours->err), "TLS with peer: decryption failed or bad record mac");
            assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_SSLV3_ALERT_BAD_RECORD_MAC);
        }
        duel_fini(&d);
    }
}

static void a_replayed_record_fails(void **state)
{
    struct duel d;
    struct buf *b;
    uint8_t record[256];
    duel_init(&d, true, ciphers[0], 0, 0);
    assert_int_equal(SSL_write(d.peer, pattern, 100), 100);
    int n = BIO_read(SSL_get_wbio(d.peer), record, sizeof(record));
    for (int i = 0; i < 2; i++) {
        link_send(d.wire, buf_copy(&d.w.pool, record, (size_t)n));
        turn(&d);
        assert_int_equal(link_recv(d.ours, &b), i ? LINK_FAILED : LINK_OK);
        if (!i)
            buf_put(b);
    }
    duel_fini(&d);
}

static void a_fatal_alert_is_told(void **state)
{
    struct duel d;
    struct buf *b;
    duel_init(&d, true, ciphers[0], 0, 0);
    link_send(d.base, buf_copy(&d.w.pool, "\x17\x03\x03\x00\x20garbage garbage garbage garbage!", 37)); // past our records
    turn(&d);
    assert_int_equal(SSL_read(d.peer, got, 10), -1); // the peer complains
    turn(&d);
    assert_int_equal(link_recv(d.ours, &b), LINK_FAILED);
    assert_string_equal(err_text(&d.ours->err), "TLS with peer: bad record mac");
    duel_fini(&d);
}

static void smaller_records_where_the_peer_asks(void **state)
{
    struct duel d;
    fragment_max = TLSEXT_max_fragment_length_1024;
    duel_init(&d, true, ciphers[0], 0, 0);
    fragment_max = TLSEXT_max_fragment_length_DISABLED;
    we_say(&d, 10000); // the peer refuses a longer one
    peer_says(&d, 10000);
    duel_fini(&d);
}

// Byte by byte, as a hostile peer might: what we keep is bounded by what came.
static void drips_cost_what_they_weigh(void **state)
{
    struct duel d;
    struct buf *b;
    uint8_t record[16384];
    duel_init(&d, true, ciphers[0], 0, 0);
    assert_int_equal(SSL_write(d.peer, pattern, 10000), 10000);
    int n = BIO_read(SSL_get_wbio(d.peer), record, sizeof(record));
    size_t before = d.w.pool.out_bytes;
    for (int i = 0; i < n - 1; i++) {
        b = buf_get(&d.w.pool); // as a socket gives it
        buf_append(b, record + i, 1);
        link_send(d.wire, b);
        assert_int_equal(link_recv(d.ours, &b), LINK_AGAIN);
        assert_true(d.w.pool.out_bytes - before <= 3 * BUF_SIZE);
    }
    link_send(d.wire, buf_copy(&d.w.pool, record + n - 1, 1));
    assert_int_equal(link_recv(d.ours, &b), LINK_OK);
    assert_memory_equal(buf_data(b), pattern, 10000);
    buf_put(b);
    duel_fini(&d);
}

// Section 4.6.3: one answer, before our next data. Asking costs us no memory.
static void many_requests_get_one_answer(void **state)
{
    struct duel d;
    struct buf *b;
    duel_init(&d, true, ciphers[0], 0, 0);
    for (int i = 0; i < 1000; i++) {
        SSL_key_update(d.peer, SSL_KEY_UPDATE_REQUESTED);
        assert_int_equal(SSL_write(d.peer, pattern, 1), 1);
        turn(&d);
        assert_int_equal(link_recv(d.ours, &b), LINK_OK);
        buf_put(b);
        assert_int_equal(link_recv(d.ours, &b), LINK_AGAIN);
        turn(&d);
        assert_int_equal(BIO_pending(SSL_get_rbio(d.peer)), 0);
    }
    we_say(&d, 100);
    peer_says(&d, 100);
    duel_fini(&d);
}

static int setup(void **state)
{
    return RAND_bytes(pattern, sizeof(pattern)) == 1 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cipher_role_and_size),  cmocka_unit_test(reads_may_be_cut_anywhere),
        cmocka_unit_test(padding_is_not_data),         cmocka_unit_test(new_keys),
        cmocka_unit_test(ends_in_order),               cmocka_unit_test(an_end_without_close_notify_fails),
        cmocka_unit_test(damage_is_noticed_and_told),  cmocka_unit_test(a_replayed_record_fails),
        cmocka_unit_test(a_fatal_alert_is_told),
        cmocka_unit_test(smaller_records_where_the_peer_asks), cmocka_unit_test(drips_cost_what_they_weigh),
        cmocka_unit_test(many_requests_get_one_answer),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
