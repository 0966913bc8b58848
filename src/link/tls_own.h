// SPDX-License-Identifier: Apache-2.0
// What the two halves of the tls link, the contexts and the link itself, share with nobody else.
#pragma once
#include <openssl/ssl.h>

// OpenSSL's newest error as words; a static or queue-owned string, valid until the next OpenSSL call.
const char *tls_queue_text(void);
// The protocol, as in ALPN, that an inner TLS must name: length and bytes.
const uint8_t *tls_alpn(SSL *ssl, size_t *len);
// The certificate check of the inner TLS: the peer's key against the pins of its link.
int tls_check_pin(X509_STORE_CTX *store, void *arg);
// Whether its link wants the first message filled (tls_options.pad).
bool tls_pads(SSL *ssl);
// The key log of outer contexts: where a link's traffic secrets come from. Nothing is written.
void tls_note_secret(const SSL *ssl, const char *line);
// Each record that OpenSSL reads or writes, of any context: those in are counted.
void tls_note_record(int write, int version, int type, const void *data, size_t len, SSL *ssl, void *arg);
