// SPDX-License-Identifier: Apache-2.0
// The TLS link: whom it trusts and what it says when it does not, where its stream may end, and its keys.
#include "drive.h"
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>
#include "certs.h"
#include "texts.h"
#include "link/mem.h"
#include "link/tls.h"
#include "link/tls_records.h"

struct pair {
    struct worker w;
    struct link *client, *server, *client_base, *server_base;
    struct wake wake;
    enum link_status client_open, server_open;
};

static void on_news(struct wake *wake) { (void)wake; }

static void turn(struct pair *p) { drive_all(&p->w); }

static void pair_open(struct pair *p, const struct tls_options *client, const struct tls_options *server,
                      const struct mem_plan *plan)
{
    worker_init_bare(&p->w);
    p->w.now_ms = 1000;
    mem_pair(&p->w, &p->client_base, &p->server_base, plan, plan);
    p->client = tls_over(p->client_base, client, NULL);
    p->server = tls_over(p->server_base, server, NULL);
    wake_init(&p->wake, on_news);
    link_own(p->client, &p->wake);
    link_own(p->server, &p->wake);
    p->client_open = p->server_open = LINK_AGAIN;
    for (int i = 0; i < 50; i++) {
        if (p->client_open == LINK_AGAIN)
            p->client_open = link_open(p->client);
        if (p->server_open == LINK_AGAIN)
            p->server_open = link_open(p->server);
        turn(p);
    }
}

static void pair_fini(struct pair *p)
{
    wake_cancel(&p->wake);
    link_close(p->client);
    link_close(p->server);
    drive_settle(&p->w);
    worker_fini(&p->w);
}

static void say(struct pair *p, struct link *from, const char *text)
{
    text_send(from, text);
    turn(p);
}

// --- outer: the certificate

struct outer {
    const char *host;  // asked for
    const char *name, *san; // of the certificate
    int from, to;      // days
    bool other_ca;     // signed by one that is not trusted
    bool self;         // signed by itself
    const char *want;  // NULL: trusted
};

static void certificates_are_judged(void **state)
{
    static const struct outer cases[] = {
        {"relay.example", "x", "DNS:relay.example", -1, 10, false, false, NULL},
        {"relay.example.", "x", "DNS:relay.example", -1, 10, false, false, NULL},
        {"RELAY.example", "x", "DNS:relay.example", -1, 10, false, false, NULL},
        {"a.relay.example", "x", "DNS:*.relay.example", -1, 10, false, false, NULL},
        {"127.0.0.1", "x", "IP:127.0.0.1", -1, 10, false, false, NULL},
        {"::1", "x", "DNS:other,IP:::1", -1, 10, false, false, NULL},
        {"[::1]", "x", "IP:::1", -1, 10, false, false, NULL},
        {"other.example", "x", "DNS:relay.example", -1, 10, false, false, "hostname mismatch"},
        {"relay.example", "relay.example", NULL, -1, 10, false, false, "hostname mismatch"}, // the name only in CN
        {"a.b.relay.example", "x", "DNS:*.relay.example", -1, 10, false, false, "hostname mismatch"},
        {"abc.relay.example", "x", "DNS:a*.relay.example", -1, 10, false, false, "hostname mismatch"},
        {"127.0.0.1", "x", "DNS:127.0.0.1", -1, 10, false, false, "IP address mismatch"},
        {"127.0.0.2", "x", "IP:127.0.0.1", -1, 10, false, false, "IP address mismatch"},
        {"relay.example", "x", "DNS:relay.example", -9, -1, false, false, "certificate has expired"},
        {"relay.example", "x", "DNS:relay.example", 1, 10, false, false, "certificate is not yet valid"},
        {"relay.example", "x", "DNS:relay.example", -1, 10, false, true, "self-signed certificate"},
        {"relay.example", "x", "DNS:relay.example", -1, 10, true, false, "unable to get local issuer certificate"},
    };
    struct cert ca, other;
    struct err e = ERR_INIT;
    cert_make(&ca, "Good CA", NULL, NULL, true, -10, 10);
    cert_make(&other, "Box\x1b CA", NULL, NULL, true, -10, 10);
    SSL_CTX *cc = tls_client_ctx(ca.cert_file, &e);
    assert_non_null(cc);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct outer *c = &cases[i];
        struct cert leaf;
        cert_make(&leaf, c->name, c->san, c->self ? NULL : c->other_ca ? &other : &ca, false, c->from, c->to);
        SSL_CTX *sc = tls_server_ctx(leaf.cert_file, leaf.key_file, &e);
        assert_non_null(sc);
        for (int report = 0; report < 2; report++) {
            struct tls_options co = {.ctx = cc, .outer = true, .host = c->host, .report = report, .who = "relay.example:443"};
            struct tls_options so = {.ctx = sc, .server = true, .outer = true, .who = "agent"};
            struct pair p;
            pair_open(&p, &co, &so, NULL);
            const struct link_facts *f = p.client->facts;
            if (c->want && !report) {
                char want[256];
                assert_int_equal(p.client_open, LINK_FAILED);
                assert_int_equal(p.client->err.kind, ERR_UNTRUSTED);
                snprintf(want, sizeof(want), "TLS with relay.example:443: certificate verify failed: %s (issuer CN=%s)", c->want,
                         c->self ? c->name : c->other_ca ? "Box\\\\1B CA" : "Good CA");
                assert_string_equal(err_text(&p.client->err), want);
                assert_int_not_equal(p.server_open, LINK_AGAIN); // the alert came
            } else {
                if (p.client_open != LINK_OK)
                    fail_msg("case %zu: %s", i, err_text(&p.client->err));
                assert_int_equal(f->outer_trusted, !c->want);
                assert_true(!c->want || strstr(f->outer_reason, c->want));
                assert_true(c->want || !f->outer_reason[0]);
                assert_true(f->has_exporter);
            }
            pair_fini(&p);
        }
        SSL_CTX_free(sc);
        cert_fini(&leaf);
    }
    SSL_CTX_free(cc);
    cert_fini(&ca);
    cert_fini(&other);
}

