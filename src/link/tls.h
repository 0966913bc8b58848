// SPDX-License-Identifier: Apache-2.0
// TLS over any link, by a custom BIO that calls the link below; it stacks on itself. Serves as outer TLS (certificate and name
// verified, or reported) and as inner TLS (TLS 1.3 only, keys pinned, ALPN culvert/1), which can be peeled off.
// The link owns its SSL; SSL_CTX objects are shared and counted. Traffic keys are updated every 2^22 records or 1 h; the records of
// an outer TLS 1.3 are our own (tls_records.h).
#pragma once
#include <openssl/ssl.h>
#include "link/link.h"

#define TLS_PAD 1536
#define TLS_PINS_MAX 8

struct tls_options {
    SSL_CTX *ctx; // counted up by the link
    bool server;
    bool outer;             // fill the facts of the outer TLS (version, issuer, exporter …)
    const char *host;       // client: name to verify and SNI (no SNI for an IP literal); NULL with pins
    const char *sni;        // client: SNI other than host; "" sends none; NULL: host
    bool report;            // client: an untrusted certificate is reported in the facts instead of refused
    const uint8_t (*pins)[32]; // client, inner: accepted pins, copied; checked in constant time; server inner: NULL
    size_t pin_count;       // <= TLS_PINS_MAX
    const char *who;        // "relay.example:443", for messages; copied
    bool h2;                // client, not inner: offer HTTP/2 before HTTP/1.1
    const char *alpn;       // inner: the one protocol that both ends must name; NULL: culvert/1; copied, <= 255 bytes
    bool early;             // the handshake starts while the link below is still opening: it takes some bytes before
    // Inner: a hole for large packets shall show in the handshake, not later. A client's first message is filled by TLS_PAD bytes (an
    // extension that nobody reads), so that an answer to it says that such a packet arrived; each record of a server's flight to TLS_PAD / 4.
    bool pad;
    bool whole;             // after both close_notify, closing waits for the end of the link below too
};

// `rest`: bytes read too far by the link before (may be NULL); owned.
struct link *tls_over(struct link *below, const struct tls_options *o, struct buf *rest);

// Outer contexts. Client: system CAs, or only those of ca_file when given. NULL with *e set.
SSL_CTX *tls_client_ctx(const char *ca_file, struct err *e);
SSL_CTX *tls_server_ctx(const char *cert_file, const char *key_file, struct err *e);
// Inner contexts: TLS 1.3, ALPN culvert/1, no tickets, own self-signed certificate; both sides send one.
SSL_CTX *tls_inner_ctx(bool server, X509 *cert, EVP_PKEY *key, struct err *e);

// SHA-256 of a certificate's DER SubjectPublicKeyInfo.
bool tls_spki_pin(X509 *cert, uint8_t pin[32]);

// The peer's key in an inner TLS, once it is open. False: there is none.
bool tls_peer_pin(const struct link *l, uint8_t pin[32]);
// Whether an open TLS has agreed on HTTP/2.
bool tls_chose_h2(const struct link *l);
// Keying material of an open TLS 1.3 (RFC 8446, 7.5), without context.
bool tls_export(const struct link *l, const char *label, uint8_t *out, size_t len);

// The written reason for calls beside the six: only the inner TLS can be taken out of a stack, and only its owner
// knows when (docs/protocol.md, "Peeling"). Sends close_notify as the last inner record and lets the send direction through
// untouched from then on.
void tls_peel_send(struct link *l);
// Announces that the peer ends its direction with close_notify and goes on raw: recv reads until that authenticated
// end, then lets the bytes through. An end of the link below before that is a failure.
void tls_peel_recv(struct link *l);
bool tls_is_peeled(const struct link *l); // both directions; the SSL is freed
