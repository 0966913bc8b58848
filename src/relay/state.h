// SPDX-License-Identifier: Apache-2.0
// What a relay keeps in its state folder beside the store: its identity key, and the URL by which agents reach it, which
// it writes at each start so that `culvert invite` knows it. Blocking; for commands and start-up.
#pragma once
#include <stdbool.h>
#include "core/err.h"
#include "trust/identity.h"
#include "wire/url.h"

#define RELAY_KEY_FILE "relay.key"
#define RELAY_URL_FILE "relay.url"

int relay_state_identity(const char *state, struct identity *id, struct err *e); // made when missing
int relay_state_set_url(const char *state, const char *url, struct err *e);
// What was written at the last start, else the installed certificate's first name. URL_TEXT_MAX bytes; false: neither.
bool relay_state_url(const char *state, char *out);