// --- inner: the pins

struct keys {
    struct cert agent, relay, other;
    SSL_CTX *client, *server;
    uint8_t pins[3][32]; // agent, relay, other
};

static void keys_init(struct keys *k)
{
    struct err e = ERR_INIT;
    cert_make(&k->agent, "a", NULL, NULL, false, -10, -5); // dates mean nothing here
    cert_make(&k->relay, "r", NULL, NULL, false, -1, 1);
    cert_make(&k->other, "o", NULL, NULL, false, -1, 1);
    k->client = tls_inner_ctx(false, k->agent.x509, k->agent.key, &e);
    k->server = tls_inner_ctx(true, k->relay.x509, k->relay.key, &e);
    assert_true(k->client && k->server);
    assert_true(tls_spki_pin(k->agent.x509, k->pins[0]) && tls_spki_pin(k->relay.x509, k->pins[1]) &&
                tls_spki_pin(k->other.x509, k->pins[2]));
}

static void keys_fini(struct keys *k)
{
    SSL_CTX_free(k->client);
    SSL_CTX_free(k->server);
    cert_fini(&k->agent);
    cert_fini(&k->relay);
    cert_fini(&k->other);
}

static void inner_open(struct pair *p, struct keys *k, const struct mem_plan *plan)
{
    struct tls_options co = {.ctx = k->client, .pins = &k->pins[1], .pin_count = 1, .who = "relay"};
    struct tls_options so = {.ctx = k->server, .server = true, .who = "agent"};
    pair_open(p, &co, &so, plan);
    assert_int_equal(p->client_open, LINK_OK);
    assert_int_equal(p->server_open, LINK_OK);
}

static void pins_decide(void **state)
{
    struct keys k;
    keys_init(&k);
    for (size_t count = 0; count <= 3; count++) {
        for (size_t first = 0; first + count <= 3; first++) {
            struct tls_options co = {.ctx = k.client, .pins = &k.pins[first], .pin_count = count, .who = "relay"};
            struct tls_options so = {.ctx = k.server, .server = true, .who = "agent"};
            struct pair p;
            pair_open(&p, &co, &so, NULL);
            bool known = count && first <= 1 && first + count > 1;
            assert_int_equal(p.client_open, known ? LINK_OK : LINK_FAILED);
            if (known) {
                assert_true(p.client->facts->has_pin && p.server->facts->has_pin);
                assert_memory_equal(p.client->facts->pin, k.pins[1], 32);
                assert_memory_equal(p.server->facts->pin, k.pins[0], 32);
                assert_string_equal(p.client->facts->tls_version, ""); // facts are of the outer one
            } else {
                assert_int_equal(p.client->err.kind, ERR_UNTRUSTED);
                assert_non_null(strstr(err_text(&p.client->err), "TLS with relay: certificate verify failed: its identity is "));
            }
            pair_fini(&p);
        }
    }
    keys_fini(&k);
}

static void a_web_client_is_not_an_agent(void **state)
{
    struct keys k;
    struct err e = ERR_INIT;
    keys_init(&k);
    SSL_CTX *web = tls_client_ctx(k.relay.cert_file, &e);
    struct tls_options co = {.ctx = web, .host = "relay.example", .report = true, .who = "relay"};
    struct tls_options so = {.ctx = k.server, .server = true, .who = "agent"};
    struct pair p;
    pair_open(&p, &co, &so, NULL); // ALPN http/1.1, no certificate
    assert_int_equal(p.server_open, LINK_FAILED);
    assert_false(p.server->facts->has_pin);
    pair_fini(&p);
    SSL_CTX_free(web);
    keys_fini(&k);
}

