// SPDX-License-Identifier: Apache-2.0
// One GSSAPI handshake of a client, Negotiate (Kerberos tickets) or NTLM (user and password): tokens in, tokens out. The library
// is loaded when the first handshake needs it, and all of it runs on threads, since it may wait for a KDC. The result comes
// from the loop. A handshake that is freed while a thread works on it is freed by that thread.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/worker.h"

struct gss;

// user and password: of NTLM; NULL with Negotiate: the tickets of who runs this. All is copied. `host`: the service is HTTP@host.
struct gss *gss_new(struct worker *w, bool ntlm, const char *host, const char *user, const char *password);
void gss_free(struct gss *g); // NULL is allowed; on_done does not come any more
// Takes the peer's token, none at first, and makes ours: now, or it is busy and on_done comes once. Not while another step is under way.
void gss_step(struct gss *g, const uint8_t *token, size_t len, void (*on_done)(void *ctx), void *ctx);
bool gss_is_busy(const struct gss *g);
// When it is not busy any more: our token in base64, ended by 0, or NULL, and gss_error tells why.
const char *gss_token(const struct gss *g);
const char *gss_error(const struct gss *g);
