// SPDX-License-Identifier: Apache-2.0
// OpenSSL reads and writes the link below through a BIO of our own. Below never refuses a send, so no write ever
// blocks; a read blocks exactly when the link below answers AGAIN, and that link owes the wake. The BIO hands OpenSSL
// only what it asks for (no read-ahead), so after close_notify the bytes it still holds are the first raw ones. Once an outer
// TLS 1.3 has shaken hands, its records are sealed and opened here (tls_records.h) and its SSL only keeps what was agreed.
#include "link/tls.h"
#include <assert.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/log.h"
#include "link/tls_own.h"
#include "link/tls_records.h"

#define OVERHEAD 64                       // what room keeps back for record headers and tags
#define KEY_MS (UINT64_C(3600) * 1000)

struct tls {
    struct link link;
    SSL *ssl; // NULL once both directions are peeled
    BIO_METHOD *method;
    bool server, outer, report, opened;
    bool inner; // its context checks pins
    bool early, whole, pad;
    uint8_t alpn[256]; // length and bytes
    uint8_t pins[TLS_PINS_MAX][32];
    size_t pin_count;
    uint8_t peer_pin[32];
    char *who;
    char reason[192]; // why the certificate is not trusted
    int verify_error; // the same for machines
    struct buf *in;   // from below, not handed to OpenSSL yet
    enum link_status below; // its last answer to recv
    bool end_sent, end_read;      // close_notify
    bool peel_send, peel_recv;
    uint64_t key_records, keyed_ms; // sent with the present key; since when
    unsigned barren;               // OpenSSL's records: begun since the last data
    struct record_secrets secrets; // until the handshake is done
    struct records *records;       // NULL: OpenSSL does them
    struct bufq raw;               // with records: read, not opened yet; one record and two buffers at most
    unsigned long lost; // OpenSSL's error before the link below wrote: a TLS down there clears the thread's queue
};

static struct tls *of(struct link *l) { return container_of(l, struct tls, link); }

static const char *error_text(unsigned long code)
{
    const char *text = code ? ERR_reason_error_string(code) : NULL;
    if (!text && ERR_SYSTEM_ERROR(code))
        text = strerror(ERR_GET_REASON(code));
    return text ? text : "unknown reason";
}

const char *tls_queue_text(void) { return error_text(ERR_peek_last_error()); }

// --- the BIO

static int bio_write(BIO *bio, const char *data, int len)
{
    struct tls *t = BIO_get_data(bio);
    struct pool *pool = &t->link.w->pool;
    BIO_clear_retry_flags(bio);
    t->lost = ERR_peek_last_error();
    for (int at = 0; at < len;) {
        size_t n = (size_t)(len - at);
        struct buf *b = n <= BUF_SMALL_MAX - BUF_HEADROOM ? buf_get_small(pool, BUF_HEADROOM, n) : buf_get(pool);
        if (!t->link.below->below)
            b->start = 0; // nobody prepends to it: a whole record fits
        at += (int)buf_append(b, data + at, n);
        link_send(t->link.below, b);
    }
    return len;
}

static bool pull(struct tls *t)
{
    if (!t->in)
        t->below = link_recv(t->link.below, &t->in);
    if (t->in && t->below != LINK_OK)
        t->in = NULL;
    return t->in;
}

// The one that is being read may still bring data.
static bool is_flooded(const struct tls *t) { return t->barren > RECORD_BARREN_MAX + 1; }

// OpenSSL goes on reading as long as nothing but KeyUpdates comes, and takes any number of them.
void tls_note_record(int write, int version, int type, const void *data, size_t len, SSL *ssl, void *arg)
{
    struct tls *t = SSL_get_app_data(ssl);
    if (t && t->opened && !write && type == SSL3_RT_HEADER)
        t->barren++;
}