// --- ends

static void an_end_without_close_notify_is_a_failure(void **state)
{
    struct keys k;
    struct buf *b;
    struct pair p;
    keys_init(&k);
    for (int orderly = 0; orderly < 2; orderly++) {
        inner_open(&p, &k, NULL);
        say(&p, p.server, "data");
        link_shut(orderly ? p.server : p.server_base, SHUT_END);
        turn(&p);
        text_recv(p.client, "data");
        assert_int_equal(link_recv(p.client, &b), orderly ? LINK_END : LINK_FAILED);
        if (orderly) { // and the other direction goes on
            say(&p, p.client, "more");
            text_recv(p.server, "more");
        } else {
            assert_string_equal(err_text(&p.client->err), "TLS with relay: the connection ended without close_notify");
        }
        pair_fini(&p);
    }
    keys_fini(&k);
}

static void damage_is_found(void **state)
{
    struct keys k;
    struct buf *b;
    keys_init(&k);
    for (int at = 0; at < 40; at++) { // header, ciphertext and tag of one record
        struct pair p;
        inner_open(&p, &k, NULL);
        while (link_recv(p.server, &b) == LINK_OK)
            buf_put(b);
        link_send(p.client, buf_copy(&p.w.pool, "0123456789abcdefgh", 18));
        struct bufq *q = mem_in_flight(p.client_base);
        assert_int_equal(q->bytes, 5 + 18 + 1 + 16);
        buf_data(q->head)[at] ^= 1;
        turn(&p);
        enum link_status st = link_recv(p.server, &b);
        if (st == LINK_AGAIN) { // a longer record was announced: its end never comes
            link_shut(p.client_base, SHUT_END);
            turn(&p);
            st = link_recv(p.server, &b);
        }
        assert_int_equal(st, LINK_FAILED);
        assert_int_not_equal(p.server->err.kind, ERR_NONE);
        pair_fini(&p);
    }
    keys_fini(&k);
}

static void not_tls_at_all(void **state)
{
    struct keys k;
    struct pair p;
    keys_init(&k);
    struct tls_options co = {.ctx = k.client, .pins = &k.pins[1], .pin_count = 1, .who = "relay"};
    worker_init_bare(&p.w);
    mem_pair(&p.w, &p.client_base, &p.server, NULL, NULL);
    p.client = tls_over(p.client_base, &co, NULL);
    wake_init(&p.wake, on_news);
    assert_int_equal(link_open(p.client), LINK_AGAIN);
    link_send(p.server, buf_copy(&p.w.pool, "HTTP/1.1 400 Bad Request\r\n\r\n", 28));
    assert_int_equal(link_open(p.client), LINK_FAILED);
    assert_string_equal(err_text(&p.client->err), "TLS with relay: the peer does not speak TLS there");
    pair_fini(&p);
    keys_fini(&k);
}

static void peeling_needs_the_authenticated_end(void **state)
{
    struct keys k;
    struct buf *b;
    struct pair p;
    keys_init(&k);
    inner_open(&p, &k, NULL);
    tls_peel_recv(p.client);
    link_send(p.server_base, buf_copy(&p.w.pool, "raw, but no close_notify before", 31));
    turn(&p);
    enum link_status st = link_recv(p.client, &b);
    if (st == LINK_AGAIN) {
        link_shut(p.server_base, SHUT_END);
        turn(&p);
        st = link_recv(p.client, &b);
    }
    assert_int_equal(st, LINK_FAILED);
    pair_fini(&p);
    inner_open(&p, &k, NULL); // one direction at a time
    tls_peel_send(p.server);
    tls_peel_recv(p.client);
    say(&p, p.server, "raw");
    assert_int_equal(mem_in_flight(p.server_base)->bytes, 3 + 24);
    text_recv(p.client, "raw");
    say(&p, p.client, "sealed");
    text_recv(p.server, "sealed");
    assert_false(tls_is_peeled(p.client) || tls_is_peeled(p.server));
    tls_peel_send(p.client);
    tls_peel_recv(p.server);
    say(&p, p.client, "raw too");
    text_recv(p.server, "raw too");
    assert_true(tls_is_peeled(p.client) && tls_is_peeled(p.server));
    link_shut(p.client, SHUT_END);
    turn(&p);
    assert_int_equal(link_recv(p.server, &b), LINK_END);
    pair_fini(&p);
    keys_fini(&k);
}

// --- keys

static int key_updates;

static void on_message(int write, int version, int type, const void *data, size_t len, SSL *ssl, void *arg)
{
    if (write && type == SSL3_RT_HANDSHAKE && len && *(const uint8_t *)data == SSL3_MT_KEY_UPDATE)
        key_updates++;
}

