// SPDX-License-Identifier: Apache-2.0
// Rules of the command line: the --allow, --allow-listen and --allow-offer flags (or --drop…) as one array. Failures
// are ERR_USAGE and name the flag.
#pragma once
#include "cmd/options.h"
#include "wire/rule.h"

struct rules {
    struct rule *list;
    size_t count;
};

// `verb`: "allow" or "drop". 0, or -1 with *e set; rules_fini in any case.
int rules_parse(const struct options *o, const char *verb, struct rules *out, struct err *e);
void rules_fini(struct rules *r);