static int bio_read(BIO *bio, char *out, int len)
{
    struct tls *t = BIO_get_data(bio);
    size_t got = 0;
    BIO_clear_retry_flags(bio);
    if (is_flooded(t))
        return -1;
    while (got < (size_t)len && pull(t)) {
        size_t n = (size_t)len - got < t->in->len ? (size_t)len - got : t->in->len;
        memcpy(out + got, buf_data(t->in), n);
        buf_skip(t->in, n);
        got += n;
        if (t->in->len == 0) {
            buf_put(t->in);
            t->in = NULL;
        }
    }
    if (got)
        return (int)got;
    if (t->below == LINK_AGAIN) {
        BIO_set_retry_read(bio);
        return -1;
    }
    return t->below == LINK_END ? 0 : -1;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    struct tls *t = BIO_get_data(bio);
    switch (cmd) {
    case BIO_CTRL_FLUSH:
        return 1;
    case BIO_CTRL_EOF:
        return !t->in && t->below == LINK_END;
    default:
        return 0;
    }
}

static void set_bio(struct tls *t)
{
    t->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "link");
    BIO *bio = NULL;
    if (t->method) {
        BIO_meth_set_write(t->method, bio_write);
        BIO_meth_set_read(t->method, bio_read);
        BIO_meth_set_ctrl(t->method, bio_ctrl);
        bio = BIO_new(t->method);
    }
    if (!bio)
        abort();
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    SSL_set_bio(t->ssl, bio, bio);
}

// --- whom we talk to

static void issuer_of(X509 *cert, char *out, size_t size)
{
    char *text = NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    out[0] = 0;
    if (!bio)
        return;
    X509_NAME_print_ex(bio, X509_get_issuer_name(cert), 0, XN_FLAG_ONELINE & ~XN_FLAG_SPC_EQ);
    long len = BIO_get_mem_data(bio, &text);
    if (len > 0)
        log_escape(out, size, text, (size_t)len);
    BIO_free(bio);
}

// Outer TLS, client: notes the first thing wrong with the chain.
static int on_verify(int ok, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls *t = SSL_get_app_data(ssl);
    if (ok)
        return 1;
    if (!t->reason[0]) {
        X509 *cert = X509_STORE_CTX_get_current_cert(store);
        t->verify_error = X509_STORE_CTX_get_error(store);
        char issuer[112] = "";
        if (cert)
            issuer_of(cert, issuer, sizeof(issuer));
        snprintf(t->reason, sizeof(t->reason), "%s%s%s%s",
                 X509_verify_cert_error_string(X509_STORE_CTX_get_error(store)), cert ? " (issuer " : "", issuer,
                 cert ? ")" : "");
    }
    return t->report;
}

int tls_check_pin(X509_STORE_CTX *store, void *arg)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls *t = SSL_get_app_data(ssl);
    X509 *cert = X509_STORE_CTX_get0_cert(store);
    bool known = t->server; // who may come in is judged after the handshake, by name
    t->inner = true;
    if (!cert || !tls_spki_pin(cert, t->peer_pin)) {
        X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED);
        return 0;
    }
    for (size_t i = 0; i < t->pin_count; i++) // all of them, whichever it is
        known |= CRYPTO_memcmp(t->pins[i], t->peer_pin, 32) == 0;
    if (known)
        return 1;
    char text[48];
    EVP_EncodeBlock((uint8_t *)text, t->peer_pin, 32);
    for (char *p = text; *p; p++)
        *p = *p == '+' ? '-' : *p == '/' ? '_' : *p == '=' ? 0 : *p;
    snprintf(t->reason, sizeof(t->reason), "its identity is %s and not the pinned one", text);
    X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
    return 0;
}

// "relay.example." and "relay.example" name the same.
static void strip_dot(char *name)
{
    size_t len = strlen(name);
    if (len > 1 && name[len - 1] == '.')
        name[len - 1] = 0;
}