static void keys_are_renewed_by_the_hour(void **state)
{
    struct keys k;
    struct pair p;
    keys_init(&k);
    SSL_CTX_set_msg_callback(k.client, on_message);
    inner_open(&p, &k, NULL);
    key_updates = 0;
    say(&p, p.client, "one");
    p.w.now_ms += 3599 * 1000;
    say(&p, p.client, "two");
    assert_int_equal(key_updates, 0);
    p.w.now_ms += 1000;
    say(&p, p.client, "three");
    assert_int_equal(key_updates, 1);
    say(&p, p.client, "four");
    assert_int_equal(key_updates, 1);
    text_recv(p.server, "one");
    text_recv(p.server, "two");
    text_recv(p.server, "three");
    text_recv(p.server, "four");
    say(&p, p.server, "five");
    text_recv(p.client, "five");
    pair_fini(&p);
    keys_fini(&k);
}

static void keys_are_renewed_by_the_record(void **state)
{
#ifdef __SANITIZE_ADDRESS__
    skip(); // four million records take most of a minute there, and touch no memory that the others do not
#endif
    struct keys k;
    struct pair p;
    keys_init(&k);
    SSL_CTX_set_msg_callback(k.client, on_message);
    inner_open(&p, &k, NULL);
    key_updates = 0;
    for (uint32_t i = 1; i < 1u << 22; i++) {
        link_send(p.client, buf_copy(&p.w.pool, "x", 1));
        if (i % 1024 == 0)
            bufq_clear(mem_in_flight(p.client_base)); // nobody needs to read them
    }
    assert_int_equal(key_updates, 0);
    link_send(p.client, buf_copy(&p.w.pool, "x", 1));
    assert_int_equal(key_updates, 1);
    pair_fini(&p);
    keys_fini(&k);
}

// --- a peer that sends records and nothing in them

static SSL *speaker; // who has written last

static void on_written(int write, int version, int type, const void *data, size_t len, SSL *ssl, void *arg)
{
    if (write)
        speaker = ssl;
}

static void send_key_updates(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(SSL_key_update(speaker, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(speaker), 1);
    }
}

static void records_without_data_are_counted(void **state)
{
    struct keys k;
    struct pair p;
    struct buf *b;
    keys_init(&k);
    SSL_CTX_set_msg_callback(k.client, on_written);
    inner_open(&p, &k, NULL);
    for (int i = 0; i < 3; i++) {
        text_send(p.client, "so far");
        send_key_updates(RECORD_BARREN_MAX);
        text_send(p.client, "so good");
        turn(&p);
        text_recv(p.server, "so far");
        text_recv(p.server, "so good");
    }
    send_key_updates(100 * RECORD_BARREN_MAX);
    text_send(p.client, "too late");
    turn(&p);
    assert_int_equal(link_recv(p.server, &b), LINK_FAILED);
    assert_string_equal(err_text(&p.server->err), "TLS with agent: too many records without data");
    assert_true(mem_in_flight(p.client_base)->bytes > 90 * RECORD_BARREN_MAX * 27); // the rest was not even read
    pair_fini(&p);
    keys_fini(&k);
}

static void bad_files_are_named(void **state)
{
    struct err e = ERR_INIT;
    struct cert a, b;
    cert_make(&a, "a", NULL, NULL, false, -1, 1);
    cert_make(&b, "b", NULL, NULL, false, -1, 1);
    assert_null(tls_client_ctx("/nonexistent/ca.pem", &e));
    assert_non_null(strstr(err_text(&e), "/nonexistent/ca.pem: "));
    assert_null(tls_server_ctx("/nonexistent/cert.pem", a.key_file, &e));
    assert_non_null(strstr(err_text(&e), "/nonexistent/cert.pem: "));
    assert_null(tls_server_ctx(a.cert_file, b.key_file, &e));
    assert_non_null(strstr(err_text(&e), b.key_file));
    assert_null(tls_inner_ctx(true, a.x509, b.key, &e));
    err_fini(&e);
    cert_fini(&a);
    cert_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(certificates_are_judged),
        cmocka_unit_test(pins_decide),
        cmocka_unit_test(a_web_client_is_not_an_agent),
        cmocka_unit_test(an_end_without_close_notify_is_a_failure),
        cmocka_unit_test(damage_is_found),
        cmocka_unit_test(not_tls_at_all),
        cmocka_unit_test(peeling_needs_the_authenticated_end),
        cmocka_unit_test(keys_are_renewed_by_the_hour),
        cmocka_unit_test(keys_are_renewed_by_the_record),
        cmocka_unit_test(records_without_data_are_counted),
        cmocka_unit_test(bad_files_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
