// SPDX-License-Identifier: Apache-2.0
// TLS 1.3 records (RFC 8446 section 5) after OpenSSL has shaken hands: sealed within the buffer that is sent, opened from the buffers
// that were read into the one that is handed over. OpenSSL's own record layer copies every byte twice each way. The ciphers are
// OpenSSL's; the keys come from its key log callback, which is never written anywhere. Owned by one tls link, no I/O of its own.
#pragma once
#include <openssl/ssl.h>
#include "core/buf.h"

#define RECORD_HEAD 5
#define RECORD_TAIL 17                    // type and tag
#define RECORD_PLAIN_MAX 16384
#define RECORD_SEALED_MAX (RECORD_PLAIN_MAX + RECORD_TAIL) // RFC 8446 section 5.4: padding does not make it longer
#define RECORD_SECRET_MAX 48
#define RECORD_BARREN_MAX 32              // records in a row that bring no data
#define RECORD_KEY_MAX (UINT64_C(1) << 22) // records sealed with one key: a quarter of what section 5.5 allows AES-GCM

enum record_type { RECORD_ALERT = 21, RECORD_HANDSHAKE = 22, RECORD_DATA = 23 };

enum record_result {
    RECORD_OK,    // a buffer of data
    RECORD_MORE,  // not whole yet
    RECORD_END,   // close_notify
    RECORD_BAD,   // see `why`; `alert` is to be sent
};

struct records;

struct record_secrets {
    uint8_t client[RECORD_SECRET_MAX], server[RECORD_SECRET_MAX];
    size_t client_len, server_len;
};

// Takes a line of the key log when it is one of the two that count.
void record_secrets_note(struct record_secrets *s, const char *line);
// Takes the records over from `ssl`, whose handshake is done. NULL: it must go on by itself (TLS 1.2, another cipher, smaller
// records agreed, or built with -Down_records=false).
struct records *records_new(SSL *ssl, const struct record_secrets *s);
// The same from what was agreed: one of the three AEADs, the hash of the handshake, whose end we are.
struct records *records_with(int cipher_nid, const EVP_MD *md, bool is_server, const struct record_secrets *s);
void records_free(struct records *r); // NULL is allowed

// Owns b, gives the sealed records to `send` in order. False: OpenSSL failed.
bool records_seal(struct records *r, struct buf *b, enum record_type type, void (*send)(void *ctx, struct buf *sealed), void *ctx);
bool records_alert(struct records *r, struct pool *p, uint8_t level, uint8_t code, void (*send)(void *ctx, struct buf *sealed),
                   void *ctx);
// Announces and takes a new key for what we send.
bool records_renew(struct records *r, struct pool *p, void (*send)(void *ctx, struct buf *sealed), void *ctx);
// Opens the next record that lies in `raw` (dropped from it) and holds data. Nothing of a record is handed over before its tag
// was right. RECORD_BAD stays.
enum record_result records_open(struct records *r, struct bufq *raw, struct pool *p, struct buf **out);
// records_renew is due before the next data: the peer has asked for it, or the key has served RECORD_KEY_MAX records. (Not at once: a
// peer that asks and does not read could make answers pile up.)
bool records_owe_renewal(const struct records *r);
const char *records_why(const struct records *r, uint8_t *alert); // alert 0: send none
