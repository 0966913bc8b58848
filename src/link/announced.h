// SPDX-License-Identifier: Apache-2.0
// A connection that a front announces: a PROXY protocol header, version 1 or 2, comes before all else and is required.
// Once open, the facts' peer is the caller that it names, and all bytes pass untouched. Stands right over tcp.
#pragma once
#include "link/link.h"

struct link *announced_over(struct link *below);
