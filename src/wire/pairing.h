// SPDX-License-Identifier: Apache-2.0
// The one line that introduces an agent to a relay, printed by `invite` and read by `join`:
//     culvert://host[:port]/path?pin=…[&pin=…]&token=…[&proxy=…][&peer=NAME:PIN][&outer=report][&tls=off]
// It holds a secret (the token, perhaps a proxy's password): pairing_wipe when done. Unknown parameters are ignored, so
// that newer relays can say more. Encoding and parsing are inverse; values are percent-encoded. No allocation; parsing
// returns 0, or -1 with a sentence that never repeats the secret (ERR_USAGE).
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/err.h"
#include "wire/spec.h"
#include "wire/url.h"

#define PAIRING_PINS 4
#define PAIRING_PROXIES 4
#define PAIRING_PEERS 16
#define PAIRING_TOKEN 16       // bytes; 22 characters
#define PAIRING_TEXT_MAX 8192  // a whole line, ended by 0

struct pairing_peer { // another agent, by the relay's name for it, and its pin
    char name[SPEC_NAME_MAX + 1];
    uint8_t pin[32];
};

struct pairing {
    struct relay_url relay;
    uint8_t pins[PAIRING_PINS][32];
    size_t pin_count; // at least 1
    uint8_t token[PAIRING_TOKEN];
    struct proxy_url proxies[PAIRING_PROXIES]; // a chain, in order
    size_t proxy_count;
    struct pairing_peer peers[PAIRING_PEERS];
    size_t peer_count;
    bool outer_report; // outer = report instead of verify
};

// Surrounding white space is skipped: the line may come from a terminal or a file.
int pairing_parse(struct pairing *p, const char *text, struct err *e);
// out holds PAIRING_TEXT_MAX bytes. False when it does not fit.
bool pairing_text(const struct pairing *p, char *out);
void pairing_wipe(struct pairing *p);
