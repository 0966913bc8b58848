// SPDX-License-Identifier: Apache-2.0
// The owners of requests, for the table in owners.c; each says in its file what it takes. They have no state but the callers'.
#pragma once
#include "relay/front.h"

extern const struct front_owner front_redirect; // redirect.c
extern const struct front_owner front_decoy;    // decoy.c
