// SPDX-License-Identifier: Apache-2.0
// Further connections on the way that a dial has found: the same first hop by its address, the same proxies, the same outer TLS. For
// transports that need several connections (link/road.h). It keeps copies of what it needs; the worker, the resolver and the proxies'
// kit must outlive it. Owned by the link that it was made for.
#pragma once
#include "dial/dial.h"
#include "link/road.h"

struct road *dial_road(const struct dial *d);