static bool set_peer(struct tls *t, const struct tls_options *o)
{
    struct addr ip;
    char name[256];
    if (!o->host)
        return true;
    snprintf(name, sizeof(name), "%s", o->host);
    strip_dot(name);
    bool is_ip = addr_parse_ip(&ip, name, 0);
    X509_VERIFY_PARAM *param = SSL_get0_param(t->ssl);
    SSL_set_hostflags(t->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    SSL_set_verify(t->ssl, SSL_VERIFY_PEER, on_verify);
    if (is_ip)
        addr_host(&ip, name); // without brackets
    if (is_ip ? !X509_VERIFY_PARAM_set1_ip_asc(param, name) : !SSL_set1_host(t->ssl, name))
        return false;
    const char *sni = o->sni ? o->sni : is_ip ? "" : name;
    return !*sni || SSL_set_tlsext_host_name(t->ssl, sni);
}

static enum advice advice_of(struct tls *t)
{
    if (t->inner)
        return ADVICE_PIN;
    switch (t->verify_error) {
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return ADVICE_CLOCK;
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return ADVICE_CERT_OLD;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return ADVICE_CERT_NAME;
    default:
        return ADVICE_CA;
    }
}

static void note_outer(struct tls *t)
{
    struct link_facts *f = t->link.facts;
    X509 *cert = SSL_get0_peer_certificate(t->ssl);
    const unsigned char *alpn;
    unsigned alpn_len;
    snprintf(f->tls_version, sizeof(f->tls_version), "%s", SSL_get_version(t->ssl));
    snprintf(f->tls_cipher, sizeof(f->tls_cipher), "%s", SSL_get_cipher_name(t->ssl));
    if (cert)
        issuer_of(cert, f->tls_issuer, sizeof(f->tls_issuer));
    SSL_get0_alpn_selected(t->ssl, &alpn, &alpn_len);
    log_escape(f->alpn, sizeof(f->alpn), alpn ? alpn : (const unsigned char *)"", alpn_len);
    f->outer_trusted = !t->server && cert && !t->reason[0] && SSL_get_verify_result(t->ssl) == X509_V_OK;
    snprintf(f->outer_reason, sizeof(f->outer_reason), "%s", t->reason);
    f->outer_advice = f->outer_trusted ? ADVICE_NONE : advice_of(t);
    // RFC 9266: the context is empty, which TLS 1.3 does not tell from none.
    f->has_exporter = SSL_version(t->ssl) == TLS1_3_VERSION &&
                      SSL_export_keying_material(t->ssl, f->exporter, sizeof(f->exporter), "EXPORTER-Channel-Binding",
                                                 24, NULL, 0, 1) == 1;
}

bool tls_pads(SSL *ssl)
{
    const struct tls *t = SSL_get_app_data(ssl);
    return t && t->pad && !t->server;
}

const uint8_t *tls_alpn(SSL *ssl, size_t *len)
{
    const struct tls *t = SSL_get_app_data(ssl);
    *len = 1u + t->alpn[0];
    return t->alpn;
}

// Our own inner TLS, known by its ALPN.
static bool note_inner(struct tls *t)
{
    struct link_facts *f = t->link.facts;
    const unsigned char *alpn;
    unsigned alpn_len;
    SSL_get0_alpn_selected(t->ssl, &alpn, &alpn_len);
    if (alpn_len != t->alpn[0] || memcmp(alpn, t->alpn + 1, alpn_len) != 0)
        return false;
    if (!f)
        return true;
    memcpy(f->pin, t->peer_pin, sizeof(f->pin));
    f->has_pin = true;
    return true;
}

// --- failures

// Before the handshake is done nobody was reached.
static enum err_kind kind_of(const struct tls *t) { return t->opened ? ERR_FAILED : ERR_UNREACHED; }

static enum link_status fail_with(struct tls *t, const char *text)
{
    return link_fail(&t->link, kind_of(t), WHY_PROTOCOL, "TLS with %s: %s", t->who, text);
}

static enum link_status fail_advised(struct tls *t, enum advice advice)
{
    err_advise(&t->link.err, advice);
    return LINK_FAILED;
}

static enum link_status fail_ended(struct tls *t)
{
    link_fail(&t->link, kind_of(t), WHY_ABORTED, "TLS with %s: %s", t->who,
              t->opened ? "the connection ended without close_notify"
                        : "the peer closed the connection during the handshake");
    return fail_advised(t, t->opened ? ADVICE_NONE : ADVICE_CUT);
}

static enum link_status fail_untrusted(struct tls *t)
{
    link_fail(&t->link, ERR_UNTRUSTED, WHY_POLICY, "TLS with %s: certificate verify failed: %s", t->who,
              t->reason[0] ? t->reason : X509_verify_cert_error_string(SSL_get_verify_result(t->ssl)));
    return fail_advised(t, advice_of(t));
}

// Whether OpenSSL's error says that what came is not what was sent: anything wrong with a TLS that stood, but a peer's
// alert that is about something else; before that only what no misconfiguration explains.
static bool is_tampered(const struct tls *t, unsigned long code)
{
    int reason = ERR_GET_REASON(code);
    if (ERR_GET_LIB(code) != ERR_LIB_SSL)
        return false;
    if (reason == SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC || reason == SSL_R_DIGEST_CHECK_FAILED ||
        reason == SSL_R_SSLV3_ALERT_BAD_RECORD_MAC)
        return true;
    return t->opened && reason < SSL_AD_REASON_OFFSET;
}

static enum link_status fail_ssl(struct tls *t)
{
    unsigned long code = ERR_peek_last_error() ? ERR_peek_last_error() : t->lost;
    int reason = ERR_GET_REASON(code);
    if (is_flooded(t))
        return fail_with(t, "too many records without data");
    if (t->below == LINK_FAILED) {
        link_failed_below(&t->link, "TLS with %s", t->who);
        return fail_advised(t, !t->opened && t->link.err.why == WHY_ABORTED ? ADVICE_CUT : ADVICE_NONE);
    }
    if (t->below == LINK_END)
        return fail_ended(t);
    if (ERR_GET_LIB(code) == ERR_LIB_SSL && reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
        return fail_untrusted(t);
    if (!t->opened && ERR_GET_LIB(code) == ERR_LIB_SSL &&
        (reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST || reason == SSL_R_UNKNOWN_PROTOCOL))
        return fail_with(t, "the peer does not speak TLS there"), fail_advised(t, ADVICE_NOT_TLS);
    fail_with(t, error_text(code));
    return fail_advised(t, is_tampered(t, code) ? ADVICE_TAMPERED : ADVICE_NONE);
}

// --- our own records

void tls_note_secret(const SSL *ssl, const char *line)
{
    struct tls *t = SSL_get_app_data(ssl);
    if (t && t->outer)
        record_secrets_note(&t->secrets, line);
}

static void take_over_records(struct tls *t)
{
    t->records = t->outer ? records_new(t->ssl, &t->secrets) : NULL;
    OPENSSL_cleanse(&t->secrets, sizeof(t->secrets));
    if (t->records && t->in) {
        bufq_push(&t->raw, t->in);
        t->in = NULL;
    }
}

static void send_record(void *ctx, struct buf *sealed)
{
    struct tls *t = ctx;
    link_send(t->link.below, sealed);
}

static enum link_status fail_record(struct tls *t)
{
    uint8_t alert;
    const char *why = records_why(t->records, &alert);
    if (alert && !t->end_sent)
        records_alert(t->records, &t->link.w->pool, 2, alert, send_record, t);
    t->end_sent = true;
    fail_with(t, why);
    return fail_advised(t, alert ? ADVICE_TAMPERED : ADVICE_NONE); // without one of ours it was the peer's
}

// A peer that sends a record byte by byte must not make us keep a buffer for each.
static void keep_raw(struct tls *t)
{
    struct buf *b = t->in, *tail = t->raw.tail;
    t->in = NULL;
    if (!tail || buf_tailroom(tail) < b->len) {
        bufq_push(&t->raw, b);
        return;
    }
    t->raw.bytes += buf_append(tail, buf_data(b), b->len);
    buf_put(b);
}

static enum link_status recv_record(struct tls *t, struct buf **out)
{
    for (;;) {
        switch (records_open(t->records, &t->raw, &t->link.w->pool, out)) {
        case RECORD_OK:
            return LINK_OK;
        case RECORD_END:
            t->end_read = true;
            return LINK_END;
        case RECORD_BAD:
            return fail_record(t);
        case RECORD_MORE:
            break;
        }
        if (!pull(t))
            return t->below == LINK_AGAIN ? LINK_AGAIN : fail_ssl(t);
        keep_raw(t);
    }
}

// --- the six operations

static enum link_status finish_open(struct tls *t)
{
    if (t->outer && t->link.facts)
        note_outer(t);
    if (t->inner && !note_inner(t)) {
        link_fail(&t->link, kind_of(t), WHY_PROTOCOL, "TLS with %s: the peer does not speak %.*s", t->who, (int)t->alpn[0],
                  (const char *)t->alpn + 1);
        link_shut(t->link.below, SHUT_END);
        return LINK_FAILED;
    }
    t->opened = true;
    t->keyed_ms = t->link.w->now_ms;
    if (t->pad && t->server)
        SSL_set_block_padding(t->ssl, 1); // none any more
    take_over_records(t);
    return LINK_OK;
}

static enum link_status tls_open(struct link *l)
{
    struct tls *t = of(l);
    if (err_is(&l->err))
        return LINK_FAILED;
    if (t->opened)
        return LINK_OK;
    enum link_status s = link_open(l->below);
    if (s == LINK_FAILED)
        return link_failed_below(l, NULL);
    if (s != LINK_OK && !t->early)
        return s;
    ERR_clear_error();
    int rc = SSL_do_handshake(t->ssl);
    if (rc == 1)
        return finish_open(t);
    if (SSL_get_error(t->ssl, rc) == SSL_ERROR_WANT_READ && t->below == LINK_AGAIN)
        return LINK_AGAIN;
    fail_ssl(t);
    link_shut(l->below, SHUT_END); // behind the alert
    return LINK_FAILED;
}

static void free_ssl(struct tls *t)
{
    SSL_free(t->ssl);
    BIO_meth_free(t->method);
    t->ssl = NULL;
    t->method = NULL;
}

static void free_when_peeled(struct tls *t)
{
    if (t->ssl && t->peel_send && t->peel_recv && t->end_read)
        free_ssl(t);
}

static enum link_status recv_raw(struct tls *t, struct buf **out)
{
    if (t->in) {
        *out = t->in;
        t->in = NULL;
        return LINK_OK;
    }
    enum link_status s = link_recv(t->link.below, out);
    return s == LINK_FAILED ? link_failed_below(&t->link, NULL) : s;
}

static enum link_status recv_sealed(struct tls *t, struct buf **out)
{
    size_t n = 0;
    // Asks below first: most wakes find nothing, and OpenSSL takes longer to say so.
    if (!SSL_has_pending(t->ssl) && !pull(t) && t->below == LINK_AGAIN)
        return LINK_AGAIN;
    struct buf *b = buf_get(&t->link.w->pool);
    ERR_clear_error();
    int rc = SSL_read_ex(t->ssl, buf_data(b), buf_tailroom(b), &n);
    if (rc == 1) {
        t->barren = 0;
        b->len = (uint32_t)n;
        *out = b;
        return LINK_OK;
    }
    buf_put(b);
    switch (SSL_get_error(t->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        return LINK_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        t->end_read = true;
        return LINK_END;
    default:
        return fail_ssl(t);
    }
}

static enum link_status tls_recv(struct link *l, struct buf **out)
{
    struct tls *t = of(l);
    if (err_is(&l->err))
        return LINK_FAILED;
    if (!t->opened)
        return LINK_AGAIN;
    if (!t->end_read) {
        enum link_status s = t->records ? recv_record(t, out) : recv_sealed(t, out);
        if (s != LINK_END)
            return s;
        free_when_peeled(t);
    }
    return t->peel_recv ? recv_raw(t, out) : LINK_END;
}

// False: no new key could be made.
static bool renew_key(struct tls *t)
{
    uint64_t now = t->link.w->now_ms;
    bool is_due = now - t->keyed_ms >= KEY_MS || (t->records ? records_owe_renewal(t->records) : ++t->key_records >= RECORD_KEY_MAX);
    if (!is_due)
        return true;
    t->key_records = 0;
    t->keyed_ms = now;
    if (t->records)
        return records_renew(t->records, &t->link.w->pool, send_record, t);
    if (SSL_version(t->ssl) == TLS1_3_VERSION)
        SSL_key_update(t->ssl, SSL_KEY_UPDATE_NOT_REQUESTED); // goes out before the next record
    return true;
}

static void tls_send(struct link *l, struct buf *b)
{
    struct tls *t = of(l);
    size_t n;
    if (t->peel_send && !err_is(&l->err)) {
        link_send(l->below, b);
        return;
    }
    if (!err_is(&l->err) && !t->end_sent && b->len) {
        assert(t->opened);
        ERR_clear_error();
        bool ok = renew_key(t);
        if (t->records) {
            if (ok)
                ok = records_seal(t->records, b, RECORD_DATA, send_record, t);
            else
                buf_put(b);
            b = NULL;
        } else {
            ok = SSL_write_ex(t->ssl, buf_data(b), b->len, &n) == 1;
        }
        if (!ok) {
            fail_with(t, tls_queue_text());
            link_wake(l);
        }
    }
    buf_put(b);
}

// After both close_notify nobody asks for bytes any more, but the link below may still have to read its own end.
static bool drain_below(struct tls *t)
{
    struct buf *b;
    for (int i = 0; i < 16; i++) {
        enum link_status s = link_recv(t->link.below, &b);
        if (s != LINK_OK)
            return s != LINK_AGAIN;
        buf_put(b);
    }
    link_wake(&t->link);
    return false;
}

static size_t tls_room(struct link *l)
{
    struct tls *t = of(l);
    if (err_is(&l->err))
        return BUF_SIZE;
    if (t->end_sent && t->end_read && !t->peel_send && !t->peel_recv && !drain_below(t) && t->whole)
        return 0;
    size_t room = link_room(l->below);
    if (room && t->end_read && err_is(&l->below->err))
        link_failed_below(l, "TLS with %s", t->who);
    if (t->peel_send)
        return room;
    return room > OVERHEAD ? room - OVERHEAD : room ? 1 : 0;
}

static void send_end(struct tls *t)
{
    if (t->end_sent || !t->opened || err_is(&t->link.err))
        return;
    t->end_sent = true;
    ERR_clear_error();
    if (t->records) {
        records_alert(t->records, &t->link.w->pool, 1, 0, send_record, t);
        return;
    }
    SSL_shutdown(t->ssl); // once: a second one would read
}

static void tls_shut(struct link *l, enum link_shut how)
{
    struct tls *t = of(l);
    if (how == SHUT_END)
        send_end(t);
    else
        link_fail(l, ERR_FAILED, WHY_ABORTED, "aborted");
    link_shut(l->below, how);
}

static void tls_fini(struct link *l)
{
    struct tls *t = of(l);
    free_ssl(t);
    records_free(t->records);
    bufq_clear(&t->raw);
    OPENSSL_cleanse(&t->secrets, sizeof(t->secrets));
    buf_put(t->in);
    OPENSSL_cleanse(t->peer_pin, sizeof(t->peer_pin));
    free(t->who);
    free(t);
}

static const struct link_ops tls_ops = {
    .name = "tls",
    .open = tls_open,
    .recv = tls_recv,
    .send = tls_send,
    .room = tls_room,
    .shut = tls_shut,
    .fini = tls_fini,
};

static void set_alpn(struct tls *t, const struct tls_options *o)
{
    const char *name = o->alpn ? o->alpn : "culvert/1";
    size_t len = strnlen(name, sizeof(t->alpn) - 1);
    t->alpn[0] = (uint8_t)len;
    memcpy(t->alpn + 1, name, len);
    if (o->h2)
        SSL_set_alpn_protos(t->ssl, (const uint8_t *)"\x02h2\x08http/1.1", 12);
    else if (!o->server && o->alpn) // else the context's
        SSL_set_alpn_protos(t->ssl, t->alpn, (unsigned)len + 1);
}

struct link *tls_over(struct link *below, const struct tls_options *o, struct buf *rest)
{
    struct tls *t = calloc(1, sizeof(*t));
    if (!t || !(t->who = strdup(o->who ? o->who : "the peer")) || !(t->ssl = SSL_new(o->ctx)))
        abort();
    char *who = t->who;
    SSL *ssl = t->ssl;
    link_init(&t->link, &tls_ops, NULL, below);
    t->who = who;
    t->ssl = ssl;
    t->server = o->server;
    t->outer = o->outer;
    t->report = o->report;
    t->early = o->early;
    t->whole = o->whole;
    t->pad = o->pad;
    if (t->pad && t->server)
        SSL_set_block_padding(ssl, TLS_PAD / 4);
    set_alpn(t, o);
    assert(o->pin_count <= TLS_PINS_MAX);
    t->pin_count = o->pin_count;
    if (o->pin_count)
        memcpy(t->pins, o->pins, o->pin_count * sizeof(t->pins[0]));
    if (rest && rest->len)
        t->in = rest;
    else
        buf_put(rest);
    SSL_set_app_data(ssl, t);
    set_bio(t);
    if (o->server)
        SSL_set_accept_state(ssl);
    else
        SSL_set_connect_state(ssl);
    if (!o->server && !set_peer(t, o))
        link_fail(&t->link, ERR_USAGE, WHY_INTERNAL, "TLS with %s: not a host name", t->who);
    return &t->link;
}

void tls_peel_send(struct link *l)
{
    struct tls *t = of(l);
    assert(l->ops == &tls_ops);
    send_end(t);
    t->peel_send = true;
    free_when_peeled(t);
}

void tls_peel_recv(struct link *l)
{
    struct tls *t = of(l);
    assert(l->ops == &tls_ops);
    t->peel_recv = true;
    free_when_peeled(t);
}

bool tls_peer_pin(const struct link *l, uint8_t pin[32])
{
    const struct tls *t = container_of(l, struct tls, link);
    if (!t->opened || !t->inner)
        return false;
    memcpy(pin, t->peer_pin, 32);
    return true;
}

bool tls_chose_h2(const struct link *l)
{
    const struct tls *t = container_of(l, struct tls, link);
    const unsigned char *alpn = NULL;
    unsigned len = 0;
    if (t->opened && t->ssl)
        SSL_get0_alpn_selected(t->ssl, &alpn, &len);
    return len == 2 && memcmp(alpn, "h2", 2) == 0;
}

bool tls_export(const struct link *l, const char *label, uint8_t *out, size_t len)
{
    const struct tls *t = container_of(l, struct tls, link);
    return t->opened && t->ssl &&
           SSL_export_keying_material(t->ssl, out, len, label, strlen(label), NULL, 0, 0) == 1;
}

bool tls_is_peeled(const struct link *l) { return container_of(l, struct tls, link)->ssl == NULL; }
