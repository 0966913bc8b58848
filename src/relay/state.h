// SPDX-License-Identifier: Apache-2.0
// What a relay keeps in its state folder beside the store: its identity key, and where agents find it, which it writes
// at each start so that `culvert invite` knows. Blocking; for commands and start-up.
#pragma once
#include <stdbool.h>
#include "core/err.h"
#include "trust/identity.h"
#include "wire/url.h"

#define RELAY_KEY_FILE "relay.key"
#define RELAY_PLACE_FILE "relay.url"

int relay_state_identity(const char *state, struct identity *id, struct err *e); // made when missing
// How an agent finds the relay: its URL, and whether the web certificate is one that only its pin vouches for.
struct relay_place {
    char url[URL_TEXT_MAX];
    bool self_signed;
};

int relay_state_set_place(const char *state, const struct relay_place *place, struct err *e);
// What was written at the last start, else the installed certificate's first name. False: neither.
bool relay_state_place(const char *state, struct relay_place *place);
// Whether the first certificate of a PEM file is signed by its own key.
bool relay_state_self_signed(const char *file);
