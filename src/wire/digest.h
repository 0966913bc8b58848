// SPDX-License-Identifier: Apache-2.0
// Digest authentication (RFC 7616): what a challenge asks for, and the answer to it. MD5 and SHA-256, their -sess forms,
// qop=auth, and RFC 2069's form without qop; userhash. No I/O and no random source: the client's nonce is the caller's.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "wire/challenge.h"

#define DIGEST_VALUE_MAX 512   // of realm, nonce and opaque
#define DIGEST_ANSWER_MAX 4096

struct digest {
    bool sha256, sess, qop, userhash, stale;
    char algorithm[16]; // as the challenge wrote it; "": it did not
    char realm[DIGEST_VALUE_MAX], nonce[DIGEST_VALUE_MAX], opaque[DIGEST_VALUE_MAX];
    bool has_opaque;
};

struct digest_ask {
    const char *user, *password, *method, *uri;
    const char *cnonce; // of this nonce: the -sess forms keep the first one
    uint32_t nc;        // counts the uses of this nonce, from 1
};

// False: an algorithm or qop that is not known, or a value that is missing or too long.
bool digest_parse(struct digest *d, const struct challenge *c);
// "Digest username=…" into out, which holds DIGEST_ANSWER_MAX bytes. False: it does not fit, or there is no such hash here.
bool digest_answer(const struct digest *d, const struct digest_ask *ask, char *out);
