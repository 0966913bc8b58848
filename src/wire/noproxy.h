// SPDX-License-Identifier: Apache-2.0
// Whether the environment's no_proxy list takes a destination out of proxying. Entries are separated by commas or
// spaces: host (and all below it, as curl does), .suffix, *.suffix, host:port, an address (IPv6 bare or bracketed, with
// a port only when bracketed), a CIDR block, or * for everything. Names are never resolved. No I/O, no allocation; odd
// entries match nothing.
#pragma once
#include <stdbool.h>
#include <stdint.h>

// `host` is a name, IPv4 or IPv6 without brackets.
bool noproxy_has(const char *list, const char *host, uint16_t port);
