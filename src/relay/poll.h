// SPDX-License-Identifier: Apache-2.0
// Long-poll at the relay: an owner of requests at the front. The first POST of an id that nobody knows begins a carrier; what
// follows is found by its id, which only its agent and those who carry its requests know. Everything inside is the inner TLS.
// Requests that are not rightly made, or of ids that nobody knows, are nobody's: strangers see no difference.
#pragma once
#include "relay/front.h"

#define POLL_ASKS_MAX 12        // requests of one carrier at once; more are told to come again (503)
#define POLL_BODY_MS 30000      // for a body to come, or to be taken, without any progress

extern const struct front_owner front_poll;
