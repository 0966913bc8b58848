// SPDX-License-Identifier: Apache-2.0
// What a person can do about a first hop that was not reached: the advice depends on whether that is a proxy or the relay
// itself, and the sockets below know neither. No state, nothing can fail.
#pragma once
#include <stdbool.h>
#include "core/err.h"

// Sets the advice of an error of resolving or connecting, unless it has one.
void dial_advise(struct err *e, bool to_proxy);
